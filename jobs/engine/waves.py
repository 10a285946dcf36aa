"""Units through replicas with Ray Data, in waves: what failed in one is tried again in the next.

Ray Data sees a dataset of units and an actor pool; only reports come back. It restarts a replica
whose process died and gives it its unit again; see `jobs.engine.suspects` for a unit that kills
each process that takes it.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import ray
from ray.exceptions import RayActorError, RayError

from bertsum.errors import IncompleteError, InputError, ModelError
from bertsum.runs.commit import Failure
from bertsum.runs.units import Unit, split, unit_name
from jobs.engine.cluster import Shape, beside_the_driver
from jobs.engine.monitor import ActorHandle, Monitor, Snapshot, UnitProgress, unit_of
from jobs.engine.pipeline import Pool, stream_reports
from jobs.engine.remote_errors import explain
from jobs.engine.reports import UnitReport
from jobs.engine.unit_maker import ReplicaSpec
from jobs.observability.metrics import RunMetrics
from jobs.terminal.progress import Display, Tally

_POLL_SECONDS = 0.5
# Replicas that hang are replaced long before; half an hour of silence means no work at all.
_STALL_SECONDS = 1800.0
# More between two polls is a driver that was held up, and not silence.
_LONGEST_PAUSE_SECONDS = 2 * _POLL_SECONDS

# Ray Data waits up to 7 s for its own threads. One that is still there ends with the process.
_END_SECONDS = 10.0

_NOT_REPORTED = (
    "no replica reported this unit: a node or process was lost more often than Ray retries"
)

_Events: TypeAlias = "queue.SimpleQueue[UnitReport | BaseException | None]"  # None: the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Who makes the units.

    - `spec`: what each replica must know.
    - `shape`: how many there are, and what each takes of a node.
    - `first`: the pool through which units go before these replicas, if there are two.
    - `max_attempts`: of a unit.
    - `timeout_seconds`: without progress, after which a replica is replaced.
    """

    spec: ReplicaSpec
    shape: Shape
    max_attempts: int
    timeout_seconds: float
    first: Pool | None = None

    @property
    def pools(self) -> list[Pool]:
        """Through which each unit goes, one after the other."""
        last = Pool(self.spec, self.shape)
        return [last] if self.first is None else [self.first, last]


class Listener(Protocol):
    """Gets to know of units while they are made."""

    def add(self, report: UnitReport) -> None:
        """The file of a unit is there."""

    def split(self, parts: Mapping[str, Mapping[str, Unit]]) -> None:
        """Units were replaced: the smaller ones by name, by the name of the unit they replace."""


@dataclass
class Outcome:
    """What the waves have done so far, each by name of unit.

    - `units`: all that are to do; splitting changes them.
    - `reports`: of units that are done.
    - `errors`: the last report of each unit that failed.
    - `attempts`: that failed.
    - `tally`: documents and tokens of units that are done.
    """

    units: dict[str, Unit]
    reports: dict[str, UnitReport] = field(default_factory=dict)
    errors: dict[str, UnitReport] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def add(self, report: UnitReport) -> None:
        """Add a unit that is done; a report without record, or a second one, is ignored."""
        if report.record is not None and report.name not in self.reports:
            self.reports[report.name] = report
            counts = report.record.counts
            self.tally = self.tally.plus(counts.rows, counts.tokens)

    def add_error(self, report: UnitReport) -> int:
        """Add a failed attempt at a unit, and return how many there are."""
        self.errors[report.name] = report
        self.attempts[report.name] = self.attempts.get(report.name, 0) + 1
        return self.attempts[report.name]

    @property
    def failures(self) -> list[Failure]:
        failures = []
        for name, report in self.errors.items():
            files = [part.path for part in self.units[name].slices]
            reason, attempts = report.error or "", self.attempts[name]
            failures.append(Failure(files, reason, attempts=attempts, unit=name))
        return failures


