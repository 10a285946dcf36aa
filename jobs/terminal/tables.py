"""Tables of an evaluation, for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bertsum.evaluation.report import ROUGE_NAMES
from jobs.terminal.console import console

_MOST_SAID = 10  # columns of a confusion matrix; with more of them none has room

# Plain values as they stand in metrics.json: see `bertsum.evaluation.report.evaluation_report`.
Report = Mapping[str, Any]


def show_report(report: Report) -> None:
    """Print tables of ROUGE, sentiment, topic, words and targets."""
    statuses = ", ".join(f"{name} {count:,}" for name, count in report["statuses"].items())
    console.print(f"{report['rows']:,} rows: {statuses}")
    if report["rouge"]:
        console.print(_rouge_table(report["rouge"]))
        if "query" in report["rouge"]:
            console.print(_query_table(report["rouge"]))
    for head in ("sentiment", "topic"):
        for model, values in report[head].items():
            _show_classes(head, model, values)
    for model, values in report["words"].items():
        console.print(_word_table(model, values))
    for model, values in report["targets"].items():
        console.print(_target_table(model, values))
        console.print(_agreement_table(model, values["by_agreement"]))
    if report["retrieval"]:
        console.print(_retrieval_table(report["retrieval"]))


def _rouge_table(rouge: Report) -> Table:
    """A row for each system, which has its difference to the lead in the last column."""
    lead = rouge["lead"]
    table = _left_titled(
        f"ROUGE F in percent, {rouge['rows']:,} documents; in brackets 95 % intervals"
    )
    table.add_column("system", overflow="fold")
    for name in ("ROUGE-1", "ROUGE-2", "ROUGE-Lsum", f"R1 over {lead}"):
        table.add_column(name, no_wrap=True, justify="right")
    for system, values in rouge["systems"].items():
        cells = [_interval(values[name]) for name in ROUGE_NAMES]
        # The lead is what the others are compared with: it has no difference to itself.
        over_lead = "" if system == lead else _interval(values["over_lead"]["rouge_1"], "+")
        table.add_row(system, *cells, over_lead)
    return table


def _query_table(rouge: Report) -> Table:
    """What the query brings to each model's summaries, over those without it and over BM25's."""
    table = _left_titled("what the query brings, in points of ROUGE F; in brackets 95 % intervals")
    table.add_column("model", overflow="fold")
    table.add_column("over", overflow="fold")
    for name in ("ROUGE-1", "ROUGE-2", "ROUGE-Lsum"):
        table.add_column(name, no_wrap=True, justify="right")
    for model, gains in rouge["query"].items():
        for other, values in gains.items():
            cells = [_interval(values[name], "+") for name in ROUGE_NAMES]
            table.add_row(model, other.removeprefix("over "), *cells)
    return table


def _interval(value: Mapping[str, float], sign: str = "") -> str:
    """`31.20 (30.10 32.30)`; with `sign` `+` a plus before positive numbers."""
    mean, low, high = value["mean"], value["low"], value["high"]
    return f"{mean:{sign}.2f} ({low:{sign}.2f} {high:{sign}.2f})"


def _show_classes(head: str, model: str, values: Report) -> None:
    """Print a table of a head that gives one label a document, and what the model cannot know."""
    low, high = values["accuracy_95"]
    present_low, present_high = values["accuracy_among_present_labels_95"]
    calibration = values["calibration"]
    error_low, error_high = calibration["error_95"]
    table = _label_table(
        f"{head} by {model}, {values['rows']:,} rows: accuracy {values['accuracy']:.3f} "
        f"({low:.3f} {high:.3f}), {values['accuracy_among_present_labels']:.3f} "
        f"({present_low:.3f} {present_high:.3f}) among the labels of the data; macro-F1 "
        f"{values['macro_f1']:.3f}, {values['macro_f1_among_present_labels']:.3f} among them; "
        f"calibration error {calibration['error']:.3f} ({error_low:.3f} {error_high:.3f}), by "
        f"chance {calibration['error_by_chance']:.3f}",
        values,
        num_unknown=len(values["unknown_labels"]),
    )
    console.print(table)
    if values["unknown_labels"]:
        unknown = ", ".join(f"{name} ({rows:,})" for name, rows in values["unknown_labels"].items())
        console.print(
            f"{model} does not know these labels of {head}, and is wrong in their rows, "
            f"{values['rows_with_unknown_label']:,} of {values['rows']:,}: {unknown}\n",
            soft_wrap=True,
        )


def _word_table(model: str, values: Report) -> Table:
    """A row for each tag of single words, and below, one for each kind of span."""
    spans = values["spans"]
    micro = spans["micro"]
    table = _label_table(
        f"words by {model}, {values['words']:,} in {values['rows']:,} rows: accuracy "
        f"{values['accuracy']:.3f}, macro-F1 {values['macro_f1']:.3f}; {micro['support']:,} spans: "
        f"F1 {micro['f1']:.3f} (precision {micro['precision']:.3f}, recall {micro['recall']:.3f}), "
        f"macro-F1 {spans['macro_f1']:.3f}",
        values,
    )
    for kind, scores in spans["by_kind"].items():
        measures = [f"{scores[name]:.3f}" for name in ("precision", "recall", "f1")]
        table.add_row(f"spans {kind}", *measures, f"{scores['support']:,}")
    return table


def _target_table(model: str, values: Report) -> Table:
    """A row for each label of entities."""
    low, high = values["accuracy_95"]
    return _label_table(
        f"targets by {model}, {values['entities']:,} entities in {values['rows']:,} rows, of which "
        f"{values['not_mentioned']:,} are not mentioned: accuracy {values['accuracy']:.3f} "
        f"({low:.3f} {high:.3f}), macro-F1 {values['macro_f1']:.3f}",
        values,
        num_unknown=len(values["unknown_labels"]),
    )


def _agreement_table(model: str, values: Report) -> Table:
    """Accuracy beside that of the document's label, by whether the entities of a row agree."""
    table = _left_titled(f"targets by {model}, accuracy beside that of the document's label")
    table.add_column("entities of a row")
    for name in ("number", "targets", "document", "gain"):
        table.add_column(name, no_wrap=True, justify="right")
    for name, kind in values.items():
        cells = []
        for prefix in ("", "document_"):
            low, high = kind[f"{prefix}accuracy_95"]
            cells.append(f"{kind[f'{prefix}accuracy']:.3f} ({low:.3f} {high:.3f})")
        gain = kind["gain"]
        cells.append(f"{gain['mean']:+.3f} ({gain['low']:+.3f} {gain['high']:+.3f})")
        table.add_row(name, f"{kind['entities']:,}", *cells)
    return table


