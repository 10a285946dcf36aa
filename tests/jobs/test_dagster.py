"""The asset for Dagster, as its page has it, with the real Dagster on a real Ray job server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.job_helpers import documents, read_result, write
from helpers.orchestrators import TOKEN, job_server, program, submissions
from helpers.ray_nodes import Cluster

dg = pytest.importorskip("dagster", reason="Dagster is not installed: pip install '.[dagster]'")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

DAYS = [f"2026-10-{day:02}" for day in range(1, 31)]  # all are over


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Cluster]:
    with job_server() as cluster:
        yield cluster


class Location:
    """The page's program, with an INPUT of its own, and an instance that keeps what its runs did."""

    def __init__(self, root: Path, checkpoint: Path, address: str) -> None:
        self.source, self.output = root / "in", root / "out"
        arguments = f'"{self.source}", "{self.output}", "--model", "{checkpoint}", "--set", "output.checks=hold"'
        changes = {
            '"s3://lake/news", "s3://lake/summaries"': arguments,
            "http://head:8265": address,
            'start_date="2026-11-01"': f'start_date="{DAYS[0]}"',
            '["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]': "[]",
            "max_retries=3, delay=300": "max_retries=1, delay=0",
        }
        self.names: dict[str, object] = {}
        exec(program("dagster", changes), self.names)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(root))

    def materialize(self, day: str) -> "dg.ExecuteInProcessResult":
        job = self.names["defs"].resolve_job_def("nightly")
        return job.execute_in_process(
            partition_key=day, instance=self.instance, raise_on_error=False
        )


@pytest.fixture
def location(
    ray_cluster: Cluster, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Location:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    return Location(tmp_path, checkpoint, ray_cluster.address)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("num_days", [2, pytest.param(30, marks=pytest.mark.faults)])
def test_days_are_partitions(num_days: int, location: Location, ray_cluster: Cluster) -> None:
    sent = submissions(ray_cluster).keys()
    for index, day in enumerate(DAYS[:num_days]):
        write(documents(12, first_id=12 * index), location.source / f"dt={day}" / "a.parquet")
        result = location.materialize(day)
        assert result.success
        (event,) = result.asset_materializations_for_node("summaries")
        shown = {name: value.value for name, value in event.metadata.items()}
        assert (shown["state"], shown["partition"]) == ("done", f"dt={day}")
        assert (shown["dagster/partition_row_count"], shown["rows_made"]) == (12, 12)
        assert (shown["statuses"], shown["errors"]) == ({"ok": 12}, 0)
        assert shown["dagster/uri"] == str(location.output)
        assert submissions(ray_cluster)[shown["submission"]] == "SUCCEEDED"
    made = location.instance.get_materialized_partitions(dg.AssetKey("summaries"))
    assert made == set(DAYS[:num_days])
    assert len(submissions(ray_cluster).keys() - sent) == num_days
    assert read_result(location.output)["id"].to_pylist() == list(range(12 * num_days))
    logged = [entry.user_message for entry in location.instance.all_logs(result.run_id)]
    assert any(f"published dt={day}: 12 rows" in line for line in logged)
    assert TOKEN not in repr(location.instance.all_logs(result.run_id))


@pytest.mark.slow
def test_only_what_may_succeed_is_tried_again(location: Location, ray_cluster: Cluster) -> None:
    def failure_of(day: str) -> tuple[str, int]:
        """Why the run failed, and how many submissions it sent."""
        before = submissions(ray_cluster)
        result = location.materialize(day)
        (event,) = [event for event in result.all_node_events if event.is_step_failure]
        reason = event.step_failure_data.error_display_string
        return reason, len(submissions(ray_cluster).keys() - before.keys())

    reason, sent = failure_of(DAYS[0])
    assert "holds no Parquet file yet; the same command tries again" in reason
    assert sent == 2  # the policy has one retry
    write(documents(0), location.source / f"dt={DAYS[1]}" / "a.parquet")
    reason, sent = failure_of(DAYS[1])
    assert f"held back from readers: dt={DAYS[1]}: rows: 0; the least is 1" in reason
    assert sent == 1
    assert not list(location.output.rglob("_SUCCESS"))


@pytest.mark.parametrize("is_ended_by_a_person", [True, False])
def test_a_run_that_is_interrupted(
    is_ended_by_a_person: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops its submission if a person ends it, and leaves it running if its machine goes down."""
    from jobs.orchestrators.cluster_job import ClusterJob

    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    location = Location(tmp_path, tmp_path / "model", "http://127.0.0.1:1")
    stopped: list[str] = []

    def interrupt(job: ClusterJob, log: object) -> None:
        if is_ended_by_a_person:
            (run,) = location.instance.get_runs()
            location.instance.report_run_canceling(run)
        raise dg.DagsterExecutionInterruptedError

    monkeypatch.setattr(ClusterJob, "run", interrupt)
    monkeypatch.setattr(ClusterJob, "stop", lambda job, log: stopped.append(str(job.day)))
    assert not location.materialize(DAYS[0]).success
    assert stopped == [DAYS[0]] * is_ended_by_a_person


def test_who_asks_is_the_run_that_was_asked_for() -> None:
    from jobs.orchestrators.dagster_asset import _asker

    def run(run_id: str, **values: object) -> "dg.DagsterRun":
        return dg.DagsterRun(job_name="nightly", run_id=run_id, **values)

    assert _asker(run("a")) == "a"
    parents = {"root_run_id": "a", "parent_run_id": "a"}
    assert _asker(run("b", tags={"dagster/retry_number": "1"}, **parents)) == "a"
    assert _asker(run("c", **parents)) == "c"  # a person asked for it once more
