"""Documents of a report: rows of OUTPUT as the page shows them, with their texts of INPUT."""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.reports.readings import MOST_CHARACTERS, Reading, shown
from bertsum.reports.result import Result
from bertsum.reports.source import Row, read_texts
from bertsum.runs.input import reading
from bertsum.runs.partitions import partition_of

SEED = 20261129
_MOST_COLUMNS = 30  # kept columns that are shown
_THREADS = 8
_OF_USERS = "the row is of all texts of a user (match.user_column)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument:
    """A document with what one or two runs say of it.

    - `row`: its number in `file` of INPUT, from 0.
    - `columns`: kept columns of INPUT as text.
    - `problem`: why there is no text.
    - `cut`: characters of the text that the page leaves out.
    - `full_text`: with them.
    - `readings`: of this run, and of the other one where it has the row.
    """

    file: str
    row: int
    partition: str
    columns: Sequence[tuple[str, str]]
    text: str | None
    problem: str | None
    cut: int
    full_text: str | None
    readings: Sequence[Reading]


def sample_rows(num_rows: int, most: int) -> list[int]:
    """Numbers of `most` rows at random, in ascending order; equal arguments give equal rows."""
    return sorted(random.Random(SEED).sample(range(num_rows), min(most, num_rows)))


def read_documents(
    result: Result, rows: Sequence[int], input_uri: str | None
) -> list[ReportDocument]:
    """Documents of these rows of a result, which ascend, with what this run says of each."""
    read = _read_rows(result, rows)
    sources: list[Row] = []  # where the rows stand in INPUT
    for row in rows:
        index = bisect_right(result.first_rows, row) - 1
        unit = result.files[index].file.unit
        path, number = unit.locate(row - result.first_rows[index])
        # a file is in a unit once
        sources.append(Row(next(part for part in unit.slices if part.path == path), number))
    texts = read_texts(result, sources, input_uri)
    documents: list[ReportDocument] = []
    for values, source, text in zip(read, sources, texts, strict=True):
        kept = [(name, shown(values[name])) for name in values if name not in result.rows.made]
        problem = _OF_USERS if result.rows.of_users else text.problem
        if text.text is None and problem is None:
            problem = "the row has no text"
        documents.append(
            ReportDocument(
                file=source.part.path,
                row=source.number,
                partition=partition_of(source.part.path),
                columns=kept[:_MOST_COLUMNS],
                text=None if text.text is None else text.text[:MOST_CHARACTERS],
                problem=problem,
                cut=max(len(text.text or "") - MOST_CHARACTERS, 0),
                full_text=text.text,
                readings=[result.rows.read(values, text.text, text.query)],
            )
        )
    return documents


def read_others(
    result: Result, rows: Mapping[int, int], texts: Mapping[int, str | None]
) -> dict[int, Reading]:
    """What another run says. `rows`: by the index of the document, the row; `texts`: its text."""
    ordered = sorted(rows, key=rows.__getitem__)
    read = _read_rows(result, [rows[index] for index in ordered])
    readings: dict[int, Reading] = {}
    for index, values in zip(ordered, read, strict=True):
        query = values.get(result.config.query_column or "")
        query = None if query is None else shown(query)
        readings[index] = result.rows.read(values, texts[index], query)
    return readings


def _read_rows(result: Result, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Values of these rows, which ascend, by column; embeddings are left out."""
    by_file: dict[int, list[int]] = {}
    for row in rows:
        index = bisect_right(result.first_rows, row) - 1
        by_file.setdefault(index, []).append(row - result.first_rows[index])

    def read(index: int) -> list[dict[str, Any]]:
        return _read_file(result, result.files[index].name, by_file[index])

    with ThreadPoolExecutor(_THREADS) as pool:
        return [values for part in pool.map(read, by_file) for values in part]


def _read_file(result: Result, name: str, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Values by column; strings of INPUT that are not UTF-8 have replacement characters."""
    embedding = result.config.output.name_of("embedding")
    values: list[dict[str, Any]] = []
    with reading(result.output, name), result.output.open(name) as stream:
        parquet = pq.ParquetFile(stream, pre_buffer=False)
        columns = [column for column in parquet.schema_arrow.names if column != embedding]
        first = 0
        for group in range(parquet.metadata.num_row_groups):
            num_rows = parquet.metadata.row_group(group).num_rows
            wanted = [row - first for row in rows if first <= row < first + num_rows]
            first += num_rows
            if not wanted:
                continue
            table = parquet.read_row_group(group, columns=columns, use_threads=False).take(wanted)
            lists: list[list[Any]] = []
            for column in table.columns:
                try:
                    lists.append(column.to_pylist())
                except UnicodeDecodeError:
                    lists.append([_decoded(value) for value in column])
            for row in zip(*lists, strict=True):
                values.append(dict(zip(table.column_names, row, strict=True)))
    return values


def _decoded(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        is_text = pa.types.is_string(value.type) or pa.types.is_large_string(value.type)
        return value.as_buffer().to_pybytes() if is_text else "(not UTF-8)"
