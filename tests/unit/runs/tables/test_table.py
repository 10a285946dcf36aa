"""The result as an Iceberg or Delta table: read by three engines, at every step of a run and of a replacement."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.lake_harness import (
    DAYS,
    FORMATS,
    READERS,
    SCHEMA,
    LakeHarness,
    assert_a_replacement_is_atomic,
    assert_a_run_is_one_commit,
    assert_back_to_the_old_model_costs_no_work,
    assert_columns_may_come_and_types_may_not_change,
    assert_partition_after_partition,
    assert_two_writers_at_once,
    expected,
    make,
    num_commits,
    table_files,
)
from helpers.output_harness import JOB, OTHER_JOB, Killed, kill_at, write_input
from helpers.waiting import LIMIT_SECONDS

from bertsum.errors import ConfigError, InputError
from bertsum.output_config import OutputConfig
from bertsum.runs import commit
from bertsum.runs.partitions import partition_of
from bertsum.runs.tables.formats import open_table
from bertsum.runs.tables.table import table_type, values_of
from bertsum.storage.folder import Folder


@pytest.fixture(params=FORMATS)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> LakeHarness:
    pytest.importorskip({"iceberg": "pyiceberg", "delta": "deltalake"}[request.param])
    return make(tmp_path, request.param)


def test_a_path_that_deltalake_reads_as_another(tmp_path: Path) -> None:
    pytest.importorskip("deltalake")
    for name in ("a%20b", "%E3x"):
        with pytest.raises(ConfigError, match=f"{name} cannot be a Delta table"):
            open_table(OutputConfig(table="delta"), Folder(str(tmp_path / name)))
        assert not (tmp_path / name).exists()
    for name in ("100%", "a b"):
        open_table(OutputConfig(table="delta"), Folder(str(tmp_path / name)))


def test_files_that_left_the_table_go_when_their_days_are_over(tmp_path: Path) -> None:
    pytest.importorskip("deltalake")
    harness = make(tmp_path, "delta", keep_days=1)
    old = harness.work()
    harness.work(OTHER_JOB)
    assert old.units.keys() <= harness.files()
    assert commit.is_finished(harness.output, harness.look(OTHER_JOB))
    harness.rules = OutputConfig(table="delta", keep_days=0, file_bytes=0)
    plan = harness.work(OTHER_JOB)
    assert plan.expired == old.units.keys()
    assert not old.units.keys() & harness.files()
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))
    assert num_commits(harness) == 2


def test_killed_at_any_change_of_files(
    harness: LakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And between any of them and the commit; readers of the table see all of a partition, old or new, or none."""
    step, killed = 0, True
    while killed:
        own = make(tmp_path / str(step), harness.table)
        old = own.work(JOB, "dt=2026-11-20")
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            killed = False
            try:
                own.work(OTHER_JOB, "dt=*")
            except Killed:
                killed = True
        new = own.look(OTHER_JOB, "dt=*")
        found = table_files(own)
        for day in ("dt=2026-11-20", "dt=2026-11-21"):
            choices = [
                {n for n in units if partition_of(n) == day} for units in (old.units, new.units)
            ]
            assert {n for n in found if partition_of(n) == day} in choices
        own.work(OTHER_JOB, "dt=*")
        assert table_files(own) == new.units.keys()
        assert commit.is_finished(own.output, own.look(OTHER_JOB, "dt=*"))
        step += 5
    assert step >= 15


def sleep_before_commit(own: LakeHarness, ready: Any) -> None:
    plan = own.look()
    own.lake.prepare(own.schemas(), sorted(plan.partitions))
    own.begin(plan)
    own.make(plan.missing.items())
    ready.set()
    time.sleep(60)


def test_sigkill_between_write_and_commit(harness: LakeHarness) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=sleep_before_commit, args=(harness, ready))
    writer.start()
    assert ready.wait(LIMIT_SECONDS)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(LIMIT_SECONDS)
    assert table_files(harness) == set()
    made = {path for path in harness.files() if path.endswith(".parquet")}
    assert len(made) == 4
    plan = harness.work()
    assert plan.done == made
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))


