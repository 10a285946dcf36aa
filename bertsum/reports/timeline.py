"""When the files of a result were written: throughput over time, and the slowest units.

A job records no times in its files, so that equal rows give equal bytes. What is known is when the
filesystem saw each file written last. So a stretch of work is a series of files without a long
pause. How long a unit took itself is not known where several replicas work at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np

from bertsum.reports.result import Result, ResultFile
from bertsum.storage.folder import mask

_MOST_STRETCHES = 12  # the latest ones
_MOST_UNITS = 20
_BINS = 40  # of the longest stretch
_LEAST_PAUSE_SECONDS = 600.0
_PAUSE_FACTOR = 20.0  # of the median time between two files


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time of work. Unix times; rows and tokens of the files whose making lies in it as a whole.

    `rates`: rows a second in parts of equal length.
    """

    begin: float
    end: float
    rows: int
    tokens: int
    rates: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowUnit:
    """A file of results, and the seconds since the one before it was written."""

    name: str
    rows: int
    tokens: int
    written: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """`without_time`: files of which no time is known; `num_stretches`: also those not shown."""

    stretches: Sequence[Stretch]
    num_stretches: int
    slowest: Sequence[SlowUnit]
    without_time: int


def make_timeline(result: Result) -> Timeline:
    """The stretches of work, and the units that came longest after the one before."""
    timed: list[tuple[float, ResultFile]] = []
    for entry in result.files:
        if entry.written is not None:
            timed.append((entry.written, entry))
    timed.sort(key=lambda pair: (pair[0], pair[1].name))
    gaps = np.diff([time for time, _ in timed]).tolist()
    # the shortest time between two files that counts as a pause, in seconds
    pause = _LEAST_PAUSE_SECONDS
    if gaps:
        pause = max(pause, _PAUSE_FACTOR * median(gaps))
    groups: list[list[tuple[float, ResultFile]]] = []
    for time, entry in timed:
        if not groups or time - groups[-1][-1][0] > pause:
            groups.append([])
        groups[-1].append((time, entry))
    stretches: list[Stretch] = []
    units: list[SlowUnit] = []
    longest = max((group[-1][0] - group[0][0] for group in groups), default=0.0)
    for index, group in enumerate(groups):
        # the work on the first file of a stretch began at an unknown time, but for the first one
        begin = group[0][0]
        if index == 0 and result.begun is not None and 0 < begin - result.begun < pause:
            group = [(result.begun, group[0][1]), *group]
            begin = result.begun
        stretches.append(_stretch(group, begin, longest))
        for (before, _), (written, entry) in pairwise(group):
            units.append(
                SlowUnit(
                    name=mask(entry.name),
                    rows=entry.counts.rows,
                    tokens=entry.counts.tokens,
                    written=written,
                    seconds=written - before,
                )
            )
    units.sort(key=lambda unit: (-unit.seconds, unit.name))
    return Timeline(
        stretches=stretches[-_MOST_STRETCHES:],
        num_stretches=len(stretches),
        slowest=units[:_MOST_UNITS],
        without_time=len(result.files) - len(timed),
    )


def _stretch(group: Sequence[tuple[float, ResultFile]], begin: float, longest: float) -> Stretch:
    """`group`: the first entry stands for the beginning alone."""
    end = group[-1][0]
    rows = [entry.counts.rows for _, entry in group[1:]]
    # as many parts as it has of the longest one, and not more than files
    share = (end - begin) / longest if longest else 1.0
    bins = max(min(round(_BINS * share), len(rows)), 1)
    rates: list[float] = []
    if end > begin:
        times = [time for time, _ in group[1:]]
        sums, _ = np.histogram(times, bins=bins, range=(begin, end), weights=rows)
        rates = (sums / ((end - begin) / bins)).tolist()
    return Stretch(
        begin=begin,
        end=end,
        rows=sum(rows),
        tokens=sum(entry.counts.tokens for _, entry in group[1:]),
        rates=[round(rate, 3) for rate in rates],
    )
