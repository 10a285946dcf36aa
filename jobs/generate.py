"""`bertsum generate INPUT OUTPUT`: texts in, summaries or translations that a model writes out."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsum.config_base import load_config
from bertsum.generation.columns import name_of
from bertsum.generation.config import GenerateConfig, GenerateJobConfig, GenerateRows
from bertsum.runs.importing import find_input
from bertsum.runs.partitions import Scope
from bertsum.runs.plan import Plan
from bertsum.runs.records import Job
from bertsum.runs.tables.formats import open_table
from bertsum.storage.folder import Folder, configure
from jobs.engine.publisher import complete
from jobs.engine.run import RESUMES, Run
from jobs.engine.run_report import say_notes, show_plan, show_result
from jobs.engine.work import GenerateWork
from jobs.options import (
    RunOptions,
    add_options,
    add_text_column_option,
    find_address,
    overrides,
    parse,
)
from jobs.terminal.console import console
from jobs.terminal.exit_codes import guard

_THREADS = 16  # two columns of a file are a small read, so it is latency that threads hide
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
    if plan.missing:
        # What the model can do is better known before Ray starts. A finished job asks nothing.
        from bertsum.checkpoints.locate import resolve
        from bertsum.generation.seq2seq import load_task

        load_task(resolve(options.model), config.generate)
    if options.dry_run:
        show_plan(plan, run.output)
        return 0
    complete(run, plan, partial(show_result, table_format=config.output.table))
    if plan.missing:
        _show_saved(run.output, run.plan(options.limit), config.generate)
    return 0


def _look_up(options: GenerateOptions, config: GenerateJobConfig) -> Run:
    """Find INPUT, OUTPUT and the models. Raises InputError, OutputError and ModelError."""
    # Imported here so that `--help` is quick.
    from bertsum.checkpoints.config import model_digest, seq2seq_digest
    from bertsum.checkpoints.locate import resolve

    output = Folder(options.output)
    scope = Scope(tuple(options.partitions))
    source = find_input(options.input, output, scope=scope, dry_run=options.dry_run)
    say_notes(source)
    sentences_digest = model_digest(resolve(config.sentences_model))
    rows = GenerateRows(generate=config.generate, sentences_model=sentences_digest)
    job = Job(options.model, seq2seq_digest(resolve(options.model)), rows)
    return Run(
        input_uri=options.input,
        source=source,
        output=output,
        job=job,
        work=GenerateWork(
            model=options.model,
            job=job,
            config=config.generate,
            sentences_model=config.sentences_model,
            sentences_digest=sentences_digest,
        ),
        config=config,
        address=find_address(options.address),
        lake=open_table(config.output, output),
    )


def _show_saved(output: Folder, plan: Plan, config: GenerateConfig) -> None:
    """Print how many tokens the model has read, of how many of the documents, if these differ."""
    names = [name_of(name, config) for name in ("num_tokens", "document_tokens")]

    def count(file: str) -> tuple[int, int]:
        with output.open(file) as stream:
            table = pq.read_table(stream, columns=names)
        # a document whose tokens nobody has counted is in neither sum
        counted = table.filter(pc.is_valid(table[names[1]]))
        read, whole = (pc.sum(counted[name]).as_py() or 0 for name in names)
        return read, whole

    files = [name for name in plan.units if name in plan.done]
    with ThreadPoolExecutor(_THREADS) as pool:
        counts = list(pool.map(count, files))
    read = sum(count[0] for count in counts)
    whole = sum(count[1] for count in counts)
    if whole > read:
        console.print(
            f"tokens read: {read:,} instead of {whole:,} of the whole documents "
            f"({1 - read / whole:.0%} saved)",
            soft_wrap=True,
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
