"""`bertsum match QUERIES CANDIDATES OUTPUT`: the nearest candidates of each text, by embedding.

Two runs of the engine: the candidates are encoded into OUTPUT/_candidates, a run like any other,
which has nothing to do where they have not changed; then the queries go through replicas that have
the candidates' vectors. Users with several texts are a third run between them: the texts are
encoded into OUTPUT/_texts, and their means are written into OUTPUT/_users.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from bertsum.checkpoints.locate import SHIPPED_MODEL
from bertsum.config import SummarizerConfig
from bertsum.config_base import load_config
from bertsum.errors import ConfigError, InputError
from bertsum.job_config import RunConfig
from bertsum.matching.columns import check_candidates, check_names, query_problem
from bertsum.matching.config import MatchConfig, MatchJobConfig, MatchRows
from bertsum.matching.users import write_users
from bertsum.runs.importing import find_input
from bertsum.runs.input import Input, list_input, read_schema
from bertsum.runs.records import Job
from bertsum.runs.tables.formats import open_table
from bertsum.storage.folder import Folder, configure, mask
from jobs.engine.publisher import complete
from jobs.engine.run import RESUMES, Run
from jobs.engine.run_report import say_notes, show_plan, show_result
from jobs.engine.work import MatchWork, SummarizeWork
from jobs.options import (
    RunOptions,
    add_options,
    add_text_column_option,
    count,
    find_address,
    overrides,
    parse,
)
from jobs.terminal.exit_codes import guard

# Directories of OUTPUT, which readers of Parquet directories pass over.
CANDIDATES, TEXTS, USERS = "_candidates", "_texts", "_users"
_DEFAULT_MODEL = f"{SHIPPED_MODEL}/multilingual"  # vectors of two members cannot be compared


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchOptions(RunOptions):
    """The options of the command. None: the default of the configuration.

    `input` are the queries.
    """

    candidates: str
    model: str = _DEFAULT_MODEL
    text_column: str | None = None
    candidate_text_column: str | None = None
    top_k: int | None = None
    dry_run: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed or incomplete, 2 command or config wrong."""
    return guard(lambda: match(parse(MatchOptions, parser(), argv)), RESUMES)


def match(options: MatchOptions) -> int:
    """Run the command; returns its exit code."""
    with ExitStack() as session:
        return _match(options, session)


def _match(options: MatchOptions, session: ExitStack) -> int:
    """The same; `session`: closed at the end, takes in the Ray of all its runs."""
    short = {
        "match.text_column": options.text_column,
        "match.candidate_text_column": options.candidate_text_column,
        "match.top_k": options.top_k,
    }
    config = load_config(MatchJobConfig, options.config, overrides(options, short))
    configure(config.storage_options)
    output = Folder(options.output)
    encoding = _encoding_run(
        options, config, options.candidates, config.match.candidate_encoder(), CANDIDATES
    )
    schema = _check_candidates(encoding.source, output, config.match)
    texts: Run | None = None
    if config.match.user_column is not None:
        texts = _encoding_run(options, config, options.input, config.match.query_encoder(), TEXTS)
        source = texts.source
    else:
        source = find_input(options.input, output, dry_run=options.dry_run)
        say_notes(source)
    run, work = _matching_run(options, config, encoding, source, schema)
    # First of all, since what is wrong with QUERIES is better known before the candidates are
    # encoded. Users have another plan: their texts', which the columns of OUTPUT must fit, too.
    plan = run.plan(options.limit) if texts is None else texts.plan()
    if texts is not None:
        _check_texts(source, work)
    work = replace(work, candidate_files=_encode(encoding, options, session))
    if options.dry_run:
        show_plan(plan, output if texts is None else texts.output)
        return 0
    if texts is not None:
        text_files = _encode(texts, options, session)
        users = Folder(f"{output.uri}/{USERS}")
        name = write_users(texts.output, text_files, users, config.match)
        work = replace(work, has_vectors=True)
        run = replace(run, source=list_input(f"{users.uri}/{name}"), work=work)
        plan = run.plan(options.limit)
    complete(replace(run, work=work), plan, partial(show_result, table_format=config.output.table))
    return 0


def _matching_run(
    options: MatchOptions,
    config: MatchJobConfig,
    encoding: Run,
    source: Input,
    candidate_schema: pa.Schema,
) -> tuple[Run, MatchWork]:
    """The run that matches `source` with the candidates of `encoding`, and its work."""
    output = Folder(options.output)
    rows = MatchRows(match=config.match, candidates=_digest(encoding))
    job = Job(options.model, encoding.job.model_digest, rows)
    work = MatchWork(
        model=options.model,
        job=job,
        config=config.match,
        candidates_uri=encoding.output.uri,
        candidate_schema=candidate_schema,
        max_batch_tokens=config.max_batch_tokens,
        pass_queries=config.pass_queries,
    )
    run = Run(
        input_uri=options.input,
        source=source,
        output=output,
        job=job,
        work=work,
        config=config,
        address=encoding.address,
        lake=open_table(config.output, output),
    )
    return run, work


