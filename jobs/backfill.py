"""`bertsum backfill INPUT OUTPUT --from DAY --to DAY`: many days in a few large waves.

Each day is published when it is complete.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from bertsum.errors import ConfigError, IncompleteError
from bertsum.job_config import JobConfig
from bertsum.runs.commit import is_finished
from bertsum.runs.held import read_held
from bertsum.runs.partitions import Scope, partition_of
from bertsum.runs.plan import Plan
from bertsum.storage.folder import mask
from jobs.engine.publisher import Publisher, lineage_of, prepare
from jobs.engine.run import RESUMES, Run, start_replicas
from jobs.engine.run_report import say_retained
from jobs.options import DocumentOptions, add_document_options, amount, count, parse
from jobs.summarize import look_up, read_config
from jobs.terminal.console import console
from jobs.terminal.days import calendar, days_between, directory, parse_day, scope_of
from jobs.terminal.exit_codes import guard, is_unicode
from jobs.terminal.progress import format_seconds

_FIRST_WAVE_UNITS = 8  # a replica; afterwards the rate is known
# Long against the start of replicas, short against waiting for a unit that is tried again.
_WAVE_SECONDS = 3600.0
_MARKS = {
    "done": "●",
    "partly": "◐",
    "to do": "○",
    "old": "◌",
    "held": "!",
    "failed": "x",
    "no input": "-",
}
_PLAIN_MARKS = {
    "done": "#",
    "partly": "/",
    "to do": ".",
    "old": "o",
    "held": "!",
    "failed": "x",
    "no input": "-",
}
_LEGEND = {"old": "of another model or input"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillOptions(DocumentOptions):
    """The options of the command.

    - `from_day`, `to_day`: the first and the last day, like 2026-01-01.
    - `max_documents`, `max_hours`: the budget; None: no limit.
    - `price_per_hour`: of one replica, for the estimate.
    """

    from_day: str
    to_day: str
    newest_first: bool = False
    max_documents: int | None = None
    max_hours: float | None = None
    price_per_hour: float | None = None
    dry_run: bool = False


@dataclass(kw_only=True)
class Day:
    """A day of the range.

    - `partitions`: the directories of the day, in INPUT or OUTPUT.
    - `units_left`, `rows_left`: what is not made yet.
    - `state`: a key of the calendar's marks.
    - `to_publish`: those of `partitions` that are not published.
    """

    day: date
    partitions: list[str] = field(default_factory=list)
    units_left: int = 0
    rows: int = 0
    rows_left: int = 0
    state: str = "no input"
    to_publish: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all days done, 1 failed or stopped at the budget, 2 command wrong, 3 days held.

    After 1 the same command goes on.
    """
    return guard(lambda: backfill(parse(BackfillOptions, parser(), argv)), RESUMES)


def backfill(options: BackfillOptions) -> int:
    """Plan, choose what the budget allows, run, and show the calendar.

    Raises IncompleteError where units failed or days are left.
    """
    config = read_config(options)
    dates = days_between(parse_day(options.from_day), parse_day(options.to_day))
    run = look_up(options, config, scope_of(dates, config.days))
    plan = run.plan()
    days = _days(plan, dates, config)
    _note_held(run, plan, days)
    to_do = [day for day in days if day.to_publish]
    to_do.sort(key=lambda day: day.day, reverse=options.newest_first)
    if options.dry_run:
        _show_calendar(days)
        _show_plan(run, plan, to_do)
        if any(day.rows_left for day in to_do):
            _show_estimate(run, plan, to_do, options, config)
        return 0
    # Before any Ray: most runs of a scheduled backfill find nothing to do.
    if is_finished(run.output, plan):
        _show_calendar(days)
        console.print(f"nothing to do: {_count(days, 'done')} days are done")
        return 0
    chosen = _within(to_do, options.max_documents)
    prepare(run, plan)
    # From here on, so that the hours of the budget are those of work, planning not counted.
    deadline = None if options.max_hours is None else time.monotonic() + 3600 * options.max_hours
    partitions: set[str] = set()
    for day in chosen:
        partitions.update(day.partitions)
    publisher = Publisher(run, plan.only(partitions))
    with lineage_of(publisher):
        left = _work(run, publisher, chosen, deadline) + to_do[len(chosen) :]
    _note_states(to_do, publisher)
    _show_calendar(days)
    console.print(
        f"backfill {days[0].day} to {days[-1].day}: {len(publisher.published):,} partition(s) "
        f"published now with {publisher.counts.rows:,} rows, {publisher.rows_made:,} of them made "
        f"now; {_count(days, 'done'):,} days done, {len(left):,} to go",
        soft_wrap=True,
    )
    if not left or publisher.failures:
        publisher.refuse_failures()
    if left:
        raise IncompleteError(
            f"stopped at the budget ({_budget(options)}); the same command goes on"
        )
    return 0


