"""Rows with labels -> what a model learns from: labels of sentences and words, sentiment, topic."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bertsum.errors import InputError
from bertsum.labels.config import LabelsConfig
from bertsum.labels.oracle import best_combination, greedy_oracle
from bertsum.text.phrases.mentions import find_name
from bertsum.text.sentences import Span
from bertsum.text.words import WORD

# Label of a sentence that has none: bertsum.model.losses.IGNORE, which would import torch.
_UNLABELLED = -1


def sentence_labels(
    text: str,
    spans: Sequence[Span],
    language: str,
    row: Mapping[str, Any],
    labels: LabelsConfig,
    max_combinations: int = 0,
) -> npt.NDArray[np.float32] | None:
    """[S] 1 for each sentence of the summary, 0 for the others; -1 for one without a label.

    - `spans`: [S] of the document's sentences that are read
    - `row`: values of the columns that `labels` names
    - `max_combinations`: up to so many sets of sentences are all tried; where there are more, or at
      0, the oracle is greedy

    Labels that come with the row win over an oracle's. None where the row has neither labels nor a
    summary. None also if the summary's sentences lie beyond the part that is read, or share no word
    with it: a model must not learn that no sentence belongs into the summary. Raises InputError for
    a row whose labels do not fit its sentences.
    """
    if labels.sentences_column and labels.sentence_labels_column:
        return _given_labels(
            text, spans, row[labels.sentences_column], row[labels.sentence_labels_column]
        )
    summary = row[labels.summary_column] if labels.summary_column else None
    if not summary:
        return None
    # an oracle stands in for labels: the sentences that come closest to the summary
    sentences = [text[start:stop] for start, stop in spans]
    size = labels.num_summary_sentences
    chosen = None
    if max_combinations:
        chosen = best_combination(
            sentences, summary, language, size, max_combinations=max_combinations
        )
    if chosen is None:  # too many sets, or not asked for
        chosen = greedy_oracle(sentences, summary, language, size)
    if not chosen:
        return None
    targets = np.zeros(len(spans), np.float32)
    targets[chosen] = 1
    return targets


def sentiment_of(row: Mapping[str, Any], labels: LabelsConfig) -> str | None:
    """The sentiment of a row; with aspects, the one that all of them share."""
    if labels.aspect_sentiments_column:
        aspects = set(row[labels.aspect_sentiments_column] or ()) - {"O", None}
        return str(aspects.pop()) if len(aspects) == 1 else None
    return class_name(row[labels.sentiment_column] if labels.sentiment_column else labels.sentiment)


def topic_of(row: Mapping[str, Any], labels: LabelsConfig) -> str | None:
    """The topic of a row, by the model's name for it."""
    label = row[labels.topic_column] if labels.topic_column else None
    name = class_name(label)
    if name is None:
        return None
    return labels.topic_names.get(str(label)) or labels.topic_names.get(name, name)


def class_name(label: object) -> str | None:
    """The class that a value of a column names; None where it is missing, which is null or NaN.

    Whole numbers have no decimal point, whatever the type of the column: where integers have
    gaps, pandas stores 1 as 1.0.
    """
    if label is None or label != label:  # NaN is the one value that differs from itself
        return None
    return str(int(label) if isinstance(label, float) and label.is_integer() else label)


def known_class(name: str, classes: Sequence[str]) -> str | None:
    """What a model calls a class, of the names that it knows; None for none of them.

    A model may have been told that its classes are 0.0 and 1.0, which `class_name` never says.
    """
    if name in classes:
        return name
    return f"{name}.0" if f"{name}.0" in classes else None


def word_labels(
    text: str, row: Mapping[str, Any], labels: LabelsConfig
) -> tuple[list[int | None], Sequence[str | None]]:
    """Where each word of a row begins in the text, and its label.

    None for a word that is not in the text, and for one without a label. Both lists are empty where
    the row lacks one of them. Raises InputError for a row whose labels do not fit its words.
    """
    if labels.entities_column is None:
        parts, tags = _paired(row, labels.tokens_column, labels.token_sentiments_column, "words")
        return _find_parts(text, parts), tags
    starts: list[int | None] = []
    word_tags: list[str | None] = []
    for name, tag in zip(*name_labels(row, labels), strict=True):
        for start, stop in find_name(text, name or ""):
            word_starts = [start + word.start() for word in WORD.finditer(text[start:stop])]
            starts += word_starts
            word_tags += [tag] * len(word_starts)
    return starts, word_tags


