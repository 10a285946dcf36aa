"""`bertsum summarize INPUT OUTPUT`: Parquet files of documents in, summaries and sentiment out."""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bertsum.commit import Failure, begin, finish, is_finished, record_failures
from bertsum.config import JobConfig, load_config
from bertsum.errors import ConfigError, IncompleteError, InputError
from bertsum.output import Job
from bertsum.plan import Plan, make_plan, refuse_superseded
from bertsum.shards import Input, list_input
from bertsum.storage import Folder, mask
from bertsum.units import Limits, Unit
from jobs.guard import guard
from jobs.progress import Display
from jobs.reports import UnitReport
from jobs.tables import console, show_plan, show_result, show_rows

_RESUMES = "interrupted; finished units stay, and the same command goes on from there"
_SHIPPED_MODEL = "bertsum-default"
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
    model: str | None
    job: Job
    config: JobConfig
    address: str

    @property
    def limits(self) -> Limits:
        return Limits(self.config.rows_per_unit, self.config.max_unit_bytes)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 the command or configuration is wrong."""
    arguments = parser().parse_args(argv)
    return guard(lambda: summarize(arguments), _RESUMES)


def summarize(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    run = _look_up(arguments)
    plan = make_plan(run.source, run.output, run.job, run.limits, arguments.limit)
    if arguments.dry_run:
        from jobs.estimate import estimate

        show_plan(plan, run.output)
        print(estimate(plan, run.source, run.model, run.config))
        return 0
    if is_finished(run.output, plan):
        print(f"nothing to do: {run.output} holds all {plan.num_rows:,} rows of this input, model and configuration")
    else:
        if run.config.on_existing == "resume":
            refuse_superseded(plan.superseded, run.output)
        _work(run, plan)
    if arguments.show > 0:
        show_rows(run.output, list(plan.units), arguments.show)
    return 0


def _work(run: Run, plan: Plan) -> None:
    start = time.monotonic()
    reports: Mapping[str, UnitReport] = {}
    failures = [Failure([path], reason, attempts=0) for path, reason in plan.problems.items()]
    if plan.missing:
        plan, reports, more = _compute(run, plan)
        failures += more
    else:
        begin(run.output, plan, run.job, run.source_uri, run.limits)
    if failures:
        record_failures(run.output, failures)
        raise IncompleteError(_say_failures(failures, run.output))
    records = {name: report.record for name, report in reports.items() if report.record}
    counts = finish(run.output, plan, run.job, run.source_uri, records, run.config.max_error_fraction)
    show_result(run.output, plan, counts, list(reports.values()), time.monotonic() - start)


def _compute(run: Run, plan: Plan) -> tuple[Plan, Mapping[str, UnitReport], list[Failure]]:
    """Start Ray and make the missing units. The plan that comes back has the units that were split."""
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
        write_plan(plan.missing)
        task = Task(
            run.source.root.uri,
            run.output.uri,
            run.model,
            run.job,
            run.config.max_batch_tokens,
            shape.num_threads,
        )
        with Display(plan.num_rows, plan.num_rows_done, console) as display:
            outcome = run_waves(plan.missing, task, shape, run.config.max_unit_attempts, display, write_plan)
    return plan, outcome.reports, outcome.failures


def _look_up(arguments: argparse.Namespace) -> Run:
    from bertsum.checkpoint import model_digest
    from bertsum.model_source import resolve

    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit must be at least 1, not {arguments.limit}")
    config = load_config(JobConfig, arguments.config, _overrides(arguments))
    source, output = list_input(arguments.input), Folder(arguments.output)
    _refuse_nesting(source, output)
    job = Job(arguments.model or _SHIPPED_MODEL, model_digest(resolve(arguments.model)), config.summarizer)
    address = arguments.address or os.environ.get("RAY_ADDRESS") or "local"
    return Run(arguments.input, source, output, arguments.model, job, config, address)


def _refuse_nesting(source: Input, output: Folder) -> None:
    """A walk of INPUT must not come upon results, neither now nor when the job runs again."""
    below = output.is_below(source.root) if source.is_directory else False
    if below or any(Folder(f"{source.root.uri}/{file.path}").is_below(output) for file in source.files[:1]):
        raise InputError(
            f"OUTPUT {output} and INPUT {source.root} lie in each other; the job would read its own results"
        )


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """`--set` values; the short options are other spellings of some of them."""
    short = {
        "summarizer.text_column": arguments.text_column,
        "summarizer.language": arguments.language,
        "summarizer.selection.size": arguments.sentences,
        "on_existing": arguments.on_existing,
    }
    return [*arguments.set, *(f"{key}={value}" for key, value in short.items() if value is not None)]


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


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum summarize",
        description="Summaries and sentiment of the documents in Parquet files. One output row for each input row.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command or config wrong",
    )
    add = options.add_argument
    add("input", metavar="INPUT", help="Parquet file, directory or glob; local or s3://, gs://, ...")
    add("output", metavar="OUTPUT", help="directory for the results, local or remote")
    add("--model", metavar="M", help="checkpoint: directory, URI or hub name (default: the shipped one)")
    add("--config", metavar="FILE", type=Path, help="YAML file with configuration values")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="one configuration value; repeatable")
    add("--text-column", metavar="NAME", help="column with the text (default: document)")
    add("--language", metavar="CODE", help="ISO 639-1 code of all documents (default: from the script of each)")
    add("--sentences", metavar="N", type=int, help="longest summary, in sentences (default: 3)")
    add("--address", metavar="A", help="local, auto, HOST:PORT or ray://HOST:PORT (default: RAY_ADDRESS, else local)")
    add("--on-existing", choices=["resume", "replace"], help=_ON_EXISTING)
    add("--limit", metavar="N", type=int, help=_LIMIT)
    add("--dry-run", action="store_true", help="show the plan and an estimate; write nothing")
    add("--show", metavar="N", type=int, default=0, help="print the first N rows of the result")
    return options


if __name__ == "__main__":
    sys.exit(main())
