"""`bertsum benchmark INPUT`: how fast a replica is, what holds it up, and what a corpus costs.

First the engine by itself is measured: in this process, or on the node of a cluster that would have
a replica. Then the job, with Ray and files, on the same documents and with one replica, for long
enough that its beginning does not count.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.checkpoints.locate import resolve
from bertsum.checkpoints.outputs import with_outputs
from bertsum.config_base import load_config
from bertsum.errors import BertsumError, IncompleteError, InputError, UnavailableError
from bertsum.job_config import JobConfig
from bertsum.runs.columns import check_documents, needed_columns
from bertsum.runs.input import Input, Shard, list_input, read_footers, stream_rows
from bertsum.runs.plan import Plan
from bertsum.runs.records import Counts
from bertsum.storage.folder import Folder, configure, open_filesystem
from jobs.engine.publisher import complete
from jobs.engine.reports import UnitReport
from jobs.engine.run_report import say_notes
from jobs.measuring.rates import Measured, measure_model
from jobs.options import (
    DocumentOptions,
    add_address_option,
    add_config_options,
    add_model_option,
    add_text_column_option,
    amount,
    count,
    find_address,
    override,
    parse,
)
from jobs.summarize import look_up
from jobs.terminal.exit_codes import guard

_SAMPLE_FILES = 8
# Documents are repeated until the job takes this long, or is this big.
_JOB_SECONDS, _JOB_BYTES = 20.0, 256 * 2**20
_FED = 0.8  # share of the rate from rows to rows below which the job is held up by something else
_NOT_MEASURED = "not measured: --scratch names a directory that all nodes reach"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions:
    """The options of the command.

    - `documents`: rows of the sample.
    - `repetitions`: measurements that count.
    - `scratch`: a directory for the files of the job that all nodes of a cluster reach.
    - `corpus`: documents to estimate for; None: the rows of INPUT.
    - `price`: of one replica's machine an hour.
    """

    input: str
    model: str | None = None
    config: Path | None = None
    settings: Sequence[str] = ()
    text_column: str | None = None
    documents: int = 256
    repetitions: int = 3
    address: str | None = None
    scratch: str | None = None
    corpus: int | None = None
    price: float | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMeasured:
    """`bertsum summarize` with one replica."""

    documents_per_second: float  # from the first unit's begin to the last one's end
    startup_seconds: float  # from the start of the run, Ray's included, until the model is loaded


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 failed, 2 the command or the configuration is wrong."""
    return guard(lambda: benchmark(parse(BenchmarkOptions, parser(), argv)))


def benchmark(options: BenchmarkOptions) -> int:
    """Run the command; returns its exit code. Raises InputError where there are no documents."""
    column = options.text_column
    text_column = [override("summarizer.text_column", column)] if column else []
    config = load_config(JobConfig, options.config, [*options.settings, *text_column])
    configure(config.storage_options)
    summarizer = with_outputs(config.named_summarizer, resolve(options.model))
    source = list_input(options.input)
    say_notes(source)
    shards, problems = read_footers(source, source.files)
    usable = []
    for shard in shards:
        if check_documents(shard, summarizer) is None and shard.num_rows:
            usable.append(shard)
    if not usable:
        reason = next(iter(problems.values()), "no rows")
        raise InputError(f"no file of {options.input} has documents: {reason}")
    tables = list(_sample(source, usable, options.documents, config))
    measured, job = _measure(options, config, tables)
    corpus = options.corpus or sum(shard.num_rows for shard in usable)
    # With Ray and files, where that was measured: it is what a run would have.
    rate = job.documents_per_second if job else measured.end_to_end_documents
    hours = corpus / rate / 3600
    cost = None if options.price is None else hours * options.price
    if options.json:
        record = asdict(measured) | {"job": asdict(job) if job else None}
        record |= {"corpus_documents": corpus, "replica_hours": hours, "cost": cost}
        print(json.dumps(record, indent=1))
    else:
        corpus_time = f"{hours:,.2f} hours of one replica"
        corpus_time += "" if cost is None else f", {cost:,.2f}"
        _print(measured, job, {f"{corpus:,} documents": corpus_time})
    return 0


