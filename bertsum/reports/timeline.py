"""When the units of a result were made: throughput over time, and the slowest units.

Files of results hold no times, so that equal rows give equal bytes. The job records them beside the
results (`bertsum.runs.times`). Of a file without a record, such as one of an earlier version or one
of a table that was put together, only that time is known at which the filesystem saw it written
last: its work is taken to have begun when the file before it was there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    """A file of results, and the seconds that it took.

    `replica`: which made it; None where no time was recorded, and the seconds are those since the
    file before it.
    """

    name: str
    rows: int
    tokens: int
    written: float
    seconds: float
    replica: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What is known of the times of a result.

    - `num_stretches`: also those not shown.
    - `recorded`: files whose time the job recorded.
    - `without_time`: files of which no time is known.
    """

    stretches: Sequence[Stretch]
    num_stretches: int
    slowest: Sequence[SlowUnit]
    recorded: int
    without_time: int


@dataclass(frozen=True, slots=True)
class _Span:
    """The making of a file; `start` is `end` where its beginning is not known."""

    start: float
    end: float
    entry: ResultFile


def make_timeline(result: Result) -> Timeline:
    """The stretches of work, and the units that took longest."""
    spans: list[_Span] = []
    for entry in result.files:
        if entry.made is not None:
            begun = entry.made.begun
            spans.append(_Span(begun, begun + entry.made.seconds, entry))
        elif entry.written is not None:
            spans.append(_Span(entry.written, entry.written, entry))
    spans.sort(key=lambda span: (span.start, span.entry.name))
    groups = list(_groups(spans))
    longest = 0.0
    for group in groups:
        longest = max(longest, max(span.end for span in group) - group[0].start)
    stretches: list[Stretch] = []
    units: list[SlowUnit] = []
    for index, group in enumerate(groups):
        before = None if index else _beginning(result, group[0])
        known = _with_beginnings(group, before)
        stretches.append(_stretch(group[0].start if before is None else before, known, longest))
        units += map(_unit, known)
    units.sort(key=lambda unit: (-unit.seconds, unit.name))
    return Timeline(
        stretches=stretches[-_MOST_STRETCHES:],
        num_stretches=len(stretches),
        slowest=units[:_MOST_UNITS],
        recorded=sum(span.entry.made is not None for span in spans),
        without_time=len(result.files) - len(spans),
    )


def _beginning(result: Result, first: _Span) -> float | None:
    """When the plan was written, if the work on the first file may have begun then."""
    if first.entry.made is not None or result.begun is None:
        return None
    return result.begun if 0 < first.start - result.begun < _LEAST_PAUSE_SECONDS else None


def _groups(spans: Sequence[_Span]) -> Iterator[list[_Span]]:
    """The spans, which ascend, cut at long pauses."""
    ends = np.maximum.accumulate([span.end for span in spans]) if spans else np.empty(0)
    gaps = [span.start - end for span, end in zip(spans[1:], ends.tolist(), strict=False)]
    # the shortest time between two files that counts as a pause, in seconds
    pause = max(_LEAST_PAUSE_SECONDS, _PAUSE_FACTOR * median(gaps)) if gaps else 0.0
    first = 0
    for index, gap in enumerate(gaps, 1):
        if gap > pause:
            yield list(spans[first:index])
            first = index
    if spans:
        yield list(spans[first:])


def _with_beginnings(group: Sequence[_Span], before: float | None) -> list[_Span]:
    """The spans whose beginning is recorded, or was when the file before was there.

    `before`: when the work on the first file began, where that is known.
    """
    known: list[_Span] = []
    end = before
    for span in group:
        if span.entry.made is not None:
            known.append(span)
        elif end is not None:
            known.append(_Span(end, span.end, span.entry))
        end = span.end if end is None else max(end, span.end)
    return known


def _stretch(begin: float, spans: Sequence[_Span], longest: float) -> Stretch:
    end = max((span.end for span in spans), default=begin)
    rows = np.array([span.entry.counts.rows for span in spans], np.float64)
    # as many parts as it has of the longest one, and not more than files
    share = (end - begin) / longest if longest else 1.0
    bins = max(min(round(_BINS * share), len(spans)), 1)
    rates: list[float] = []
    if end > begin:
        edges = np.linspace(begin, end, bins + 1)
        starts = np.array([span.start for span in spans])
        ends = np.array([span.end for span in spans])
        # a file of 100 rows that took 10 s is half done after 5 s: 50 rows
        lengths = np.maximum(ends - starts, 1e-9)
        done = [float((rows * np.clip((edge - starts) / lengths, 0, 1)).sum()) for edge in edges]
        rates = (np.diff(done) / ((end - begin) / bins)).tolist()
    return Stretch(
        begin=begin,
        end=end,
        rows=int(rows.sum()),
        tokens=sum(span.entry.counts.tokens for span in spans),
        rates=[round(rate, 3) for rate in rates],
    )


def _unit(span: _Span) -> SlowUnit:
    entry = span.entry
    return SlowUnit(
        name=mask(entry.name),
        rows=entry.counts.rows,
        tokens=entry.counts.tokens,
        written=span.end,
        seconds=span.end - span.start,
        replica=None if entry.made is None else entry.made.replica,
    )
