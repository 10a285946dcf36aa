"""The candidates of a match: their vectors and columns in a local file that is mapped into memory.

What is mapped counts as cache: the system takes it back where memory is short. The file has no
name any more once it is written, so that nothing is left of it when its process ends or is killed.
"""

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from bertsum.errors import InputError, OutputError
from bertsum.matching.config import EMBEDDING, MatchConfig
from bertsum.matching.top_k import Block, Indices
from bertsum.runs.input import reading
from bertsum.storage.folder import Folder, mask

BLOCK_ROWS = 65_536
_READ_ROWS = 5_000
_GROUP_COLUMN = "bertsum_group"  # number of the values in `equal_columns`


class Candidates:
    """Candidates in blocks, in the order of the files of `bertsum match`'s first run.

    - `blocks`: their vectors and groups
    """

    def __init__(self, folder: Folder, names: Sequence[str], config: MatchConfig) -> None:
        """Copy the candidates of these files, those without a vector left out.

        Raises InputError where files differ in the types of columns.
        """
        self._config = config
        self._numbers: dict[tuple[object, ...], int] = {}  # of groups, from 1
        wanted = [config.id_column, *config.candidate_columns, *config.equal_columns, EMBEDDING]
        tables = _read(folder, names, list(dict.fromkeys(wanted)))
        with tempfile.TemporaryFile() as file:
            _write(file, map(self._with_groups, _in_blocks(tables)))
            # what is mapped stays when the file is closed. Copies of pages that are written to
            # would be private: torch asks for an array like this
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        content = pa.py_buffer(mapped)
        reader = pa.ipc.open_file(pa.BufferReader(content))
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self.blocks: list[Block] = []
        first = 0
        for batch in self._batches:
            column = batch.column(EMBEDDING)
            num_features = column.type.list_size
            # a batch without rows has no place in the file
            offset = column.values.buffers()[1].address - content.address if len(batch) else 0
            vectors = np.frombuffer(mapped, np.float16, len(batch) * num_features, offset)
            groups = batch.column(_GROUP_COLUMN).to_numpy()
            self.blocks.append(Block(first, vectors.reshape(len(batch), num_features), groups))
            first += len(batch)
        self._starts = np.array([block.first for block in self.blocks], np.int64)

    def group_numbers(self, table: pa.Table) -> npt.NDArray[np.int32]:
        """[Q] numbers of the groups of queries: 0 without `equal_columns`, -1 for an unknown one."""
        if not self._config.equal_columns:
            return np.zeros(table.num_rows, np.int32)
        numbers = [self._numbers.get(values, -1) for values in self._values(table)]
        return np.array(numbers, np.int32)

    def positions(self, ids: pa.Array) -> Mapping[object, Indices]:
        """Indices of the candidates with each of these ids."""
        distinct = pc.unique(ids.drop_null())
        if not len(distinct):
            return {}
        values = distinct.to_pylist()
        wanted = _as_type(distinct, self._batches[0].column(self._config.id_column).type)
        rows: list[Indices] = []
        numbers: list[Indices] = []
        for block, batch in zip(self.blocks, self._batches, strict=True):
            column = batch.column(self._config.id_column)
            # each candidate's number among the ids, null for most of them
            numbers_here = pc.index_in(column, value_set=wanted, skip_nulls=True)
            here = np.flatnonzero(numbers_here.is_valid().to_numpy(zero_copy_only=False))
            rows.append(here + block.first)
            numbers.append(numbers_here.drop_null().to_numpy().astype(np.int64))
        all_rows, all_numbers = np.concatenate(rows), np.concatenate(numbers)
        order = np.argsort(all_numbers, kind="stable")
        borders = np.searchsorted(all_numbers[order], np.arange(len(values) + 1))
        by_id: dict[object, Indices] = {}
        for number, value in enumerate(values):
            by_id[value] = all_rows[order[borders[number] : borders[number + 1]]]
        return by_id

    def take(self, indices: Indices) -> pa.Table:
        """Id and `candidate_columns` of the candidates with these indices, in their order."""
        distinct, inverse = np.unique(indices, return_inverse=True)
        names = list(dict.fromkeys([self._config.id_column, *self._config.candidate_columns]))
        pieces = [self._batches[0].select(names).slice(0, 0)]
        numbers = np.searchsorted(self._starts, distinct, "right") - 1
        for number in np.unique(numbers):
            local = distinct[numbers == number] - self._starts[number]
            pieces.append(self._batches[number].select(names).take(pa.array(local)))
        return pa.Table.from_batches(pieces).take(pa.array(inverse))

    def _with_groups(self, table: pa.Table) -> pa.Table:
        numbers = np.zeros(table.num_rows, np.int32)
        if self._config.equal_columns:
            for row, values in enumerate(self._values(table)):
                known = self._numbers.setdefault(values, len(self._numbers) + 1)
                # -2 is no query's number: an empty value is equal to none
                numbers[row] = -2 if None in values else known
        return table.append_column(_GROUP_COLUMN, pa.array(numbers))

    def _values(self, table: pa.Table) -> Iterator[tuple[object, ...]]:
        """The values in `equal_columns`, row by row."""
        return zip(*(table[name].to_pylist() for name in self._config.equal_columns), strict=True)


def _read(folder: Folder, names: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Candidates with a vector, in the order of their files."""
    schema: pa.Schema | None = None
    for name in names:
        with reading(folder, name), folder.open(name) as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            for batch in file.iter_batches(_READ_ROWS, columns=list(columns)):
                table = pa.Table.from_batches([batch]).select(list(columns))
                table = table.replace_schema_metadata(None)
                schema = schema or table.schema
                if table.schema.types != schema.types:
                    raise InputError(
                        f"candidates in {folder}/{mask(name)} have other types of columns than "
                        f"those before: {table.schema.types} and not {schema.types}"
                    )
                yield table.filter(pc.is_valid(table[EMBEDDING])).cast(schema)
    if schema is None:
        raise OutputError(f"{folder} holds no candidates")


def _as_type(ids: pa.Array, data_type: pa.DataType) -> pa.Array:
    """The same ids as another type; null for those beyond its range, which no candidate has."""
    if not pt.is_integer(data_type):
        return ids.cast(data_type)
    limits = np.iinfo(data_type.to_pandas_dtype())
    values = ids.to_pylist()
    return pa.array([v if limits.min <= v <= limits.max else None for v in values], data_type)


def _in_blocks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of BLOCK_ROWS, the last one smaller; at least one table."""
    waiting: list[pa.Table] = []
    num_rows = 0
    for table in tables:
        waiting.append(table)
        num_rows += table.num_rows
        while num_rows >= BLOCK_ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, BLOCK_ROWS)
            waiting = [whole.slice(BLOCK_ROWS)]
            num_rows -= BLOCK_ROWS
    yield pa.concat_tables(waiting)


def _write(file: IO[bytes], tables: Iterable[pa.Table]) -> None:
    """Write an Arrow file with one batch a table, so that a block's vectors lie side by side."""
    writer: pa.RecordBatchFileWriter | None = None
    for table in tables:
        writer = writer or pa.ipc.new_file(pa.PythonFile(file, "w"), table.schema)
        (batch,) = table.combine_chunks().to_batches() or [
            pa.RecordBatch.from_pylist([], table.schema)
        ]
        writer.write_batch(batch)
    if writer is not None:
        writer.close()
    file.flush()
