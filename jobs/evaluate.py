"""`bertsum evaluate INPUT OUTPUT`: what models are worth on labelled rows, beside baselines."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsum.checkpoints.locate import SHIPPED_MODEL
from bertsum.config_base import load_config
from bertsum.errors import ConfigError
from bertsum.evaluation.baselines import choose
from bertsum.evaluation.columns import measures
from bertsum.evaluation.config import EvaluateConfig, EvaluationConfig
from bertsum.evaluation.plots import check_installed, draw
from bertsum.evaluation.report import evaluation_report
from bertsum.evaluation.retrieval import BM25, MOST_ROWS
from bertsum.evaluation.worst_examples import WORST_FILE, add_texts, dump_worst, find_worst
from bertsum.masking import mask, mask_values
from bertsum.reports.measures import METRICS_DIRECTORY, METRICS_FILE
from bertsum.runs.importing import find_input
from bertsum.runs.plan import Plan
from bertsum.runs.records import Counts, Job
from bertsum.runs.units import Unit
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import complete
from jobs.engine.reports import UnitReport
from jobs.engine.run import RESUMES, Run
from jobs.engine.run_report import say_notes, show_plan
from jobs.engine.work import EvaluateWork, models_digest
from jobs.options import (
    RunOptions,
    add_options,
    count,
    find_address,
    overrides,
    parse,
    split_name,
)
from jobs.report import write_measures
from jobs.terminal.console import console
from jobs.terminal.exit_codes import guard
from jobs.terminal.tables import Report, show_report


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions(RunOptions):
    """The options of the command. None: the default of the configuration.

    - `model`: checkpoints, perhaps with a name: `NAME=M`; None: the shipped one.
    - `sentences`: the length of a summary.
    """

    model: Sequence[str] | None = None
    text_column: str | None = None
    summary_column: str | None = None
    sentiment_column: str | None = None
    sentences: int | None = None
    split: str = "train"
    dry_run: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 command or config wrong."""
    return guard(lambda: evaluate(parse(EvaluateOptions, parser(), argv)), RESUMES)


def evaluate(options: EvaluateOptions) -> int:
    """Run the command; returns its exit code."""
    short = {
        "evaluation.text_column": options.text_column,
        "evaluation.summary_column": options.summary_column,
        "evaluation.sentiment_column": options.sentiment_column,
        "evaluation.num_summary_sentences": options.sentences,
    }
    config = load_config(EvaluateConfig, options.config, overrides(options, short))
    configure(config.storage_options)
    check_installed()  # of matplotlib, better known before the work than after it
    models = name_models(options.model or [None])
    if config.evaluation.query_column and BM25 in models:
        raise ConfigError(
            f"a model is called {BM25}, as what it is compared with; name it otherwise"
        )
    if config.evaluation.summary_column:
        _check_systems(list(models), config.evaluation)
    output = Folder(options.output)
    source = find_input(options.input, output, options.split, dry_run=options.dry_run)
    say_notes(source)
    job = Job(", ".join(models), models_digest(models), config.evaluation)
    run = Run(
        input_uri=options.input,
        source=source,
        output=output,
        job=job,
        work=EvaluateWork(models, job, config.evaluation, config.max_batch_tokens),
        config=config,
        address=find_address(options.address),
    )
    plan = run.plan(options.limit)
    if options.dry_run:
        show_plan(plan, output)
        return 0
    complete(run, plan, _show_counts)
    # A second plan: units of several files, one of them damaged, were split while they were made.
    _report(run, run.plan(options.limit).units, models, config)
    return 0


def _show_counts(
    output: Folder, plan: Plan, counts: Counts, reports: Sequence[UnitReport], seconds: float
) -> None:
    """Print what the run did; the measures are shown once all of them are there."""
    console.print(
        f"{counts.rows:,} rows measured in {seconds:,.0f} s; each row's measures are in {output}",
        soft_wrap=True,
    )


def _report(
    run: Run, units: Mapping[str, Unit], models: dict[str, str | None], config: EvaluateConfig
) -> None:
    """Write and show what the measures amount to.

    `units`: by the names of their files, of a plan made after the run: units may have been split
    in it.
    """
    evaluation = config.evaluation
    table = _read_measures(run.output, list(units), evaluation)
    report = evaluation_report(table, list(models), evaluation.lead)
    record = json.dumps({"models": mask_values(models), **report}, indent=1)
    # First: the reader of a terminal may leave, or a picture fail.
    run.output.write_replace(METRICS_FILE, record.encode())
    found = find_worst(table, list(models), evaluation.lead, config.worst_examples)
    worst = add_texts(found, list(units.values()), run.source.root, evaluation)
    run.output.write_replace(f"{METRICS_DIRECTORY}/{WORST_FILE}", dump_worst(worst))
    show_report(report)
    for sentence in missing_measures(report, list(models), evaluation):
        console.print(sentence, soft_wrap=True)
    for name, data in draw(report).items():
        run.output.write_replace(f"{METRICS_DIRECTORY}/{name}", data)
    where = f"{run.output}/{METRICS_DIRECTORY}"
    console.print(f"metrics.json and plots are in {where}", soft_wrap=True)
    console.print(write_measures(run.output), soft_wrap=True)


