"""Runs whose OUTPUT is a table, their readers, and what must hold on a disk and on a store."""

import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsum.errors import InputError
from bertsum.output_config import OutputConfig
from bertsum.runs import commit
from bertsum.runs.input import list_input
from bertsum.runs.partitions import Scope
from bertsum.runs.plan import Plan, Terms, make_plan
from bertsum.runs.records import Counts, Job, read_back
from bertsum.runs.tables.formats import open_table
from bertsum.runs.tables.table import Lake
from bertsum.schema import PREDICTION_SCHEMA
from helpers.output_harness import JOB, LIMITS, OTHER_JOB, Harness, check, write_input
from helpers.waiting import LIMIT_SECONDS

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
        behind = self.lake.behind(
            [*plan.units, *plan.retained], sorted(plan.partitions & plan.published)
        )
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
        from bertsum.runs.columns import output_schema

        return [
            output_schema(pq.read_schema(self.input / "dt=2026-11-20" / "a 0%.parquet"), JOB.config)
        ]

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
    rows = connection.execute(
        f"SELECT id, CAST(dt AS VARCHAR), summary, status FROM {place}"
    ).fetchall()
    one_day = connection.execute(
        f"SELECT count(*) FROM {place} WHERE dt = DATE '2026-11-20'"
    ).fetchall()
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
        zip(
            table["id"].to_pylist(),
            days,
            table["summary"].to_pylist(),
            table["status"].to_pylist(),
            strict=True,
        )
    )


READERS: dict[str, Callable[[LakeHarness], list[tuple[Any, ...]]]] = {
    "duckdb": read_duckdb,
    "own": read_own,
}


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


def make(root: Path, table: str, **rules: Any) -> LakeHarness:
    write_input(root / "in", "dt=2026-11-20/a 0%.parquet", 25)
    write_input(root / "in", "dt=2026-11-21/ü.parquet", 4, first_id=25)
    return LakeHarness(root, table, **rules)


def assert_a_run_is_one_commit(harness: LakeHarness) -> None:
    plan = harness.work()
    assert len(plan.units) == 4
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))
    assert num_commits(harness) == 1
    assert commit.is_finished(harness.output, harness.look())
    harness.work()
    assert num_commits(harness) == 1


def assert_partition_after_partition(harness: LakeHarness) -> None:
    harness.work(JOB, "dt=2026-11-21")
    assert harness.read() == dict.fromkeys(READERS, expected({"2026-11-21": range(25, 29)}))
    write_input(harness.input, "dt=2026-11-21/z.parquet", 2, first_id=29)
    harness.work(JOB, "dt=2026-11-21")
    assert harness.read() == dict.fromkeys(READERS, expected({"2026-11-21": range(25, 31)}))
    harness.work(JOB, "dt=2026-11-*")
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS | {"2026-11-21": range(25, 31)}))
    assert num_commits(harness) == 3


def assert_a_replacement_is_atomic(harness: LakeHarness) -> None:
    old = harness.work()
    before = harness.read()
    plan = harness.look(OTHER_JOB, "dt=2026-11-20")
    harness.begin(plan, OTHER_JOB)
    harness.make(plan.missing.items(), OTHER_JOB)
    assert harness.read() == before  # new files lie there, and no reader of the table sees them
    earlier = earlier_reader(harness)
    harness.work(OTHER_JOB, "dt=2026-11-20")
    assert harness.read() == before  # the texts are the same, so look at the files
    assert table_files(harness) == {
        *plan.units,
        *(n for n in old.units if n.startswith("dt=2026-11-21")),
    }
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


def assert_back_to_the_old_model_costs_no_work(harness: LakeHarness) -> None:
    old = harness.work()
    new = harness.work(OTHER_JOB)
    back = harness.look(JOB)
    assert not back.missing
    harness.work(JOB)
    assert table_files(harness) == old.units.keys()
    assert new.units.keys() <= harness.files()


def publish_often(own: LakeHarness, day: str, variant: int, start: Any) -> None:
    """A writer that puts its own file set into the table again and again."""
    names = [
        name for name in own.files() if name.startswith(f"dt={day}/") and name.endswith(".parquet")
    ]
    names = sorted(names)[variant::2]
    records = {record.name: record for record in read_back(own.output, names)}
    start.wait()
    for _ in range(4):
        own.lake.publish(records, [f"dt={day}"], {"bertsum.job": str(variant)})


def assert_two_writers_at_once(harness: LakeHarness, same: bool) -> None:
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
        writer.join(LIMIT_SECONDS)
        assert writer.exitcode == 0
    files = table_files(harness)
    first = sorted(name for name in plan.units if name.startswith("dt=2026-11-20"))
    other = sorted(name for name in plan.units if name.startswith("dt=2026-11-21"))
    assert {n for n in files if n in first} in (
        [set(first[0::2]), set(first[1::2])] if same else [set(first[0::2])]
    )
    assert {n for n in files if n in other} == set(other if same else other[0::2])
    rows = read_own(harness)
    assert len(rows) == len({row[0] for row in rows})


def assert_columns_may_come_and_types_may_not_change(harness: LakeHarness) -> None:
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
    for other, names in (
        ("Id", "'id' and 'Id'"),
        ("DT", "'DT' and 'dt'"),
    ):  # of this file, or of another one
        for schemas in (
            [schema.append(pa.field(other, pa.int64()))],
            [pa.schema([pa.field(other, pa.int64())])],
        ):
            with pytest.raises(InputError, match=rf"{names} differ in case alone.*keep_columns"):
                harness.lake.prepare(schemas, partitions)


BIG = 2**20


def results(harness: LakeHarness) -> set[str]:
    return {
        name for name in harness.files() if name.startswith("dt=") and name.endswith(".parquet")
    }


def ids_in_order(harness: LakeHarness) -> list[int]:
    names = sorted(table_files(harness))
    return [
        i
        for name in names
        for i in pq.read_table(harness.root / name, partitioning=None)["id"].to_pylist()
    ]
