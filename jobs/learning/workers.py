"""What runs on the cluster for `bertsum train`: the coordinator with Ray Train's trainer, and the workers."""

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.backend import Backend
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from bertsum.errors import BertsumError, ConfigError
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.run import run
from jobs.engine.cluster import Shape

_COLLECTIVE_SECONDS = 1800  # how long a worker waits for the others, who may be reading or measuring

_POLL_SECONDS = 0.3

_LOOPBACK = "127.0.0.1"

_START_SECONDS, _MAX_STARTS = "300", 3  # until all workers run, which takes long where a machine is busy


@dataclass(frozen=True, slots=True)
class Task:
    """What the workers are to do."""

    config: TrainingConfig
    output_uri: str
    command: str
    shape: Shape


def run_workers(task: Task, show: Callable[[dict[str, Any]], None]) -> None:
    """Run them to the end. `show` gets what they tell, and what it raises ends them.

    Raises Ray's errors where they ended before the run did.
    """
    actor: Any = ray.remote(Coordinator)  # whose options carry no types
    coordinator = actor.options(num_cpus=0, max_concurrency=4).remote(task)
    try:
        fit = coordinator.fit.remote()
        is_done = False
        while not is_done:
            is_done = bool(ray.wait([fit], timeout=_POLL_SECONDS)[0])
            for news in ray.get(coordinator.hear.remote()):
                show(news)
        ray.get(fit)
    finally:
        ray.kill(coordinator)  # and with it all workers, on a cluster that goes on without us


class Coordinator:
    """An actor on the cluster, so that a driver behind ray:// is as good as any; and the way of news to the driver."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._news: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._starts = 0

    def fit(self) -> None:
        """Run the workers to the end. Raises Ray Train's TrainingFailedError."""
        shape = self._task.shape
        failures: Any = FailureConfig  # its types are those of an older Ray Train
        node_address: Any = ray.util.get_node_ip_address  # which carries no types
        on_loopback = node_address() == _LOOPBACK  # a Ray that this command started: one machine
        backend = "cpu:gloo,cuda:nccl" if shape.num_gpus else "gloo"
        me = ray.get_runtime_context().current_actor
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", _START_SECONDS)
        with tempfile.TemporaryDirectory() as directory:  # Ray Train keeps no checkpoint here: the run has its own
            TorchTrainer(
                work,
                train_loop_config={
                    "task": self._task,
                    "coordinator": me,
                    "loopback_backend": backend if on_loopback else None,
                },
                scaling_config=ScalingConfig(
                    num_workers=shape.replicas, use_gpu=shape.num_gpus > 0, resources_per_worker=shape.bundle
                ),
                torch_config=_NoGroup() if on_loopback else TorchConfig(backend=backend, timeout_s=_COLLECTIVE_SECONDS),
                run_config=RunConfig(
                    storage_path=directory,
                    failure_config=failures(
                        max_failures=self._task.config.max_worker_failures, controller_failure_limit=_MAX_STARTS
                    ),
                ),
            ).fit()

    def begin(self) -> None:
        """Called by the first worker, each time that Ray Train has started them all."""
        if self._starts:
            most = self._task.config.max_worker_failures
            self.tell({"message": f"a worker has died; all start again ({self._starts} of at most {most} times)"})
        self._starts += 1

    def tell(self, news: dict[str, Any]) -> None:
        """Called by workers."""
        self._news.put(news)

    def hear(self) -> list[dict[str, Any]]:
        """Called by the driver: what came in since the last call."""
        return [self._news.get() for _ in range(self._news.qsize())]


def work(arguments: dict[str, Any]) -> None:
    """One worker: all of a run, together with the others."""
    task, coordinator = arguments["task"], arguments["coordinator"]
    torch.set_num_threads(task.shape.num_threads)

    def tell(news: dict[str, Any]) -> None:
        coordinator.tell.remote(news)

    try:
        if ray.train.get_context().get_world_rank() == 0:
            ray.get(coordinator.begin.remote())
        if arguments["loopback_backend"]:
            _meet_on_loopback(arguments["loopback_backend"])
        run(task.config, Folder(task.output_uri), get_device(), task.command, tell)
    except (BertsumError, FloatingPointError) as error:
        # the same would happen again: the driver is told, and ends the run before Ray Train repeats it
        told = error if isinstance(error, BertsumError) else ConfigError(str(error))
        ray.get(coordinator.tell.remote({"error": told}))
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


class _NoGroup(TorchConfig):
    """Leaves it to the workers to find each other."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def _meet_on_loopback(backend: str) -> None:
    """As Ray Train's TorchConfig, which has the first worker listen on all interfaces of the machine."""
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    listener = socket.create_server((_LOOPBACK, 0)) if rank == 0 else None
    port = broadcast_from_rank_zero(listener.getsockname()[1] if listener else 0)
    timeout = timedelta(seconds=_COLLECTIVE_SECONDS)
    store: Any = torch.distributed.TCPStore(  # type: ignore[attr-defined]  # public, and documented
        _LOOPBACK, port, size, rank == 0, timeout, master_listen_fd=listener.detach() if listener else None
    )
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