def _read_measures(output: Folder, files: Sequence[str], config: EvaluationConfig) -> pa.Table:
    """The measures of all rows, in the order of the input."""
    # without the sizes of a row's text, which the report does not need
    reported = {name for name in measures(config).names if not name.startswith("num_")}
    tables: list[pa.Table] = []
    num_queries = 0
    for name in files:
        with output.open(name) as stream:
            file = pq.ParquetFile(stream)
            # a file of an earlier version may lack some: its rows have null there
            columns = reported & set(file.schema_arrow.names)
            if num_queries >= MOST_ROWS:
                # vectors and terms of no use, which would fill the memory
                columns -= {"retrieval", "query_terms", "document_terms"}
            tables.append(file.read(sorted(columns)))
            if "retrieval" in columns:
                num_queries += pc.count(tables[-1]["retrieval"]).as_py()
    return pa.concat_tables(tables, promote_options="default")


def name_models(models: Sequence[str | None]) -> dict[str, str | None]:
    """Models by the name that tables give them: `NAME=` before it, or the last part of its path.

    None is the shipped model. Raises ConfigError where two have the same name.
    """
    named: dict[str, str | None] = {}
    for model in models:
        given, uri = split_name(model or "")
        name = given
        if name is None:
            # Masked: the last part of a URI may have a query with a token.
            name = mask((model or SHIPPED_MODEL).rstrip("/").rpartition("/")[2])
        if name in named:
            shown = mask(str(model))
            raise ConfigError(
                f"--model {shown}: {name!r} is the name of two models; give one with "
                f"--model NAME={shown}"
            )
        named[name] = uri or None  # `base=` is the shipped one, too
    return named


def _check_systems(models: Sequence[str], config: EvaluationConfig) -> None:
    """Refuse, before any work, systems with the same name and baselines that cannot run.

    Raises ConfigError.
    """
    names = config.systems(models)
    for name, occurrences in Counter(names).items():
        if occurrences > 1:
            raise ConfigError(
                f"{name!r} names two of the systems {names}; name a model with --model NAME=M, or "
                "rename a column"
            )
    # A try with one sentence: a baseline whose package is missing says so now, not on a replica.
    for baseline in dict.fromkeys(config.baselines):
        choose(baseline, ["A sentence."], summary="A sentence.", language="en", size=1, seed="")


def missing_measures(report: Report, models: Sequence[str], config: EvaluationConfig) -> list[str]:
    """A sentence for each measure that was asked for and is missing, or not of all rows."""
    rows, sentences = report["rows"], []
    num_compared = report["rouge"]["rows"] if report["rouge"] else 0
    if config.summary_column and num_compared < rows:
        missing = f"{rows - num_compared:,} of {rows:,} rows"
        sentences.append(f"ROUGE leaves out {missing}, which lack a text or a reference")
    # A head was asked for if the configuration names labels for it.
    sentiment = config.sentiment_column or config.aspect_sentiments_column or config.sentiment
    heads = {
        "sentiment": sentiment,
        "topic": config.topic_column,
        "targets": config.entities_column,
        "retrieval": config.query_column,
    }
    for head, labels in heads.items():
        if not labels:
            continue
        num_labelled = report["labelled_rows"][head]
        label = "query and text" if head == "retrieval" else "label"
        if not num_labelled:
            sentences.append(f"{head}: no row has a {label}, so there is nothing to compare with")
            continue
        if head == "retrieval" and num_labelled > MOST_ROWS:
            sentences.append(f"{head}: measured on the first {MOST_ROWS:,} rows with a query")
            num_labelled = MOST_ROWS
        elif num_labelled < rows:
            missing = f"{rows - num_labelled:,} of {rows:,} rows"
            sentences.append(f"{head}: {missing} have no {label} and are left out")
        for model in models:
            measured = report[head].get(model, {"rows": 0})["rows"]
            if measured < num_labelled:
                missing = f"{num_labelled - measured:,} of {num_labelled:,} labelled rows"
                reason = "it has no such head, or they have no text"
                if measured:
                    reason = "they have no text that it reads"
                sentences.append(f"{head}: {model} gives none for {missing}; {reason}")
    return sentences


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` checks them with it before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum evaluate",
        description="ROUGE beside baselines, and reports of the other heads, of models on "
        "labelled rows.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command "
        "or config wrong",
    )
    add = options.add_argument
    add("input", metavar="INPUT", help="Parquet, JSON or CSV; a saved dataset; hub:NAME")
    add(
        "output",
        metavar="OUTPUT",
        help="directory for the measures of each row and the report, local or remote",
    )
    add(
        "--model",
        metavar="[NAME=]M",
        action="append",
        help="checkpoint; repeatable (default: bertsum-default, the shipped one)",
    )
    for column in ("text", "summary", "sentiment"):
        add(f"--{column}-column", metavar="NAME", help=f"short for evaluation.{column}_column")
    add(
        "--sentences",
        metavar="N",
        type=count("--sentences", 1),
        help="sentences of a summary (default: 3)",
    )
    add(
        "--split",
        metavar="NAME",
        default="train",
        help="of a saved or hub dataset (default: train)",
    )
    add_options(options)
    add("--dry-run", action="store_true", help="show the plan; write nothing")
    return options


if __name__ == "__main__":
    sys.exit(main())
