"""Start or find Ray, and see to it that what the job asks for is there. Nothing here waits without a limit."""

import logging
import os
import shutil
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray._private.auto_init_hook
import ray._private.utils
from ray._private import ray_constants
from ray.exceptions import AuthenticationError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bertsum.config import ResourcesConfig
from bertsum.errors import BertsumError, ResourceError, UnavailableError
from bertsum.storage.folder import describe, mask
from jobs.engine.ray_start import (
    WRONG_MACHINE,
    OwnCode,
    local_token,
    own_sigterm,
    start_in_time,
    start_seconds,
    temp_dir,
)

_MAX_DEFAULT_CPUS = 4  # measured in the field: about as many cores as one GPU's tokenizing needs
_MAX_STORE_BYTES = 256 * 2**20  # only reports go through the object store
_MIN_STORE_BYTES = 80 * 2**20  # Ray refuses less than 75 MiB
_CONNECT_SECONDS = 5.0
_MOST_PORT = 65535
_TYPE = "accelerator_type:"


@dataclass(frozen=True, slots=True)
class Node:
    """What a node has in total."""

    num_cpus: float
    num_gpus: float
    accelerator_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shape:
    """So many replicas, each with so many CPUs and GPUs of one node, of one type of GPU if it is named."""

    replicas: int
    num_cpus: float
    num_gpus: float
    accelerator_type: str | None = None

    @property
    def num_threads(self) -> int:
        return max(1, int(self.num_cpus))

    @property
    def bundle(self) -> dict[str, float]:
        """What one replica takes, by Ray's names."""
        gpus = {"GPU": self.num_gpus} if self.num_gpus else {}
        kind = {f"{_TYPE}{self.accelerator_type}": 0.001} if self.accelerator_type else {}
        return {"CPU": self.num_cpus} | gpus | kind


@contextmanager
def connected(address: str, num_cpus: int | None = None) -> Iterator[None]:
    """Ray for the duration of a run: `local` starts one that ends with this process, others are joined.

    A process that has Ray already (a notebook) keeps it. `num_cpus`: of a local Ray; default: all of the machine.
    """
    if ray.is_initialized():
        yield
        return
    _quieten()
    is_local = address == "local"
    # Ray listens on the machine's own address otherwise, for whoever reaches it; its name for this speaks of Windows
    # and macOS, where it is the default
    ray_constants.ENABLE_RAY_CLUSTER = not is_local
    with local_token() if is_local else nullcontext():
        try:
            _start(num_cpus) if is_local else _join(address)
            yield
        finally:
            with _uninterrupted():
                ray.shutdown()


_QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}


def _start(num_cpus: int | None) -> None:
    """Start a Ray on this machine. Raises ResourceError where the machine does not allow it, else UnavailableError."""
    directory = temp_dir()
    try:
        with _silent_stderr(), start_in_time(start_seconds()):
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=_store_bytes(),
                job_config=OwnCode(),
                _temp_dir=directory,
                **_QUIET,
            )
    except BertsumError:
        raise
    except Exception as error:  # Ray raises a bare Exception, too, for instance when a node does not start in time
        is_wrong = isinstance(error, OSError) and error.errno in WRONG_MACHINE
        advice = "" if is_wrong else ". The same command may succeed at another try"
        kind = ResourceError if is_wrong else UnavailableError
        raise kind(f"Ray did not start on this machine: {_reason(error)}{advice}") from error


