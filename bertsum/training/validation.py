"""Measures of a model on labelled examples, in which all workers take part."""

import random
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertsum.config import ModelConfig
from bertsum.errors import ConfigError
from bertsum.evaluation import metrics
from bertsum.evaluation.rouge import Rouge, mean_rouge
from bertsum.model.batches import group_by_length, group_documents
from bertsum.model.bert_sum import BertSum
from bertsum.model.losses import IGNORE, class_loss, summary_loss
from bertsum.model.ranking import CandidateRanker
from bertsum.training.config import SourceConfig
from bertsum.training.data import labelled_batch
from bertsum.training.distributed import gather, rank
from bertsum.training.examples import Example, select, token_counts
from bertsum.training.optimization import CLASS_HEADS, forward_batch
from bertsum.training.tracking import numbers

_BATCH_TOKENS = 8192
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassRows:
    """[N, C] logits and [N] class indices of labelled documents, or words."""

    logits: FloatArray
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """A source with this worker's examples, in memory or in a file; both may be empty."""

    config: SourceConfig
    train: Sequence[Example]
    validation: Sequence[Example]


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker measured of its rows: small values that can be put together with those of the others."""

    num_rows: int
    rouge: list[Rouge]  # of the rows with a summary, as are the next three
    lead: list[Rouge]
    oracle: list[Rouge]
    spreads: list[metrics.Spread]
    sentence_loss: tuple[float, int]  # sum and count
    classes: dict[str, ClassRows]  # by head


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of examples, in their order; `classes` has the labelled documents or words only."""

    sentences: list[FloatArray]  # [S] logits of each
    vectors: list[FloatArray]  # [S, H] of each
    sentiments: FloatArray | None  # [B, C] logits
    classes: dict[str, ClassRows]


def validate(
    model: BertSum, sources: Iterable[LabelledSource], max_rows: int | None, dtype: str
) -> dict[str, dict[str, Any]]:
    """Measures of each source with validation rows, by name, the same on every worker; see `measure`.

    `max_rows`: of each source, drawn at random, always the same. Every worker must call it.
    """
    measured = [
        (source, _draw(source, max_rows))
        for source in sources
        if sum(gather(len(source.validation)))
    ]
    return {
        source.config.name: measure(model, examples, source.config, dtype)
        for source, examples in measured
    }


def _draw(source: LabelledSource, max_rows: int | None) -> Sequence[Example]:
    """This worker's of the validation rows that are drawn: the same for any number of workers, seed, and step.

    Drawn, since the first rows of a file that is sorted by label would have one label only.
    """
    counts = gather(len(source.validation))
    if max_rows is None or sum(counts) <= max_rows:
        return source.validation
    drawn = sorted(random.Random(0).sample(range(sum(counts)), max_rows))
    first = sum(counts[: rank()])
    own = drawn[bisect_left(drawn, first) : bisect_left(drawn, first + len(source.validation))]
    return select(source.validation, [place - first for place in own])


def check_metric(
    model: BertSum,
    sources: Iterable[LabelledSource],
    max_rows: int | None,
    dtype: str,
    names: Sequence[str],
) -> None:
    """Raise ConfigError as `read_metric` does with what `validate` gives, before a run has spent hours.

    The labels that rows have decide which measures there are, so that a row with each kind of label tells. Every
    worker must call it.
    """
    few = [
        LabelledSource(source.config, [], _one_of_each(_draw(source, max_rows)))
        for source in sources
    ]
    read_metric(validate(model, few, None, dtype), names)


def _one_of_each(examples: Iterable[Example]) -> list[Example]:
    """The first example with each kind of label."""
    found: dict[int, Example] = {}
    for example in examples:
        classes = (example.sentiment_label, example.topic_label)
        given = [bool(example.summary), bool((example.sentence_labels != IGNORE).any())]
        given += [*(label != IGNORE for label in classes), example.token_labels is not None]
        for kind in np.flatnonzero(given).tolist():
            found.setdefault(kind, example)
    return list(found.values())


