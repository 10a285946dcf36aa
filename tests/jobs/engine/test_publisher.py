"""From a plan to its commit without Ray: what is published when, by runs over everything and by partition."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.output_harness import JOB, Harness, write_input

from bertsum.errors import IncompleteError, OutputError
from bertsum.job_config import JobConfig
from bertsum.runs.commit import is_finished
from bertsum.runs.input import list_input
from bertsum.runs.partitions import Scope
from bertsum.runs.records import FAILURES, MANIFEST, PLAN, SUCCESS, read_back, read_json
from bertsum.runs.units import Unit, split, unit_name
from bertsum.storage.folder import Folder
from jobs.engine import waves
from jobs.engine.cluster import Shape
from jobs.engine.publisher import Publisher
from jobs.engine.reports import UnitReport
from jobs.engine.run import Run
from jobs.engine.unit_maker import ReplicaSpec
from jobs.engine.waves import Listener, Outcome, Replicas
from jobs.engine.work import SummarizeWork
from jobs.terminal.progress import Display


class Waves:
    """Makes units in place of Ray; the first one of several files becomes a unit for each of them."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.published: list[str] = []  # directories that were complete when the last unit was made

    def run(
        self, units: Mapping[str, Unit], replicas: Replicas, display: Display, listener: Listener
    ) -> Outcome:
        outcome = Outcome(dict(units))
        together = next(name for name, unit in units.items() if len(unit.slices) > 1)
        parts = {unit_name(part, JOB.fingerprint): part for part in split(units[together])}
        listener.split({together: parts})
        left = {name: unit for name, unit in units.items() if name != together}
        for name, unit in (left | parts).items():
            self._harness.make([(name, unit)])
            report = UnitReport(
                name, "here", read_back(self._harness.output, [name])[0], created=True
            )
            outcome.add(report)
            listener.add(report)
        self.published = sorted(path.parent.name for path in self._harness.root.rglob(SUCCESS))
        return outcome


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    write_input(tmp_path / "in", "dt=1/a.parquet", 3)
    write_input(tmp_path / "in", "dt=1/b.parquet", 4, first_id=3)
    write_input(tmp_path / "in", "dt=2/a.parquet", 12, first_id=7)
    return Harness(tmp_path)


@pytest.fixture
def simulated_waves(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Waves:
    simulated = Waves(harness)
    monkeypatch.setattr(waves, "run_waves", simulated.run)
    return simulated


def run_of(harness: Harness, *patterns: str) -> Run:
    """What a command makes of its options."""
    config = JobConfig(rows_per_unit=10, max_unit_bytes=2**20)
    return Run(
        input_uri=str(harness.input),
        source=list_input(str(harness.input), Scope(patterns)),
        output=harness.output,
        job=JOB,
        work=SummarizeWork(None, JOB, JOB.config, config.max_batch_tokens),
        config=config,
        address="local",
    )


def publish(harness: Harness, patterns: tuple[str, ...]) -> Publisher:
    """What `jobs.engine.publisher.publish` does, with replicas that are not there."""
    run = run_of(harness, *patterns)
    publisher = Publisher(run, run.plan())
    publisher.publish_ready()
    if publisher.waiting:
        shape = Shape(replicas=1, num_cpus=1.0, num_gpus=0.0)
        uris = {"input_uri": str(harness.input), "output_uri": str(harness.root)}
        spec = ReplicaSpec(**uris, job=JOB, work=run.work, num_threads=1, num_gpus=0.0)
        replicas = Replicas(spec=spec, shape=shape, max_attempts=1, timeout_seconds=1.0)
        publisher.make(publisher.waiting, replicas)
    publisher.publish_ready()
    return publisher


@pytest.mark.parametrize(
    ("patterns", "early"),
    [((), []), (("dt=*",), ["dt=1", "dt=2"])],
    ids=["everything", "partitions"],
)
def test_partitions_are_published_while_others_are_made_and_everything_at_the_end(
    harness: Harness, simulated_waves: Waves, patterns: tuple[str, ...], early: list[str]
) -> None:
    publisher = publish(harness, patterns)
    assert simulated_waves.published == early
    assert sorted(publisher.published) == (early or [""])
    assert (publisher.counts.rows, publisher.rows_made, publisher.rows_done) == (19, 19, 19)
    assert harness.ids() == list(range(19))
    manifest = read_json(harness.output, f"dt=1/{MANIFEST}")
    assert manifest is not None
    assert len(manifest["files"]) == 2
    assert is_finished(harness.output, run_of(harness, *patterns).plan())
    publisher.refuse_failures()


@pytest.mark.parametrize(
    ("patterns", "directory", "published"),
    [((), "", []), (("dt=*",), "dt=1/", ["dt=2"])],
    ids=["everything", "partitions"],
)
def test_a_file_that_cannot_be_used_holds_up_its_group_also_when_a_unit_is_split(
    harness: Harness,
    simulated_waves: Waves,
    patterns: tuple[str, ...],
    directory: str,
    published: list[str],
) -> None:
    (harness.input / "dt=1" / "c.parquet").write_bytes(b"PAR1 no")
    publisher = publish(harness, patterns)
    assert sorted(publisher.published) == published
    assert sorted(path.parent.name for path in harness.root.rglob(SUCCESS)) == published
    failures = read_json(harness.output, f"{directory}{FAILURES}")
    plan = read_json(harness.output, f"{directory}{PLAN}")
    assert failures is not None
    assert plan is not None
    assert [failure["files"] for failure in failures["failures"]] == [["dt=1/c.parquet"]]
    assert [Unit.from_json(entry["unit"]).num_rows for entry in plan["files"]][:2] == [3, 4]
    with pytest.raises(IncompleteError, match=r"1 part.*could not be done:\n  dt=1/c\.parquet: "):
        publisher.refuse_failures()

    # mended, the rest needs no replica: every unit is there
    (harness.input / "dt=1" / "c.parquet").unlink()
    again = publish(harness, patterns)
    assert not again.reports
    assert sorted(again.published) == [directory.removesuffix("/")]
    assert not list(harness.root.rglob(FAILURES))


def test_an_error_at_the_commit_of_one_partition_holds_up_no_other(
    harness: Harness, simulated_waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = harness.output.__class__.sweep_temporary

    def sweep(folder: object, below: str = "") -> None:
        if below == "dt=1":
            raise IncompleteError("no")
        real(harness.output, below)

    monkeypatch.setattr(harness.output.__class__, "sweep_temporary", sweep)
    publisher = publish(harness, ("dt=*",))
    assert list(publisher.published) == ["dt=2"]
    assert [failure.files for failure in publisher.failures["dt=1"]] == [["dt=1/"]]


def test_times_that_cannot_be_written_end_no_run(
    harness: Harness, simulated_waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = harness.output.__class__.write_replace

    def write(folder: Folder, name: str, data: bytes) -> None:
        if name.startswith("_bertsum/times"):
            raise OutputError("no")
        real(folder, name, data)

    monkeypatch.setattr(harness.output.__class__, "write_replace", write)
    assert sorted(publish(harness, ("dt=*",)).published) == ["dt=1", "dt=2"]
    assert not list(harness.root.rglob("times*"))
