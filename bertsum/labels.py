"""Rows with labels -> what a model learns from: labels of sentences and words, a sentiment, a topic."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bertsum.errors import InputError
from bertsum.oracle import best_combination, greedy_oracle
from bertsum.sentences import Span
from bertsum.training_config import LabelsConfig

Oracle = Literal["greedy", "combination"]


def sentence_labels(
    text: str,
    spans: Sequence[Span],
    language: str,
    row: Mapping[str, Any],
    labels: LabelsConfig,
    max_combinations: int = 0,
) -> npt.NDArray[np.float32] | None:
    """[S] 1 for each sentence of the summary, 0 for the others; None when the row has no labels or summary for it.

    Labels that come with the row win over an oracle's. Up to `max_combinations` sets of sentences are all tried;
    where there are more, the oracle is greedy. Raises InputError for a row whose labels do not fit its sentences.
    """
    if labels.sentences_column and labels.sentence_labels_column:
        return _given_labels(text, spans, row[labels.sentences_column], row[labels.sentence_labels_column])
    summary = row[labels.summary_column] if labels.summary_column else None
    if not summary:
        return None
    sentences = [text[start:stop] for start, stop in spans]
    size = labels.num_summary_sentences
    chosen = best_combination(sentences, summary, language, size, max_combinations) if max_combinations else None
    if chosen is None:
        chosen = greedy_oracle(sentences, summary, language, size)
    found = np.zeros(len(spans), np.float32)
    found[chosen] = 1
    return found


def sentiment_of(row: Mapping[str, Any], labels: LabelsConfig) -> str | None:
    """The sentiment of a row; with aspects, the one that all of them share."""
    if labels.aspect_sentiments_column:
        aspects = set(row[labels.aspect_sentiments_column] or ()) - {"O"}
        return str(aspects.pop()) if len(aspects) == 1 else None
    label = row[labels.sentiment_column] if labels.sentiment_column else labels.sentiment
    return None if label is None else str(label)


def topic_of(row: Mapping[str, Any], labels: LabelsConfig) -> str | None:
    """The topic of a row, by the model's name for it."""
    label = row[labels.topic_column] if labels.topic_column else None
    return None if label is None else labels.topic_names.get(str(label), str(label))


def word_labels(
    text: str, row: Mapping[str, Any], labels: LabelsConfig
) -> tuple[list[int | None], Sequence[str | None]]:
    """Where each word of a row begins in the text (None: not found), and its label; empty without such columns."""
    if not (labels.tokens_column and labels.token_sentiments_column):
        return [], []
    words, tags = row[labels.tokens_column] or [], row[labels.token_sentiments_column] or []
    if len(words) != len(tags):
        raise InputError(f"a row has {len(words)} words and {len(tags)} labels of words")
    return _find_parts(text, words), tags


def has_class_label(row: Mapping[str, Any], labels: LabelsConfig) -> bool:
    """Whether a row trains a head beside the summary's."""
    has_words = bool(labels.token_sentiments_column and row[labels.token_sentiments_column])
    return has_words or sentiment_of(row, labels) is not None or topic_of(row, labels) is not None


def label_columns(labels: LabelsConfig) -> list[str]:
    """Columns that hold labels."""
    names = [labels.summary_column, labels.sentiment_column, labels.sentences_column, labels.sentence_labels_column]
    names += [labels.aspect_sentiments_column, labels.topic_column, labels.tokens_column]
    return [name for name in [*names, labels.token_sentiments_column] if name]


def _given_labels(
    text: str, spans: Sequence[Span], sentences: Sequence[str] | None, labels: Sequence[float] | None
) -> npt.NDArray[np.float32] | None:
    """Labels of the data's own sentences, for ours: 1 where a chosen one begins. None where none of them is found."""
    sentences, labels = sentences or [], labels or []
    if len(sentences) != len(labels):
        raise InputError(f"a row has {len(sentences)} sentences and {len(labels)} labels")
    starts = _find_parts(text, sentences)
    if all(start is None for start in starts):
        return None
    positive = [start for start, label in zip(starts, labels, strict=True) if label and start is not None]
    return np.array([any(start <= place < stop for place in positive) for start, stop in spans], np.float32)


def _find_parts(text: str, sentences: Sequence[str]) -> list[int | None]:
    """Where each sentence, or word, that comes with the data begins in the text, if it does."""
    starts: list[int | None] = []
    position = 0
    for sentence in sentences:
        stripped = sentence.strip()
        found = text.find(stripped, position) if stripped else -1
        starts.append(found if found >= 0 else None)
        position = found + len(stripped) if found >= 0 else position
    return starts
