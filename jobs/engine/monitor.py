"""Which replica has which unit in work: what replicas report while they work, kept for the driver.

Replicas send small messages to the Monitor and do not wait for it. The driver polls it about twice
a second. The Monitor knows for each unit in work which replica has it, at which stage, and since
when: enough to see that a replica hangs. The Monitor's own process may die: the replicas' next
messages, and the driver with the last answer that it got, give the new process what it must know.

Where units go through two pools, each pool's part of a unit is watched on its own: see `key_of`.
"""

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from jobs.engine.suspects import Advice, Suspects

# Any: Ray's own class of this name gives each method the type `Never`.
ActorHandle: TypeAlias = Any

# The driver polls about once a second; what a longer pause adds is not a replica's silence.
_LONGEST_SILENCE_SECONDS = 5.0


def key_of(unit: str, pool: str) -> str:
    """The Monitor's name for a unit: that of its file, and of two pools the one that has it."""
    return f"{unit} ({pool})" if pool else unit


def unit_of(key: str) -> str:
    """The unit that `key_of` was given."""
    # the name of a unit is that of its file, and ends in .parquet
    return key.rpartition(" (")[0] if key.endswith(")") else key


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitProgress:
    """How far a unit is.

    - `replica`: the process that has it, `host:pid`.
    - `stage`: load (the model, or the first rows ahead), forward (read, prepare, compute), write.
    - `starts`: how many times a replica has begun it; 0: it is prepared ahead, and more than 1: a
      replica died.
    - `documents`, `tokens`: that are computed.
    - `idle_seconds`: since its last message, without pauses in which the driver did not poll.
    - `handle`: Ray's handle of the actor whose process `replica` is.
    """

    replica: str
    stage: str
    starts: int = 1
    documents: int = 0
    tokens: int = 0
    idle_seconds: float = 0.0
    handle: ActorHandle = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the Monitor knows.

    - `monitor_id`: of the Monitor's process.
    - `messages`: how many messages of replicas this process has received.
    - `units`: that are in work, by name.
    - `starts`: of the units that were begun more than once. Also of those no longer in work: a
      short unit that is done again may begin and end between two polls.
    """

    monitor_id: str
    messages: int
    units: Mapping[str, UnitProgress]
    starts: Mapping[str, int]


class Monitor:
    """Holds the units that are begun and not yet reported. The driver makes an actor of it."""

    def __init__(self) -> None:
        self._units: dict[str, UnitProgress] = {}
        self._received_at: dict[str, float] = {}  # the last message of each unit
        self._polled_at = time.monotonic()
        self._suspects = Suspects()
        self._messages = 0
        self._monitor_id = uuid.uuid4().hex

    def start_unit(self, replica: str, unit: str, handle: ActorHandle) -> Advice:
        """Note that a replica computes the unit now; the answer says how to make it."""
        advice = self._suspects.start_unit(unit)
        self._assign(replica, unit, handle, advice.starts)
        return advice

    def prepare_ahead(self, replica: str, unit: str, handle: ActorHandle) -> bool:
        """Whether the unit may be prepared ahead; see `Suspects.prepare_ahead`.

        If it may, it is in work, and watched for silence, until `park`.
        """
        is_allowed = self._suspects.prepare_ahead(unit)
        if is_allowed:
            self._assign(replica, unit, handle, starts=0)
        return is_allowed

    def park(self, unit: str) -> None:
        """Note that the unit waits silently, until it is computed or the next pool begins it."""
        self._units.pop(unit, None)

    def mark_running(self, unit: str, start: int, stop: int) -> None:
        """See `Suspects.mark_running`."""
        self._suspects.mark_running(unit, start, stop)

    def update(
        self,
        replica: str,
        unit: str,
        stage: str,
        *,
        documents: int,
        tokens: int,
        handle: ActorHandle,
    ) -> None:
        """Add documents and tokens that were just done.

        A unit that is not known was begun before this process of the Monitor.
        """
        progress = self._units.get(unit)
        if progress is None:
            if self._units_of_older_processes(handle, replica):
                return  # sent by a process that has died; the next one has not begun the unit yet
            self._suspects.resume({unit: 1})
            progress = UnitProgress(replica=replica, stage=stage, handle=handle)
        progress = replace(
            progress,
            stage=stage,
            documents=progress.documents + documents,
            tokens=progress.tokens + tokens,
        )
        self._record(unit, progress)

    def snapshot(self, reported: Iterable[str]) -> Snapshot:
        """Return what is known. `reported`: units that the driver has the report of."""
        for unit in reported:
            self._units.pop(unit, None)
        now = time.monotonic()
        # Between two polls the driver, or this process, may have been stopped. Messages wait then,
        # so the rest of the pause is added to the time of each unit's last message.
        unwatched = max(0.0, now - self._polled_at - _LONGEST_SILENCE_SECONDS)
        self._polled_at = now
        for unit, progress in self._units.items():
            self._received_at[unit] = min(now, self._received_at[unit] + unwatched)
            self._units[unit] = replace(progress, idle_seconds=now - self._received_at[unit])
        return Snapshot(
            monitor_id=self._monitor_id,
            messages=self._messages,
            units=dict(self._units),
            starts=self._suspects.starts(),
        )

    def resume(self, units: Mapping[str, UnitProgress], starts: Mapping[str, int]) -> Snapshot:
        """Take over what the process before this one knew, and return the snapshot.

        Without it a replica that hangs would stay unknown: it sends nothing more.
        """
        self._suspects.resume(starts)
        messages = self._messages
        for unit, progress in units.items():
            if progress.starts:  # a unit that was prepared ahead may be parked by now
                self.update(
                    progress.replica,
                    unit,
                    progress.stage,
                    documents=progress.documents,
                    tokens=progress.tokens,
                    handle=progress.handle,
                )
        self._messages = messages  # these came from the driver, and are no sign of life
        return self.snapshot([])

    def _assign(self, replica: str, unit: str, handle: ActorHandle, starts: int) -> None:
        # units of an older process of the actor ended with it, and wait to be begun again
        for other in self._units_of_older_processes(handle, replica):
            self._units.pop(other)
        self._record(
            unit, UnitProgress(replica=replica, stage="load", starts=starts, handle=handle)
        )

    def _units_of_older_processes(self, handle: ActorHandle, replica: str) -> list[str]:
        """Return the units that another process of the same actor has in work."""
        names = []
        for unit, progress in self._units.items():
            if progress.handle == handle and progress.replica != replica:
                names.append(unit)
        return names

    def _record(self, unit: str, progress: UnitProgress) -> None:
        self._messages += 1
        self._units[unit] = progress
        self._received_at[unit] = time.monotonic()
