"""What a run measured at its end, in more detail than its log: intervals, matrices, worst rows."""

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple

import numpy as np
import torch

from bertsum.config import SelectionConfig
from bertsum.evaluation.plots import draw
from bertsum.evaluation.report import Report, class_report, rouge_report
from bertsum.evaluation.worst_examples import ORACLE, WorstExample, summary_of, worst_first
from bertsum.model.bert_sum import BertSum
from bertsum.model.ranking import choose_sentences
from bertsum.text.sentences import Span
from bertsum.training.distributed import gather, rank
from bertsum.training.examples import Example
from bertsum.training.optimization import head_labels
from bertsum.training.results.files import PICTURES_DIRECTORY
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.validation import (
    LabelledSource,
    Part,
    join_rows,
    predict_examples,
    probabilities_of,
)

MODEL = "model"
# what `bertsum.evaluation.report` calls the heads
_REPORT_NAMES = {"sentiment": "sentiment", "topic": "topic", "token_sentiment": "words"}
_DOCUMENT_HEADS = ("sentiment", "topic")


def source_report(model: BertSum, parts: Sequence[Part], source: SourceConfig) -> Report:
    """Report on what all workers measured of a source, in the form of `evaluation_report`."""
    measured = [example for part in parts for example in part.examples]
    report: Report = {"rows": len(measured), "rouge": None}
    report |= {name: {} for name in (*_REPORT_NAMES.values(), "targets")}
    scores = []
    for example in measured:
        if example.rouge and example.lead and example.oracle:
            scores.append([astuple(example.rouge), astuple(example.lead), astuple(example.oracle)])
    if scores:
        lead = _lead(source)
        report["rouge"] = rouge_report(np.array(scores), [MODEL, lead, ORACLE], lead)
    for head, labels in head_labels(model.config).items():
        if labels:
            rows = join_rows([part.classes[head] for part in parts])
            if len(rows.labels):
                probabilities = probabilities_of(model, head, rows).astype(np.float64)
                figures = class_report(probabilities, rows.labels, labels)
                values = {"rows": len(rows.labels), "labels": list(labels), **figures}
                report[_REPORT_NAMES[head]] = {MODEL: values}
    return report


def find_worst(
    model: BertSum,
    sources: Iterable[LabelledSource],
    answered: Mapping[str, Sequence[Part]],
    *,
    most: int,
    dtype: str,
) -> list[WorstExample]:
    """The worst validation rows of each source and head, of all workers; all must call it.

    `answered`: what `bertsum.training.validation.answer` gave of all validation rows.
    """
    worst: list[WorstExample] = []
    for source in sources:
        parts = answered.get(source.config.name)
        if parts is None:
            continue
        here: list[WorstExample] = []
        if most:
            here = worst_first(_far_rows(model, source, parts[rank()], most, dtype), most)
        worst += worst_first((example for part in gather(here) for example in part), most)
    return worst


def draw_pictures(reports: Mapping[str, Report]) -> dict[str, bytes]:
    """PNG files by name, for the model card. Raises ConfigError where matplotlib is missing."""
    pictures = {}
    for number, (source, report) in enumerate(reports.items(), 1):
        # names of sources are free text, and files of two sources must differ
        prefix = f"{PICTURES_DIRECTORY}/{number}_{re.sub(r'[^A-Za-z0-9-]', '_', source)[:40]}"
        for name, data in draw(report).items():
            pictures[f"{prefix}_{name}"] = data
    return pictures


def _lead(source: SourceConfig) -> str:
    return f"LEAD-{source.num_summary_sentences}"


def _far_rows(
    model: BertSum, source: LabelledSource, part: Part, most: int, dtype: str
) -> Iterator[WorstExample]:
    """This worker's worst rows by head; `part`: what was measured of its validation rows."""
    yield from _low_summaries(model, source, part, most, dtype)
    labels = head_labels(model.config)
    for head in _DOCUMENT_HEADS:
        rows = part.classes.get(head)
        if rows is None or not len(rows.labels):
            continue
        probabilities = probabilities_of(model, head, rows)
        predicted = probabilities.argmax(1)
        distances = np.where(predicted == rows.labels, 0.0, probabilities.max(1))
        for row in np.argsort(-distances, kind="stable")[:most].tolist():
            if distances[row]:
                example = source.validation[int(rows.examples[row])]
                yield WorstExample(
                    source=source.config.name,
                    model=MODEL,
                    head=head,
                    distance=float(distances[row]),
                    text=example.document.text,
                    expected=labels[head][rows.labels[row]],
                    predicted=labels[head][predicted[row]],
                    scores=dict(zip(labels[head], probabilities[row].tolist(), strict=True)),
                )


def _low_summaries(
    model: BertSum, source: LabelledSource, part: Part, most: int, dtype: str
) -> Iterator[WorstExample]:
    """Rows whose summary is furthest below the oracle's, with that summary."""
    found: list[tuple[float, int, dict[str, float]]] = []
    for index, measured in zip(part.indices, part.examples, strict=True):
        if measured.rouge and measured.lead and measured.oracle:
            rouge_1 = {
                MODEL: measured.rouge.rouge_1,
                _lead(source.config): measured.lead.rouge_1,
                ORACLE: measured.oracle.rouge_1,
            }
            found.append((rouge_1[ORACLE] - rouge_1[MODEL], index, rouge_1))
    for distance, index, rouge_1 in heapq.nlargest(most, found, key=lambda entry: entry[0]):
        if distance > 0:
            example = source.validation[index]
            spans = _chosen_spans(model, example, source.config.num_summary_sentences, dtype)
            yield WorstExample(
                source=source.config.name,
                model=MODEL,
                head="summary",
                distance=distance,
                text=example.document.text,
                reference=example.summary,
                summary=summary_of(example.document.text, spans),
                spans=spans,
                rouge_1=rouge_1,
            )


def _chosen_spans(model: BertSum, example: Example, size: int, dtype: str) -> list[Span]:
    """Where the sentences stand that the model chooses."""
    logits = predict_examples(model, [example], dtype).sentences[0]
    scores = torch.from_numpy(logits).sigmoid().numpy()
    document = example.document
    (chosen,) = choose_sentences([document], [scores], SelectionConfig(size=size), model.candidates)
    return [(int(start), int(stop)) for start, stop in (document.spans[i] for i in chosen)]
