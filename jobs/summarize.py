"""`bertsum summarize INPUT OUTPUT`: files of documents in, summaries and sentiment out."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from bertsum.config import NamesConfig
from bertsum.config_base import load_config
from bertsum.errors import BertsumError, ConfigError, IncompleteError
from bertsum.generation.config import SummarizeThenConfig, ThenConfig
from bertsum.job_config import JobConfig
from bertsum.runs.checking import Checks
from bertsum.runs.importing import find_input
from bertsum.runs.partitions import ALL, Scope
from bertsum.runs.records import Job
from bertsum.runs.tables.formats import open_table
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import complete
from jobs.engine.run import RESUMES, Run
from jobs.engine.run_report import say_notes, show_plan, show_result, show_rows, show_saved
from jobs.engine.work import SummarizeThenWork, SummarizeWork, writing_work
from jobs.options import (
    DocumentOptions,
    add_document_options,
    count,
    find_address,
    overrides,
    parse,
    snippet_overrides,
)
from jobs.terminal.console import console
from jobs.terminal.exit_codes import guard

_PARTITIONS = (
    "only these directories of INPUT, like 'dt=2026-11-22' or 'dt=2026-11-*'; repeatable; each is "
    "published as soon as it is complete"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizeOptions(DocumentOptions):
    """The options of the command.

    - `partitions`: patterns of directories of INPUT; none: all of it.
    - `show`: how many rows of the result are printed at the end.
    """

    partitions: Sequence[str] = ()
    dry_run: bool = False
    show: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 command or config wrong."""
    return guard(lambda: summarize(parse(SummarizeOptions, parser(), argv)), RESUMES)


def summarize(options: SummarizeOptions) -> int:
    """Run the command; returns its exit code."""
    config = read_config(options)
    scope = Scope(tuple(options.partitions))
    run = look_up(options, config, scope, dry_run=options.dry_run)
    plan = run.plan(options.limit)
    if options.dry_run:
        # It imports torch, which takes seconds, and only the estimate needs it.
        from jobs.measuring.estimate import THEN_CAVEAT, estimate

        if plan.missing:
            run.check_models()
        show_plan(plan, run.output, run.job)
        console.print(estimate(plan, run.source, options.model, config), soft_wrap=True)
        if isinstance(run.work, SummarizeThenWork):
            console.print(THEN_CAVEAT, soft_wrap=True)
        return 0
    try:
        complete(run, plan, partial(show_result, table_format=config.output.table))
    except IncompleteError:
        with suppress(BertsumError):  # of a second look, which must not stand in for the first
            _show(run, options, config.output)
        raise
    if plan.missing and isinstance(run.work, SummarizeThenWork):
        show_saved(run.output, run.plan(options.limit), run.work.second.config)
    _show(run, options, config.output)
    return 0


def _show(run: Run, options: SummarizeOptions, names: NamesConfig) -> None:
    """Print the first rows that are there."""
    if options.show > 0:
        # Made anew: files may have been split or put together since the first plan.
        plan = run.plan(options.limit)
        files = [name for name in plan.units if name in plan.done]
        show_rows(run.output, files, options.show, names)


def read_config(options: DocumentOptions, time_zone: str | None = None) -> JobConfig:
    """The configuration file under `--set` under the short options.

    `time_zone` is the short option of `nightly`. Raises ConfigError.
    """
    short: dict[str, object] = {
        "summarizer.text_column": options.text_column,
        "summarizer.language": options.language or None,
        "summarizer.selection.size": options.sentences,
        "summarizer.query": options.query,
        "summarizer.query_column": options.query_column,
        "days.time_zone": time_zone,
    }
    if options.snippet is not None and options.sentences is not None:
        raise ConfigError(
            f"--snippet {options.snippet} counts characters, and --sentences {options.sentences} "
            "sentences: give one"
        )
    for key, value in snippet_overrides(options.snippet).items():
        short[f"summarizer.{key}"] = value
    kind = JobConfig if options.then is None else SummarizeThenConfig
    config = load_config(kind, options.config, overrides(options, short))
    # A budget of two characters would leave every summary empty.
    if options.sentences is not None and (unit := config.summarizer.selection.unit) != "sentences":
        raise ConfigError(
            f"--sentences {options.sentences} counts sentences, but summarizer.selection.unit is "
            f"{unit}; give the budget with summarizer.selection.size"
        )
    return config


def look_up(
    options: DocumentOptions, config: JobConfig, scope: Scope = ALL, *, dry_run: bool = False
) -> Run:
    """Find INPUT, OUTPUT and the model; print how INPUT is read, where that is not obvious.

    Raises InputError, OutputError, ModelError and ConfigError for what cannot be opened.
    """
    # Imported here so that `--help` is quick.
    from bertsum.checkpoints.config import model_digest
    from bertsum.checkpoints.locate import SHIPPED_MODEL, resolve
    from bertsum.checkpoints.outputs import with_outputs

    # First: a storage needs its options before anything in it is opened.
    configure(config.storage_options)
    output = Folder(options.output)
    source = find_input(options.input, output, scope=scope, dry_run=dry_run)
    say_notes(source)
    directory = resolve(options.model)
    in_table = config.output.table != "parquet"
    summarizer = with_outputs(config.named_summarizer, directory, in_table=in_table)
    job = Job(options.model or SHIPPED_MODEL, model_digest(directory), summarizer)
    summarizing = SummarizeWork(options.model, job, summarizer, config.max_batch_tokens)
    work: SummarizeWork | SummarizeThenWork = summarizing
    then = None if options.then is None else load_config(ThenConfig, options.then)
    if then is not None:
        written = then.of_summaries(summarizer.output)
        work = SummarizeThenWork(
            summarizing, writing_work(then.model, written, then.sentences_model)
        )
        job = replace(job, then=work.second.job)
    checks = None  # of a result, before readers see it
    if config.output.checks.action != "none":
        checks = Checks(
            output=config.output,
            day_pattern=config.days.partition,
            names=config.named_summarizer.output,
            is_replacing=config.on_existing == "replace",
        )
    return Run(
        input_uri=options.input,
        source=source,
        output=output,
        job=job,
        work=work,
        config=config,
        address=find_address(options.address),
        lake=open_table(config.output, output),
        checks=checks,
        then_resources=None if then is None else then.resources,
    )


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` checks them with it before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum summarize",
        description="Summaries and sentiment of documents in Parquet, CSV or JSON: one output row "
        "for each input row.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command "
        "or config wrong",
    )
    add_document_options(options, limit=True)
    add = options.add_argument
    add("--partitions", metavar="PATTERN", action="append", default=[], help=_PARTITIONS)
    add("--dry-run", action="store_true", help="show the plan and an estimate; write nothing")
    add(
        "--show",
        metavar="N",
        type=count("--show", 0),
        default=0,
        help="print the first N rows of the result",
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
