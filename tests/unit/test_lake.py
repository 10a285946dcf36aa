"""The result as an Iceberg or Delta table: read by three engines, at every step of a run and of a replacement."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_output import JOB, LIMITS, OTHER_JOB, Harness, Killed, check, kill_at, write_input

from bertsum import commit
from bertsum.config import OutputConfig
from bertsum.errors import ConfigError, InputError
from bertsum.lake import Lake, table_type, values_of
from bertsum.output import Counts, Job, read_back
from bertsum.plan import Plan, Terms, make_plan
from bertsum.schema import PREDICTION_SCHEMA
from bertsum.scope import Scope, partition_of
from bertsum.shards import list_input
from bertsum.storage import Folder
from bertsum.table_formats import open_table

FORMATS = ["iceberg", "delta"]
SCHEMA = pa.schema([("id", pa.int64()), *PREDICTION_SCHEMA])


class LakeHarness(Harness):
    """Runs with a table, one partition after the other or all at once."""

    def __init__(self, root: Path, table: str, **rules: Any) -> None:
        super().__init__(root)
        self.rules = OutputConfig.model_validate({"table": table, "file_bytes": 0} | rules)
        self.table, self.place = table, str(self.root)

    def catalog(self) -> Any:
        """The Iceberg catalog, for a reader."""
        from pyiceberg.catalog import load_catalog

        return load_catalog("bertsum", type="sql", uri=f"sqlite:///{self.root}/_iceberg/catalog.db")

    def delta(self) -> Any:
        """The Delta table, for a reader."""
        from deltalake import DeltaTable

        return DeltaTable(self.place)

    def connect(self) -> Any:
        """DuckDB with the extensions for the table."""
        duckdb = pytest.importorskip("duckdb")
        connection = duckdb.connect()
        for extension in ("avro", "iceberg") if self.table == "iceberg" else ("delta",):
            load_extension(connection, extension)
        return connection

    @property
    def lake(self) -> Lake:
        lake = open_table(self.rules, self.output)
        assert lake is not None
        return lake

    def look(self, job: Job = JOB, *patterns: str) -> Plan:
        source = list_input(str(self.input), Scope(patterns))
        terms = Terms(limits=LIMITS, check=check(job), rules=self.rules)
        plan = make_plan(source, self.output, job, terms)
        behind = self.lake.behind([*plan.units, *plan.retained], sorted(plan.partitions & plan.published))
        return replace(plan, published=plan.published - behind)

    def work(self, job: Job = JOB, *patterns: str) -> Plan:
        plan = self.look(job, *patterns)
        if commit.is_finished(self.output, plan):
            return plan
        self.lake.prepare(self.schemas(), sorted(plan.partitions))
        self.begin(plan, job)
        self.make(plan.missing.items(), job)
        for part in [plan.only({place}) for place in plan.open_partitions] if patterns else [plan]:
            self.finish(part, job)
        return plan

    def finish(self, plan: Plan, job: Job = JOB) -> Counts:
        return self.committer(job, lake=self.lake).commit(plan, {})

    def schemas(self) -> list[pa.Schema]:
        from bertsum.columns import output_schema

        return [output_schema(pq.read_schema(self.input / "dt=2026-11-20" / "a 0%.parquet"), JOB.config)]

    def read(self) -> dict[str, list[tuple[int, str, str, str]]]:
        """Rows by engine: id, day, summary, and the fingerprint in the name of the file it came from is not needed."""
        return {engine: sorted(read(self)) for engine, read in READERS.items()}


def load_extension(connection: Any, name: str) -> None:
    """Of the package that brings it: DuckDB itself would fetch it from the network."""
    package = pytest.importorskip(f"duckdb_extension_{name}")
    (file,) = Path(package.__file__).parent.rglob("*.duckdb_extension")
    connection.execute(f"LOAD '{file}'")


def read_duckdb(harness: LakeHarness) -> list[tuple[Any, ...]]:
    connection = harness.connect()
    place = f"delta_scan('{harness.place}')"
    if harness.table == "iceberg":
        place = f"iceberg_scan('{iceberg_table(harness).metadata_location}')"
    rows = connection.execute(f"SELECT id, CAST(dt AS VARCHAR), summary, status FROM {place}").fetchall()
    one_day = connection.execute(f"SELECT count(*) FROM {place} WHERE dt = DATE '2026-11-20'").fetchall()
    assert one_day == [(sum(row[1] == "2026-11-20" for row in rows),)]
    return list(rows)


def read_own(harness: LakeHarness) -> list[tuple[Any, ...]]:
    """pyiceberg or deltalake itself."""
    if harness.table == "iceberg":
        table = iceberg_table(harness).scan().to_arrow()
    else:
        table = harness.delta().to_pyarrow_table()
    days = [day.isoformat() for day in table["dt"].to_pylist()]
    return list(
        zip(table["id"].to_pylist(), days, table["summary"].to_pylist(), table["status"].to_pylist(), strict=True)
    )


READERS: dict[str, Callable[[LakeHarness], list[tuple[Any, ...]]]] = {"duckdb": read_duckdb, "own": read_own}


def iceberg_table(harness: LakeHarness) -> Any:
    return harness.catalog().load_table(harness.rules.table_name)


def num_commits(harness: LakeHarness) -> int:
    if harness.table == "iceberg":
        return len(iceberg_table(harness).snapshots())
    with fsspec.open_files(f"{harness.place}/_delta_log/*.json", "rt") as entries:
        return sum("bertsum.job" in entry.read() for entry in entries)


def expected(days: Mapping[str, Iterable[int]]) -> list[tuple[int, str, str, str]]:
    return [(i, day, f"text {i}", "ok") for day, ids in days.items() for i in ids]


DAYS = {"2026-11-20": range(25), "2026-11-21": range(25, 29)}


@pytest.fixture(params=FORMATS)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> LakeHarness:
    pytest.importorskip({"iceberg": "pyiceberg", "delta": "deltalake"}[request.param])
    return make(tmp_path, request.param)


def make(root: Path, table: str, **rules: Any) -> LakeHarness:
    write_input(root / "in", "dt=2026-11-20/a 0%.parquet", 25)
    write_input(root / "in", "dt=2026-11-21/ü.parquet", 4, first_id=25)
    return LakeHarness(root, table, **rules)


def test_a_run_is_one_commit_that_three_engines_read(harness: LakeHarness) -> None:
    plan = harness.work()
    assert len(plan.units) == 4
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))
    assert num_commits(harness) == 1
    assert commit.is_finished(harness.output, harness.look())
    harness.work()
    assert num_commits(harness) == 1


def test_partition_after_partition(harness: LakeHarness) -> None:
    harness.work(JOB, "dt=2026-11-21")
    assert harness.read() == dict.fromkeys(READERS, expected({"2026-11-21": range(25, 29)}))
    write_input(harness.input, "dt=2026-11-21/z.parquet", 2, first_id=29)
    harness.work(JOB, "dt=2026-11-21")
    assert harness.read() == dict.fromkeys(READERS, expected({"2026-11-21": range(25, 31)}))
    harness.work(JOB, "dt=2026-11-*")
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS | {"2026-11-21": range(25, 31)}))
    assert num_commits(harness) == 3


def test_a_replacement_is_atomic_and_the_earlier_snapshot_stays_readable(harness: LakeHarness) -> None:
    old = harness.work()
    before = harness.read()
    plan = harness.look(OTHER_JOB, "dt=2026-11-20")
    harness.begin(plan, OTHER_JOB)
    harness.make(plan.missing.items(), OTHER_JOB)
    assert harness.read() == before  # new files lie there, and no reader of the table sees them
    earlier = earlier_reader(harness)
    harness.work(OTHER_JOB, "dt=2026-11-20")
    assert harness.read() == before  # the texts are the same, so look at the files
    assert table_files(harness) == {*plan.units, *(n for n in old.units if n.startswith("dt=2026-11-21"))}
    assert sorted(earlier()) == before["own"]
    assert old.units.keys() <= harness.files()
    assert commit.is_finished(harness.output, harness.look(OTHER_JOB, "dt=2026-11-20"))


def earlier_reader(harness: LakeHarness) -> Callable[[], list[int]]:
    """A query that began before the replacement and reads afterwards."""
    if harness.table == "iceberg":
        table = iceberg_table(harness)
        scan = table.scan()
        return lambda: [tuple(row.values()) for row in rows_of(scan.to_arrow())]
    found = harness.delta()
    return lambda: [tuple(row.values()) for row in rows_of(found.to_pyarrow_table())]


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    rows = table.select(["id", "dt", "summary", "status"]).to_pylist()
    return [row | {"dt": row["dt"].isoformat()} for row in rows]


def table_files(harness: LakeHarness) -> set[str]:
    return set(harness.lake._backend.files())


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


def test_back_to_the_old_model_costs_no_work(harness: LakeHarness) -> None:
    old = harness.work()
    new = harness.work(OTHER_JOB)
    back = harness.look(JOB)
    assert not back.missing
    harness.work(JOB)
    assert table_files(harness) == old.units.keys()
    assert new.units.keys() <= harness.files()


def test_killed_at_any_change_of_files(harness: LakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            choices = [{n for n in units if partition_of(n) == day} for units in (old.units, new.units)]
            assert {n for n in found if partition_of(n) == day} in choices
        own.work(OTHER_JOB, "dt=*")
        assert table_files(own) == new.units.keys()
        assert commit.is_finished(own.output, own.look(OTHER_JOB, "dt=*"))
        step += 5
    assert step >= 15


def publish_often(own: LakeHarness, day: str, variant: int, start: Any) -> None:
    """A writer that puts its own file set into the table again and again."""
    names = [name for name in own.files() if name.startswith(f"dt={day}/") and name.endswith(".parquet")]
    names = sorted(names)[variant::2]
    records = {record.name: record for record in read_back(own.output, names)}
    start.wait()
    for _ in range(4):
        own.lake.publish(records, [f"dt={day}"], {"bertsum.job": str(variant)})


@pytest.mark.parametrize("same", [False, True])
def test_two_writers_at_once(harness: LakeHarness, same: bool) -> None:
    """On different days both are there in the end; on one day it holds the files of one of them, never of both."""
    plan = harness.work()
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    days = ["2026-11-20", "2026-11-20" if same else "2026-11-21"]
    writers = [
        context.Process(target=publish_often, args=(harness, day, variant if same else 0, start))
        for variant, day in enumerate(days)
    ]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    files = table_files(harness)
    first = sorted(name for name in plan.units if name.startswith("dt=2026-11-20"))
    other = sorted(name for name in plan.units if name.startswith("dt=2026-11-21"))
    assert {n for n in files if n in first} in ([set(first[0::2]), set(first[1::2])] if same else [set(first[0::2])])
    assert {n for n in files if n in other} == set(other if same else other[0::2])
    rows = read_own(harness)
    assert len(rows) == len({row[0] for row in rows})


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
    assert ready.wait(60)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(30)
    assert table_files(harness) == set()
    made = {path for path in harness.files() if path.endswith(".parquet")}
    assert len(made) == 4
    plan = harness.work()
    assert plan.done == made
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))


def test_a_new_column_is_added_and_a_changed_type_is_refused_before_any_work(harness: LakeHarness) -> None:
    harness.work()
    (schema,) = harness.schemas()
    partitions = ["dt=2026-11-22"]
    harness.lake.prepare([schema.append(pa.field("extra", pa.large_string()))], partitions)
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))
    with pytest.raises(InputError, match="'id' is string in the files to come, but int64"):
        harness.lake.prepare([schema.set(0, pa.field("id", pa.string()))], partitions)
    with pytest.raises(InputError, match=r"'dt' is string"):
        harness.lake.prepare([schema], ["dt=today"])
    with pytest.raises(InputError, match=r"partitioned by \['dt'\], but the files by \['day'\]"):
        harness.lake.prepare([schema], ["day=2026-11-22"])


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
        other.prepare([schema.append(pa.field("extra", pa.string() if same else pa.int64()))], ["dt=2026-11-21"])
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
    monkeypatch.setattr(SqlCatalog, "namespace_exists", lambda *values: next(missing, True) and real(*values))
    lake.prepare(harness.schemas(), ["dt=2026-11-20"])
    assert next(missing, None) is None
    assert harness.lake._backend.schema() is not None


@pytest.mark.parametrize("bad", [pa.uint64(), pa.timestamp("ns"), pa.null(), pa.duration("s"), pa.time64("us")])
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
