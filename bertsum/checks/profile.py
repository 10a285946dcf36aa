"""What the rows of a partition are like, as sums: those of its units can be added up.

Everything is read from the columns of results. So a replica makes the profile of a unit of the
table that it has in memory, and the file of a unit that an earlier run made says the same.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bertsum.config import NamesConfig

LABELS = ("status", "sentiment", "language")
"""Columns whose values are counted; `language` is there only where the model tells it."""

COLUMNS = (
    *LABELS,
    "sentiment_scores",
    "summary",
    "summary_sentences",
    "summary_scores",
    "num_sentences",
    "num_tokens",
    "truncated",
)
"""All columns that a profile is made of."""

# a tag, or a character by its name, such as &nbsp;
_MARKUP = r"</?[A-Za-z][^<>]*>|&[a-z]+;"
_NO_LETTERS = r"[^\p{L}]+"

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """Of a number that rows have: how many have it, its total, and the total of its squares."""

    rows: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.rows + other.rows, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        return self.total / max(self.rows, 1)

    @property
    def variance(self) -> float:
        """Of the rows; a rounding error must not make it negative."""
        return max(self.squares / max(self.rows, 1) - self.mean**2, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Of the rows of a unit, or of a partition.

    - `labels`: rows by value, of each column of LABELS.
    - `numbers`: of the rows that have a summary, by name:
      `tokens`, `sentences`, `characters`: log(1 + n) of the document's tokens and sentences, and
      of the summary's characters; `letters`: share of letters in the summary; `markup`: 1 where it
      has HTML; `truncated`: 1 where it is; `position`: mean place of the chosen sentences, 0 is
      the begin of the document and 1 its end; `scores`: their mean probability; `confidence`:
      probability of the sentiment.
    """

    rows: int = 0
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    numbers: Mapping[str, Sums] = field(default_factory=dict)

    def __add__(self, other: "Profile") -> "Profile":
        labels: dict[str, dict[str, int]] = {}
        for column in LABELS:
            if column in self.labels or column in other.labels:
                counts = Counter(self.labels.get(column, {}))
                counts.update(other.labels.get(column, {}))
                labels[column] = dict(sorted(counts.items()))
        numbers: dict[str, Sums] = {}
        for name in sorted({*self.numbers, *other.numbers}):
            numbers[name] = self.numbers.get(name, Sums()) + other.numbers.get(name, Sums())
        return Profile(rows=self.rows + other.rows, labels=labels, numbers=numbers)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        numbers = {name: Sums(**sums) for name, sums in record["numbers"].items()}
        return cls(rows=record["rows"], labels=record["labels"], numbers=numbers)


def make_profile(tables: Iterable[pa.Table], names: NamesConfig) -> Profile:
    """Of tables with the columns of results; `names` are theirs."""
    whole = Profile()
    for table in tables:
        renamed: dict[str, pa.Array] = {}
        for column in COLUMNS:
            name = names.name_of(column)
            if name in table.column_names:
                renamed[column] = table[name]
        if table.num_rows:
            whole = whole + _of_columns(pa.table(renamed))
    return whole


def _of_columns(table: pa.Table) -> Profile:
    labels: dict[str, dict[str, int]] = {}
    for column in LABELS:
        # a column of INPUT may have the name of one that this run does not make
        if column in table.column_names and pa.types.is_string(table[column].type):
            counts = pc.value_counts(table[column].drop_null()).to_pylist()
            labels[column] = {str(entry["values"]): entry["counts"] for entry in counts}
    read = table.filter(pc.is_valid(table["summary"])).combine_chunks()
    characters = pc.utf8_length(read["summary"])
    letters = pc.utf8_length(pc.replace_substring_regex(read["summary"], _NO_LETTERS, ""))
    values = {
        "tokens": np.log1p(_floats(read["num_tokens"])),
        "sentences": np.log1p(_floats(read["num_sentences"])),
        "characters": np.log1p(_floats(characters)),
        "letters": _floats(letters) / np.maximum(_floats(characters), 1.0),
        "markup": _floats(pc.match_substring_regex(read["summary"], _MARKUP)),
        "truncated": _floats(read["truncated"]),
    }
    scored = read.filter(pc.is_valid(read["summary_sentences"]))
    indices, chosen = _ragged(scored["summary_sentences"])
    has_some = chosen > 0
    counts_of_sentences = np.repeat(_floats(scored["num_sentences"]), chosen)
    places = (indices + 0.5) / np.maximum(counts_of_sentences, 1.0)
    values["position"] = _sums(places, chosen) / chosen[has_some]
    probabilities, chosen = _ragged(scored["summary_scores"])
    values["scores"] = _sums(probabilities, chosen) / chosen[chosen > 0]
    if "sentiment_scores" in read.column_names:
        probabilities, classes = _ragged(read["sentiment_scores"])
        starts = np.cumsum(classes) - classes
        values["confidence"] = np.maximum.reduceat(
            np.append(probabilities, 0.0), starts[classes > 0]
        )
    numbers: dict[str, Sums] = {}
    for name, array in values.items():
        numbers[name] = Sums(len(array), float(array.sum()), float((array**2).sum()))
    return Profile(rows=table.num_rows, labels=labels, numbers=numbers)


def _floats(column: pa.ChunkedArray) -> _Floats:
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(), dtype=np.float64)


def _ragged(column: pa.ChunkedArray) -> tuple[_Floats, npt.NDArray[np.int64]]:
    """Values of a column of lists or maps, row after row, and their number in each row."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of a column without rows
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    offsets = array.offsets.to_numpy().astype(np.int64)
    values = array.items if pa.types.is_map(array.type) else array.values
    inside = values.slice(offsets[0], offsets[-1] - offsets[0])
    return np.asarray(pc.cast(inside, pa.float64()).to_numpy(zero_copy_only=False)), np.diff(
        offsets
    )


def _sums(values: _Floats, counts: npt.NDArray[np.int64]) -> _Floats:
    """Sums of the rows that have values; `counts`: of values in each row."""
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(np.append(values, 0.0), starts[counts > 0])