def _work(run: Run, publisher: Publisher, days: Sequence[Day], deadline: float | None) -> list[Day]:
    """Run the days in waves; returns the days that are left when the time is over.

    `deadline`: by `time.monotonic`; None: none.
    """
    publisher.publish_ready()  # days whose units are all there need no Ray
    queue = [day for day in days if day.units_left]
    rate = None
    if queue:
        with start_replicas(run, publisher.plan) as replicas:
            # Each wave is chosen by the rate of the one before.
            while wave := _next_wave(queue, rate, replicas.shape.replicas, deadline):
                start, rows_before = time.monotonic(), publisher.rows_done
                waiting, partitions = set(publisher.waiting), list[str]()
                for day in wave:  # in the order in which they are to be published
                    partitions += [name for name in day.partitions if name in waiting]
                publisher.make(partitions, replicas)
                seconds = time.monotonic() - start
                # A wave of which nothing could be made says nothing of the rate.
                rate = (publisher.rows_done - rows_before) / seconds or rate
                queue = queue[len(wave) :]
    return queue


def _next_wave(
    queue: Sequence[Day], rate: float | None, num_replicas: int, deadline: float | None
) -> list[Day]:
    """The next days: few units at first, about an hour of work once the rate is known.

    - `rate`: documents a second of all replicas; None: not known yet.
    - `deadline`: by `time.monotonic`; None: none.

    Empty when the time is over, or when by that rate the next day would not be done in time.
    """
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        return []
    wave: list[Day] = []
    units = rows = 0
    for day in queue:
        units, rows = units + day.units_left, rows + day.rows_left
        if rate is None:
            too_much = units > _FIRST_WAVE_UNITS * num_replicas
        else:
            if left is not None and rows / rate > left:
                break
            too_much = rows / rate > _WAVE_SECONDS
        if wave and too_much:  # a single day is taken however big it is
            break
        wave.append(day)
    return wave


def _days(plan: Plan, dates: Sequence[date], config: JobConfig) -> list[Day]:
    """The days with what the plan knows of them, in the order of `dates`."""
    open_partitions = set(plan.open_partitions)
    superseded = {partition_of(entry.file.name) for entry in plan.superseded}
    days = []
    day_of_partition: dict[str, Day] = {}
    for date_ in dates:
        day = Day(day=date_)
        days.append(day)
        # The directory of the day and all below it: dt=2026-11-22 has dt=2026-11-22/hour=07, too.
        scope = Scope((directory(date_, config.days),))
        for partition in plan.partitions | open_partitions:
            # Where the directory of one day lies in that of another, the first day has it.
            if partition not in day_of_partition and scope.holds(partition):
                day_of_partition[partition] = day
    for partition, day in sorted(day_of_partition.items(), key=lambda item: item[0]):
        day.partitions.append(partition)
    for name, unit in plan.units.items():
        day = day_of_partition[unit.partition]
        day.rows += unit.num_rows
        if name not in plan.done:
            day.rows_left += unit.num_rows
            day.units_left += 1
    for day in days:
        day.to_publish = [name for name in day.partitions if name in open_partitions]
        # Some rows are made, or some of the day's partitions are published.
        is_begun = day.rows_left < day.rows or day.to_publish != day.partitions
        if not day.partitions:
            continue  # it stays a day without input
        if not day.to_publish:
            day.state = "done"
        elif not superseded.isdisjoint(day.partitions):  # results that must be replaced first
            day.state = "old"
        else:
            day.state = "partly" if is_begun else "to do"
    return days


def _note_held(run: Run, plan: Plan, days: Sequence[Day]) -> None:
    """Set the state of days whose rows are all there, and which are held back from readers."""
    for day in days:
        for partition in [] if day.rows_left else day.to_publish:
            held = read_held(run.output, partition)
            files = plan.part([partition]).files(run.job).values()
            if held and not held.is_approved and held.holds(files):
                day.state = "held"


def _within(days: Sequence[Day], max_documents: int | None) -> list[Day]:
    """The first days that the budget allows, whole: a day is never left half done on purpose.

    Raises ConfigError where it is too small for the first day.
    """
    if max_documents is None:
        return list(days)
    chosen: list[Day] = []
    rows = 0
    for day in days:
        rows += day.rows_left
        if rows > max_documents:
            break
        chosen.append(day)
    if not chosen:
        raise ConfigError(
            f"--max-documents {max_documents:,} is less than the {days[0].rows_left:,} documents "
            f"of the next day, {days[0].day}; days are done whole"
        )
    return chosen


