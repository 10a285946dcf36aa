"""The mean vector of each user's texts, as a file of queries that have their vectors already."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.errors import InputError
from bertsum.matching.config import EMBEDDING, ERROR, STATUS, TOKENS, MatchConfig
from bertsum.runs.input import reading
from bertsum.schema import Status, is_list
from bertsum.storage.folder import Folder

_ROW_GROUP_ROWS = 1000
_DAY_MICROSECONDS = 86_400 * 10**6


@dataclass(slots=True)
class _User:
    """What is known of a user so far.

    - `total`: [H] the weighted sum of the vectors; None while no text counts
    - `newest`: day of the newest text, as a number; ages count from it
    - `seen`: ids, in the order of their first appearance
    """

    total: npt.NDArray[np.float64] | None = None
    newest: float | None = None
    seen: dict[Any, None] = field(default_factory=dict)
    num_tokens: int = 0

    def add(
        self, vector: npt.NDArray[np.float64], weight: float, day: float | None, half_life: float
    ) -> None:
        """Take in a text's vector; `half_life`: in days."""
        if self.total is None:
            self.total = np.zeros_like(vector)
        if day is not None:
            # Ages count from the newest text, so that no power of 2 leaves the range of numbers.
            # Two days after the newest one so far and a half-life of one: the sum counts a quarter.
            newest = day if self.newest is None else self.newest
            if day > newest:
                self.total *= 0.5 ** ((day - newest) / half_life)
            else:
                weight *= 0.5 ** ((newest - day) / half_life)
            self.newest = max(day, newest)
        self.total += weight * vector

    def vector(self) -> npt.NDArray[np.float16] | None:
        """The mean's direction: a vector of length 1, None where no text counts."""
        length = 0.0 if self.total is None else float(np.linalg.norm(self.total))
        return None if self.total is None or not length else (self.total / length).astype("f2")


def write_users(texts: Folder, names: Sequence[str], users: Folder, config: MatchConfig) -> str:
    """Write a row for each user of the encoded texts into `users`; returns the file's name.

    A file that is there is not written again. With `equal_columns` a user has a row for each of
    their values. Memory grows with the number of users: 8 bytes a feature, and the ids seen.

    Raises InputError for a weight below 0.
    """
    # names say what is in the files
    identity = json.dumps([list(names), config.model_dump(mode="json")])
    name = f"users-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.parquet"
    if users.info(name) is None:
        sink = pa.BufferOutputStream()
        pq.write_table(
            _average(texts, names, config), sink, row_group_size=_ROW_GROUP_ROWS, compression="zstd"
        )
        users.create_exclusive(name, memoryview(sink.getvalue()))
        for other in users.list_names():
            if other != name:
                users.remove(other)
    return name


def _average(texts: Folder, names: Sequence[str], config: MatchConfig) -> pa.Table:
    """One row a user, in the order of their first texts."""
    keys = list(dict.fromkeys([str(config.user_column), *config.equal_columns]))
    users: dict[tuple[object, ...], _User] = {}
    schema: pa.Schema | None = None
    for name in names:
        with reading(texts, name), texts.open(name) as stream:
            for batch in pq.ParquetFile(stream, pre_buffer=False).iter_batches(_ROW_GROUP_ROWS):
                schema = batch.schema
                _add(users, batch, keys, config)
    if schema is None:
        raise InputError(f"{texts} holds no texts")
    columns = {}
    for number, key in enumerate(keys):
        columns[key] = pa.array([values[number] for values in users], schema.field(key).type)
    if config.seen_column is not None and config.seen_column not in columns:
        data_type = schema.field(config.seen_column).type
        data_type = data_type if is_list(data_type) else pa.list_(data_type)
        columns[config.seen_column] = pa.array(
            [list(user.seen) for user in users.values()], data_type
        )
    vectors = [user.vector() for user in users.values()]
    statuses = [Status.EMPTY if vector is None else Status.OK for vector in vectors]
    columns[EMBEDDING] = pa.array(vectors, schema.field(EMBEDDING).type)
    columns[STATUS] = pa.array(map(str, statuses), pa.string())
    columns[ERROR] = pa.nulls(len(users), pa.string())
    columns[TOKENS] = pa.array([user.num_tokens for user in users.values()], pa.int32())
    fields = [pa.field(name, column.type, name not in (STATUS, TOKENS))
              for name, column in columns.items()]  # fmt: skip
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _add(
    users: dict[tuple[object, ...], _User],
    batch: pa.RecordBatch,
    keys: Sequence[str],
    config: MatchConfig,
) -> None:
    """Take in some encoded texts."""
    vectors = batch.column(EMBEDDING).to_pylist()
    weights: list[float | None] = [1.0] * batch.num_rows
    if config.weight_column is not None:
        weights = batch.column(config.weight_column).cast(pa.float64()).to_pylist()
    microseconds: list[int | None] = [None] * batch.num_rows  # since 1970
    if config.time_column is not None:
        times = batch.column(config.time_column).cast(pa.timestamp("us"), safe=False)
        microseconds = times.cast(pa.int64()).to_pylist()
    seen = batch.column(config.seen_column).to_pylist() if config.seen_column else None
    tokens = batch.column(TOKENS).to_pylist()
    for row, key in enumerate(zip(*(batch.column(name).to_pylist() for name in keys), strict=True)):
        user = users.setdefault(key, _User())
        user.num_tokens += tokens[row]
        if seen is not None and seen[row] is not None:
            ids = seen[row] if isinstance(seen[row], list) else [seen[row]]
            user.seen |= dict.fromkeys(ids)
        weight, time = weights[row], microseconds[row]
        has_time = config.time_column is None or time is not None
        if vectors[row] is None or weight is None or not has_time:
            continue
        if not 0 <= weight < float("inf"):  # false for nan, too
            raise InputError(
                f"the column {config.weight_column!r} (match.weight_column) holds {weight}; finite "
                "numbers of at least 0 are expected"
            )
        vector = np.array(vectors[row], np.float64)
        day = None if time is None else time / _DAY_MICROSECONDS
        user.add(vector, weight, day, config.half_life_days or 1.0)
