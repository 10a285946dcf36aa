"""What the tests of Airflow and Dagster share: a Ray with a job server, and the programs of their page."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.job_helpers import kill_all
from helpers.ray_nodes import Cluster, free_port
from helpers.waiting import LIMIT_SECONDS, wait_until
from jobs.remote.job_server import JobServer

if TYPE_CHECKING:
    from dagster import DagsterInstance

PAGE = Path(__file__).parents[2] / "jobs/docs/orchestrators.md"
TOKEN = "a-token-of-forty-characters-for-schedulers"


@contextmanager
def job_server(num_cpus: int = 2) -> Iterator[Cluster]:
    """A Ray of its own, which wants a token."""
    # pytest's own directory has a name that is too long for Ray's sockets
    directory = Path(tempfile.mkdtemp(prefix="bertsum-ray-"))
    cluster = Cluster(directory, num_cpus=num_cpus, token=TOKEN)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory)


def submissions(cluster: Cluster) -> dict[str, str]:
    """The state of each submission, by its id."""
    jobs = JobServer(cluster.address, TOKEN).list_jobs()
    return {job.submission_id or "": str(job.status.value) for job in jobs}


def program(package: str, changes: Mapping[str, str]) -> str:
    """The program of the page that imports `package`, with other places in it."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    (text,) = [
        block for block in blocks if f"import {package}" in block or f"from {package}" in block
    ]
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def environment(**variables: str) -> dict[str, str]:
    """This process's, without its Ray and its schedulers, and with this checkout's code first."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "AIRFLOW_", "DAGSTER_"))
    }
    paths = {"PYTHONPATH": str(PAGE.parents[2]), "PYTHONUNBUFFERED": "1"}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"} | paths | variables


class Processes:
    """Processes of one scheduler, each with its log in `home`."""

    def __init__(self, home: Path, variables: Mapping[str, str]) -> None:
        self.home, self.environment = home, environment(**variables)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        home.mkdir(parents=True)

    def call(self, *command: object) -> str:
        """Run a command to its end; its output."""
        done = subprocess.run(
            list(map(str, command)), env=self.environment, cwd=self.home, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2 * LIMIT_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self, name: str, *command: object) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                list(map(str, command)), env=self.environment, cwd=self.home,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """SIGKILL to a process and all below it."""
        kill_all(self.running.pop(name))

    def stop(self) -> None:
        for name in list(self.running):
            self.kill(name)


class Airflow(Processes):
    """API server, DAG processor and scheduler, with SQLite and the LocalExecutor."""

    def __init__(self, home: Path, dag: str, cluster: Cluster) -> None:
        connection = {"conn_type": "http", "host": "127.0.0.1", "port": cluster.http_port}
        self._port = port = free_port()
        settings = {
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_FOLDER": str(home / "dags"),
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "API__PORT": str(port),
            "API_AUTH__JWT_SECRET": "a-secret-of-the-tests-of-forty-characters",
            "WORKERS__EXECUTION_API_TIMEOUT": "120",  # a busy machine
            # by default a new scheduler looks every five minutes for tasks of a dead one
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        }
        variables = {f"AIRFLOW__{name}": value for name, value in settings.items()}
        variables["AIRFLOW_HOME"] = str(home)
        variables["AIRFLOW_CONN_BERTSUM_CLUSTER"] = json.dumps(connection | {"password": TOKEN})
        super().__init__(home, variables)
        (home / "dags").mkdir()
        (home / "dags" / "summaries.py").write_text(dag)
        self.call("airflow", "db", "migrate")

    def start_all(self) -> None:
        self.start("api-server", "airflow", "api-server")
        address = ("127.0.0.1", self._port)
        with socket.socket() as knock:  # a task that finds no API server fails at once
            wait_until(lambda: knock.connect_ex(address) == 0, "the API server", every_seconds=0.5)
        for name in ("dag-processor", "scheduler"):
            self.start(name, "airflow", name)

    def tasks(self) -> dict[str, tuple[str | None, int]]:
        """State and number of the last try of each day's task, by day."""
        query = (
            "select date(d.data_interval_start), t.state, t.try_number from task_instance t "
            "join dag_run d on d.run_id = t.run_id and d.dag_id = t.dag_id"
        )
        # Airflow writes meanwhile
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=60)) as database:
            return {day: (state, number) for day, state, number in database.execute(query)}

    def log(self, attempt: int) -> str:
        """The lines of all tasks' logs of this try, in which each line is an object."""
        lines: list[str] = []
        for path in sorted(self.home.glob(f"logs/dag_id=summaries/**/attempt={attempt}.log")):
            for line in path.read_text(encoding="utf-8").splitlines():
                fields = json.loads(line)
                lines.append(f"{fields['timestamp']} {fields['level']} {fields['event']}")
        return "\n".join(lines)


class Dagster(Processes):
    """The daemon, which starts the code location and the runs, with SQLite."""

    _job = ("-f", "definitions.py", "-j", "nightly")

    def __init__(self, home: Path, definitions: str, cluster: Cluster) -> None:
        super().__init__(home, {"DAGSTER_HOME": str(home), "RAY_AUTH_TOKEN": TOKEN})
        settings = {
            "telemetry": {"enabled": False},
            "run_retries": {"enabled": True, "max_retries": 3},
            "concurrency": {"runs": {"max_concurrent_runs": 4}},
        }
        (home / "dagster.yaml").write_text(json.dumps(settings))
        (home / "definitions.py").write_text(definitions)
        self.call("dagster", "instance", "migrate")  # makes the tables, which two would at once

    def start_all(self) -> None:
        self.start("daemon", "dagster-daemon", "run", "-f", "definitions.py")

    def ask_for(self, day: str) -> None:
        """Ask for a run of the day's partition."""
        tags = json.dumps({"dagster/partition": day})
        self.call("dagster", "job", "launch", *self._job, "--tags", tags)

    def done(self) -> set[str]:
        """Days whose partition was materialized."""
        from dagster import AssetKey

        return set(self.instance.get_materialized_partitions(AssetKey("summaries")))

    @cached_property
    def instance(self) -> "DagsterInstance":
        from dagster import DagsterInstance

        return DagsterInstance.from_config(str(self.home))

    def log(self, run_id: str) -> str:
        """What a run says, line by line."""
        return "\n".join(
            f"{datetime.fromtimestamp(entry.timestamp, UTC):%H:%M:%S} {entry.message}"
            for entry in self.instance.all_logs(run_id)
        )