def measure(
    model: BertSum, examples: Sequence[Example], source: SourceConfig, dtype: str
) -> dict[str, Any]:
    """Measures of a model on the labelled examples of all workers.

    ROUGE beside the lead's and the oracle's, spread, losses (means), and reports of sentiment, topic and words; each
    where there are labels for it.
    """
    parts = gather(_measure_part(model, examples, source, dtype))
    result: dict[str, Any] = {"rows": sum(part.num_rows for part in parts)}
    ours = [rouge for part in parts for rouge in part.rouge]
    if ours:
        lead = [rouge for part in parts for rouge in part.lead]
        gain, interval = metrics.mean_difference(ours, lead)
        result |= {
            "rouge": asdict(mean_rouge(ours)),
            "lead": asdict(mean_rouge(lead)),
            "oracle": asdict(mean_rouge([rouge for part in parts for rouge in part.oracle])),
            "rouge_1_over_lead": gain,
            "rouge_1_over_lead_95": interval,
            "spread": _mean_spread([spread for part in parts for spread in part.spreads]),
        }
    if count := sum(part.sentence_loss[1] for part in parts):
        result["summary_loss"] = sum(part.sentence_loss[0] for part in parts) / count
    for name in model_heads(model.config):
        rows = _join([part.classes[name] for part in parts])
        if len(rows.labels):
            result |= _measure_classes(
                name, rows.logits, rows.labels, getattr(model.config, f"{name}_labels")
            )
    return result


def model_heads(config: ModelConfig) -> list[str]:
    """Names of the heads that give classes."""
    return [name for name in CLASS_HEADS if getattr(config, f"{name}_labels")]