def run_waves(
    units: Mapping[str, Unit], replicas: Replicas, display: Display, listener: Listener
) -> Outcome:
    """Make every unit, until it is done or has failed as often as it may.

    Raises ModelError when a replica cannot load the model, IncompleteError when no replica makes
    progress.
    """
    outcome = Outcome(dict(units))
    waiting = list(units)
    while waiting:
        wave = {name: outcome.units[name] for name in waiting}
        reports = _run_wave(wave, replicas, display, listener=listener, outcome=outcome)
        # a unit of the wave is done, or failed with a report, or lost without one
        failed = []
        for name in waiting:
            if name in outcome.reports:
                continue
            lost = UnitReport(name=name, replica="", error=_NOT_REPORTED)
            report = reports.get(name, lost)
            attempts = outcome.add_error(report)
            failed.append(report)
            limit = replicas.max_attempts
            display.say(f"{name}, attempt {attempts} of {limit}: {report.error}")
        parts = _split_damaged(outcome, failed, replicas)
        if parts:
            listener.split(parts)
        waiting = []
        for report in failed:
            can_try = outcome.attempts.get(report.name, 0) < replicas.max_attempts
            if report.name not in parts and can_try:
                waiting.append(report.name)
        for smaller in parts.values():
            waiting += smaller
        for name in waiting:  # those that are left at the end have failed for good
            outcome.errors.pop(name, None)
    return outcome


def _split_damaged(
    outcome: Outcome, failed: Iterable[UnitReport], replicas: Replicas
) -> dict[str, dict[str, Unit]]:
    """Replace each unit of several files, one of which cannot be read, by a unit for each file.

    Returns the new units by the name of the old one; each may be tried at least once.
    """
    parts: dict[str, dict[str, Unit]] = {}
    for report in failed:
        name = report.name
        is_damaged = report.error_type == InputError.__name__
        if not is_damaged or len(outcome.units[name].slices) == 1:
            continue
        smaller = split(outcome.units.pop(name))
        fingerprint = replicas.spec.job.fingerprint
        parts[name] = {unit_name(part, fingerprint): part for part in smaller}
        outcome.units |= parts[name]
        del outcome.errors[name]
        # the parts take over its attempts, but each has at least one more
        attempts = min(outcome.attempts.pop(name), replicas.max_attempts - 1)
        outcome.attempts |= dict.fromkeys(parts[name], attempts)
    return parts


def _run_wave(
    units: Mapping[str, Unit],
    replicas: Replicas,
    display: Display,
    *,
    listener: Listener,
    outcome: Outcome,
) -> dict[str, UnitReport]:
    """Return reports by unit.

    Those without error go into `outcome` as they come, so that progress counts them.
    """
    monitor = start_monitor()
    events: _Events = queue.SimpleQueue()
    metrics = RunMetrics(replicas.spec.output_uri)
    is_over = threading.Event()

    def put_reports() -> None:
        try:
            for report in stream_reports(units, replicas.pools, monitor, is_over):
                events.put(report)
            events.put(None)
        # every kind: an error that stayed in the thread would leave the main thread waiting
        except BaseException as error:
            events.put(error)

    # Ray Data works in this thread, so that the main thread can draw, poll and be interrupted.
    feeder = threading.Thread(target=put_reports, daemon=True)
    feeder.start()
    reports: dict[str, UnitReport] = {}
    watch = Watch(monitor, display, replicas.timeout_seconds, reports)
    try:
        for report in _reports(events, watch, outcome):
            reports[report.name] = report
            if report.error_type == ModelError.__name__:  # no replica can work, at any attempt
                raise ModelError(report.error)
            outcome.add(report)
            metrics.set_units_left(len(outcome.units) - len(outcome.reports))
            if report.record is not None:
                listener.add(report)
    finally:
        # after an error or a signal Ray Data still works, and Ray must not end under it
        is_over.set()
        feeder.join(_END_SECONDS)
        ray.kill(monitor)
    return reports


def _reports(events: _Events, watch: "Watch", outcome: Outcome) -> Iterator[UnitReport]:
    """Yield reports as they come; poll the Monitor after each, and at least twice a second.

    Raises the error of the thread that puts them; IncompleteError in place of one of Ray's.
    """
    while True:
        try:
            event = events.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            watch.poll(outcome.tally)
            continue
        if event is None:
            return
        # raised here, in the main thread, so that the command ends with it
        if isinstance(event, RayError):
            message = explain(event, "Ray gave up", "the same command resumes")
            raise IncompleteError(message) from event
        if isinstance(event, BaseException):
            raise event
        yield event
        watch.poll(outcome.tally)


