"""An operator for Airflow: a job of bertsum on a Ray cluster, one day a task."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseOperator, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from bertsum.errors import BertsumError, ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from jobs.orchestrators.cluster_job import ClusterJob

_DAY = "{{ data_interval_start | ds }}"


class BertsumOperator(BaseOperator):
    """Send a job to a Ray job server, or find it there, and follow it to its end.

    A task that is tried again, after the death of its worker or of the scheduler, finds the
    submission that runs. The result of `nightly` is the task's XCom. Held results and a wrong
    command fail without another try.

    - `job`, `arguments`: as `bertsum submit` takes them; templates.
    - `day`: of `nightly`; a template, by default the start of the run's data interval.
    - `conn_id`: an HTTP connection with host and port of the job server, and Ray's token as
      password.
    - `env`: names of variables of the worker that go along.
    - `code`: `send` this installation of bertsum, or use that of the cluster's `image`.
    - `limit_seconds`: how long a try follows.
    - `lost_seconds`: how long a try waits for a job server that does not answer.
    - `stop_on_kill`: whether the end of the task (marked as failed, cleared, `execution_timeout`,
      or the worker's shutdown) ends the submission, too.
    """

    template_fields = ("job", "arguments", "day")

    def __init__(
        self,
        *,
        arguments: Sequence[str],
        job: str = "nightly",
        day: str = _DAY,
        conn_id: str = "bertsum_cluster",
        env: Sequence[str] = (),
        code: str = "send",
        limit_seconds: float = 86_400.0,
        lost_seconds: float = 600.0,
        stop_on_kill: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.job, self.arguments, self.day = job, arguments, day
        self.conn_id, self.env, self.code = conn_id, env, code
        self.limit_seconds, self.lost_seconds = limit_seconds, lost_seconds
        self.stop_on_kill = stop_on_kill
        self._running: ClusterJob | None = None

    def execute(self, context: "Context") -> dict[str, Any]:
        """Returns what `ClusterJob.run` returns."""
        self._running = self._cluster_job(context)
        try:
            return self._running.run(self._say)
        except BertsumError as error:
            failure = AirflowException if error.exit_code == 1 else AirflowFailException
            raise failure(str(error)) from error

    def on_kill(self) -> None:
        """Stop the submission."""
        if self._running is not None and self.stop_on_kill:
            # Nothing runs: it has ended, or was not sent yet.
            with suppress(ConfigError):
                self._running.stop(self._say)

    def _say(self, line: str) -> None:
        self.log.info("%s", line)

    def _cluster_job(self, context: "Context") -> "ClusterJob":
        # They import Ray: a scheduler parses the file of a DAG every few seconds.
        from jobs.orchestrators.cluster_job import ClusterJob
        from jobs.remote.submissions import Rules

        server = BaseHook.get_connection(self.conn_id)
        task = context["ti"]
        # Airflow raises max_tries when a person clears the task: that asks anew. A retry does not.
        cleared = task.max_tries - (self.retries or 0)
        asker = (task.dag_id, task.run_id, task.task_id, task.map_index, cleared)
        return ClusterJob(
            job=self.job,
            arguments=self.arguments,
            day=self.day if self.job == "nightly" else None,
            address=_address(server),
            token=server.password,
            env=self.env,
            rules=Rules(
                code=self.code,
                asked_by="airflow/" + "/".join(map(str, asker)),
                lost_seconds=self.lost_seconds,
                limit_seconds=self.limit_seconds,
            ),
        )


def _address(server: Connection) -> str:
    """URL of a connection's host, whose scheme stands before it or in the field `schema`."""
    host = server.host or "127.0.0.1"
    start = host if "://" in host else f"{server.schema or 'http'}://{host}"
    return f"{start}:{server.port or 8265}"