def read_metric(results: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> float:
    """Mean of the named measures, as numbers of which higher is better: those whose name ends in `loss` are negated.

    Raises ConfigError that lists the measures there are, for a name that is none.
    """
    known = dict(numbers(results))
    for name in names:
        if name not in known:
            there = "the validation rows have no label at all"
            if known:
                there = f"there are {', '.join(sorted(known))}"
            raise ConfigError(f"best_metric {name}: there is no such measure; {there}")
    return sum(-known[name] if name.endswith("loss") else known[name] for name in names) / len(
        names
    )


@torch.no_grad()
def predict_examples(model: BertSum, examples: Sequence[Example], dtype: str) -> Predictions:
    """What the model says of each example."""
    model.eval()
    device = next(model.parameters()).device
    sentences: list[FloatArray] = [np.zeros(0, np.float32)] * len(examples)
    vectors = list(sentences)
    sentiments: list[FloatArray] = list(sentences)
    heads = model_heads(model.config)
    classes: dict[str, list[ClassRows]] = {name: [_no_rows(model.config, name)] for name in heads}
    for group in group_documents([example.document for example in examples], _BATCH_TOKENS):
        labelled = labelled_batch([examples[place] for place in group])
        logits = forward_batch(model, labelled.to(device), dtype)
        parts = torch.split(logits.sentence_logits.float().cpu(), labelled.batch.num_sentences)
        vector_parts = torch.split(logits.sentence_vectors.cpu(), labelled.batch.num_sentences)
        for name in heads:
            if (values := getattr(logits, f"{name}_logits")) is not None:
                known = labelled.class_labels[name] >= 0
                kept = labelled.class_labels[name][known].numpy()
                classes[name].append(ClassRows(values.float().cpu()[known].numpy(), kept))
        places = [group[document] for document in labelled.batch.documents]
        for index, place in enumerate(places):
            sentences[place], vectors[place] = parts[index].numpy(), vector_parts[index].numpy()
        if logits.sentiment_logits is not None:
            for place, row in zip(
                places, logits.sentiment_logits.float().cpu().numpy(), strict=True
            ):
                sentiments[place] = row
    has_sentiments = model.sentiment is not None and bool(examples)
    return Predictions(
        sentences,
        vectors,
        np.stack(sentiments) if has_sentiments else None,
        {n: _join(c) for n, c in classes.items()},
    )


def _no_rows(config: ModelConfig, name: str) -> ClassRows:
    return ClassRows(
        np.zeros((0, len(getattr(config, f"{name}_labels"))), np.float32), np.zeros(0, np.int64)
    )


def _join(rows: Sequence[ClassRows]) -> ClassRows:
    return ClassRows(
        np.concatenate([part.logits for part in rows]),
        np.concatenate([part.labels for part in rows]),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """What is measured of one example: where it has a summary, ROUGE; where it also has two sentences, their spread."""

    loss: tuple[float, int]  # sum and count
    rouge: tuple[Rouge, Rouge, Rouge] | None  # ours, the lead's and the oracle's
    spread: metrics.Spread | None


def _measure_part(
    model: BertSum, examples: Sequence[Example], source: SourceConfig, dtype: str
) -> Part:
    """Batch after batch: vectors are many times as large as what is measured of them."""
    rows: dict[int, _Row] = {}
    classes: dict[str, list[ClassRows]] = {
        name: [_no_rows(model.config, name)] for name in model_heads(model.config)
    }
    for group in group_by_length(token_counts(examples).tolist(), _BATCH_TOKENS):
        batch = [examples[place] for place in group]
        found = predict_examples(model, batch, dtype)
        for name, parts in classes.items():
            parts.append(found.classes[name])
        for place, example, logits, vectors in zip(
            group, batch, found.sentences, found.vectors, strict=True
        ):
            rows[place] = _measure_row(
                example, logits, vectors, source.num_summary_sentences, model.candidates
            )
    in_order = [rows[place] for place in sorted(rows)]
    losses = [row.loss for row in in_order]
    rouges = [row.rouge for row in in_order if row.rouge is not None]
    return Part(
        num_rows=len(examples),
        rouge=[ours for ours, _, _ in rouges],
        lead=[lead for _, lead, _ in rouges],
        oracle=[oracle for _, _, oracle in rouges],
        spreads=[row.spread for row in in_order if row.spread is not None],
        sentence_loss=(sum(total for total, _ in losses), sum(count for _, count in losses)),
        classes={name: _join(parts) for name, parts in classes.items()},
    )


def _measure_row(
    example: Example,
    logits: FloatArray,
    vectors: FloatArray,
    size: int,
    ranker: CandidateRanker | None,
) -> _Row:
    scores = torch.from_numpy(logits).sigmoid().numpy()
    found = summary_loss(torch.from_numpy(logits), torch.from_numpy(example.sentence_labels))
    loss = float(found.total), found.count
    if not example.summary:
        return _Row(loss, None, None)
    documents, summaries = [example.document], [example.summary]
    (ours,) = metrics.summary_rouge(documents, [scores], summaries, size, ranker)
    (lead,) = metrics.lead_rouge(documents, summaries, size)
    (oracle,) = metrics.oracle_rouge(documents, summaries, size)
    return _Row(
        loss, (ours, lead, oracle), metrics.spread([vectors], [scores]) if len(scores) > 1 else None
    )


def _mean_spread(spreads: Sequence[metrics.Spread]) -> dict[str, float]:
    names = ("vector_cosine", "score_deviation")
    return {
        name: float(np.mean([getattr(spread, name) for spread in spreads] or [0.0]))
        for name in names
    }


def _measure_classes(
    name: str, logits: FloatArray, expected: npt.NDArray[np.int64], labels: Sequence[str]
) -> dict[str, Any]:
    """A report over all labels, and the accuracy when only labels that occur may be answered (two-class sets)."""
    report = asdict(metrics.classification_report(logits.argmax(1), expected, labels))
    present = np.unique(expected)
    restricted = present[logits[:, present].argmax(1)]
    loss = class_loss(torch.from_numpy(logits), torch.from_numpy(expected))
    accuracy = float((restricted == expected).mean())
    return {
        name: {**report, "accuracy_among_present_labels": accuracy},
        f"{name}_loss": float(loss.total) / loss.count,
    }
