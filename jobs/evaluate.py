"""`bertsum evaluate INPUT OUTPUT`: what models are worth on labelled rows, beside baselines."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table

from bertsum.checkpoints.locate import SHIPPED_MODEL
from bertsum.config import load_config
from bertsum.errors import ConfigError
from bertsum.evaluation.baselines import choose
from bertsum.evaluation.evaluator import MEASURES, EvaluateConfig, EvaluationConfig
from bertsum.evaluation.report import ROUGE_NAMES, evaluation_report
from bertsum.masking import mask, mask_values
from bertsum.runs.importing import find_input
from bertsum.runs.plan import Plan
from bertsum.runs.records import Counts, Job
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import complete
from jobs.engine.reports import UnitReport
from jobs.engine.run import RESUMES, Run
from jobs.engine.run_report import say_notes, show_plan
from jobs.engine.work import EvaluateWork, models_digest
from jobs.options import add_options, count, find_address, overrides
from jobs.terminal.console import console
from jobs.terminal.exit_codes import guard
from jobs.terminal.plots import check_installed, draw

REPORT = "_report"  # a name that readers of Parquet directories pass over
_REPORTED = [name for name in MEASURES.names if not name.startswith("num_")]
_MOST_SAID = 10  # columns of a confusion matrix in the terminal; with more of them none has room
_COLUMNS = ("text_column", "summary_column", "sentiment_column")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 the command or configuration is wrong."""
    return guard(lambda: evaluate(parser().parse_args(argv)), RESUMES)


def evaluate(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    short: dict[str, object] = {f"evaluation.{name}": getattr(arguments, name) for name in _COLUMNS}
    short["evaluation.num_summary_sentences"] = arguments.sentences
    config = load_config(EvaluateConfig, arguments.config, overrides(arguments, short))
    configure(config.storage_options)
    check_installed()
    models = name_models(arguments.model or [None])
    if config.evaluation.summary_column:
        _check_systems(models, config.evaluation)
    output = Folder(arguments.output)
    source = find_input(arguments.input, output, arguments.split, dry_run=arguments.dry_run)
    say_notes(source)
    job = Job(", ".join(models), models_digest(models), config.evaluation)
    work = EvaluateWork(models, job, config.evaluation, config.max_batch_tokens)
    run = Run(
        input_uri=arguments.input,
        source=source,
        output=output,
        job=job,
        work=work,
        config=config,
        address=find_address(arguments),
    )
    plan = run.plan(arguments.limit)
    if arguments.dry_run:
        show_plan(plan, output)
        return 0
    complete(run, plan, _show_counts)
    names = list(run.plan(arguments.limit).units)  # which may have been split since the first plan
    report = evaluation_report(_read(output, names), list(models), config.evaluation.lead)
    output.write_replace(  # first: the reader of a terminal may leave, or a picture fail
        f"{REPORT}/metrics.json", json.dumps({"models": mask_values(models), **report}, indent=1).encode()
    )
    show_report(report)
    for sentence in missing_measures(report, list(models), config.evaluation):
        console.print(sentence, soft_wrap=True)
    for name, data in draw(report).items():
        output.write_replace(f"{REPORT}/{name}", data)
    console.print(f"metrics.json and plots are in {output}/{REPORT}", soft_wrap=True)
    return 0


def name_models(models: Sequence[str | None]) -> dict[str, str | None]:
    """Models by the name that tables give them: `NAME=` before it, or the last part of its path."""
    named: dict[str, str | None] = {}
    for model in models:
        given, separator, place = (model or "").partition("=")
        is_named = bool(separator) and "/" not in given  # else it is the query of a URI
        name = given if is_named else mask((model or SHIPPED_MODEL).rstrip("/").rpartition("/")[2])
        if name in named:
            shown = mask(str(model))
            raise ConfigError(
                f"--model {shown}: {name!r} is the name of two models; give one with --model NAME={shown}"
            )
        named[name] = (place if is_named else model) or None
    return named


def _check_systems(models: Iterable[str], config: EvaluationConfig) -> None:
    """Before any work: every system has a name of its own, and the baselines' packages are there."""
    names = [*models, config.lead, *dict.fromkeys(config.baselines), *dict.fromkeys(config.system_columns)]
    if taken := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(
            f"{taken[0]!r} names two of the systems {names}; name a model with --model NAME=PLACE, or rename a column"
        )
    for baseline in config.baselines:
        choose(baseline, ["A sentence."], summary="A sentence.", language="en", size=1, seed="")


def show_report(report: Mapping[str, Any]) -> None:
    """Tables of ROUGE, sentiment, topic and words."""
    statuses = ", ".join(f"{name} {count:,}" for name, count in report["statuses"].items())
    console.print(f"{report['rows']:,} rows: {statuses}")
    if report["rouge"]:
        console.print(_rouge_table(report["rouge"]))
    for head in ("sentiment", "topic"):
        for model, values in report[head].items():
            console.print(_class_table(head, model, values))
            if values["unknown_labels"]:
                console.print(_say_unknown(head, model, values), soft_wrap=True)
    for model, values in report["words"].items():
        console.print(_word_table(model, values))


def missing_measures(report: Mapping[str, Any], models: Sequence[str], config: EvaluationConfig) -> list[str]:
    """A sentence for each measure that was asked for and could not be had, or not of all rows."""
    rows, sentences = report["rows"], []
    num_compared = report["rouge"]["rows"] if report["rouge"] else 0
    if config.summary_column and num_compared < rows:
        missing = f"{rows - num_compared:,} of {rows:,} rows"
        sentences.append(f"ROUGE leaves out {missing}, which lack a text or a reference")
    sentiment = config.sentiment_column or config.aspect_sentiments_column or config.sentiment
    columns = {"sentiment": sentiment, "topic": config.topic_column}
    for head in (head for head, column in columns.items() if column):
        num_labelled = report["labelled_rows"][head]
        if not num_labelled:
            sentences.append(f"{head}: no row has a label, so there is nothing to compare with")
            continue
        for model in models:
            measured = report[head].get(model, {"rows": 0})["rows"]
            if measured < num_labelled:
                missing = f"{num_labelled - measured:,} of {num_labelled:,} labelled rows"
                reason = "it has no such head, or they have no text"
                if measured:
                    reason = "they have no text that it reads"
                sentences.append(f"{head}: {model} gives none for {missing}; {reason}")
    return sentences


def _rouge_table(rouge: Mapping[str, Any]) -> Table:
    lead = rouge["lead"]
    title = f"ROUGE F in percent, {rouge['rows']:,} documents; in brackets 95 % intervals"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("system", overflow="fold")
    for name in ("ROUGE-1", "ROUGE-2", "ROUGE-Lsum", f"R1 over {lead}"):
        table.add_column(name, no_wrap=True, justify="right")
    for system, values in rouge["systems"].items():
        own = [_interval(values[name], "") for name in ROUGE_NAMES]
        table.add_row(system, *own, "" if system == lead else _interval(values["over_lead"]["rouge_1"], "+"))
    return table


def _interval(value: Mapping[str, float], sign: str) -> str:
    return f"{value['mean']:{sign}.2f} ({value['low']:{sign}.2f} {value['high']:{sign}.2f})"


def _class_table(head: str, model: str, values: Mapping[str, Any]) -> Table:
    low, high = values["accuracy_95"]
    title = (
        f"{head} by {model}, {values['rows']:,} rows: accuracy {values['accuracy']:.3f} ({low:.3f} {high:.3f}), "
        f"{values['accuracy_among_present_labels']:.3f} among the labels of the data; macro-F1 "
        f"{values['macro_f1']:.3f}; calibration error {values['calibration']['error']:.3f}"
    )
    return _label_table(title, values)


def _say_unknown(head: str, model: str, values: Mapping[str, Any]) -> str:
    found = ", ".join(f"{label} ({count:,})" for label, count in values["unknown_labels"].items())
    return (
        f"{model} does not know these labels of {head}, and is wrong in their rows, "
        f"{values['rows_with_unknown_label']:,} of {values['rows']:,}: {found}\n"
    )


def _word_table(model: str, values: Mapping[str, Any]) -> Table:
    """Of single words, and below, of spans."""
    micro = values["spans"]["micro"]
    title = (
        f"words by {model}, {values['words']:,} in {values['rows']:,} rows: accuracy {values['accuracy']:.3f}, "
        f"macro-F1 {values['macro_f1']:.3f}; {micro['support']:,} spans: F1 {micro['f1']:.3f} (precision "
        f"{micro['precision']:.3f}, recall {micro['recall']:.3f}), macro-F1 {values['spans']['macro_f1']:.3f}"
    )
    table = _label_table(title, values)
    for kind, found in values["spans"]["by_kind"].items():
        measures = [f"{found[name]:.3f}" for name in ("precision", "recall", "f1")]
        table.add_row(f"spans {kind}", *measures, f"{found['support']:,}")
    return table


def _label_table(title: str, values: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), min_width=100)
    labels = values["labels"]
    said_labels = labels[: len(labels) - len(values.get("unknown_labels", ()))]  # what it does not know comes last
    if len(said_labels) > _MOST_SAID:
        said_labels = []
    for name in ("label", "precision", "recall", "F1", "support", *(f"said {label}" for label in said_labels)):
        table.add_column(name, justify="left" if name == "label" else "right")
    for place, label in enumerate(labels):
        support = values["support"][label]  # what there is none of has no recall
        measures = [f"{values[name][label]:.3f}" if support else "-" for name in ("precision", "recall", "f1")]
        said = [f"{count:,}" for count in values["confusion"][place][: len(said_labels)]]
        table.add_row(label, *measures, f"{support:,}", *said)
    return table


