"""From zero nodes with Ray's own autoscaler: work begins with the first node, on nodes of the kind that was asked for.

The autoscaler is real, its machines are raylets on this one, and their GPUs are numbers in Ray's books.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from helpers.job_helpers import (
    descendants,
    documents,
    kill_all,
    read_result,
    start_summarize,
    write,
)
from helpers.ray_nodes import Cluster
from helpers.waiting import LIMIT_SECONDS
from ray.util.state import list_nodes

pytestmark = [pytest.mark.slow]

ROWS = 3000
NODE_TYPES: Mapping[str, Mapping[str, float]] = {
    "cpu": {"CPU": 1},
    "a10g": {"CPU": 3, "GPU": 1, "accelerator_type:A10G": 1},
    "h100": {"CPU": 2, "GPU": 1, "accelerator_type:H100": 1},
}
# Ray Data thinks of the cluster's size 10 s after the start of a run, and each 10 s from then on; with this, at each
# look, so that a short run shows what a long one, or one on a slow machine, asks for.
_LONG_RUN = {"RAY_DATA_MIN_GAP_BETWEEN_AUTOSCALING_REQUESTS": "0"}


@pytest.fixture(scope="module")
def empty() -> Iterator[Cluster]:
    """A head that holds no replica, and no other node yet."""
    directory = Path(tempfile.mkdtemp(prefix="bertsum-ray-"))
    cluster = Cluster(directory, num_cpus=0, node_types=NODE_TYPES)
    yield cluster
    cluster.stop()
    shutil.rmtree(directory)


def workers(cluster: Cluster) -> list[str]:
    """The type of each node that is there beside the head."""
    found = []
    for node in list_nodes(address=cluster.address):
        has = {
            name: amount
            for name, amount in node.resources_total.items()
            if name in ("CPU", "GPU") or ":" in name
        }
        found += [
            kind
            for kind, resources in NODE_TYPES.items()
            if resources.items() <= has.items() and "CPU" in has
        ]
    return sorted(found)


def num_replicas(cluster: Cluster) -> int:
    return sum("MapWorker" in command for _, command in descendants(cluster.head.process.pid))


def run(
    cluster: Cluster, source: Path, output: Path, checkpoint: Path, *resources: str
) -> tuple[int, str, int]:
    """Exit code, what was printed, and the most replicas that were there at once."""
    options = (part for value in resources for part in ("--set", f"resources.{value}"))
    job = start_summarize(
        *(
            source,
            output,
            "--model",
            checkpoint,
            "--address",
            f"127.0.0.1:{cluster.port}",
            *options,
        ),
        *("--set", "rows_per_unit=50", "--set", "resources.num_cpus=1"),
        variables=_LONG_RUN,
    )
    most = 0
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while job.poll() is None and time.monotonic() < deadline:
            most = max(most, num_replicas(cluster))
            time.sleep(0.2)
        printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    finally:
        if job.poll() is None:
            kill_all(job)
    return job.returncode, printed, most


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(documents(ROWS), tmp_path / "in" / "a.parquet", row_group_size=500)
    return tmp_path / "in"


def test_work_begins_with_the_first_node_and_others_join(
    empty: Cluster, source: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Three replicas are asked for, and the third never comes: there are at most two nodes of the type."""
    assert workers(empty) == []
    asked = ("accelerator_type=A10G", "replicas=3", "min_replicas=1", "timeout_seconds=600")
    code, printed, most = run(empty, source, tmp_path / "out", checkpoint, *asked)
    assert code == 0, printed
    assert most == 2
    assert workers(empty) == ["a10g", "a10g"]
    assert read_result(tmp_path / "out")["id"].to_pylist() == list(range(ROWS))


def test_half_gpus_of_one_type_among_several(
    empty: Cluster, source: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Two replicas on the one GPU of a node of that type; no other type is started for them."""
    asked = (
        "num_gpus=0.5",
        "accelerator_type=H100",
        "replicas=2",
        "min_replicas=1",
        "timeout_seconds=600",
    )
    before = workers(empty)
    code, printed, most = run(empty, source, tmp_path / "out", checkpoint, *asked)
    assert code == 0, printed
    assert most == 2
    assert workers(empty) == sorted([*before, "h100"])
    assert read_result(tmp_path / "out")["id"].to_pylist() == list(range(ROWS))


def test_a_type_that_the_cluster_cannot_get(
    empty: Cluster, source: Path, checkpoint: Path, tmp_path: Path
) -> None:
    asked = ("accelerator_type=L4", "replicas=2", "min_replicas=1", "timeout_seconds=10")
    code, printed, _ = run(empty, source, tmp_path / "out", checkpoint, *asked)
    assert code == 2, printed
    assert re.search(r"asks for GPUs of the type L4; the cluster has", printed)
    assert not (tmp_path / "out" / "_SUCCESS").exists()
