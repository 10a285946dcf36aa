"""A run of a job over INPUT and OUTPUT: plan, compute what is missing, commit. A command adds its Work to it."""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bertsum.commit import Failure, begin, finish, is_finished, record_failures
from bertsum.config import RunConfig
from bertsum.errors import ConfigError, IncompleteError, InputError
from bertsum.output import Counts, Job
from bertsum.plan import Plan, make_plan, refuse_superseded
from bertsum.shards import Input
from bertsum.storage import Folder, mask
from bertsum.units import Limits, Unit
from jobs.progress import Display
from jobs.reports import UnitReport
from jobs.tables import console
from jobs.work import Work

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

    @property
    def limits(self) -> Limits:
        return Limits(self.config.rows_per_unit, self.config.max_unit_bytes)

    def plan(self, limit: int | None) -> Plan:
        """What is to do. Raises InputError and OutputError, see `make_plan`."""
        if limit is not None and limit < 1:
            raise ConfigError(f"--limit must be at least 1, not {limit}")
        _refuse_nesting(self.source, self.output)
        return make_plan(self.source, self.output, self.job, self.limits, self.work.check, limit)


Show = Callable[[Folder, Plan, Counts, Sequence[UnitReport], float], None]


def complete(run: Run, plan: Plan, show: Show) -> bool:
    """Bring OUTPUT to what is planned, and show the result; False when nothing was left to do.

    Raises IncompleteError when some of it could not be done.
    """
    if is_finished(run.output, plan):
        console.print(
            f"nothing to do: {run.output} holds all {plan.num_rows:,} rows of this input, model and configuration",
            soft_wrap=True,
        )
        return False
    if run.config.on_existing == "resume":
        refuse_superseded(plan.superseded, run.output)
    start = time.monotonic()
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
        raise IncompleteError(_say_failures(failures, run.output))
    # without exclusive create the file may be a later writer's by now: it is read back for its record
    records = {name: report.record for name, report in reports.items() if report.record and exclusive}
    counts = finish(run.output, plan, run.job, run.source_uri, records, run.config.max_error_fraction)
    show(run.output, plan, counts, list(reports.values()), time.monotonic() - start)
    return True


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every job over INPUT and OUTPUT has."""
    add = parser.add_argument
    add("--config", metavar="FILE", type=Path, help="YAML file with configuration values")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="one configuration value; repeatable")
    add("--address", metavar="A", help="local, auto, HOST:PORT or ray://HOST:PORT (default: RAY_ADDRESS, else local)")
    add("--on-existing", choices=["resume", "replace"], help=_ON_EXISTING)
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
    console.print(f"{len(plan.missing):,} of {len(plan.units):,} units to do; starting Ray ({run.address})")
    from jobs.cluster import connected, reserve
    from jobs.replica import Task
    from jobs.waves import run_waves

    done = {name: unit for name, unit in plan.units.items() if name in plan.done}

    def write_plan(units: Mapping[str, Unit]) -> None:
        nonlocal plan
        ordered = dict(sorted({**done, **units}.items(), key=lambda item: item[1].order))
        plan = replace(plan, units=ordered)
        begin(run.output, plan, run.job, run.source_uri, run.limits)

    with connected(run.address):
        shape = reserve(run.config.resources, len(plan.missing), can_grow=run.address != "local")
        exclusive = run.output.can_create_exclusively()
        if not exclusive:
            console.print(_NOT_EXCLUSIVE.format(output=run.output), soft_wrap=True)
        write_plan(plan.missing)
        uris, config = (run.source.root.uri, run.output.uri), run.config
        task = Task(*uris, run.job, run.work, shape.num_threads, exclusive, config.storage_options)
        limits = config.max_unit_attempts, config.replica_timeout_seconds
        with Display(plan.num_rows, plan.num_rows_done, console) as display:
            outcome = run_waves(plan.missing, task, shape, *limits, display, write_plan)
    return plan, outcome.reports, outcome.failures, exclusive


def _refuse_nesting(source: Input, output: Folder) -> None:
    """A walk of INPUT must not come upon results, neither now nor when the job runs again."""
    below = output.is_below(source.root) if source.is_directory else False
    if below or any(Folder(f"{source.root.uri}/{file.path}").is_below(output) for file in source.files[:1]):
        raise InputError(
            f"OUTPUT {output} and INPUT {source.root} lie in each other; the job would read its own results"
        )


def _say_failures(failures: Sequence[Failure], output: Folder) -> str:
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
