"""Start or join Ray, and check that it has what the job asks for. Each wait has a limit."""

import errno
import logging
import math
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import ray
from ray.exceptions import AuthenticationError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bertsum.errors import BertsumError, ResourceError, UnavailableError
from bertsum.inference.gpu_sharing import processes_per_gpu
from bertsum.job_config import ResourcesConfig
from bertsum.storage.folder import describe, mask
from jobs.engine.ray_workarounds import (
    CodePathConfig,
    keep_sigterm_handler,
    listen_on_loopback,
    local_token,
    quieten,
    shut_down,
    silent_stderr,
    start_in_time,
    start_seconds,
    temp_dir,
)
from jobs.engine.remote_errors import last_words

_MAX_DEFAULT_CPUS = 4  # measured in the field: about as many cores as one GPU's tokenizing needs
_MAX_STORE_BYTES = 256 * 2**20  # reports go through it, and of two pools the rows between them
_MIN_STORE_BYTES = 80 * 2**20  # Ray refuses less than 75 MiB
_CONNECT_SECONDS = 5.0
_JOIN_ATTEMPTS = 3
_MOST_PORT = 65535
_TYPE_PREFIX = "accelerator_type:"  # of a resource that Ray gives to nodes with this type of GPU
# Of a start that fails for a reason which another try does not mend.
_PERMANENT_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Node:
    """What a node of the cluster has in total, in use or not."""

    num_cpus: float
    num_gpus: float
    accelerator_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shape:
    """A number of replicas, and what each of them takes of one node.

    - `num_gpus`: may be a fraction, where replicas share a GPU.
    - `accelerator_type`: the type of GPU, if the job names one.
    """

    replicas: int
    num_cpus: float
    num_gpus: float
    accelerator_type: str | None = None

    @property
    def num_threads(self) -> int:
        return max(1, int(self.num_cpus))

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of one replica, by Ray's names."""
        bundle = {"CPU": self.num_cpus}
        if self.num_gpus:
            bundle["GPU"] = self.num_gpus
        if self.accelerator_type:
            # a node has 1.0 of it: so little that every replica on the node gets some
            bundle[f"{_TYPE_PREFIX}{self.accelerator_type}"] = 0.001
        return bundle


class _Quiet(TypedDict):
    log_to_driver: bool
    logging_level: int
    configure_logging: bool


_QUIET = _Quiet(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)


@contextmanager
def connected(address: str, num_cpus: int | None = None) -> Iterator[None]:
    """Connect this process to Ray for the duration of a run.

    A process that has Ray already (a notebook) keeps it.

    - `address`: `local` starts a Ray that ends with this process; any other is joined.
    - `num_cpus`: of a local Ray; None: all of the machine.

    Raises ResourceError where address or machine are wrong, and UnavailableError where another try
    may succeed.
    """
    if ray.is_initialized():
        yield
        return
    quieten()
    is_local = address == "local"
    listen_on_loopback(only=is_local)
    with local_token() if is_local else nullcontext():
        try:
            if is_local:
                _start(num_cpus)
            else:
                _join(address)
            yield
        finally:
            shut_down()


