"""The scheduler is killed while a night is made: its retry finds the submission, and nothing is made twice."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from helpers.job_helpers import (
    descendants,
    documents,
    make_checkpoint,
    read_result,
    result_files,
    write,
)
from helpers.orchestrators import TOKEN, Airflow, Dagster, job_server, program, submissions
from helpers.ray_nodes import Cluster
from helpers.waiting import wait_until

pytestmark = [pytest.mark.faults]

DAY, ROWS, ROWS_PER_UNIT = "2026-11-01", 6000, 100


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with job_server() as found:
        yield found


class Night:
    """The INPUT and OUTPUT of a night, which can be held in the middle of its work."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.source, self.output, self.cluster = root / "in", root / "out", cluster
        write(documents(ROWS), self.source / f"dt={DAY}" / "a.parquet", row_group_size=500)
        checkpoint = make_checkpoint(root / "model")
        self._before = submissions(cluster).keys()
        self.arguments = (
            f'"{self.source}", "{self.output}", "--model", "{checkpoint}", '
            f'"--set", "rows_per_unit={ROWS_PER_UNIT}"'
        )

    def submissions(self) -> dict[str, str]:
        """State by id, of those that this test has brought about."""
        found = submissions(self.cluster)
        return {name: found[name] for name in found.keys() - self._before}

    @property
    def submission(self) -> str:
        (name,) = self.submissions()
        return name

    @property
    def found(self) -> str:
        """What a retry says."""
        return f"submit: {self.submission} is running already; following it"

    def hold(self) -> dict[str, int]:
        """Stop its driver once some units are done and not all; when each of them was written."""
        wait_until(lambda: len(result_files(self.output)) >= 3, "units are made")
        self._send(signal.SIGSTOP)
        done = {name: (self.output / name).stat().st_mtime_ns for name in result_files(self.output)}
        assert len(done) < ROWS // ROWS_PER_UNIT, "too late"
        return done

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def check(self, done: dict[str, int]) -> None:
        """All rows once and in order; no unit was made again; one submission."""
        assert self.submissions() == {self.submission: "SUCCEEDED"}
        assert read_result(self.output)["id"].to_pylist() == list(range(ROWS))
        assert len(result_files(self.output)) == ROWS // ROWS_PER_UNIT
        assert {name: (self.output / name).stat().st_mtime_ns for name in done} == done

    def _send(self, number: signal.Signals) -> None:
        drivers = [
            pid
            for pid, command in descendants(self.cluster.head.process.pid)
            if "jobs.shipped nightly" in command
        ]
        assert drivers
        for pid in drivers:
            os.kill(pid, number)


