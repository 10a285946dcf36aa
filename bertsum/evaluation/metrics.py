"""What a run is measured by: ROUGE of selected sentences, sentiment accuracy and F1, and signs of collapse."""

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
    """`accuracy` over all rows; the rest by label; `macro_f1` is the mean over labels with support."""

    accuracy: float
    macro_f1: float
    precision: dict[str, float]
    recall: dict[str, float]
    f1: dict[str, float]
    support: dict[str, int]


@dataclass(frozen=True, slots=True)
class Spread:
    """How much sentences of one document differ, mean over documents of at least two sentences.

    `vector_cosine`: mean cosine between the vectors of two sentences; near 1 the encoder says the same of all.
    `score_deviation`: standard deviation of the sentence scores; near 0 they do not rank the sentences.
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
    """ROUGE of `size` sentences of each document, chosen as a job does by default. `scores`: [S] probabilities."""
    return _rouge_of(documents, choose_sentences(documents, scores, SelectionConfig(size=size), ranker), summaries)


def lead_rouge(documents: Sequence[EncodedDocument], summaries: Sequence[str], size: int) -> list[Rouge]:
    """ROUGE of the first `size` sentences: the baseline of news."""
    return _rouge_of(documents, [range(min(size, len(document.spans))) for document in documents], summaries)


def oracle_rouge(documents: Sequence[EncodedDocument], summaries: Sequence[str], size: int) -> list[Rouge]:
    """ROUGE of the greedy oracle's choice: what a perfect ranking of sentences would reach."""
    chosen = [
        greedy_oracle([document.text[a:b] for a, b in document.spans], summary, document.language, size)
        for document, summary in zip(documents, summaries, strict=True)
    ]
    return _rouge_of(documents, chosen, summaries)


def paired_bootstrap(differences: Sequence[float], seed: int = 0, num_samples: int = 10_000) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by resampling documents (Koehn 2004)."""
    values = np.asarray(differences, np.float64)
    generator = np.random.default_rng(seed)
    block = 100  # samples at once: a loop over single ones takes 100 times as long, all at once take gigabytes
    means = [
        values[generator.integers(0, len(values), (block, len(values)))].mean(1) for _ in range(num_samples // block)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def classification_report(
    predicted: npt.NDArray[np.int64], expected: npt.NDArray[np.int64], labels: Sequence[str]
) -> ClassificationReport:
    """Accuracy, and precision, recall, F1 and support by label. Raises ValueError for no rows."""
    if len(expected) == 0:
        raise ValueError("a report on no rows is undefined")
    precision, recall, f1, support = {}, {}, {}, {}
    for index, label in enumerate(labels):
        hits = int(((predicted == index) & (expected == index)).sum())
        num_predicted, num_expected = int((predicted == index).sum()), int((expected == index).sum())
        precision[label] = hits / num_predicted if num_predicted else 0.0
        recall[label] = hits / num_expected if num_expected else 0.0
        f1[label] = 2 * hits / (num_predicted + num_expected) if num_predicted + num_expected else 0.0
        support[label] = num_expected
    present = [f1[label] for label in labels if support[label]]
    accuracy = float((predicted == expected).mean())
    return ClassificationReport(accuracy, sum(present) / len(present), precision, recall, f1, support)


def spread(vectors: Sequence[npt.NDArray[np.float32]], scores: Sequence[npt.NDArray[np.float32]]) -> Spread:
    """Spread of [S, H] vectors and [S] scores, one array a document."""
    cosines, deviations = [], []
    for document_vectors, document_scores in zip(vectors, scores, strict=True):
        count = len(document_scores)
        if count < 2:
            continue
        unit = document_vectors / np.linalg.norm(document_vectors, axis=1, keepdims=True)
        cosines.append((float(np.square(unit.sum(0)).sum()) - count) / (count * (count - 1)))
        deviations.append(float(document_scores.std()))
    return Spread(float(np.mean(cosines)), float(np.mean(deviations))) if cosines else Spread(0.0, 0.0)


def mean_difference(ours: Sequence[Rouge], theirs: Sequence[Rouge]) -> tuple[float, tuple[float, float]]:
    """Mean ROUGE-1 difference over the same documents, and its 95 % interval."""
    differences = [a.rouge_1 - b.rouge_1 for a, b in zip(ours, theirs, strict=True)]
    return mean_rouge(ours).rouge_1 - mean_rouge(theirs).rouge_1, paired_bootstrap(differences)


def _rouge_of(
    documents: Sequence[EncodedDocument], chosen: Sequence[Sequence[int]], summaries: Sequence[str]
) -> list[Rouge]:
    texts = [
        "\n".join(" ".join(document.text[slice(*document.spans[index])].split()) for index in indices)
        for document, indices in zip(documents, chosen, strict=True)
    ]
    return [
        rouge([text], [summary], document.language)[0]
        for document, text, summary in zip(documents, texts, summaries, strict=True)
    ]


def bootstrap_intervals(
    values: npt.NDArray[np.float64], seed: int = 0, num_samples: int = 2000
) -> npt.NDArray[np.float64]:
    """[K, 2] 95 % intervals of the means of [N, K] values, by resampling the N rows, the same for all K columns."""
    if len(values) == 0:
        raise ValueError("an interval of no rows is undefined")
    generator = np.random.default_rng(seed)
    num_rows = len(values)
    means = np.empty((num_samples, values.shape[1]))
    for sample in range(num_samples):
        counts = np.bincount(generator.integers(0, num_rows, num_rows), minlength=num_rows)
        means[sample] = counts @ values / num_rows
    return np.asarray(np.quantile(means, [0.025, 0.975], axis=0).T)


def confusion_matrix(
    predicted: npt.NDArray[np.int64], expected: npt.NDArray[np.int64], num_labels: int
) -> npt.NDArray[np.int64]:
    """[C, C] rows by the expected label (first) and the predicted one (second)."""
    return np.bincount(expected * num_labels + predicted, minlength=num_labels**2).reshape(num_labels, num_labels)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities can be taken at their word (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    `error`: mean over rows of |accuracy - confidence| of the row's bin. The lists have one entry a bin of equal width
    that holds rows: how many, their mean confidence, and their accuracy.
    """

    error: float
    counts: list[int]
    confidences: list[float]
    accuracies: list[float]


def calibration(scores: npt.NDArray[np.float64], expected: npt.NDArray[np.int64], num_bins: int = 15) -> Calibration:
    """Of [B, C] probabilities. Raises ValueError for no rows."""
    if len(expected) == 0:
        raise ValueError("the calibration of no rows is undefined")
    confidence, correct = scores.max(1), scores.argmax(1) == expected
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    held = [bins == index for index in range(num_bins) if (bins == index).any()]
    counts = [int(rows.sum()) for rows in held]
    confidences = [float(confidence[rows].mean()) for rows in held]
    accuracies = [float(correct[rows].mean()) for rows in held]
    gaps = np.abs(np.array(confidences) - np.array(accuracies))
    return Calibration(float(gaps @ np.array(counts) / len(expected)), counts, confidences, accuracies)
