"""Are probabilities as high as the share of right answers? Measured, and mended by a temperature.

After Guo et al. 2017, "On Calibration of Modern Neural Networks": the expected calibration error
(section 2) and temperature scaling (section 4.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bertsum.evaluation.metrics import resampled_means
from bertsum.model.temperature import TemperatureByLength, share_of_short

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

NUM_BINS = 15  # as Guo et al. have them
# The best temperature of random answers is infinite.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
_HALVINGS = 60  # of an interval of 20: it is then narrower than a float64 can tell
_NESTED_HALVINGS = 30  # of each of two intervals: they are then narrower than 2e-8
_ROWS_FOR_EQUAL = 4


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether probabilities are as high as the share of right answers.

    Bins have equal width; the lists have an entry for each bin that holds rows.

    - `error`: mean over rows of |accuracy - confidence| of the row's bin.
    - `equal_mass_error`: the same with bins that hold equally many rows.
    - `counts`: rows of the bin.
    - `confidences`: their mean confidence.
    - `accuracies`: their accuracy.
    """

    error: float
    equal_mass_error: float
    counts: list[int]
    confidences: list[float]
    accuracies: list[float]


def calibration(
    probabilities: FloatArray, expected: IntArray, num_bins: int = NUM_BINS
) -> Calibration:
    """Calibration of [N, C] probabilities, given [N] classes. Raises ValueError for no rows."""
    confidence, is_correct = _answers(probabilities, expected)
    bins = _equal_width_bins(confidence, num_bins)
    counts = np.bincount(bins, minlength=num_bins)
    filled = counts > 0
    confidences = np.bincount(bins, confidence, num_bins)[filled] / counts[filled]
    accuracies = np.bincount(bins, is_correct, num_bins)[filled] / counts[filled]
    # The rank of a row decides its bin: of 30 rows, the two with the lowest confidence are in bin 0.
    ranks = np.argsort(np.argsort(confidence, kind="stable"), kind="stable")
    equal_mass_bins = ranks * num_bins // len(confidence)
    return Calibration(
        error=_error(confidence - is_correct, bins, num_bins),
        equal_mass_error=_error(confidence - is_correct, equal_mass_bins, num_bins),
        counts=counts[filled].tolist(),
        confidences=confidences.tolist(),
        accuracies=accuracies.tolist(),
    )


def calibration_interval(
    probabilities: FloatArray, expected: IntArray, num_bins: int = NUM_BINS
) -> tuple[float, float]:
    """95 % interval of the calibration error, by resampling the rows.

    Few rows in a bin make the error too high, and each sample once more: compare it with
    `error_by_chance`. Raises ValueError for no rows.
    """
    confidence, is_correct = _answers(probabilities, expected)
    bins = _equal_width_bins(confidence, num_bins)
    # [N, bins] the gap of each row in the column of its bin: the error is the sum over bins of the
    # absolute value of the column's mean, since a bin's gap counts as often as it has rows.
    gaps = np.zeros((len(confidence), num_bins))
    gaps[np.arange(len(confidence)), bins] = confidence - is_correct
    errors = np.abs(resampled_means(gaps)).sum(1)
    low, high = np.quantile(errors, [0.025, 0.975])
    return float(low), float(high)


def error_by_chance(
    probabilities: FloatArray, num_bins: int = NUM_BINS, seed: int = 0, num_samples: int = 1000
) -> float:
    """Mean calibration error of a perfectly calibrated model with these [N, C] probabilities.

    It is not 0: of ten rows with the confidence 0.75 no 7.5 can be right. Answers are drawn, each
    right with the probability that its confidence says. Raises ValueError for no rows.
    """
    if len(probabilities) == 0:
        raise ValueError("the calibration of no rows is undefined")
    confidence = probabilities.max(1)
    bins = _equal_width_bins(confidence, num_bins)
    generator = np.random.default_rng(seed)
    errors = []
    for _ in range(num_samples):
        is_correct = generator.random(len(confidence)) < confidence
        errors.append(_error(confidence - is_correct, bins, num_bins))
    return float(np.mean(errors))


