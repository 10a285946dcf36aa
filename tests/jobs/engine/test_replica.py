"""A replica alone: what is done already, what kills, and what a report holds."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from helpers import waiting
from helpers.job_helpers import documents, write
from helpers.waiting import LIMIT_SECONDS, wait_until

from bertsum.checkpoints.config import model_digest
from bertsum.config import SummarizerConfig
from bertsum.errors import BertsumError, InputError
from bertsum.evaluation.config import EvaluationConfig
from bertsum.inference.arrow import output_table
from bertsum.output_config import OutputConfig
from bertsum.runs.commit import Committer
from bertsum.runs.input import list_input
from bertsum.runs.plan import Plan, Terms, make_plan
from bertsum.runs.records import Job
from bertsum.runs.tables.formats import open_table
from bertsum.runs.units import Limits
from bertsum.schema import Prediction, Status
from bertsum.storage.folder import Folder
from jobs.engine.isolation import compute_isolated
from jobs.engine.monitor import Monitor
from jobs.engine.replica import Replica
from jobs.engine.reports import UnitReport
from jobs.engine.suspects import Advice
from jobs.engine.unit_maker import ReplicaSpec
from jobs.engine.work import EvaluateWork, SummarizeWork, models_digest, take_device

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def spec(tmp_path: Path, checkpoint: Path) -> ReplicaSpec:
    write(documents(12), tmp_path / "in" / "a.parquet")
    job = Job(str(checkpoint), model_digest(checkpoint), SummarizerConfig())
    work = SummarizeWork(str(checkpoint), job, job.config, 4096)
    uris = {"input_uri": str(tmp_path / "in"), "output_uri": str(tmp_path / "out")}
    return ReplicaSpec(**uris, job=job, work=work, num_threads=1, num_gpus=0.0)


@pytest.fixture
def monitor() -> Any:
    actor = ray.remote(num_cpus=0)(Monitor).remote()
    yield actor
    ray.kill(actor)


@pytest.fixture
def replica(spec: ReplicaSpec, monitor: Any) -> Any:
    """As an actor, which is what the job makes of it; two threads' worth of CPUs are the cluster's."""
    actor = ray.remote(num_cpus=0)(Replica).remote(spec, monitor)
    yield actor
    ray.kill(actor)


def plan_of(spec: ReplicaSpec, limits: Limits) -> Plan:
    terms = Terms(limits=limits, check=spec.work.check)
    return make_plan(list_input(spec.input_uri), Folder(spec.output_uri), spec.job, terms)


def batch_of(spec: ReplicaSpec) -> pa.Table:
    plan = plan_of(spec, Limits(100, 2**20))
    ((name, unit),) = plan.units.items()
    return pa.table({"name": [name], "unit": [json.dumps(unit.to_json())]})


def call(replica: Any, spec: ReplicaSpec) -> UnitReport:
    answer = ray.get(replica.__call__.remote(batch_of(spec)), timeout=LIMIT_SECONDS)
    (report,) = answer["report"].to_pylist()
    return UnitReport.from_json(report)


def test_a_unit_is_made_once_and_then_found(spec: ReplicaSpec, monitor: Any, replica: Any) -> None:
    made = call(replica, spec)
    seen = ray.get(monitor.snapshot.remote([]))
    found = call(replica, spec)
    assert made.error is None
    assert (made.created, found.created) == (True, False)
    assert made.record == found.record
    assert made.record is not None
    assert made.record.sha256 == Folder(spec.output_uri).sha256(made.name)
    assert made.record.counts.rows == 12
    assert set(made.seconds) == {"read", "prepare", "forward", "finish", "write"}
    assert seen.messages >= 3
    assert seen.units[made.name].documents == 12
    assert seen.units[made.name].tokens == made.record.counts.tokens
    assert ray.get(monitor.snapshot.remote([made.name])).units == {}


def test_a_unit_that_another_run_put_together_is_found_in_the_bigger_file(
    spec: ReplicaSpec, monitor: Any
) -> None:
    pytest.importorskip("deltalake")
    spec = replace(spec, outdated=frozenset())
    output = Folder(spec.output_uri)
    lake = open_table(OutputConfig(table="delta"), output)
    assert lake is not None
    limits = Limits(5, 2**20)
    plan = plan_of(spec, limits)
    lake.prepare([spec.work.output_schema(schema) for schema in plan.schemas], [""])
    units = [json.dumps(unit.to_json()) for unit in plan.units.values()]
    batch = pa.table({"name": [*plan.units], "unit": units})
    replica = ray.remote(num_cpus=0)(Replica).remote(spec, monitor)
    for is_there in (False, True):
        found = ray.get(replica.__call__.remote(batch), timeout=LIMIT_SECONDS)["report"]
        reports = [UnitReport.from_json(text) for text in found.to_pylist()]
        assert [report.error for report in reports] == [None] * 3
        records = {report.name: report.record for report in reports if report.record}
        assert [report.created for report in reports] == [not is_there] * 3
        if not is_there:
            committer = Committer(
                output=output,
                job=spec.job,
                input_uri=spec.input_uri,
                limits=limits,
                max_error_fraction=0.5,
                lake=lake,
            )
            committer.commit(plan, records)
    (big,) = output.list_names()
    assert [record.name for record in records.values()] == [big] * 3
    assert sum(record.counts.rows for record in records.values()) == 12
    ray.kill(replica)


def test_after_a_death_the_same_bytes_and_after_more_the_document_is_given_up(
    spec: ReplicaSpec, monitor: Any, replica: Any
) -> None:
    """The deaths are told to the monitor here; tests/faults has real ones."""
    output = Folder(spec.output_uri)
    name = call(replica, spec).name
    whole = output.read_bytes(name)
    output.remove(name)
    assert call(replica, spec).error is None  # the second start
    assert output.read_bytes(name) == whole
    for rows in ((0, 12), (5, 6), (5, 6)):
        output.remove(name)
        ray.get(monitor.mark_running.remote(name, *rows))
        report = call(replica, spec)
        assert report.error is None
    assert report.record is not None
    assert report.record.counts.statuses["error"] == 1
    with output.open(name) as stream:
        table = pq.read_table(stream)
    assert table["id"].to_pylist() == list(range(12))
    assert [row["id"] for row in table.to_pylist() if row["status"] == "error"] == [5]


def test_a_unit_on_which_processes_die_without_a_suspect_is_refused(
    spec: ReplicaSpec, monitor: Any, replica: Any
) -> None:
    name = batch_of(spec)["name"][0].as_py()
    for _ in range(2):
        ray.get(monitor.start_unit.remote("dead", name, None))
    report = call(replica, spec)
    assert report.record is None
    assert "died 2 times on this unit" in str(report.error)


def test_input_that_changed_is_a_report(spec: ReplicaSpec, replica: Any) -> None:
    batch = batch_of(spec)
    write(documents(13), Path(spec.input_uri) / "a.parquet")
    report = UnitReport.from_json(
        ray.get(replica.__call__.remote(batch), timeout=LIMIT_SECONDS)["report"][0].as_py()
    )
    assert report.error_type == "InputError"
    assert "changed after the job was planned" in str(report.error)
    assert Folder(spec.output_uri).list_names() == {}


class Plain:
    """A stream that passes its tables through; no row of it can be given up."""

    def __init__(self) -> None:
        self.stage_seconds: dict[str, float] = {}
        self.max_batch_tokens = 4096
        self.budgets: list[int] = []  # tokens of a batch, at each call

    def stream(self, tables: Any, on_progress: Any = None) -> Any:
        self.budgets.append(self.max_batch_tokens)
        yield from tables

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        raise BertsumError(reason)

    def on_batch(self, call: Any) -> None:
        pass


def isolated(stream: Plain, tables: Any, advice: Advice) -> list[pa.Table]:
    progress = {
        "mark_running": lambda start, stop: None,
        "on_progress": lambda documents, tokens: None,
    }
    return list(compute_isolated(stream, tables, advice, **progress))


def test_a_batch_has_half_the_tokens_from_the_third_start_on_and_all_of_them_afterwards() -> None:
    stream, table = Plain(), documents(2)
    for starts in (2, 3, 4):
        isolated(stream, [table], Advice(starts))
    assert stream.budgets == [4096, 2048, 1024]
    assert stream.max_batch_tokens == 4096

    def damaged() -> Any:
        yield table
        raise InputError("the file ends here")

    with pytest.raises(InputError):
        isolated(stream, damaged(), Advice(4))
    assert stream.max_batch_tokens == 4096


def test_a_row_that_kills_is_an_error_where_no_row_can_be_given_up() -> None:
    with pytest.raises(
        BertsumError, match="row 3 of the unit: the process that computed this document died"
    ):
        isolated(Plain(), [documents(2), documents(4)], Advice(3, killers={3}))


class Steps(Plain):
    """A Stream that reads at once, computes, and notes each step."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def stream(self, tables: Any, on_progress: Any = None) -> Any:
        (table,) = tables
        first = table["id"][0]
        note(self.log, f"read {first}")

        def compute() -> Any:
            note(self.log, f"begin {first}")
            note_in_turn(self.log, f"end {first}")
            yield output_table(
                table, [Prediction(Status.OK, summary="")] * table.num_rows, SummarizerConfig()
            )

        return compute()


