"""`bertsum benchmark INPUT`: what a replica does with these documents, what holds it up, and what a corpus costs.

First the engine by itself: in this process, or on the node of a cluster that would have a replica. Then the job, with
Ray and files, on the same documents and with one replica, for long enough that its beginning does not count.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.config import JobConfig, OutputConfig, load_config
from bertsum.errors import BertsumError, IncompleteError, InputError, UnavailableError
from bertsum.runs.columns import check_documents, needed_columns
from bertsum.runs.input import Input, Shard, list_input, read_footers, stream_rows
from bertsum.runs.plan import Plan
from bertsum.runs.records import Counts
from bertsum.storage.folder import Folder, configure, open_filesystem
from jobs.engine.publisher import complete
from jobs.engine.reports import UnitReport
from jobs.engine.run_report import say_notes
from jobs.measuring.rates import Measured, measure_model
from jobs.options import amount, count, find_address
from jobs.summarize import look_up
from jobs.summarize import parser as summarize_parser
from jobs.terminal.exit_codes import guard

_SAMPLE_FILES = 8
_JOB_SECONDS, _JOB_BYTES = 20.0, 256 * 2**20  # documents are repeated until the job takes this long, or is this big
_FED = 0.8  # share of the rate from rows to rows below which the job is held up by something else
_NOT_MEASURED = "not measured: --scratch names a directory that all nodes reach"


@dataclass(frozen=True, slots=True)
class JobMeasured:
    """`bertsum summarize` with one replica."""

    documents_per_second: float  # from the first unit's begin to the last one's end
    startup_seconds: float  # from the start of the run, Ray's included, until the model is loaded


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 failed, 2 the command or the configuration is wrong."""
    return guard(lambda: benchmark(parser().parse_args(argv)))


