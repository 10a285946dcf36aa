"""Does a number depart from its own history? Robust z-scores, and a test for a lasting change.

A history is the days before, which had weekdays, good days and bad ones. Its centre, its weekday
pattern and its spread are medians and quantiles, so that bad days among them count little. The
spread is never taken for smaller than what chance alone gives (the sampling variance).

    values -> stabilized_counts / stabilized_shares   now their sampling variance is known
           -> fit(history)                            centre by weekday, spread
           -> Baseline.scores(new days)               z: how far from the centre, in spreads
           -> change_scores(z)                        is the mean of the last days another one?
           -> threshold(probability, days)            what |z| chance exceeds that rarely

All is computed for G series at once. NaN stands for a day without a value.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CHANGE_DAYS: Final = (5, 7, 10, 14, 21, 28)
"""Lengths of the stretches of last days that `change_scores` tests."""

_WEEK = 7
_NORMAL_MAD = 1.4826  # of a normal distribution: its standard deviation over its MAD
_NORMAL_Q90 = 1.2816  # and its quantile of 90 % over its standard deviation
_MEDIAN_CHI2 = 0.4549  # the median of the square of a standard normal value
_MEDIAN_VARIANCE = math.pi / 2  # of a median over that of a mean
_LEAST_OF_WEEKDAY = 3  # days of a weekday that its pattern needs
_BEND = 0.2  # of the excess: false alarms above and below are then about as frequent, as simulated
_LEAST_BEND = 1e-12  # where a bent value is the value itself to the last digits
_MOST_BENT = 50.0  # e**50 rows are more than any day has
_CLIP = 3.0  # what one day can add to a change, in spreads
_MEMORY_DAYS = 91  # of which the dependence of days on each other is estimated
_LEAST_MEMORY = 28
_LEAST_SQUARE = 0.3  # scores have squares of about 0.6, since spreads are at least those of chance
_MOST_DEPENDENCE = 0.8


def stabilized_counts(counts: npt.ArrayLike) -> Values:
    """2 sqrt(n + 3/8): a Poisson count then has a variance of about 1 (Anscombe, 1948)."""
    return 2.0 * np.sqrt(np.asarray(counts, np.float64) + 0.375)


def stabilized_shares(parts: npt.ArrayLike, totals: npt.ArrayLike) -> tuple[Values, Values]:
    """Angles of the shares, and their variances 1 / (4 n + 2) (Anscombe, 1948).

    An angle's distance to another one says the same of 2 % and 4 % as of 20 % and 27 %. A total of
    0 gives NaN.
    """
    k, n = np.asarray(parts, np.float64), np.asarray(totals, np.float64)
    angles = np.arcsin(np.sqrt((k + 0.375) / (n + 0.75)))
    return np.where(n > 0, angles, np.nan), 1.0 / (4.0 * n + 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is usual for G series.

    - `centres`: [G, 7], by weekday, Monday first
    - `excess`: [G], variance beyond that of sampling, in units of `_weights`
    - `scales`: [G], the centre of all weekdays; 0 where the variance is not relative (`fit`)
    - `bend`: [G], see `_bent`; 0 where the variance is not relative
    - `upper`, `lower`: [G], spread above and below the centre, in expected standard deviations; at
      least 1
    - `inflation`: [G], factor on the variance of a new day, since the centres are estimates
    - `days`: [G], number of days of the history that have a value
    """

    centres: Values
    excess: Values
    scales: Values
    bend: Values
    upper: Values
    lower: Values
    inflation: Values
    days: npt.NDArray[np.int64]

    def expected(self, weekdays: npt.NDArray[np.int64]) -> Values:
        """Centres [G, D] of days with these weekdays [D], 0 for Monday."""
        return self.centres[:, weekdays]

    def scores(self, values: Values, variances: Values, weekdays: npt.NDArray[np.int64]) -> Values:
        """z [G, D] of new days; NaN where a value or the history is missing."""
        centres = self.expected(weekdays)
        distance = _bent(values, self.bend) - _bent(centres, self.bend)
        z = distance / self._deviations(centres, variances)
        return z / np.where(z > 0, self.upper[:, None], self.lower[:, None])

    def limits(
        self, z: Values, variances: Values, weekdays: npt.NDArray[np.int64]
    ) -> tuple[Values, Values]:
        """Values [G, D] that have the scores -z and z."""
        centres = self.expected(weekdays)
        centre, reach = _bent(centres, self.bend), z * self._deviations(centres, variances)
        low, high = centre - reach * self.lower[:, None], centre + reach * self.upper[:, None]
        return _straight(low, self.bend), _straight(high, self.bend)

    def _deviations(self, centres: Values, variances: Values) -> Values:
        """Standard deviations [G, D] of new days, bent."""
        variance = variances + self.excess[:, None] * _weights(centres, self.scales)
        slope = 1.0 / np.sqrt(1.0 + self.bend[:, None] * centres**2)
        return slope * np.sqrt(variance * self.inflation[:, None])


