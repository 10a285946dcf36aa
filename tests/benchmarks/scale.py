"""How the cost of a job grows, with work that sleeps in place of a model.

python tests/benchmarks/scale.py rerun      # a finished job of 10,000 units, run again
python tests/benchmarks/scale.py overhead   # Ray's part of a unit, and the driver's memory from first unit to last
python tests/benchmarks/scale.py replicas   # 32 replicas over four raylets: the share of time in which they work
python tests/benchmarks/scale.py plan       # planning 100,000 objects on moto's S3 server
python tests/benchmarks/scale.py memory DOCUMENTS.parquet [FOLDER]  # a replica's memory over a file of 5 GB

The last one runs the model that ships, and needs 6 GB of disk in FOLDER (or where temporary files go).
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from multiprocessing import Process
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers

from bertsum.config import SummarizerConfig
from bertsum.inference.arrow import output_table
from bertsum.inference.stream import Progress
from bertsum.job_config import JobConfig, ResourcesConfig
from bertsum.runs.columns import check_documents, needed_columns, output_schema
from bertsum.runs.input import Shard, list_input
from bertsum.runs.records import MANIFEST, PLAN, Job, encode
from bertsum.runs.units import Unit
from bertsum.schema import Prediction, Status
from bertsum.storage.folder import Folder
from jobs.engine.publisher import Publisher
from jobs.engine.reports import UnitReport
from jobs.engine.run import Run, start_replicas

CONFIG = SummarizerConfig()
JOB = Job("asleep", "0" * 64, CONFIG)


@dataclass
class Asleep:
    """A Stream that takes `seconds` for a unit."""

    seconds: float
    stage_seconds: MutableMapping[str, float] = field(default_factory=dict)
    max_batch_tokens: int = 0

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        for table in tables:
            time.sleep(self.seconds)
            yield output_table(table, [Prediction(Status.OK, summary="")] * table.num_rows, CONFIG)

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        return output_table(
            table, [Prediction(Status.ERROR, error=reason)] * table.num_rows, CONFIG
        )

    def on_batch(self, call: Callable[[], None]) -> None:
        """There are no batches."""


@dataclass(frozen=True)
class SleepingWork:
    """A Work of the job, as `SummarizeWork`."""

    seconds: float

    def check(self, shard: Shard) -> str | None:
        return check_documents(shard, CONFIG)

    def columns(self, schema: pa.Schema) -> list[str]:
        return needed_columns(schema, CONFIG)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return output_schema(schema, CONFIG)

    def load(self, num_threads: int, num_gpus: float) -> Asleep:
        return Asleep(self.seconds)


def make_run(
    folder: Path, num_units: int, seconds: float, address: str = "local", num_replicas: int = 1
) -> Run:
    """A run of units of one row each."""
    source = folder / "input.parquet"
    pq.write_table(pa.table({"document": [f"Document {i}." for i in range(num_units)]}), source)
    resources = ResourcesConfig(replicas=num_replicas, num_cpus=1, timeout_seconds=300)
    config = JobConfig(rows_per_unit=1, resources=resources)
    output = Folder(str(folder / "output"))
    return run_of(str(source), output, config, seconds, address)


def run_of(
    source: str, output: Folder, config: JobConfig, seconds: float = 0.0, address: str = "local"
) -> Run:
    return Run(
        input_uri=source,
        source=list_input(source),
        output=output,
        job=JOB,
        work=SleepingWork(seconds),
        config=config,
        address=address,
    )


@dataclass
class MemoryListener:
    """Notes the driver's memory in MB after each unit."""

    memory: list[float]

    def add(self, report: UnitReport) -> None:
        self.memory.append(_resident())

    def split(self, parts: Mapping[str, Mapping[str, Unit]]) -> None:
        raise AssertionError("no file is damaged")


def compute(run: Run) -> tuple[list[Any], list[float]]:
    """Reports of all units, and the driver's memory in MB before work begins and after each unit."""
    from jobs.engine.waves import run_waves
    from jobs.terminal.progress import Display

    plan = run.plan()
    with start_replicas(run, plan) as replicas, Display(plan.num_rows, 0) as display:
        Publisher(run, plan).committer.begin(plan)
        listener = MemoryListener([_resident()])
        outcome = run_waves(plan.missing, replicas, display, listener)
    assert len(outcome.reports) == len(plan.units), outcome.failures
    return sorted(outcome.reports.values(), key=lambda report: report.begun), listener.memory


def _resident() -> float:
    return _megabytes(psutil.Process())


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)