def name_labels(
    row: Mapping[str, Any], labels: LabelsConfig
) -> tuple[Sequence[str | None], Sequence[str | None]]:
    """Names of a row, and their labels; both empty where the row lacks one of them.

    Raises InputError for labels that do not fit the names.
    """
    return _paired(row, labels.entities_column, labels.entity_sentiments_column, "names")


def _paired(
    row: Mapping[str, Any], parts_column: str | None, tags_column: str | None, kind: str
) -> tuple[Sequence[str | None], Sequence[str | None]]:
    """Values of two columns of lists, which must be equally long. `kind`: what they are called."""
    if parts_column is None or tags_column is None:
        return [], []
    parts, tags = row[parts_column], row[tags_column]
    if parts is None or tags is None:
        return [], []
    if len(parts) != len(tags):
        raise InputError(f"it has {len(parts)} {kind} and {len(tags)} labels of {kind}")
    return parts, tags


def has_class_label(text: str, row: Mapping[str, Any], labels: LabelsConfig) -> bool:
    """Whether a row trains a head beside the summary's. Raises InputError as `word_labels` does."""
    words = zip(*word_labels(text, row, labels), strict=True)
    has_word = any(start is not None and tag is not None for start, tag in words)
    return has_word or sentiment_of(row, labels) is not None or topic_of(row, labels) is not None


def _given_labels(
    text: str,
    spans: Sequence[Span],
    sentences: Sequence[str | None] | None,
    labels: Sequence[float | None] | None,
) -> npt.NDArray[np.float32] | None:
    """[S] labels for our sentences, of the sentences that come with the data.

    1 where a sentence of the summary begins, 0 where another one does, -1 where one without a label
    does. None where the text has none of them, or none of those of the summary.
    """
    if sentences is None or labels is None:
        return None
    if len(sentences) != len(labels):
        raise InputError(f"it has {len(sentences)} sentences and {len(labels)} labels")
    all_marks = [_sentence_mark(label) for label in labels]
    parts = zip(all_marks, _find_parts(text, sentences), strict=True)
    marks: list[tuple[int, int]] = []  # of the sentences that are in the text, with their starts
    for mark, start in parts:
        if start is not None:
            marks.append((mark, start))
    if all(mark == _UNLABELLED for mark, _ in marks):
        return None
    targets = np.zeros(len(spans), np.float32)
    begins = [start for start, _ in spans]
    # Sorted by the mark, so that the highest is written last: where several of the data's sentences
    # begin in one of ours, one of the summary counts, then one with a label.
    for mark, start in sorted(marks):
        index = bisect_right(begins, start) - 1  # the last of ours that begins at `start` or before
        if index >= 0 and start < spans[index][1]:
            targets[index] = mark
    # the summary's sentences lie beyond the part that is read: all 0 would teach to choose none
    return None if 1 in all_marks and not (targets > 0).any() else targets


def _sentence_mark(label: float | None) -> int:
    """1 for a sentence of the summary, 0 for another one, -1 for one without a label.

    No label: null, NaN, or a negative number (Transformers has -100 for it). Raises InputError for
    any other number: of a rank or a score nobody knows from where on it belongs into the summary.
    """
    if label is None or label != label or label < 0:
        return _UNLABELLED
    if label not in (0, 1):
        raise InputError(
            f"a sentence has the label {label:g}; allowed are 0 and 1, and null, NaN or a negative "
            "number where there is none"
        )
    return int(label)


def _find_parts(text: str, parts: Sequence[str | None]) -> list[int | None]:
    """Where each sentence, or word, that comes with the data begins in the text; None: nowhere."""
    starts: list[int | None] = []
    position = 0
    for part in parts:
        stripped = (part or "").strip()
        start = text.find(stripped, position) if stripped else -1
        if start < 0:
            starts.append(None)
        else:
            starts.append(start)
            position = start + len(stripped)  # a repeated one is searched behind the first
    return starts
