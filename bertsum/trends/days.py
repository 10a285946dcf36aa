"""The day of a row: by the name of its partition, or by a column."""

import re
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

_DAY = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_PARTS = (r"\d{4}", r"\d{1,2}", r"\d{1,2}")  # of year=2026/month=11/day=22


def partition_values(partition: str) -> dict[str, str]:
    """`region=eu/dt=2026-11-22` -> values by key; a directory without a key has none."""
    values: dict[str, str] = {}
    for part in partition.split("/"):
        key, separator, value = part.partition("=")
        if separator:
            values[key] = value
    return values


def day_of_partition(partition: str, key: str | None) -> date | None:
    """The day in the name of a partition, or in the value of its `key`; None where there is none.

    Without a key: a directory like `dt=2026-11-22`, `20261122`, or `year=2026/month=11/day=22`.
    """
    if key is not None:
        return parse_day(partition_values(partition).get(key, ""))
    values = [part.rpartition("=")[2] for part in partition.split("/")]
    for value in values:
        if (day := parse_day(value)) is not None:
            return day
    for first in range(len(values) - 2):
        three = values[first : first + 3]
        if all(map(re.fullmatch, _PARTS, three)):
            year, month, of_month = three
            return parse_day(f"{year}-{month:0>2}-{of_month:0>2}")
    return None


def parse_day(text: str) -> date | None:
    """`2026-11-22` or `20261122`, also with a time behind it; None for anything else."""
    match = _DAY.match(text)
    if match is None or text[match.end() : match.end() + 1].isdigit():
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:  # the 31st of November
        return None


def is_time(data_type: pa.DataType) -> bool:
    """Whether a column of this type can tell days without being looked at."""
    return bool(pt.is_date(data_type) or pt.is_timestamp(data_type))


def days_of_column(column: pa.Array, time_zone: str) -> pa.Array:
    """Days (date32) of dates, times or texts; null where there is none.

    Times with a zone are those of days in `time_zone`; times without one are taken as they are.
    Raises ValueError for a type that tells no day.
    """
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pt.is_date(column.type):
        return column.cast(pa.date32(), safe=False)
    if pt.is_timestamp(column.type):
        if column.type.tz is not None:
            column = pc.local_timestamp(column.cast(pa.timestamp(column.type.unit, time_zone)))
        return column.cast(pa.date32(), safe=False)
    if pt.is_string(column.type) or pt.is_large_string(column.type):
        distinct = column.unique()
        texts = distinct.to_pylist()
        parsed = [None if text is None else parse_day(text) for text in texts]
        days = pa.array(parsed, pa.date32())
        return days.take(pc.index_in(column, distinct))
    raise ValueError(f"a column of {column.type} tells no day")
