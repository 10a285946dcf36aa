"""`bertsum nightly INPUT OUTPUT`: the partition of one day, for a scheduler.

It prints one line of result, and its exit code says what to do.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from bertsum.errors import BertsumError, HeldError, IncompleteError, InputError
from bertsum.job_config import JobConfig
from bertsum.runs.commit import is_finished
from bertsum.runs.input import parquet_files, refuse_table
from bertsum.runs.partitions import inside
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import prepare, publish
from jobs.engine.run import RESUMES
from jobs.options import DocumentOptions, add_document_options, amount, parse
from jobs.summarize import look_up, read_config
from jobs.terminal.days import directory, parse_day, scope_of, yesterday
from jobs.terminal.exit_codes import guard
from jobs.terminal.progress import format_seconds

_POLL_SECONDS = 20.0
_READY = "_SUCCESS"  # what Spark, Hadoop and a bertsum run write into a directory that is complete


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyOptions(DocumentOptions):
    """The options of the command.

    - `date`: like 2026-11-22; None: yesterday.
    - `time_zone`: in which the day before is yesterday; None: that of the configuration.
    - `wait_minutes`: how long to wait for the input to be complete; None: not at all.
    """

    date: str | None = None
    time_zone: str | None = None
    wait_minutes: float | None = None
    json: bool = False


@dataclass
class Night:
    """The result, whose fields are the keys of `--json`.

    - `state`: done, nothing_to_do, no_input, held, failed, or wrong (the command or configuration
      is).
    - `statuses`: rows of the partition by status; None where nothing was made.
    - `rows_made`: rows of the partition that this run made.
    - `warnings`: what was found in rows that are published nevertheless.
    - `error`: what ended the run; None where nothing did.
    """

    day: str
    partition: str
    state: str = "failed"
    rows: int = 0
    statuses: dict[str, int] | None = None
    rows_made: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    def line(self) -> str:
        """The result in one line, for a log."""
        text = f"nightly {self.day} ({self.partition}): {self.state.replace('_', ' ')}"
        if self.statuses:
            statuses = ", ".join(f"{name} {count:,}" for name, count in self.statuses.items())
            text += f", {self.rows_made:,} rows made now, in all {statuses}"
        elif self.rows:
            text += f", holds {self.rows:,} rows"
        if self.warnings:
            text += f", with a warning ({'; '.join(self.warnings)})"
        text += f" in {format_seconds(self.seconds)}"
        return text if self.error is None else f"{text}: {self.error.splitlines()[0]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or no input (try again), 2 wrong, 3 held."""
    return guard(lambda: nightly(parse(NightlyOptions, parser(), argv)), RESUMES)


def nightly(options: NightlyOptions) -> int:
    """Run, then say in one line on stdout what came of it; everything else goes to stderr."""
    config = read_config(options, options.time_zone)
    # Computed also where a date is given: a wrong time zone is then known today, not some night.
    default = yesterday(config.days)
    day = default if options.date is None else parse_day(options.date)
    night = Night(day=day.isoformat(), partition=directory(day, config.days))
    start, code = time.monotonic(), 0
    try:
        # A scheduler reads stdout, which has the result alone.
        with contextlib.redirect_stdout(sys.stderr):
            _run(options, config, night)
    except BertsumError as error:
        code = error.exit_code
        night.error = str(error)
        # With exit code 1 the same command may succeed later; any other needs a person.
        if isinstance(error, HeldError):
            night.state = "held"
        elif code != 1:
            night.state = "wrong"
        print(f"error: {error}", file=sys.stderr)
    night.seconds = round(time.monotonic() - start, 1)
    print(json.dumps(asdict(night)) if options.json else night.line(), flush=True)
    return code


def _run(options: NightlyOptions, config: JobConfig, night: Night) -> None:
    """Summarize the partition of `night`, and note there how far it came.

    Raises IncompleteError where the input is not there yet or units failed.
    """
    configure(config.storage_options)
    refuse_table(options.input)
    source = Folder(options.input, InputError)
    if options.wait_minutes is not None:
        _wait(source, night.partition, options.wait_minutes)
    # Looked for before the plan, for which a day without input is an error of the command (code 2).
    files, notes = parquet_files(source, source.list_names(night.partition))
    if not files:
        night.state = "no_input"
        reasons = "".join(f"; {note}" for note in notes)
        raise IncompleteError(
            f"{source}/{night.partition} holds no Parquet file yet; the same command tries "
            f"again{reasons}"
        )
    run = look_up(options, config, scope_of([parse_day(night.day)], config.days))
    plan = run.plan()
    if is_finished(run.output, plan):
        night.state, night.rows = "nothing_to_do", plan.num_rows
        return
    prepare(run, plan)
    publisher = publish(run, plan)
    # Noted before failures end the run: the line of a failed night says what is there, too.
    counts = publisher.counts
    night.rows, night.statuses = counts.rows, dict(counts.statuses)
    night.rows_made = publisher.rows_made
    night.warnings = list(publisher.warnings.values())
    publisher.refuse_failures()
    night.state = "done"


def _wait(source: Folder, partition: str, minutes: float) -> None:
    """Wait until whoever writes the input marks the day as complete.

    Raises IncompleteError after `minutes`.
    """
    marker = inside(partition, _READY)
    deadline = time.monotonic() + 60 * minutes
    said = False
    while source.info(marker) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise IncompleteError(
                f"{source}/{marker} is not there after {minutes:g} minutes: the day's input is not "
                "complete. The same command tries again"
            )
        if not said:
            print(f"waiting up to {minutes:g} minutes for {source}/{marker}", flush=True)
            said = True
        time.sleep(min(_POLL_SECONDS, left))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum nightly",
        description="Summarize the partition of one day, and publish it when it is complete.",
        epilog="exit codes: 0 done or nothing to do, 1 failed or no input yet (try again), 2 "
        "command or config wrong, 3 held back by output.checks",
    )
    add_document_options(options, limit=False)
    add = options.add_argument
    add("--date", metavar="DAY", help="like 2026-11-22 (default: yesterday in the time zone)")
    add("--time-zone", metavar="ZONE", help="IANA name, like Europe/Berlin (default: UTC)")
    add(
        "--wait-minutes",
        metavar="N",
        type=amount("--wait-minutes"),
        help="wait so long for the _SUCCESS of the day in INPUT",
    )
    add("--json", action="store_true", help="the result as one line of JSON")
    return options


if __name__ == "__main__":
    sys.exit(main())
