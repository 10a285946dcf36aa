"""Which heads learn in a run, from how many rows, and whether the embedding fits the encoder.

A head that learns from no row would answer at random.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from bertsum.errors import ConfigError
from bertsum.model.bert_sum import BertSum
from bertsum.model.losses import IGNORE
from bertsum.model_config import ModelConfig
from bertsum.training.config import TrainingConfig
from bertsum.training.examples import Example
from bertsum.training.optimization import head_labels

SUMMARIZATION, CANDIDATES = "summarization", "candidates"
PAIRS, HELD = "pairs", "held vectors"  # what the encoder learns from without a head
ANY = IGNORE  # in place of the index of a class

LabelCounts = Counter[tuple[str, int]]
"""Rows by head, and index of a class in it or ANY."""

_ARBITRARY = (
    "The summarization layers began at random and learned from no row, so summaries of this model "
    "are arbitrary sentences."
)

# the keys of a source that give a head labels
_LABELS = {
    "sentiment": "sentiment_column, or sentiment for all its rows",
    "topic": "topic_column",
    "token_sentiment": "tokens_column and token_sentiments_column, or entities_column and "
    "entity_sentiments_column",
    CANDIDATES: "summary_column",
}


def count_labels(examples: Iterable[Example]) -> LabelCounts:
    """Count rows with a label, by head, and by head and class."""
    counts: LabelCounts = Counter()
    for example in examples:
        counts[SUMMARIZATION, ANY] += bool((example.sentence_labels != IGNORE).any())
        counts[CANDIDATES, ANY] += bool(example.summary)
        counts[PAIRS, ANY] += example.pair is not None
        counts[HELD, ANY] += example.is_held
        # a row counts once for each class that any of its words has
        words = [] if example.token_labels is None else np.unique(example.token_labels).tolist()
        classes = {
            "sentiment": [example.sentiment_label],
            "topic": [example.topic_label],
            "token_sentiment": words,
        }
        for head, indices in classes.items():
            known = [index for index in indices if index != IGNORE]
            for index in known:
                counts[head, index] += 1
            counts[head, ANY] += bool(known)
    return counts


def check_heads(config: TrainingConfig, model: ModelConfig, counts: LabelCounts) -> list[str]:
    """Warnings of heads, or of classes, that start at random and learn from no row.

    `counts` are of all sources and workers. Raises ConfigError where a head other than the
    summarization would be saved as it started, or where no row is of any use.
    """
    labels_of = {head: labels for head, labels in head_labels(model).items() if labels}
    heads = [SUMMARIZATION, *labels_of]
    if model.rank_candidates:
        heads.append(CANDIDATES)
    learning = _learning(config, heads)
    # what is fitted needs no label
    if config.has_steps and not learning:
        raise ConfigError(
            f"trained: {config.trained} names a head that the model lacks; it has {heads}"
        )
    learned_from = [*learning, PAIRS, HELD]
    if config.has_steps and not any(counts[head, ANY] for head in learned_from):
        raise ConfigError(f"no training row has a label for what learns: {', '.join(learning)}")
    warnings = []
    for head in heads:
        is_new = config.start_from is None or head in config.new_heads
        learns = head in learning
        if is_new and not (learns and counts[head, ANY]):
            # the summarization is a part of every model, so it cannot be left out
            if head != SUMMARIZATION:
                raise ConfigError(_complaint(head, learns))
            warnings.append(_ARBITRARY)
        if is_new and head in labels_of:
            names = []
            for index, label in enumerate(labels_of[head]):
                if not counts[head, index]:
                    names.append(repr(label))
            if names:
                warnings.append(
                    f"No training row has the {head} {', '.join(names)}; the model has learned "
                    f"never to answer so. What it should not know is left out of "
                    f"model.{head}_labels."
                )
    return warnings


def learned_classes(config: TrainingConfig, model: ModelConfig, counts: LabelCounts) -> list[str]:
    """The heads with classes that learned from a row. `counts` are of all sources and workers."""
    heads = [head for head, labels in head_labels(model).items() if labels]
    return [head for head in _learning(config, heads) if counts[head, ANY]]


def check_embedding(model: BertSum, config: TrainingConfig) -> None:
    """Raise ConfigError where the embedding head would be missing, or not fit its encoder."""
    if config.embedding is not None and model.embedding is None:
        raise ConfigError(
            "embedding fits a matrix on model.embedding_layers, which start_from lacks: let it "
            "begin anew (new_heads: [embedding])"
        )
    learns_along = config.learns_pairs or config.learns_matrix
    changes_encoder = config.trained == "all" and not learns_along
    if config.embedding is None and model.embedding is not None and changes_encoder:
        raise ConfigError(
            "start_from has an embedding head, which fits the encoder as it is, and trained: all "
            "changes the encoder: give texts to fit it on anew (embedding.texts), or pairs from "
            "which the encoder learns to give the right vectors through it (query_column)"
        )


def _learning(config: TrainingConfig, heads: Sequence[str]) -> list[str]:
    """Those of `heads` that a run lets learn."""
    # else `trained` is the name of the only head that learns
    return [head for head in heads if config.trained in ("all", "heads", head)]


def _complaint(head: str, learns: bool) -> str:
    key, value = f"{head}_labels", "[]"
    if head == CANDIDATES:
        key, value = "rank_candidates", "false"
    reason = "no training row has a label for it" if learns else "`trained` leaves it out"
    return (
        f"the head {head} begins at random and would stay so: {reason}. Give a source labels for "
        f"it ({_LABELS[head]}), start from a checkpoint that has learned it, or leave it out "
        f"(model.{key}: {value})"
    )