def test_airflow(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("airflow", reason="Airflow is not installed: pip install '.[airflow]'")
    night = Night(tmp_path, cluster)
    changes = {
        '"s3://lake/news", "s3://lake/summaries"': night.arguments,
        "start_date=datetime(2026, 11, 1)": "start_date=datetime(2026, 11, 1), end_date=datetime(2026, 11, 1, 3)",
        '["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]': "[]",
        "timedelta(minutes=5)": "timedelta(seconds=1)",
    }
    airflow = Airflow(tmp_path / "airflow", program("airflow", changes), cluster)
    try:
        airflow.start_all()
        done = night.hold()
        airflow.kill("scheduler")
        assert night.submissions() == {night.submission: "RUNNING"}
        airflow.start("scheduler", "airflow", "scheduler")
        wait_until(lambda: night.found in airflow.log(2), "the retry finds it", every_seconds=1)
        night.go_on()
        wait_until(
            lambda: airflow.tasks() == {DAY: ("success", 2)}, "the task succeeds", every_seconds=1
        )
        night.check(done)
        assert f"{ROWS:,} rows made now" in airflow.log(2) or f'"rows_made": {ROWS}' in airflow.log(
            2
        )
        assert TOKEN not in airflow.log(1) + airflow.log(2)
    finally:
        airflow.stop()


def test_dagster(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("dagster", reason="Dagster is not installed: pip install '.[dagster]'")
    night = Night(tmp_path, cluster)
    changes = {
        '"s3://lake/news", "s3://lake/summaries"': night.arguments,
        "http://head:8265": cluster.address,
        '["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]': "[]",
    }
    dagster = Dagster(tmp_path / "dagster", program("dagster", changes), cluster)
    try:
        dagster.start_all()
        dagster.ask_for(DAY)
        done = night.hold()
        dagster.kill("daemon")  # and the code location and the run with it
        (killed,) = dagster.instance.get_runs()
        assert night.submissions() == {night.submission: "RUNNING"}
        dagster.start_all()
        # The launcher of a single machine does not see that the process of a run is gone.
        dagster.instance.report_run_failed(killed, "its process is gone")
        wait_until(
            lambda: len(dagster.instance.get_runs()) == 2, "Dagster tries again", every_seconds=1
        )
        retry = dagster.instance.get_runs()[0]  # the newest comes first
        assert retry.parent_run_id == killed.run_id
        wait_until(
            lambda: night.found in dagster.log(retry.run_id), "the retry finds it", every_seconds=1
        )
        night.go_on()
        wait_until(
            lambda: dagster.instance.get_run_by_id(retry.run_id).is_finished,
            "the retry ends",
            every_seconds=1,
        )
        night.check(done)
        assert dagster.done() == {DAY}
        assert f'"rows_made": {ROWS}' in dagster.log(retry.run_id)
        assert TOKEN not in dagster.log(killed.run_id) + dagster.log(retry.run_id)
    finally:
        dagster.stop()


@pytest.mark.timeout(3600)
def test_thirty_days_in_airflow(cluster: Cluster, tmp_path: Path) -> None:
    """Killed with a third of them done: each day is green, of one submission, and has its rows once."""
    pytest.importorskip("airflow", reason="Airflow is not installed: pip install '.[airflow]'")
    days = [f"2026-10-{number:02}" for number in range(1, 31)]
    source, output = tmp_path / "in", tmp_path / "out"
    for index, day in enumerate(days):
        write(documents(12, first_id=12 * index), source / f"dt={day}" / "a.parquet")
    checkpoint, before = make_checkpoint(tmp_path / "model"), submissions(cluster).keys()
    changes = {
        '"s3://lake/news", "s3://lake/summaries"': f'"{source}", "{output}", "--model", "{checkpoint}"',
        "start_date=datetime(2026, 11, 1)": "start_date=datetime(2026, 10, 1), end_date=datetime(2026, 10, 30, 3)",
        '["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]': "[]",
        "timedelta(minutes=5)": "timedelta(seconds=1)",
    }
    airflow = Airflow(tmp_path / "airflow", program("airflow", changes), cluster)

    def green() -> list[str]:
        return [day for day, (state, _) in sorted(airflow.tasks().items()) if state == "success"]

    def wait_for(num_days: int) -> None:
        while (done := len(green())) < num_days:
            wait_until(partial(is_more, done), f"day {done + 1} is done", every_seconds=1)

    def is_more(num_days: int) -> bool:
        return len(green()) > num_days

    def written() -> dict[str, int]:
        return {name: (output / name).stat().st_mtime_ns for name in result_files(output)}

    try:
        airflow.start_all()
        wait_for(10)
        wait_until(
            lambda: "RUNNING" in submissions(cluster).values(), "the next runs", every_seconds=0.5
        )
        airflow.kill("scheduler")
        before_kill = written()
        airflow.start("scheduler", "airflow", "scheduler")
        wait_for(30)
    finally:
        airflow.stop()
    assert green() == days
    found = submissions(cluster)
    sent = [found[name] for name in found.keys() - before]
    assert sent == ["SUCCEEDED"] * 30
    assert read_result(output)["id"].to_pylist() == list(range(12 * 30))
    assert len(list(output.rglob("_SUCCESS"))) == 30
    after = written()
    assert len(after) == 30  # a day is one unit
    assert before_kill.items() <= after.items()