def fit(
    values: Values,
    variances: Values,
    weekdays: npt.NDArray[np.int64],
    *,
    is_relative: bool = False,
) -> Baseline:
    """What is usual by a history.

    - `values`: [G, H], with NaN for a day without one
    - `variances`: [G, H], of sampling
    - `weekdays`: [H], 0 for Monday
    - `is_relative`: the spread beyond sampling is a share of the value, as of counts; else it is
      the same at all values, as of shares
    """
    days = np.count_nonzero(~np.isnan(values), axis=1)
    centre = quantiles(values, 0.5)
    pattern, strength = _weekday_pattern(values - centre[:, None], weekdays)
    all_centres = centre[:, None] + pattern
    centres = all_centres[:, weekdays]
    # a normal error of variance v + e w has a squared median of 0.4549 (v + e w)
    scales = np.maximum(centre, 1.0) if is_relative else np.zeros_like(centre)
    weights = _weights(centres, scales)
    beyond = ((values - centres) ** 2 / _MEDIAN_CHI2 - variances) / weights
    excess = np.nan_to_num(np.maximum(quantiles(beyond, 0.5), 0.0))
    bend = _BEND * excess if is_relative else np.zeros_like(excess)
    slope = 1.0 / np.sqrt(1.0 + bend[:, None] * centres**2)
    expected = slope * np.sqrt(variances + excess[:, None] * weights)
    standard = (_bent(values, bend) - _bent(centres, bend)) / expected
    # half of the days say nothing of a skewed distribution's long side
    typical = _NORMAL_MAD * quantiles(np.abs(standard), 0.5)
    upper = np.fmax(typical, quantiles(standard, 0.9) / _NORMAL_Q90)
    lower = np.fmax(typical, -quantiles(standard, 0.1) / _NORMAL_Q90)
    # a centre of p free values out of n days fits these days too well, and a new one less well
    p, n = 1.0 + (_WEEK - 1) * strength, np.maximum(days, 1)
    inflation = n / np.maximum(n - p, 1.0) * (1.0 + _MEDIAN_VARIANCE * p / n)
    return Baseline(
        centres=all_centres,
        excess=excess,
        scales=scales,
        bend=bend,
        upper=np.maximum(upper, 1.0),
        lower=np.maximum(lower, 1.0),
        inflation=inflation,
        days=days,
    )


def _weights(centres: Values, scales: Values) -> Values:
    """Units of the variance beyond sampling: the square of the centre, or 1.

    On weekdays with less than usual the unit is the usual one. The relative spread may be larger
    there, as of articles that come in clumps, and the few days of one weekday do not tell.
    """
    relative = np.maximum(centres, scales[:, None]) ** 2
    return np.where(scales[:, None] > 0, relative, 1.0)


def _bent(values: Values, bend: Values) -> Values:
    """asinh(sqrt(b) y) / sqrt(b): y where it is small, a logarithm where it is large.

    A spread that is a share of the value has a long side above the centre: in counts of news it
    is as that of a lognormal distribution, and a logarithm makes it normal; of gamma distributions
    a square root does, which `stabilized_counts` is. This lies between (`_BEND`).
    """
    root = np.sqrt(np.maximum(bend, _LEAST_BEND))[:, None]
    return np.asarray(np.arcsinh(root * values) / root, np.float64)


def _straight(bent: Values, bend: Values) -> Values:
    """The inverse of `_bent`."""
    root = np.sqrt(np.maximum(bend, _LEAST_BEND))[:, None]
    return np.asarray(np.sinh(np.minimum(root * bent, _MOST_BENT)) / root, np.float64)


def _weekday_pattern(errors: Values, weekdays: npt.NDArray[np.int64]) -> tuple[Values, Values]:
    """Offsets [G, 7] of the weekdays, and how much of what was measured they are [G].

    Medians of few days differ by chance, too. By how much is known, and the offsets are shrunk
    by that share of their own variance, down to 0 (James and Stein, 1961).
    """
    offsets = np.zeros((len(errors), _WEEK))
    counts = np.zeros((len(errors), _WEEK))
    for weekday in range(_WEEK):
        of_weekday = errors[:, weekdays == weekday]
        counts[:, weekday] = np.count_nonzero(~np.isnan(of_weekday), axis=1)
        is_known = counts[:, weekday] >= _LEAST_OF_WEEKDAY
        offsets[is_known, weekday] = quantiles(of_weekday[is_known], 0.5)
    spread = _NORMAL_MAD * quantiles(np.abs(errors - offsets[:, weekdays]), 0.5)
    by_chance = _MEDIAN_VARIANCE * spread**2 / np.maximum(counts.mean(axis=1), 1.0)
    measured = np.maximum((offsets**2).mean(axis=1), 1e-300)
    strength = np.nan_to_num(np.clip(1.0 - by_chance / measured, 0.0, 1.0))
    return offsets * strength[:, None], strength


