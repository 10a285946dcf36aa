"""The fault matrix: SIGKILL of the driver, a replica or a whole node at each step of the protocol, on object storage.

The proxy in front of the store holds the request that marks a step; the victim is killed meanwhile. Every case ends
with the same objects, byte for byte, as a run that nobody disturbed, and each output file was put exactly once.
"""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import psutil
import pyarrow.parquet as pq
import pytest
from helpers.job_helpers import documents, start_summarize
from helpers.store import Store
from helpers.waiting import LIMIT_SECONDS
from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.faults]

FILES, ROWS_PER_FILE, ROWS_PER_UNIT = 2, 300, 100
ROWS = FILES * ROWS_PER_FILE
Job = "subprocess.Popen[str]"


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file; while it exists, replicas stay in their forward pass. For what is started after this."""
    path = tmp_path_factory.mktemp("hold") / "forward"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTSUM_TEST_HOLD", str(path))
        patch.setenv(
            "PYTHONPATH", f"{Path(__file__).parent / 'hooks'}:{os.environ.get('PYTHONPATH', '')}"
        )
        yield path


@pytest.fixture(scope="module")
def nodes(proxy: object, hold: Path) -> Iterator[Cluster]:
    """A head without CPUs and two nodes of one CPU, each a raylet of its own, on this machine."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