def _join(address: str) -> None:
    """Join the Ray at `address`. Raises ResourceError where the address is wrong, else UnavailableError."""
    _check_reachable(address)
    # a driver behind ray:// has its path from the process on the cluster that stands in for it
    job_config: Any = None if address.startswith("ray://") else OwnCode()
    try:
        with _silent_stderr(), own_sigterm():
            ray.init(address=address, job_config=job_config, **_QUIET)
    except Exception as error:
        kind = ResourceError if isinstance(error, AuthenticationError | ValueError) else UnavailableError
        raise kind(
            f"no Ray at --address {mask(address)}: {_reason(error)}. If the cluster wants a token, set "
            "RAY_AUTH_MODE=token and have it in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error


def _reason(error: Exception) -> str:
    cause = f" ({describe(error.__cause__)})" if error.__cause__ else ""
    return describe(error).rstrip(".") + cause


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ray's end, which takes a second or two, not be broken off by another Ctrl-C: its processes would stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def reserve(resources: ResourcesConfig, num_units: int, can_grow: bool) -> Shape:
    """The shape of the run, after making sure that the cluster can place what must be there at the beginning.

    Raises ResourceError after `timeout_seconds`, or at once where the cluster is ours alone and cannot grow; it is
    UnavailableError where the nodes that are there could serve the job, if they were free, or more of them.
    """
    if can_grow:
        _wait_for_room(resources, num_units)
    nodes = _nodes()
    shape = fit(resources, nodes, num_units)
    if shape is None:
        kind = UnavailableError if can_grow and _lacks_only_nodes(resources, nodes) else ResourceError
        raise kind(_what_is_missing(resources, nodes))
    return shape


def _lacks_only_nodes(resources: ResourcesConfig, nodes: Sequence[Node]) -> bool:
    """Whether a replica fits on a node that is there, or no worker has joined yet: then more may come."""
    shape = _wanted(resources, nodes)
    workers = [node for node in nodes if node.num_cpus]
    return not workers or any(_replicas_on(node, shape) for node in workers)


def fit(resources: ResourcesConfig, nodes: Sequence[Node], num_units: int) -> Shape | None:
    """The replicas that these nodes hold, or None when they do not hold what is asked. A replica needs one node."""
    shape = _wanted(resources, nodes)
    places = sum(_replicas_on(node, shape) for node in nodes)
    if places < _least(resources):
        return None
    return replace(shape, replicas=min(resources.replicas or places, max(num_units, 1)))


def _least(resources: ResourcesConfig) -> int:
    """Replicas without which work does not begin."""
    return resources.min_replicas or resources.replicas or 1


def _wanted(resources: ResourcesConfig, nodes: Sequence[Node]) -> Shape:
    """What is asked of a cluster with these nodes; `replicas` are those without which work does not begin."""
    num_gpus = resources.num_gpus
    if num_gpus is None:
        num_gpus = 1.0 if resources.accelerator_type or any(node.num_gpus >= 1 for node in nodes) else 0.0
    num_cpus = resources.num_cpus
    if num_cpus is None:
        kind = resources.accelerator_type
        with_cpus = [node for node in nodes if node.num_cpus >= 1 and (not kind or kind in node.accelerator_types)]
        able = [node for node in with_cpus if node.num_gpus >= num_gpus] or with_cpus
        cores = [_cores_for_one(node, num_gpus) for node in able]
        num_cpus = max(1.0, min([*cores, _MAX_DEFAULT_CPUS]))
    return Shape(_least(resources), num_cpus, num_gpus, resources.accelerator_type)


def _cores_for_one(node: Node, num_gpus: float) -> float:
    """All cores of a node, shared among as many replicas as its GPUs hold."""
    replicas = max(1, int(node.num_gpus / num_gpus)) if num_gpus else 1
    return float(int(node.num_cpus / replicas))


def _replicas_on(node: Node, shape: Shape) -> int:
    if shape.accelerator_type and shape.accelerator_type not in node.accelerator_types:
        return 0
    by_cpu = int(node.num_cpus / shape.num_cpus + 1e-9)
    return min(by_cpu, int(node.num_gpus / shape.num_gpus + 1e-9)) if shape.num_gpus else by_cpu


def _nodes() -> list[Node]:
    state: Any = ray  # `ray.nodes` and `ray.available_resources` carry no types
    found = [node["Resources"] for node in state.nodes() if node["Alive"]]
    return [Node(node.get("CPU", 0.0), node.get("GPU", 0.0), _types(node)) for node in found]


def _types(node: Mapping[str, float]) -> frozenset[str]:
    return frozenset(name.removeprefix(_TYPE) for name in node if name.startswith(_TYPE))


def _what_is_missing(resources: ResourcesConfig, nodes: Sequence[Node]) -> str:
    shape = _wanted(resources, nodes)
    types = sorted(set().union(*(node.accelerator_types for node in nodes)))
    if shape.accelerator_type and shape.accelerator_type not in types:
        return (
            f"the job asks for GPUs of the type {shape.accelerator_type}; the cluster has {', '.join(types) or 'none'}"
            f" ({len(nodes)} node(s)). Choose one of these with --set resources.accelerator_type=..., or wait longer "
            "for nodes with --set resources.timeout_seconds=..."
        )
    largest = max(nodes, key=lambda node: (node.num_gpus, node.num_cpus), default=Node(0, 0))
    asked = f"{shape.replicas} replica(s) with {shape.num_cpus:g} CPUs and {shape.num_gpus:g} GPUs each"
    has = (
        f"{len(nodes)} node(s) with {sum(node.num_cpus for node in nodes):g} CPUs and "
        f"{sum(node.num_gpus for node in nodes):g} GPUs; the largest has {largest.num_cpus:g} CPUs, "
        f"{largest.num_gpus:g} GPUs, and a replica must fit on one node"
    )
    less = {"num_gpus": f"{largest.num_gpus:g}", "num_cpus": f"{largest.num_cpus:g}"}
    too_much = [key for key, most in less.items() if getattr(shape, key) > float(most)]
    advice = " ".join(f"--set resources.{key}={less[key]}" for key in too_much) or "--set resources.replicas=1"
    return f"the job asks for {asked}; the cluster has {has}. Ask for less with {advice}"


def _wait_for_room(resources: ResourcesConfig, num_units: int) -> None:
    """Reserve for a moment what must be there: a total says nothing on a cluster that others use, and an autoscaler
    gets nodes for what waits for room, and only for so long as it waits.
    """
    shape = _wanted(resources, _nodes())
    group = placement_group([shape.bundle] * shape.replicas, strategy="PACK")
    try:
        if not group.wait(resources.timeout_seconds) and fit(resources, _nodes(), num_units) is not None:
            state: Any = ray
            free = state.available_resources()
            raise UnavailableError(
                f"no room for {shape.replicas} replica(s) with {shape.num_cpus:g} CPUs and {shape.num_gpus:g} GPUs "
                f"within {resources.timeout_seconds:g} s: of the whole cluster {free.get('CPU', 0):g} CPUs and "
                f"{free.get('GPU', 0):g} GPUs are free, the others are in use. Wait for them (--set "
                "resources.timeout_seconds=...), or ask for less (--set resources.replicas=1, resources.num_cpus=1)"
            )
    finally:
        remove_placement_group(group)


def beside_the_driver() -> dict[str, Any]:
    """Options of an actor that is the driver's helper: on its node, which does not go away before the driver does, and
    without a CPU of its own, since replicas may have taken them all.

    Not a soft affinity: Ray 2.60 takes no notice of one to a node without CPUs, as a head should be.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return {"num_cpus": 0, "scheduling_strategy": here}


def _store_bytes() -> int:
    """Ray would take 30 % of the memory; where shared memory is small (containers) it would then write to disk."""
    free = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else _MIN_STORE_BYTES  # noqa: PTH112
    return max(_MIN_STORE_BYTES, min(_MAX_STORE_BYTES, free // 2))


def _check_reachable(address: str) -> None:
    """Ray itself retries an address where nobody listens for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    if int(port) > _MOST_PORT:
        raise ResourceError(f"--address {mask(address)}: a port is at most {_MOST_PORT}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        # a name that does not exist is a wrong address; a head that is down, or a name server, may come back
        is_wrong = isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
        kind = ResourceError if is_wrong else UnavailableError
        raise kind(f"no Ray at --address {mask(address)}: {describe(error)}") from error


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray's C++ side announces there that it was told to be quiet; what goes wrong is an exception."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _quieten() -> None:
    """Ray's hints are for people who write Ray programs; ours would look for a mistake of theirs in them."""
    environment: Mapping[str, str] = {
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_BACKEND_LOG_LEVEL": "fatal",  # else C++ prints its own to our terminal
    }
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\.")
    # A thread that still works for the job when its Ray has ended must not start or join another one by the way.
    vars(ray._private.auto_init_hook)["enable_auto_connect"] = False
    # The raylet's long words about a dead worker, which no option turns off; the job says it in its own.
    vars(ray._private.worker)["_worker_logs_enabled"] = False
    # The entry point of a job, which dashboard and API show, is our command line with all that is in it.
    vars(ray._private.utils)["get_entrypoint_name"] = lambda: mask(" ".join(sys.orig_argv))
