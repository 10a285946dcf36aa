"""A replica's way to the Monitor."""

import os
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import ray

from bertsum.runs.units import Unit
from jobs.engine.suspects import Advice

_ANSWER_SECONDS = 60.0
_SEND_SECONDS = 0.5  # a message costs its sender a quarter of a millisecond, and the Monitor as much


@dataclass(slots=True)
class UnitInWork:
    """One unit from its call to its report. `documents` are done, `tokens` read; `seconds` by stage."""

    name: str
    unit: Unit
    seconds: dict[str, float] = field(default_factory=dict)
    documents: int = 0
    tokens: int = 0
    begun: float = 0.0  # by time.perf_counter, when the model was loaded
    begun_at: float = 0.0  # the same as Unix time
    stage: str = ""  # the one that was last sent
    sent_at: float = 0.0  # by time.monotonic
    unsent_documents: int = 0
    unsent_tokens: int = 0


class MonitorLink:
    """Says to the Monitor what this replica does. Questions wait for the answer, progress does not."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor
        self.replica = f"{socket.gethostname()}:{os.getpid()}"

    def start_unit(self, unit: str) -> Advice:
        """The unit is computed next; the answer says how."""
        advice: Advice = self._ask("start_unit", self.replica, unit, self._actor())
        return advice

    def prepare_ahead(self, unit: str) -> bool:
        """Whether the unit may be prepared while another one is computed."""
        return bool(self._ask("prepare_ahead", self.replica, unit, self._actor()))

    def park(self, unit: str) -> None:
        """The unit is prepared, and waits for the device."""
        self._monitor.park.remote(unit)

    def mark_running(self, unit: str, start: int, stop: int) -> None:
        """Rows [start, stop) of the unit are computed next; returns when the Monitor knows."""
        self._ask("mark_running", unit, start, stop)

    def send(self, work: UnitInWork, stage: str, documents: int = 0, tokens: int = 0) -> None:
        """Count documents and tokens that were just done.

        The Monitor hears of a new stage at once, and else from time to time: a device may end hundreds of batches a
        second.
        """
        work.documents += documents
        work.tokens += tokens
        work.unsent_documents += documents
        work.unsent_tokens += tokens
        now = time.monotonic()
        if stage == work.stage and now - work.sent_at < _SEND_SECONDS:
            return
        unsent = work.unsent_documents, work.unsent_tokens
        self._monitor.update.remote(self.replica, work.name, stage, *unsent, self._actor())
        work.stage, work.sent_at = stage, now
        work.unsent_documents = work.unsent_tokens = 0

    def _ask(self, method: str, *values: Any) -> Any:
        return ray.get(getattr(self._monitor, method).remote(*values), timeout=_ANSWER_SECONDS)

    def _actor(self) -> Any:
        return ray.get_runtime_context().current_actor
