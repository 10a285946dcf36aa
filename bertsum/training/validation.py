"""Measures of a model on labelled examples, in which all workers take part."""

import random
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertsum.errors import ConfigError
from bertsum.evaluation import metrics
from bertsum.evaluation.calibration import (
    calibration,
    fit_temperature,
    fit_temperature_by_length,
)
from bertsum.evaluation.rouge import Rouge, mean_rouge
from bertsum.model.batches import group_by_length, group_documents
from bertsum.model.bert_sum import BertSum, divide_logits
from bertsum.model.losses import IGNORE, class_loss, summary_loss
from bertsum.model.ranking import CandidateRanker
from bertsum.model.sums import document_lengths
from bertsum.model.temperature import TemperatureByLength
from bertsum.model_config import ModelConfig
from bertsum.training.data import labelled_batch
from bertsum.training.distributed import gather, rank
from bertsum.training.examples import Example, select, token_counts
from bertsum.training.heads.pair_vectors import PairRows, measure_pairs, pair_rows
from bertsum.training.optimization import forward_batch, head_labels, head_logits
from bertsum.training.results.log import Report, shown
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.tracking import numbers

_BATCH_TOKENS = 8192  # no gradients are kept, so any device has room for these
FloatArray = npt.NDArray[np.float32]
Measures = dict[str, Any]  # nested: numbers by name


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Answers of a head to N labelled documents, or words."""

    logits: FloatArray  # [N, C]
    labels: npt.NDArray[np.int64]  # [N] class indices
    lengths: npt.NDArray[np.int64]  # [N] tokens of each document; 1 of a word
    examples: npt.NDArray[np.int64]  # [N] index of each document; -1 of a word


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """A source with this worker's examples, in memory or in a file; both may be empty."""

    config: SourceConfig
    train: Sequence[Example]
    validation: Sequence[Example]


@dataclass(frozen=True, slots=True)
class ExampleMeasures:
    """What is measured of one example."""

    loss: float  # sum over its sentences with a label
    num_labels: int  # of these sentences
    rouge: Rouge | None = None  # this and the next two: None without a summary
    lead: Rouge | None = None
    oracle: Rouge | None = None
    spread: metrics.Spread | None = None  # None also with a single sentence


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker measured: small values that can be joined with those of the others."""

    examples: list[ExampleMeasures]
    classes: dict[str, ClassRows]  # by head
    indices: list[int]  # of the examples among the worker's rows
    pairs: PairRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a model says of B examples, in their order."""

    sentences: list[FloatArray]  # [S] logits of each
    vectors: list[FloatArray]  # [S, H] of each
    sentiments: FloatArray | None  # [B, C] logits
    classes: dict[str, ClassRows]  # by head; only of the documents or words with a label


def validate(
    model: BertSum, sources: Iterable[LabelledSource], max_rows: int | None, dtype: str
) -> dict[str, Measures]:
    """Measure each source with validation rows; see `measure_examples`.

    Returns measures by source, the same on every worker. Every worker must call it.

    - `max_rows`: of each source, drawn at random, always the same ones.
    - `dtype`: number format of the products.
    """
    answered = answer(model, sources, max_rows, dtype)
    return {name: measures_of(model, parts) for name, parts in answered.items()}


def answer(
    model: BertSum,
    sources: Iterable[LabelledSource],
    max_rows: int | None,
    dtype: str,
    report: Report = lambda line: None,
) -> dict[str, list[Part]]:
    """What the model says of each source with validation rows, as `validate` measures it.

    Returns the parts of all workers by source, the same on every worker. Every worker must call it.
    `report` is told how far this worker is.
    """
    answered = {}
    for source in sources:
        if sum(gather(len(source.validation))):
            examples = draw(source, max_rows)
            answered[source.config.name] = gather(
                _measure_part(model, examples, source.config, dtype, report)
            )
    return answered


