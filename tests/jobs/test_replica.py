"""A replica alone: what is done already, what kills, and what a report holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from job_helpers import documents, write

from bertsum.checkpoint_config import model_digest
from bertsum.config import SummarizerConfig
from bertsum.errors import InputError
from bertsum.output import Job
from bertsum.plan import make_plan
from bertsum.shards import list_input
from bertsum.storage import Folder
from bertsum.units import Limits
from jobs.progress import Monitor
from jobs.replica import Replica, Task
from jobs.reports import UnitReport
from jobs.suspects import Advice
from jobs.work import SummarizeWork

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def task(tmp_path: Path, checkpoint: Path) -> Task:
    write(documents(12), tmp_path / "in" / "a.parquet")
    job = Job(str(checkpoint), model_digest(checkpoint), SummarizerConfig())
    work = SummarizeWork(str(checkpoint), job, job.config, 4096)
    return Task(str(tmp_path / "in"), str(tmp_path / "out"), job, work, 1)


@pytest.fixture
def monitor() -> Any:
    actor = ray.remote(num_cpus=0)(Monitor).remote()
    yield actor
    ray.kill(actor)


@pytest.fixture
def replica(task: Task, monitor: Any) -> Any:
    """As an actor, which is what the job makes of it; two threads' worth of CPUs are the cluster's."""
    actor = ray.remote(num_cpus=0)(Replica).remote(task, monitor)
    yield actor
    ray.kill(actor)


def batch_of(task: Task) -> dict[str, Any]:
    plan = make_plan(list_input(task.input_uri), Folder(task.output_uri), task.job, Limits(100, 2**20), task.work.check)
    ((name, unit),) = plan.units.items()
    return {"name": np.array([name]), "unit": np.array([json.dumps(unit.to_json())])}


def call(replica: Any, task: Task) -> UnitReport:
    (report,) = ray.get(replica.__call__.remote(batch_of(task)), timeout=120)["report"]
    return UnitReport.from_json(report)


def test_a_unit_is_made_once_and_then_found(task: Task, monitor: Any, replica: Any) -> None:
    made = call(replica, task)
    messages, units, _ = ray.get(monitor.snapshot.remote([]))
    found = call(replica, task)
    assert made.error is None
    assert (made.created, found.created) == (True, False)
    assert made.record == found.record
    assert made.record is not None
    assert made.record.sha256 == Folder(task.output_uri).sha256(made.name)
    assert made.record.counts.rows == 12
    assert set(made.seconds) == {"read", "prepare", "forward", "finish", "write"}
    assert messages >= 3
    assert units[made.name].documents == 12
    assert units[made.name].tokens == made.record.counts.tokens
    assert ray.get(monitor.snapshot.remote([made.name]))[1] == {}


def test_after_a_death_the_same_bytes_and_after_more_the_document_is_given_up(
    task: Task, monitor: Any, replica: Any
) -> None:
    """The deaths are told to the monitor here; tests/faults has real ones."""
    output = Folder(task.output_uri)
    name = call(replica, task).name
    whole = output.read_bytes(name)
    output.remove(name)
    assert call(replica, task).error is None  # the second start
    assert output.read_bytes(name) == whole
    for rows in ((0, 12), (5, 6), (5, 6)):
        output.remove(name)
        ray.get(monitor.announce.remote(name, *rows))
        report = call(replica, task)
        assert report.error is None
    assert report.record is not None
    assert report.record.counts.statuses["error"] == 1
    with output.open(name) as stream:
        table = pq.read_table(stream)
    assert table["id"].to_pylist() == list(range(12))
    assert [row["id"] for row in table.to_pylist() if row["status"] == "error"] == [5]


def test_a_unit_on_which_processes_die_without_a_suspect_is_refused(task: Task, monitor: Any, replica: Any) -> None:
    name = batch_of(task)["name"][0]
    for _ in range(2):
        ray.get(monitor.begin.remote("dead", name, None))
    report = call(replica, task)
    assert report.record is None
    assert "died 2 times on this unit" in str(report.error)


def test_input_that_changed_is_a_report(task: Task, replica: Any) -> None:
    batch = batch_of(task)
    write(documents(13), Path(task.input_uri) / "a.parquet")
    report = UnitReport.from_json(ray.get(replica.__call__.remote(batch), timeout=120)["report"][0])
    assert report.error_type == "InputError"
    assert "changed after the job was planned" in str(report.error)
    assert Folder(task.output_uri).list_names() == {}


class Budgets:
    """A stream that remembers how many tokens a batch might have, and fails on demand."""

    max_batch_tokens = 4096

    def __init__(self) -> None:
        self.seen: list[int] = []

    def stream(self, tables: Any, on_progress: Any) -> Any:
        self.seen.append(self.max_batch_tokens)
        yield from tables


def test_a_batch_has_half_the_tokens_from_the_third_start_on_and_all_of_them_afterwards(
    task: Task, monitor: Any
) -> None:
    replica, loaded = Replica(task, monitor), Budgets()
    table = documents(2)
    for starts in (2, 3, 4):
        list(replica._carefully(loaded, "unit", [table], Advice(starts)))
    assert loaded.seen == [4096, 2048, 1024]
    assert loaded.max_batch_tokens == 4096

    def damaged() -> Any:
        yield table
        raise InputError("the file ends here")

    with pytest.raises(InputError):
        list(replica._carefully(loaded, "unit", damaged(), Advice(4)))
    assert loaded.max_batch_tokens == 4096
