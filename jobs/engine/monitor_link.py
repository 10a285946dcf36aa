"""A replica's connection to the Monitor."""

import os
import socket
import time
from dataclasses import dataclass, field

import pyarrow as pa
import ray

from bertsum.runs.units import Unit
from jobs.engine.monitor import ActorHandle, key_of
from jobs.engine.suspects import Advice
from jobs.observability.metrics import ReplicaMetrics

_ANSWER_SECONDS = 60.0  # time enough for Ray to start the Monitor again
# A message costs its sender a quarter of a millisecond, and the Monitor as much.
_SEND_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class UnitInWork:
    """One unit from its call to its report.

    - `rows`: of the second of two pools, what the first has made, in Arrow's stream format.
    - `results`: of the first pool, what goes to the second, in the same format.
    - `seconds`: by stage.
    - `documents`, `tokens`: that are computed.
    - `begun`, `begun_at`: when the model was loaded, by time.perf_counter and as Unix time.
    - `stage`, `sent_at`: of the last message, the latter by time.monotonic.
    - `unsent_documents`, `unsent_tokens`: that were computed after the last message.
    """

    name: str
    unit: Unit
    rows: pa.Buffer | None = None
    results: bytes | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    documents: int = 0
    tokens: int = 0
    begun: float = 0.0
    begun_at: float = 0.0
    stage: str = ""
    sent_at: float = 0.0
    unsent_documents: int = 0
    unsent_tokens: int = 0


class MonitorLink:
    """Sends the Monitor what this replica does. Questions wait for an answer, progress does not.

    - `pool`: of the replica, see `jobs.engine.monitor.key_of`.
    - `counts`: whether its documents are done when it has computed them; those of the first of two
      pools are not.
    """

    def __init__(
        self, monitor: ActorHandle, metrics: ReplicaMetrics, pool: str = "", counts: bool = True
    ) -> None:
        self._monitor, self._metrics = monitor, metrics
        self._pool, self._counts = pool, counts
        # a process, and not an actor, which may have several processes one after the other
        self.replica = f"{socket.gethostname()}:{os.getpid()}"

    def start_unit(self, unit: str) -> Advice:
        """Say that the unit is computed next; the answer says how."""
        call = self._monitor.start_unit.remote(self.replica, self._key(unit), _this_actor())
        advice: Advice = ray.get(call, timeout=_ANSWER_SECONDS)
        return advice

    def prepare_ahead(self, unit: str) -> bool:
        """Ask whether the unit may be prepared while another one is computed."""
        call = self._monitor.prepare_ahead.remote(self.replica, self._key(unit), _this_actor())
        return bool(ray.get(call, timeout=_ANSWER_SECONDS))

    def park(self, unit: str) -> None:
        """Say that the unit waits: prepared for the device, or handed on for the next pool."""
        # not waited for: Ray keeps the order of a process's calls, and `start_unit` comes later
        self._monitor.park.remote(self._key(unit))

    def mark_running(self, unit: str, start: int, stop: int) -> None:
        """Say that rows [start, stop) of the unit are computed next; wait until that is known."""
        # waited for: a process that dies in the next moment takes an unsent message with it
        call = self._monitor.mark_running.remote(self._key(unit), start, stop)
        ray.get(call, timeout=_ANSWER_SECONDS)

    def send(self, work: UnitInWork, stage: str, documents: int = 0, tokens: int = 0) -> None:
        """Count documents and tokens that were just computed, and send them if it is time.

        A new stage is sent at once, all else twice a second: a device may end hundreds of batches a
        second.
        """
        # `documents` and `tokens` are for the report, the unsent ones for the next message
        work.documents += documents
        work.tokens += tokens
        if self._counts:
            work.unsent_documents += documents
            work.unsent_tokens += tokens
        now = time.monotonic()
        if stage == work.stage and now - work.sent_at < _SEND_SECONDS:
            return
        self._monitor.update.remote(
            self.replica,
            self._key(work.name),
            stage,
            documents=work.unsent_documents,
            tokens=work.unsent_tokens,
            handle=_this_actor(),
        )
        self._metrics.count_documents(work.unsent_documents, work.unsent_tokens)
        work.stage, work.sent_at = stage, now
        work.unsent_documents = work.unsent_tokens = 0

    def _key(self, unit: str) -> str:
        return key_of(unit, self._pool)


def _this_actor() -> ActorHandle:
    return ray.get_runtime_context().current_actor
