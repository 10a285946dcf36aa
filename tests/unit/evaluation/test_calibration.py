"""Calibration against numbers made by hand, scikit-learn, and PyTorch's cross-entropy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from sklearn.calibration import calibration_curve

from bertsum.evaluation.calibration import (
    MAX_TEMPERATURE,
    calibration,
    calibration_interval,
    error_by_chance,
    fit_temperature,
    fit_temperature_by_length,
)
from bertsum.model.temperature import TemperatureByLength


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(1).numpy()


def drawn_labels(generator: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """A class for each row, as likely as its probability."""
    below = probabilities.cumsum(1) < generator.random((len(probabilities), 1))
    return below.sum(1).clip(max=probabilities.shape[1] - 1)


def test_an_error_made_by_hand():
    # Of 15 bins, 0.95 is in the last, and 0.60 and 0.62 are in [9/15, 10/15).
    probabilities = np.array([[0.95, 0.05], [0.05, 0.95], [0.4, 0.6], [0.62, 0.38]])
    found = calibration(probabilities, np.array([0, 0, 1, 0]))
    assert found.counts == [2, 2]
    assert found.confidences == pytest.approx([0.61, 0.95])
    assert found.accuracies == [1, 0.5]
    assert found.error == pytest.approx((2 * 0.39 + 2 * 0.45) / 4)
    # Each row has a bin of its own: 0.60 and 0.62 are right, one of the others is.
    assert found.equal_mass_error == pytest.approx((0.40 + 0.38 + 0.05 + 0.95) / 4)


@pytest.mark.parametrize(
    ("strategy", "name"), [("uniform", "error"), ("quantile", "equal_mass_error")]
)
def test_an_error_equals_scikit_learn(strategy, name):
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet([1, 1, 1], 300)
    expected = np.where(
        generator.random(300) < 0.5, probabilities.argmax(1), generator.integers(0, 3, 300)
    )
    found = calibration(probabilities, expected)
    correct = probabilities.argmax(1) == expected
    accuracies, confidences = calibration_curve(
        correct, probabilities.max(1), n_bins=15, strategy=strategy
    )
    counts = np.array(found.counts) if strategy == "uniform" else np.full(15, 20)
    gaps = np.abs(accuracies - confidences)
    assert getattr(found, name) == pytest.approx(counts @ gaps / 300)
    if strategy == "uniform":
        assert found.accuracies == pytest.approx(list(accuracies))
        assert found.confidences == pytest.approx(list(confidences))
        assert sum(found.counts) == 300


def test_a_confidence_of_one_is_in_the_last_bin():
    assert calibration(np.array([[1.0, 0.0]]), np.array([0])).error == 0


def test_the_interval_of_one_bin_is_that_of_its_accuracy():
    """All rows have the confidence 0.95, so the error is 0.95 less the accuracy, which is normal."""
    generator = np.random.default_rng(0)
    probabilities = np.tile([0.95, 0.05], (2000, 1))
    expected = (generator.random(2000) < 0.3).astype(np.int64)
    low, high = calibration_interval(probabilities, expected)
    accuracy = (expected == 0).mean()
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 2000)
    assert (low, high) == pytest.approx((0.95 - accuracy - half, 0.95 - accuracy + half), abs=0.002)


def test_the_error_by_chance_is_the_expected_one():
    # One row of 0.75 is right three times in four: |0.75 - 1| * 3/4 + 0.75 * 1/4.
    one = np.array([[0.75, 0.25]])
    assert error_by_chance(one) == pytest.approx(0.375, abs=0.03)
    # Two in one bin: both right 9/16, one 6/16, none 1/16.
    wanted = (0.5 * 9 + 0.5 * 6 + 1.5 * 1) / 16 / 2
    assert error_by_chance(np.repeat(one, 2, 0)) == pytest.approx(wanted, abs=0.03)


def test_a_calibrated_model_has_the_error_by_chance():
    generator = np.random.default_rng(1)
    probabilities = softmax(generator.normal(0, 2, (500, 3)))
    errors = [
        calibration(probabilities, drawn_labels(generator, probabilities)).error for _ in range(200)
    ]
    assert np.mean(errors) == pytest.approx(error_by_chance(probabilities), rel=0.1)


def test_a_temperature_is_where_the_cross_entropy_is_least():
    """Of a large set with the temperature 3 and a small one with 1/2: each weighs the same."""
    generator = np.random.default_rng(0)
    sets = []
    for count, temperature in ((3000, 3.0), (60, 0.5)):
        logits = generator.normal(0, 2, (count, 3)).astype(np.float32)
        sets.append((logits, drawn_labels(generator, softmax(logits / temperature))))

    def loss(temperature: float) -> float:
        losses = [
            torch.nn.functional.cross_entropy(
                torch.from_numpy(logits).double() / temperature,
                torch.from_numpy(labels),
                label_smoothing=1 / (len(labels) + 2),
            )
            for logits, labels in sets
        ]
        return float(sum(losses))

    wanted = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-8}).x
    assert fit_temperature(sets) == pytest.approx(wanted, rel=1e-4)
    assert 0.5 < wanted < 2.8
    large, small = sets
    assert fit_temperature([large]) == pytest.approx(3, rel=0.1)
    three_times = tuple(np.concatenate([values] * 3) for values in large)
    assert fit_temperature([three_times, small]) == pytest.approx(wanted, rel=0.01)


def test_the_temperature_mends_the_error():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (4000, 3))
    labels = drawn_labels(generator, softmax(logits / 2.5))
    assert calibration(softmax(logits), labels).error > 0.1
    fitted = fit_temperature([(logits, labels)])
    assert calibration(softmax(logits / fitted), labels).error < 0.03


def rows_by_length(
    generator: np.random.Generator, temperature: TemperatureByLength, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, classes and lengths of a model whose right temperature is the given one."""
    logits = generator.normal(0, 3, (len(lengths), 3))
    inverse = temperature.inverse(lengths.astype(np.float64))
    return logits, drawn_labels(generator, softmax(logits * inverse[:, None])), lengths


