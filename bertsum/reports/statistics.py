"""Counts over all rows of a result, column by column, so that no file is in memory as a whole."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsum.reports.result import Result
from bertsum.runs.input import reading
from bertsum.runs.partitions import partition_of
from bertsum.schema import Status
from bertsum.storage.folder import mask

LABEL_COLUMNS = (
    *("sentiment", "language", "topic", "query_status"),
    *("source", "ending", "has_new_facts"),  # of written texts
)
SHARE_COLUMNS = ("word_share", "number_share", "name_share")
LENGTH_COLUMNS = ("num_sentences", "num_tokens", "summary")
"""What has a length; that of `summary` is its characters."""

LENGTH_EDGES: Mapping[str, Sequence[int]] = {
    "num_sentences": (0, 1, 2, 4, 8, 16, 32, 64, 128),
    "num_tokens": (0, 1, 32, 64, 128, 256, 512, 1024, 2048, 4096),
    "summary": (0, 1, 50, 100, 200, 300, 400, 600, 800, 1200),
}
"""Least values of the bins; the last one has no end."""

_BATCH_ROWS = 8192
_THREADS = 4
_MOST_REASONS = 200  # different errors that are counted apart
_MOST_LABELS = 60  # topics may be many; the rare ones are counted together
OTHERS = "(others)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long rows are. `counts`: rows by bin of LENGTH_EDGES; `total`: the sum of lengths."""

    counts: Sequence[int]
    rows: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Rows of one status and one error, and where the first of them stands in INPUT."""

    status: str
    error: str
    rows: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of all rows of a result. `labels` and `lengths` are by column, and have no missing values.

    `shares`: by column of faithfulness, the mean and its rows.
    """

    statuses: Mapping[str, Mapping[str, int]]  # rows by partition and status
    labels: Mapping[str, Mapping[str, int]]
    lengths: Mapping[str, Length]
    shares: Mapping[str, tuple[float, int]]
    truncated: int
    reasons: Sequence[Reason]


@dataclass(slots=True)
class _Counts:
    """Of one file, or of several. `reasons`: rows and first example of a status and an error."""

    labels: dict[str, Counter[str]] = field(default_factory=dict)
    bins: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    shares: dict[str, float] = field(default_factory=dict)
    truncated: int = 0
    reasons: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def merge(self, other: "_Counts") -> None:
        for name, counts in other.labels.items():
            self.labels.setdefault(name, Counter()).update(counts)
        for name, bins in other.bins.items():
            self.bins[name] = self.bins[name] + bins if name in self.bins else bins
        self.totals.update(other.totals)
        for name, total in other.shares.items():
            self.shares[name] = self.shares.get(name, 0.0) + total
        self.truncated += other.truncated
        for (status, error), (rows, example) in other.reasons.items():
            key = (status, error)
            if key not in self.reasons and len(self.reasons) >= _MOST_REASONS:
                key = (status, OTHERS)
            before, first = self.reasons.get(key, (0, example))
            self.reasons[key] = (before + rows, first)


def count_rows(result: Result) -> Statistics:
    """Statistics of all rows. Raises InputError for a file that cannot be read."""
    statuses: dict[str, Counter[str]] = {}
    for entry in result.files:
        partition = statuses.setdefault(partition_of(entry.name), Counter())
        partition.update(entry.counts.statuses)
    total = _Counts()
    with ThreadPoolExecutor(_THREADS) as pool:
        for counts in pool.map(lambda i: _count_file(result, i), range(len(result.files))):
            total.merge(counts)
    labels: dict[str, dict[str, int]] = {}
    for name, found in total.labels.items():
        most_frequent = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        labels[name] = dict(most_frequent[:_MOST_LABELS])
        if rare := most_frequent[_MOST_LABELS:]:
            labels[name][OTHERS] = sum(rows for _, rows in rare)
    lengths: dict[str, Length] = {}
    for name, bins in total.bins.items():
        rows = int(bins.sum())
        lengths[name] = Length(counts=bins.tolist(), rows=rows, total=total.totals[name])
    ranked = sorted(total.reasons.items(), key=lambda item: (-item[1][0], item[0]))
    return Statistics(
        statuses={partition: dict(counts) for partition, counts in statuses.items()},
        labels=labels,
        lengths=lengths,
        shares={
            name: (total.shares[name] / total.totals[name], total.totals[name])
            for name in total.shares
            if total.totals[name]
        },
        truncated=total.truncated,
        reasons=[
            Reason(status=status, error=mask(error), rows=rows, example=mask(example))
            for (status, error), (rows, example) in ranked
        ],
    )


