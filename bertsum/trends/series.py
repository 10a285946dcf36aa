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

    `counts`: COUNTS with a day; each day, group and label stands there once. Others groups are
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
    groups = sorted(_groups(largest.filter(is_wanted)))
    days = sorted(counts["day"].unique().to_pylist())
    group_index = {group: index for index, group in enumerate(groups)}
    day_index = {day: index for index, day in enumerate(days)}
    rows = np.zeros((len(groups), len(days)), np.int64)
    labels: dict[str, Counts] = {}
    # sorted, so that labels have one order however the counts came together
    for label in sorted(filter(None, counts["label"].unique().to_pylist())):
        labels[label] = np.zeros_like(rows)
    indices = [group_index.get(group, -1) for group in _groups(counts)]
    for index, day, label, number in zip(
        indices,
        counts["day"].to_pylist(),
        counts["label"].to_pylist(),
        counts["rows"].to_pylist(),
        strict=True,
    ):
        if index >= 0:
            rows[index, day_index[day]] += number
            if label:
                labels[label][index, day_index[day]] += number
    return Series(groups=groups, days=days, rows=rows, labels=labels)


def _groups(table: pa.Table) -> list[Group]:
    columns, values = table["column"].to_pylist(), table["value"].to_pylist()
    return [Group(*pair) for pair in zip(columns, values, strict=True)]