class StepsWork(SummarizeWork):
    """`model` is the file of the steps. The schema is asked for when a unit is written."""

    def load(self, num_threads: int, num_gpus: float) -> Any:
        return Steps(Path(self.model or ""))

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        note_in_turn(Path(self.model or ""), "write")
        return SummarizeWork.output_schema(self, schema)


def note(log: Path, step: str) -> None:
    with log.open("a") as file:
        file.write(f"{step}\n")


def note_in_turn(log: Path, step: str) -> None:
    """Note a step as soon as the one is noted that must come before it; without such a one after half a second, in
    which others could come that must not.
    """
    earlier = json.loads(log.with_suffix(".order").read_text()).get(step)
    if earlier is None:
        time.sleep(0.5)
    else:
        wait_until(lambda: earlier in log.read_text().splitlines(), f"{earlier!r} before {step!r}")
    note(log, step)


@pytest.fixture
def steps_spec(spec: ReplicaSpec, tmp_path: Path) -> ReplicaSpec:
    for module in (sys.modules[__name__], waiting):  # which processes of Ray do not find
        ray.cloudpickle.register_pickle_by_value(module)
    (tmp_path / "steps.order").write_text("{}")
    return replace(spec, work=StepsWork(str(tmp_path / "steps"), spec.job, spec.job.config, 4096))


