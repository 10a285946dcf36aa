"""Counts of the rows of one file of results, by day, group and sentiment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from bertsum.errors import ConfigError
from bertsum.reports.result import Result
from bertsum.runs.input import reading
from bertsum.runs.partitions import partition_of
from bertsum.schema import is_binary, is_list
from bertsum.storage.folder import mask
from bertsum.trends.config import TrendsConfig
from bertsum.trends.days import day_of_partition, days_of_column, is_time, partition_values
from bertsum.trends.series import ALL_ROWS

_BATCH_ROWS = 8192

COUNTS = pa.schema(
    [
        pa.field("day", pa.date32()),
        pa.field("column", pa.string()),
        pa.field("value", pa.string()),
        pa.field("label", pa.string()),
        pa.field("rows", pa.int64()),
    ]
)
"""Rows by day, group and sentiment. No day: the row has none. No label: it has no sentiment."""

_NAMES = ("target", "text")  # fields of the entries of targets, and of aspects and keywords
_SENTIMENT = "sentiment"


@dataclass(frozen=True, slots=True)
class _Rows:
    """A day, a value and a label for each row, or for each entry of a list. Null: none."""

    days: pa.Array
    values: pa.Array
    labels: pa.Array


def count_file(result: Result, name: str, config: TrendsConfig) -> pa.Table:
    """Counts (COUNTS) of a file, which is in memory as one batch at most.

    Raises ConfigError where it has no day or none of the columns, InputError for a damaged one.
    """
    partition = partition_of(name)
    keys = partition_values(partition)
    day = day_of_partition(partition, config.time)
    parts: list[pa.Table] = []
    with reading(result.output, name), result.output.open(name) as stream:
        parquet = pq.ParquetFile(stream, pre_buffer=False)
        names = _Names(result, parquet.schema_arrow, keys, config)
        if day is None:
            names.check_time(f"{result.output}/{mask(name)}")
        leaves = [parquet.schema.column(i).path for i in range(len(parquet.schema.names))]
        columns = names.needed(leaves, with_time=day is None)
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            for column, rows in _groups(batch, names, day):
                parts.append(_count(column, rows))
    if not parts:
        return COUNTS.empty_table()
    return add_counts(pa.concat_tables(parts))


def add_counts(table: pa.Table) -> pa.Table:
    """The same counts with one row for each day, group and label."""
    keys = ["day", "column", "value", "label"]
    added = table.group_by(keys, use_threads=False).aggregate([("rows", "sum")])
    return added.rename_columns([*keys, "rows"]).cast(COUNTS)


class _Names:
    """Which columns of a file say what.

    - `keys`: values of the partition by key
    - `groups`: the file's column by the name that was given; of a key of the partition, None
    """

    def __init__(
        self, result: Result, schema: pa.Schema, keys: Mapping[str, str], config: TrendsConfig
    ) -> None:
        self.schema, self.keys, self.config = schema, keys, config
        rename = result.config.output.name_of
        self.label = rename(_SENTIMENT) if rename(_SENTIMENT) in schema.names else None
        self.groups: dict[str, str | None] = {}
        for name in config.by:
            if name in schema.names or rename(name) in schema.names:
                self.groups[name] = name if name in schema.names else rename(name)
            elif name in keys:
                self.groups[name] = None

    def check_time(self, file: str) -> None:
        """Raise ConfigError unless a column tells the day."""
        time = self.config.time
        found = [field.name for field in self.schema if is_time(field.type)]
        known = f"columns with dates: {', '.join(found)}" if found else "no column has dates"
        if time is None:
            raise ConfigError(
                f"the partition of {file} names no day; give the column of the day with --time "
                f"({known})"
            )
        if time not in self.schema.names:
            raise ConfigError(
                f"--time {time!r}: {file} has no such column, and no such key in the names of its "
                f"directories ({known})"
            )

    def needed(self, leaves: Sequence[str], *, with_time: bool) -> list[str]:
        """Paths of the columns to read: of lists of structs, the fields that are counted alone.

        `leaves`: the paths that the file has.
        """
        wanted = {name for name in (self.label, *self.groups.values()) if name is not None}
        if with_time and self.config.time is not None:
            wanted.add(self.config.time)
        paths: list[str] = []
        for column in sorted(wanted):
            kind = self.schema.field(column).type
            if not (is_list(kind) and pt.is_struct(kind.value_type)):
                paths.append(column)
                continue
            inside = [leaf for leaf in leaves if leaf.startswith(f"{column}.")]
            fields = (*_NAMES, _SENTIMENT)
            # one at least is read, so that its rows say what is wrong with it
            paths += [leaf for leaf in inside if leaf.rpartition(".")[2] in fields] or inside[:1]
        return paths


def _groups(batch: pa.RecordBatch, names: _Names, day: date | None) -> Iterator[tuple[str, _Rows]]:
    """Rows of each column of groups; the first is of all rows."""
    size = batch.num_rows
    if day is not None:
        days = pa.repeat(pa.scalar(day, pa.date32()), size)
    else:
        time = names.config.time
        assert time is not None  # see `check_time`
        try:
            days = days_of_column(batch[time], names.config.time_zone)
        except ValueError as error:
            raise ConfigError(f"--time {time!r}: {error}; dates, times and texts do") from error
    labels = pa.nulls(size, pa.string())
    if names.label is not None:
        labels = batch[names.label].cast(pa.string())
    yield ALL_ROWS.column, _Rows(days, pa.repeat(ALL_ROWS.value, size), labels)
    for name, column in names.groups.items():
        if column is None:
            values = pa.repeat(names.keys[name], size)
            yield name, _Rows(days, values, labels)
        else:
            yield name, _exploded(name, batch[column], _Rows(days, labels, labels))


def _exploded(name: str, column: pa.Array, rows: _Rows) -> _Rows:
    """A value for each row, or for each entry of its list, which may have its own sentiment."""
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    days, labels = rows.days, rows.labels
    if is_list(column.type):
        parents = pc.list_parent_indices(column)
        days, labels, column = days.take(parents), labels.take(parents), pc.list_flatten(column)
    if pt.is_struct(column.type):
        fields = [column.type.field(i).name for i in range(column.type.num_fields)]
        text = next((field for field in _NAMES if field in fields), None)
        if text is None:
            raise ConfigError(f"--by {name!r}: its entries have no field {' or '.join(_NAMES)}")
        if _SENTIMENT in fields:
            labels = pc.struct_field(column, _SENTIMENT).cast(pa.string())
        column = pc.struct_field(column, text)
        if text == "text":  # as documents write it, also at the start of a sentence
            column = pc.utf8_lower(column)
    try:
        if is_binary(column.type):  # a kept column of bytes, which may not be UTF-8
            texts: list[str | None] = []
            for value in column.to_pylist():
                texts.append(None if value is None else value.decode("utf-8", "replace"))
            values = pa.array(texts, pa.string())
        else:
            values = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(f"--by {name!r}: {column.type} is no value of a group") from error
    return _Rows(days, values, labels)


def _count(column: str, rows: _Rows) -> pa.Table:
    """Counts of one batch and column; rows without a value are in no group."""
    table = pa.table({"day": rows.days, "value": rows.values, "label": rows.labels})
    table = table.filter(pc.is_valid(table["value"]))
    counted = table.group_by(["day", "value", "label"], use_threads=False).aggregate(
        [([], "count_all")]
    )
    columns = {
        "day": counted["day"],
        "column": pa.repeat(column, counted.num_rows),
        "value": counted["value"],
        "label": counted["label"],
        "rows": counted["count_all"],
    }
    return pa.table(columns).cast(COUNTS)