def fit_temperature(sets: Sequence[tuple[FloatArray, IntArray]]) -> float:
    """The temperature T with the least mean cross-entropy of softmax(logits / T).

    `sets`: [N, C] logits and [N] classes of each. Each set weighs the same, however many rows it
    has. The result is within MIN_TEMPERATURE and MAX_TEMPERATURE. Raises ValueError for a set
    without rows, and for none.

    Of N rows, 1 / (N + 2) is spread over all classes (Platt 1999, "Probabilistic Outputs for
    Support Vector Machines", section 2.2): that 12 of 12 rows are right does not mean that all are,
    and without it the temperature would be 0.
    """
    if not sets or not all(len(expected) for _, expected in sets):
        raise ValueError("a temperature of no rows is undefined")
    # The cross-entropy is convex in b = 1 / T, so its slope rises.
    return 1 / _zero(lambda b: sum(_slopes(*labelled, b).mean() for labelled in sets), _HALVINGS)


def fit_temperature_by_length(
    sets: Sequence[tuple[FloatArray, IntArray, IntArray]],
) -> TemperatureByLength:
    """Do the same as `fit_temperature` for a temperature that depends on the length of a text.

    `sets`: [N, C] logits, [N] classes and [N] tokens of each. Few rows, or texts that are all as
    long, leave the two temperatures near each other: four rows speak for their being equal.

    Raises ValueError for a set without rows, and for none.
    """
    if not sets or not all(len(expected) for _, expected, _ in sets):
        raise ValueError("a temperature of no rows is undefined")
    pull = _ROWS_FOR_EQUAL / sum(len(expected) for _, expected, _ in sets)

    def slopes(short: float, long: float) -> tuple[float, float]:
        """Derivatives of the mean cross-entropy with respect to 1 / short and 1 / long."""
        by_short, by_long = pull * (short - long), pull * (long - short)
        for logits, expected, lengths in sets:
            share = share_of_short(lengths.astype(np.float64))
            rows = _slopes(logits, expected, (share * short + (1 - share) * long)[:, None])
            by_short += (share * rows).mean() / len(sets)
            by_long += ((1 - share) * rows).mean() / len(sets)
        return by_short, by_long

    def best_short(long: float) -> float:
        return _zero(lambda short: slopes(short, long)[0], _NESTED_HALVINGS)

    # Convex in both together, so also in the one where the other is always the best for it, and the
    # slope there is that of `long` alone.
    long = _zero(lambda long: slopes(best_short(long), long)[1], _NESTED_HALVINGS)
    return TemperatureByLength(short=1 / best_short(long), long=1 / long)


def _zero(slope: Callable[[float], float], num_halvings: int) -> float:
    """The b = 1 / T in the allowed range at which a slope that rises is 0, or the nearest end."""
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(num_halvings):
        middle = (low + high) / 2
        if slope(middle) > 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _slopes(logits: FloatArray, expected: IntArray, inverse: float | FloatArray) -> FloatArray:
    """[N] derivative of each row's cross-entropy of softmax(b * logits) with respect to b.

    That is (the logit that the probabilities expect) - (the logit that the labels expect). Logits 2
    and 0, the first of them right, and b = 0: 1 - 2 = -1, b has to rise.

    `inverse`: b, a number or [N, 1].
    """
    values = logits.astype(np.float64)
    weights = np.exp(inverse * (values - values.max(1, keepdims=True)))  # no overflow: at most 1
    by_model = (weights * values).sum(1) / weights.sum(1)
    doubt = 1 / (len(values) + 2)
    right = values[np.arange(len(values)), expected]
    by_labels = (1 - doubt) * right + doubt * values.mean(1)
    slopes: FloatArray = by_model - by_labels
    return slopes


def _answers(probabilities: FloatArray, expected: IntArray) -> tuple[FloatArray, FloatArray]:
    """[N] confidence, the probability of the most likely class, and [N] 1 where that is right."""
    if len(expected) == 0:
        raise ValueError("the calibration of no rows is undefined")
    is_correct = probabilities.argmax(1) == expected
    return probabilities.max(1).astype(np.float64), is_correct.astype(np.float64)


def _equal_width_bins(confidence: FloatArray, num_bins: int) -> IntArray:
    """[N] the bin of each confidence; a confidence of exactly 1 belongs to the last bin."""
    return np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)


def _error(gaps: FloatArray, bins: IntArray, num_bins: int) -> float:
    """Mean over rows of the absolute mean of the [N] gaps in the row's bin."""
    # A bin with n rows and the sum s counts n / N * |s / n| = |s| / N.
    return float(np.abs(np.bincount(bins, gaps, num_bins)).sum() / len(gaps))
