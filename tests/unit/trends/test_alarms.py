"""Alarms on simulated counts: how often chance raises one, how soon a shift does, and what a past day keeps."""

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from bertsum.trends.alarms import DAYS_OF_MONTH, Alarm, Kind, Measure, Rules, find_alarms
from bertsum.trends.series import Group, Series

FIRST = date(2024, 1, 1)  # a Monday
Counts = npt.NDArray[np.int64]


def rules(false_alarms: float = 1.0) -> Rules:
    return Rules(
        label="negative", false_alarms=false_alarms, least_rows=20, window_days=91, least_days=28
    )


def series_of(rows: Counts, negative: Counts, first: date = FIRST) -> Series:
    return Series(
        groups=[Group("topic", f"{index:04}") for index in range(len(rows))],
        days=[first + timedelta(days=day) for day in range(rows.shape[1])],
        rows=rows,
        labels={"negative": negative, "positive": rows - negative},
    )


def draw(
    num_groups: int,
    num_days: int,
    *,
    mean: float,
    dispersion: float = 1.0,
    weekend: float = 1.0,
    share: float = 0.2,
    clumping: float = 0.0,
    seed: int = 0,
) -> tuple[Counts, Counts]:
    """Stationary rows and negative ones.

    `dispersion`: variance over mean of the rows; `clumping`: correlation of the rows of a day.
    """
    random = np.random.default_rng(seed)
    of_week = np.where(np.arange(num_days) % 7 < 5, 1.0, weekend)
    means = mean * of_week * np.ones((num_groups, 1))
    if dispersion > 1:
        means = random.gamma(means / (dispersion - 1), dispersion - 1)
    rows = random.poisson(means)
    shares = np.full(rows.shape, share)
    if clumping:
        shares = random.beta(
            share * (1 / clumping - 1), (1 - share) * (1 / clumping - 1), rows.shape
        )
    return rows, random.binomial(rows, shares)


STATIONARY = {
    "Poisson": {"mean": 100.0},
    "few rows": {"mean": 8.0, "share": 0.1},
    "few rows, overdispersed": {"mean": 10.0, "dispersion": 8.0, "clumping": 0.03},
    "overdispersed, weekdays": {
        "mean": 150.0,
        "dispersion": 10.0,
        "weekend": 0.4,
        "clumping": 0.01,
    },
}


@pytest.mark.parametrize("kind", STATIONARY)
def test_false_alarms_are_no_more_than_configured(kind: str) -> None:
    """0.1 a group and month, of 300 groups and 14 months: 420 would be at the limit."""
    rows, negative = draw(300, 430, **STATIONARY[kind])  # type: ignore[arg-type]
    alarms = find_alarms(series_of(rows, negative), rules(0.1 * 300)).alarms
    assert len(alarms) / (300 * 430 / DAYS_OF_MONTH) < 0.1


def test_alarms_are_shared_among_groups() -> None:
    """The same group beside a thousand others has a higher threshold, so fewer false alarms in all."""
    rows, negative = draw(1000, 120, mean=60)
    alone = find_alarms(series_of(rows[:1], negative[:1]), rules())
    beside = find_alarms(series_of(rows, negative), rules())
    for measure in Measure:
        limits = [found.scores[measure].day_limits[0, -1] for found in (alone, beside)]
        assert limits[1] > limits[0] + 1
    assert beside.num_watched[-1] == 1000


def shifted(
    *, measure: Measure, factor: float, num_days: int = 200, begin: int = 150, days: int = 60
) -> list[Alarm]:
    rows, negative = draw(40, num_days, mean=120, dispersion=3, weekend=0.5, seed=3)
    stretch = slice(begin, begin + days)
    random = np.random.default_rng(4)
    if measure == Measure.VOLUME:
        rows[:20, stretch] = random.poisson(rows[:20, stretch] * factor)
        negative[:20, stretch] = random.binomial(rows[:20, stretch], 0.2)
    else:
        negative[:20, stretch] = random.binomial(rows[:20, stretch], 0.2 * factor)
    return list(find_alarms(series_of(rows, negative), rules(0.05)).alarms)


