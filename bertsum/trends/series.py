"""What is looked at: counts of rows by group and day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """Rows with one value in a column; with an empty column: all rows."""

    column: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}={self.value}" if self.column else "all rows"


ALL_ROWS = Group("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Rows by group and day. A day on which no group has a row is none of the days.

    - `days`: [D], ascending
    - `rows`: [G, D]
    - `labels`: [G, D] rows by sentiment; rows without one are in none of them
    """

    groups: Sequence[Group]
    days: Sequence[date]
    rows: Counts
    labels: dict[str, Counts]

    @property
    def judged(self) -> Counts:
        """Rows [G, D] that have a sentiment."""
        total = np.zeros_like(self.rows)
        for counts in self.labels.values():
            total += counts
        return total

    @property
    def weekdays(self) -> npt.NDArray[np.int64]:
        """[D], 0 for Monday."""
        return np.array([day.weekday() for day in self.days], np.int64)

    def labelled(self, label: str) -> Counts:
        """Rows [G, D] of one sentiment."""
        return self.labels.get(label, np.zeros_like(self.rows))

    def until(self, day: date) -> "Series":
        """The same without later days."""
        stop = sum(other <= day for other in self.days)
        labels = {name: counts[:, :stop] for name, counts in self.labels.items()}
        return Series(
            groups=self.groups, days=self.days[:stop], rows=self.rows[:, :stop], labels=labels
        )


def make_series(counts: pa.Table, least_rows: int) -> Series:
    """Series of all rows, and of each group that has `least_rows` on one day at least.

    `counts`: COUNTS with a day; each day, group and label stands there once. Other groups are
    never judged, and there may be a hundred thousand of them.
    """
    keys = ["day", "column", "value"]
    by_day = counts.group_by(keys, use_threads=False).aggregate([("rows", "sum")])
    largest = by_day.group_by(["column", "value"], use_threads=False).aggregate(
        [("rows_sum", "max")]
    )
    is_wanted = pc.or_(
        pc.equal(largest["column"], ALL_ROWS.column),
        pc.greater_equal(largest["rows_sum_max"], least_rows),
    )
    wanted = largest.filter(is_wanted)
    pairs = zip(wanted["column"].to_pylist(), wanted["value"].to_pylist(), strict=True)
    groups = sorted(Group(*pair) for pair in pairs)
    days = counts["day"].unique()
    days = days.take(pc.array_sort_indices(days))
    # sorted, so that labels have one order however the counts came together
    labels = sorted(filter(None, counts["label"].unique().to_pylist()))
    group_of, shape = _indices(counts, groups), (len(groups), len(days))
    day_of = pc.index_in(counts["day"], days).to_numpy()
    label_of = pc.fill_null(pc.index_in(counts["label"], pa.array(labels, pa.string())), -1)
    label_of, rows = label_of.to_numpy(), counts["rows"].to_numpy()

    def total(is_part: npt.NDArray[np.bool_]) -> Counts:
        sums = np.zeros(shape, np.int64)
        np.add.at(sums, (group_of[is_part], day_of[is_part]), rows[is_part])
        return sums

    is_known = group_of >= 0
    return Series(
        groups=groups,
        days=days.to_pylist(),
        rows=total(is_known),
        labels={name: total(is_known & (label_of == i)) for i, name in enumerate(labels)},
    )


def _indices(counts: pa.Table, groups: Sequence[Group]) -> Counts:
    """Index of the group of each row of counts; -1: none of these."""
    indices = np.full(counts.num_rows, -1)
    for column in sorted({group.column for group in groups}):
        of_column = [index for index, group in enumerate(groups) if group.column == column]
        values = pa.array([groups[index].value for index in of_column], pa.string())
        place = pc.fill_null(pc.index_in(counts["value"], values), -1).to_numpy()
        is_here = (place >= 0) & pc.equal(counts["column"], column).to_numpy()
        indices[is_here] = np.array(of_column)[place[is_here]]
    return indices
