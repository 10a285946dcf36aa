"""Who works at which unit: what replicas say while they work, kept for the driver.

Replicas send small messages to the Monitor and do not wait for it. The driver polls it about twice a second. It knows
for each unit in work which replica has it, at which stage, and since when: enough to see that a replica hangs. The
Monitor's own process may die: each message, and the driver with its last answer, tell the next one what it must know.
"""

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jobs.engine.suspects import Advice, Suspects

# The driver polls about once a second; what a longer pause adds is not a replica's silence.
_LONGEST_SILENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class UnitProgress:
    """How far a unit is. `stage`: load (the model, or the first rows ahead), forward (read, prepare, compute), write.

    `starts`: how many times a replica has begun it, more than once when a replica died; 0: it is prepared ahead.
    `handle`: Ray's handle of the actor whose process `replica` is.
    """

    replica: str
    stage: str
    starts: int = 1
    documents: int = 0
    tokens: int = 0
    idle_seconds: float = 0.0  # since its last message, as long as the driver asked
    handle: Any = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the monitor knows. `monitor_id` names its process, `messages` counts those that this process has heard.

    `starts`: of the units that were begun more than once, also when they are no longer in work, since a short unit
    that is done again may begin and end between two looks.
    """

    monitor_id: str
    messages: int
    units: Mapping[str, UnitProgress]
    starts: Mapping[str, int]


class Monitor:
    """Plain class; the driver makes an actor of it. Holds the units that are begun and not yet reported."""

    def __init__(self) -> None:
        self._units: dict[str, UnitProgress] = {}
        self._spoke_at: dict[str, float] = {}
        self._polled_at = time.monotonic()
        self._suspects = Suspects()
        self._messages = 0
        self._monitor_id = uuid.uuid4().hex

    def start_unit(self, replica: str, unit: str, handle: Any) -> Advice:
        """A replica, of which `handle` is Ray's handle, has the unit now; the answer says how to make it."""
        advice = self._suspects.start_unit(unit)
        self._take(unit, replica, handle, advice.starts)
        return advice

    def prepare_ahead(self, replica: str, unit: str, handle: Any) -> bool:
        """See `Suspects.prepare_ahead`; if it may, the unit is in work, and watched, until `park`."""
        may = self._suspects.prepare_ahead(unit)
        if may:
            self._take(unit, replica, handle, 0)
        return may

    def park(self, unit: str) -> None:
        """The unit is prepared; nothing is heard of it until its turn comes."""
        self._units.pop(unit, None)

    def mark_running(self, unit: str, start: int, stop: int) -> None:
        """See `Suspects.mark_running`."""
        self._suspects.mark_running(unit, start, stop)

    def update(self, replica: str, unit: str, stage: str, documents: int, tokens: int, handle: Any) -> None:
        """Documents and tokens that were just done. A unit that is not known was begun before this process."""
        known = self._units.get(unit)
        if known is None:
            if self._others_of(handle, replica):
                return  # a late word of a process that has died; the one after it has not begun the unit
            self._suspects.resume({unit: 1})
            known = UnitProgress(replica, stage, handle=handle)
        done = replace(known, stage=stage, documents=known.documents + documents, tokens=known.tokens + tokens)
        self._heard(unit, done)

    def snapshot(self, reported: Iterable[str]) -> Snapshot:
        """`reported`: units whose report the driver has; they are no longer in work."""
        for unit in reported:
            self._units.pop(unit, None)
        now = time.monotonic()
        unwatched = max(
            0.0, now - self._polled_at - _LONGEST_SILENCE_SECONDS
        )  # the driver, or this process, was held up
        self._polled_at = now
        for name, unit_progress in self._units.items():
            self._spoke_at[name] = min(now, self._spoke_at[name] + unwatched)
            self._units[name] = replace(unit_progress, idle_seconds=now - self._spoke_at[name])
        return Snapshot(self._monitor_id, self._messages, dict(self._units), self._suspects.starts())

    def resume(self, units: Mapping[str, UnitProgress], starts: Mapping[str, int]) -> Snapshot:
        """What the process before this one said last: a replica may say nothing more because it hangs."""
        self._suspects.resume(starts)
        heard = self._messages
        for name, known in units.items():
            if known.starts:
                self.update(known.replica, name, known.stage, known.documents, known.tokens, known.handle)
        self._messages = heard  # these were no sign of monitor_id
        return self.snapshot([])

    def _take(self, unit: str, replica: str, handle: Any, starts: int) -> None:
        for other in self._others_of(handle, replica):  # they went with that process, and wait to be begun
            self._units.pop(other)
        self._heard(unit, UnitProgress(replica, "load", starts, handle=handle))

    def _others_of(self, handle: Any, replica: str) -> list[str]:
        """Units of another process of the same actor."""
        return [name for name, known in self._units.items() if known.handle == handle and known.replica != replica]

    def _heard(self, unit: str, progress: UnitProgress) -> None:
        self._messages += 1
        self._units[unit] = progress
        self._spoke_at[unit] = time.monotonic()
