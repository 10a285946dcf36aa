"""A run of a job over INPUT and OUTPUT: plan, compute what is missing, commit. A command adds its Work to it."""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bertsum.commit import Failure, begin, finish, is_finished, record_failures
from bertsum.config import RunConfig
from bertsum.errors import ConfigError, IncompleteError, InputError, OutputError
from bertsum.lake import Lake
from bertsum.output import Counts, FileRecord, Job
from bertsum.plan import Plan, make_plan, refuse_superseded, with_units
from bertsum.shards import Input, read_schema
from bertsum.storage import Folder, mask
from bertsum.units import Limits, Unit
from jobs.progress import Display
from jobs.reports import UnitReport
from jobs.tables import console, say_retained, show_incomplete
from jobs.work import Work

if TYPE_CHECKING:
    from jobs.cluster import Shape
    from jobs.replica import Task

_LOOKS = 3  # at a table that another run changes, too
RESUMES = "interrupted; finished units stay, and the same command goes on from there"
_NOT_EXCLUSIVE = (
    "{output} cannot create a file exclusively (no hard links, or no conditional put): each file still appears whole "
    "or not at all, but two runs at once may write a file twice; see to it that only one is at work"
)
_ON_EXISTING = (
    "results of another model, configuration or input in OUTPUT: refuse (resume, the default), or remove them once the "
    "new ones are complete (replace)"
)
_LIMIT = (
    "a try-out of the first N rows: it writes no manifest and no _SUCCESS; a later run without it keeps its results "
    "and does the rest"
)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that the command line decides, looked up once."""

    source_uri: str
    source: Input
    output: Folder
    job: Job
    work: Work
    config: RunConfig
    address: str
    lake: Lake | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.config.rows_per_unit, self.config.max_unit_bytes)

    def plan(self, limit: int | None = None) -> Plan:
        """What is to do. Raises InputError and OutputError, see `make_plan`."""
        if limit is not None and limit < 1:
            raise ConfigError(f"--limit must be at least 1, not {limit}")
        _refuse_nesting(self.source, self.output)
        if limit is not None and not self.source.scope.is_all:
            raise ConfigError("--limit does not go with a choice of partitions: a try-out publishes none")
        rules = self.config.output
        try:
            plan = make_plan(self.source, self.output, self.job, self.limits, self.work.check, limit, rules)
        except InputError as error:
            if not self.source.copy_of:
                raise
            raise InputError(f"INPUT {self.source.copy_of}: {error}") from error  # whose files have other names
        return self._compare_with_table(plan) if self.lake and plan.limit is None else plan

    def _compare_with_table(self, plan: Plan) -> Plan:
        """A partition is published when the table has it, too."""
        assert self.lake is not None
        behind = self.lake.behind([*plan.units, *plan.retained], sorted(plan.partitions & plan.published))
        return replace(plan, published=plan.published - behind)

    def prepare_table(self, plan: Plan) -> None:
        """Before any work: the table exists and takes what the plan will bring. Raises InputError."""
        if self.lake is not None and plan.open_partitions:
            schemas = [self.work.output_schema(schema) for schema in plan.schemas]
            there = [name for name in plan.files(self.job) if name in plan.done or name in plan.retained]
            schemas += [read_schema(self.output, name) for name in there[:1] if not schemas]
            self.lake.prepare(schemas, sorted(plan.partitions))

    def finish(self, plan: Plan, records: Mapping[str, FileRecord], looks: int = _LOOKS) -> Counts:
        """What `bertsum.commit.finish` does, also where another run put the files of a table together meanwhile."""
        try:
            uri, max_error_fraction = self.source_uri, self.config.max_error_fraction
            return finish(self.output, plan, self.job, uri, records, max_error_fraction, self.lake)
        except (OutputError, InputError) as error:
            if self.lake is None or plan.limit is not None or not looks:
                raise
            again = self._look_again(plan)
            is_same = (again.units.keys(), again.outdated) == (plan.units.keys(), plan.outdated)
            is_refused = bool(again.superseded) and self.config.on_existing == "resume"
            if is_same or is_refused or again.missing or again.problems:
                raise
            console.print(f"OUTPUT has changed ({error}); looking again at what is left to do", soft_wrap=True)
        return self.finish(again, records, looks - 1)

    def _look_again(self, plan: Plan) -> Plan:
        files = tuple(file for file in self.source.files if plan.scope.holds(file.partition))
        return replace(self, source=replace(self.source, files=files, scope=plan.scope)).plan()


Show = Callable[[Folder, Plan, Counts, Sequence[UnitReport], float], None]


def complete(run: Run, plan: Plan, show: Show) -> bool:
    """Bring OUTPUT to what is planned, and show the result; False when nothing was left to do.

    Raises IncompleteError when some of it could not be done.
    """
    if is_finished(run.output, plan):
        where = "" if plan.scope.is_all else f" in {', '.join(plan.scope.patterns[:3])}"
        console.print(
            f"nothing to do: {run.output} holds all {plan.num_rows:,} rows of this input, model and configuration"
            + where,
            soft_wrap=True,
        )
        return False
    if plan.retained:
        console.print(say_retained(plan), soft_wrap=True)
    if run.config.on_existing == "resume":
        refuse_superseded(plan.superseded, run.output)
    if plan.limit is None:
        run.prepare_table(plan)
    start = time.monotonic()
    if not plan.scope.is_all:
        from jobs.by_partition import publish

        result = publish(run, plan)
        if result.failures:
            show_incomplete(plan, result.reports, time.monotonic() - start)
            raise IncompleteError(say_failures(result.failures, run.output))
        show(run.output, plan, result.counts, result.reports, time.monotonic() - start)
        return True
    reports: Mapping[str, UnitReport] = {}
    exclusive = True
    failures = [Failure([path], reason, attempts=0) for path, reason in plan.problems.items()]
    if plan.missing:
        plan, reports, more, exclusive = _compute(run, plan)
        failures += more
    else:
        begin(run.output, plan, run.job, run.source_uri, run.limits)
    if failures:
        record_failures(run.output, failures)
        show_incomplete(plan, list(reports.values()), time.monotonic() - start)
        raise IncompleteError(say_failures(failures, run.output))
    # without exclusive create the file may be a later writer's by now: it is read back for its record
    records = {name: report.record for name, report in reports.items() if report.record and exclusive}
    counts = run.finish(plan, records)
    show(run.output, plan, counts, list(reports.values()), time.monotonic() - start)
    return True


def add_options(parser: argparse.ArgumentParser, limit: bool = True) -> None:
    """The options that every job over INPUT and OUTPUT has; `limit`: whether it can be tried out on the first rows."""
    add = parser.add_argument
    add("--config", metavar="FILE", type=Path, help="YAML file with configuration values")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="one configuration value; repeatable")
    add("--address", metavar="A", help="local, auto, HOST:PORT or ray://HOST:PORT (default: RAY_ADDRESS, else local)")
    add("--on-existing", choices=["resume", "replace"], help=_ON_EXISTING)
    if limit:
        add("--limit", metavar="N", type=int, help=_LIMIT)


def overrides(arguments: argparse.Namespace, short: Mapping[str, object]) -> list[str]:
    """`--set` values, then those of the short options, which are other spellings of some of them."""
    options = {"on_existing": arguments.on_existing, **short}
    return [*arguments.set, *(f"{key}={value}" for key, value in options.items() if value is not None)]


def find_address(arguments: argparse.Namespace) -> str:
    """Where Ray is."""
    return arguments.address or os.environ.get("RAY_ADDRESS") or "local"


def _compute(run: Run, plan: Plan) -> tuple[Plan, Mapping[str, UnitReport], list[Failure], bool]:
    """Start Ray and make the missing units. The plan that comes back has the units that were split.

    The last value says whether OUTPUT could create exclusively.
    """
    from jobs.waves import run_waves

    def write_plan(units: Mapping[str, Unit]) -> None:
        nonlocal plan
        plan = with_units(plan, units)
        begin(run.output, plan, run.job, run.source_uri, run.limits)

    with replicas(run, plan) as (task, shape):
        write_plan(plan.missing)
        limits = run.config.max_unit_attempts, run.config.replica_timeout_seconds
        with Display(plan.num_rows, plan.num_rows_done, console) as display:
            outcome = run_waves(plan.missing, task, shape, *limits, display, write_plan)
    return plan, outcome.reports, outcome.failures, task.exclusive


@contextmanager
def replicas(run: Run, plan: Plan) -> "Iterator[tuple[Task, Shape]]":
    """Ray, for as long as it is needed; what every replica must know; and how many there are."""
    console.print(f"{len(plan.missing):,} of {len(plan.units):,} units to do; starting Ray ({run.address})")
    from jobs.cluster import connected, reserve
    from jobs.replica import Task

    with connected(run.address):
        shape = reserve(run.config.resources, len(plan.missing), can_grow=run.address != "local")
        exclusive = run.output.can_create_exclusively()
        if not exclusive:
            console.print(_NOT_EXCLUSIVE.format(output=run.output), soft_wrap=True)
        uris, options = (run.source.root.uri, run.output.uri), run.config.storage_options
        outdated = frozenset(plan.outdated) if run.lake else None
        yield Task(*uris, run.job, run.work, shape.num_threads, exclusive, outdated, options), shape


def _refuse_nesting(source: Input, output: Folder) -> None:
    """A walk of INPUT must not come upon results, neither now nor when the job runs again."""
    below = output.is_below(source.root) if source.is_directory else False
    if below or any(Folder(f"{source.root.uri}/{file.path}").is_below(output) for file in source.files[:1]):
        raise InputError(
            f"OUTPUT {output} and INPUT {source.root} lie in each other; the job would read its own results"
        )


def say_failures(failures: Sequence[Failure], output: Folder) -> str:
    """What went wrong, in some 20 lines, and what to do."""
    lines = [f"  {', '.join(mask(path) for path in failure.files[:3])}: {failure.reason}" for failure in failures[:20]]
    more = [f"  ... and {len(failures) - 20} more"] if len(failures) > 20 else []
    return "\n".join(
        [
            f"{len(failures)} part(s) of the input could not be done:",
            *lines,
            *more,
            f"everything else is in {output}; mend these and run the same command again (`bertsum status {output}`)",
        ]
    )