def measure_overhead(num_units: int) -> None:
    """Wall time of units that take none."""
    with tempfile.TemporaryDirectory() as folder:
        reports, memory = compute(make_run(Path(folder), num_units, seconds=0.0))
    seconds = reports[-1].begun + reports[-1].wall_seconds - reports[0].begun
    inside = sum(report.wall_seconds for report in reports)
    print(
        f"{num_units:,} units: {1000 * seconds / num_units:.1f} ms each, and {1000 * inside / num_units:.1f} ms in "
        f"the replica (read and write of one row; two units at a time)"
    )
    print("driver's MB before work and after each tenth of the units:", end=" ")
    print(*(f"{memory[(len(memory) - 1) * tenth // 10]:.0f}" for tenth in range(11)))


def measure_replicas(num_nodes: int, per_node: int, units_each: int, seconds: float) -> None:
    """From when every replica has begun until the first has no more: the share of time in which they sleep."""
    from helpers.ray_nodes import Cluster

    count = num_nodes * per_node
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "cluster", per_node)
        try:
            for _ in range(num_nodes - 1):
                cluster.add(f"--num-cpus={per_node}").wait_until_started()
            run = make_run(
                Path(folder), count * units_each, seconds, f"127.0.0.1:{cluster.port}", count
            )
            reports, _ = compute(run)
        finally:
            cluster.stop()
    by_replica: dict[str, list[Any]] = {}
    for report in reports:
        by_replica.setdefault(report.replica, []).append(report)
    assert len(by_replica) == count, f"{len(by_replica)} replicas worked"
    start = max(own[0].begun for own in by_replica.values())
    stop = min(own[-1].begun + own[-1].wall_seconds for own in by_replica.values())
    # a unit begins with its sleep
    asleep = sum(max(0.0, min(r.begun + seconds, stop) - max(r.begun, start)) for r in reports)
    print(
        f"{count} replicas on {num_nodes} raylets, units of {seconds:g} s: efficiency "
        f"{asleep / (stop - start) / count:.3f} over {stop - start:.0f} s"
    )


def measure_rerun(num_units: int) -> None:
    """Units are made here, without Ray; the second run is a process of its own, as a user starts it."""
    with tempfile.TemporaryDirectory() as name:
        run = make_run(Path(name), num_units, seconds=0.0)
        plan = run.plan()
        committer = Publisher(run, plan).committer
        committer.begin(plan)
        row = pq.read_table(run.input_uri).slice(0, 1)
        for unit_name, unit in plan.units.items():
            tables = list(Asleep(0.0).stream([row]))
            data, _ = encode(tables, run.work.output_schema(row.schema), unit, run.job)
            run.output.create_exclusive(unit_name, memoryview(data))
        start = time.perf_counter()
        committer.commit(plan, {})
        seconds = time.perf_counter() - start
        sizes = [
            (Path(name) / "output" / record).stat().st_size / num_units
            for record in (PLAN, MANIFEST)
        ]
        print(
            f"commit of {num_units:,} units without any record in memory: {seconds:.1f} s; plan and manifest take "
            f"{sizes[0]:.0f} and {sizes[1]:.0f} bytes a unit"
        )
        command = [sys.executable, __file__, "again", name, str(num_units)]
        start = time.perf_counter()
        subprocess.run(
            command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        )
        print(f"run again: {time.perf_counter() - start:.1f} s, the start of Python included")


def refuse_work(output: Folder, *results: object) -> None:
    raise AssertionError(f"{output} was not finished")


def again(folder: Path) -> None:
    """The finished job of `measure_rerun`, whose input is there."""
    from jobs.engine.publisher import complete

    source, config = str(folder / "input.parquet"), JobConfig(rows_per_unit=1)
    run = run_of(source, Folder(str(folder / "output")), config)
    complete(run, run.plan(), refuse_work)
    print(f"{_resident():.0f} MB of memory at the end")