def _start(num_cpus: int | None) -> None:
    directory = temp_dir()
    # Ray would take 30 % of the memory for its object store, and write to disk where shared memory
    # is small (containers)
    store_bytes, shared_memory = _MIN_STORE_BYTES, "/dev/shm"
    if os.path.isdir(shared_memory):  # noqa: PTH112 - a string
        free = shutil.disk_usage(shared_memory).free
        store_bytes = max(_MIN_STORE_BYTES, min(_MAX_STORE_BYTES, free // 2))
    try:
        with silent_stderr(), start_in_time(start_seconds()):
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=store_bytes,
                job_config=CodePathConfig(),
                _temp_dir=directory,
                **_QUIET,
            )
    except BertsumError:
        raise
    # Ray raises a bare Exception, too, for instance when a node does not start in time
    except Exception as error:
        is_permanent = isinstance(error, OSError) and error.errno in _PERMANENT_ERRORS
        advice = "" if is_permanent else ". The same command may succeed at another try"
        kind = ResourceError if is_permanent else UnavailableError
        raise kind(f"Ray did not start on this machine: {_reason(error)}{advice}") from error


def _join(address: str) -> None:
    _check_reachable(address)
    # a driver behind ray:// has its path from the process on the cluster that stands in for it
    # (typed Any: the annotation of `ray.init` forbids None, which is its default)
    job_config: Any = None if address.startswith("ray://") else CodePathConfig()
    for attempt in range(1, _JOIN_ATTEMPTS + 1):
        try:
            with silent_stderr(), keep_sigterm_handler():
                ray.init(address=address, job_config=job_config, **_QUIET)
            return
        except ConnectionAbortedError as error:
            # the head gives the process that stands in for this driver 30 s to start, which a busy
            # one may need
            reason = last_words(str(error))
            message = f"the Ray at --address {mask(address)} did not take this driver in: {reason}"
            if attempt == _JOIN_ATTEMPTS:
                tries = f"{_JOIN_ATTEMPTS} times"
                raise UnavailableError(f"{message} ({tries}; it may be too busy)") from error
            print(f"{message}; trying again", file=sys.stderr, flush=True)
        except Exception as error:
            is_wrong = isinstance(error, AuthenticationError | ValueError)
            kind = ResourceError if is_wrong else UnavailableError
            raise kind(
                f"no Ray at --address {mask(address)}: {_reason(error)}. If the cluster wants a "
                "token, set RAY_AUTH_MODE=token and have it in RAY_AUTH_TOKEN or ~/.ray/auth_token"
            ) from error


def _reason(error: Exception) -> str:
    cause = f" ({describe(error.__cause__)})" if error.__cause__ else ""
    return describe(error).rstrip(".") + cause


def reserve(
    resources: ResourcesConfig,
    num_units: int,
    can_grow: bool,
    token_operations: float | None = None,
    *,
    first: Shape | None = None,
) -> Shape:
    """Return the shape of the run, once the cluster has room for the replicas to begin with.

    - `num_units`: there are never more replicas than units.
    - `can_grow`: whether nodes may join, or others may let go of resources.
    - `token_operations`: see `share_gpus`.
    - `first`: the pool of replicas that works beside these, and needs room, too.

    Raises ResourceError after `timeout_seconds`, or at once where the cluster cannot grow. It is
    UnavailableError where its nodes would do if they were free, or if there were more of them.
    """
    resources = share_gpus(resources, _nodes(), num_units, token_operations)
    if can_grow:
        _wait_for_room(resources, num_units, first)
    nodes = beside(first, _nodes())
    shape = fit(resources, nodes, num_units)
    if shape is None:
        # where a replica fits on some node, or no worker has joined yet, more nodes would do
        least = _least_shape(resources, nodes)
        workers = [node for node in nodes if node.num_cpus]
        lacks_only_nodes = not workers or any(_capacity(node, least) for node in workers)
        kind = UnavailableError if can_grow and lacks_only_nodes else ResourceError
        raise kind(_describe_missing(resources, nodes, first))
    return shape


def reserve_two(
    first: ResourcesConfig,
    second: ResourcesConfig,
    num_units: int,
    can_grow: bool,
    token_operations: float | None,
) -> tuple[Shape, Shape]:
    """Return the shapes of two pools that are at work at once; see `reserve`.

    Where the job does not say otherwise, the first pool, which is the faster one, has one replica
    and at most half of a node, and the second pool all that is left.
    """
    nodes = _nodes()
    halves = []
    for node in nodes:
        # a node of one CPU cannot be shared
        num_cpus = min(node.num_cpus, max(1.0, node.num_cpus / 2))
        halves.append(replace(node, num_cpus=num_cpus, num_gpus=node.num_gpus / 2))
    first = share_gpus(first, nodes, num_units, token_operations)
    default = _least_shape(first, halves)
    chosen = {
        "replicas": first.replicas or 1,
        "num_cpus": default.num_cpus,
        "num_gpus": default.num_gpus,
    }
    shape = reserve(first.model_copy(update=chosen), num_units, can_grow)
    return shape, reserve(second, num_units, can_grow, first=shape)


def beside(first: Shape | None, nodes: Sequence[Node]) -> list[Node]:
    """Return what of these nodes is left for a second pool when Ray has placed the first.

    Ray chooses the nodes, so the worst is assumed: the first pool is where the second fits best.
    """
    left = list(nodes)
    if first is None:
        return left
    for _ in range(first.replicas):
        left.sort(key=lambda node: (node.num_gpus, node.num_cpus), reverse=True)
        index = next((i for i, node in enumerate(left) if _capacity(node, first)), None)
        if index is None:
            break  # the others of them start when nodes join
        node = left[index]
        num_cpus, num_gpus = node.num_cpus - first.num_cpus, node.num_gpus - first.num_gpus
        left[index] = replace(node, num_cpus=num_cpus, num_gpus=round(num_gpus, 4))
    return left


def share_gpus(
    resources: ResourcesConfig,
    nodes: Sequence[Node],
    num_units: int,
    token_operations: float | None,
) -> ResourcesConfig:
    """Set `num_gpus` to a part of a GPU, if one replica cannot feed the GPUs of these nodes.

    Nothing changes where the job names its replicas or their GPUs: Ray fills one GPU after the
    other, so that few replicas would leave GPUs without work. So there are never more on a GPU than
    its part of the units. The GPU that fewest replicas keep busy decides for all.

    `token_operations`: of the encoder; None where each replica is to have a GPU of its own.
    """
    if token_operations is None or not (resources.num_gpus is resources.replicas is None):
        return resources
    counts = []
    num_gpus = 0.0
    for node in nodes:
        asked = resources.accelerator_type
        if node.num_gpus < 1 or (asked and asked not in node.accelerator_types):
            continue
        num_gpus += node.num_gpus
        num_processes = node.num_cpus / node.num_gpus / (resources.num_cpus or 1)
        # a node whose type of GPU is not known counts as slow
        types = {asked} if asked else node.accelerator_types or {""}
        counts += [processes_per_gpu(kind, num_processes, token_operations) for kind in types]
    count = min(counts, default=1)
    if num_gpus:
        count = min(count, math.ceil(num_units / num_gpus))
    if count <= 1:
        return resources
    # Ray counts in ten-thousandths: six times 0.1667 would be more than a GPU
    return resources.model_copy(update={"num_gpus": math.floor(10_000 / count) / 10_000})


def fit(resources: ResourcesConfig, nodes: Sequence[Node], num_units: int) -> Shape | None:
    """Return the replicas that these nodes hold, or None if they hold fewer than work begins with.

    A replica needs all its resources on one node.
    """
    shape = _least_shape(resources, nodes)
    capacity = sum(_capacity(node, shape) for node in nodes)
    if capacity < shape.replicas:
        return None
    # a number that is asked for may exceed today's capacity: the others start when nodes join
    return replace(shape, replicas=min(resources.replicas or capacity, max(num_units, 1)))


def _least_shape(resources: ResourcesConfig, nodes: Sequence[Node]) -> Shape:
    """Return the replicas without which work does not begin, with defaults chosen by the nodes."""
    num_gpus = resources.num_gpus
    if num_gpus is None:
        # less than one where the other of two pools has a part of it
        most = max((node.num_gpus for node in nodes), default=0.0)
        num_gpus = 1.0 if resources.accelerator_type else min(1.0, most)
    num_cpus = resources.num_cpus
    if num_cpus is None:
        num_cpus = _default_cpus(nodes, num_gpus, resources.accelerator_type)
    return Shape(
        replicas=resources.min_replicas or resources.replicas or 1,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        accelerator_type=resources.accelerator_type,
    )


def _default_cpus(nodes: Sequence[Node], num_gpus: float, accelerator_type: str | None) -> float:
    """Return the CPUs of a replica that fit on every node which can hold one, at most 4.

    The cores of a node are shared among as many replicas as its GPUs hold. For example, with one
    GPU a replica, 32 cores beside 4 GPUs are 8 for each, and 2 cores beside 1 GPU are 2: the
    default is then 2.
    """
    with_cpus = []
    for node in nodes:
        has_type = not accelerator_type or accelerator_type in node.accelerator_types
        if node.num_cpus >= 1 and has_type:
            with_cpus.append(node)
    # if no node has the GPUs, the job is refused, and the message names CPUs that would do
    able = [node for node in with_cpus if node.num_gpus >= num_gpus] or with_cpus
    num_cpus = float(_MAX_DEFAULT_CPUS)
    for node in able:
        replicas = max(1, int(node.num_gpus / num_gpus)) if num_gpus else 1
        num_cpus = min(num_cpus, float(int(node.num_cpus / replicas)))
    return max(1.0, num_cpus)


def _capacity(node: Node, shape: Shape) -> int:
    """Return how many replicas the node holds."""
    if shape.accelerator_type and shape.accelerator_type not in node.accelerator_types:
        return 0
    # 1e-9: 0.3 / 0.1 is 2.9999999999999996 in floating point, and means 3 replicas
    capacity = int(node.num_cpus / shape.num_cpus + 1e-9)
    if shape.num_gpus:
        capacity = min(capacity, int(node.num_gpus / shape.num_gpus + 1e-9))
    return capacity


def _nodes() -> list[Node]:
    state: Any = ray  # `ray.nodes` and `ray.available_resources` carry no types
    nodes = []
    for entry in state.nodes():
        if not entry["Alive"]:
            continue
        resources: Mapping[str, float] = entry["Resources"]
        types = [name for name in resources if name.startswith(_TYPE_PREFIX)]
        node = Node(
            num_cpus=resources.get("CPU", 0.0),
            num_gpus=resources.get("GPU", 0.0),
            accelerator_types=frozenset(name.removeprefix(_TYPE_PREFIX) for name in types),
        )
        nodes.append(node)
    return nodes


def _describe_missing(
    resources: ResourcesConfig, nodes: Sequence[Node], first: Shape | None
) -> str:
    """Say what the job asks for, what the cluster has, and which options would make it fit.

    - `nodes`: what is left of them beside the first pool.
    """
    shape = _least_shape(resources, nodes)
    # a type that no node has: numbers of CPUs and GPUs would lead the reader astray
    types = sorted(set().union(*(node.accelerator_types for node in nodes)))
    if shape.accelerator_type and shape.accelerator_type not in types:
        return (
            f"the job asks for GPUs of the type {shape.accelerator_type}; the cluster has "
            f"{', '.join(types) or 'none'} ({len(nodes)} node(s)). Choose one of these with --set "
            "resources.accelerator_type=..., or wait longer for nodes with --set "
            "resources.timeout_seconds=..."
        )
    # the node that comes closest to holding a replica
    largest = max(nodes, key=lambda node: (node.num_gpus, node.num_cpus), default=Node(0, 0))
    asked = f"{shape.replicas} replica(s) with {_amounts(shape)} each"
    if first is not None:
        replicas, of_first = f"{first.replicas} replica(s)", _amounts(first)
        return (
            f"the second pool (--then) asks for {asked}, beside {replicas} with {of_first} each of "
            f"the first; when these are placed, the largest of {len(nodes)} node(s) has "
            f"{largest.num_cpus:g} CPUs and {largest.num_gpus:g} GPUs left. Ask for less with "
            "resources.num_cpus, resources.num_gpus and resources.replicas: of the first pool by "
            "--set, of the second in the file of --then"
        )
    total = Node(sum(node.num_cpus for node in nodes), sum(node.num_gpus for node in nodes))
    available = (
        f"{len(nodes)} node(s) with {_amounts(total)}; the largest has {largest.num_cpus:g} CPUs, "
        f"{largest.num_gpus:g} GPUs, and a replica must fit on one node"
    )
    advice = []
    if shape.num_gpus > largest.num_gpus:
        advice.append(f"--set resources.num_gpus={largest.num_gpus:g}")
    if shape.num_cpus > largest.num_cpus:
        advice.append(f"--set resources.num_cpus={largest.num_cpus:g}")
    options = " ".join(advice) or "--set resources.replicas=1"
    return f"the job asks for {asked}; the cluster has {available}. Ask for less with {options}"


def _amounts(of: Node | Shape) -> str:
    return f"{of.num_cpus:g} CPUs and {of.num_gpus:g} GPUs"


def _wait_for_room(resources: ResourcesConfig, num_units: int, first: Shape | None) -> None:
    """Reserve the replicas to begin with for a moment, within `timeout_seconds`.

    `first`: see `reserve`.

    The totals of the nodes say nothing on a cluster that others use. And an autoscaler gets nodes
    for what waits for room, and only for as long as it waits.

    Raises UnavailableError where the nodes would do but are in use. Where they would not do,
    `reserve` says why.
    """
    shape = _least_shape(resources, beside(first, _nodes()))
    bundles = [shape.bundle] * shape.replicas
    if first is not None:
        bundles += [first.bundle] * first.replicas
    # PACK fills nodes one after the other, so that few are left half empty
    group = placement_group(bundles, strategy="PACK")
    try:
        is_there = group.wait(resources.timeout_seconds)
        if is_there or fit(resources, beside(first, _nodes()), num_units) is None:
            return
        state: Any = ray
        free = state.available_resources()
        raise UnavailableError(
            f"no room for {shape.replicas} replica(s) with {_amounts(shape)} within "
            f"{resources.timeout_seconds:g} s: of the whole cluster {free.get('CPU', 0):g} CPUs "
            f"and {free.get('GPU', 0):g} GPUs are free, the others are in use. Wait for them "
            "(--set resources.timeout_seconds=...), or ask for less (--set resources.replicas=1, "
            "resources.num_cpus=1)"
        )
    finally:
        remove_placement_group(group)


class DriverNodeOptions(TypedDict):
    """Options of an actor on the driver's node, without a CPU."""

    num_cpus: int
    scheduling_strategy: NodeAffinitySchedulingStrategy


def beside_the_driver() -> DriverNodeOptions:
    """Return options of an actor that helps the driver.

    It is on the driver's node, which does not go away before the driver does. It has no CPU of its
    own, since replicas may have taken them all. The affinity is not soft: Ray 2.60 ignores a soft
    one to a node without CPUs, as a head should be.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return {"num_cpus": 0, "scheduling_strategy": here}


def _check_reachable(address: str) -> None:
    """Raise ResourceError or UnavailableError where nobody listens: Ray would retry for minutes."""
    # `auto` and the like have no port, and are left to Ray
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    if int(port) > _MOST_PORT:
        raise ResourceError(f"--address {mask(address)}: a port is at most {_MOST_PORT}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        # a name that does not exist is a wrong address; a head or name server that is down may
        # come back
        is_wrong = isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
        kind = ResourceError if is_wrong else UnavailableError
        raise kind(f"no Ray at --address {mask(address)}: {describe(error)}") from error
