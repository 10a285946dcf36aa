"""Units through two pools of replicas: both at work at once, and what ends in the first."""

import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from helpers import waiting
from helpers.job_helpers import documents, write
from helpers.waiting import wait_until

from bertsum.config import SummarizerConfig
from bertsum.generation.columns import Written, rows_to_table
from bertsum.generation.config import GenerateConfig, GenerateRows
from bertsum.inference.arrow import output_table
from bertsum.runs.input import list_input
from bertsum.runs.plan import Terms, make_plan
from bertsum.runs.records import Job
from bertsum.runs.units import Limits, Unit
from bertsum.schema import Prediction, Status
from bertsum.storage.folder import Folder
from jobs.engine.cluster import Node, Shape, beside, reserve_two
from jobs.engine.cluster import ResourcesConfig as Resources
from jobs.engine.monitor import key_of, unit_of
from jobs.engine.pipeline import Pool, stream_reports
from jobs.engine.reports import UnitReport
from jobs.engine.unit_maker import ReplicaSpec
from jobs.engine.waves import start_monitor
from jobs.engine.work import GenerateWork, SummarizeThenWork, SummarizeWork

NUM_UNITS, UNIT_ROWS = 6, 5


class Steps:
    """A Stream without a model, which notes the first id of each unit that it computes."""

    max_batch_tokens = 0

    def __init__(self, log: Path) -> None:
        self.log = log
        self.stage_seconds: dict[str, float] = {}

    def on_batch(self, call: Any) -> None:
        """No batches."""


class Summaries(Steps):
    """The last unit is not done before the second pool has begun another one."""

    def stream(self, tables: Iterable[pa.Table], on_progress: Any = None) -> Iterator[pa.Table]:
        for table in tables:
            if table["id"][0].as_py() == (NUM_UNITS - 1) * UNIT_ROWS:
                wait_until(self.log.exists, "a unit in the second pool")
            predictions = [Prediction(Status.OK, summary=f"summary {i}") for i in table["id"]]
            yield output_table(table, predictions, SummarizerConfig())


class Abstracts(Steps):
    """Notes what it gets."""

    def stream(self, tables: Iterable[pa.Table], on_progress: Any = None) -> Iterator[pa.Table]:
        for table in tables:
            with self.log.open("a") as file:
                file.write(f"{table['id'][0]}\n")
            rows = [Written(status=Status.OK, text=f"{s} in short") for s in table["summary"]]
            yield rows_to_table(table, rows, of_summaries())


def of_summaries() -> GenerateConfig:
    return GenerateConfig(text_column="summary", keep_text=True)


class SummariesWork(SummarizeWork):
    """`model` is the log."""

    def load(self, num_threads: int, num_gpus: float) -> Any:
        return Summaries(Path(self.model or ""))


class AbstractsWork(GenerateWork):
    """The same."""

    def load(self, num_threads: int, num_gpus: float) -> Any:
        return Abstracts(Path(self.model))


@dataclass
class Harness:
    """A run over 30 documents, with one replica a pool."""

    root: Path

    def __post_init__(self) -> None:
        for module in (sys.modules[__name__], waiting):
            ray.cloudpickle.register_pickle_by_value(module)  # Ray's processes do not find them
        write(documents(NUM_UNITS * UNIT_ROWS), self.root / "in" / "a.parquet")
        log, config = str(self.root / "log"), of_summaries()
        rows = GenerateRows(generate=config, sentences_model="")
        second = AbstractsWork(model=log, job=Job(log, "second", rows), config=config,
                               sentences_model=None, sentences_digest="")  # fmt: skip
        self.job = Job("first", "first", SummarizerConfig(), second.job)
        self.work = SummarizeThenWork(SummariesWork(log, self.job, SummarizerConfig(), 1), second)
        self.output = Folder(str(self.root / "out"))
        terms = Terms(limits=Limits(UNIT_ROWS, 2**20), check=self.work.check)
        self.plan = make_plan(list_input(str(self.root / "in")), self.output, self.job, terms)

    def run(self, units: dict[str, Unit]) -> dict[str, UnitReport]:
        """The reports of these units, by name."""
        uris = {"input_uri": str(self.root / "in"), "output_uri": str(self.root / "out")}
        common: dict[str, Any] = {**uris, "job": self.job, "num_threads": 1, "num_gpus": 0.0}
        first = ReplicaSpec(**common, work=self.work.first, pool="summarize", hands_on=True)
        second = ReplicaSpec(**common, work=self.work, pool="generate")
        pools = [Pool(spec, Shape(1, 1, 0)) for spec in (first, second)]
        monitor = start_monitor()
        try:
            reports = list(stream_reports(units, pools, monitor, threading.Event()))
            snapshot = ray.get(monitor.snapshot.remote([]))
            # the first pool has let go of every unit, and none of its documents counts as done
            assert snapshot.units.keys() <= {key_of(name, "generate") for name in units}
        finally:
            ray.kill(monitor)
        return {report.name: report for report in reports}


