"""Days and the directories that hold them."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bertsum.config import DaysConfig
from bertsum.errors import ConfigError
from bertsum.runs.partitions import Scope

_FIRST_DAY, _LAST_DAY = date(2005, 1, 1), date(2044, 12, 31)


def parse_day(text: str) -> date:
    """`2026-11-22`; raises ConfigError for anything else."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a day; write it like 2026-11-22") from error
    if day == date.max:  # whose directory is compared with that of the day after
        raise ConfigError(f"{text} is the last day that a calendar here has; nothing is partitioned by it")
    return day


def yesterday(config: DaysConfig) -> date:
    """The day before today, in the configured time zone."""
    try:
        zone = ZoneInfo(config.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"time zone {config.time_zone!r} is not known here; give an IANA name like Europe/Berlin (the package "
            "tzdata brings them where the system has none)"
        ) from error
    return datetime.now(zone).date() - timedelta(days=1)


def directory(day: date, config: DaysConfig) -> str:
    """Where the day lies below INPUT. Raises ConfigError for a place elsewhere, or when two days have one directory."""
    if same := _same_directory(config.partition):
        first, second = same
        raise ConfigError(
            f"days.partition {config.partition!r} gives {first} and {second} the same directory, "
            f"{first.strftime(config.partition)!r}; it needs codes for year, month and day, like dt=%Y-%m-%d"
        )
    (name,) = Scope((day.strftime(config.partition),)).patterns
    return name


@lru_cache(maxsize=8)
def _same_directory(partition: str) -> tuple[date, date] | None:
    """Two days that `partition` (strftime codes) does not tell apart, or None.

    The calendar repeats its leap years and weekdays after 28 years, so what differs over 40 years
    is a layout of days.
    """
    days_by_name: dict[str, date] = {}
    for number in range(_FIRST_DAY.toordinal(), _LAST_DAY.toordinal() + 1):
        day = date.fromordinal(number)
        earlier = days_by_name.setdefault(day.strftime(partition), day)
        if earlier != day:
            return earlier, day
    return None


def days_between(first: date, last: date) -> list[date]:
    """Both included. Raises ConfigError when `last` comes before `first`."""
    if last < first:
        raise ConfigError(f"--from {first} lies after --to {last}")
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def calendar(states: Mapping[date, str], marks: Mapping[str, str]) -> list[str]:
    """A line a week, a block a month, one mark a day; days without a state stay empty."""
    lines: list[str] = []
    month = None
    for first in sorted({day - timedelta(days=day.weekday()) for day in states}):
        week = [first + timedelta(days=i) for i in range(7)]
        for part in sorted({(day.year, day.month) for day in week if day in states}):
            cells = [marks[states[d]] if d in states and (d.year, d.month) == part else " " for d in week]
            if not any(cell.strip() for cell in cells):
                continue
            name = "" if part == month else f"{part[0]}-{part[1]:02d}"
            if name:
                lines.append(f"{name}    Mo Tu We Th Fr Sa Su")
            month = part
            days = [d.day for d in week if d in states and (d.year, d.month) == part]
            lines.append(f"{days[0]:>4}-{days[-1]:<4}  " + "  ".join(cells))
    return [line.rstrip() for line in lines]


def scope_of(days: list[date], config: DaysConfig) -> Scope:
    """The partitions of these days, and all below them."""
    return Scope(tuple(directory(day, config) for day in days))