def test_a_temperature_by_length_is_where_the_cross_entropy_is_least():
    generator = np.random.default_rng(0)
    right = TemperatureByLength(short=2.5, long=0.8)
    sets = [
        rows_by_length(generator, right, generator.integers(1, 60, 400)),
        rows_by_length(generator, right, generator.integers(200, 3000, 100)),
    ]

    def loss(inverses: np.ndarray) -> float:
        total = 4 / 500 * (inverses[0] - inverses[1]) ** 2 / 2 * len(sets)
        for logits, labels, lengths in sets:
            share = 128 / (128 + lengths)
            inverse = share * inverses[0] + (1 - share) * inverses[1]
            total += torch.nn.functional.cross_entropy(
                torch.from_numpy(logits * inverse[:, None]),
                torch.from_numpy(labels),
                label_smoothing=1 / (len(labels) + 2),
            ).item()
        return total

    options = {"xatol": 1e-7, "fatol": 1e-12}
    wanted = minimize(loss, [1, 1], method="Nelder-Mead", options=options).x
    fitted = fit_temperature_by_length(sets)
    assert (1 / fitted.short, 1 / fitted.long) == pytest.approx(wanted, rel=1e-4)


def test_a_temperature_by_length_mends_what_one_number_cannot():
    generator = np.random.default_rng(1)
    right = TemperatureByLength(short=2.5, long=0.7)
    short = rows_by_length(generator, right, generator.integers(5, 30, 3000))
    long = rows_by_length(generator, right, generator.integers(500, 3000, 3000))
    number = fit_temperature([short[:2], long[:2]])
    fitted = fit_temperature_by_length([short, long])
    assert (fitted.short, fitted.long) == pytest.approx((2.5, 0.7), rel=0.15)
    for logits, labels, lengths in (short, long):
        inverse = fitted.inverse(lengths.astype(np.float64))[:, None]
        assert calibration(softmax(logits / number), labels).error > 0.05
        assert calibration(softmax(logits * inverse), labels).error < 0.03
        assert ((logits * inverse).argmax(1) == logits.argmax(1)).all()


def test_texts_of_one_length_have_one_temperature():
    generator = np.random.default_rng(2)
    right = TemperatureByLength(short=1.5, long=1.5)
    rows = rows_by_length(generator, right, np.full(500, 40))
    fitted = fit_temperature_by_length([rows])
    assert fitted.short == pytest.approx(fitted.long, rel=1e-4)
    assert fitted.short == pytest.approx(fit_temperature([rows[:2]]), rel=1e-4)


def test_few_rows_that_are_all_right_make_no_certainty():
    logits = np.tile([4.0, 0.0, 0.0], (12, 1))
    fitted = fit_temperature([(logits, np.zeros(12, np.int64))])
    # The label is expected with 1 - 1/14 + 1/14/3, and the temperature says so.
    assert softmax(logits / fitted)[0, 0] == pytest.approx(1 - 2 / 3 / 14)
    wrong = fit_temperature([(logits, np.ones(12, np.int64))])
    assert wrong == pytest.approx(MAX_TEMPERATURE)


@pytest.mark.parametrize("count", [1, 5])
def test_a_head_of_one_class_or_equal_logits_has_some_temperature(count):
    assert np.isfinite(fit_temperature([(np.zeros((4, count)), np.zeros(4, np.int64))]))


def test_no_rows_are_an_error():
    no_rows, no_labels = np.zeros((0, 2)), np.zeros(0, np.int64)
    for call in (calibration, calibration_interval, lambda p, _: error_by_chance(p)):
        with pytest.raises(ValueError, match="no rows"):
            call(no_rows, no_labels)
    for sets in ([], [(no_rows, no_labels)]):
        with pytest.raises(ValueError, match="no rows"):
            fit_temperature(sets)
        with pytest.raises(ValueError, match="no rows"):
            fit_temperature_by_length([(*rows, no_labels) for rows in sets])
