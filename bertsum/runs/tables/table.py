"""OUTPUT as one table of a lake format: what a partition holds changes by one atomic commit.

The table points at the files that the units wrote; no row is copied. A commit is a set difference:
what the table should hold of a partition, minus what it holds. So a commit that is tried again, by
the same driver or by another one, has nothing left to do, and of two writers the second one looks
again before it writes.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Protocol, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.types as pt

from bertsum.errors import BertsumError, InputError, OutputError
from bertsum.runs.partitions import partition_of
from bertsum.runs.records import FileRecord
from bertsum.schema import fold
from bertsum.storage.folder import describe

Values = tuple[str | None, ...]
T = TypeVar("T")
_ATTEMPTS = 20  # which wait some 18 s in all
_WAIT_SECONDS = 0.2
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # how Hive and Spark write a null into a directory's name


class ConflictError(Exception):
    """Somebody else committed between our look at the table and our commit; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does: files by their name in OUTPUT, with the values of their partition."""

    add: Mapping[str, tuple[Values, FileRecord]]
    remove: Mapping[str, Values]  # by the name that `files` gave


class Backend(Protocol):
    """One table format."""

    def schema(self) -> pa.Schema | None:
        """Columns with the types of Arrow, partition keys too; None when there is no table yet."""

    def keys(self) -> list[str]:
        """Partition keys of the table that the last look saw, in order."""

    def create(self, schema: pa.Schema, keys: Sequence[str]) -> None:
        """Make the table. Raises ConflictError when somebody else just did."""

    def add_columns(self, fields: Sequence[pa.Field]) -> None:
        """Add columns that new files have and old ones do not, to what `schema` saw.

        Raises ConflictError.
        """

    def files(self) -> dict[str, Values]:
        """Files that the table holds now, by name in OUTPUT (by URI when they lie elsewhere)."""

    def commit(self, change: Change, note: Mapping[str, str]) -> None:
        """All of it or nothing, on top of what `files` saw. Raises ConflictError."""


class Lake:
    """A table, whatever its format."""

    def __init__(self, backend: Backend, uri: str, file_bytes: int) -> None:
        """`uri`: for messages; `file_bytes`: how big the files should be."""
        self._backend, self._uri, self.file_bytes = backend, uri, file_bytes

    def prepare(self, schemas: Iterable[pa.Schema], partitions: Iterable[str]) -> None:
        """Create the table, or make sure that it takes files of these schemas and partitions.

        Called before any work. Raises InputError when a column or partition does not fit, and
        OutputError as `publish` does.
        """
        wanted: dict[str, pa.DataType] = {}  # a column that is missing in some files is null there
        for file_schema in schemas:
            of_file = {field.name: table_type(field.name, field.type) for field in file_schema}
            _refuse_clashes(of_file, wanted)
            wanted |= of_file
        keys, dates = _partition_keys(partitions)
        for key in keys:
            wanted[key] = pa.date32() if key in dates else pa.string()
        _refuse_other_case(wanted)

        def attempt() -> None:
            schema = self._backend.schema()
            if schema is None:
                self._backend.create(pa.schema(list(wanted.items())), keys)
                return
            if self._backend.keys() != keys:
                raise InputError(
                    f"the table is partitioned by {self._backend.keys()}, but the files by {keys}"
                )
            types = {field.name: table_type(field.name, field.type) for field in schema}
            _refuse_clashes(wanted, types)
            new = [name for name in wanted if name not in types]
            _refuse_other_case([*types, *new])
            if new:
                self._backend.add_columns([pa.field(name, wanted[name]) for name in new])

        with self._reporting("prepare"):
            until_alone(attempt)

    def behind(self, names: Iterable[str], partitions: Iterable[str]) -> set[str]:
        """Partitions whose content in the table is not exactly these files."""
        partitions = list(partitions)
        add, remove = self._difference(names, partitions)
        wrong = {*add.values(), *remove.values()}
        return {partition for partition in partitions if values_of(partition) in wrong}

    def holds(self, names: Iterable[str]) -> set[str]:
        """Which of these files are in the table now."""
        names = set(names)
        if not names:
            return names
        with self._reporting("read"):
            return names & self._backend.files().keys()

    def publish(
        self, records: Mapping[str, FileRecord], partitions: Sequence[str], note: Mapping[str, str]
    ) -> bool:
        """Make the table hold exactly these files of these partitions, by one commit.

        False when it did already.

        Raises OutputError when other writers come first again and again.
        """

        def attempt() -> bool:
            add, remove = self._difference(records, partitions)
            if not add and not remove:
                return False
            added = {name: (add[name], records[name]) for name in add}
            with self._reporting("change"):
                self._backend.commit(Change(added, remove), note)
            return True

        return until_alone(attempt)

    def _difference(
        self, names: Iterable[str], partitions: Iterable[str]
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        """What the table lacks and what it has too much, of these partitions."""
        wanted = {name: values_of(partition_of(name)) for name in names}
        with self._reporting("read"):
            present = self._backend.files()
        # other partitions are for other runs, which may be at work on them now
        chosen = set(map(values_of, partitions))
        add: dict[str, Values] = {}
        for name, values in wanted.items():
            if values in chosen and present.get(name) != values:
                add[name] = values
        remove: dict[str, Values] = {}
        for name, values in present.items():
            if values in chosen and name not in wanted:
                remove[name] = values
        return add, remove

    @contextmanager
    def _reporting(self, verb: str) -> Iterator[None]:
        """Make an OutputError of the many kinds that table formats, catalogs and stores raise."""
        try:
            yield
        # the first two say what to do already; the last is a defect of ours
        except (BertsumError, ConflictError, AssertionError):
            raise
        except Exception as error:
            raise OutputError(
                f"cannot {verb} the table in {self._uri}: {describe(error)}"
            ) from error


def until_alone(step: Callable[[], T]) -> T:
    """What `step` returns. On ConflictError it is tried again, a moment later.

    `step` must look at the table anew before it changes anything.

    Raises OutputError when others come first again and again.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return step()
        except ConflictError:
            # at random, so that two writers do not meet again; longer from try to try
            time.sleep(_WAIT_SECONDS * random.uniform(0.5, 1.5) * min(attempt + 1, 5))
    raise OutputError(
        f"other writers changed the table {_ATTEMPTS} times while this one wanted to; run again"
    )


