"""Alarms: days on which a group's volume or its share of a sentiment departs from its own history.

Each day is judged by the days before it alone, so that what is said of a day does not change when
later days come. The history is fitted anew every week.

False alarms are kept to a rate that is set for all groups together: it is shared equally among the
groups, days and tests (Bonferroni), and each test has the threshold that chance exceeds as often
as its share says (`bertsum.robust.threshold`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from bertsum.robust import (
    CHANGE_DAYS,
    Values,
    change_scores,
    fit,
    stabilized_counts,
    stabilized_shares,
    threshold,
)
from bertsum.trends.series import Counts, Group, Series

DAYS_OF_MONTH = 365.25 / 12
_REFIT_DAYS = 7
_PAUSE_DAYS = 14  # without an excess, after which another one is a new alarm


class Measure(StrEnum):
    """What departs: the number of a group's rows, or the share of a sentiment in them."""

    VOLUME = "volume"
    SHARE = "share"


class Kind(StrEnum):
    """A single day, or a level that has changed for some days."""

    DAY = "day"
    CHANGE = "change"


_NUM_TESTS = len(Measure) * len(Kind)  # a group and day; each in both directions at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a departure is an alarm.

    - `label`: the sentiment whose share is watched
    - `false_alarms`: those accepted in a month, of all groups together
    - `least_rows`: of a group on a day, for its share to be judged; its volume is judged where so
      many are there or usual
    - `window_days`, `least_days`: most and fewest days of a history, of those that have rows
    """

    label: str
    false_alarms: float
    least_rows: int
    window_days: int
    least_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A departure.

    - `day`: the first one that told it
    - `last_day`: the last one that did, with pauses of less than two weeks
    - `begin`: when it seems to have begun: `day`, or the first day of another level
    - `value`, `usual`: a share in [0, 1] or rows a day: of `day`, or the mean from `begin` to it,
      and what is usual on these days
    - `z`, `threshold`: of `day`
    - `rows`: of these days
    """

    group: Group
    measure: Measure
    kind: Kind
    day: date
    last_day: date
    begin: date
    value: float
    usual: float
    z: float
    threshold: float
    rows: int

    @property
    def is_up(self) -> bool:
        return self.z > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One measure of G groups on D days.

    - `z`: [G, D], NaN where a day cannot be judged
    - `usual`: [G, D], rows or share
    - `low`, `high`: [G, D], beyond which a single day is an alarm
    - `change`, `lengths`: [G, D], z of the last days, and how many they are
    - `day_limits`, `change_limits`: [G, D], least |z| and |change| of an alarm
    """

    z: Values
    usual: Values
    low: Values
    high: Values
    change: Values
    lengths: Counts
    day_limits: Values
    change_limits: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Alarms by day, and by what they were judged. `num_watched`: [D] groups that share the rate."""

    alarms: Sequence[Alarm]
    scores: dict[Measure, Scores]
    num_watched: Counts


def find_alarms(series: Series, rules: Rules) -> Detection:
    """All alarms of all days, the newest first."""
    watched = np.logical_or.accumulate(series.rows >= rules.least_rows, axis=1).sum(axis=0)
    scores = {
        Measure.VOLUME: _volume_scores(series, rules, watched),
        Measure.SHARE: _share_scores(series, rules, watched),
    }
    alarms: list[Alarm] = []
    for measure, of_measure in scores.items():
        for kind in Kind:
            alarms += _alarms(series, rules, measure, kind, of_measure)
    alarms.sort(key=lambda alarm: (alarm.group, alarm.measure, alarm.kind))
    alarms.sort(key=lambda alarm: alarm.day, reverse=True)
    return Detection(alarms=alarms, scores=scores, num_watched=watched)


def _volume_scores(series: Series, rules: Rules, watched: Counts) -> Scores:
    values = stabilized_counts(series.rows)
    scores = _judge(series, values, np.ones_like(values), rules, watched, is_relative=True)

    def as_rows(stabilized: Values) -> Values:
        return np.maximum((np.maximum(stabilized, 0.0) / 2.0) ** 2 - 0.375, 0.0)

    is_usual = as_rows(scores.usual) >= rules.least_rows
    return _in_units(scores, as_rows, is_usual | (series.rows >= rules.least_rows))


def _share_scores(series: Series, rules: Rules, watched: Counts) -> Scores:
    is_big = series.judged >= rules.least_rows
    values, variances = stabilized_shares(series.labelled(rules.label), series.judged)
    values = np.where(is_big, values, np.nan)
    scores = _judge(series, values, variances, rules, watched, is_relative=False)

    def as_share(angle: Values) -> Values:
        return np.asarray(np.sin(np.clip(angle, 0.0, np.pi / 2)) ** 2, np.float64)

    return _in_units(scores, as_share, is_big)


