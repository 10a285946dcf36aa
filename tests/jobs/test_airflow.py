"""The operator for Airflow, as its page has it, in runs of the real Airflow on a real Ray job server."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.job_helpers import documents, read_result, write
from helpers.orchestrators import TOKEN, Airflow, job_server, program, submissions
from helpers.ray_nodes import Cluster
from helpers.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    # looked for, not imported: an import makes files in the home directory
    pytest.mark.skipif(
        find_spec("airflow") is None, reason="Airflow is not installed: pip install '.[airflow]'"
    ),
]

DAYS = ["2026-11-01", "2026-11-02", "2026-11-03"]
# Runs the DAG once for each day, as `airflow dags test` does, and prints what came of it.
RUNS = """
import json, sys
from datetime import UTC, datetime

sys.path.insert(0, "dags")
from summaries import dag

for day in sys.argv[1:]:
    end = datetime.fromisoformat(day).replace(day=int(day[-2:]) + 1, hour=2, tzinfo=UTC)
    run = dag.test(logical_date=end)
    (task,) = run.get_task_instances()
    print("RESULT " + json.dumps([task.state, task.try_number, task.xcom_pull("summarize")]))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with job_server() as found:
        yield found


@pytest.fixture(scope="module")
def airflow(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    found = Airflow(tmp_path_factory.mktemp("airflow") / "home", "", cluster)
    yield found
    found.stop()


def write_dag(airflow: Airflow, arguments: str, retries: int) -> None:
    """The page's program with other arguments, whose retries do not wait."""
    changes = {
        '"s3://lake/news", "s3://lake/summaries"': arguments,
        '["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]': "[]",
        "retries=3": f"retries={retries}",
        "timedelta(minutes=5)": "timedelta(0)",
        "):\n    BertsumOperator": ") as dag:\n    BertsumOperator",
    }
    (airflow.home / "dags" / "summaries.py").write_text(program("airflow", changes))


def results_of(printed: str) -> list[list[object]]:
    """State, number of the last try and XCom of each run."""
    lines = [line for line in printed.splitlines() if line.startswith("RESULT ")]
    return [json.loads(line.removeprefix("RESULT ")) for line in lines]


def test_days_are_runs_and_only_what_may_succeed_is_tried_again(
    cluster: Cluster, airflow: Airflow, checkpoint: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write(documents(12), source / f"dt={DAYS[0]}" / "a.parquet")
    write(documents(0), source / f"dt={DAYS[1]}" / "a.parquet")  # a day that is held back
    arguments = f'"{source}", "{output}", "--model", "{checkpoint}", "--set", "output.checks=hold"'
    write_dag(airflow, arguments, retries=1)
    printed = airflow.call(sys.executable, "-c", RUNS, *DAYS)
    (done, held, missing) = results_of(printed)
    assert done[:2] == ["success", 1]
    night = done[2]
    assert isinstance(night, dict)
    assert (night["state"], night["rows_made"]) == ("done", 12)
    assert (night["partition"], night["statuses"]) == (f"dt={DAYS[0]}", {"ok": 12})
    assert held == ["failed", 1, None]
    assert f"held back from readers: dt={DAYS[1]}: rows: 0; the least is 1" in printed
    assert missing == ["failed", 2, None]
    assert "holds no Parquet file yet; the same command tries again" in printed
    assert sorted(submissions(cluster).values()) == ["FAILED", "FAILED", "FAILED", "SUCCEEDED"]
    assert read_result(output)["id"].to_pylist() == list(range(12))
    assert TOKEN not in printed


def test_a_task_that_is_killed_stops_its_submission(
    cluster: Cluster, airflow: Airflow, checkpoint: Path, tmp_path: Path
) -> None:
    write(documents(12), tmp_path / "in" / f"dt={DAYS[0]}" / "a.parquet")
    arguments = (
        f'"{tmp_path}/in", "{tmp_path}/out", "--model", "{checkpoint}", "--wait-minutes", "20"'
    )
    write_dag(airflow, arguments, retries=0)
    before = submissions(cluster).keys()
    airflow.start("killed", sys.executable, "-c", RUNS, DAYS[0])
    log = airflow.home / "killed.log"
    wait_until(lambda: "waiting up to 20 minutes" in log.read_text(), "the night waits")
    # what Airflow does to a task that a person marks as failed
    os.kill(airflow.running["killed"].pid, signal.SIGTERM)
    wait_until(lambda: results_of(log.read_text()), "the task ends")
    assert results_of(log.read_text()) == [["failed", 1, None]]
    found = submissions(cluster)
    assert [found[name] for name in found.keys() - before] == ["STOPPED"]
    assert "was stopped; what is done stays" in log.read_text()