def _measure(
    options: BenchmarkOptions, config: JobConfig, tables: Sequence[pa.Table]
) -> tuple[Measured, JobMeasured | None]:
    """The engine, then the job; None where nodes have no directory in common for it."""
    address = find_address(options.address)
    model, repetitions = options.model, options.repetitions
    if address == "local":
        measured = measure_model(model, config, tables, repetitions, config.resources.num_gpus)
        rows = repeated(tables, measured.end_to_end_documents)
        with TemporaryDirectory() as folder:
            return measured, measure_job(model, config, rows, address=address, folder=folder)
    # It imports Ray, which a measurement in this process needs only for the job.
    from jobs.engine.cluster import connected

    with connected(address):
        measured = _measure_on_cluster(model, config, tables, repetitions)
        if options.scratch is None:
            return measured, None
        rows = repeated(tables, measured.end_to_end_documents)
        with _scratch(options.scratch) as folder:
            return measured, measure_job(model, config, rows, address=address, folder=folder)


def _measure_on_cluster(
    model: str | None, config: JobConfig, tables: Sequence[pa.Table], repetitions: int
) -> Measured:
    """The engine where a replica would be, with what it would have.

    Raises UnavailableError after the time that a replica has for its start and its first answer,
    and IncompleteError when the node goes away.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError

    from jobs.engine.cluster import reserve
    from jobs.engine.remote_errors import explain

    single = config.resources.model_copy(update={"replicas": 1, "min_replicas": None})
    shape = reserve(single, 1, can_grow=True)
    kind = {"accelerator_type": shape.accelerator_type} if shape.accelerator_type else {}
    # Not tried again: a second measurement would take longer than the limit.
    task = ray.remote(measure_model).options(
        num_cpus=shape.num_cpus, num_gpus=shape.num_gpus, max_retries=0, **kind
    )
    limit = config.resources.timeout_seconds + config.replica_timeout_seconds
    share = (shape.num_gpus, shape.num_threads)
    reference = task.remote(model, config, tables, repetitions, *share)
    try:
        measured: Measured = ray.get(reference, timeout=limit)
    except GetTimeoutError:
        raise UnavailableError(
            f"no measurement from a node of the cluster within {limit:g} s; measure fewer "
            "--documents"
        ) from None
    except RayError as error:
        # What the task raised there says more than Ray's account of it.
        if isinstance(error, RayTaskError) and isinstance(error.cause, BertsumError):
            raise error.cause from error
        reason = explain(error, "the measurement ended", "the same command tries again")
        raise IncompleteError(reason) from error
    return measured


def measure_job(
    model: str | None, config: JobConfig, rows: pa.Table, *, address: str, folder: str
) -> JobMeasured:
    """The job on these rows, in the directory `folder`; its progress goes to stderr."""
    data = BytesIO()
    pq.write_table(rows, data)
    Folder(f"{folder}/input").create_exclusive("sample.parquet", data.getbuffer())
    options = DocumentOptions(
        input=f"{folder}/input", output=f"{folder}/output", address=address, model=model
    )
    # One replica, and plain Parquet: a table of the configuration is not written to.
    resources = config.resources.model_copy(update={"replicas": 1, "min_replicas": None})
    output = config.output.model_copy(update={"table": "parquet"})
    changes = {"resources": resources, "output": output}
    run = look_up(options, config.model_copy(update=changes))
    measured: list[JobMeasured] = []
    start = time.time()

    def note(
        output: Folder, plan: Plan, counts: Counts, reports: Sequence[UnitReport], seconds: float
    ) -> None:
        # From the first unit on: the start of Ray and of the model is not part of the rate.
        begin = min(report.begun for report in reports)
        end = max(report.begun + report.wall_seconds for report in reports)
        rate = counts.rows / (end - begin)
        measured.append(JobMeasured(documents_per_second=rate, startup_seconds=begin - start))

    # With --json, stdout has the result alone.
    with redirect_stdout(sys.stderr):
        complete(run, run.plan(), note)
    return measured[0]


def repeated(tables: Sequence[pa.Table], documents_per_second: float) -> pa.Table:
    """The rows again and again: enough for a job of some 20 s at that rate, unless too big."""
    # 256 rows at 100 documents a second: 20 s are 2,000 rows, which 8 times 256 make.
    rows = pa.concat_tables(tables)
    wanted = math.ceil(_JOB_SECONDS * documents_per_second / rows.num_rows)
    return pa.concat_tables([rows] * max(1, min(wanted, _JOB_BYTES // rows.nbytes)))


@contextmanager
def _scratch(parent: str) -> Iterator[str]:
    """The URI of a new directory in `parent`, which is removed at the end."""
    uri = f"{parent.rstrip('/')}/bertsum-benchmark-{uuid4().hex[:12]}"
    try:
        yield uri
    finally:
        filesystem, path = open_filesystem(uri)
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)


def _sample(
    source: Input, shards: Sequence[Shard], rows: int, config: JobConfig
) -> Iterator[pa.Table]:
    """The first of some files that lie evenly over INPUT, at most `rows` rows together."""
    chosen = shards[:: max(1, len(shards) // _SAMPLE_FILES)][:_SAMPLE_FILES]
    for i, shard in enumerate(chosen):
        # An equal part of the rows that are still wanted, rounded up: 10 rows of 3 files are taken
        # as 4, 3 and 3; of files with 1, 8 and 8 rows as 1, 5 and 4.
        most = -(-rows // (len(chosen) - i))
        columns = needed_columns(shard.schema, config.named_summarizer)
        for table in stream_rows(source.root, shard.file, 0, min(most, shard.num_rows), columns):
            rows -= table.num_rows
            yield table
        if rows <= 0:
            return


def _print(measured: Measured, job: JobMeasured | None, corpus: Mapping[str, str]) -> None:
    """Print for people: a line for each rate, what holds the replica up, and `corpus`."""
    num_cores = measured.threads if measured.device == "CPU" else measured.cpus
    job_rate, bottleneck = _NOT_MEASURED, measured.bottleneck
    if job is not None:
        job_rate = (
            f"{job.documents_per_second:,.1f} documents/s (bertsum summarize, one replica; it "
            f"began after {job.startup_seconds:.0f} s)"
        )
        if job.documents_per_second < _FED * measured.end_to_end_documents:
            bottleneck = (
                "reading, writing and Ray, which take the rest of the job's time; larger units "
                "or a nearer store help"
            )
    cpu_seconds = sum(measured.cpu_seconds.values())
    stages = {}
    for stage, seconds in measured.cpu_seconds.items():
        stages[f"  {stage}"] = f"{1e6 * seconds:,.0f} µs, {seconds / cpu_seconds:.1%}"
    engine = f"{measured.engine_documents:,.1f} documents/s, {measured.engine_tokens:,.0f} tokens/s"
    lines = {
        "measured on": f"{measured.device}, {num_cores} CPU cores, {measured.dtype}; "
        f"{measured.documents:,} documents",
        "a document": f"{measured.tokens_per_document:,.0f} tokens",
        "matrix products": f"{measured.matrix_flops / 1e12:,.3f} TFLOP/s of the encoder's shapes",
        "engine": engine,
        "  of the products' rate": f"{measured.engine_share:.2f}",
        "preparing": f"{measured.prepare_documents_per_core:,.0f} documents/s a core",
        "rows to rows": f"{measured.end_to_end_documents:,.1f} documents/s (without Ray and files)",
        "CPU time a document": f"{1e6 * cpu_seconds:,.0f} µs of all cores together",
        **stages,
        "the job": job_rate,
        "bottleneck": bottleneck,
        **corpus,
    }
    for name, text in lines.items():
        print(f"{name:<24}{text}")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum benchmark",
        description="How fast this machine or a node of a cluster summarizes the documents of "
        "INPUT, and the cost.",
    )
    add = options.add_argument
    add(
        "input", metavar="INPUT", help="Parquet file, directory or glob; local or s3://, gs://, ..."
    )
    add_model_option(options)
    add_config_options(options, "YAML file with configuration values")
    add_text_column_option(options)
    add(
        "--documents",
        metavar="N",
        type=count("--documents", 1),
        default=256,
        help="rows of the sample (default: 256)",
    )
    add(
        "--repetitions",
        metavar="N",
        type=count("--repetitions", 1),
        default=3,
        help="counted repetitions (default: 3)",
    )
    add_address_option(options)
    add(
        "--scratch",
        metavar="URI",
        help="directory that all nodes of a cluster reach, for files of the job; left clean",
    )
    add(
        "--corpus",
        metavar="N",
        type=count("--corpus", 1),
        help="documents to estimate for (default: the rows of INPUT)",
    )
    add(
        "--price",
        metavar="P",
        type=amount("--price"),
        help="price of one replica's machine an hour, in any currency",
    )
    add("--json", action="store_true", help="the same for machines")
    return options


if __name__ == "__main__":
    sys.exit(main())