def measure_planning(num_objects: int) -> None:
    """Objects are put into the server's memory without HTTP; they are listed and read through it."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.parquet"
        pq.write_table(pa.table({"document": ["A document."] * 1000}), path)
        data = path.read_bytes()
    backend: Any = s3_backends["123456789012"]["aws"]
    backend.create_bucket("lake", "us-east-1")
    for number in range(num_objects):
        backend.put_object("lake", f"news/dt={number % 1000:04d}/part-{number:06d}.parquet", data)
    backend.create_bucket("out", "us-east-1")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    environment = os.environ | {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    subprocess.run([sys.executable, __file__, "plan-here"], check=True, env=environment)
    server.stop()


def plan_here() -> None:
    """In a process that knows the server."""
    import s3fs

    requests: dict[str, int] = {}
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        requests[method] = requests.get(method, 0) + 1
        return await call(self, method, *arguments, **options)

    s3fs.S3FileSystem._call_s3 = counted
    start = time.perf_counter()
    run = run_of("s3://lake/news", Folder("s3://out/o"), JobConfig())
    listed = time.perf_counter()
    plan = run.plan()
    ended = time.perf_counter()
    print(
        f"{len(run.source.files):,} objects: listed in {listed - start:.0f} s, planned in {ended - listed:.0f} s more; "
        f"{len(plan.units):,} units; requests {requests}; {_resident():,.0f} MB at the end, "
        f"{time.process_time():.0f} s of CPU in this process"
    )


def write_file(documents: Path, path: Path, gigabytes: float, row_bytes: int) -> None:
    """One row group, uncompressed, of rows of `row_bytes` that join the documents in turn."""
    texts = cycle(
        filter(None, pq.read_table(documents, columns=["document"])["document"].to_pylist())
    )
    num_rows = int(gigabytes * 1e9 / row_bytes)
    schema = pa.schema({"document": pa.large_string()})
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        rows = []
        for _ in range(num_rows):
            size, parts = 0, []
            while size < row_bytes:
                parts.append(next(texts))
                size += len(parts[-1].encode())
            rows.append("\n\n".join(parts))
        writer.write_table(pa.table({"document": rows}, schema), row_group_size=num_rows)


def measure_memory(documents: Path, parent: Path | None, gigabytes: float) -> None:
    """`bertsum summarize` as a user runs it, its replica's resident memory looked at each second."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        path = Path(name) / "input.parquet"
        maker = Process(
            target=write_file, args=(documents, path, gigabytes, 250_000)
        )  # its memory goes with it
        maker.start()
        maker.join()
        num_rows = pq.read_metadata(path).num_rows
        print(f"{path.stat().st_size / 1e9:.2f} GB, {num_rows:,} rows in one row group", flush=True)
        command = [sys.executable, "-m", "jobs.cli", "summarize", str(path), f"{name}/output",
                   "--set", "summarizer.max_windows=1"]  # fmt: skip
        start, seen = time.perf_counter(), list[float]()
        job = psutil.Popen(command)
        while job.poll() is None:
            seen.append(
                max((_replica_memory(child) for child in job.children(recursive=True)), default=0.0)
            )
            time.sleep(1)
        assert job.returncode == 0, job.returncode
    seen = seen[next(i for i, megabytes in enumerate(seen) if megabytes) :]
    tenths = [max(seen[len(seen) * i // 10 : len(seen) * (i + 1) // 10]) for i in range(10)]
    print(
        f"{time.perf_counter() - start:.0f} s; most MB of the replica in each tenth of the time:",
        end=" ",
    )
    print(*(f"{megabytes:,.0f}" for megabytes in tenths))


def _replica_memory(process: psutil.Process) -> float:
    try:
        return _megabytes(process) if "ray::MapWorker" in " ".join(process.cmdline()) else 0.0
    except psutil.NoSuchProcess:
        return 0.0


def main(argv: Sequence[str]) -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "what", choices=["rerun", "overhead", "replicas", "plan", "plan-here", "again", "memory"]
    )
    options.add_argument("rest", nargs="*")
    options.add_argument("--units", type=int, help="or objects")
    options.add_argument("--nodes", type=int, default=4)
    options.add_argument("--gigabytes", type=float, default=5.0)
    options.add_argument("--seconds", type=float, default=10.0)
    arguments = options.parse_args(argv)
    os.environ |= {
        "RAY_worker_niceness": "0"
    }  # else workers stand behind whatever else the machine does
    if arguments.what == "rerun":
        measure_rerun(arguments.units or 10_000)
    elif arguments.what == "overhead":
        measure_overhead(arguments.units or 2_000)
    elif arguments.what == "replicas":
        measure_replicas(arguments.nodes, 8, units_each=8, seconds=arguments.seconds)
    elif arguments.what == "plan":
        measure_planning(arguments.units or 100_000)
    elif arguments.what == "memory":
        documents, *folder = map(Path, arguments.rest)
        measure_memory(documents, folder[0] if folder else None, arguments.gigabytes)
    elif arguments.what == "plan-here":
        plan_here()
    else:
        again(Path(arguments.rest[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