class Bench:
    """One OUTPUT, and the command that fills it."""

    def __init__(
        self, store: Store, nodes: Cluster, checkpoint: Path, jobs: "list[subprocess.Popen[str]]"
    ) -> None:
        self.store, self.nodes, self._checkpoint, self._jobs = store, nodes, checkpoint, jobs
        for number in range(FILES):
            self.put_input(number, ROWS_PER_FILE)

    def put_input(self, number: int, num_rows: int, first_id: int | None = None) -> None:
        sink = io.BytesIO()
        first = number * ROWS_PER_FILE if first_id is None else first_id
        pq.write_table(documents(num_rows, first_id=first), sink, row_group_size=100)
        self.store.put(f"in/dt={number}/a.parquet", sink.getvalue())

    def start(self, *more: object) -> "subprocess.Popen[str]":
        job = start_summarize(
            *(f"{self.store.uri}/in", f"{self.store.uri}/out", "--model", self._checkpoint),
            *("--address", self.nodes.address, "--set", f"rows_per_unit={ROWS_PER_UNIT}"),
            *("--set", "resources.num_cpus=1", "--set", "resources.replicas=1"),
            *("--set", "resources.timeout_seconds=600", *more),
        )
        self._jobs.append(job)
        return job

    def finish(self, job: "subprocess.Popen[str]", code: int = 0) -> str:
        printed, _ = job.communicate(timeout=LIMIT_SECONDS)
        assert job.returncode == code, printed
        return printed

    def result(self) -> dict[str, bytes]:
        """Objects of OUTPUT but the records of the whole run; buckets have other names, which manifests repeat."""
        found = {
            key: data.replace(self.store.uri.encode(), b"s3://bucket")
            for key, data in self.store.objects().items()
        }
        return {
            key: data
            for key, data in found.items()
            if key.startswith("out/") and not key.startswith("out/_b")
        }

    def records(self) -> list[str]:
        return sorted(key for key in self.store.objects() if key.startswith("out/_b"))

    def wait_for(self, method: str, path: str, job: "subprocess.Popen[str]") -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self.store.proxy.count(method, path):
            assert time.monotonic() < deadline, f"no {method} {path}"
            assert job.poll() is None, job.stdout and job.stdout.read()
            time.sleep(0.02)

    def find_replica(self) -> psutil.Process | None:
        """The process that holds a replica, if there is one."""
        for node in self.nodes.worker_nodes:
            for worker in psutil.Process(_raylet(node)).children():
                with suppress(psutil.Error):  # it ends while it is looked at
                    if "MapWorker" in " ".join(worker.cmdline()):
                        return worker
        return None

    def wait_for_replica(self) -> psutil.Process:
        """It begins with loading the model."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while (replica := self.find_replica()) is None:
            assert time.monotonic() < deadline, "no replica"
            time.sleep(0.02)
        return replica

    def check(self, expected: dict[str, bytes]) -> None:
        """The same bytes under the same names, nothing beside them, and each file put once."""
        assert self.result() == expected
        names = ("manifest", "plan", "times")
        assert self.records() == [f"out/_bertsum/{name}.json" for name in names]
        ids = [
            value
            for key, data in sorted(self.result().items())
            if key.endswith(".parquet")
            for value in pq.read_table(io.BytesIO(data), columns=["id"])["id"].to_pylist()
        ]
        assert ids == list(range(ROWS))
        for key in expected:
            if key.endswith(".parquet"):
                assert self.store.proxy.count("PUT", re.escape(key)) == 1, key


def _raylet(node: object) -> int:
    from ray._private import ray_constants

    return int(node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid)  # type: ignore[attr-defined]


@pytest.fixture
def bench(
    store: Store, nodes: Cluster, checkpoint: Path, jobs: "list[subprocess.Popen[str]]"
) -> Bench:
    return Bench(store, nodes, checkpoint, jobs)


@pytest.fixture(scope="module")
def expected(
    proxy: object, nodes: Cluster, checkpoint: Path, request: pytest.FixtureRequest
) -> dict[str, bytes]:
    """What a run writes that nobody disturbs; the names hold etags and not the bucket, so they are the same in all."""
    store = Store("s3://undisturbed", proxy, dict(os.environ))
    fsspec.filesystem("s3", endpoint_url=proxy.url, skip_instance_cache=True).mkdir("undisturbed")
    started: list[subprocess.Popen[str]] = []
    bench = Bench(store, nodes, checkpoint, started)
    bench.finish(bench.start())
    assert started[0].stdout is not None
    started[0].stdout.close()
    return bench.result()


def kill_driver(bench: Bench, job: "subprocess.Popen[str]") -> None:
    job.kill()
    job.wait(LIMIT_SECONDS)


def kill_replica(bench: Bench, job: "subprocess.Popen[str]") -> None:
    bench.wait_for_replica().kill()


def kill_monitor(bench: Bench) -> None:
    raylets = [
        psutil.Process(_raylet(node)) for node in (bench.nodes.head_node, *bench.nodes.worker_nodes)
    ]
    children = [child for raylet in raylets for child in raylet.children()]
    (monitor,) = [child for child in children if "ray::Monitor" in " ".join(child.cmdline())]
    monitor.kill()


def kill_node(bench: Bench, job: "subprocess.Popen[str]") -> None:
    """That of the replica; at a step without one, any."""
    replica = bench.find_replica()
    nodes = bench.nodes.worker_nodes
    (node, *_) = [node for node in nodes if replica is None or _raylet(node) == replica.ppid()]
    bench.nodes.remove_node(node, allow_graceful=False)  # SIGKILL
    bench.nodes.add_node(num_cpus=1)


DATA = r"/out/dt=\d/.*\.parquet"
STEPS: dict[str, tuple[str, str, str]] = {
    "planning": ("GET", r"/in/dt=1/", "before"),
    "loading the model": ("", "", ""),
    "reading a unit": ("GET", r"/in/dt=\d/", "before"),
    "in the forward pass": ("", "", ""),
    "before the put": ("PUT", DATA, "before"),
    "after the put": ("PUT", DATA, "after"),
    "before the manifest": ("PUT", "manifest.json", "before"),
    "before _SUCCESS": ("PUT", "/out/_SUCCESS", "before"),
    "after _SUCCESS": ("PUT", "/out/_SUCCESS", "after"),
}
# at the other steps there is no replica: either none yet, or none any more
OF_REPLICAS = (
    "loading the model",
    "reading a unit",
    "in the forward pass",
    "before the put",
    "after the put",
)
CASES: list[tuple[str, Callable[..., None]]] = [
    *((step, kill_driver) for step in STEPS),
    *((step, kill_replica) for step in OF_REPLICAS),
    *((step, kill_node) for step in STEPS),
]


@pytest.mark.parametrize(
    ("step", "kill"), CASES, ids=[f"{kill.__name__} {step}" for step, kill in CASES]
)
def test_killed(
    bench: Bench, expected: dict[str, bytes], hold: Path, step: str, kill: Callable[..., None]
) -> None:
    method, path, when = STEPS[step]
    bench.store.proxy.requests.clear()
    if step == "loading the model":
        job = bench.start()
        bench.wait_for_replica()
        kill(bench, job)
    elif step == "in the forward pass":
        held = hold.with_suffix(".held")
        held.unlink(missing_ok=True)
        hold.touch()
        try:
            job = bench.start()
            wait_for_file(held, job)
            kill(bench, job)
        finally:
            hold.unlink()
    elif step == "reading a unit":
        job = bench.start()
        bench.wait_for("PUT", "plan.json", job)
        with bench.store.proxy.rule(method, path, "hold", forward=False) as rule:
            rule.wait()
            kill(bench, job)
    else:
        with bench.store.proxy.rule(method, path, "hold", when=when, forward=False) as rule:
            job = bench.start()
            rule.wait()
            kill(bench, job)
    if kill is kill_driver:
        complete = step == "after _SUCCESS"
        assert ("out/_SUCCESS" in bench.result()) is complete
        job = bench.start()
    bench.finish(job)
    bench.check(expected)


def wait_for_file(path: Path, job: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        assert job.poll() is None, job.stdout and job.stdout.read()
        time.sleep(0.02)


def test_a_zombie_wakes_up_after_its_unit_was_done_again(
    bench: Bench, expected: dict[str, bytes]
) -> None:
    """Its put was on the way when it was taken for dead, and arrives when all is done."""
    with bench.store.proxy.rule("PUT", DATA, "hold") as rule:
        job = bench.start()
        rule.wait()
        kill_replica(bench, job)
        bench.finish(job)
        before = bench.result()
        rule.release.set()
        assert rule.answered.wait(LIMIT_SECONDS)
    assert bench.store.proxy.count("PUT", DATA, lambda status: status == 412) == 1
    assert bench.result() == before
    bench.check(expected)


def test_a_frozen_replica_is_replaced(bench: Bench, expected: dict[str, bytes]) -> None:
    """SIGSTOP: it is there, holds its unit and does nothing; the monitor that knew of it is killed just before."""
    with bench.store.proxy.rule("PUT", DATA, "hold", forward=False) as rule:
        job = bench.start("--set", "replica_timeout_seconds=60")
        rule.wait()
        frozen = bench.wait_for_replica()
        kill_monitor(bench)
        os.kill(frozen.pid, signal.SIGSTOP)
        printed = bench.finish(job)
    assert "made no progress" in printed
    assert not frozen.is_running()
    bench.check(expected)


def test_two_drivers_at_once(bench: Bench, expected: dict[str, bytes]) -> None:
    bench.store.proxy.requests.clear()
    first, second = bench.start(), bench.start()
    bench.finish(first)
    bench.finish(second)
    bench.check(expected)


def test_input_that_changes_between_plan_and_read(bench: Bench) -> None:
    """One file grows, the other shrinks; nothing of them is written, and the next run does what is there then."""
    bench.store.proxy.requests.clear()
    with bench.store.proxy.rule("PUT", "plan.json", "hold", when="after") as rule:
        job = bench.start()
        rule.wait()
        bench.put_input(0, 350)
        bench.put_input(1, 50, first_id=350)
    assert "changed after the job was planned" in bench.finish(job, code=1)
    assert [key for key in bench.result() if "SUCCESS" in key] == []
    bench.finish(bench.start())
    tables = [
        pq.read_table(io.BytesIO(data))
        for key, data in sorted(bench.result().items())
        if "parquet" in key
    ]
    assert [value for table in tables for value in table["id"].to_pylist()] == list(range(400))


def test_replace_is_killed_and_one_whole_result_is_readable_all_along(
    bench: Bench, expected: dict[str, bytes]
) -> None:
    """By the manifest, which is what says which files are the result."""
    bench.finish(bench.start("--sentences", 1))
    replace = ("--on-existing", "replace")
    assert "--on-existing replace" in bench.finish(bench.start(), code=1)
    for method, path, when in (
        ("PUT", DATA, "after"),
        ("PUT", "manifest", "before"),
        ("DELETE", DATA, "after"),
    ):
        with bench.store.proxy.rule(method, path, "hold", when=when, forward=False) as rule:
            job = bench.start(*replace)
            rule.wait()
            job.kill()
            job.wait(LIMIT_SECONDS)
        assert_readable(bench)
    bench.finish(bench.start(*replace))
    assert_readable(bench)
    assert bench.result() == expected


def assert_readable(bench: Bench) -> None:
    objects = bench.store.objects()
    manifest = json.loads(objects["out/_bertsum/manifest.json"])
    assert manifest["rows"] == ROWS
    for entry in manifest["files"]:
        assert hashlib.sha256(objects[f"out/{entry['name']}"]).hexdigest() == entry["sha256"]


def test_throttling_and_errors_all_along(bench: Bench, expected: dict[str, bytes]) -> None:
    proxy = bench.store.proxy
    proxy.requests.clear()
    with (
        proxy.rule("PUT", "/out/", "slow_down", times=3) as first,
        proxy.rule("GET", "/in/", "internal", times=3) as second,
        proxy.rule("PUT", DATA, "reset", when="after", times=2) as third,
    ):
        bench.finish(bench.start())
    assert (first.seen, second.seen, third.seen) == (3, 3, 2)
    bench.check(expected)


def test_an_output_that_may_not_be_written_is_named_at_once(bench: Bench) -> None:
    with bench.store.proxy.rule("PUT", "/out/", "denied", times=1000):
        printed = bench.finish(bench.start(), code=1)
    assert "s3:PutObject" in printed
    assert "Traceback" not in printed
    assert bench.result() == {}


def test_a_store_without_conditional_put(bench: Bench, expected: dict[str, bytes]) -> None:
    with bench.store.proxy.rule("PUT", "/out/", "drop_header", times=1000):
        printed = bench.finish(bench.start())
    assert "cannot create a file exclusively" in printed
    assert bench.result() == expected