def values_of(partition: str) -> Values:
    """`dt=2026-11-22/lang=a%2Fb` -> ("2026-11-22", "a/b")."""
    values: list[str | None] = []
    for part in filter(None, partition.split("/")):
        value = unquote(part.partition("=")[2])
        values.append(None if value == _NO_VALUE else value)
    return tuple(values)


def table_type(name: str, data_type: pa.DataType) -> pa.DataType:
    """The type that a table has for a column of files: the same, or the plain one of its kind.

    Raises InputError for what neither Iceberg nor Delta has.
    """
    if pt.is_dictionary(data_type):
        return table_type(name, data_type.value_type)
    if pt.is_string(data_type) or pt.is_large_string(data_type) or pt.is_string_view(data_type):
        return pa.string()
    if pt.is_binary(data_type) or pt.is_large_binary(data_type) or pt.is_binary_view(data_type):
        return pa.binary()
    # Iceberg has no integers of 8 and 16 bits, and neither format has them without a sign
    if pt.is_signed_integer(data_type):
        return pa.int64() if data_type.bit_width == 64 else pa.int32()
    if (
        pt.is_boolean(data_type)
        or pt.is_float32(data_type)
        or pt.is_float64(data_type)
        or pt.is_date32(data_type)
    ):
        return data_type
    if pt.is_decimal128(data_type):
        return data_type
    # both have microseconds; of nanoseconds they would lose digits
    if pt.is_timestamp(data_type) and data_type.unit != "ns":
        return pa.timestamp("us", "UTC" if data_type.tz else None)
    if pt.is_list(data_type) or pt.is_large_list(data_type):
        return pa.list_(table_type(name, data_type.value_type))
    if pt.is_map(data_type):
        return pa.map_(table_type(name, data_type.key_type), table_type(name, data_type.item_type))
    if pt.is_struct(data_type):
        return pa.struct([(field.name, table_type(name, field.type)) for field in data_type])
    raise InputError(
        f"column {name!r} is {data_type}, which Iceberg and Delta tables do not have; convert it "
        "in the input, or leave it out with summarizer.keep_columns"
    )


def _refuse_clashes(wanted: Mapping[str, pa.DataType], types: Mapping[str, pa.DataType]) -> None:
    for name, kind in wanted.items():
        if types.get(name, kind) != kind:
            raise InputError(
                f"column {name!r} is {kind} in the files to come, but {types[name]} in the table "
                "or in other files; a table has one type for a column. Convert it in the input, or "
                "leave it out with summarizer.keep_columns"
            )


def _refuse_other_case(names: Sequence[str] | Mapping[str, pa.DataType]) -> None:
    """Raise InputError for names that differ in case alone.

    Delta makes no table of them, and readers of Iceberg cannot tell them apart.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(fold(name), name)) != name:
            raise InputError(
                f"the columns {other!r} and {name!r} differ in case alone, which a table cannot "
                "hold; leave one out with summarizer.keep_columns, or rename it in the input"
            )


def _partition_keys(partitions: Iterable[str]) -> tuple[list[str], set[str]]:
    """The keys, which must be those of all partitions, and which of them hold days only."""
    keys: list[str] | None = None
    no_dates: set[str] = set()
    for partition in partitions:
        parts = partition.split("/") if partition else []
        if any("=" not in part for part in parts):
            raise InputError(
                f"directory {partition!r} is no partition of a table; it must be like key=value"
            )
        names = [part.partition("=")[0] for part in parts]
        for name, value in zip(names, values_of(partition), strict=True):
            if not _is_date(value):
                no_dates.add(name)
        keys = names if keys is None else keys
        if names != keys:
            raise InputError(
                f"partitions {keys} and {names} cannot be in one table: they have different keys"
            )
    return keys or [], set(keys or []) - no_dates


def _is_date(value: str | None) -> bool:
    if value is None:  # a null fits a column of dates, too
        return True
    try:
        # written back, since Python also reads `20261122` and `2026-W47-7`, and tables do not
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
