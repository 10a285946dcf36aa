"""The operator for Airflow, as its page has it, in runs of the real Airflow on a real Ray job server."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.job_helpers import documents, read_result, write
from helpers.orchestrators import TOKEN, Airflow, job_server, program, submissions

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

from airflow.utils.types import DagRunType
sys.path.insert(0, "dags")
from summaries import dag

for day in sys.argv[1:]:
    end = datetime.fromisoformat(day).replace(day=int(day[-2:]) + 1, hour=2, tzinfo=UTC)
    run = dag.test(logical_date=end)
    (task,) = run.get_task_instances()
    print("RESULT " + json.dumps([task.state, task.try_number, task.xcom_pull("summarize")]))
"""


def test_days_are_runs_and_only_what_may_succeed_is_tried_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write(documents(12), source / f"dt={DAYS[0]}" / "a.parquet")
    write(documents(0), source / f"dt={DAYS[1]}" / "a.parquet")  # a day that is held back
    arguments = f'"{source}", "{output}", "--model", "{checkpoint}", "--set", "output.checks=hold"'
    changes = {
        '"s3://lake/news", "s3://lake/summaries"': arguments,
        '["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]': "[]",
        "retries=3": "retries=1",
        "timedelta(minutes=5)": "timedelta(0)",
        "):\n    BertsumOperator": ") as dag:\n    BertsumOperator",
    }
    with job_server() as cluster:
        airflow = Airflow(tmp_path / "airflow", program("airflow", changes), cluster)
        printed = airflow.call(sys.executable, "-c", RUNS, *DAYS)
        results = [
            json.loads(line.removeprefix("RESULT "))
            for line in printed.splitlines()
            if line.startswith("RESULT ")
        ]
        states = sorted(submissions(cluster).values())
    (done, held, missing) = results
    assert done[:2] == ["success", 1]
    assert (done[2]["state"], done[2]["rows_made"]) == ("done", 12)
    assert (done[2]["partition"], done[2]["statuses"]) == (f"dt={DAYS[0]}", {"ok": 12})
    assert held == ["failed", 1, None]
    assert f"held back from readers: dt={DAYS[1]}: rows: 0; the least is 1" in printed
    assert missing == ["failed", 2, None]
    assert "holds no Parquet file yet; the same command tries again" in printed
    assert states == ["FAILED", "FAILED", "FAILED", "SUCCEEDED"]
    assert read_result(output)["id"].to_pylist() == list(range(12))
    assert TOKEN not in printed