def read_columns(result: Result, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of a file with those of these columns that it has, by the names of the schema.

    The language is that of INPUT where OUTPUT has no column of its own for it.
    """
    named, config = result.rows.columns, result.config
    with reading(result.output, name), result.output.open(name) as stream:
        parquet = pq.ParquetFile(stream, pre_buffer=False)
        written = parquet.schema_arrow.names
        names: dict[str, str] = {}
        for column in columns:
            name_in_file = named.get(column)
            if column == "language" and name_in_file not in written and config.language_column:
                name_in_file = config.language_column
            if name_in_file is not None and name_in_file in written:
                names[column] = name_in_file
        batches = parquet.iter_batches(_BATCH_ROWS, columns=list(names.values()), use_threads=False)
        for batch in batches:
            yield batch.select(list(names.values())).rename_columns(list(names))


def _count_file(result: Result, index: int) -> _Counts:
    entry = result.files[index]
    columns = ("status", "error", "truncated", *LABEL_COLUMNS, *LENGTH_COLUMNS, *SHARE_COLUMNS)
    counts, first_row = _Counts(), 0
    for batch in read_columns(result, entry.name, columns):
        for name in batch.schema.names:
            column = batch[name]
            if name in LABEL_COLUMNS:
                labels = counts.labels.setdefault(name, Counter())
                labels.update(count_values(column))
            elif name in LENGTH_COLUMNS:
                lengths = pc.utf8_length(column) if name == "summary" else column
                values = lengths.drop_null().to_numpy(zero_copy_only=False)
                counts.totals[name] += int(values.sum())
                # values below the second edge are in bin 0: of edges 0, 10, 20, 5 gives bin 0
                bins = np.searchsorted(LENGTH_EDGES[name], values, side="right") - 1
                added = np.bincount(bins, minlength=len(LENGTH_EDGES[name]))
                counts.bins[name] = counts.bins.get(name, np.zeros_like(added)) + added
            elif name in SHARE_COLUMNS:
                counts.shares[name] = counts.shares.get(name, 0.0) + (pc.sum(column).as_py() or 0)
                counts.totals[name] += batch.num_rows - column.null_count
            elif name == "truncated":
                counts.truncated += pc.sum(column).as_py() or 0
        _add_reasons(counts, batch, result, entry_index=index, first_row=first_row)
        first_row += batch.num_rows
    return counts


def count_values(column: pa.Array) -> dict[str, int]:
    """Rows by value, nulls left out. Bytes of INPUT that are not UTF-8 are replaced."""
    values = pc.cast(column.drop_null(), pa.large_string())
    counts = pc.value_counts(pc.cast(values, pa.large_binary())).to_pylist()
    return {entry["values"].decode("utf-8", "replace"): entry["counts"] for entry in counts}


def _add_reasons(
    counts: _Counts, batch: pa.RecordBatch, result: Result, *, entry_index: int, first_row: int
) -> None:
    """Count the rows with an error by status and error."""
    unit = result.files[entry_index].file.unit
    is_failed = pc.or_(pc.is_valid(batch["error"]), pc.equal(batch["status"], Status.ERROR.value))
    rows = np.flatnonzero(is_failed.to_numpy(zero_copy_only=False))
    failed = batch.select(["status", "error"]).take(pa.array(rows))
    found = _Counts()
    for row, values in zip(rows.tolist(), failed.to_pylist(), strict=True):
        key = (values["status"], values["error"] or "(no reason is recorded)")
        path, row_in_file = unit.locate(first_row + row)
        number, example = found.reasons.get(key, (0, f"{path}, row {row_in_file:,}"))
        found.reasons[key] = (number + 1, example)
    counts.merge(found)