def calibrate(
    model: BertSum, answered: Mapping[str, Sequence[Part]], heads: Iterable[str]
) -> list[str]:
    """Fit the temperature of each of `heads`, in place. Returns a sentence on each, for people.

    It is fitted on the labelled rows of all sources, which weigh the same, and depends on the
    document's length for a head over documents. A head without such rows keeps its temperature.
    """
    sentences = []
    for head in heads:
        sets = []
        for parts in answered.values():
            rows = join_rows([part.classes[head] for part in parts])
            if len(rows.labels):
                sets.append((rows.logits, rows.labels, rows.lengths))
        if sets:
            if head == "token_sentiment":  # a word is no longer in a long document
                model.temperatures[head] = fit_temperature([rows[:2] for rows in sets])
            else:
                model.temperatures[head] = fit_temperature_by_length(sets)
            num_rows = sum(len(labels) for _, labels, _ in sets)
            origin = f"fitted on {num_rows:,} validation rows of {len(sets)} sources"
        else:
            origin = (
                "not fitted: no source that is trained on has validation rows with its labels, so "
                "its probabilities may be too high or too low"
            )
        temperature = model.temperatures.get(head, 1.0)
        if isinstance(temperature, TemperatureByLength):
            value = (
                f"{temperature.short:.3f} of short texts and {temperature.long:.3f} of long ones"
            )
        else:
            value = f"{temperature:.3f}"
        sentences.append(f"Temperature of {head}: {value}, {origin}.")
    return sentences


def draw(source: LabelledSource, max_rows: int | None) -> Sequence[Example]:
    """This worker's part of the validation rows that are drawn.

    They are the same for any number of workers, seed and step. They are drawn, since the first rows
    of a file that is sorted by label would have one label only.
    """
    counts = gather(len(source.validation))
    if max_rows is None or sum(counts) <= max_rows:
        return source.validation
    drawn = sorted(random.Random(0).sample(range(sum(counts)), max_rows))
    # Rows are counted through the workers: with 5 and 3 rows, worker 1 has the rows 5, 6 and 7.
    first = sum(counts[: rank()])
    stop = first + len(source.validation)
    drawn_here = drawn[bisect_left(drawn, first) : bisect_left(drawn, stop)]
    return select(source.validation, [index - first for index in drawn_here])


def check_metric(
    model: BertSum,
    sources: Iterable[LabelledSource],
    max_rows: int | None,
    dtype: str,
    names: Sequence[str],
) -> None:
    """Raise ConfigError as `read_metric` would do with the result of `validate`.

    So a run ends before it has spent hours. The labels of the rows decide which measures there are,
    so it is enough to measure one row with each kind of label. Every worker must call it.
    """
    few = []
    for source in sources:
        examples = _first_of_each_kind(draw(source, max_rows))
        few.append(LabelledSource(source.config, train=[], validation=examples))
    read_metric(validate(model, few, None, dtype), names)


def _first_of_each_kind(examples: Iterable[Example]) -> list[Example]:
    """The first example with each kind of label."""
    first: dict[int, Example] = {}
    for example in examples:
        has_label = (
            bool(example.summary),
            bool((example.sentence_labels != IGNORE).any()),
            example.sentiment_label != IGNORE,
            example.topic_label != IGNORE,
            example.token_labels is not None,
            example.pair is not None,
        )
        for kind in np.flatnonzero(has_label).tolist():
            first.setdefault(kind, example)
    return list(first.values())


def measure_examples(
    model: BertSum, examples: Sequence[Example], source: SourceConfig, dtype: str
) -> Measures:
    """Measure a model on the labelled examples of all workers.

    Returns ROUGE beside the lead's and the oracle's, spread, losses (means), reports on sentiment,
    topic and words, and how queries find their documents; each where there are labels for it.
    """
    return measures_of(model, gather(_measure_part(model, examples, source, dtype)))


def measures_of(model: BertSum, parts: Sequence[Part]) -> Measures:
    """Measures of what all workers' parts of a source hold; see `measure_examples`.

    Probabilities are those that the model's temperatures give.
    """
    measured: list[ExampleMeasures] = []
    for part in parts:
        measured += part.examples
    result: Measures = {"rows": len(measured), **_summary_measures(measured)}
    if num_labels := sum(example.num_labels for example in measured):
        # summed by worker first: the order of additions decides the last bits
        losses = [sum(example.loss for example in part.examples) for part in parts]
        result["summary_loss"] = sum(losses) / num_labels
    for head, labels in head_labels(model.config).items():
        if labels:
            rows = join_rows([part.classes[head] for part in parts])
            scaled = _scaled(model, head, rows)
            result |= _measure_classes(head, scaled.numpy(), rows.labels, labels)
    if sum(len(part.pairs.ids) for part in parts):
        result["retrieval"] = measure_pairs([part.pairs for part in parts])
    return result


def probabilities_of(model: BertSum, head: str, rows: ClassRows) -> FloatArray:
    """[N, C] probabilities as users of the model get them."""
    probabilities: FloatArray = _scaled(model, head, rows).softmax(1).numpy()
    return probabilities


