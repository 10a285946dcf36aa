"""The numbers of a profile that are compared: what each is, and how much of it is chance."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bertsum.checks.profile import Profile
from bertsum.robust import stabilized_shares
from bertsum.schema import Status

_SHARE_STEP: Final = 0.05
_MEAN_STEP: Final = 0.25  # of the standard deviation of rows
# rows that are all alike: nothing is compared more exactly than this
_LEAST_STEP: Final = 0.02
_LEAST_VARIANCE: Final = 1e-10
_USUAL_ROWS: Final = 10
_ROWS_STEP: Final = math.log(1.5)
_LOGARITHMS = ("tokens", "sentences", "characters")
_FLAGS = ("truncated", "markup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A statistic of a partition.

    - `value`: as it is compared: the angle of a share, the logarithm of a number of rows, a mean
    - `variance`: of `value`, by sampling
    - `shown`: in plain units
    - `step`: the least difference that matters: of shares in their plain units, else of `value`
    - `is_share`: whether it is a share
    - `rows`, `row_variance`: of a mean, of how many rows it is, and their own variance
    """

    value: float
    variance: float
    shown: float
    step: float
    is_share: bool = False
    rows: int = 0
    row_variance: float = 0.0

    def difference(self, value: float) -> float:
        """To another `value` of the same statistic, in the units of `step`."""
        if self.is_share:
            return self.shown - math.sin(value) ** 2
        return self.value - value


def rows_measure(rows: int) -> Measure:
    """Of a number of rows: it varies by a factor from day to day, and is compared as one."""
    value = math.log(rows + 1)
    return Measure(value=value, variance=1 / (rows + 1), shown=rows, step=_ROWS_STEP)


def share_measure(part: float, rows: int) -> Measure | None:
    """Of rows among others; None where there are no others."""
    if rows == 0:
        return None
    angle, variance = stabilized_shares(part, rows)
    return Measure(
        value=float(angle),
        variance=float(variance),
        shown=part / rows,
        step=_SHARE_STEP,
        is_share=True,
    )


def measures_of(profile: Profile) -> dict[str, Measure]:
    """By the names of statistics (`bertsum.output_config.STATISTICS`); no labels that no row has.

    `rows` and `unknown_language` are of all rows, the others of those that have such a value.
    """
    found: dict[str, Measure | None] = {"rows": rows_measure(profile.rows)}
    for status in Status:
        if status != Status.OK:
            found[str(status)] = label_measure(profile, "status", status)
    for family in ("sentiment", "language"):
        for label in profile.labels.get(family, {}):
            found[f"{family}.{label}"] = label_measure(profile, family, label)
    for name, sums in profile.numbers.items():
        if sums.rows == 0:
            continue
        if name in _FLAGS:
            found[name] = share_measure(sums.total, sums.rows)
            continue
        mean, variance = sums.mean, sums.variance
        found[name] = Measure(
            value=mean,
            variance=max(variance / sums.rows, _LEAST_VARIANCE),
            shown=math.expm1(mean) if name in _LOGARITHMS else mean,
            step=max(_MEAN_STEP * math.sqrt(variance), _LEAST_STEP),
            rows=sums.rows,
            row_variance=variance,
        )
    return {name: measure for name, measure in found.items() if measure is not None}


def with_usual_spread(measure: Measure, days: Sequence[Measure]) -> Measure:
    """A mean whose variance is also by how much rows vary on other days.

    One row says nothing of how rows vary, and three say little; so the variance of the rows of all
    days counts for as much as ten rows do.
    """
    freedom = sum(day.rows - 1 for day in days)
    if measure.rows == 0 or freedom <= 0:
        return measure
    usual = sum(day.rows * day.row_variance for day in days) / freedom
    of_rows = measure.rows * measure.row_variance + _USUAL_ROWS * usual
    variance = of_rows / (measure.rows + _USUAL_ROWS) / measure.rows
    return replace(measure, variance=max(variance, _LEAST_VARIANCE))


def label_measure(profile: Profile, family: str, label: str) -> Measure | None:
    """Share of a label, 0 where no row has it; None where no row has any of the family."""
    counts = profile.labels.get(family, {})
    return share_measure(counts.get(label, 0), sum(counts.values()))


def measure_in(profile: Profile, name: str, measures: Mapping[str, Measure]) -> Measure | None:
    """The measure of this name among `measures`, those of the profile; see `label_measure`."""
    family, _, label = name.partition(".")
    return measures.get(name) or (label_measure(profile, family, label) if label else None)


def names_in(all_measures: Iterable[Mapping[str, Measure]]) -> list[str]:
    """All names, sorted."""
    names: set[str] = set()
    for measures in all_measures:
        names.update(measures)
    return sorted(names)