def units_of(spec: ReplicaSpec, num_rows: int = 6) -> list[pa.Table]:
    plan = plan_of(spec, Limits(num_rows, 2**20))
    return [
        pa.table({"name": [name], "unit": [json.dumps(unit.to_json())]})
        for name, unit in plan.units.items()
    ]


def two_at_once(
    spec: ReplicaSpec, monitor: Any, first: pa.Table, second: pa.Table, **order: str
) -> list[UnitReport]:
    """Reports in the order in which the units end; the second is given when the first is at work.

    `order`: see `note_in_turn`.
    """
    log = Path(spec.work.model)
    log.with_suffix(".order").write_text(
        json.dumps({step.replace("_", " "): earlier for step, earlier in order.items()})
    )
    replica: Any = ray.remote(num_cpus=0, max_concurrency=2)(Replica).remote(spec, monitor)
    try:
        running = [replica.__call__.remote(first)]
        wait_until(lambda: log.exists() or ray.wait(running, timeout=0)[0], "the first step")
        running.append(replica.__call__.remote(second))
        ended, left = ray.wait(running, timeout=LIMIT_SECONDS)
        results = ray.get([*ended, *left], timeout=LIMIT_SECONDS)
    finally:
        ray.kill(replica)
    return [UnitReport.from_json(result["report"][0].as_py()) for result in results]


def steps_of(spec: ReplicaSpec) -> list[str]:
    return Path(spec.work.model).read_text().splitlines()


def test_a_unit_is_read_while_another_is_computed_and_computed_while_it_is_written(
    steps_spec: ReplicaSpec, monitor: Any
) -> None:
    order = {"end_0": "read 6", "write": "begin 6", "end_6": "write"}
    reports = two_at_once(steps_spec, monitor, *units_of(steps_spec), **order)
    assert [report.error for report in reports] == [None, None]
    assert steps_of(steps_spec) == [
        "read 0",
        "begin 0",
        "read 6",
        "end 0",
        "begin 6",
        "write",
        "end 6",
        "write",
    ]


@pytest.mark.parametrize("isolated", [0, 1], ids=["the first", "the second"])
def test_while_a_unit_is_made_isolated_nothing_else_is_done(
    isolated: int, steps_spec: ReplicaSpec, monitor: Any
) -> None:
    first, second = units_of(steps_spec)
    ray.get(monitor.start_unit.remote("dead", (first, second)[isolated]["name"][0].as_py(), None))
    two_at_once(steps_spec, monitor, first, second)
    assert steps_of(steps_spec) == [
        "read 0",
        "begin 0",
        "end 0",
        "write",
        "read 6",
        "begin 6",
        "end 6",
        "write",
    ]


def test_after_a_death_a_unit_that_was_prepared_ahead_is_not_again(
    steps_spec: ReplicaSpec, monitor: Any
) -> None:
    """It may be what killed, and then it must be in work when it does."""
    first, second = units_of(steps_spec)
    assert ray.get(monitor.prepare_ahead.remote("dead", second["name"][0].as_py(), None))
    two_at_once(steps_spec, monitor, first, second, write="begin 6", end_6="write")
    assert steps_of(steps_spec) == [
        "read 0",
        "begin 0",
        "end 0",
        "read 6",
        "begin 6",
        "write",
        "end 6",
        "write",
    ]


