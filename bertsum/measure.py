"""Measures of a model on labelled examples, in which all workers take part."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertsum import metrics
from bertsum.batching import group_documents
from bertsum.config import ModelConfig
from bertsum.distributed import gather, rank
from bertsum.errors import ConfigError
from bertsum.loss import class_loss, summary_loss
from bertsum.model import BertSum
from bertsum.optimization import HEADS, forward_batch
from bertsum.rouge import Rouge, mean_rouge
from bertsum.tracking import numbers
from bertsum.training_config import SourceConfig
from bertsum.training_data import Example, labelled_batch

_BATCH_TOKENS = 8192
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassRows:
    """[N, C] logits and [N] class indices of labelled documents, or words."""

    logits: FloatArray
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """A source with this worker's examples; both lists may be empty."""

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

    `max_rows`: of each source, the first ones. Every worker must call it.
    """
    results = {}
    for source in sources:
        counts = gather(len(source.validation))
        room = sum(counts) if max_rows is None else max_rows
        examples = source.validation[: max(0, room - sum(counts[: rank()]))]
        if sum(counts):
            results[source.config.name] = measure(model, examples, source.config, dtype)
    return results


def measure(model: BertSum, examples: Sequence[Example], source: SourceConfig, dtype: str) -> dict[str, Any]:
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
            result |= _measure_classes(name, rows.logits, rows.labels, getattr(model.config, f"{name}_labels"))
    return result


def model_heads(config: ModelConfig) -> list[str]:
    """Names of the heads that give classes."""
    return [name for name in HEADS[1:] if getattr(config, f"{name}_labels")]


def read_metric(results: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> float:
    """Mean of the named measures, as numbers of which higher is better: those whose name ends in `loss` are negated.

    Raises ConfigError that lists the measures there are, for a name that is none.
    """
    known = dict(numbers(results))
    for name in names:
        if name not in known:
            raise ConfigError(f"best_metric {name}: there is no such measure; there are {', '.join(sorted(known))}")
    return sum(-known[name] if name.endswith("loss") else known[name] for name in names) / len(names)


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
            for place, row in zip(places, logits.sentiment_logits.float().cpu().numpy(), strict=True):
                sentiments[place] = row
    has_sentiments = model.sentiment is not None and bool(examples)
    return Predictions(
        sentences, vectors, np.stack(sentiments) if has_sentiments else None, {n: _join(c) for n, c in classes.items()}
    )


def _no_rows(config: ModelConfig, name: str) -> ClassRows:
    return ClassRows(np.zeros((0, len(getattr(config, f"{name}_labels"))), np.float32), np.zeros(0, np.int64))


def _join(rows: Sequence[ClassRows]) -> ClassRows:
    return ClassRows(np.concatenate([part.logits for part in rows]), np.concatenate([part.labels for part in rows]))


def _measure_part(model: BertSum, examples: Sequence[Example], source: SourceConfig, dtype: str) -> Part:
    found = predict_examples(model, examples, dtype)
    logits, vectors = found.sentences, found.vectors
    scores = [torch.from_numpy(values).sigmoid().numpy() for values in logits]
    labels = [example.sentence_labels for example in examples]
    loss = [
        summary_loss(torch.from_numpy(a), torch.from_numpy(b)) for a, b in zip(logits, labels, strict=True) if len(b)
    ]
    kept = [index for index, example in enumerate(examples) if example.summary]
    documents = [examples[index].document for index in kept]
    summaries = [examples[index].summary or "" for index in kept]
    size = source.num_summary_sentences
    return Part(
        num_rows=len(examples),
        rouge=metrics.summary_rouge(documents, [scores[index] for index in kept], summaries, size),
        lead=metrics.lead_rouge(documents, summaries, size),
        oracle=metrics.oracle_rouge(documents, summaries, size),
        spreads=[metrics.spread([vectors[i]], [scores[i]]) for i in kept if len(scores[i]) > 1],
        sentence_loss=(sum(float(part.total) for part in loss), sum(part.count for part in loss)),
        classes=found.classes,
    )


def _mean_spread(spreads: Sequence[metrics.Spread]) -> dict[str, float]:
    names = ("vector_cosine", "score_deviation")
    return {name: float(np.mean([getattr(spread, name) for spread in spreads] or [0.0])) for name in names}


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
