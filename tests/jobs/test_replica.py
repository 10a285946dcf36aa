"""A replica alone: what is done already, what kills, and what a report holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from job_helpers import documents, write

from bertsum.checkpoint import model_digest
from bertsum.config import SummarizerConfig
from bertsum.output import Job
from bertsum.plan import make_plan
from bertsum.shards import list_input
from bertsum.storage import Folder
from bertsum.units import Limits
from jobs.progress import Monitor
from jobs.replica import Replica, Task
from jobs.reports import UnitReport
from jobs.work import SummarizeWork

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def task(tmp_path: Path, checkpoint: Path) -> Task:
    write(documents(12), tmp_path / "in" / "a.parquet")
    job = Job(str(checkpoint), model_digest(checkpoint), SummarizerConfig())
    return Task(
        str(tmp_path / "in"), str(tmp_path / "out"), job, SummarizeWork(str(checkpoint), job, job.config, 4096), 1
    )


@pytest.fixture
def monitor() -> Any:
    actor = ray.remote(num_cpus=0)(Monitor).remote()
    yield actor
    ray.kill(actor)


def call(replica: Replica, task: Task) -> UnitReport:
    plan = make_plan(list_input(task.input_uri), Folder(task.output_uri), task.job, Limits(100, 2**20), task.work.check)
    ((name, unit),) = plan.units.items()
    batch = {"name": np.array([name]), "unit": np.array([json.dumps(unit.to_json())])}
    (report,) = replica(batch)["report"]
    return UnitReport.from_json(report)


def test_a_unit_is_made_once_and_then_found(task: Task, monitor: Any) -> None:
    replica = Replica(task, monitor)
    made, found = call(replica, task), call(replica, task)
    assert made.error is None
    assert (made.created, found.created) == (True, False)
    assert made.record == found.record
    assert made.record is not None
    assert made.record.sha256 == Folder(task.output_uri).sha256(made.name)
    assert made.record.counts.rows == 12
    assert set(made.seconds) == {"read", "prepare", "forward", "finish", "write"}
    messages, units, _ = ray.get(monitor.snapshot.remote([]))
    assert messages >= 3
    assert units[made.name].documents == 12
    assert units[made.name].tokens == made.record.counts.tokens
    assert ray.get(monitor.snapshot.remote([made.name]))[1] == {}


def test_a_unit_that_killed_two_processes_is_not_taken_again(task: Task, monitor: Any) -> None:
    replica = Replica(task, monitor)
    name = call(Replica(task, monitor), task).name
    Folder(task.output_uri).remove(name)
    ray.get(monitor.begin.remote("dead", name))
    report = call(replica, task)
    assert report.record is None
    assert report.error is not None
    assert "died 2 times on this unit" in report.error


def test_input_that_changed_is_a_report(task: Task, monitor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(task, monitor)
    plan = make_plan(list_input(task.input_uri), Folder(task.output_uri), task.job, Limits(100, 2**20), task.work.check)
    ((name, unit),) = plan.units.items()
    write(documents(13), Path(task.input_uri) / "a.parquet")
    batch = {"name": np.array([name]), "unit": np.array([json.dumps(unit.to_json())])}
    report = UnitReport.from_json(replica(batch)["report"][0])
    assert report.error_type == "InputError"
    assert "changed after the job was planned" in str(report.error)
    assert Folder(task.output_uri).list_names() == {}
