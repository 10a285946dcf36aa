"""Where a submitted job runs on a cluster of unlike nodes: the driver on the head, replicas on the GPUs that it names.

Head and nodes are raylets on this machine; their GPUs are numbers in Ray's books.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from helpers.job_helpers import (
    descendants,
    documents,
    make_checkpoint,
    read_result,
    result_files,
    start_summarize,
    write,
)
from helpers.ray_nodes import Cluster, Node, start_submit
from helpers.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.slow]

ROWS = 3000
GPUS = {"a10g": "A10G", "h100": "H100"}  # nodes with one GPU each, beside one that has none


class Bench:
    """The cluster, its nodes by name, and the command that fills an OUTPUT."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        write(documents(ROWS), root / "in" / "a.parquet", row_group_size=500)
        self._source, self._checkpoint, self.cluster = (
            root / "in",
            make_checkpoint(root / "model"),
            cluster,
        )
        self.nodes: dict[str, Node] = {}

    def add(self, name: str) -> None:
        options = ["--num-cpus=2"]
        if name in GPUS:
            options += [
                "--num-gpus=1",
                "--resources",
                json.dumps({f"accelerator_type:{GPUS[name]}": 1}),
            ]
        self.nodes[name] = self.cluster.add(*options)
        self.nodes[name].wait_until_started()

    def who(self, word: str) -> Mapping[str, int]:
        """Processes with this word in their command line, on each node."""
        nodes = {"head": self.cluster.head, **self.nodes}
        lines = {
            name: [line for _, line in descendants(node.process.pid)]
            for name, node in nodes.items()
        }
        return {
            name: count
            for name, found in lines.items()
            if (count := sum(word in line for line in found))
        }

    def start(self, output: Path, *resources: str, client: bool = False) -> "subprocess.Popen[str]":
        options = (part for value in resources for part in ("--set", f"resources.{value}"))
        command = (
            self._source,
            output,
            "--model",
            self._checkpoint,
            "--set",
            "rows_per_unit=50",
            *options,
        )
        if client:
            return start_summarize(
                *command, "--address", f"ray://127.0.0.1:{self.cluster.client_port}"
            )
        return start_submit("summarize", *command, "--address", self.cluster.address)

    def run(
        self,
        output: Path,
        *resources: str,
        client: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Mapping[str, int]:
        """Submit, and wait for the end; the most replicas that each node had at once. All else is on the head."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while self.who("MapWorker"):  # of the test before
            assert time.monotonic() < deadline
            time.sleep(0.2)
        job = self.start(output, "num_cpus=1", *resources, client=client)
        most: Counter[str] = Counter()
        others: Counter[str] = Counter()
        try:
            deadline = time.monotonic() + LIMIT_SECONDS
            while job.poll() is None and time.monotonic() < deadline:
                most |= Counter(self.who("MapWorker"))
                for word in ("-m jobs.shipped summarize", "ray::Monitor", "ray::Driver"):
                    others |= Counter(self.who(word))
                meanwhile()
                time.sleep(0.2)
        finally:
            job.kill()  # unless it has ended
        printed, _ = job.communicate(timeout=LIMIT_SECONDS)
        assert job.returncode == 0, printed
        assert set(others) == {"head"}
        assert "attempt 1 of" not in printed  # a node that goes away is no failure of a unit
        assert read_result(output)["id"].to_pylist() == list(range(ROWS))
        return most


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = Path(
        tempfile.mkdtemp(prefix="bertsum-ray-")
    )  # pytest's own is too long for Ray's sockets
    cluster = Cluster(directory, num_cpus=0)
    bench = Bench(tmp_path_factory.mktemp("placement"), cluster)
    try:
        for name in ("cpu", *GPUS):
            bench.add(name)
        yield bench
    finally:
        cluster.stop()
        shutil.rmtree(directory)


def test_replicas_on_each_gpu_and_none_elsewhere(bench: Bench, tmp_path: Path) -> None:
    """Nothing is asked for: there are GPUs, so replicas go to them. The encoder is tiny, so each core has one."""
    assert bench.run(tmp_path / "out") == {"a10g": 2, "h100": 2}


def test_a_replica_for_each_gpu(bench: Bench, tmp_path: Path) -> None:
    assert bench.run(tmp_path / "out", "num_gpus=1") == {"a10g": 1, "h100": 1}


def test_two_replicas_on_half_a_gpu_of_one_type(bench: Bench, tmp_path: Path) -> None:
    assert bench.run(tmp_path / "out", "num_gpus=0.5", "accelerator_type=H100") == {"h100": 2}


def test_a_driver_outside_of_the_cluster(bench: Bench, tmp_path: Path) -> None:
    assert bench.run(tmp_path / "out", client=True) == {"a10g": 2, "h100": 2}


def test_a_head_that_is_too_busy_for_a_driver(tmp_path: Path) -> None:
    """It gives the stand-in of a driver outside no time to start."""
    directory = Path(tempfile.mkdtemp(prefix="bertsum-ray-"))
    no_time = {"RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "0"}
    cluster = Cluster(directory, num_cpus=1, variables=no_time)
    write(documents(10), tmp_path / "in" / "a.parquet")
    address = f"ray://127.0.0.1:{cluster.client_port}"
    model = make_checkpoint(tmp_path / "model")
    try:
        job = start_summarize(
            tmp_path / "in", tmp_path / "out", "--model", model, "--address", address
        )
        printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    finally:
        cluster.stop()
        shutil.rmtree(directory)
    assert job.returncode == 1, printed
    message = f"the Ray at --address {address} did not take this driver in: "
    assert printed.count(message) == 3
    # a try that finds the process of the one before still ending is refused for another reason
    assert f"{message}RuntimeError: Proxy failed" in printed
    assert printed.count("trying again") == 2


def test_without_gpus_every_core_counts(bench: Bench, tmp_path: Path) -> None:
    """Also those of nodes with GPUs, as the manual says."""
    most = bench.run(tmp_path / "out", "num_gpus=0", "replicas=6")
    assert most["cpu"] == 2
    assert most.keys() & GPUS.keys()
    assert max(most.values()) == 2


def test_the_only_node_of_a_type_goes_away_and_another_comes(bench: Bench, tmp_path: Path) -> None:
    """As spot nodes do: work waits, and goes on with the new one."""
    output, steps = (
        tmp_path / "out",
        iter([lambda: bench.nodes.pop("a10g").kill(), lambda: bench.add("a10g")]),
    )

    def change_nodes() -> None:
        if len(result_files(output)) >= 5:
            next(steps, lambda: None)()

    assert bench.run(output, "accelerator_type=A10G", meanwhile=change_nodes) == {"a10g": 2}
    assert next(steps, None) is None, "the nodes did not change"