def _judge(
    series: Series,
    values: Values,
    variances: Values,
    rules: Rules,
    watched: Counts,
    *,
    is_relative: bool,
) -> Scores:
    """Scores of each day by the days before its week; all values [G, D] are stabilized ones."""
    z, usual, low, high = (np.full(values.shape, np.nan) for _ in range(4))
    limits = np.full(values.shape, np.inf)
    days = np.zeros(values.shape, np.int64)
    weekdays = series.weekdays
    for start in range(rules.least_days, values.shape[1], _REFIT_DAYS):
        past = slice(max(start - rules.window_days, 0), start)
        week = slice(start, start + _REFIT_DAYS)
        base = fit(values[:, past], variances[:, past], weekdays[past], is_relative=is_relative)
        days[:, week] = np.where(base.days >= rules.least_days, base.days, 0)[:, None]
        limits[:, week] = _limits(days[:, week], watched[week], rules, num_tests=_NUM_TESTS)
        usual[:, week] = base.expected(weekdays[week])
        z[:, week] = base.scores(values[:, week], variances[:, week], weekdays[week])
        low[:, week], high[:, week] = base.limits(
            limits[:, week], variances[:, week], weekdays[week]
        )
    for scores in (z, usual, low, high):
        scores[days == 0] = np.nan
    change, lengths = change_scores(z, days)
    num_tests = _NUM_TESTS * len(CHANGE_DAYS)
    return Scores(
        z=z,
        usual=usual,
        low=low,
        high=high,
        change=change,
        lengths=lengths,
        day_limits=limits,
        change_limits=_limits(days, watched, rules, num_tests=num_tests),
    )


def _in_units(
    scores: Scores, original: Callable[[Values], Values], is_big: npt.NDArray[np.bool_]
) -> Scores:
    """`original`: from stabilized values to rows or shares; `is_big`: [G, D], enough rows."""
    return replace(
        scores,
        z=np.where(is_big, scores.z, np.nan),
        change=np.where(is_big, scores.change, 0.0),
        usual=original(scores.usual),
        low=original(scores.low),
        high=original(scores.high),
    )


def _limits(days: Counts, watched: Counts, rules: Rules, *, num_tests: int) -> Values:
    """Thresholds [G, D]: the rate is shared among the days of a month, groups and tests."""
    base = int(watched.max(initial=0)) + 1
    pairs, inverse = np.unique(days * base + watched, return_inverse=True)
    limits = np.full(len(pairs), np.inf)
    for i, pair in enumerate(pairs.tolist()):
        num_days, num_groups = divmod(pair, base)
        if num_days:
            share = rules.false_alarms / (DAYS_OF_MONTH * max(num_groups, 1) * num_tests)
            limits[i] = threshold(min(share, 0.5), num_days)
    return limits[inverse].reshape(days.shape)


def _alarms(
    series: Series, rules: Rules, measure: Measure, kind: Kind, scores: Scores
) -> Iterator[Alarm]:
    z, limits = scores.z, scores.day_limits
    if kind == Kind.CHANGE:
        z, limits = scores.change, scores.change_limits
    for sign in (1, -1):
        exceeds = np.nan_to_num(z) * sign > limits
        for index in np.flatnonzero(exceeds.any(axis=1)).tolist():
            for first, last in _episodes(np.flatnonzero(exceeds[index]).tolist()):
                length = 1 if kind == Kind.DAY else int(scores.lengths[index, first])
                days = slice(max(first - length + 1, 0), first + 1)
                value, usual = _means(series, rules, measure, scores.usual[index], index, days)
                yield Alarm(
                    group=series.groups[index],
                    measure=measure,
                    kind=kind,
                    day=series.days[first],
                    last_day=series.days[last],
                    begin=series.days[days.start],
                    value=value,
                    usual=usual,
                    z=float(z[index, first]),
                    threshold=float(limits[index, first]),
                    rows=int(series.rows[index, days].sum()),
                )


def _means(
    series: Series, rules: Rules, measure: Measure, usual: Values, index: int, days: slice
) -> tuple[float, float]:
    """Rows a day of a group, or the share of all its rows, and what is usual on the same days."""
    if measure == Measure.VOLUME:
        return float(series.rows[index, days].mean()), float(np.nanmean(usual[days]))
    rows = series.judged[index, days]
    rows = np.where((rows >= rules.least_rows) & ~np.isnan(usual[days]), rows, 0)
    parts = np.where(rows > 0, series.labelled(rules.label)[index, days], 0)
    expected = (rows * np.nan_to_num(usual[days])).sum()
    return float(parts.sum() / rows.sum()), float(expected / rows.sum())


def _episodes(days: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of runs of days that have short pauses alone."""
    first = last = days[0]
    for day in days[1:]:
        if day - last > _PAUSE_DAYS:
            yield first, last
            first = day
        last = day
    yield first, last
