"""Measures of a model: ROUGE of summaries, accuracy and F1 of classes, signs of collapse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bertsum.config import SelectionConfig
from bertsum.evaluation.rouge import Rouge, mean_rouge, rouge
from bertsum.labels.oracle import greedy_oracle
from bertsum.model.ranking import CandidateRanker, choose_sentences
from bertsum.text.encoder import EncodedDocument


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """Scores of a classifier: all are shares from 0 to 1.

    - `accuracy`: over all rows.
    - `macro_f1`: mean of the F1 of the labels that have rows.
    - the others: by label; `support` counts its rows.
    """

    accuracy: float
    macro_f1: float
    precision: dict[str, float]
    recall: dict[str, float]
    f1: dict[str, float]
    support: dict[str, int]


@dataclass(frozen=True, slots=True)
class Spread:
    """How much sentences of one document differ, mean over documents of at least two sentences.

    - `vector_cosine`: mean cosine between the vectors of two sentences. Near 1 the encoder gives
      every sentence the same vector.
    - `score_deviation`: standard deviation of the sentence scores. Near 0 they do not rank the
      sentences.
    """

    vector_cosine: float
    score_deviation: float


def summary_rouge(
    documents: Sequence[EncodedDocument],
    scores: Sequence[npt.NDArray[np.float32]],
    summaries: Sequence[str],
    size: int,
    ranker: CandidateRanker | None = None,
) -> list[Rouge]:
    """ROUGE of `size` sentences of each document, chosen as a job does by default.

    - `scores`: [S] probabilities of each document's sentences.
    - `summaries`: the references.
    """
    chosen = choose_sentences(documents, scores, SelectionConfig(size=size), ranker)
    return _rouge_of(documents, chosen, summaries)


def lead_rouge(
    documents: Sequence[EncodedDocument], summaries: Sequence[str], size: int
) -> list[Rouge]:
    """ROUGE of the first `size` sentences: the baseline of news."""
    chosen = [range(min(size, len(document.spans))) for document in documents]
    return _rouge_of(documents, chosen, summaries)


def oracle_rouge(
    documents: Sequence[EncodedDocument], summaries: Sequence[str], size: int
) -> list[Rouge]:
    """ROUGE of the greedy oracle's choice: what a perfect ranking of sentences would reach."""
    chosen = []
    for document, summary in zip(documents, summaries, strict=True):
        sentences = [document.text[start:stop] for start, stop in document.spans]
        chosen.append(greedy_oracle(sentences, summary, document.language, size))
    return _rouge_of(documents, chosen, summaries)


def _rouge_of(
    documents: Sequence[EncodedDocument],
    chosen: Sequence[Sequence[int]],
    summaries: Sequence[str],
) -> list[Rouge]:
    """ROUGE of the sentences with the `chosen` indices, each on a line."""
    scores = []
    for document, indices, summary in zip(documents, chosen, summaries, strict=True):
        lines = []
        for index in indices:
            start, stop = document.spans[index]
            lines.append(" ".join(document.text[start:stop].split()))  # a sentence may hold a break
        scores += rouge(["\n".join(lines)], [summary], document.language)
    return scores


def paired_bootstrap(
    differences: Sequence[float], seed: int = 0, num_samples: int = 10_000
) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by resampling documents (Koehn 2004)."""
    values = np.asarray(differences, np.float64)
    generator = np.random.default_rng(seed)
    # samples at once: a loop over single ones takes 100 times as long, all at once take gigabytes
    block = 100
    means = []
    for _ in range(num_samples // block):
        rows = generator.integers(0, len(values), (block, len(values)))
        means.append(values[rows].mean(1))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def mean_difference(
    ours: Sequence[Rouge], theirs: Sequence[Rouge]
) -> tuple[float, tuple[float, float]]:
    """Mean ROUGE-1 difference over the same documents, and its 95 % interval."""
    differences = [a.rouge_1 - b.rouge_1 for a, b in zip(ours, theirs, strict=True)]
    gain = mean_rouge(ours).rouge_1 - mean_rouge(theirs).rouge_1
    return gain, paired_bootstrap(differences)


def bootstrap_intervals(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[K, 2] 95 % intervals of the means of [N, K] values. Raises ValueError for no rows."""
    means = resampled_means(values)
    return np.asarray(np.quantile(means, [0.025, 0.975], axis=0).T)