def _encode(encoding: Run, options: MatchOptions, session: ExitStack) -> tuple[str, ...]:
    """Make what is missing of the vectors; returns the names of the files, in order.

    A dry run shows what would be made.
    """
    plan = encoding.plan()
    if options.dry_run:
        show_plan(plan, encoding.output)
        return ()
    if plan.missing:
        # One Ray for all runs of the command, since a thread of Ray Data tells the next Ray of the
        # first one's datasets, of which that knows nothing. A finished job starts none.
        from jobs.engine.cluster import connected

        session.enter_context(connected(encoding.address))
    complete(encoding, plan, show_result)
    # a second plan: units of several files, one of them damaged, were split meanwhile
    return tuple(encoding.plan().files(encoding.job))


def _check_candidates(candidates: Input, output: Folder, config: MatchConfig) -> pa.Schema:
    """Schema of the candidates. Raises InputError where they cannot be matched."""
    if candidates.is_directory and output.is_below(candidates.root):
        raise InputError(
            f"OUTPUT {output} lies in CANDIDATES {candidates.root}; the job would read its own "
            "results"
        )
    path = candidates.files[0].path
    schema = read_schema(candidates.root, path)
    if problem := check_candidates(schema, config):
        raise InputError(f"{candidates.root}/{mask(path)}: {problem}")
    return schema


def _check_texts(texts: Input, work: MatchWork) -> None:
    """Raise InputError where the texts of users cannot be compared with candidates."""
    path = texts.files[0].path
    schema = read_schema(texts.root, path)
    check_names(f"{texts.root}/{path}", schema, work.config)
    if problem := query_problem(schema, work.candidate_schema, work.config):
        raise InputError(f"{texts.root}/{mask(path)}: {problem}")


def _encoding_run(
    options: MatchOptions,
    config: MatchJobConfig,
    uri: str,
    encoder: SummarizerConfig,
    name: str,
) -> Run:
    """A run that encodes the texts of `uri` into the directory `name` of OUTPUT.

    Raises ConfigError for a family of models.
    """
    # Imported here so that `--help` is quick.
    from bertsum.checkpoints.config import model_digest
    from bertsum.checkpoints.family import read_family
    from bertsum.checkpoints.locate import resolve
    from bertsum.checkpoints.outputs import with_outputs

    directory = resolve(options.model)
    if family := read_family(directory):
        raise ConfigError(
            f"--model {options.model} is a family, and vectors of two members cannot be compared; "
            f"give one of them: {', '.join(family.members)}, like {_DEFAULT_MODEL}"
        )
    output = Folder(f"{options.output.rstrip('/')}/{name}")
    source = find_input(uri, output, dry_run=options.dry_run)
    say_notes(source)
    encoder = with_outputs(encoder, directory)
    job = Job(options.model, model_digest(directory), encoder)
    # what is gone from the input must not be matched, and no table is made of vectors
    values = config.model_dump(include=set(RunConfig.model_fields))
    values["output"] = {"vanished_input": "drop"}
    return Run(
        input_uri=uri,
        source=source,
        output=output,
        job=job,
        work=SummarizeWork(options.model, job, encoder, config.max_batch_tokens),
        config=RunConfig.model_validate(values),
        address=find_address(options.address),
    )


def _digest(encoding: Run) -> str:
    """Changes when the candidates change, or how they are encoded, but not with their units."""
    files = [[file.path, file.size, file.version] for file in encoding.source.files]
    return hashlib.sha256(json.dumps([encoding.job.fingerprint, files]).encode()).hexdigest()


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` checks them with it before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum match",
        description="The candidates whose texts are nearest to each query's: answers to "
        "questions, articles to read next, products.",
        epilog="exit codes: 0 done, 1 failed or incomplete (the same command resumes), 2 command "
        "or config wrong",
    )
    add = options.add_argument
    add("input", metavar="QUERIES", help="Parquet, CSV or JSON: file, directory or glob")
    add("candidates", metavar="CANDIDATES", help="the same, with a column that names each")
    add("output", metavar="OUTPUT", help="directory for the matches, local or remote")
    add(
        "--model",
        metavar="M",
        default=_DEFAULT_MODEL,
        help=f"checkpoint: directory, URI or hub name (default: {_DEFAULT_MODEL})",
    )
    add_text_column_option(options)
    add(
        "--candidate-text-column",
        metavar="NAME",
        help="column of CANDIDATES with the text (default: document)",
    )
    add(
        "--top-k",
        metavar="K",
        type=count("--top-k", 1),
        help="most candidates of one query (default: 5)",
    )
    add_options(options)
    add("--dry-run", action="store_true", help="show both plans; write nothing")
    return options


if __name__ == "__main__":
    sys.exit(main())
