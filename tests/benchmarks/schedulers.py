"""Thirty days through a scheduler that is killed in the middle (jobs/docs/orchestrators.md)

PYTHONPATH=tests python tests/benchmarks/schedulers.py airflow|dagster DIRECTORY [--days 30]

A Ray with a job server; the program of the page with an INPUT of DIRECTORY; four runs at once. When
a third of the days is done, the scheduler and all its processes are killed and started again. Ends
with an error unless each day is done, by one submission, and no row was made twice.
"""

import argparse
import json
import sys
import time
from datetime import date, timedelta
from pathlib import Path

from helpers.job_helpers import documents, make_checkpoint, read_result, write
from helpers.orchestrators import TOKEN, Airflow, Dagster, job_server, program, submissions
from helpers.ray_nodes import Cluster

from jobs.remote.job_server import JobServer

FIRST, ROWS, ROWS_PER_UNIT = date(2026, 10, 1), 20, 5
AT_ONCE = 4
UNCHANGED = '["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]'


class InAirflow:
    """The DAG of the page; a run a day, which the scheduler makes by itself."""

    def __init__(self, home: Path, arguments: str, days: list[str], cluster: Cluster) -> None:
        changes = {
            '"s3://lake/news", "s3://lake/summaries"': arguments,
            UNCHANGED: '[], code="image"',
            "max_active_runs=1": f"max_active_runs={AT_ONCE}",
            "start_date=datetime(2026, 11, 1)": f"start_date=datetime.fromisoformat('{days[0]}'), "
            f"end_date=datetime.fromisoformat('{days[-1]}T03:00:00')",
            "retries=3": "retries=20",  # Airflow's own requests fail, too, on a busy machine
            "timedelta(minutes=5)": "timedelta(seconds=10)",
        }
        self._airflow = Airflow(home, program("airflow", changes), cluster)
        self._airflow.start_all()

    def green(self) -> set[str]:
        """Days that are done."""
        return {day for day, (state, _) in self._airflow.tasks().items() if state == "success"}

    def tries(self) -> int:
        """Of all days together."""
        return sum(number for _, number in self._airflow.tasks().values())

    def kill_and_start_again(self) -> None:
        self._airflow.kill("scheduler")
        self._airflow.start("scheduler", "airflow", "scheduler")

    def stop(self) -> None:
        self._airflow.stop()


class InDagster:
    """The asset of the page; a backfill asks for all days."""

    def __init__(self, home: Path, arguments: str, days: list[str], cluster: Cluster) -> None:
        changes = {
            '"s3://lake/news", "s3://lake/summaries"': arguments,
            UNCHANGED: '[], code="image"',
            "http://head:8265": cluster.address,
            'start_date="2026-11-01"': f'start_date="{days[0]}"',
        }
        self._dagster = Dagster(home, program("dagster", changes), cluster)
        self._dagster.start_all()
        self._dagster.backfill(*days)

    def green(self) -> set[str]:
        """Days that are done."""
        return self._dagster.done()

    def tries(self) -> int:
        """Of all days together."""
        return len(self._dagster.instance.get_runs())

    def kill_and_start_again(self) -> None:
        from dagster import DagsterRunStatus, RunsFilter

        self._dagster.kill("daemon")
        self._dagster.start_all()
        instance = self._dagster.instance
        active = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]
        killed = instance.get_runs(RunsFilter(statuses=active))
        for run in killed:
            instance.report_run_failed(run, "its process is gone")
        self._dagster.backfill(*(run.tags["dagster/partition"] for run in killed))

    def stop(self) -> None:
        self._dagster.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scheduler", choices=["airflow", "dagster"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    days = [(FIRST + timedelta(days=number)).isoformat() for number in range(options.days)]
    source, output = options.directory / "in", options.directory / "out"
    for number, day in enumerate(days):
        write(documents(ROWS, first_id=ROWS * number), source / f"dt={day}" / "a.parquet")
    checkpoint = make_checkpoint(options.directory / "model")
    arguments = (
        f'"{source}", "{output}", "--model", "{checkpoint}", '
        f'"--set", "rows_per_unit={ROWS_PER_UNIT}", "--set", "resources.num_cpus=1", '
        '"--set", "resources.timeout_seconds=3600"'
    )
    kind = InAirflow if options.scheduler == "airflow" else InDagster
    start = time.monotonic()
    with job_server(num_cpus=AT_ONCE) as cluster:
        scheduler = kind(options.directory / options.scheduler, arguments, days, cluster)
        try:
            wait_for(scheduler, len(days) // 3)
            running = [name for name, state in submissions(cluster).items() if state == "RUNNING"]
            scheduler.kill_and_start_again()
            print(f"killed with {len(scheduler.green())} days done and {len(running)} submissions")
            wait_for(scheduler, len(days))
            seconds = time.monotonic() - start
            made = rows_made(cluster)
            states = list(submissions(cluster).values())
            print(
                f"{options.scheduler}: {len(scheduler.green())} of {len(days)} days done in "
                f"{seconds:.0f} s, {scheduler.tries()} tries, {len(states)} submissions, of which "
                f"{states.count('SUCCEEDED')} succeeded; {sum(made)} rows made"
            )
        finally:
            scheduler.stop()
    ids = read_result(output)["id"].to_pylist()
    is_right = (
        ids == list(range(ROWS * len(days)))
        and states == ["SUCCEEDED"] * len(days)
        and made == [ROWS] * len(days)
    )
    return 0 if is_right else 1


def wait_for(scheduler: InAirflow | InDagster, num_days: int) -> None:
    """Return once so many days are done, or after an hour."""
    deadline = time.monotonic() + 3600
    while len(scheduler.green()) < num_days and time.monotonic() < deadline:
        time.sleep(2)


def rows_made(cluster: Cluster) -> list[int]:
    """Of each submission, by its own account."""
    server = JobServer(cluster.address, TOKEN)
    logs = [server.read_log(job).strip().splitlines() for job in server.list_jobs()]
    return [json.loads(lines[-1])["rows_made"] for lines in logs if lines]


if __name__ == "__main__":
    sys.exit(main())
