"""Ray clusters of real processes, as `ray start` makes them: own ports, own directory, ended by their own pids."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from helpers.job_helpers import descendants
from helpers.waiting import LIMIT_SECONDS


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_submit(*arguments: object, **variables: str) -> "subprocess.Popen[str]":
    """`bertsum submit` as a process of its own, without a Ray of this environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [sys.executable, "-m", "jobs.cli", "submit", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment | variables,
    )


class Node:
    """One `ray start --block` with all that it starts."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        token: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / f"node-{free_port()}.log"
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("RAY_")
        }
        environment["PATH"] = (
            f"{Path(sys.executable).parent}:{environment['PATH']}"  # `python` of the entry point
        )
        environment |= (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
            if token
            else {"RAY_AUTH_MODE": "disabled"}
        )
        # a busy machine: longer than Ray's 30 s. A stand-in of a driver that died as it started is waited for as long,
        # and the driver's next try must fit into a test's limit
        environment["RAY_raylet_start_wait_time_s"] = str(int(LIMIT_SECONDS))
        environment["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = str(int(LIMIT_SECONDS / 5))
        environment |= variables or {}
        # a raylet waits half a minute for its agents to tell their ports, unless it knows them; on a busy machine that
        # is too short
        names = (
            "dashboard-agent-listen",
            "dashboard-agent-grpc",
            "metrics-export",
            "runtime-env-agent",
        )
        ports = [f"--{name}-port={free_port()}" for name in names]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
                   "--min-worker-port=0", "--max-worker-port=0", *ports,
                   f"--object-store-memory={80 * 2**20}", *options]  # fmt: skip
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait_until_started(self) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while "Ray runtime started" not in self.log_path.read_text():
            assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < deadline, self.log_path.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to every process of the node at once: the machine went away."""
        for pid in [self.process.pid, *(pid for pid, _ in descendants(self.process.pid))]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(LIMIT_SECONDS)


class Cluster:
    """A head with a job server, and workers that join it."""

    def __init__(
        self,
        directory: Path,
        num_cpus: int,
        token: str | None = None,
        node_types: Mapping[str, Mapping[str, float]] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`node_types`: resources of nodes that come when work waits for them, at most two of each type.

        `variables`: of the environment of the head.
        """
        self.directory, self.token = directory, token
        self.port, self.http_port, self.client_port = free_port(), free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.http_port}"
        self.head_options, self.variables = [f"--num-cpus={num_cpus}"], dict(variables or {})
        if node_types is not None:
            self._scale(node_types)
        self.workers: list[Node] = []
        self.start_head()

    def start_head(self) -> None:
        """Also again, after a kill, at the same ports: it remembers nothing."""
        self.head = Node(
            self.directory, "--head", f"--port={self.port}", f"--dashboard-port={self.http_port}",
            f"--ray-client-server-port={self.client_port}", "--include-dashboard=true",
            f"--temp-dir={self.directory / 'ray'}", *self.head_options, token=self.token, variables=self.variables,
        )  # fmt: skip
        try:
            self.head.wait_until_started()
        except BaseException:
            self.stop()
            raise

    def _scale(self, node_types: Mapping[str, Mapping[str, float]]) -> None:
        """Ray's own autoscaler, with the provider whose machines are raylets on this one."""
        store = {"object_store_memory": 80 * 2**20}
        types = {
            name: {"resources": {**has, **store}, "node_config": {}, "max_workers": 2}
            for name, has in node_types.items()
        }
        head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        provider = {"type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True,
                    "disable_launch_config_check": True,
                    "gcs_address": f"{ray.util.get_node_ip_address()}:{self.port}"}  # fmt: skip
        commands = (
            "initialization",
            "setup",
            "head_setup",
            "worker_setup",
            "head_start_ray",
            "worker_start_ray",
        )
        config = {
            f"{name}_commands": [] for name in commands
        }  # nobody runs them, but all must be there
        config |= {"cluster_name": "test", "max_workers": 4, "idle_timeout_minutes": 5, "upscaling_speed": 1.0,
                   "provider": provider, "available_node_types": types | {"ray.head.default": head},
                   "head_node_type": "ray.head.default", "auth": {}, "file_mounts": {}, "docker": {},
                   "cluster_synced_files": [], "file_mounts_sync_continuously": False}  # fmt: skip
        path = self.directory / "scaling.json"
        path.write_text(json.dumps(config))
        self.head_options.append(f"--autoscaling-config={path}")
        self.variables = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        self.variables["RAY_OVERRIDE_NODE_ID_FOR_TESTING"] = FAKE_HEAD_NODE_ID

    def add(self, *options: str) -> Node:
        """A worker; it has joined when the head lists it, which the caller waits for."""
        self.workers.append(
            Node(self.directory, f"--address=127.0.0.1:{self.port}", *options, token=self.token)
        )
        return self.workers[-1]

    def stop(self) -> None:
        for node in [*self.workers, self.head]:
            node.kill()
