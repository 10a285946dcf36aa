"""Which heads learn in a run, and from how many rows: one that learns from none would answer at random."""

from collections import Counter
from collections.abc import Iterable, Mapping

from bertsum.config import ModelConfig
from bertsum.errors import ConfigError
from bertsum.examples import Example
from bertsum.loss import IGNORE
from bertsum.training_config import TrainingConfig

SUMMARIZATION, CANDIDATES = "summarization", "candidates"

_LABELS = {
    "sentiment": "sentiment_column, or sentiment for all its rows",
    "topic": "topic_column",
    "token_sentiment": "tokens_column and token_sentiments_column",
    CANDIDATES: "summary_column",
}


def count_labels(examples: Iterable[Example]) -> Counter[str]:
    """Rows with a label, by head."""
    counts: Counter[str] = Counter()
    for example in examples:
        counts[SUMMARIZATION] += bool((example.sentence_labels != IGNORE).any())
        counts["sentiment"] += example.sentiment_label != IGNORE
        counts["topic"] += example.topic_label != IGNORE
        counts["token_sentiment"] += example.token_labels is not None
        counts[CANDIDATES] += bool(example.summary)
    return counts


def check_heads(config: TrainingConfig, model: ModelConfig, counts: Mapping[str, int]) -> str | None:
    """What people must be told of a model whose summaries mean nothing, since no row says what belongs in one.

    `counts`: rows of all sources and workers, as `count_labels` gives them. Raises ConfigError where another head
    would be saved as it began, at random, or where no row is of any use.
    """
    heads = _heads(model)
    learning = heads if config.trained in ("all", "heads") else [config.trained]
    if not any(counts[head] for head in learning):
        raise ConfigError(f"no training row has a label for what learns: {', '.join(learning)}")
    anew = heads if config.start_from is None else config.new_heads
    random = [head for head in heads if head in anew and not (head in learning and counts[head])]
    for head in random:
        if head != SUMMARIZATION:
            raise ConfigError(_complaint(head, head in learning))
    if not random:
        return None
    return (
        "The summarization layers began at random and learned from no row, so summaries of this model are arbitrary "
        "sentences."
    )


def _heads(model: ModelConfig) -> list[str]:
    names = [name for name in ("sentiment", "topic", "token_sentiment") if getattr(model, f"{name}_labels")]
    return [SUMMARIZATION, *names, *([CANDIDATES] if model.rank_candidates else [])]


def _complaint(head: str, learns: bool) -> str:
    key, value = ("rank_candidates", "false") if head == CANDIDATES else (f"{head}_labels", "[]")
    reason = "no training row has a label for it" if learns else "`trained` leaves it out"
    return (
        f"the head {head} begins at random and would stay so: {reason}. Give a source labels for it "
        f"({_LABELS[head]}), start from a checkpoint that has learned it, or leave it out (model.{key}: {value})"
    )