def _scaled(model: BertSum, head: str, rows: ClassRows) -> torch.Tensor:
    """[N, C] logits, divided by the head's temperature."""
    return divide_logits(
        torch.from_numpy(rows.logits),
        model.temperatures.get(head, 1.0),
        partial(torch.from_numpy, rows.lengths),
    )


def _summary_measures(measured: Sequence[ExampleMeasures]) -> Measures:
    """ROUGE and spread of the examples with a summary; nothing where there is none."""
    # An example with a summary has all three scores.
    ours = [example.rouge for example in measured if example.rouge is not None]
    lead = [example.lead for example in measured if example.lead is not None]
    oracle = [example.oracle for example in measured if example.oracle is not None]
    if not ours:
        return {}
    spreads = [example.spread for example in measured if example.spread is not None]
    cosines = [spread.vector_cosine for spread in spreads]
    deviations = [spread.score_deviation for spread in spreads]
    gain, interval = metrics.mean_difference(ours, lead)
    return {
        "rouge": asdict(mean_rouge(ours)),
        "lead": asdict(mean_rouge(lead)),
        "oracle": asdict(mean_rouge(oracle)),
        "rouge_1_over_lead": gain,
        "rouge_1_over_lead_95": interval,
        "spread": {
            "vector_cosine": float(np.mean(cosines or [0.0])),
            "score_deviation": float(np.mean(deviations or [0.0])),
        },
    }


def read_metric(results: Mapping[str, Measures], names: Sequence[str]) -> float:
    """Mean of the named measures, as a number of which higher is better.

    Measures whose name ends in `loss` are negated. Raises ConfigError that lists the measures, for
    a name that is not among them.
    """
    known = dict(numbers(results))
    values = []
    for name in names:
        if name not in known:
            reason = "the validation rows have no label at all"
            if known:
                reason = f"there are {', '.join(sorted(known))}"
            raise ConfigError(f"best_metric {name}: there is no such measure; {reason}")
        values.append(-known[name] if name.endswith("loss") else known[name])
    return sum(values) / len(names)


@torch.no_grad()
def predict_examples(model: BertSum, examples: Sequence[Example], dtype: str) -> Predictions:
    """What the model says of each example."""
    model.eval()
    device = next(model.parameters()).device
    sentences: list[FloatArray] = [np.zeros(0, np.float32)] * len(examples)
    vectors = list(sentences)
    sentiments = list(sentences)
    classes = _no_class_rows(model.config)
    documents = [example.document for example in examples]
    # groups of similar length, so `indices` say where each document belongs in the result
    for indices in group_documents(documents, _BATCH_TOKENS):
        # without queries and negatives: they have no labels
        labelled = labelled_batch([replace(examples[index], pair=None) for index in indices])
        logits = forward_batch(model, labelled.to(device), dtype)
        num_sentences = labelled.batch.num_sentences
        # [sum of S] and [sum of S, H] -> a part for each document
        logit_parts = torch.split(logits.sentence_logits.float().cpu(), num_sentences)
        vector_parts = torch.split(logits.sentence_vectors.cpu(), num_sentences)
        # a batch has its documents in an order of its own
        batch_indices = [indices[document] for document in labelled.batch.documents]
        for row, index in enumerate(batch_indices):
            sentences[index], vectors[index] = logit_parts[row].numpy(), vector_parts[row].numpy()
        if logits.sentiment_logits is not None:
            rows = logits.sentiment_logits.float().cpu().numpy()
            for index, sentiment in zip(batch_indices, rows, strict=True):
                sentiments[index] = sentiment
        for head, values in head_logits(logits).items():
            if values is not None:
                labels = labelled.class_labels[head]
                is_known = labels >= 0
                kept = values.float().cpu()[is_known].numpy()
                lengths, numbers_here = torch.ones_like(labels), torch.full_like(labels, -1)
                if head != "token_sentiment":
                    lengths = document_lengths(labelled.batch).long()
                    numbers_here = torch.tensor(batch_indices)
                rows_here = ClassRows(
                    kept,
                    labels=labels[is_known].numpy(),
                    lengths=lengths[is_known].numpy(),
                    examples=numbers_here[is_known].numpy(),
                )
                classes[head].append(rows_here)
    has_sentiments = model.sentiment is not None and bool(examples)
    return Predictions(
        sentences=sentences,
        vectors=vectors,
        sentiments=np.stack(sentiments) if has_sentiments else None,
        classes={head: join_rows(rows) for head, rows in classes.items()},
    )


