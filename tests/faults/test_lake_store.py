"""Tables on object storage: what holds on local files holds there, with a catalog service and lost answers, too."""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import fsspec
import pytest
from helpers.job_helpers import documents, start_summarize, write
from helpers.lake_harness import (
    DAYS,
    FORMATS,
    READERS,
    LakeHarness,
    assert_a_replacement_is_atomic,
    assert_a_run_is_one_commit,
    assert_back_to_the_old_model_costs_no_work,
    assert_columns_may_come_and_types_may_not_change,
    assert_partition_after_partition,
    assert_two_writers_at_once,
    expected,
    load_extension,
    num_commits,
    read_own,
    table_files,
)
from helpers.output_harness import write_input
from helpers.store import SECRET, Store
from helpers.waiting import LIMIT_SECONDS

from bertsum.runs import commit
from bertsum.storage.folder import Folder

pytestmark = [pytest.mark.faults]

# the request that makes a commit: of Delta the next entry of the log, of Iceberg the call of the catalog
COMMIT = {
    "delta": ("PUT", r"_delta_log/0+[1-9]\d*\.json"),
    "iceberg": ("POST", "#AWSGlue.UpdateTable"),
}


class StoreHarness(LakeHarness):
    """INPUT lies here, OUTPUT in a bucket; the Iceberg catalog is AWS Glue, as moto plays it."""

    def __init__(self, root: Path, table: str, uri: str) -> None:
        super().__init__(
            root, table, catalog="lake", table_name=f"{uri.removeprefix('s3://')}.summaries"
        )
        self.place = f"{uri}/out"
        self.output = Folder(self.place)

    def catalog(self) -> Any:
        from pyiceberg.catalog import load_catalog

        return load_catalog("lake", **{"s3.endpoint": os.environ["AWS_ENDPOINT_URL"]})

    def delta(self) -> Any:
        from deltalake import DeltaTable

        return DeltaTable(self.place, storage_options={"aws_allow_http": "true"})

    def connect(self) -> Any:
        connection = super().connect()
        load_extension(connection, "httpfs")
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID 'test', SECRET '{SECRET}', REGION 'us-east-1', URL_STYLE 'path', "
            f"ENDPOINT '{urlparse(os.environ['AWS_ENDPOINT_URL']).netloc}', USE_SSL false)"
        )
        return connection

    def files(self) -> set[str]:
        fs = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
        return {path.partition("/out/")[2] for path in fs.find(self.place)}


@pytest.fixture(params=FORMATS)
def harness(
    request: pytest.FixtureRequest, store: Store, tmp_path: Path, catalog: None
) -> StoreHarness:
    write_input(tmp_path / "in", "dt=2026-11-20/a 0%.parquet", 25)
    write_input(tmp_path / "in", "dt=2026-11-21/ü.parquet", 4, first_id=25)
    return StoreHarness(tmp_path, request.param, store.uri)


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyiceberg.catalog
    from pyiceberg.utils.config import Config

    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__TYPE", "glue")
    monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())  # it is read at import


def run_once(own: StoreHarness) -> None:
    own.work()


def start(target: Callable[..., None], harness: StoreHarness) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=target, args=(harness,))
    process.start()
    return process


def test_sigkill_between_write_and_commit(harness: StoreHarness, store: Store) -> None:
    """The commit is on its way and never arrives; the next run makes it and writes no unit again."""
    harness.lake.prepare(harness.schemas(), sorted(f"dt={day}" for day in DAYS))
    method, path = COMMIT[harness.table]
    with store.proxy.rule(method, path, "hold", forward=False) as rule:
        writer = start(run_once, harness)
        rule.wait()
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(LIMIT_SECONDS)
    assert table_files(harness) == set()
    made = {
        name for name in harness.files() if name.startswith("dt=") and name.endswith(".parquet")
    }
    assert len(made) == 4
    assert harness.work().done == made
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))
    assert num_commits(harness) == 1


def test_the_answer_to_a_commit_is_lost(harness: StoreHarness, store: Store) -> None:
    """It took effect; whether it is asked again at once or by the next run, it is there once."""
    harness.lake.prepare(harness.schemas(), sorted(f"dt={day}" for day in DAYS))
    method, path = COMMIT[harness.table]
    with store.proxy.rule(method, path, "reset", when="after") as rule:
        harness.work()
    assert rule.seen == 1
    harness.work()
    assert commit.is_finished(harness.output, harness.look())
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))
    assert num_commits(harness) == 1


def test_the_job_is_killed_at_its_commit(
    harness: StoreHarness, store: Store, checkpoint: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    """The whole command, with Ray: SIGKILL of the driver, the same command, then another model in its place."""
    write(documents(600), harness.input / "dt=2026-11-20" / "b.parquet")
    output = (
        "--set",
        f"output.table={harness.table}",
        "--set",
        f"output.table_name={harness.rules.table_name}",
    )
    command = (
        harness.input,
        harness.place,
        "--model",
        checkpoint,
        "--set",
        "rows_per_unit=100",
        *output,
    )
    command += ("--set", "output.catalog=lake")
    method, path = COMMIT[harness.table]
    with store.proxy.rule(method, path, "hold", forward=False) as rule:
        jobs.append(start_summarize(*command))
        rule.wait()
        jobs[0].kill()
        jobs[0].wait(LIMIT_SECONDS)
    assert table_files(harness) == set()
    for more in ((), (), ("--sentences", 1, "--on-existing", "replace")):
        jobs.append(start_summarize(*command, *more))
        printed, _ = jobs[-1].communicate(timeout=LIMIT_SECONDS)
        assert jobs[-1].returncode == 0, printed
        assert SECRET not in printed
    assert sorted(row[0] for row in read_own(harness)) == sorted([*range(600), *range(29)])
    assert num_commits(harness) == 2


def test_back(harness: LakeHarness) -> None:
    assert_back_to_the_old_model_costs_no_work(harness)


def test_one_commit(harness: LakeHarness) -> None:
    assert_a_run_is_one_commit(harness)


def test_partitions(harness: LakeHarness) -> None:
    assert_partition_after_partition(harness)


def test_replacement(harness: LakeHarness) -> None:
    assert_a_replacement_is_atomic(harness)


def test_schemas(harness: LakeHarness) -> None:
    assert_columns_may_come_and_types_may_not_change(harness)


@pytest.mark.parametrize("same", [False, True])
def test_writers(harness: LakeHarness, same: bool) -> None:
    assert_two_writers_at_once(harness, same)
