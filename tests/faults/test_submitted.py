"""A submitted run on a head and two workers, each a raylet of its own: the node, the line or the head goes away."""

import io
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.job_helpers import (
    descendants,
    documents,
    make_checkpoint,
    read_result,
    result_files,
    write,
)
from helpers.proxy import Proxy
from helpers.ray_nodes import Cluster, Node, start_submit
from helpers.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.faults]

ROWS, ROWS_PER_UNIT = 6000, 100


class Followed:
    """A submission, and what its user has seen of it so far."""

    def __init__(self, *arguments: object) -> None:
        self.process = start_submit(*arguments)
        self._seen = io.StringIO()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        return self._seen.getvalue()

    def finish(self) -> str:
        """All of it; fails unless the job ends with 0."""
        assert self.process.wait(LIMIT_SECONDS) == 0, self.log
        self._reader.join(LIMIT_SECONDS)
        return self.log

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._seen.write(line)


class Bench:
    """The cluster, INPUT, and the command that fills an OUTPUT."""

    def __init__(self, cluster: Cluster, source: Path, checkpoint: Path) -> None:
        self.cluster, self.source, self.checkpoint = cluster, source, checkpoint
        self.started: list[Followed] = []

    def submit(self, output: Path, address: str | None = None) -> Followed:
        command = ("summarize", self.source, output, "--model", self.checkpoint)
        units = ("--set", f"rows_per_unit={ROWS_PER_UNIT}", "--set", "resources.num_cpus=1")
        nodes = ("--set", "resources.replicas=2", "--set", "resources.timeout_seconds=600")
        self.started.append(
            Followed(*command, *units, *nodes, "--address", address or self.cluster.address)
        )
        return self.started[-1]

    def kill_one_with_a_replica(self) -> Node:
        """A worker of the cluster goes away with all its processes."""
        for node in self.cluster.workers:
            if any("MapWorker" in command for _, command in descendants(node.process.pid)):
                self.cluster.workers.remove(node)
                node.kill()
                return node
        raise AssertionError("no worker has a replica")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Bench]":
    root = tmp_path_factory.mktemp("submitted")
    write(documents(ROWS // 2), root / "in" / "dt=1" / "a.parquet", row_group_size=500)
    write(
        documents(ROWS // 2, first_id=ROWS // 2),
        root / "in" / "dt=2" / "a.parquet",
        row_group_size=500,
    )
    directory = Path(
        tempfile.mkdtemp(prefix="bertsum-ray-")
    )  # pytest's own is too long for Ray's sockets
    cluster = Cluster(directory, num_cpus=0)
    bench = Bench(cluster, root / "in", make_checkpoint(root / "model"))
    try:
        for _ in range(2):
            cluster.add("--num-cpus=1").wait_until_started()
        yield bench
    finally:
        for job in bench.started:
            job.process.kill()
        cluster.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def uninterrupted(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("uninterrupted") / "out"
    bench.submit(output).finish()
    return contents(output)


def contents(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in result_files(output)}


def wait_until(condition: Callable[[], bool], job: Followed) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, job.log
        assert job.process.poll() is None, job.log
        time.sleep(0.02)


def wait_for_files(output: Path, count: int, job: Followed) -> dict[str, int]:
    """Until so many units are done and not all; when each of them was written."""
    wait_until(lambda: len(result_files(output)) >= count, job)
    done = {name: (output / name).stat().st_mtime_ns for name in result_files(output)}
    assert len(done) < ROWS // ROWS_PER_UNIT, "too late"
    return done


def check(output: Path, uninterrupted: dict[str, bytes]) -> None:
    """The same names and bytes as those of a run that nobody disturbed, every row once and in order."""
    assert contents(output) == uninterrupted
    assert read_result(output)["id"].to_pylist() == list(range(ROWS))
    assert {path.name for path in output.iterdir()} == {"_SUCCESS", "_bertsum", "dt=1", "dt=2"}


def keep(log: str, name: str) -> None:
    """Where somebody asks for it, so that the manual can show what a user sees."""
    if directory := os.environ.get("BERTSUM_KEEP_LOGS"):
        Path(directory, f"{name}.log").write_text(log)


def test_a_node_is_killed_and_the_others_do_its_units(
    bench: Bench, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    job = bench.submit(tmp_path / "out")
    done = wait_for_files(tmp_path / "out", 5, job)
    bench.kill_one_with_a_replica()
    log = job.finish()
    keep(log, "node")
    check(tmp_path / "out", uninterrupted)
    assert (
        done.items()
        <= {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in done}.items()
    )
    assert re.search(r"rows ok +6,000\b", log)
    bench.cluster.add("--num-cpus=1").wait_until_started()


def test_the_line_to_the_job_server_breaks(
    bench: Bench, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    """The job does not notice; who follows it asks again and misses no line of its log."""
    proxy = Proxy(bench.cluster.http_port)
    try:
        job = bench.submit(tmp_path / "out", proxy.url)
        wait_for_files(tmp_path / "out", 2, job)
        with proxy.rule("GET", "/api/jobs/", "reset", times=10**6):
            wait_until(lambda: "asking again" in job.log, job)
            wait_until(lambda: (tmp_path / "out" / "_SUCCESS").exists(), job)
        log = job.finish()
    finally:
        proxy.close()
    keep(log, "line")
    check(tmp_path / "out", uninterrupted)
    assert f"{proxy.url} answers again" in log
    assert "60 of 60 units to do" in log
    assert re.search(r"rows ok +6,000\b", log)


def test_the_head_is_killed_and_started_again(
    bench: Bench, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    """It remembers nothing: the job is sent again by itself and goes on from what OUTPUT holds."""
    job = bench.submit(tmp_path / "out")
    done = wait_for_files(tmp_path / "out", 5, job)
    bench.cluster.head.kill()
    wait_until(lambda: "asking again" in job.log, job)
    for node in (
        bench.cluster.workers
    ):  # their replicas went on for a while; a head does not start beside them here
        node.kill()
    bench.cluster.workers.clear()
    bench.cluster.start_head()
    for _ in range(2):
        bench.cluster.add("--num-cpus=1").wait_until_started()
    log = job.finish()
    keep(log, "head")
    check(tmp_path / "out", uninterrupted)
    assert (
        done.items()
        <= {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in done}.items()
    )
    assert re.search(r"lost with its machine; \S+ has \d+ of 60 units; sent again", log)
    assert len(re.findall(r"bertsum-summarize-[0-9a-f]{12}-\d+ sent to", log)) == 2