@pytest.mark.usefixtures("cluster")
def test_both_pools_are_at_work_at_once(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    units = dict(harness.plan.missing)
    # one is there already, and the input of another is not what was planned
    (there, planned), (damaged, other) = [*units.items()][1:3]
    harness.run({there: planned})
    (tmp_path / "log").unlink()
    (part,) = other.to_json()
    units[damaged] = Unit.from_json([part | {"size": part["size"] + 1}])

    reports = harness.run(units)
    assert reports.keys() == units.keys()
    failed = reports[damaged]
    assert failed.error_type == "InputError"
    assert str(failed.error).startswith("summarize: ")
    assert (reports[there].created, reports[there].first) == (False, None)
    made = [report for report in reports.values() if report.created]
    assert len(made) == NUM_UNITS - 2
    for report in made:
        assert report.record is not None
        table = pq.read_table(tmp_path / "out" / report.name)
        assert table["abstract"].to_pylist() == [f"summary {i} in short" for i in table["id"]]
        assert report.record.counts.statuses == {"ok": UNIT_ROWS}
    # by the times of the units: the last one was summarized while an earlier one was written
    *_, last = units
    first_pool = reports[last].first
    assert first_pool is not None
    earliest = min(report.begun for report in made if report.name != last)
    assert first_pool.begun + first_pool.seconds > earliest
    assert first_pool.replica != reports[last].replica


def test_a_unit_has_a_key_for_each_pool() -> None:
    for name in ("a.parquet", "dt=1 (x)/b (c).parquet"):
        for pool in ("", "summarize", "generate"):
            assert unit_of(key_of(name, pool)) == name


@pytest.mark.parametrize(
    ("first", "nodes", "left"),
    [
        (Shape(1, 1, 0), [Node(2, 0)], [Node(1, 0)]),
        (Shape(1, 1, 0), [Node(2, 0), Node(8, 1)], [Node(7, 1), Node(2, 0)]),  # the worst of them
        (Shape(2, 2, 0.5), [Node(8, 1)], [Node(4, 0)]),
        (Shape(3, 4, 0), [Node(4, 0)], [Node(0, 0)]),  # two of them wait for nodes
        (Shape(1, 4, 0.25), [Node(16, 1)], [Node(12, 0.75)]),
        (None, [Node(2, 0)], [Node(2, 0)]),
    ],
)
def test_what_the_first_pool_leaves(
    first: Shape | None, nodes: list[Node], left: list[Node]
) -> None:
    assert beside(first, nodes) == left


@pytest.mark.parametrize(
    ("first", "second", "nodes", "shapes"),
    [
        ({}, {}, [Node(2, 0)], (Shape(1, 1, 0), Shape(1, 1, 0))),
        ({}, {}, [Node(8, 0)], (Shape(1, 4, 0), Shape(1, 4, 0))),
        ({}, {"num_cpus": 1}, [Node(8, 0)], (Shape(1, 4, 0), Shape(4, 1, 0))),
        ({"replicas": 2, "num_cpus": 1}, {}, [Node(4, 0)], (Shape(2, 1, 0), Shape(1, 2, 0))),
        ({}, {}, [Node(16, 1)], (Shape(1, 4, 0.5), Shape(1, 4, 0.5))),
        ({}, {}, [Node(32, 8)], (Shape(1, 4, 1), Shape(7, 4, 1))),
        ({"num_gpus": 0.25}, {}, [Node(16, 1)], (Shape(1, 4, 0.25), Shape(1, 4, 0.75))),
    ],
)
def test_the_shapes_of_two_pools(
    first: dict[str, float],
    second: dict[str, float],
    nodes: list[Node],
    shapes: tuple[Shape, Shape],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobs.engine.cluster._nodes", lambda: nodes)
    both = [Resources.model_validate(asked) for asked in (first, second)]
    assert reserve_two(*both, 100, False, None) == shapes
