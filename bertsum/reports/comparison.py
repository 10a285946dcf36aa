"""Two runs over the same rows of INPUT: where they agree, and rows in which they do not.

Rows are the same that have the same number in a file of the same path and size. The runs may have
cut them into other units, and are read side by side, unit by unit.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bertsum.reports.documents import SEED
from bertsum.reports.result import Result
from bertsum.reports.statistics import read_columns

COMPARED_LABELS = ("status", "sentiment", "language", "topic")
_MOST_PAIRS = 400  # pairs of labels in a table
_CACHED_FILES = 2
_NO_LABEL = "(none)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Rows by a pair of labels, of this run and of the other one.

    - `kappa`: Cohen's: agreement beyond what the shares of the labels give by chance; None where
      chance alone gives all of it.
    - `pairs`: the most frequent ones.
    """

    rows: int
    equal: int
    kappa: float | None
    pairs: Sequence[tuple[str, str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two runs say of the rows that both have.

    - `only_ours`, `only_others`: rows that one of them has alone.
    - `labels`: by column that both have.
    - `same_summary`: rows with the same sentences in both summaries, of `summarized` rows.
    - `differing`: a sample of rows that differ: number in this run -> number in the other one.
    """

    rows: int
    only_ours: int
    only_others: int
    labels: Mapping[str, Agreement]
    summarized: int
    same_summary: int
    differing: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows [start, stop) of a file of INPUT; `offset`: where they begin in a file of OUTPUT."""

    start: int
    stop: int
    file_index: int
    offset: int


class RowFinder:
    """Finds rows of INPUT in a result, and reads columns of them."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.pieces: dict[tuple[str, int], list[_Piece]] = {}
        self._cache: dict[int, pa.Table] = {}
        for file_index, entry in enumerate(result.files):
            offset = 0
            for part in entry.file.unit.slices:
                piece = _Piece(part.start, part.stop, file_index, offset)
                self.pieces.setdefault((part.path, part.size), []).append(piece)
                offset += part.stop - part.start
        for pieces in self.pieces.values():
            pieces.sort(key=lambda piece: piece.start)

    def find(self, path: str, size: int, row: int) -> int | None:
        """The number in the result of a row of INPUT, or None where it has none."""
        for piece in self.pieces.get((path, size), ()):
            if piece.start <= row < piece.stop:
                return self.number(piece, row)
        return None

    def number(self, piece: _Piece, row: int) -> int:
        """The number in the result of a row of a piece."""
        return self.result.first_rows[piece.file_index] + piece.offset + row - piece.start

    def read(self, piece: _Piece, start: int, stop: int) -> pa.Table:
        """The compared columns of rows [start, stop) of INPUT."""
        if piece.file_index not in self._cache:
            while len(self._cache) >= _CACHED_FILES:
                self._cache.pop(next(iter(self._cache)))
            name = self.result.files[piece.file_index].name
            columns = (*COMPARED_LABELS, "summary_sentences")
            batches = list(read_columns(self.result, name, columns))
            self._cache[piece.file_index] = pa.Table.from_batches(batches) if batches else None
        first = piece.offset + start - piece.start
        return self._cache[piece.file_index].slice(first, stop - start)


@dataclass(slots=True)
class _Sample:
    """Keeps rows at random of those that it is shown, without knowing how many will come."""

    most: int
    keys: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))

    def add(self, rows: npt.NDArray[np.int64], random: np.random.Generator) -> None:
        """`rows`: [N, 2] numbers in both results. Those with the smallest keys stay."""
        keys = np.concatenate([self.keys, random.random(len(rows))])
        chosen = np.argsort(keys, kind="stable")[: self.most]
        self.keys, self.rows = keys[chosen], np.concatenate([self.rows, rows])[chosen]


def compare_runs(ours: Result, others: Result, most_differing: int) -> Comparison:
    """Compare all rows that both results have.

    `most_differing`: rows in the sample of differing ones, half of them with different labels where
    there are so many. Raises InputError for a file that cannot be read.
    """
    left, right = RowFinder(ours), RowFinder(others)
    pairs: dict[str, Counter[tuple[str, str]]] = {}
    counts = Counter[str]()
    by_label, by_summary = _Sample(most_differing), _Sample(most_differing)
    random = np.random.default_rng(SEED)
    for piece, other, start, stop in _overlaps(left, right):
        table, other_table = left.read(piece, start, stop), right.read(other, start, stop)
        first = np.array([left.number(piece, start), right.number(other, start)])
        numbers = first + np.arange(stop - start)[:, None]  # [N, 2]
        differs = np.zeros(stop - start, bool)
        for column in COMPARED_LABELS:
            if column in table.column_names and column in other_table.column_names:
                both = _pairs(table[column], other_table[column])
                pairs.setdefault(column, Counter()).update(both)
                differs |= _differs(table[column], other_table[column])
        summarized = pc.and_(
            pc.is_valid(table["summary_sentences"]), pc.is_valid(other_table["summary_sentences"])
        ).to_numpy()
        other_sentences = summarized & _differs(
            _joined(table["summary_sentences"]), _joined(other_table["summary_sentences"])
        )
        counts["rows"] += stop - start
        counts["summarized"] += int(summarized.sum())
        counts["same_summary"] += int((summarized & ~other_sentences).sum())
        by_label.add(numbers[differs], random)
        by_summary.add(numbers[~differs & other_sentences], random)
    half = most_differing - min(most_differing // 2, len(by_summary.rows))
    of_labels = by_label.rows[:half]
    differing = [*of_labels, *by_summary.rows[: most_differing - len(of_labels)]]
    return Comparison(
        rows=counts["rows"],
        only_ours=ours.num_rows - counts["rows"],
        only_others=others.num_rows - counts["rows"],
        labels={column: _agreement(column_pairs) for column, column_pairs in pairs.items()},
        summarized=counts["summarized"],
        same_summary=counts["same_summary"],
        differing={int(row): int(other_row) for row, other_row in differing},
    )


def _overlaps(left: RowFinder, right: RowFinder) -> Iterator[tuple[_Piece, _Piece, int, int]]:
    """Pieces of both results with the rows that both have, in order."""
    for key, pieces in left.pieces.items():
        others = right.pieces.get(key, [])
        index = 0
        for piece in pieces:
            # pieces of a file are apart and in order: those that end before this one are past
            while index < len(others) and others[index].stop <= piece.start:
                index += 1
            for other in others[index:]:
                start, stop = max(piece.start, other.start), min(piece.stop, other.stop)
                if start >= stop:
                    break
                yield piece, other, start, stop


def _differs(column: pa.ChunkedArray, other: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return pc.not_equal(_filled(column), _filled(other)).to_numpy()  # type: ignore[no-any-return]


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels as bytes, so that those of INPUT that are not UTF-8 can be compared, too."""
    text = pc.cast(column, pa.large_string())
    return pc.fill_null(pc.cast(text, pa.large_binary()), _NO_LABEL.encode())


def _joined(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """[0, 2, 5] -> "0,2,5", which can be compared."""
    lists = pc.cast(column, pa.list_(pa.string()))
    return pc.binary_join(lists, ",")


def _pairs(column: pa.ChunkedArray, other: pa.ChunkedArray) -> dict[tuple[str, str], int]:
    """Rows by both labels."""
    table = pa.table({"a": _filled(column), "b": _filled(other)})
    grouped = table.group_by(["a", "b"]).aggregate([([], "count_all")]).to_pylist()
    counts: dict[tuple[str, str], int] = {}
    for row in grouped:
        key = (row["a"].decode("utf-8", "replace"), row["b"].decode("utf-8", "replace"))
        counts[key] = row["count_all"]
    return counts


def _agreement(pairs: Counter[tuple[str, str]]) -> Agreement:
    ours, others = Counter[str](), Counter[str]()
    equal, rows = 0, pairs.total()
    for (label, other), count in pairs.items():
        ours[label] += count
        others[other] += count
        if label == other:
            equal += count
    # shares of 0.5 and 0.5 in both runs agree by chance in half of the rows
    by_chance = sum(ours[label] * others[label] for label in ours) / rows**2
    kappa = None if by_chance == 1 else (equal / rows - by_chance) / (1 - by_chance)
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    most_frequent = [(label, other, count) for (label, other), count in ranked[:_MOST_PAIRS]]
    return Agreement(rows=rows, equal=equal, kappa=kappa, pairs=most_frequent)