def _no_class_rows(config: ModelConfig) -> dict[str, list[ClassRows]]:
    """For each head that the model has, a list with no rows, so that it can be joined as it is."""
    classes = {}
    for head, labels in head_labels(config).items():
        if labels:
            no_logits = np.zeros((0, len(labels)), np.float32)
            no_labels = np.zeros(0, np.int64)
            classes[head] = [ClassRows(no_logits, no_labels, no_labels, no_labels)]
    return classes


def join_rows(rows: Sequence[ClassRows]) -> ClassRows:
    """The rows of all parts, one part after the other."""
    return ClassRows(
        np.concatenate([part.logits for part in rows]),
        np.concatenate([part.labels for part in rows]),
        np.concatenate([part.lengths for part in rows]),
        np.concatenate([part.examples for part in rows]),
    )


def _measure_part(
    model: BertSum,
    examples: Sequence[Example],
    source: SourceConfig,
    dtype: str,
    report: Report = lambda line: None,
) -> Part:
    """Measure this worker's examples.

    It goes batch by batch: vectors are many times as large as what is measured of them.
    """
    measured: dict[int, ExampleMeasures] = {}
    classes = _no_class_rows(model.config)
    groups = group_by_length(token_counts(examples).tolist(), _BATCH_TOKENS)
    for indices in shown(groups, len(examples), f"{source.name} measured", report):
        batch = [examples[index] for index in indices]
        predictions = predict_examples(model, batch, dtype)
        for head, rows in classes.items():
            answered = predictions.classes[head]
            # the index in the batch -> the one among all examples
            numbered = np.where(answered.examples < 0, -1, np.take(indices, answered.examples))
            rows.append(replace(answered, examples=numbered))
        answers = zip(predictions.sentences, predictions.vectors, strict=True)
        for index, example, (logits, vectors) in zip(indices, batch, answers, strict=True):
            measured[index] = _measure_example(
                example, logits, vectors, source.num_summary_sentences, model.candidates
            )
    return Part(
        examples=[measured[index] for index in sorted(measured)],
        classes={head: join_rows(rows) for head, rows in classes.items()},
        indices=sorted(measured),
        pairs=pair_rows(model, examples, dtype),
    )


def _measure_example(
    example: Example,
    logits: FloatArray,
    vectors: FloatArray,
    size: int,
    ranker: CandidateRanker | None,
) -> ExampleMeasures:
    """Measure [S] logits and [S, H] vectors of a document, of which `size` sentences are chosen."""
    scores = torch.from_numpy(logits).sigmoid().numpy()
    labels = torch.from_numpy(example.sentence_labels)
    loss = float(summary_loss(torch.from_numpy(logits), labels))
    num_labels = int((labels >= 0).sum())
    if not example.summary:
        return ExampleMeasures(loss, num_labels)
    documents, summaries = [example.document], [example.summary]
    has_pairs = len(scores) > 1  # a single sentence has nothing to differ from
    return ExampleMeasures(
        loss,
        num_labels,
        rouge=metrics.summary_rouge(documents, [scores], summaries, size, ranker)[0],
        lead=metrics.lead_rouge(documents, summaries, size)[0],
        oracle=metrics.oracle_rouge(documents, summaries, size)[0],
        spread=metrics.spread([vectors], [scores]) if has_pairs else None,
    )


def _measure_classes(
    head: str, logits: FloatArray, expected: npt.NDArray[np.int64], labels: Sequence[str]
) -> Measures:
    """Report on [N, C] logits and [N] classes: over all labels, and over those that occur.

    A set may have two classes only; then only these two may be answered. Nothing without rows.
    """
    if not len(expected):
        return {}
    predicted = logits.argmax(1)
    among_present = metrics.answers_among_present(logits, expected)
    present_report = metrics.classification_report(among_present, expected, labels)
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    report = {
        **asdict(metrics.classification_report(predicted, expected, labels)),
        "accuracy_95": metrics.share_interval(predicted == expected),
        "accuracy_among_present_labels": present_report.accuracy,
        "accuracy_among_present_labels_95": metrics.share_interval(among_present == expected),
        "macro_f1_among_present_labels": present_report.macro_f1,
        "calibration_error": calibration(probabilities, expected).error,
    }
    loss = float(class_loss(torch.from_numpy(logits), torch.from_numpy(expected)))
    return {head: report, f"{head}_loss": loss / len(expected)}
