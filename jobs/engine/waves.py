"""Units through replicas with Ray Data, in waves: what failed in one is tried again in the next.

Ray Data sees a dataset of units and an actor pool; only reports come back. It restarts a replica whose process died
and gives it its unit again; see `Replica` for a unit that kills whoever takes it.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError

import bertsum.errors
from bertsum.errors import BertsumError, IncompleteError, InputError, ModelError
from bertsum.runs.commit import Failure
from bertsum.runs.units import Unit, split, unit_name
from jobs.engine.cluster import Shape, beside_the_driver
from jobs.engine.monitor import Monitor, Snapshot, UnitProgress
from jobs.engine.pipeline import stream_reports
from jobs.engine.remote_errors import explain
from jobs.engine.reports import UnitReport
from jobs.engine.unit_maker import Task
from jobs.terminal.progress import Display, Tally

_POLL_SECONDS = 0.5
_STALL_SECONDS = 1800.0  # hanging replicas are replaced before; half an hour of silence is no work at all
_LONGEST_LOOK_SECONDS = 2 * _POLL_SECONDS  # more between two looks is a driver that was held up, and not silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Who makes the units: what each replica must know, how many there are, how long they are waited for."""

    task: Task
    shape: Shape
    max_attempts: int  # of a unit
    timeout_seconds: float  # without progress, after which a replica is replaced


class Listener(Protocol):
    """Whoever wants to know of units while they are made."""

    def add(self, report: UnitReport) -> None:
        """The file of a unit is there."""

    def split(self, parts: Mapping[str, Mapping[str, Unit]]) -> None:
        """Units, by name, were replaced by smaller ones."""


@dataclass
class Outcome:
    """What the waves have done so far. `units` are those to do, by name; splitting changes them."""

    units: dict[str, Unit]
    reports: dict[str, UnitReport] = field(default_factory=dict)
    errors: dict[str, UnitReport] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def add(self, report: UnitReport) -> None:
        """Take in a unit that is done."""
        if report.record is not None and report.name not in self.reports:
            self.reports[report.name] = report
            self.tally = self.tally.plus(report.record.counts.rows, report.record.counts.tokens)

    @property
    def failures(self) -> list[Failure]:
        return [
            Failure([part.path for part in self.units[name].slices], report.error or "", self.attempts[name], name)
            for name, report in self.errors.items()
        ]


def run_waves(units: Mapping[str, Unit], replicas: Replicas, display: Display, listener: Listener) -> Outcome:
    """Every unit, until it is done or has failed as often as it may.

    Raises ModelError when a replica cannot load the model, IncompleteError when no replica makes progress.
    """
    outcome = Outcome(dict(units))
    waiting = list(units)
    while waiting:
        units = {name: outcome.units[name] for name in waiting}
        reports = _run_wave(units, replicas, display, listener=listener, outcome=outcome)
        failed = {name: reports.get(name) or _lost(name) for name in waiting if name not in outcome.reports}
        for name, report in failed.items():
            outcome.errors[name] = report
            outcome.attempts[name] = outcome.attempts.get(name, 0) + 1
            display.say(f"{name}, attempt {outcome.attempts[name]} of {replicas.max_attempts}: {report.error}")
        waiting = [name for name in failed if outcome.attempts[name] < replicas.max_attempts]
        if parts := _split_damaged(outcome, failed, replicas):
            listener.split(parts)
            waiting = [name for name in waiting if name not in parts]
            for smaller in parts.values():
                waiting += smaller
        for name in waiting:
            outcome.errors.pop(name, None)
    return outcome


def _split_damaged(
    outcome: Outcome, failed: Mapping[str, UnitReport], replicas: Replicas
) -> dict[str, dict[str, Unit]]:
    """Replace each unit of several files of which one cannot be read by a unit for each file.

    Returns the new units by the name of the old one; each may be tried at least once.
    """
    parts: dict[str, dict[str, Unit]] = {}
    for name, report in failed.items():
        if not _is_damaged(report) or len(outcome.units[name].slices) == 1:
            continue
        smaller = split(outcome.units.pop(name))
        parts[name] = {unit_name(part, replicas.task.job.fingerprint): part for part in smaller}
        outcome.units |= parts[name]
        del outcome.errors[name]
        attempts = min(outcome.attempts.pop(name), replicas.max_attempts - 1)
        outcome.attempts |= dict.fromkeys(parts[name], attempts)
    return parts


def _is_damaged(report: UnitReport) -> bool:
    return report.error_type == InputError.__name__


def _lost(name: str) -> UnitReport:
    return UnitReport(
        name, "", error="no replica reported this unit: a node or process was lost more often than Ray retries"
    )


def _run_wave(
    units: Mapping[str, Unit],
    replicas: Replicas,
    display: Display,
    *,
    listener: Listener,
    outcome: Outcome,
) -> dict[str, UnitReport]:
    """Reports by unit; those without error go into `outcome` as they come, so that progress counts them."""
    monitor = _start_monitor()
    events: queue.SimpleQueue[UnitReport | BaseException | None] = queue.SimpleQueue()
    stream = stream_reports(units, replicas.task, replicas.shape, monitor)
    thread = threading.Thread(target=_pump, args=(stream, events), daemon=True)
    thread.start()
    reports: dict[str, UnitReport] = {}
    watch = _Watch(monitor, display, replicas.timeout_seconds, reports)
    try:
        for event in _events(events, watch, outcome):
            if isinstance(event, RayError):
                raise IncompleteError(explain(event, "Ray gave up", "the same command resumes")) from event
            if isinstance(event, BaseException):
                raise event
            reports[event.name] = event
            if event.error_type == ModelError.__name__:
                raise _error(event)
            outcome.add(event)
            if event.record is not None:
                listener.add(event)
    finally:
        ray.kill(monitor)
    return reports