def _retrieval_table(reports: Report) -> Table:
    """A row for each model."""
    table = _left_titled("retrieval; in brackets 95 % intervals")
    table.add_column("model", overflow="fold")
    names = ["rows"]
    for values in reports.values():
        # models may have read other rows, but they have the same measures
        names += [name for name in values if name not in names]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for model, values in reports.items():
        cells = []
        for name in names:
            value = values.get(name, "-")
            if isinstance(value, Mapping):
                value = f"{value['mean']:.3f} ({value['low']:.3f} {value['high']:.3f})"
            cells.append(str(value))
        table.add_row(model, *cells)
    return table


def _label_table(title: str, values: Report, num_unknown: int = 0) -> Table:
    """A row for each label: measures, support, and how often each label was said instead.

    `num_unknown`: how many of the last labels the model does not know.
    """
    table = _left_titled(title, min_width=100)
    labels = values["labels"]
    said_labels: Sequence[str] = labels[: len(labels) - num_unknown]  # it never says the others
    if len(said_labels) > _MOST_SAID:
        said_labels = []
    table.add_column("label")
    for name in ("precision", "recall", "F1", "support"):
        table.add_column(name, justify="right")
    for label in said_labels:
        table.add_column(f"said {label}", justify="right")
    for label, counts in zip(labels, values["confusion"], strict=True):
        support = values["support"][label]
        measures = ["-"] * 3  # what there is none of has no recall
        if support:
            measures = [f"{values[name][label]:.3f}" for name in ("precision", "recall", "f1")]
        said = [f"{count:,}" for count in counts[: len(said_labels)]]
        table.add_row(label, *measures, f"{support:,}", *said)
    return table


def _left_titled(title: str, min_width: int | None = None) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), min_width=min_width
    )
