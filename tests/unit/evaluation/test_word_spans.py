"""Spans and their report against seqeval, and the report of words against scikit-learn."""

import random

import numpy as np
import pytest
from seqeval.metrics import classification_report as seqeval_report
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from bertsum.evaluation.word_spans import span_report, word_report
from bertsum.text.phrases.tags import find_spans

KINDS = ("positive", "negative", "neutral")
BARE = ("O", *KINDS)
PREFIXED = ("O", *(f"{prefix}-{kind}" for kind in KINDS for prefix in "BI"))


def sentences(tags: tuple[str, ...], seed: int) -> list[list[str]]:
    """Labels in runs, as spans of several words are."""
    generator = random.Random(seed)
    return [
        [
            tag
            for _ in range(generator.randint(0, 6))
            for tag in [generator.choice(tags)] * generator.randint(1, 3)
        ]
        for _ in range(40)
    ]


def as_seqeval(rows: list[list[str]]) -> list[list[str]]:
    """seqeval takes a kind without a prefix for a prefix."""
    return [[tag if tag == "O" or tag[1] == "-" else f"I-{tag}" for tag in row] for row in rows]


@pytest.mark.parametrize("tags", [BARE, PREFIXED])
def test_spans_are_those_of_seqeval(tags: tuple[str, ...]) -> None:
    for row in sentences(tags, 1):
        assert find_spans(row) == set(get_entities(as_seqeval([row])[0]))


@pytest.mark.parametrize("tags", [BARE, PREFIXED])
def test_the_report_is_that_of_seqeval(tags: tuple[str, ...]) -> None:
    expected = sentences(tags, 2)
    generator = random.Random(3)
    predicted = [
        [tag if generator.random() < 0.8 else generator.choice(tags) for tag in row]
        for row in expected
    ]
    found = span_report(expected, predicted)
    wanted = seqeval_report(
        as_seqeval(expected), as_seqeval(predicted), output_dict=True, zero_division=0
    )
    for ours, theirs in [("micro", wanted["micro avg"]), *((kind, wanted[kind]) for kind in KINDS)]:
        values = found["micro"] if ours == "micro" else found["by_kind"][ours]
        assert 0 < values["f1"] < 1
        assert values["f1"] == pytest.approx(theirs["f1-score"])
        assert {k: values[k] for k in ("precision", "recall", "support")} == pytest.approx(
            {k: theirs[k] for k in ("precision", "recall", "support")}
        )
    assert found["macro_f1"] == pytest.approx(wanted["macro avg"]["f1-score"])


def test_a_span_must_have_both_ends_right() -> None:
    expected = [["O", "positive", "positive", "negative", "O"]]
    assert span_report(expected, [["O", "positive", "O", "negative", "O"]])["micro"]["f1"] == 0.5
    nothing = span_report(expected, [["O"] * 5])
    assert nothing["micro"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}
    assert span_report([[]], [[]])["by_kind"] == {}


def test_the_report_of_words_is_that_of_scikit_learn() -> None:
    expected = sentences(BARE, 4)
    generator = random.Random(5)
    predicted = [
        [tag if generator.random() < 0.7 else generator.choice(BARE) for tag in row]
        for row in expected
    ]
    found = word_report(expected, predicted, BARE)
    flat = [[tag for row in rows for tag in row] for rows in (expected, predicted)]
    wanted = precision_recall_fscore_support(*flat, labels=BARE)
    for values, name in zip(wanted, ("precision", "recall", "f1", "support"), strict=True):
        assert [found[name][label] for label in BARE] == pytest.approx(list(values))
    np.testing.assert_array_equal(found["confusion"], confusion_matrix(*flat, labels=BARE))
