"""Which replicas fit on which nodes, and that nothing waits for what will not come."""

import time

import pytest
import ray
from helpers.waiting import LIMIT_SECONDS
from pydantic import ValidationError

from bertsum.errors import ResourceError
from bertsum.inference.gpu_sharing import product_operations
from bertsum.job_config import ResourcesConfig
from jobs.engine.cluster import Node, Shape, connected, fit, reserve, share_gpus
from jobs.engine.monitor import Monitor

A10G, H100 = frozenset({"A10G"}), frozenset({"H100"})


@pytest.mark.parametrize(
    ("asked", "nodes", "units", "expected"),
    [
        ({}, [Node(2, 0)], 100, Shape(1, 2, 0)),
        ({}, [Node(16, 0)], 100, Shape(4, 4, 0)),
        ({}, [Node(16, 0), Node(3, 0)], 100, Shape(6, 3, 0)),
        ({}, [Node(16, 0)], 2, Shape(2, 4, 0)),
        ({}, [Node(8, 0), Node(32, 4)], 100, Shape(4, 4, 1)),
        ({}, [Node(4, 4)], 100, Shape(4, 1, 1)),
        ({"num_gpus": 0.5}, [Node(16, 2)], 100, Shape(4, 4, 0.5)),
        ({"num_gpus": 0}, [Node(16, 2)], 100, Shape(4, 4, 0)),
        ({"num_cpus": 1, "replicas": 3}, [Node(2, 0), Node(2, 0)], 100, Shape(3, 1, 0)),
        (
            {"num_cpus": 4},
            [Node(3, 0), Node(3, 0)],
            100,
            None,
        ),  # together they have it, but no node alone
        ({"num_gpus": 2}, [Node(8, 1), Node(8, 1)], 100, None),
        ({"replicas": 2}, [Node(2, 0), Node(0, 0)], 100, None),
        ({}, [], 100, None),
        (
            {"accelerator_type": "H100"},
            [Node(8, 1, A10G), Node(16, 4, H100), Node(32, 0)],
            100,
            Shape(4, 4, 1, "H100"),
        ),
        (
            {"accelerator_type": "H100", "num_gpus": 0.5},
            [Node(4, 1, H100)],
            100,
            Shape(2, 2, 0.5, "H100"),
        ),
        (
            {"accelerator_type": "H100", "replicas": 2},
            [Node(8, 1, A10G), Node(8, 1, H100)],
            100,
            None,
        ),
        ({"accelerator_type": "L4"}, [Node(8, 1, A10G), Node(8, 1, H100)], 100, None),
        ({"replicas": 8, "min_replicas": 2, "num_cpus": 1}, [Node(2, 0)], 100, Shape(8, 1, 0)),
        ({"replicas": 8, "min_replicas": 2, "num_cpus": 1}, [Node(2, 0)], 3, Shape(3, 1, 0)),
        ({"replicas": 8, "min_replicas": 3, "num_cpus": 1}, [Node(2, 0)], 100, None),
    ],
)
def test_fit(
    asked: dict[str, float], nodes: list[Node], units: int, expected: Shape | None
) -> None:
    assert fit(ResourcesConfig.model_validate(asked), nodes, units) == expected


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_is_in_use_is_an_error_after_the_timeout() -> None:
    holder = ray.remote(num_cpus=2)(Monitor).remote()
    ray.get(holder.snapshot.remote([]))
    start = time.monotonic()
    try:
        with pytest.raises(
            ResourceError, match=r"no room for 1 replica.* 0 CPUs and 0 GPUs are free"
        ):
            reserve(ResourcesConfig(timeout_seconds=2), 5, can_grow=True)
    finally:
        ray.kill(holder)
    assert time.monotonic() - start < 60
    assert reserve(ResourcesConfig(timeout_seconds=LIMIT_SECONDS), 5, can_grow=True) == Shape(
        1, 2, 0
    )


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_never_grows_is_an_error_after_the_timeout() -> None:
    start = time.monotonic()
    with pytest.raises(
        ResourceError, match=r"asks for 1 replica.* 1 GPUs each; the cluster has 1 node.*num_gpus=0"
    ):
        reserve(ResourcesConfig(num_gpus=1, timeout_seconds=2), 5, can_grow=True)
    assert 2 <= time.monotonic() - start < 60


