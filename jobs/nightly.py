"""`bertsum nightly INPUT OUTPUT`: the partition of one day, for a scheduler: one line of result, one exit code."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bertsum.config import JobConfig
from bertsum.errors import BertsumError, IncompleteError, InputError
from bertsum.runs.commit import is_finished
from bertsum.runs.input import parquet_files, refuse_table
from bertsum.runs.partitions import inside
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import prepare, publish
from jobs.engine.run import RESUMES
from jobs.options import amount
from jobs.summarize import add_summarize_options, look_up, read_config
from jobs.terminal.days import directory, parse_day, scope_of, yesterday
from jobs.terminal.exit_codes import guard
from jobs.terminal.progress import format_seconds

_POLL_SECONDS = 20.0
_READY = "_SUCCESS"


@dataclass
class Night:
    """The result. `state`: done, nothing_to_do, no_input, failed or wrong (the command or configuration is)."""

    day: str
    partition: str
    state: str = "failed"
    rows: int = 0
    statuses: dict[str, int] | None = None
    rows_made: int = 0
    seconds: float = 0.0
    error: str | None = None

    def line(self) -> str:
        """For a log."""
        text = f"nightly {self.day} ({self.partition}): {self.state.replace('_', ' ')}"
        if self.statuses:
            text += f", {self.rows_made:,} rows made now"
            text += ", in all " + ", ".join(f"{name} {count:,}" for name, count in self.statuses.items())
        elif self.rows:
            text += f", holds {self.rows:,} rows"
        text += f" in {format_seconds(self.seconds)}"
        return text if self.error is None else f"{text}: {self.error.splitlines()[0]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed, incomplete or no input yet (try again), 2 the command is wrong."""
    return guard(lambda: nightly(parser().parse_args(argv)), RESUMES)


def nightly(arguments: argparse.Namespace) -> int:
    """Run, then say in one line on stdout what came of it; everything else goes to stderr."""
    config = read_config(arguments, **{"days.time_zone": arguments.time_zone})
    default = yesterday(config.days)  # also where it is not needed: a wrong time zone is known tonight
    day = default if arguments.date is None else parse_day(arguments.date)
    night = Night(day.isoformat(), directory(day, config.days))
    start, code = time.monotonic(), 0
    try:
        with contextlib.redirect_stdout(sys.stderr):
            _run(arguments, config, night)
    except BertsumError as error:
        code = error.exit_code
        night.error = str(error)
        night.state = night.state if code == 1 else "wrong"
        print(f"error: {error}", file=sys.stderr)
    night.seconds = round(time.monotonic() - start, 1)
    print(json.dumps(asdict(night)) if arguments.json else night.line(), flush=True)
    return code


def _run(arguments: argparse.Namespace, config: JobConfig, night: Night) -> None:
    configure(config.storage_options)
    refuse_table(arguments.input)
    source = Folder(arguments.input, InputError)
    if arguments.wait_minutes is not None:
        _wait(source, night.partition, arguments.wait_minutes)
    files, notes = parquet_files(source, source.list_names(night.partition))
    if not files:
        night.state = "no_input"
        reasons = "".join(f"; {note}" for note in notes)
        raise IncompleteError(
            f"{source}/{night.partition} holds no Parquet file yet; the same command tries again{reasons}"
        )
    run = look_up(arguments, config, scope_of([parse_day(night.day)], config.days))
    plan = run.plan()
    if is_finished(run.output, plan):
        night.state, night.rows = "nothing_to_do", plan.num_rows
        return
    prepare(run, plan)
    publisher = publish(run, plan)
    counts = publisher.counts
    night.rows, night.statuses, night.rows_made = counts.rows, dict(counts.statuses), publisher.rows_made
    publisher.refuse_failures()
    night.state = "done"


def _wait(source: Folder, partition: str, minutes: float) -> None:
    """Until whoever writes the input says that the day is complete. Raises IncompleteError after `minutes`."""
    marker = inside(partition, _READY)
    deadline = time.monotonic() + 60 * minutes
    said = False
    while source.info(marker) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise IncompleteError(
                f"{source}/{marker} is not there after {minutes:g} minutes: the day's input is not complete. The same "
                "command tries again"
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
        epilog="exit codes: 0 done or nothing to do, 1 failed or no input yet (try again), 2 command or config wrong",
    )
    add_summarize_options(options, limit=False)
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
