"""When units were made, and by whom: a record beside the results, whose own bytes hold no time.

    _bertsum/times.json                  of a run over everything
    _bertsum/times/<partition>.json      of a run that is narrowed to partitions

It is written now and then, and before a group is committed. A driver that is killed loses the times
of the last units; nothing depends on them.
"""

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from bertsum.errors import OutputError
from bertsum.storage.folder import Folder

_LEAST_SECONDS = 30.0  # between two writes
_MOST_SHARE = 0.02  # of a run's time that goes into writing
_THREADS = 16  # a record is a small read, so it is latency that threads hide


@dataclass(frozen=True, slots=True)
class UnitTime:
    """How a unit was made.

    - `begun`: Unix time when the device began with it.
    - `seconds`: from then until its file was written.
    - `replica`: which made it.
    - `first`: of a run with two stages, how the first was done; the others are then of the second.
    """

    begun: float
    seconds: float
    replica: str
    first: "UnitTime | None" = None

    def to_json(self) -> list[float | str]:
        """Three values, or six: those of the first stage come last."""
        own: list[float | str] = [self.begun, self.seconds, self.replica]
        return own if self.first is None else own + self.first.to_json()

    @classmethod
    def from_json(cls, values: Sequence[float | str]) -> Self:
        begun, seconds, replica, *first = values
        earlier = cls.from_json(first) if first else None
        return cls(float(begun), float(seconds), str(replica), earlier)


class TimesWriter:
    """Collects times of units and writes them into the record of their group.

    What the record has of an earlier attempt, or of another run at work, stays.
    """

    def __init__(self, output: Folder) -> None:
        self._output = output
        self._new: dict[str, dict[str, UnitTime]] = {}  # not written yet, by group and name
        self._next_write = time.monotonic() + _LEAST_SECONDS

    def add(self, group: str, name: str, made: UnitTime) -> None:
        """Take in the time of a unit, and write all when it is time to do so."""
        self._new.setdefault(group, {})[name] = made
        if (start := time.monotonic()) >= self._next_write:
            with suppress(OutputError):  # a store that is down for a while; the next try has all
                for waiting in list(self._new):
                    self._write(waiting)
            seconds = time.monotonic() - start
            self._next_write = start + max(_LEAST_SECONDS, seconds / _MOST_SHARE)

    def flush(self, group: str, names: Collection[str]) -> None:
        """Write what is new of a group, without files that are not among `names`."""
        if group in self._new:
            self._write(group, names)

    def _write(self, group: str, names: Collection[str] | None = None) -> None:
        times = read_times(self._output, [group]) | self._new[group]
        units: dict[str, list[float | str]] = {}
        for name, made in times.items():
            if names is None or name in names:
                units[name] = made.to_json()
        self._output.write_replace(_record_name(group), json.dumps({"units": units}).encode())
        del self._new[group]


def read_times(output: Folder, groups: Iterable[str]) -> dict[str, UnitTime]:
    """The times of these groups, by name of the file. A damaged record counts as none."""

    def read(group: str) -> Mapping[str, UnitTime]:
        name = _record_name(group)
        if output.info(name) is None:
            return {}
        try:
            units = json.loads(output.read_bytes(name))["units"]
            return {unit: UnitTime.from_json(values) for unit, values in units.items()}
        except (OutputError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    times: dict[str, UnitTime] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for units in pool.map(read, groups):
            times |= units
    return times


def _record_name(group: str) -> str:
    return f"_bertsum/times/{group}.json" if group else "_bertsum/times.json"