def _read(output: Folder, names: Sequence[str]) -> pa.Table:
    tables = []
    for name in names:
        with output.open(name) as stream:
            tables.append(pq.read_table(stream, columns=_REPORTED))
    return pa.concat_tables(tables)


def _show_counts(output: Folder, plan: Plan, counts: Counts, reports: Sequence[UnitReport], seconds: float) -> None:
    console.print(
        f"{counts.rows:,} rows measured in {seconds:,.0f} s; each row's measures are in {output}", soft_wrap=True
    )


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum evaluate",
        description="ROUGE beside baselines, and reports of the other heads, of models on labelled rows.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command or config wrong",
    )
    add = options.add_argument
    add("input", metavar="INPUT", help="Parquet, JSON or CSV; a saved dataset; hub:NAME")
    add("output", metavar="OUTPUT", help="directory for the measures of each row and the report, local or remote")
    add(
        "--model",
        metavar="[NAME=]M",
        action="append",
        help="checkpoint; repeatable (default: bertsum-default, the shipped one)",
    )
    for name in _COLUMNS:
        add(f"--{name.replace('_', '-')}", metavar="NAME", help=f"short for evaluation.{name}")
    add("--sentences", metavar="N", type=count("--sentences", 1), help="sentences of a summary (default: 3)")
    add("--split", metavar="NAME", default="train", help="of a saved or hub dataset (default: train)")
    add_options(options)
    add("--dry-run", action="store_true", help="show the plan; write nothing")
    return options


if __name__ == "__main__":
    sys.exit(main())
