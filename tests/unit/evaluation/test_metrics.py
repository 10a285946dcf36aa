"""Measures against scikit-learn, and against hand-made documents."""

import numpy as np
import pytest
from helpers import tiny
from scipy.stats import binomtest
from sklearn import metrics as sk

from bertsum.evaluation import metrics
from bertsum.evaluation.rouge import Rouge, rouge

LABELS = ("negative", "neutral", "positive")


@pytest.mark.parametrize("seed", range(5))
def test_report_equals_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    expected = generator.integers(0, 3 if seed else 2, 50)  # seed 0: a label without support
    predicted = np.where(generator.random(50) < 0.6, expected, generator.integers(0, 3, 50))
    report = metrics.classification_report(predicted, expected, LABELS)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        expected, predicted, labels=[0, 1, 2], zero_division=0
    )
    assert report.accuracy == pytest.approx(sk.accuracy_score(expected, predicted))
    assert list(report.precision.values()) == pytest.approx(list(precision))
    assert list(report.recall.values()) == pytest.approx(list(recall))
    assert list(report.f1.values()) == pytest.approx(list(f1))
    assert list(report.support.values()) == list(support)
    assert report.macro_f1 == pytest.approx(
        sk.f1_score(expected, predicted, labels=np.unique(expected), average="macro")
    )
    assert list(report.f1) == list(LABELS)


def test_a_report_on_nothing_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        metrics.classification_report(np.array([], np.int64), np.array([], np.int64), LABELS)


def test_summary_lead_and_oracle():
    documents = tiny.encode(
        "The cat sleeps here. A dog runs. Market prices rise in the city. Old news.", "One bird."
    )
    summaries = ["Market prices rise in the city.\nA dog runs.", "One bird."]
    scores = [np.array([0.1, 0.9, 0.8, 0.2], np.float32), np.array([0.5], np.float32)]
    assert metrics.summary_rouge(documents, scores, summaries, 2)[0].rouge_1 == pytest.approx(100)
    assert (
        metrics.lead_rouge(documents, summaries, 2)[0]
        == rouge(["The cat sleeps here.\nA dog runs."], summaries[:1])[0]
    )
    assert metrics.oracle_rouge(documents, summaries, 3)[0].rouge_1 == pytest.approx(100)
    assert metrics.lead_rouge(documents, summaries, 5)[1] == Rouge(100, 100, 100)
    mean, (low, high) = metrics.mean_difference(
        metrics.summary_rouge(documents, scores, summaries, 2),
        metrics.lead_rouge(documents, summaries, 2),
    )
    assert low <= mean <= high
    assert mean > 0


def test_each_document_is_scored_in_its_own_language():
    texts = ["The cat sleeps. A dog runs.", "央行下调利率。他喜欢猫。"]
    documents = tiny.encode(*texts)
    for order in ([0, 1], [1, 0]):
        scores = metrics.lead_rouge(
            [documents[i] for i in order],
            [["The cat sleeps.", "央行下调利率"][i] for i in order],
            1,
        )
        assert [score.rouge_1 for score in scores] == pytest.approx([100, 100])


def test_paired_bootstrap():
    generator = np.random.default_rng(0)
    differences = generator.normal(1, 2, 400)
    low, high = metrics.paired_bootstrap(differences)
    half_width = 1.96 * differences.std() / 20
    assert low == pytest.approx(differences.mean() - half_width, abs=0.03)
    assert high == pytest.approx(differences.mean() + half_width, abs=0.03)
    assert metrics.paired_bootstrap(differences) == (low, high)  # a fixed seed
    assert metrics.paired_bootstrap([2.0, 2.0]) == (2, 2)


def test_intervals_of_several_columns_by_the_same_resampling():
    generator = np.random.default_rng(0)
    first = generator.normal(1, 2, 400)
    found = metrics.bootstrap_intervals(np.stack([first, first + 3, np.full(400, 7.0)], 1))
    half_width = 1.96 * first.std() / 20
    assert found[0] == pytest.approx(
        [first.mean() - half_width, first.mean() + half_width], abs=0.03
    )
    assert found[1] == pytest.approx(found[0] + 3)
    assert found[2] == pytest.approx([7, 7])
    with pytest.raises(ValueError, match="no rows"):
        metrics.bootstrap_intervals(np.zeros((0, 2)))


def test_confusion_equals_scikit_learn():
    generator = np.random.default_rng(0)
    expected, predicted = generator.integers(0, 3, 50), generator.integers(0, 2, 50)
    found = metrics.confusion_matrix(predicted, expected, 3)
    assert np.array_equal(found, sk.confusion_matrix(expected, predicted, labels=[0, 1, 2]))


def test_the_interval_of_a_share_is_wilsons():
    for right, count in ((8, 10), (0, 3), (12, 12), (431, 500)):
        is_right = np.arange(count) < right
        wanted = binomtest(right, count).proportion_ci(method="wilson")
        assert metrics.share_interval(is_right) == pytest.approx((wanted.low, wanted.high))
    with pytest.raises(ValueError, match="no rows"):
        metrics.share_interval(np.zeros(0, bool))


def test_an_answer_is_asked_for_among_the_labels_of_the_data():
    scores = np.array([[0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
    assert metrics.answers_among_present(scores, np.array([0, 2, 2])).tolist() == [0, 2, 2]
    # The label 3 is none of the model's: only class 1 is left, then any.
    assert metrics.answers_among_present(scores, np.array([1, 3, 3])).tolist() == [1, 1, 1]
    assert metrics.answers_among_present(scores, np.array([3, 3, 3])).tolist() == [1, 1, 2]


def test_spread_is_the_mean_over_pairs_of_sentences():
    generator = np.random.default_rng(0)
    vectors = [generator.normal(size=(n, 8)).astype(np.float32) for n in (4, 1, 3)]
    scores = [generator.random(n).astype(np.float32) for n in (4, 1, 3)]
    cosines = [
        np.mean([_cosine(v[i], v[j]) for i in range(len(v)) for j in range(len(v)) if i != j])
        for v in (vectors[0], vectors[2])
    ]
    found = metrics.spread(vectors, scores)
    assert found.vector_cosine == pytest.approx(np.mean(cosines), abs=1e-6)
    assert found.score_deviation == pytest.approx(
        np.mean([scores[0].std(), scores[2].std()]), abs=1e-6
    )


def test_spread_sees_a_collapse():
    same = np.tile(np.arange(1, 5, dtype=np.float32), (6, 1))
    found = metrics.spread([same], [np.full(6, 0.3, np.float32)])
    assert found.vector_cosine == pytest.approx(1)
    assert found.score_deviation == pytest.approx(0, abs=1e-6)
    assert metrics.spread([same[:1]], [np.ones(1, np.float32)]) == metrics.Spread(0.0, 0.0)


def _cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)