def test_a_damaged_file_that_is_read_ahead_is_the_error_of_its_own_unit(
    steps_spec: ReplicaSpec, monitor: Any
) -> None:
    first, second = units_of(steps_spec)
    (part,) = json.loads(second["unit"][0].as_py())
    changed = json.dumps([part | {"size": part["size"] + 1}])
    second = pa.table({"name": second["name"], "unit": [changed]})
    reports = {report.name: report for report in two_at_once(steps_spec, monitor, first, second)}
    assert {name: report.error_type for name, report in reports.items()} == {
        first["name"][0].as_py(): None,
        second["name"][0].as_py(): "InputError",
    }
    assert steps_of(steps_spec) == ["read 0", "begin 0", "end 0", "write"]


class Chatty(Steps):
    """Makes small batches."""

    def stream(self, tables: Any, on_progress: Any = None) -> Any:
        for _ in range(300):
            on_progress(1, 2)
            time.sleep(0.001)
        return super().stream(tables, on_progress)


class ChattyWork(StepsWork):
    def load(self, num_threads: int, num_gpus: float) -> Any:
        return Chatty(Path(self.model or ""))


class GpuWork(StepsWork):
    def load(self, num_threads: int, num_gpus: float) -> Any:
        raise ValueError(f"loaded with {num_gpus} GPUs")


def test_a_work_is_loaded_with_the_gpus_of_the_replica(
    steps_spec: ReplicaSpec, monitor: Any
) -> None:
    work = GpuWork(steps_spec.work.model, steps_spec.job, steps_spec.job.config, 4096)
    spec = replace(steps_spec, work=work, num_gpus=0.5)
    actor: Any = ray.remote(num_cpus=0)(Replica).remote(spec, monitor)
    report = call(actor, spec)
    ray.kill(actor)
    assert report.error == "loaded with 0.5 GPUs"


def test_a_replica_without_gpus_takes_none_that_is_in_sight(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All replicas of a node would else share its first GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("jobs.engine.work.set_threads", lambda num_threads: None)  # of pytest
    digest = model_digest(checkpoint)
    job = Job(str(checkpoint), digest, SummarizerConfig())
    work = SummarizeWork(str(checkpoint), job, job.config, 4096)
    assert work.load(1, 0.0).device.type == "cpu"
    models = {"mine": str(checkpoint)}
    config = EvaluationConfig(summary_column="summary")
    job = Job(str(checkpoint), models_digest(models), SummarizerConfig())
    evaluator = EvaluateWork(models, job, config, 4096).load(1, 0.0)
    assert evaluator.models["mine"].device.type == "cpu"
    shares: list[float] = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", shares.append)
    assert [take_device(share) for share in (0.5, 1.0, None)] == [None] * 3
    assert shares == [0.475]  # of the memory of its GPU, so that neighbours have theirs


def test_small_batches_are_told_of_from_time_to_time_and_all_of_them(
    steps_spec: ReplicaSpec, monitor: Any
) -> None:
    """A message for each would keep the device waiting, and the monitor behind."""
    work = ChattyWork(steps_spec.work.model, steps_spec.job, steps_spec.job.config, 4096)
    spec = replace(steps_spec, work=work)
    actor: Any = ray.remote(num_cpus=0)(Replica).remote(spec, monitor)
    report = call(actor, spec)
    ray.kill(actor)
    seen = ray.get(monitor.snapshot.remote([]))
    assert report.error is None
    assert seen.units[report.name].documents == 300
    assert seen.units[report.name].tokens == 600 == report.tokens
    assert seen.messages <= 20


def test_two_at_a_time_are_what_each_is_alone(
    spec: ReplicaSpec, monitor: Any, replica: Any
) -> None:
    units = units_of(spec, num_rows=2)
    alone = [
        UnitReport.from_json(
            ray.get(replica.__call__.remote(unit), timeout=LIMIT_SECONDS)["report"][0].as_py()
        )
        for unit in units
    ]
    other = replace(spec, output_uri=f"{spec.output_uri}2")
    both: Any = ray.remote(num_cpus=0, max_concurrency=2)(Replica).remote(other, monitor)
    results = ray.get([both.__call__.remote(unit) for unit in units], timeout=LIMIT_SECONDS)
    ray.kill(both)
    together = [UnitReport.from_json(result["report"][0].as_py()) for result in results]
    assert len(together) == 6
    assert [report.record for report in together] == [report.record for report in alone]
    assert [report.tokens for report in together] == [report.tokens for report in alone]
    assert all(
        report.record and report.tokens == report.record.counts.tokens for report in together
    )
