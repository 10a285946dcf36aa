"""`bertsum backfill INPUT OUTPUT --from DAY --to DAY`: many days in a few large waves, each published when complete."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from bertsum.config import JobConfig
from bertsum.errors import ConfigError, IncompleteError
from bertsum.runs.commit import is_finished
from bertsum.runs.partitions import Scope, partition_of
from bertsum.runs.plan import Plan
from bertsum.storage.folder import mask
from jobs.engine.publisher import Publisher, prepare
from jobs.engine.run import RESUMES, Run, start_replicas
from jobs.engine.run_report import say_retained
from jobs.options import amount, count
from jobs.summarize import add_summarize_options, look_up, read_config
from jobs.terminal.console import console
from jobs.terminal.days import calendar, days_between, directory, parse_day, scope_of
from jobs.terminal.exit_codes import guard, is_unicode
from jobs.terminal.progress import format_seconds

_FIRST_WAVE_UNITS = 8  # a replica; afterwards the rate is known
_WAVE_SECONDS = 3600.0  # long against the start of replicas, short against waiting for a unit that is tried again
_MARKS = {"done": "●", "partly": "◐", "to do": "○", "old": "◌", "failed": "x", "no input": "-"}
_PLAIN_MARKS = {"done": "#", "partly": "/", "to do": ".", "old": "o", "failed": "x", "no input": "-"}
_LEGEND = {"old": "of another model or input"}


@dataclass
class Day:
    """One day of the range: the directories that it has, those to publish, and its documents."""

    day: date
    partitions: list[str] = field(default_factory=list)
    units_left: int = 0
    rows: int = 0
    rows_left: int = 0
    state: str = "no input"
    to_publish: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all days done, 1 failed, or stopped at the budget (the same command goes on), 2 command wrong."""
    return guard(lambda: backfill(parser().parse_args(argv)), RESUMES)


def backfill(arguments: argparse.Namespace) -> int:
    """Plan, choose what the budget allows, run, and show the calendar."""
    config = read_config(arguments)
    dates = days_between(parse_day(arguments.from_day), parse_day(arguments.to_day))
    run = look_up(arguments, config, scope_of(dates, config.days))
    plan = run.plan()
    days = _days(plan, dates, config)
    to_do = [day for day in days if day.to_publish]
    to_do.sort(key=lambda day: day.day, reverse=arguments.newest_first)
    if arguments.dry_run:
        _show_plan(run, plan, days, to_do, arguments, config)
        return 0
    if is_finished(run.output, plan):
        _show_calendar(days)
        console.print(f"nothing to do: {_count(days, 'done')} days are done")
        return 0
    chosen = _within(to_do, arguments.max_documents)
    prepare(run, plan)
    deadline = None if arguments.max_hours is None else time.monotonic() + 3600 * arguments.max_hours
    publisher = Publisher(run, plan.only({name for day in chosen for name in day.partitions}))
    left = _work(run, publisher, chosen, deadline)
    left += to_do[len(chosen) :]
    return _finish(publisher, days, to_do=to_do, left=left, arguments=arguments)


def _work(run: Run, publisher: Publisher, days: Sequence[Day], deadline: float | None) -> list[Day]:
    """Run the days in waves; the days that are left when the time is over come back."""
    publisher.publish_ready()
    queue = [day for day in days if day.units_left]
    rate = None
    if queue:
        with start_replicas(run, publisher.plan) as replicas:
            while wave := _next_wave(queue, rate, replicas.shape.replicas, deadline):
                start, rows_before = time.monotonic(), publisher.rows_done
                publisher.make(_waiting(publisher, wave), replicas)
                rate = (publisher.rows_done - rows_before) / (time.monotonic() - start) or rate
                queue = queue[len(wave) :]
    return queue


def _waiting(publisher: Publisher, days: Sequence[Day]) -> list[str]:
    """Partitions with missing units, day by day in the given order."""
    waiting, partitions = set(publisher.waiting), list[str]()
    for day in days:
        partitions += [name for name in day.partitions if name in waiting]
    return partitions