def _note_states(days: Sequence[Day], publisher: Publisher) -> None:
    """Set the state of each day to what the run has made of it."""
    for day in days:
        if set(day.to_publish) <= publisher.published.keys():
            day.state = "done"
        elif publisher.failures.keys() & set(day.partitions):
            day.state = "failed"
        elif publisher.held.keys() & set(day.partitions):
            day.state = "held"


def _budget(options: BackfillOptions) -> str:
    """The budget as it was given on the command line."""
    given = []
    if options.max_documents is not None:
        given.append(f"--max-documents {options.max_documents}")
    if options.max_hours is not None:
        given.append(f"--max-hours {options.max_hours:g}")
    return " ".join(given)


def _show_plan(run: Run, plan: Plan, to_do: Sequence[Day]) -> None:
    """Print what is to do, and what of INPUT and OUTPUT stands in its way."""
    units_left = sum(day.units_left for day in to_do)
    rows_left = sum(day.rows_left for day in to_do)
    console.print(
        f"to do: {len(to_do):,} days, {units_left:,} units, {rows_left:,} documents; output "
        f"{run.output}"
    )
    for path, reason in plan.problems.items():
        console.print(f"not usable: {mask(path)}: {reason}", soft_wrap=True)
    if plan.retained:
        console.print(say_retained(plan), soft_wrap=True)
    if plan.superseded:
        console.print(f"superseded: {len(plan.superseded):,} files; needs --on-existing replace")


def _show_estimate(
    run: Run, plan: Plan, to_do: Sequence[Day], options: BackfillOptions, config: JobConfig
) -> None:
    """Measure a few rows here, and print the time and the cost of all days by them."""
    # It imports torch, which takes seconds, and only the estimate needs it.
    from jobs.measuring.estimate import CAVEAT, THEN_CAVEAT, measure

    rate = measure(plan, run.source, options.model, config)
    seconds = sum(day.rows_left for day in to_do) / rate.documents_per_second
    line = f"estimated: {format_seconds(seconds)} of one replica on {rate.device} ({rate})"
    num_replicas = config.resources.replicas or 1
    if num_replicas > 1:
        line += f"; {format_seconds(seconds / num_replicas)} with {num_replicas} of them"
    if options.price_per_hour is not None:
        cost = seconds / 3600 * options.price_per_hour
        shown = f"{cost:,.2f}" if cost >= 0.01 else "below 0.01"
        line += f"; cost {shown} at {options.price_per_hour:g} a replica-hour"
    console.print(f"{line}. {CAVEAT}", soft_wrap=True)
    if options.then is not None:
        console.print(THEN_CAVEAT, soft_wrap=True)


def _show_calendar(days: Sequence[Day]) -> None:
    """Print a mark for each day, and how many days have each."""
    marks = _MARKS if is_unicode(console.encoding) else _PLAIN_MARKS
    for line in calendar({day.day: day.state for day in days}, marks):
        console.print(line)
    legend = []
    for state, mark in marks.items():
        if num_days := _count(days, state):
            legend.append(f"{mark} {_LEGEND.get(state, state)} {num_days:,}")
    console.print("  ".join(legend))


def _count(days: Sequence[Day], state: str) -> int:
    return sum(day.state == state for day in days)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum backfill",
        description="Summarize the partitions of many days; each is published as soon as it is "
        "complete.",
        epilog="exit codes: 0 all days done, 1 failed or stopped at the budget (the same command "
        "goes on), 2 wrong, 3 all done, but some days are held back by output.checks",
    )
    add_document_options(options, limit=False)
    add = options.add_argument
    add("--from", dest="from_day", metavar="DAY", required=True, help="first day, like 2026-01-01")
    add("--to", dest="to_day", metavar="DAY", required=True, help="last day, included")
    add("--newest-first", action="store_true", help="begin with the last day")
    add(
        "--max-documents",
        metavar="N",
        type=count("--max-documents", 1),
        help="budget: as many whole days as have at most N documents to do",
    )
    add(
        "--max-hours",
        metavar="H",
        type=amount("--max-hours"),
        help="budget: begin no day that would not be done within H hours",
    )
    add(
        "--price-per-hour",
        metavar="P",
        type=amount("--price-per-hour"),
        help="of one replica, for the estimate of --dry-run",
    )
    add("--dry-run", action="store_true", help="show the calendar and an estimate; write nothing")
    return options


if __name__ == "__main__":
    sys.exit(main())
