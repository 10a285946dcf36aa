"""Rows of measures -> a report: means, intervals, differences to the lead, scores by label."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bertsum.evaluation.baselines import BM25, with_query
from bertsum.evaluation.calibration import calibration, calibration_interval, error_by_chance
from bertsum.evaluation.metrics import (
    answers_among_present,
    bootstrap_intervals,
    classification_report,
    confusion_matrix,
    resampled_means,
    share_interval,
)
from bertsum.evaluation.retrieval import retrieval_reports
from bertsum.evaluation.word_spans import span_report, word_report
from bertsum.labels.labels import known_class
from bertsum.schema import NEGATIVE, POSITIVE
from bertsum.text.phrases.tags import OUTSIDE

ROUGE_NAMES = ("rouge_1", "rouge_2", "rouge_lsum")
OTHERS = "(other labels)"
NOT_MENTIONED = "(not mentioned)"
# A column of something else, such as an id, may have as many labels as rows, and the confusion
# matrix has a cell for each pair of labels.
_MOST_UNKNOWN = 20

Report = dict[str, Any]  # nested, of the values that JSON has
Scores = Mapping[str, float]  # probabilities by label
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _LabelledEntities:
    """Entities of a row, and what a model says of them.

    - `labels`: of each.
    - `scores`: towards each; None for one that the text does not mention.
    - `document_scores`: those of the document.
    """

    labels: Sequence[str]
    scores: Sequence[Scores | None]
    document_scores: Scores


def evaluation_report(table: pa.Table, models: Sequence[str], lead: str) -> Report:
    """Report on rows of measures, in plain values, ready for JSON.

    `table` has the columns of `bertsum.evaluation.columns.MEASURES`. The report has:

    - `labelled_rows`: their number by head.
    - `rouge`: for each system its means in percent with 95 % intervals, and the differences to the
      lead on the same rows. Where summaries were to answer a query, `query` has by model the
      differences of these to its summaries without the query, and to BM25's sentences.
    - `sentiment` and `topic`: for each model with that head a report on the rows with a label. A
      label that the model does not have is one of `unknown_labels`, and counts as a wrong answer.
    - `words`: for each model with a head for words a report on words and one on spans.
    - `targets`: for each model with a head for sentiment a report on labelled entities.
    - `retrieval`: for each model a report on how its embeddings find the document of a query, and
      one of BM25.
    """
    # Results lack what their configuration does not ask for, or an earlier version did not measure.
    has_targets = "targets" in table.column_names
    has_queries = "retrieval" in table.column_names
    statuses = pc.value_counts(table["status"]).to_pylist()
    labelled_rows = {}
    for head in ("sentiment", "topic"):
        labelled_rows[head] = pc.count(table[f"expected_{head}"]).as_py()
    labelled_rows["targets"] = pc.count(table["expected_targets"]).as_py() if has_targets else 0
    labelled_rows["retrieval"] = pc.count(table["retrieval"]).as_py() if has_queries else 0
    return {
        "rows": table.num_rows,
        "labelled_rows": labelled_rows,
        "statuses": {entry["values"]: entry["counts"] for entry in statuses},
        "rouge": _rouge_report(table["rouge"], lead, models),
        "sentiment": _class_reports(table, "sentiment", models),
        "topic": _class_reports(table, "topic", models),
        "words": _word_reports(table, models),
        "targets": _target_reports(table, models) if has_targets else {},
        "retrieval": retrieval_reports(table, models) if has_queries else {},
    }


def _rouge_report(column: pa.ChunkedArray, lead: str, models: Sequence[str]) -> Report | None:
    # null: a row without text or without a reference
    rows = column.drop_null().combine_chunks()
    if not len(rows):
        return None
    systems = [entry["system"] for entry in rows[0].as_py()]
    entries = rows.flatten()
    # [N, systems, measures]: every row has the same systems in the same order
    values = np.stack([entries.field(name).to_numpy() for name in ROUGE_NAMES], 1)
    values = values.reshape(len(rows), len(systems), -1)
    report = rouge_report(values, systems, lead)
    if by_model := _query_report(values, systems, models):
        report["query"] = by_model
    return report


def rouge_report(values: FloatArray, systems: Sequence[str], lead: str) -> Report:
    """Means with 95 % intervals, and the differences to the lead on the same rows.

    `values`: [N, systems, measures] of ROUGE_NAMES in percent. Raises ValueError for no rows.
    """
    over_lead = values - values[:, [systems.index(lead)]]
    # [N, systems, 2 * measures]: resampled together, so that the differences are paired
    both = np.concatenate([values, over_lead], 2)
    flat = both.reshape(len(values), -1)
    means = flat.mean(0).reshape(both.shape[1:])
    intervals = bootstrap_intervals(flat).reshape(*both.shape[1:], 2)
    reports = {}
    for index, system in enumerate(systems):
        report = _named(means[index, :3], intervals[index, :3])
        report["over_lead"] = _named(means[index, 3:], intervals[index, 3:])
        reports[system] = report
    return {"rows": len(values), "lead": lead, "systems": reports}


def _query_report(values: FloatArray, systems: Sequence[str], models: Sequence[str]) -> Report:
    """By model: its summaries with a query minus those without one, and minus BM25's sentences.

    `values`: as in `rouge_report`. Models that were given no query are left out.
    """
    by_model: Report = {}
    for model in models:
        if (system := with_query(model)) not in systems:
            continue
        by_model[model] = {}
        for other in (model, BM25):
            gains = values[:, systems.index(system)] - values[:, systems.index(other)]
            by_model[model][f"over {other}"] = _named(gains.mean(0), bootstrap_intervals(gains))
    return by_model


def _named(means: FloatArray, intervals: FloatArray) -> Report:
    """[measures] means and [measures, 2] intervals, by name of the measure."""
    report = {}
    for name, mean, (low, high) in zip(ROUGE_NAMES, means, intervals, strict=True):
        report[name] = {"mean": float(mean), "low": float(low), "high": float(high)}
    return report


def _class_reports(table: pa.Table, head: str, models: Sequence[str]) -> Report:
    """A report by model, for those with a prediction of this head."""
    columns = [f"expected_{head}", head]
    labelled = table.filter(pc.is_valid(table[f"expected_{head}"])).select(columns)
    expected = labelled[f"expected_{head}"].to_pylist()
    scores: dict[str, list[Scores | None]] = {model: [] for model in models}
    for row in labelled[head].to_pylist():
        by_model = {entry["model"]: dict(entry["scores"]) for entry in row or ()}
        for model, model_scores in scores.items():
            model_scores.append(by_model.get(model))
    reports = {}
    for model, model_scores in scores.items():
        report = _class_report(model_scores, expected)
        if report is not None:
            reports[model] = report
    return reports


def _class_report(scores: Sequence[Scores | None], expected: Sequence[str]) -> Report | None:
    """None without a prediction. Labels are those that the model knows, then the others."""
    predictions = [row_scores for row_scores in scores if row_scores is not None]
    if not predictions:
        return None
    known = list(predictions[0])
    kept_labels = []
    for row_scores, label in zip(scores, expected, strict=True):
        if row_scores is not None:
            kept_labels.append(label)
    unknown, labels, wanted = _indices(kept_labels, known)
    # [N, known labels]
    probabilities = np.array([[row[label] for label in known] for row in predictions])
    return {
        "rows": len(predictions),
        "rows_without_prediction": len(scores) - len(predictions),
        "labels": labels,
        "unknown_labels": unknown,
        "rows_with_unknown_label": sum(unknown.values()),
        **class_report(probabilities, wanted, labels),
    }


def class_report(
    probabilities: FloatArray, wanted: npt.NDArray[np.int64], labels: Sequence[str]
) -> Report:
    """Scores, confusion matrix and calibration.

    - `probabilities`: [N, C] of the first C labels, which are those that the model knows.
    - `wanted`: [N] indices of the right labels.

    Raises ValueError for no rows.
    """
    predicted = probabilities.argmax(1)
    among_present = answers_among_present(probabilities, wanted)
    present_report = classification_report(among_present, wanted, labels)
    return {
        **asdict(classification_report(predicted, wanted, labels)),
        "accuracy_95": list(share_interval(predicted == wanted)),
        "accuracy_among_present_labels": present_report.accuracy,
        "accuracy_among_present_labels_95": list(share_interval(among_present == wanted)),
        "macro_f1_among_present_labels": present_report.macro_f1,
        "confusion": confusion_matrix(predicted, wanted, len(labels)).tolist(),
        "calibration": {
            **asdict(calibration(probabilities, wanted)),
            "error_95": list(calibration_interval(probabilities, wanted)),
            "error_by_chance": error_by_chance(probabilities),
        },
    }


def _indices(
    expected: Sequence[str], known: Sequence[str]
) -> tuple[dict[str, int], list[str], npt.NDArray[np.int64]]:
    """Rows of each unknown label, all labels, the known ones first, and [N] indices in them.

    Unknown labels begin with the most frequent one; those beyond _MOST_UNKNOWN count as OTHERS.
    """
    names = [known_class(label, known) or label for label in expected]
    counts = Counter(label for label in names if label not in known)
    # equally frequent ones by name, so that the report does not depend on the order of the rows
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    unknown = dict(ranked[:_MOST_UNKNOWN])
    if rare := ranked[_MOST_UNKNOWN:]:
        unknown[OTHERS] = sum(count for _, count in rare)
    labels = [*known, *unknown]
    index_of = {label: index for index, label in enumerate(labels)}
    others = index_of.get(OTHERS, -1)  # every label has an index where there are no others
    return unknown, labels, np.array([index_of.get(label, others) for label in names])


def _word_reports(table: pa.Table, models: Sequence[str]) -> Report:
    """A report by model, for those that labelled words."""
    labelled = table.filter(pc.is_valid(table["words"])).select(["expected_words", "words"])
    expected = labelled["expected_words"].to_pylist()
    predicted: dict[str, list[list[str]]] = {model: [] for model in models}
    # an entry a model; models without a head for words have none
    for row in labelled["words"].to_pylist():
        for entry in row:
            predicted[entry["model"]].append(entry["tags"])
    reports = {}
    for model, tags in predicted.items():
        if any(tags):
            # The labels are those that occur, since data and model may have different ones.
            occurring = set[str]().union(*expected, *tags)
            labels = sorted(occurring, key=lambda tag: (tag != OUTSIDE, tag))  # `O` first
            reports[model] = {
                "rows": len(expected),
                "words": sum(map(len, expected)),
                "labels": labels,
                **word_report(expected, tags, labels),
                "spans": span_report(expected, tags),
            }
    return reports


def _target_reports(table: pa.Table, models: Sequence[str]) -> Report:
    """A report by model, for those that say the sentiment towards entities."""
    columns = ["expected_targets", "targets", "sentiment"]
    labelled = table.filter(pc.is_valid(table["targets"])).select(columns).to_pylist()
    rows: dict[str, list[_LabelledEntities]] = {model: [] for model in models}
    for row in labelled:
        of_document = {entry["model"]: dict(entry["scores"]) for entry in row["sentiment"]}
        for entry in row["targets"]:
            model = entry["model"]
            scores = [pairs and dict(pairs) for pairs in entry["scores"]]
            rows[model].append(
                _LabelledEntities(row["expected_targets"], scores, of_document[model])
            )
    reports = {}
    for model, model_rows in rows.items():
        if model_rows:
            reports[model] = _target_report(model_rows)
    return reports


def _target_report(rows: Sequence[_LabelledEntities]) -> Report:
    """Over all entities of all rows; one that the text does not mention counts as wrong."""
    known = list(rows[0].document_scores)
    expected, answers, document_answers = [], [], []
    for row in rows:
        document_answer = _likeliest(row.document_scores)
        for label, scores in zip(row.labels, row.scores, strict=True):
            expected.append(label)
            answers.append(NOT_MENTIONED if scores is None else _likeliest(scores))
            document_answers.append(document_answer)
    if NOT_MENTIONED in answers:
        known.append(NOT_MENTIONED)
    unknown, labels, wanted = _indices(expected, known)
    predicted = np.array(list(map(labels.index, answers)))
    is_right = predicted == wanted
    document_is_right = np.array(list(map(labels.index, document_answers))) == wanted
    row_numbers = np.repeat(np.arange(len(rows)), [len(row.labels) for row in rows])
    label_sets = [set(row.labels) for row in rows]
    agree = np.array([len(names) == 1 for names in label_sets])
    opposite = np.array([{POSITIVE, NEGATIVE} <= names for names in label_sets])
    groups = {"all": agree | ~agree, "agree": agree, "disagree": ~agree, "opposite": opposite}
    by_agreement = {}
    for name, is_chosen in groups.items():
        chosen = is_chosen[row_numbers]  # [entities]
        if chosen.any():
            by_agreement[name] = _beside_document(
                is_right[chosen], document_is_right[chosen], row_numbers[chosen]
            )
    return {
        "rows": len(rows),
        "entities": len(expected),
        "not_mentioned": answers.count(NOT_MENTIONED),
        "labels": labels,
        "unknown_labels": unknown,
        **asdict(classification_report(predicted, wanted, labels)),
        "accuracy_95": list(share_interval(is_right)),
        "confusion": confusion_matrix(predicted, wanted, len(labels)).tolist(),
        "by_agreement": by_agreement,
    }


def _likeliest(scores: Scores) -> str:
    return max(scores, key=scores.__getitem__)


def _beside_document(
    is_right: npt.NDArray[np.bool_],
    document_is_right: npt.NDArray[np.bool_],
    row_numbers: npt.NDArray[np.int64],
) -> Report:
    """Accuracy of [N] answers on entities, and of the document's label as the answer to each.

    `row_numbers`: [N] ascending. Entities of one row are not independent, so that the interval of
    the gain is found by resampling rows.
    """
    differences = is_right.astype(np.float64) - document_is_right
    _, first = np.unique(row_numbers, return_index=True)
    counts = np.diff([*first, len(row_numbers)])
    # [samples, 2] means over rows of the sum of a row's differences, and of its entities
    means = resampled_means(np.stack([np.add.reduceat(differences, first), counts], 1))
    low, high = np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975])
    return {
        "entities": len(is_right),
        "accuracy": float(is_right.mean()),
        "accuracy_95": list(share_interval(is_right)),
        "document_accuracy": float(document_is_right.mean()),
        "document_accuracy_95": list(share_interval(document_is_right)),
        "gain": {"mean": float(differences.mean()), "low": float(low), "high": float(high)},
    }