def resampled_means(
    values: npt.NDArray[np.float64], seed: int = 0, num_samples: int = 2000
) -> npt.NDArray[np.float64]:
    """[samples, K] means of [N, K] values over N rows that are drawn with replacement.

    The samples are the same for all K columns. Raises ValueError for no rows.
    """
    if len(values) == 0:
        raise ValueError("an interval of no rows is undefined")
    generator = np.random.default_rng(seed)
    num_rows = len(values)
    means = np.empty((num_samples, values.shape[1]))
    for sample in range(num_samples):
        # How often each row was drawn weighs it in the mean: no copy of the values is needed.
        counts = np.bincount(generator.integers(0, num_rows, num_rows), minlength=num_rows)
        means[sample] = counts @ values / num_rows
    return means


def share_interval(is_right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """95 % interval of the share of right ones among [N] (Wilson 1927).

    Unlike a bootstrap, it does not end at 1 where all of few rows are right. Raises ValueError for
    no rows.
    """
    count = len(is_right)
    if count == 0:
        raise ValueError("an interval of no rows is undefined")
    share = float(is_right.mean())
    z_squared = 1.959964**2  # 95 % of a normal distribution lie within this many deviations
    middle = (share + z_squared / (2 * count)) / (1 + z_squared / count)
    variance = share * (1 - share) / count + z_squared / (4 * count**2)
    half = math.sqrt(z_squared * variance) / (1 + z_squared / count)
    # For a share of 0 or 1 rounding may go beyond it.
    return max(0.0, middle - half), min(1.0, middle + half)


def classification_report(
    predicted: npt.NDArray[np.int64], expected: npt.NDArray[np.int64], labels: Sequence[str]
) -> ClassificationReport:
    """Report on [N] predicted and expected indices of `labels`. Raises ValueError for no rows."""
    if len(expected) == 0:
        raise ValueError("a report on no rows is undefined")
    precision, recall, f1, support = {}, {}, {}, {}
    for index, label in enumerate(labels):
        is_predicted, is_expected = predicted == index, expected == index
        hits = int((is_predicted & is_expected).sum())
        num_predicted, num_expected = int(is_predicted.sum()), int(is_expected.sum())
        total = num_predicted + num_expected
        # a share of nothing counts as 0, as in scikit-learn
        precision[label] = hits / num_predicted if num_predicted else 0.0
        recall[label] = hits / num_expected if num_expected else 0.0
        f1[label] = 2 * hits / total if total else 0.0
        support[label] = num_expected
    present = [f1[label] for label in labels if support[label]]
    return ClassificationReport(
        accuracy=float((predicted == expected).mean()),
        macro_f1=sum(present) / len(present),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
    )


def answers_among_present(
    scores: npt.NDArray[np.floating], expected: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """[N] the class with the highest of [N, C] scores, of those that occur among [N] expected ones.

    A set may have two of a model's three classes: so it is asked for one of these two. Expected
    classes from C on are not known to the model; it is asked for any where none is known.
    """
    present = np.unique(expected[expected < scores.shape[1]])
    if not len(present):
        present = np.arange(scores.shape[1])
    answers: npt.NDArray[np.int64] = present[scores[:, present].argmax(1)]
    return answers


def confusion_matrix(
    predicted: npt.NDArray[np.int64], expected: npt.NDArray[np.int64], num_labels: int
) -> npt.NDArray[np.int64]:
    """[C, C] rows by the expected label (first) and the predicted one (second)."""
    # One number a cell: of 3 labels, expected 1 and predicted 2 make 5, which is cell [1, 2].
    cells = np.bincount(expected * num_labels + predicted, minlength=num_labels**2)
    return cells.reshape(num_labels, num_labels)


def spread(
    vectors: Sequence[npt.NDArray[np.float32]], scores: Sequence[npt.NDArray[np.float32]]
) -> Spread:
    """Spread of [S, H] vectors and [S] scores, one array a document."""
    cosines, deviations = [], []
    for document_vectors, document_scores in zip(vectors, scores, strict=True):
        count = len(document_scores)
        if count < 2:
            continue
        unit = document_vectors / np.linalg.norm(document_vectors, axis=1, keepdims=True)
        # |sum of unit vectors|^2 is the sum of the cosines of all pairs (i, j). Without the pairs
        # of a vector with itself, 1 each, there are S * (S - 1) of them.
        sum_of_cosines = float(np.square(unit.sum(0)).sum())
        cosines.append((sum_of_cosines - count) / (count * (count - 1)))
        deviations.append(float(document_scores.std()))
    if not cosines:
        return Spread(0.0, 0.0)
    return Spread(float(np.mean(cosines)), float(np.mean(deviations)))
