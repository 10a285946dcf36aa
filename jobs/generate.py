"""`bertsum generate INPUT OUTPUT`: texts in, summaries or translations that a model writes out."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bertsum.config_base import load_config
from bertsum.generation.config import GenerateJobConfig
from bertsum.runs.importing import find_input
from bertsum.runs.partitions import Scope
from bertsum.runs.tables.formats import open_table
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import complete
from jobs.engine.run import RESUMES, Run
from jobs.engine.run_report import say_notes, show_plan, show_result, show_saved
from jobs.engine.work import writing_work
from jobs.options import (
    RunOptions,
    add_options,
    add_text_column_option,
    find_address,
    overrides,
    parse,
)
from jobs.terminal.exit_codes import guard

_SUMMARIES = (
    "INPUT is the OUTPUT of `bertsum summarize`: the text is its column `summary`, which passes "
    "through, and the tokens that were saved are counted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions(RunOptions):
    """The options of the command. None: the default of the configuration.

    - `summaries`: INPUT is a result of `summarize`.
    - `partitions`: patterns of directories of INPUT; none: all of it.
    """

    model: str
    text_column: str | None = None
    summaries: bool = False
    translate_to: str | None = None
    partitions: Sequence[str] = ()
    dry_run: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 command or config wrong."""
    return guard(lambda: generate(parse(GenerateOptions, parser(), argv)), RESUMES)


def generate(options: GenerateOptions) -> int:
    """Run the command; returns its exit code."""
    short: dict[str, object] = {"generate.translate_to": options.translate_to}
    if options.summaries:
        short |= {
            "generate.text_column": "summary",
            "generate.keep_text": True,
            "generate.document_tokens_column": "num_tokens",
        }
    if options.text_column is not None:
        short["generate.text_column"] = options.text_column
    config = load_config(GenerateJobConfig, options.config, overrides(options, short))
    configure(config.storage_options)
    run = _look_up(options, config)
    plan = run.plan(options.limit)
    if options.dry_run:
        if plan.missing:
            run.check_models()
        show_plan(plan, run.output)
        return 0
    complete(run, plan, partial(show_result, table_format=config.output.table))
    if plan.missing:
        show_saved(run.output, run.plan(options.limit), config.generate)
    return 0


def _look_up(options: GenerateOptions, config: GenerateJobConfig) -> Run:
    """Find INPUT, OUTPUT and the models. Raises InputError, OutputError and ModelError."""
    output = Folder(options.output)
    scope = Scope(tuple(options.partitions))
    source = find_input(options.input, output, scope=scope, dry_run=options.dry_run)
    say_notes(source)
    work = writing_work(options.model, config.generate, config.sentences_model)
    return Run(
        input_uri=options.input,
        source=source,
        output=output,
        job=work.job,
        work=work,
        config=config,
        address=find_address(options.address),
        lake=open_table(config.output, output),
    )


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` checks them with it before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum generate",
        description="Written summaries, or translations, by a sequence-to-sequence model of "
        "Transformers: one output row for each input row.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command "
        "or config wrong",
    )
    add = options.add_argument
    add(
        "input",
        metavar="INPUT",
        help="Parquet, CSV or JSON: file, directory or glob; local or s3://, gs://, ...",
    )
    add("output", metavar="OUTPUT", help="directory for the results, local or remote")
    add(
        "--model",
        metavar="M",
        required=True,
        help="BART, Pegasus, T5, Marian, NLLB, mBART, ...: directory, URI or hub name",
    )
    add_text_column_option(options)
    add("--summaries", action="store_true", help=_SUMMARIES)
    add(
        "--translate-to",
        metavar="CODE",
        help="language of the output, like de: a translation instead of a summary",
    )
    add_options(options)
    add(
        "--partitions",
        metavar="PATTERN",
        action="append",
        default=[],
        help="only these directories of INPUT, like 'dt=2026-11-*'; repeatable",
    )
    add("--dry-run", action="store_true", help="show the plan; write nothing")
    return options


if __name__ == "__main__":
    sys.exit(main())
