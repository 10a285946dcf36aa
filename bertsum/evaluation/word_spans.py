"""Reports on labels of words, and on the spans of equal ones as `seqeval` finds them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from bertsum.evaluation.metrics import classification_report, confusion_matrix
from bertsum.text.phrases.tags import find_spans


def span_report(
    expected: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]
) -> dict[str, Any]:
    """Report precision, recall, F1 and support of spans.

    - `by_kind`: each kind alone.
    - `micro`: over all spans.
    - `macro_f1`: mean of the kinds' F1.

    A predicted span is right when its kind, first and last word are right.
    """
    hits: Counter[str] = Counter()
    num_predicted: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for expected_tags, predicted_tags in zip(expected, predicted, strict=True):
        expected_spans, predicted_spans = find_spans(expected_tags), find_spans(predicted_tags)
        support.update(kind for kind, _, _ in expected_spans)
        # a predicted span with one wrong border is no hit: sets compare all three
        num_predicted.update(kind for kind, _, _ in predicted_spans)
        hits.update(kind for kind, _, _ in expected_spans & predicted_spans)
    by_kind = {}
    for kind in sorted(support | num_predicted):
        by_kind[kind] = _scores(hits[kind], num_predicted[kind], support[kind])
    f1 = [scores["f1"] for scores in by_kind.values()]
    return {
        "micro": _scores(hits.total(), num_predicted.total(), support.total()),
        "macro_f1": float(np.mean(f1)) if f1 else 0.0,
        "by_kind": by_kind,
    }


def word_report(
    expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]
) -> dict[str, Any]:
    """Report on single words: accuracy, scores and support by label, and the confusion matrix."""
    expected_indices = _label_indices(expected, labels)
    predicted_indices = _label_indices(predicted, labels)
    matrix = confusion_matrix(predicted_indices, expected_indices, len(labels))
    report = asdict(classification_report(predicted_indices, expected_indices, labels))
    return {**report, "confusion": matrix.tolist()}


def _label_indices(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """[words of all rows] index of each word's label in `labels`."""
    index_of = {label: index for index, label in enumerate(labels)}
    indices: list[int] = []
    for tags in rows:
        indices.extend(map(index_of.__getitem__, tags))
    return np.array(indices)


def _scores(hits: int, num_predicted: int, support: int) -> dict[str, float]:
    return {
        "precision": hits / num_predicted if num_predicted else 0.0,
        "recall": hits / support if support else 0.0,
        "f1": 2 * hits / (num_predicted + support) if num_predicted + support else 0.0,
        "support": support,
    }
