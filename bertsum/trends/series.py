"""What is looked at: counts of rows by group and day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

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
