"""Rows of measures -> what a set of models is worth: means with intervals, differences to the lead, and reports."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsum.evaluation.metrics import bootstrap_intervals, calibration, classification_report, confusion_matrix
from bertsum.evaluation.word_spans import OUTSIDE, span_report, word_report
from bertsum.labels.labels import known_class

ROUGE_NAMES = ("rouge_1", "rouge_2", "rouge_lsum")
OTHERS = "(other labels)"
_MOST_UNKNOWN = 20  # labels: a column of something else, such as an id, may have one a row, and a matrix has squares


def evaluation_report(table: pa.Table, models: Sequence[str], lead: str) -> dict[str, Any]:
    """Plain values, ready for JSON. `table`: see `bertsum.evaluation.evaluator.MEASURES`.

    `labelled_rows` has their number by head. `rouge` holds for each system its means in percent
    with 95 % intervals, and the differences to the lead on the same rows; `sentiment` and `topic`
    hold a report for each model that has such a head, on the rows with a label; where it is one of
    `unknown_labels`, which the model does not have, the model is wrong. `words` holds one of words
    and one of spans.
    """
    statuses = {entry["values"]: entry["counts"] for entry in pc.value_counts(table["status"]).to_pylist()}
    heads = ("sentiment", "topic")
    return {
        "rows": table.num_rows,
        "labelled_rows": {head: pc.count(table[f"expected_{head}"]).as_py() for head in heads},
        "statuses": statuses,
        "rouge": _rouge(table["rouge"], lead),
        "sentiment": _classes(table, "sentiment", models),
        "topic": _classes(table, "topic", models),
        "words": _words(table, models),
    }


def _rouge(column: pa.ChunkedArray, lead: str) -> dict[str, Any] | None:
    rows = column.drop_null().combine_chunks()
    if not len(rows):
        return None
    systems = [entry["system"] for entry in rows[0].as_py()]
    entries = rows.flatten()
    # [N, systems, measures]: every row has the same systems in the same order
    values = np.stack([entries.field(name).to_numpy() for name in ROUGE_NAMES], 1)
    values = values.reshape(len(rows), len(systems), len(ROUGE_NAMES))
    both = np.concatenate([values, values - values[:, [systems.index(lead)]]], 2)
    flat = both.reshape(len(rows), -1)
    means, intervals = flat.mean(0).reshape(both.shape[1:]), bootstrap_intervals(flat).reshape(*both.shape[1:], 2)
    return {
        "rows": len(rows),
        "lead": lead,
        "systems": {
            system: _named(means[place, :3], intervals[place, :3])
            | {"over_lead": _named(means[place, 3:], intervals[place, 3:])}
            for place, system in enumerate(systems)
        },
    }


def _named(means: np.ndarray, intervals: np.ndarray) -> dict[str, Any]:
    return {
        name: {"mean": float(mean), "low": float(low), "high": float(high)}
        for name, mean, (low, high) in zip(ROUGE_NAMES, means, intervals, strict=True)
    }


def _classes(table: pa.Table, head: str, models: Sequence[str]) -> dict[str, Any]:
    labelled = table.filter(pc.is_valid(table[f"expected_{head}"])).select([f"expected_{head}", head])
    expected = labelled[f"expected_{head}"].to_pylist()
    scores: dict[str, list[Mapping[str, float] | None]] = {model: [] for model in models}
    for row in labelled[head].to_pylist():
        found = {entry["model"]: dict(entry["scores"]) for entry in row or ()}
        for model, values in scores.items():
            values.append(found.get(model))
    reports = {model: _model_classes(values, expected) for model, values in scores.items()}
    return {model: report for model, report in reports.items() if report is not None}


def _model_classes(scores: Sequence[Mapping[str, float] | None], expected: Sequence[str]) -> dict[str, Any] | None:
    """None without a prediction. Its labels are those that the model knows, then those that it does not."""
    kept = [(values, label) for values, label in zip(scores, expected, strict=True) if values is not None]
    if not kept:
        return None
    known = list(kept[0][0])
    kept = [(values, known_class(label, known) or label) for values, label in kept]
    unknown = _unknown_labels([label for _, label in kept], known)
    labels = [*known, *unknown]
    places = {label: place for place, label in enumerate(labels)}
    probabilities = np.array([[values[label] for label in known] for values, _ in kept])
    wanted = np.array([places[label if label in places else OTHERS] for _, label in kept])
    predicted = probabilities.argmax(1)
    present = np.unique(wanted[wanted < len(known)])
    restricted = present[probabilities[:, present].argmax(1)] if len(present) else predicted
    (low, high), (low_present, high_present) = bootstrap_intervals(
        np.stack([predicted == wanted, restricted == wanted], 1).astype(float)
    )
    return {
        "rows": len(kept),
        "rows_without_prediction": len(scores) - len(kept),
        "labels": labels,
        "unknown_labels": unknown,
        "rows_with_unknown_label": sum(unknown.values()),
        **asdict(classification_report(predicted, wanted, labels)),
        "accuracy_95": [float(low), float(high)],
        "accuracy_among_present_labels": float((restricted == wanted).mean()),
        "accuracy_among_present_labels_95": [float(low_present), float(high_present)],
        "confusion": confusion_matrix(predicted, wanted, len(labels)).tolist(),
        "calibration": asdict(calibration(probabilities, wanted)),
    }


def _unknown_labels(expected: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Rows of each label that is not known, most frequent first; the rare ones beyond _MOST_UNKNOWN are one, OTHERS."""
    counts = Counter(label for label in expected if label not in known)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    num_others = sum(count for _, count in ranked[_MOST_UNKNOWN:])
    return dict(ranked[:_MOST_UNKNOWN]) | ({OTHERS: num_others} if num_others else {})


def _words(table: pa.Table, models: Sequence[str]) -> dict[str, Any]:
    labelled = table.filter(pc.is_valid(table["words"])).select(["expected_words", "words"])
    expected = labelled["expected_words"].to_pylist()
    found: dict[str, list[list[str]]] = {model: [] for model in models}
    for row in labelled["words"].to_pylist():
        for entry in row:
            found[entry["model"]].append(entry["tags"])
    return {model: _model_words(expected, tags) for model, tags in found.items() if any(tags)}


def _model_words(expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Its labels are those that occur, `O` first: data and model may have different ones."""
    labels = sorted({tag for rows in (expected, predicted) for tags in rows for tag in tags}, key=_outside_first)
    return {
        "rows": len(expected),
        "words": sum(map(len, expected)),
        "labels": labels,
        **word_report(expected, predicted, labels),
        "spans": span_report(expected, predicted),
    }


def _outside_first(tag: str) -> tuple[bool, str]:
    return tag != OUTSIDE, tag
