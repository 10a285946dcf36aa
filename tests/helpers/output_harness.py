"""Runs over small inputs without Ray, and a kill at any change of files."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsum.config import SummarizerConfig
from bertsum.runs import commit
from bertsum.runs import records as output
from bertsum.runs.columns import Check, check_documents, output_schema
from bertsum.runs.input import list_input, stream_rows
from bertsum.runs.plan import Plan, Terms, make_plan
from bertsum.runs.records import (
    MANIFEST,
    PLAN,
    SUCCESS,
    Job,
    encode,
)
from bertsum.runs.tables.table import Lake
from bertsum.runs.units import Limits, Unit
from bertsum.schema import Prediction, Status, predictions_to_table
from bertsum.storage.folder import Folder

JOB = Job("model-a", "digest-a", SummarizerConfig())


OTHER_JOB = Job("model-b", "digest-b", SummarizerConfig())


LIMITS = Limits(10, 2**20)


def check(job: Job) -> Check:
    return partial(check_documents, config=job.config)


def write_input(root: Path, name: str, num_rows: int, first_id: int = 0) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    ids = range(first_id, first_id + num_rows)
    table = pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "document": pa.array([f"text {i}" for i in ids], pa.string()),
        }
    )
    pq.write_table(table, root / name, row_group_size=8)


class Harness:
    """A run without Ray and model: what `jobs.summarize` does, step by step, so that a test can stop anywhere."""

    def __init__(self, root: Path) -> None:
        self.input, self.root = root / "in", root / "out"
        self.output = Folder(str(self.root))
        self.made: list[str] = []

    def plan(self, job: Job = JOB, limits: Limits = LIMITS, limit: int | None = None) -> Plan:
        terms = Terms(limits=limits, check=check(job), limit=limit)
        return make_plan(list_input(str(self.input)), self.output, job, terms)

    def committer(
        self, job: Job = JOB, limits: Limits = LIMITS, lake: Lake | None = None
    ) -> commit.Committer:
        return commit.Committer(
            output=self.output,
            job=job,
            input_uri=str(self.input),
            limits=limits,
            max_error_fraction=0.5,
            lake=lake,
        )

    def begin(self, plan: Plan, job: Job = JOB, limits: Limits = LIMITS) -> None:
        self.committer(job, limits).begin(plan)

    def make(
        self, units: Iterable[tuple[str, Unit]], job: Job = JOB, status: Status = Status.OK
    ) -> None:
        source = list_input(str(self.input))
        for name, unit in units:
            tables = []
            for part in unit.slices:
                for table in stream_rows(
                    source.root, part.file, part.start, part.stop, ["id", "document"]
                ):
                    texts = table["document"].to_pylist()
                    predictions = [self.prediction(status, text) for text in texts]
                    result = predictions_to_table(predictions, job.config.outputs)
                    schema = output_schema(table.schema, job.config)
                    tables.append(
                        pa.Table.from_arrays([table["id"], *result.columns], schema=schema)
                    )
            schema = output_schema(pq.read_schema(self.input / unit.slices[0].path), job.config)
            data, _ = encode(tables, schema, unit, job)
            assert self.output.create_exclusive(name, data)
            self.made.append(name)

    def prediction(self, status: Status, text: str) -> Prediction:
        return Prediction(status, summary=text, num_tokens=2)

    def finish(self, plan: Plan, job: Job = JOB) -> output.Counts:
        return self.committer(job).commit(plan, {})

    def run(self, job: Job = JOB, limits: Limits = LIMITS, limit: int | None = None) -> Plan:
        plan = self.plan(job, limits, limit)
        self.begin(plan, job, limits)
        self.make(plan.missing.items(), job)
        self.finish(plan, job)
        return plan

    def ids(self) -> list[int]:
        return sorted(pq.read_table(self.root, columns=["id"])["id"].to_pylist())

    def records(self) -> set[str]:
        """Names of the records of a finished run over all of the input."""
        partitions = {f"{path.name}/" for path in self.root.glob("dt=*")} | {""}
        return {PLAN} | {f"{place}{name}" for place in partitions for name in (MANIFEST, SUCCESS)}

    def files(self) -> set[str]:
        return {
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.is_file()
        }


class Killed(BaseException):
    """In place of SIGKILL: nothing of ours catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> list[str]:
    """Let the folder change its files so often, and no more."""
    changes: list[str] = []

    def counted(kind: str) -> Callable[..., object]:
        original = getattr(Folder, kind)

        def change(folder: Folder, *arguments: object) -> object:
            if len(changes) == step:
                raise Killed
            changes.append(kind)
            return original(folder, *arguments)

        return change

    for kind in ("remove", "write_replace", "create_exclusive"):
        monkeypatch.setattr(Folder, kind, counted(kind))
    return changes
