"""Labels of words: spans of equal labels, as `seqeval` finds them, and reports over words and spans."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bertsum.evaluation.metrics import classification_report, confusion_matrix

OUTSIDE = "O"

Span = tuple[str, int, int]  # kind, first word, last word


def find_spans(tags: Sequence[str]) -> set[Span]:
    """Runs of words of one kind. `B-` begins a new one and `I-` goes on; a tag without either goes on, too.

    As the CoNLL scorer counts (Tjong Kim Sang & De Meulder 2003), which takes an `I-` after another kind for a `B-`.
    """
    spans: set[Span] = set()
    kind, first = OUTSIDE, 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        begins, own = tag.startswith("B-"), tag.removeprefix("B-").removeprefix("I-")
        if own == kind and not begins:
            continue
        if kind != OUTSIDE:
            spans.add((kind, first, place - 1))
        kind, first = own, place
    return spans


def span_report(expected: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Precision, recall, F1 and support of spans by kind; over all spans (`micro`); and their mean (`macro_f1`).

    A span is found when kind, first and last word are right.
    """
    pairs = [(find_spans(wanted), find_spans(found)) for wanted, found in zip(expected, predicted, strict=True)]
    support = Counter(kind for wanted, _ in pairs for kind, _, _ in wanted)
    said = Counter(kind for _, found in pairs for kind, _, _ in found)
    hits = Counter(kind for wanted, found in pairs for kind, _, _ in wanted & found)
    kinds = sorted(support | said)
    by_kind = {kind: _shares(hits[kind], said[kind], support[kind]) for kind in kinds}
    total = _shares(hits.total(), said.total(), support.total())
    return {
        "micro": total,
        "macro_f1": float(np.mean([values["f1"] for values in by_kind.values()])) if kinds else 0.0,
        "by_kind": by_kind,
    }


def word_report(
    expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]
) -> dict[str, Any]:
    """Of single words: accuracy, precision, recall, F1 and support by label, and the confusion matrix."""
    places: Mapping[str, int] = {label: place for place, label in enumerate(labels)}
    wanted, found = (np.array([places[tag] for tags in rows for tag in tags]) for rows in (expected, predicted))
    return {
        **asdict(classification_report(found, wanted, labels)),
        "confusion": confusion_matrix(found, wanted, len(labels)).tolist(),
    }


def _shares(hits: int, said: int, support: int) -> dict[str, float]:
    return {
        "precision": hits / said if said else 0.0,
        "recall": hits / support if support else 0.0,
        "f1": 2 * hits / (said + support) if said + support else 0.0,
        "support": support,
    }
