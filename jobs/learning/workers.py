"""What runs on the cluster for `bertsum train`: a coordinator with Ray Train, and the workers."""

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
from jobs.learning.news import News

# How long a worker waits for the others, who may be reading or measuring.
_COLLECTIVE_SECONDS = 1800
_POLL_SECONDS = 0.3
_LOOPBACK = "127.0.0.1"
# Until all workers run, which takes long where a machine is busy; a string for the environment.
_START_SECONDS, _MAX_STARTS = "300", 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What the workers are to do."""

    config: TrainingConfig
    output_uri: str
    command: str
    shape: Shape


def run_workers(task: TrainingTask, show: Callable[[News], None]) -> None:
    """Run the workers to the end.

    `show` gets what they report, and what it raises ends them.
    Raises Ray's errors if they end before the run does.
    """
    actor: Any = ray.remote(Coordinator)  # whose options carry no types
    coordinator = actor.options(num_cpus=0, max_concurrency=4).remote(task)
    try:
        fit = coordinator.fit.remote()
        is_done = False
        while not is_done:
            is_done = bool(ray.wait([fit], timeout=_POLL_SECONDS)[0])
            for news in ray.get(coordinator.poll.remote()):
                show(news)
        ray.get(fit)
    finally:
        ray.kill(coordinator)  # and with it all workers, on a cluster that goes on without us


class Coordinator:
    """An actor that runs Ray Train and passes the workers' reports on to the driver.

    It runs on the cluster, so that a driver behind ray:// is as good as any.
    """

    def __init__(self, task: TrainingTask) -> None:
        self._task = task
        self._news: SimpleQueue[News] = SimpleQueue()
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
        # Ray Train keeps no checkpoint here: the run has its own.
        with tempfile.TemporaryDirectory() as directory:
            TorchTrainer(
                work,
                train_loop_config={
                    "task": self._task,
                    "coordinator": me,
                    "loopback_backend": backend if on_loopback else None,
                },
                scaling_config=ScalingConfig(
                    num_workers=shape.replicas,
                    use_gpu=shape.num_gpus > 0,
                    resources_per_worker=shape.bundle,
                ),
                torch_config=_NoGroup()
                if on_loopback
                else TorchConfig(backend=backend, timeout_s=_COLLECTIVE_SECONDS),
                run_config=RunConfig(
                    storage_path=directory,
                    failure_config=failures(
                        max_failures=self._task.config.max_worker_failures,
                        controller_failure_limit=_MAX_STARTS,
                    ),
                ),
            ).fit()

    def count_start(self) -> None:
        """Tell the driver if it is a restart.

        The first worker calls this each time that Ray Train starts them all.
        """
        if self._starts:
            most = self._task.config.max_worker_failures
            self.send(
                {
                    "message": "a worker has died; all start again "
                    f"({self._starts} of at most {most} times)"
                }
            )
        self._starts += 1

    def send(self, news: News) -> None:
        """Keep a report of a worker for the driver."""
        self._news.put(news)

    def poll(self) -> list[News]:
        """Return what workers have sent since the driver's last call."""
        return [self._news.get() for _ in range(self._news.qsize())]


def work(arguments: dict[str, Any]) -> None:
    """Do a whole run as one of the workers.

    `arguments`: `train_loop_config` of the trainer, see `Coordinator.fit`.
    """
    task, coordinator = arguments["task"], arguments["coordinator"]
    torch.set_num_threads(task.shape.num_threads)

    def send(news: News) -> None:
        coordinator.send.remote(news)

    try:
        if ray.train.get_context().get_world_rank() == 0:
            ray.get(coordinator.count_start.remote())
        if arguments["loopback_backend"]:
            _meet_on_loopback(arguments["loopback_backend"])
        run(task.config, Folder(task.output_uri), get_device(), task.command, send)
    except (BertsumError, FloatingPointError) as error:
        # The same would happen again: the driver ends the run before Ray Train repeats it.
        sent = error if isinstance(error, BertsumError) else ConfigError(str(error))
        ray.get(coordinator.send.remote({"error": sent}))
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


class _NoGroup(TorchConfig):
    """Makes Ray Train leave it to the workers to find each other."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def _meet_on_loopback(backend: str) -> None:
    """Make the process group over the loopback interface only.

    Ray Train's TorchConfig has the first worker listen on all interfaces of the machine.
    """
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = (
        "lo" if sys.platform == "linux" else "lo0"
    )
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    # The first worker takes a free port, which the others learn from it before they connect.
    listener = socket.create_server((_LOOPBACK, 0)) if rank == 0 else None
    port = broadcast_from_rank_zero(listener.getsockname()[1] if listener else 0)
    timeout = timedelta(seconds=_COLLECTIVE_SECONDS)
    store: Any = torch.distributed.TCPStore(  # type: ignore[attr-defined]  # public, and documented
        _LOOPBACK,
        port,
        size,
        rank == 0,
        timeout,
        master_listen_fd=listener.detach() if listener else None,
    )
    torch.distributed.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timeout
    )