class Watch:
    """Shows progress, and replaces a replica that makes none.

    Gives up when there has been no progress at all for too long.
    """

    def __init__(
        self,
        monitor: ActorHandle,
        display: Display,
        replica_timeout_seconds: float,
        reports: Mapping[str, UnitReport],
    ) -> None:
        """`reports`: of the units that are no longer in work, with an error or without."""
        self._monitor, self._display, self._reports = monitor, display, reports
        self._timeout = replica_timeout_seconds
        self._stall = max(_STALL_SECONDS, 3 * replica_timeout_seconds)
        self._pending: ray.ObjectRef[Snapshot] | None = None  # the answer that is waited for
        self._silent_seconds, self._polled_at = 0.0, time.monotonic()
        self._monitor_id, self._messages = "", 0  # of the Monitor's process
        self._units: Mapping[str, UnitProgress] = {}
        self._starts: dict[str, int] = {}
        self._ended: dict[str, float] = {}  # idle seconds of each replica when it was ended

    def poll(self, tally: Tally) -> None:
        """Ask the Monitor, show progress, and act on silence. `tally`: of the units that are done.

        Raises IncompleteError after `_STALL_SECONDS`, or three times the replicas' timeout, without
        progress of any replica.
        """
        self._receive()
        in_work = self._in_work()
        for progress in in_work.values():
            tally = tally.plus(progress.documents, progress.tokens)
        # what is shown until the first document is counted, which of two pools the second does
        stages = {progress.stage for progress in in_work.values()}
        activity = "reading the first documents" if stages else "starting replicas"
        if stages == {"load"}:
            activity = "loading the model"
        self._display.show(tally, activity)
        now = time.monotonic()
        self._silent_seconds += min(now - self._polled_at, _LONGEST_PAUSE_SECONDS)
        self._polled_at = now
        if self._silent_seconds > self._stall:
            raise IncompleteError(
                f"no replica has made progress for {self._silent_seconds:.0f} s; in work: "
                f"{', '.join(in_work) or 'nothing'}. What is done stays; the same command resumes"
            )

    def _receive(self) -> None:
        """Ask, and take the answer if it is there: a busy machine must not hold up the reports."""
        if self._pending is None:
            done = [key for key in self._units if unit_of(key) in self._reports]
            self._pending = self._monitor.snapshot.remote(done)
        ready, _ = ray.wait([self._pending], timeout=0)
        if ready:
            pending, self._pending = self._pending, None
            try:
                self._take(ray.get(pending))
            except RayActorError:  # it went with its process, and Ray starts it again
                return

    def _take(self, snapshot: Snapshot) -> None:
        # a new message of any replica is a sign of life; a new process counts them from 0
        if snapshot.monitor_id == self._monitor_id and snapshot.messages != self._messages:
            self._silent_seconds = 0.0
        is_new = self._monitor_id not in ("", snapshot.monitor_id)
        self._monitor_id, self._messages = snapshot.monitor_id, snapshot.messages
        if is_new:
            # a new process of the Monitor must first get what the one before it knew
            units = self._in_work()
            starts = {name: progress.starts for name, progress in units.items()} | self._starts
            self._pending = self._monitor.resume.remote(units, starts)
            return
        self._units = snapshot.units
        for name, num_starts in snapshot.starts.items():
            # the first start is no death; each one is said once
            if num_starts > self._starts.get(name, 1):
                self._display.say(f"a replica's process died; {name} is done again")
                self._starts[name] = num_starts
        self._replace_hanging()

    def _in_work(self) -> dict[str, UnitProgress]:
        units = self._units.items()
        return {key: progress for key, progress in units if unit_of(key) not in self._reports}

    def _replace_hanging(self) -> None:
        """End each process that is silent for too long, even if it does not react to signals.

        Ray starts another one and gives it the same units again. A replica may have two units in
        work: it is judged by the one that is silent for longer.
        """
        most_silent: dict[str, str] = {}  # name of unit, by replica
        for name, progress in self._in_work().items():
            known = most_silent.get(progress.replica)
            if known is None or progress.idle_seconds >= self._units[known].idle_seconds:
                most_silent[progress.replica] = name
        for replica, name in most_silent.items():
            seconds = self._units[name].idle_seconds
            # Ray takes a while to end it: it is ended again only after another whole timeout
            if seconds - self._ended.get(replica, 0.0) > self._timeout:
                self._ended[replica] = seconds
                self._display.say(
                    f"replica {replica} made no progress for {seconds:.0f} s on {name}; it is "
                    "replaced"
                )
                ray.kill(self._units[name].handle, no_restart=False)


def start_monitor() -> ActorHandle:
    """Start the Monitor as an actor.

    A call that finds it dead waits until Ray has started it again: no unit fails because of that.
    """
    options = beside_the_driver()
    return ray.remote(Monitor).options(**options, max_restarts=-1, max_task_retries=-1).remote()
