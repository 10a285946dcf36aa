"""Ray clusters of real processes, as `ray start` makes them: own ports, own directory, ended by their own pids."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from job_helpers import descendants

_START_SECONDS = 250


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_submit(*arguments: object, **variables: str) -> "subprocess.Popen[str]":
    """`bertsum submit` as a process of its own, without a Ray of this environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [sys.executable, "-m", "jobs.cli", "submit", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment | variables
    )


class Node:
    """One `ray start --block` with all that it starts."""

    def __init__(self, directory: Path, *options: str, token: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / f"node-{free_port()}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # `python` of the entry point
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
        environment["RAY_raylet_start_wait_time_s"] = "240"  # a busy machine
        # a raylet waits half a minute for its agents to tell their ports, unless it knows them; on a busy machine that
        # is too short
        names = ("dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export", "runtime-env-agent")
        ports = [f"--{name}-port={free_port()}" for name in names]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
                   "--min-worker-port=0", "--max-worker-port=0", *ports,
                   f"--object-store-memory={80 * 2**20}", *options]  # fmt: skip
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def wait_until_started(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
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
        self.process.wait(30)


class Cluster:
    """A head with a job server, and workers that join it."""

    def __init__(self, directory: Path, num_cpus: int, token: str | None = None) -> None:
        self.directory, self.token = directory, token
        self.port, self.http_port, self.client_port = free_port(), free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.http_port}"
        self.head_options = (f"--num-cpus={num_cpus}",)
        self.workers: list[Node] = []
        self.start_head()

    def start_head(self) -> None:
        """Also again, after a kill, at the same ports: it remembers nothing."""
        self.head = Node(
            self.directory, "--head", f"--port={self.port}", f"--dashboard-port={self.http_port}",
            f"--ray-client-server-port={self.client_port}", "--include-dashboard=true",
            f"--temp-dir={self.directory / 'ray'}", *self.head_options, token=self.token,
        )  # fmt: skip
        try:
            self.head.wait_until_started()
        except BaseException:
            self.stop()
            raise

    def add(self, *options: str) -> Node:
        """A worker; it has joined when the head lists it, which the caller waits for."""
        self.workers.append(Node(self.directory, f"--address=127.0.0.1:{self.port}", *options, token=self.token))
        return self.workers[-1]

    def stop(self) -> None:
        for node in [*self.workers, self.head]:
            node.kill()
