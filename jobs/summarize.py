"""`bertsum summarize INPUT OUTPUT`: files of documents in, summaries and sentiment out."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from bertsum.config import JobConfig, load_config
from bertsum.errors import BertsumError, IncompleteError
from bertsum.runs.importing import find_input
from bertsum.runs.partitions import ALL, Scope
from bertsum.runs.records import Job
from bertsum.runs.tables.formats import open_table
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import complete
from jobs.engine.run import RESUMES, Run
from jobs.engine.run_report import say_notes, show_plan, show_result, show_rows
from jobs.engine.work import SummarizeWork
from jobs.options import add_options, count, find_address, overrides
from jobs.terminal.exit_codes import guard

_PARTITIONS = (
    "only these directories of INPUT, like 'dt=2026-11-22' or 'dt=2026-11-*'; repeatable; each is published as soon as "
    "it is complete"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 the command or configuration is wrong."""
    return guard(lambda: summarize(parser().parse_args(argv)), RESUMES)


def summarize(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    config = read_config(arguments)
    run = look_up(arguments, config, Scope(tuple(arguments.partitions)), dry_run=arguments.dry_run)
    plan = run.plan(arguments.limit)
    if arguments.dry_run:
        from jobs.measuring.estimate import estimate

        show_plan(plan, run.output)
        print(estimate(plan, run.source, arguments.model, config))
        return 0
    try:
        complete(run, plan, partial(show_result, table_format=config.output.table))
    except IncompleteError:
        with suppress(BertsumError):  # of a second look, which must not stand in for the first
            _show(run, arguments)
        raise
    _show(run, arguments)
    return 0


def _show(run: Run, arguments: argparse.Namespace) -> None:
    """The first rows that are there; files may have been split or put together since the plan was made."""
    if arguments.show > 0:
        made = run.plan(arguments.limit)
        show_rows(run.output, [name for name in made.units if name in made.done], arguments.show)


def read_config(arguments: argparse.Namespace, **more: str | None) -> JobConfig:
    """The configuration file under `--set` under the short options; `more` are further ones, by key."""
    short = {
        "summarizer.text_column": arguments.text_column,
        "summarizer.language": arguments.language,
        "summarizer.selection.size": arguments.sentences,
    }
    return load_config(JobConfig, arguments.config, overrides(arguments, short | more))


def look_up(arguments: argparse.Namespace, config: JobConfig, scope: Scope = ALL, *, dry_run: bool = False) -> Run:
    """What the options name: INPUT, OUTPUT and the model; says what must be said of INPUT."""
    from bertsum.checkpoints.config import model_digest
    from bertsum.checkpoints.locate import SHIPPED_MODEL, resolve

    configure(config.storage_options)
    output = Folder(arguments.output)
    source = find_input(arguments.input, output, scope=scope, dry_run=dry_run)
    say_notes(source)
    job = Job(arguments.model or SHIPPED_MODEL, model_digest(resolve(arguments.model)), config.summarizer)
    work = SummarizeWork(arguments.model, job, config.summarizer, config.max_batch_tokens)
    return Run(
        input_uri=arguments.input,
        source=source,
        output=output,
        job=job,
        work=work,
        config=config,
        address=find_address(arguments),
        lake=open_table(config.output, output),
    )


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum summarize",
        description="Summaries and sentiment of documents in Parquet, CSV or JSON: one output row for each input row.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command or config wrong",
    )
    add_summarize_options(options, limit=True)
    add = options.add_argument
    add("--partitions", metavar="PATTERN", action="append", default=[], help=_PARTITIONS)
    add("--dry-run", action="store_true", help="show the plan and an estimate; write nothing")
    add("--show", metavar="N", type=count("--show", 0), default=0, help="print the first N rows of the result")
    return options


def add_summarize_options(options: argparse.ArgumentParser, limit: bool) -> None:
    """The options that `nightly` and `backfill` have, too."""
    add = options.add_argument
    add("input", metavar="INPUT", help="Parquet, CSV or JSON: file, directory or glob; local or s3://, gs://, ...")
    add("output", metavar="OUTPUT", help="directory for the results, local or remote")
    add("--model", metavar="M", help="checkpoint: directory, URI or hub name (default: the shipped one)")
    add_options(options, limit)
    add("--text-column", metavar="NAME", help="column with the text (default: document)")
    add("--language", metavar="CODE", help="ISO 639-1 code of all documents (default: from the script of each)")
    add("--sentences", metavar="N", type=count("--sentences", 1), help="longest summary, in sentences (default: 3)")


if __name__ == "__main__":
    sys.exit(main())