def benchmark(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    text_column = [f"summarizer.text_column={arguments.text_column}"] if arguments.text_column else []
    config = load_config(JobConfig, arguments.config, [*arguments.set, *text_column])
    configure(config.storage_options)
    source = list_input(arguments.input)
    say_notes(source)
    shards, problems = read_footers(source, source.files)
    usable = [shard for shard in shards if check_documents(shard, config.summarizer) is None and shard.num_rows]
    if not usable:
        raise InputError(f"no file of {arguments.input} has documents: {next(iter(problems.values()), 'no rows')}")
    tables = list(_sample(source, usable, arguments.documents, config))
    address = find_address(arguments)
    measured, job = _measure(arguments, config, tables, address)
    corpus = arguments.corpus or sum(shard.num_rows for shard in usable)
    hours = corpus / (job.documents_per_second if job else measured.end_to_end_documents) / 3600
    cost = None if arguments.price is None else hours * arguments.price
    found = asdict(measured) | {"job": asdict(job) if job else None}
    found |= {"corpus_documents": corpus, "replica_hours": hours, "cost": cost}
    print(json.dumps(found, indent=1) if arguments.json else _text(measured, job, corpus, hours, cost))
    return 0


def _measure(
    arguments: argparse.Namespace, config: JobConfig, tables: Sequence[pa.Table], address: str
) -> tuple[Measured, JobMeasured | None]:
    """The engine, then the job."""
    model = arguments.model
    engine = model, config, tables, arguments.repetitions
    if address == "local":
        measured = measure_model(*engine)
        rows = repeated(tables, measured.end_to_end_documents)
        with TemporaryDirectory() as folder:
            return measured, measure_job(model, config, rows, address, folder)
    from jobs.engine.cluster import connected

    with connected(address):
        measured = _measure_far(config, engine)
        if arguments.scratch is None:
            return measured, None
        rows = repeated(tables, measured.end_to_end_documents)
        with _scratch(arguments.scratch) as folder:
            return measured, measure_job(model, config, rows, address, folder)


def _measure_far(config: JobConfig, engine: tuple[Any, ...]) -> Measured:
    """Where a replica would be, with what it would have."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    from jobs.engine.cluster import reserve
    from jobs.engine.remote_errors import explain

    shape = reserve(config.resources.model_copy(update={"replicas": 1, "min_replicas": None}), 1, can_grow=True)
    kind = {"accelerator_type": shape.accelerator_type} if shape.accelerator_type else {}
    far = ray.remote(measure_model).options(num_cpus=shape.num_cpus, num_gpus=shape.num_gpus, max_retries=0, **kind)
    limit = config.resources.timeout_seconds + config.replica_timeout_seconds
    try:
        found: Measured = ray.get(far.remote(*engine, shape.num_threads), timeout=limit)
    except GetTimeoutError:
        raise UnavailableError(
            f"no measurement from a node of the cluster within {limit:g} s; measure fewer --documents"
        ) from None
    except RayError as error:
        cause = getattr(error, "cause", None)  # what was raised there
        if isinstance(cause, BertsumError):
            raise cause from error
        raise IncompleteError(explain(error, "the measurement ended", "the same command tries again")) from error
    return found


def measure_job(model: str | None, config: JobConfig, rows: pa.Table, address: str, folder: str) -> JobMeasured:
    """The job on these rows, in `folder`; its progress goes to stderr."""
    data = BytesIO()
    pq.write_table(rows, data)
    Folder(f"{folder}/input").create_exclusive("sample.parquet", data.getbuffer())
    named = ["--model", model] if model else []
    options = summarize_parser().parse_args([f"{folder}/input", f"{folder}/output", "--address", address, *named])
    resources = config.resources.model_copy(update={"replicas": 1, "min_replicas": None})
    run = look_up(options, config.model_copy(update={"resources": resources, "output": OutputConfig()}))
    measured: list[JobMeasured] = []
    start = time.time()

    def note(output: Folder, plan: Plan, counts: Counts, reports: Sequence[UnitReport], seconds: float) -> None:
        begin = min(report.begun for report in reports)
        end = max(report.begun + report.wall_seconds for report in reports)
        measured.append(JobMeasured(counts.rows / (end - begin), begin - start))

    with redirect_stdout(sys.stderr):
        complete(run, run.plan(), note)
    return measured[0]


def repeated(tables: Sequence[pa.Table], documents_per_second: float) -> pa.Table:
    """The rows again and again, enough for a job of some 20 s at that rate unless they are too big."""
    rows = pa.concat_tables(tables)
    wanted = math.ceil(_JOB_SECONDS * documents_per_second / rows.num_rows)
    return pa.concat_tables([rows] * max(1, min(wanted, _JOB_BYTES // rows.nbytes)))


@contextmanager
def _scratch(parent: str) -> Iterator[str]:
    """A directory that goes away again."""
    uri = f"{parent.rstrip('/')}/bertsum-benchmark-{uuid4().hex[:12]}"
    try:
        yield uri
    finally:
        filesystem, path = open_filesystem(uri)
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)


def _sample(source: Input, shards: Sequence[Shard], rows: int, config: JobConfig) -> Iterator[pa.Table]:
    """The first rows of some files that lie evenly over INPUT."""
    chosen = shards[:: max(1, len(shards) // _SAMPLE_FILES)][:_SAMPLE_FILES]
    for place, shard in enumerate(chosen):
        most = -(-rows // (len(chosen) - place))
        columns = needed_columns(shard.schema, config.summarizer)
        for table in stream_rows(source.root, shard.file, 0, min(most, shard.num_rows), columns):
            rows -= table.num_rows
            yield table
        if rows <= 0:
            return


def _bottleneck(found: Measured, job: JobMeasured | None) -> str:
    if job and job.documents_per_second < _FED * found.end_to_end_documents:
        return "reading, writing and Ray, which take the rest of the job's time; larger units or a nearer store help"
    return found.bottleneck


def _text(found: Measured, job: JobMeasured | None, corpus: int, hours: float, cost: float | None) -> str:
    device = found.device + f", {found.threads if found.device == 'CPU' else found.cpus} CPU cores"
    end_to_end = (
        f"{job.documents_per_second:,.1f} documents/s (bertsum summarize, one replica; it began after "
        f"{job.startup_seconds:.0f} s)"
        if job
        else _NOT_MEASURED
    )
    rows = [
        ("measured on", f"{device}, {found.dtype}; {found.documents:,} documents"),
        ("a document", f"{found.tokens_per_document:,.0f} tokens"),
        ("matrix products", f"{found.matrix_flops / 1e12:,.3f} TFLOP/s of the encoder's shapes"),
        ("engine", f"{found.engine_documents:,.1f} documents/s, {found.engine_tokens:,.0f} tokens/s"),
        ("  of the products' rate", f"{found.engine_share:.2f}"),
        ("preparing", f"{found.prepare_documents_per_core:,.0f} documents/s a core"),
        ("rows to rows", f"{found.end_to_end_documents:,.1f} documents/s (without Ray and files)"),
        ("the job", end_to_end),
        ("bottleneck", _bottleneck(found, job)),
        (f"{corpus:,} documents", f"{hours:,.2f} hours of one replica" + ("" if cost is None else f", {cost:,.2f}")),
    ]
    return "\n".join(f"{name:<24}{value}" for name, value in rows)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum benchmark",
        description="How fast this machine or a node of a cluster summarizes the documents of INPUT, and the cost.",
    )
    add = options.add_argument
    add("input", metavar="INPUT", help="Parquet file, directory or glob; local or s3://, gs://, ...")
    add("--model", metavar="M", help="checkpoint: directory, URI or hub name (default: the shipped one)")
    add("--config", metavar="FILE", type=Path, help="YAML file with configuration values")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="one configuration value; repeatable")
    add("--text-column", metavar="NAME", help="column with the text (default: document)")
    add("--documents", metavar="N", type=count("--documents", 1), default=256, help="rows of the sample (default: 256)")
    add(
        "--repetitions", metavar="N", type=count("--repetitions", 1), default=3, help="counted repetitions (default: 3)"
    )
    add("--address", metavar="A", help="local, auto, HOST:PORT or ray://HOST:PORT (default: RAY_ADDRESS, else local)")
    add(
        "--scratch", metavar="URI", help="directory that all nodes of a cluster reach, for files of the job; left clean"
    )
    add(
        "--corpus",
        metavar="N",
        type=count("--corpus", 1),
        help="documents to estimate for (default: the rows of INPUT)",
    )
    add("--price", metavar="P", type=amount("--price"), help="price of one replica's machine an hour, in any currency")
    add("--json", action="store_true", help="the same for machines")
    return options


if __name__ == "__main__":
    sys.exit(main())