def _next_wave(queue: Sequence[Day], rate: float | None, num_replicas: int, deadline: float | None) -> list[Day]:
    """The next days: few units at first, about an hour of work once the rate (documents/s) is known.

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
            too_much = bool(wave) and units > _FIRST_WAVE_UNITS * num_replicas
        else:
            too_much = rows / rate > (_WAVE_SECONDS if wave else float("inf"))
            too_much = too_much or (left is not None and rows / rate > left)
        if too_much:
            break
        wave.append(day)
    return wave


def _days(plan: Plan, dates: Sequence[date], config: JobConfig) -> list[Day]:
    days = [Day(day) for day in dates]
    open_partitions = set(plan.open_partitions)
    old = {partition_of(entry.file.name) for entry in plan.superseded}
    by_place: dict[str, Day] = {}
    for day in days:
        scope = Scope((directory(day.day, config.days),))
        by_place |= {
            place: day for place in plan.partitions | open_partitions if place not in by_place and scope.holds(place)
        }
    for place, day in sorted(by_place.items()):
        day.partitions.append(place)
    for name, unit in plan.units.items():
        day, missing = by_place[unit.partition], name not in plan.done
        day.rows += unit.num_rows
        day.rows_left += unit.num_rows * missing
        day.units_left += missing
    for day in days:
        day.to_publish = [name for name in day.partitions if name in open_partitions]
        day.state = _state(day, old)
    return days


def _state(day: Day, old: set[str]) -> str:
    if not day.partitions:
        return "no input"
    if not day.to_publish:
        return "done"
    if old & set(day.partitions):
        return "old"
    return "partly" if day.rows_left < day.rows or day.to_publish != day.partitions else "to do"


def _within(days: Sequence[Day], max_documents: int | None) -> list[Day]:
    """The first days that the budget allows, whole: a day is never left half done on purpose."""
    if max_documents is None:
        return list(days)
    chosen: list[Day] = []
    for day in days:
        if sum(other.rows_left for other in chosen) + day.rows_left > max_documents:
            break
        chosen.append(day)
    if not chosen:
        raise ConfigError(
            f"--max-documents {max_documents:,} is less than the {days[0].rows_left:,} documents of the next day, "
            f"{days[0].day}; days are done whole"
        )
    return chosen


def _finish(
    publisher: Publisher,
    days: Sequence[Day],
    *,
    to_do: Sequence[Day],
    left: Sequence[Day],
    arguments: argparse.Namespace,
) -> int:
    for day in to_do:
        if set(day.to_publish) <= publisher.published.keys():
            day.state = "done"
        elif publisher.failures.keys() & set(day.partitions):
            day.state = "failed"
    _show_calendar(days)
    console.print(
        f"backfill {days[0].day} to {days[-1].day}: {len(publisher.published):,} partition(s) published now with "
        f"{publisher.counts.rows:,} rows, {publisher.rows_made:,} of them made now; {_count(days, 'done'):,} days "
        f"done, {len(left):,} to go",
        soft_wrap=True,
    )
    publisher.refuse_failures()
    if left:
        budget = f"--max-documents {arguments.max_documents}" if arguments.max_documents is not None else ""
        hours = f"--max-hours {arguments.max_hours:g}" if arguments.max_hours is not None else ""
        raise IncompleteError(
            f"stopped at the budget ({' '.join(filter(None, (budget, hours)))}); the same command goes on"
        )
    return 0


def _show_plan(
    run: Run,
    plan: Plan,
    days: Sequence[Day],
    to_do: Sequence[Day],
    arguments: argparse.Namespace,
    config: JobConfig,
) -> None:
    from jobs.measuring.estimate import CAVEAT, measure

    _show_calendar(days)
    rows_left, units_left = sum(day.rows_left for day in to_do), sum(day.units_left for day in to_do)
    console.print(f"to do: {len(to_do):,} days, {units_left:,} units, {rows_left:,} documents; output {run.output}")
    for path, reason in plan.problems.items():
        console.print(f"not usable: {mask(path)}: {reason}", soft_wrap=True)
    if plan.retained:
        console.print(say_retained(plan), soft_wrap=True)
    if plan.superseded:
        console.print(f"superseded: {len(plan.superseded):,} files; needs --on-existing replace")
    if rows_left:
        rate = measure(plan, run.source, arguments.model, config)
        seconds = rows_left / rate.documents_per_second
        count = config.resources.replicas or 1
        line = f"estimated: {format_seconds(seconds)} of one replica on {rate.device} ({rate})"
        line += f"; {format_seconds(seconds / count)} with {count} of them" if count > 1 else ""
        if arguments.price_per_hour is not None:
            price = arguments.price_per_hour
            cost = seconds / 3600 * price
            line += f"; cost {f'{cost:,.2f}' if cost >= 0.01 else 'below 0.01'} at {price:g} a replica-hour"
        console.print(f"{line}. {CAVEAT}", soft_wrap=True)


def _show_calendar(days: Sequence[Day]) -> None:
    marks = _MARKS if is_unicode(console.encoding) else _PLAIN_MARKS
    for line in calendar({day.day: day.state for day in days}, marks):
        console.print(line)
    used = [state for state in marks if _count(days, state)]
    console.print("  ".join(f"{marks[state]} {_LEGEND.get(state, state)} {_count(days, state):,}" for state in used))


def _count(days: Sequence[Day], state: str) -> int:
    return sum(day.state == state for day in days)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum backfill",
        description="Summarize the partitions of many days; each is published as soon as it is complete.",
        epilog="exit codes: 0 all days done, 1 failed or stopped at the budget (the same command goes on), 2 wrong",
    )
    add_summarize_options(options, limit=False)
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
