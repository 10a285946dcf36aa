"""Robust z-scores against SciPy, NumPy and simulated histories."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bertsum.robust import (
    Values,
    change_scores,
    fit,
    quantiles,
    stabilized_counts,
    stabilized_shares,
    student_tail,
    threshold,
)

H = 91
WEEKDAYS = np.arange(H) % 7


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("freedom", [2, 10, 32])
@pytest.mark.parametrize("t", [0.5, 2.0, 5.0, 20.0])
def test_the_tail_of_student(t: float, freedom: int) -> None:
    assert student_tail(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9)


@pytest.mark.parametrize("probability", [0.5, 1e-3, 1e-9])
def test_a_threshold_is_the_quantile_of_student(probability: float) -> None:
    assert threshold(probability, H) == pytest.approx(stats.t.isf(probability / 2, 32), rel=1e-6)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1])
def test_no_threshold_has_a_probability_beyond_0_and_1(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        threshold(probability, H)


@given(
    arrays(
        float,
        (3, 8),
        elements=st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))),
    ),
    st.floats(0, 1),
)
def test_quantiles_are_those_of_numpy(values: Values, share: float) -> None:
    expected = [
        np.quantile(row[~np.isnan(row)], share) if not np.isnan(row).all() else np.nan
        for row in values
    ]
    np.testing.assert_allclose(quantiles(values, share), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mean", [5, 50, 5000])
def test_stabilized_counts_have_a_variance_of_one(mean: int) -> None:
    values = stabilized_counts(random().poisson(mean, 100_000))
    assert values.var() == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize(("share", "total"), [(0.1, 60), (0.5, 20), (0.02, 1000)])
def test_stabilized_shares_have_the_variance_that_is_said(share: float, total: int) -> None:
    angles, variances = stabilized_shares(random().binomial(total, share, 100_000), total)
    assert angles.var() == pytest.approx(float(variances), rel=0.08)


def test_no_rows_have_no_share() -> None:
    assert np.isnan(stabilized_shares([0], [0])[0]).all()


@pytest.mark.parametrize("dispersion", [1, 5, 30])
@pytest.mark.parametrize("weekend", [1.0, 0.3])
def test_new_days_exceed_a_threshold_no_more_often_than_it_says(
    dispersion: float, weekend: float
) -> None:
    """Counts, also overdispersed, with and without a weekday pattern; 8,000 series, 7 new days each."""
    means = 100.0 * np.where(np.arange(H + 7) % 7 < 5, 1.0, weekend) * np.ones((8000, 1))
    if dispersion > 1:
        means = random().gamma(means / (dispersion - 1), dispersion - 1)
    values = stabilized_counts(random(1).poisson(means))
    ones = np.ones_like(values)
    base = fit(values[:, :H], ones[:, :H], WEEKDAYS, is_relative=True)
    z = base.scores(values[:, H:], ones[:, H:], np.arange(7))
    # 56,000 scores: of a rate of 0.001, 0.0013 is more than two standard deviations away
    assert (np.abs(z) > threshold(1e-3, H)).mean() < 1.3e-3
    assert np.abs(z).mean() > 0.45  # and the scores are no smaller than that needs


def test_a_weekday_pattern_is_found_and_none_is_invented() -> None:
    noise = random().normal(size=(500, H))
    weekend = np.where(WEEKDAYS < 5, 0.0, -6.0)
    with_pattern = fit(noise + weekend, np.ones((500, H)), WEEKDAYS)
    found = with_pattern.centres[:, 5:].mean() - with_pattern.centres[:, :5].mean()
    assert found == pytest.approx(-6.0, abs=0.3)
    without = fit(noise, np.ones((500, H)), WEEKDAYS)
    assert np.ptp(without.centres, axis=1).mean() < 0.5
    assert without.inflation.mean() < with_pattern.inflation.mean()


def test_bad_days_in_the_history_change_little() -> None:
    values = random().normal(20, 1, (200, H))
    spoilt = values.copy()
    spoilt[:, 10:17] = 100.0  # a bad week
    bases = [fit(v, np.ones_like(v), WEEKDAYS) for v in (values, spoilt)]
    scores = [
        base.scores(np.full((200, 1), 26.0), np.ones((200, 1)), np.array([0])) for base in bases
    ]
    assert scores[1].mean() > 0.75 * scores[0].mean()


def test_limits_are_the_values_that_have_these_scores() -> None:
    values = stabilized_counts(random().negative_binomial(3, 0.02, (50, H)))
    ones = np.ones((50, 1))
    base = fit(values, np.ones((50, H)), WEEKDAYS, is_relative=True)
    low, high = base.limits(4.0 * ones, ones, np.array([2]))
    np.testing.assert_allclose(base.scores(low, ones, np.array([2])), -4.0)
    np.testing.assert_allclose(base.scores(high, ones, np.array([2])), 4.0)


def test_days_without_a_value_are_left_out() -> None:
    values = random().normal(size=(1, H))
    holes = np.where(WEEKDAYS == 6, np.nan, values)
    base = fit(holes, np.ones((1, H)), WEEKDAYS)
    assert base.days[0] == 78
    assert np.isfinite(base.centres).all()
    empty = fit(np.full((1, H), np.nan), np.ones((1, H)), WEEKDAYS)
    assert np.isnan(empty.scores(values[:, :1], np.ones((1, 1)), np.array([0]))).all()


def test_a_change_is_found_where_it_began_and_one_day_is_none() -> None:
    z = random().normal(size=(300, 200))
    days = np.full(z.shape, H)
    limit = threshold(1e-6, H)
    z[:100, 150:] += 2.0
    z[100:200, 150] = 40.0
    scores, lengths = change_scores(z, days)
    found = scores[:100, 175] > limit
    assert found.mean() > 0.9
    begins = 175 - lengths[:100, 175][found] + 1
    assert np.median(np.abs(begins - 150)) <= 4
    assert not (np.abs(scores[100:]) > limit).any()


def test_days_that_are_alike_are_no_change() -> None:
    """Days that hang together wander from their mean; independent days with the same sums do not."""
    noise = random().normal(size=(400, 300))
    z = np.zeros_like(noise)
    for day in range(1, 300):
        z[:, day] = 0.6 * z[:, day - 1] + 0.8 * noise[:, day]
    scores, _ = change_scores(z, np.full(z.shape, H))
    alike = (np.abs(scores) > threshold(1e-4, H)).mean()
    assert alike < 1e-3
    assert np.count_nonzero(scores[:, :55]) == 0  # no memory yet, so nothing is said