@pytest.mark.usefixtures("cluster")
def test_a_type_of_gpu_that_the_cluster_lacks() -> None:
    asked = ResourcesConfig(accelerator_type="H100", timeout_seconds=1)
    with pytest.raises(
        ResourceError, match=r"GPUs of the type H100; the cluster has none \(1 node"
    ):
        reserve(asked, 5, can_grow=True)


@pytest.mark.usefixtures("cluster")
def test_work_begins_with_the_replicas_that_must_be_there() -> None:
    asked = {"replicas": 3, "num_cpus": 1, "timeout_seconds": 2}
    with pytest.raises(ResourceError, match="asks for 3 replica"):
        reserve(ResourcesConfig.model_validate(asked), 5, can_grow=True)
    assert reserve(
        ResourcesConfig.model_validate({**asked, "min_replicas": 1}), 5, can_grow=True
    ) == Shape(3, 1, 0)


@pytest.mark.parametrize("asked", [{"min_replicas": 1}, {"replicas": 2, "min_replicas": 3}])
def test_the_replicas_to_begin_with_are_a_part_of_all(asked: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="min_replicas must be at most replicas"):
        ResourcesConfig.model_validate(asked)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_listens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # the Ray of the other tests stays
    with (
        pytest.raises(
            ResourceError, match=r"no Ray at --address .*127\.0\.0\.1:1: Connection refused"
        ),
        connected(address),
    ):
        pytest.fail("connected")


MINILM = product_operations(384, 6, 1536)
BERT_BASE = product_operations(768, 12, 3072)
T4 = frozenset({"T4"})


@pytest.mark.parametrize(
    ("asked", "nodes", "operations", "num_gpus"),
    [
        ({}, [Node(16, 1, H100)], MINILM, 0.125),
        ({}, [Node(6, 1, H100)], MINILM, 0.1666),  # one a core
        ({"num_cpus": 2}, [Node(12, 1, H100)], MINILM, 0.1666),
        ({}, [Node(16, 1, H100)], BERT_BASE, 0.5),
        ({}, [Node(16, 1, T4)], MINILM, None),
        ({}, [Node(16, 1, H100), Node(16, 1, T4)], MINILM, None),  # the slowest decides
        ({"accelerator_type": "H100"}, [Node(16, 1, H100), Node(16, 1, T4)], MINILM, 0.125),
        ({}, [Node(16, 1, H100), Node(64, 0)], MINILM, 0.125),
        ({}, [Node(16, 1)], MINILM, None),  # of a type that Ray does not know
        ({}, [Node(16, 1, H100)], None, None),
        ({"replicas": 4}, [Node(16, 1, H100)], MINILM, None),
        ({"num_gpus": 1}, [Node(16, 1, H100)], MINILM, 1),
        ({}, [Node(16, 0)], MINILM, None),
        ({}, [], MINILM, None),
    ],
)
def test_replicas_share_a_gpu_that_one_cannot_feed(
    asked: dict[str, float], nodes: list[Node], operations: float | None, num_gpus: float | None
) -> None:
    """20 million operations a token at 445e12 a second are a tenth of what the host needs; 170 million, 0.8."""
    resources = share_gpus(ResourcesConfig.model_validate(asked), nodes, 1000, operations)
    assert resources.num_gpus == num_gpus


def test_all_replicas_of_a_shared_gpu_fit() -> None:
    """Three GPUs with six cores each hold 18 replicas of one core; one replica is not lost to rounding."""
    nodes = [Node(18, 3, H100)]
    shape = fit(share_gpus(ResourcesConfig(), nodes, 100, MINILM), nodes, 100)
    assert shape == Shape(18, 1, 0.1666)


@pytest.mark.parametrize(("num_units", "num_gpus"), [(1, None), (4, None), (5, 0.5), (12, 0.3333)])
def test_few_units_do_not_crowd_on_one_gpu(num_units: int, num_gpus: float | None) -> None:
    """Ray fills one GPU after the other: of four, three would have nothing to do."""
    nodes = [Node(32, 4, H100)]
    assert share_gpus(ResourcesConfig(), nodes, num_units, MINILM).num_gpus == num_gpus
