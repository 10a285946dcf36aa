"""Which heads learn in a run, and from how many rows: one that learns from none would answer at random."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from bertsum.config import ModelConfig
from bertsum.errors import ConfigError
from bertsum.model.losses import IGNORE
from bertsum.training.config import TrainingConfig
from bertsum.training.examples import Example

SUMMARIZATION, CANDIDATES = "summarization", "candidates"
ANY = IGNORE  # in place of the index of a class

LabelCounts = Counter[tuple[str, int]]
"""Rows by head, and index of a class in it or ANY."""

_CLASS_HEADS = ("sentiment", "topic", "token_sentiment")
_ARBITRARY = (
    "The summarization layers began at random and learned from no row, so summaries of this model "
    "are arbitrary sentences."
)

_LABELS = {
    "sentiment": "sentiment_column, or sentiment for all its rows",
    "topic": "topic_column",
    "token_sentiment": "tokens_column and token_sentiments_column",
    CANDIDATES: "summary_column",
}


def count_labels(examples: Iterable[Example]) -> LabelCounts:
    """Rows with a label, by head, and by head and class."""
    counts: LabelCounts = Counter()
    for example in examples:
        counts[SUMMARIZATION, ANY] += bool((example.sentence_labels != IGNORE).any())
        counts[CANDIDATES, ANY] += bool(example.summary)
        words = [] if example.token_labels is None else np.unique(example.token_labels).tolist()
        documents = [[example.sentiment_label], [example.topic_label]]
        for head, indices in zip(_CLASS_HEADS, [*documents, words], strict=True):
            known = [index for index in indices if index != IGNORE]
            counts.update((head, index) for index in known)
            counts[head, ANY] += bool(known)
    return counts


def check_heads(config: TrainingConfig, model: ModelConfig, counts: LabelCounts) -> list[str]:
    """What people must be told of heads, or of classes, that begin at random and learn from no row.

    `counts`: of all sources and workers. Raises ConfigError where a head other than the
    summarization would be saved as it began, or where no row is of any use.
    """
    heads = _heads(model)
    learning = heads if config.trained in ("all", "heads") else [config.trained]
    if not any(counts[head, ANY] for head in learning):
        raise ConfigError(f"no training row has a label for what learns: {', '.join(learning)}")
    anew = [head for head in heads if config.start_from is None or head in config.new_heads]
    random = [head for head in anew if not (head in learning and counts[head, ANY])]
    for head in random:
        if head != SUMMARIZATION:
            raise ConfigError(_complaint(head, head in learning))
    warnings = [_ARBITRARY] if random else []
    for head in anew:
        if head in _CLASS_HEADS and (names := _untaught(head, model, counts)):
            warnings.append(
                f"No training row has the {head} {', '.join(names)}; the model has learned never to "
                f"answer so. What it should not know is left out of model.{head}_labels."
            )
    return warnings


def _heads(model: ModelConfig) -> list[str]:
    names = [name for name in _CLASS_HEADS if getattr(model, f"{name}_labels")]
    return [SUMMARIZATION, *names, *([CANDIDATES] if model.rank_candidates else [])]


def _untaught(head: str, model: ModelConfig, counts: LabelCounts) -> list[str]:
    """The classes of a head that no row has."""
    labels: tuple[str, ...] = getattr(model, f"{head}_labels")
    return [repr(label) for index, label in enumerate(labels) if not counts[head, index]]


def _complaint(head: str, learns: bool) -> str:
    key, value = ("rank_candidates", "false") if head == CANDIDATES else (f"{head}_labels", "[]")
    reason = "no training row has a label for it" if learns else "`trained` leaves it out"
    return (
        f"the head {head} begins at random and would stay so: {reason}. Give a source labels for it "
        f"({_LABELS[head]}), start from a checkpoint that has learned it, or leave it out (model.{key}: {value})"
    )
