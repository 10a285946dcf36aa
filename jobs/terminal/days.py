"""Days and the directories that hold them."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bertsum.errors import ConfigError
from bertsum.job_config import DaysConfig
from bertsum.runs.partitions import Scope

# 40 years: the calendar repeats its leap years and weekdays after 28.
_FIRST_DAY, _LAST_DAY = date(2005, 1, 1), date(2044, 12, 31)


def parse_day(text: str) -> date:
    """Parse `2026-11-22`. Raises ConfigError for anything else."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a day; write it like 2026-11-22") from error
    if day == date.max:  # whose directory is compared with that of the day after
        raise ConfigError(
            f"{text} is the last day that a calendar here has; nothing is partitioned by it"
        )
    return day


def yesterday(config: DaysConfig) -> date:
    """The day before today, in the configured time zone. Raises ConfigError for an unknown one."""
    try:
        zone = ZoneInfo(config.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"time zone {config.time_zone!r} is not known here; give an IANA name like "
            "Europe/Berlin (the package tzdata brings them where the system has none)"
        ) from error
    return datetime.now(zone).date() - timedelta(days=1)


def directory(day: date, config: DaysConfig) -> str:
    """The directory of the day below INPUT.

    Raises ConfigError for one outside of INPUT, or when two days have the same directory.
    """
    if same := _same_directory(config.partition):
        first, second = same
        raise ConfigError(
            f"days.partition {config.partition!r} gives {first} and {second} the same directory, "
            f"{first.strftime(config.partition)!r}; it needs codes for year, month and "
            "day, like dt=%Y-%m-%d"
        )
    # A Scope refuses what leads out of INPUT, and gives a directory its one spelling.
    (name,) = Scope((day.strftime(config.partition),)).patterns
    return name


@lru_cache(maxsize=8)
def _same_directory(partition: str) -> tuple[date, date] | None:
    """Two days that `partition` (strftime codes) does not tell apart, or None.

    What differs for each day of 40 years is a layout of days: years of every kind are among them.
    """
    days_by_name: dict[str, date] = {}
    for number in range(_FIRST_DAY.toordinal(), _LAST_DAY.toordinal() + 1):
        day = date.fromordinal(number)
        earlier = days_by_name.setdefault(day.strftime(partition), day)
        if earlier != day:
            return earlier, day
    return None


def days_between(first: date, last: date) -> list[date]:
    """The days from `first` to `last`, both included.

    Raises ConfigError when `last` comes before `first`.
    """
    if last < first:  # most likely swapped; a range of no days would look like "nothing to do"
        raise ConfigError(f"--from {first} lies after --to {last}")
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def calendar(states: Mapping[date, str], marks: Mapping[str, str]) -> list[str]:
    """Lines of text: one a week, a block a month, one mark a day.

    - `states`: the state of each day; other days stay empty.
    - `marks`: the mark of each state, one character.
    """
    lines: list[str] = []
    last_month = None
    for monday in sorted({day - timedelta(days=day.weekday()) for day in states}):
        week = [monday + timedelta(days=i) for i in range(7)]
        # A week in which a month ends is two lines: one in each block.
        months = sorted({(day.year, day.month) for day in week if day in states})
        for year, month in months:
            cells, days = [], []
            for day in week:
                is_shown = day in states and (day.year, day.month) == (year, month)
                cells.append(marks[states[day]] if is_shown else " ")
                if is_shown:
                    days.append(day.day)
            if (year, month) != last_month:
                lines.append(f"{year}-{month:02d}    Mo Tu We Th Fr Sa Su")
                last_month = (year, month)
            line = f"{days[0]:>4}-{days[-1]:<4}  " + "  ".join(cells)
            lines.append(line.rstrip())
    return lines


def scope_of(days: list[date], config: DaysConfig) -> Scope:
    """The partitions of these days, and all below them."""
    return Scope(tuple(directory(day, config) for day in days))