@pytest.mark.parametrize("step", ["create", "add_columns"])
@pytest.mark.parametrize("same", [True, False])
def test_another_run_prepares_the_table_at_the_same_moment(
    harness: LakeHarness, step: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes first between the look of this one and its change; what it did is looked at again."""
    (schema,) = harness.schemas()
    if step == "add_columns":
        harness.lake.prepare([schema], ["dt=2026-11-20"])
    mine, other = harness.lake, harness.lake
    real = getattr(type(mine._backend), step)

    def late(*values: Any) -> None:
        monkeypatch.undo()
        other.prepare(
            [schema.append(pa.field("extra", pa.string() if same else pa.int64()))],
            ["dt=2026-11-21"],
        )
        real(*values)

    monkeypatch.setattr(type(mine._backend), step, late)
    wanted = schema.append(pa.field("extra", pa.string()))
    if same:
        mine.prepare([wanted], ["dt=2026-11-20"])
    else:
        with pytest.raises(InputError, match="'extra' is string in the files to come, but int64"):
            mine.prepare([wanted], ["dt=2026-11-20"])
    found = harness.lake._backend.schema()
    assert found is not None
    assert found.names.count("extra") == 1


def test_two_runs_open_a_new_iceberg_catalog_at_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find its tables missing, then the namespace; the statements are those of the slower one."""
    pytest.importorskip("pyiceberg")
    from pyiceberg.catalog.sql import SqlCatalog, SqlCatalogBaseTable

    harness = make(tmp_path, "iceberg")

    def late(catalog: Any) -> None:
        SqlCatalogBaseTable.metadata.create_all(catalog.engine)
        SqlCatalogBaseTable.metadata.create_all(catalog.engine, checkfirst=False)

    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "create_tables", late)
        lake = harness.lake
    harness.catalog().create_namespace("bertsum")
    real, missing = SqlCatalog.namespace_exists, iter([False])
    monkeypatch.setattr(
        SqlCatalog, "namespace_exists", lambda *values: next(missing, True) and real(*values)
    )
    lake.prepare(harness.schemas(), ["dt=2026-11-20"])
    assert next(missing, None) is None
    assert harness.lake._backend.schema() is not None


@pytest.mark.parametrize(
    "bad", [pa.uint64(), pa.timestamp("ns"), pa.null(), pa.duration("s"), pa.time64("us")]
)
def test_types_that_no_table_has(bad: pa.DataType) -> None:
    with pytest.raises(InputError, match="column 'x' is"):
        table_type("x", pa.list_(bad))


def test_types_that_become_plain_ones() -> None:
    assert table_type("x", pa.dictionary(pa.int32(), pa.large_string())) == pa.string()
    assert table_type("x", pa.int8()) == pa.int32()
    assert table_type("x", pa.timestamp("ms", "Europe/Berlin")) == pa.timestamp("us", "UTC")
    assert table_type("x", pa.large_list(pa.string_view())) == pa.list_(pa.string())


def test_values_of_partitions() -> None:
    assert values_of("dt=2026-11-22/lang=a%2Fb") == ("2026-11-22", "a/b")
    assert values_of("dt=__HIVE_DEFAULT_PARTITION__") == (None,)
    assert values_of("") == ()


def test_an_unpartitioned_table(tmp_path: Path) -> None:
    for table in FORMATS:
        root = tmp_path / table
        write_input(root / "in", "a.parquet", 12)
        own = LakeHarness(root, table)
        plan = own.look()
        own.lake.prepare([SCHEMA], [""])
        own.begin(plan)
        own.make(plan.missing.items())
        own.finish(plan)
        assert table_files(own) == plan.units.keys()
        assert commit.is_finished(own.output, own.look())


def test_an_iceberg_table_on_a_store_needs_a_catalog() -> None:
    pytest.importorskip("pyiceberg")
    with pytest.raises(ConfigError, match=r"output\.catalog"):
        open_table(OutputConfig(table="iceberg"), Folder("memory://bucket/out"))


def test_a_run_is_one_commit_that_three_engines_read(harness: LakeHarness) -> None:
    assert_a_run_is_one_commit(harness)


def test_partition_after_partition(harness: LakeHarness) -> None:
    assert_partition_after_partition(harness)


def test_a_replacement_is_atomic_and_the_earlier_snapshot_stays_readable(
    harness: LakeHarness,
) -> None:
    assert_a_replacement_is_atomic(harness)


def test_back_to_the_old_model_costs_no_work(harness: LakeHarness) -> None:
    assert_back_to_the_old_model_costs_no_work(harness)


def test_a_new_column_is_added_and_a_changed_type_is_refused_before_any_work(
    harness: LakeHarness,
) -> None:
    assert_columns_may_come_and_types_may_not_change(harness)


@pytest.mark.parametrize("same", [False, True])
def test_two_writers_at_once(harness: LakeHarness, same: bool) -> None:
    assert_two_writers_at_once(harness, same)