def _error(report: UnitReport) -> BertsumError:
    kind = getattr(bertsum.errors, report.error_type or "", BertsumError)
    return kind(report.error) if issubclass(kind, BertsumError) else BertsumError(report.error)


def _events(
    events: "queue.SimpleQueue[UnitReport | BaseException | None]", watch: "_Watch", outcome: Outcome
) -> Iterator[UnitReport | BaseException]:
    """Reports as they come; between them, and at least twice a second, progress is looked at."""
    while True:
        try:
            event = events.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            watch.look(outcome.tally)
            continue
        if event is None:
            return
        yield event
        watch.look(outcome.tally)


class _Watch:
    """Shows progress, replaces a replica that makes none, and gives up when there has been none at all for too long."""

    def __init__(
        self, monitor: Any, display: Display, replica_timeout_seconds: float, reports: Mapping[str, UnitReport]
    ) -> None:
        """`reports`: of the units that are no longer in work, with an error or without."""
        self._monitor, self._display, self._reports = monitor, display, reports
        self._timeout = replica_timeout_seconds
        self._stall = max(_STALL_SECONDS, 3 * replica_timeout_seconds)
        self._pending: Any = None
        self._silent_seconds, self._looked_at = 0.0, time.monotonic()
        self._monitor_id, self._messages = "", 0  # of the monitor's process
        self._units: Mapping[str, UnitProgress] = {}
        self._starts: dict[str, int] = {}
        self._ended: dict[str, float] = {}  # idle seconds of the replicas that were ended

    def look(self, tally: Tally) -> None:
        """`tally`: of the units that are done."""
        self._poll()
        in_work = self._in_work()
        for progress in in_work.values():
            tally = tally.plus(progress.documents, progress.tokens)
        self._display.show(tally, _activity(in_work.values()))
        now = time.monotonic()
        self._silent_seconds += min(now - self._looked_at, _LONGEST_LOOK_SECONDS)
        self._looked_at = now
        if self._silent_seconds > self._stall:
            raise IncompleteError(
                f"no replica has made progress for {self._silent_seconds:.0f} s; in work: "
                f"{', '.join(in_work) or 'nothing'}. What is done stays; the same command resumes"
            )

    def _in_work(self) -> dict[str, UnitProgress]:
        return {name: progress for name, progress in self._units.items() if name not in self._reports}

    def _say_deaths(self, restarted: Mapping[str, int]) -> None:
        for name, starts in restarted.items():
            if starts > self._starts.get(name, 1):
                self._display.say(f"a replica's process died; {name} is done again")
                self._starts[name] = starts

    def _replace_hanging(self) -> None:
        """End its process, even one that does not react; Ray starts another and gives it its units again."""
        in_work = sorted(self._in_work().items(), key=lambda item: item[1].idle_seconds)
        for replica, name in {progress.replica: name for name, progress in in_work}.items():  # the most silent unit
            seconds = self._units[name].idle_seconds
            if seconds - self._ended.get(replica, 0.0) > self._timeout:
                self._ended[replica] = seconds
                self._display.say(f"replica {replica} made no progress for {seconds:.0f} s on {name}; it is replaced")
                ray.kill(self._units[name].handle, no_restart=False)

    def _poll(self) -> None:
        """Ask, and take the answer when it is there: a busy machine must not hold up the reports."""
        if self._pending is None:
            done = [name for name in self._units if name in self._reports]
            self._pending = self._monitor.snapshot.remote(done)
        ready, _ = ray.wait([self._pending], timeout=0)
        if ready:
            pending, self._pending = self._pending, None
            try:
                self._take(ray.get(pending))
            except RayActorError:  # it went with its process, and Ray starts it again
                return

    def _take(self, seen: Snapshot) -> None:
        """An answer. One of a new process is not all: that must first be told what the one before it knew."""
        if seen.monitor_id == self._monitor_id and seen.messages != self._messages:
            self._silent_seconds = 0.0
        is_new = self._monitor_id not in ("", seen.monitor_id)
        self._monitor_id, self._messages = seen.monitor_id, seen.messages
        if is_new:
            units = self._in_work()
            starts = {name: progress.starts for name, progress in units.items()} | self._starts
            self._pending = self._monitor.resume.remote(units, starts)
            return
        self._units = seen.units
        self._say_deaths(seen.starts)
        self._replace_hanging()


def _activity(in_work: Iterable[UnitProgress]) -> str:
    stages = {progress.stage for progress in in_work}
    if not stages:
        return "starting replicas"
    return "loading the model" if stages == {"load"} else "reading the first documents"


def _start_monitor() -> Any:
    """A call that finds it dead waits until it is there again: no unit must fail because of that."""
    return ray.remote(Monitor).options(**beside_the_driver(), max_restarts=-1, max_task_retries=-1).remote()


def _pump(reports: Iterator[UnitReport], events: "queue.SimpleQueue[UnitReport | BaseException | None]") -> None:
    """In a thread of its own, so that the main thread can draw, watch and be interrupted while Ray Data works."""
    try:
        for report in reports:
            events.put(report)
        events.put(None)
    except BaseException as error:
        events.put(error)