@pytest.mark.parametrize("measure", Measure)
def test_a_lasting_shift_is_told_in_the_groups_that_have_it(measure: Measure) -> None:
    alarms = shifted(measure=measure, factor=2.0)
    groups = {alarm.group.value for alarm in alarms if alarm.measure == measure and alarm.is_up}
    assert {f"{index:04}" for index in range(20)} == groups
    changes = [alarm for alarm in alarms if alarm.kind == Kind.CHANGE and alarm.measure == measure]
    begins = sorted((alarm.begin - FIRST).days for alarm in changes)
    assert abs(begins[len(begins) // 2] - 150) <= 2
    assert min((alarm.day - FIRST).days for alarm in changes) >= 150


def test_one_loud_day_is_an_alarm_of_a_day_and_no_change() -> None:
    alarms = shifted(measure=Measure.SHARE, factor=3.0, days=1)
    assert {alarm.kind for alarm in alarms} == {Kind.DAY}
    assert {alarm.day for alarm in alarms} == {FIRST + timedelta(days=150)}
    assert all(0.4 < alarm.value < 0.8 and 0.15 < alarm.usual < 0.25 for alarm in alarms)


def test_less_is_an_alarm_too() -> None:
    alarms = shifted(measure=Measure.VOLUME, factor=0.3)
    groups = {
        alarm.group for alarm in alarms if not alarm.is_up and alarm.measure == Measure.VOLUME
    }
    assert len(groups) == 20


def test_what_is_said_of_a_day_does_not_change_when_later_days_come() -> None:
    rows, negative = draw(30, 200, mean=100, dispersion=5)
    negative[:10, 120:125] = rows[:10, 120:125] // 2
    rows[:10, 160] *= 4
    whole = find_alarms(series_of(rows, negative), rules(30))
    assert len(whole.alarms) > 15
    for stop in (121, 124, 161, 170):
        part = find_alarms(series_of(rows[:, :stop], negative[:, :stop]), rules(30))
        last = FIRST + timedelta(days=stop - 1)
        told = {(a.group, a.measure, a.kind, a.day, a.z) for a in whole.alarms if a.day <= last}
        assert {(a.group, a.measure, a.kind, a.day, a.z) for a in part.alarms} == told


def test_a_weekly_pattern_is_no_alarm_and_its_absence_is() -> None:
    random = np.random.default_rng(1)
    of_week = np.where(np.arange(210) % 7 < 5, 200.0, 20.0)
    rows = random.poisson(of_week * np.ones((10, 1)))
    negative = random.binomial(rows, 0.2)
    assert not find_alarms(series_of(rows, negative), rules(0.05)).alarms
    rows[:, 203] = 20  # a Monday like a Sunday
    negative[:, 203] = 4
    alarms = find_alarms(series_of(rows, negative), rules(0.05)).alarms
    assert {alarm.day for alarm in alarms} == {FIRST + timedelta(days=203)}
    assert {alarm.measure for alarm in alarms} == {Measure.VOLUME}


def test_few_rows_and_short_histories_raise_none() -> None:
    rows = np.full((3, 60), 12)
    negative = np.full((3, 60), 2)
    negative[:, 50:] = 12
    assert not find_alarms(series_of(rows, negative), rules()).alarms
    rows, negative = draw(5, 28, mean=100)
    negative[:, 27] = rows[:, 27]
    assert not find_alarms(series_of(rows, negative), rules()).alarms


def test_a_group_that_comes_suddenly_is_an_alarm() -> None:
    rows, negative = draw(2, 100, mean=100)
    rows[1, :80] = 0
    negative[1, :80] = 0
    alarms = find_alarms(series_of(rows, negative), rules(0.05)).alarms
    assert (alarms[-1].group.value, alarms[-1].measure) == ("0001", Measure.VOLUME)
    assert alarms[-1].day == FIRST + timedelta(days=80)
    assert alarms[-1].usual == 0