def change_scores(z: Values, days: npt.NDArray[np.int64]) -> tuple[Values, npt.NDArray[np.int64]]:
    """Whether the last days have another mean than the ones before: a moving-sum test.

    - `z`: [G, D], scores of consecutive days, each by the history before it
    - `days`: [G, D], how many days that history had

    Returns the z [G, D] of the stretch of last days (CHANGE_DAYS) that departs most, 0 where none
    can be judged, and the length of that stretch [G, D]. One day counts for at most 3 spreads, so
    that it makes no change alone. A tendency of neighbouring days to be alike is allowed for.
    """
    clipped = np.nan_to_num(np.clip(z, -_CLIP, _CLIP))
    is_known = (~np.isnan(z)).astype(np.float64)
    square, dependence = _memory(clipped, is_known)
    best, lengths = np.zeros_like(z), np.zeros(z.shape, np.int64)
    for length in CHANGE_DAYS:
        sums, counts = _moving_sum(clipped, length), _moving_sum(is_known, length)
        # the scores share the error of one centre, which is a median of `days` days
        shared = counts**2 * _MEDIAN_VARIANCE / np.maximum(days, 1)
        variance = square * (counts * (1.0 + dependence) / (1.0 - dependence) + shared)
        can_judge = (counts >= CHANGE_DAYS[0]) & (counts >= 0.7 * length) & (variance > 0)
        score = np.where(can_judge, sums / np.sqrt(np.where(can_judge, variance, 1.0)), 0.0)
        is_better = np.abs(np.nan_to_num(score)) > np.abs(best)
        best = np.where(is_better, score, best)
        lengths = np.where(is_better, length, lengths)
    return best, lengths


def _memory(clipped: Values, is_known: Values) -> tuple[Values, Values]:
    """Mean square [G, D] of the days, and correlation of neighbouring ones, at least 0.

    Of the days before the longest stretch that is tested, so that a change does not hide itself.
    NaN where too few days are known.
    """
    products = np.zeros_like(clipped)
    products[:, 1:] = clipped[:, 1:] * clipped[:, :-1]
    rest = CHANGE_DAYS[-1]
    sums: list[Values] = []
    for terms in (clipped**2, products, is_known):
        earlier = np.zeros_like(clipped)
        earlier[:, rest:] = _moving_sum(terms, _MEMORY_DAYS)[:, : max(clipped.shape[1] - rest, 0)]
        sums.append(earlier)
    squares, neighbours, known = sums
    correlation = neighbours / np.maximum(squares, 1e-300)
    correlation += (1.0 + 3.0 * correlation) / np.maximum(known, 1.0)  # its bias (Kendall, 1954)
    correlation = np.clip(correlation, 0.0, _MOST_DEPENDENCE)
    square = np.maximum(squares / np.maximum(known, 1.0), _LEAST_SQUARE)
    is_enough = known >= _LEAST_MEMORY
    return np.where(is_enough, square, np.nan), np.where(is_enough, correlation, np.nan)


def _moving_sum(values: Values, length: int) -> Values:
    """Sums [G, D] of the last `length` days, fewer at the start."""
    total = np.cumsum(values, axis=1)
    sums = total.copy()
    sums[:, length:] -= total[:, :-length]
    return sums


def quantiles(values: Values, share: float) -> Values:
    """Quantile [G] of each row of [G, N] between its sorted values, NaN left out; or NaN."""
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    ordered = np.sort(values, axis=1)  # NaN last
    last = np.count_nonzero(~np.isnan(values), axis=1) - 1
    position = np.maximum(last, 0) * share
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(last, 0))
    rows = np.arange(len(values))
    low, high = ordered[rows, below], ordered[rows, above]
    return np.asarray(low + (position - below) * (high - low), np.float64)


def threshold(probability: float, days: int) -> float:
    """|z| that a new day exceeds by chance with this probability, on either side.

    The spread is an estimate of `days` days. A median of absolute deviations has 37 % of the
    efficiency of a standard deviation, so z has Student's distribution with that share of the
    days as its degrees of freedom. Raises ValueError for a probability outside of (0, 1).
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"a probability lies in (0, 1), not {probability}")
    return _student_threshold(probability, max(2 * int(0.37 * days / 2), 2))


@lru_cache(maxsize=4096)
def _student_threshold(probability: float, freedom: int) -> float:
    """Two-sided quantile of Student's distribution, by bisection; `freedom` is even."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > probability:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if student_tail(middle, freedom) > probability:
            low = middle
        else:
            high = middle
    return high


def student_tail(t: float, freedom: int) -> float:
    """P(|T| > t) of Student's distribution with an even number of degrees of freedom.

    The closed sum of Abramowitz and Stegun, 26.7.4, from its end: 1 - sum would lose the digits
    of small tails, so the remaining terms of the series are added, which are all positive.
    """
    cosine2 = freedom / (freedom + t * t)
    sine = t / math.sqrt(freedom + t * t)
    # 1/sine = (1 - cosine2) ** -0.5 = sum of all terms of the series; the tail has those left out
    term = 1.0
    for i in range(1, freedom // 2):
        term *= (2 * i - 1) / (2 * i) * cosine2
    tail, i = 0.0, freedom // 2
    while True:
        term *= (2 * i - 1) / (2 * i) * cosine2
        tail += term
        i += 1
        if term <= tail * 1e-12 or cosine2 >= 1.0:
            break
    return 1.0 if cosine2 >= 1.0 else sine * tail
