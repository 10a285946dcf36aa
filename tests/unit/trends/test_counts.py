"""Counts of files against DuckDB and against counting by hand; the kept ones against those from scratch."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.report_runs import Run
from helpers.trend_runs import CONFIG, JOB, Row, day_name, draw_days, make_output, told, write_days

from bertsum.errors import ConfigError, InputError
from bertsum.output_config import OutputConfig
from bertsum.reports.result import read_result
from bertsum.runs.columns import output_schema
from bertsum.runs.records import Job
from bertsum.runs.tables.formats import open_table
from bertsum.storage.folder import Folder
from bertsum.trends.config import TrendsConfig
from bertsum.trends.counts import COUNTS
from bertsum.trends.days import day_of_partition, days_of_column, parse_day
from bertsum.trends.series import ALL_ROWS, Group, make_series
from bertsum.trends.state import STATE, Counted, count_result, read_state

ROWS: dict[str, list[Row]] = {
    "region=eu/dt=2024-01-01": [
        ("negative", "sport", "Acme+Böhm"),
        ("positive", "sport", "Acme"),
        ("", "", ""),
    ],
    "region=us/dt=2024-01-01": [("negative", "business", "")],
    "region=eu/dt=2024-01-03": [("neutral", "sport", "Acme")],
}


def count(root: Path, config: TrendsConfig | None = None, *, keep_state: bool = True) -> Counted:
    return count_result(
        read_result(Folder(str(root))), config or TrendsConfig(), keep_state=keep_state
    )


def told_counts(counted: Counted) -> set[tuple[str, str, str, str | None, int]]:
    return {
        (str(row["day"]), row["column"], row["value"], row["label"], row["rows"])
        for row in counted.counts.to_pylist()
    }


def test_rows_are_counted_by_day_group_and_sentiment(tmp_path: Path) -> None:
    config = TrendsConfig(by=("topic", "targets", "aspects", "source", "region"))
    first, third = "2024-01-01", "2024-01-03"
    assert told_counts(count(make_output(tmp_path, ROWS), config)) == {
        (first, "", "", "negative", 2),
        (first, "", "", "positive", 1),
        (first, "", "", None, 1),
        (third, "", "", "neutral", 1),
        (first, "topic", "sport", "negative", 1),
        (first, "topic", "sport", "positive", 1),
        (first, "topic", "business", "negative", 1),
        (third, "topic", "sport", "neutral", 1),
        # a target has its own sentiment, and so has an aspect, in lower case
        (first, "targets", "Acme", "negative", 2),
        (first, "targets", "Böhm", "negative", 1),
        (third, "targets", "Acme", "negative", 1),
        (first, "aspects", "acme+böhm", "positive", 1),
        (first, "aspects", "acme", "positive", 1),
        (third, "aspects", "acme", "positive", 1),
        (first, "source", "wire", "negative", 2),
        (first, "source", "wire", None, 1),
        (first, "source", "blog", "positive", 1),
        (third, "source", "wire", "neutral", 1),
        (first, "region", "eu", "negative", 1),
        (first, "region", "eu", "positive", 1),
        (first, "region", "eu", None, 1),
        (first, "region", "us", "negative", 1),
        (third, "region", "eu", "neutral", 1),
    }


def test_counts_are_those_of_duckdb(tmp_path: Path) -> None:
    output = make_output(tmp_path, draw_days(20, {"sport": 30, "business": 20}))
    found = duckdb.sql(
        f"""SELECT CAST(dt AS DATE) AS day, topic, sentiment, count(*) AS rows
        FROM read_parquet('{output}/**/*.parquet', hive_partitioning = true)
        GROUP BY ALL"""
    ).fetchall()
    expected = {(str(day), "topic", topic, label, rows) for day, topic, label, rows in found}
    counts = {row for row in told_counts(count(output)) if row[1] == "topic"}
    assert counts == expected


def test_only_new_files_are_read_and_counts_are_those_from_scratch(tmp_path: Path) -> None:
    days = draw_days(12, {"sport": 5})
    names = list(days)
    write_days(tmp_path / "in", {name: days[name] for name in names[:8]})

    def run() -> Counted:
        job = Run(tmp_path / "in", tmp_path / "out", job=JOB, predict=told)
        plan = job.plan()
        job.begin(plan)
        job.make(plan)
        job.finish(plan)
        counted = count(tmp_path / "out")
        scratch = count(tmp_path / "out", keep_state=False)
        assert scratch.num_kept == 0
        assert told_counts(counted) == told_counts(scratch)
        return counted

    counted = run()
    assert (counted.num_read, counted.num_kept) == (8, 0)
    counted = count(tmp_path / "out")
    assert (counted.num_read, counted.num_kept, counted.problem) == (0, 8, None)
    write_days(tmp_path / "in", {name: days[name] for name in names[8:]})
    counted = run()
    assert (counted.num_read, counted.num_kept) == (4, 8)
    # another choice of columns has counts of its own
    other = count(tmp_path / "out", TrendsConfig(by=("source",)))
    assert (other.num_read, other.num_kept) == (12, 0)
    # and no reader of the results sees what is kept
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/out/**/*.parquet'").fetchall()[0][
        0
    ] == sum(map(len, days.values()))


def test_replaced_files_are_counted_anew_and_the_old_ones_forgotten(tmp_path: Path) -> None:
    write_days(tmp_path / "in", ROWS)
    Run(tmp_path / "in", tmp_path / "out", job=JOB, predict=told).run()
    count(tmp_path / "out")
    job = Job("model-b", "digest-b", CONFIG)
    other = Run(
        tmp_path / "in",
        tmp_path / "out",
        job=job,
        predict=lambda text, number: told(text.replace("positive", "negative"), number),
    )
    other.run()
    counted = count(tmp_path / "out")
    assert (counted.num_read, counted.num_kept) == (3, 0)
    assert "positive" not in {label for *_, label, _ in told_counts(counted) if label}
    (state,) = (tmp_path / "out" / STATE).iterdir()
    kept = read_state(other.output, f"{STATE}/{state.name}")
    assert kept is not None and len(set(kept["file"].to_pylist())) == 3


@pytest.mark.parametrize("table", ["iceberg", "delta"])
def test_tables_have_the_counts_of_plain_files(table: str, tmp_path: Path) -> None:
    """Small files of a day are put together for a table, under another name."""
    pytest.importorskip("pyiceberg" if table == "iceberg" else "deltalake")
    write_days(tmp_path / "in", ROWS)
    Run(tmp_path / "in", tmp_path / "plain", job=JOB, predict=told).run()
    run = Run(tmp_path / "in", tmp_path / "out", job=JOB, predict=told, rows_per_unit=1)
    lake = open_table(OutputConfig(table=table), run.output)  # type: ignore[arg-type]
    assert lake is not None
    run.committer = replace(run.committer, lake=lake)
    plan = run.plan()
    schema = output_schema(pq.read_schema(next((tmp_path / "in").rglob("*.parquet"))), CONFIG)
    lake.prepare([schema], sorted(plan.partitions))
    run.begin(plan)
    run.make(plan)
    run.finish(plan)
    counted = count(tmp_path / "out")
    assert told_counts(counted) == told_counts(count(tmp_path / "plain"))
    assert count(tmp_path / "out").num_kept == counted.num_read == 3
    # what is kept is no part of the table, and another run finds nothing to do
    assert not Run(tmp_path / "in", tmp_path / "out", job=JOB, rows_per_unit=1).plan().missing


def test_a_damaged_state_is_made_again_and_one_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = make_output(tmp_path, ROWS)
    right = told_counts(count(output))
    (state,) = (output / STATE).iterdir()
    state.write_bytes(b"ARROW1 no more")
    counted = count(output)
    assert (counted.num_read, told_counts(counted)) == (3, right)
    assert counted.damaged == str(state)
    assert count(output).damaged is None  # it was made anew
    state.unlink()
    state.parent.rmdir()
    state.parent.write_text("a file where a directory should be")
    counted = count(output)
    assert counted.problem is not None and "cannot write" in counted.problem
    assert told_counts(counted) == right


def test_no_bit_of_a_state_can_be_wrong_unseen(tmp_path: Path) -> None:
    """A count that is another one by a single bit would be a wrong figure for ever."""
    output = make_output(tmp_path, ROWS)
    right = told_counts(count(output))
    (state,) = (output / STATE).iterdir()
    data = state.read_bytes()
    random = np.random.default_rng(0)
    for place in [0, 31, 32, len(data) - 1, *random.integers(0, len(data), 40).tolist()]:
        broken = bytearray(data)
        broken[place] ^= 1 << int(random.integers(8))
        state.write_bytes(broken)
        counted = count(output)
        assert counted.damaged is not None, place
        assert (counted.num_read, told_counts(counted)) == (3, right)
    for length in (0, 1, 32, 100, len(data) - 1):
        state.write_bytes(data[:length])
        assert count(output).damaged is not None
    assert state.read_bytes() == data


def test_half_a_run_is_not_counted(tmp_path: Path) -> None:
    """What a run has not published is left out, and an OUTPUT without anything published is refused."""
    write_days(tmp_path / "in", ROWS)
    run = Run(tmp_path / "in", tmp_path / "out", job=JOB, predict=told)
    plan = run.plan()
    run.begin(plan)
    run.make(plan, most_units=1)
    with pytest.raises(ConfigError, match="no complete partition"):
        count(tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "zone", "days"),
    [
        (pa.array([date(2024, 1, 2), None], pa.date32()), "UTC", [date(2024, 1, 2), None]),
        (
            pa.array([datetime(2024, 1, 2, 23, 30)], pa.timestamp("us")),
            "Asia/Tokyo",
            [date(2024, 1, 2)],
        ),
        (
            pa.array([datetime(2024, 1, 2, 23, 30, tzinfo=UTC)], pa.timestamp("ms", "UTC")),
            "Asia/Tokyo",
            [date(2024, 1, 3)],
        ),
        (
            pa.array(["2024-01-02T10:00:00Z", "20240103", "soon", None, "2024-02-30"]),
            "UTC",
            [date(2024, 1, 2), date(2024, 1, 3), None, None, None],
        ),
        (
            pa.array(["2024-01-02", "2024-01-02"]).dictionary_encode(),
            "UTC",
            [date(2024, 1, 2), date(2024, 1, 2)],
        ),
    ],
)
def test_days_of_columns(column: pa.Array, zone: str, days: list[date | None]) -> None:
    assert days_of_column(column, zone).to_pylist() == days


@pytest.mark.parametrize(
    ("partition", "key", "day"),
    [
        ("dt=2024-01-02", None, date(2024, 1, 2)),
        ("region=eu/day=20240102/hour=03", None, date(2024, 1, 2)),
        ("year=2024/month=1/day=2", None, date(2024, 1, 2)),
        ("2024/01/02", None, date(2024, 1, 2)),
        ("a=2024-01-02/b=2024-01-03", "b", date(2024, 1, 3)),
        ("a=2024-01-02", "b", None),
        ("region=eu", None, None),
        ("dt=2024-13-02", None, None),
        ("dt=202401020", None, None),
        ("", None, None),
    ],
)
def test_days_of_partitions(partition: str, key: str | None, day: date | None) -> None:
    assert day_of_partition(partition, key) == day


def test_a_time_follows_a_day() -> None:
    assert parse_day("2024-01-02 10:00") == date(2024, 1, 2)


def dated_output(root: Path, days: pa.Array, **more: pa.Array) -> Path:
    (root / "in").mkdir()
    documents = [f"{('negative', 'positive')[i % 2]}|sport|" for i in range(len(days))]
    table = pa.table({"when": days, "document": documents, **more})
    pq.write_table(table, root / "in" / "a.parquet")
    Run(root / "in", root / "out", job=JOB, predict=told).run()
    return root / "out"


def test_the_day_may_be_a_column_and_rows_without_one_are_told(tmp_path: Path) -> None:
    days = pa.array([date(2024, 1, 2), date(2024, 1, 1), None, date(2024, 1, 2)])
    tags = pa.array([["a", "b"], ["a"], ["a"], None])
    output = dated_output(tmp_path, days, tags=tags, level=pa.array([1, 2, 2, None]))
    counted = count(output, TrendsConfig(time="when", by=("tags", "level")))
    assert counted.without_day == 1
    assert told_counts(counted) == {
        ("2024-01-01", "", "", "positive", 1),
        ("2024-01-02", "", "", "negative", 1),
        ("2024-01-02", "", "", "positive", 1),
        ("2024-01-02", "tags", "a", "negative", 1),
        ("2024-01-02", "tags", "b", "negative", 1),
        ("2024-01-01", "tags", "a", "positive", 1),
        ("2024-01-02", "level", "1", "negative", 1),
        ("2024-01-01", "level", "2", "positive", 1),
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "names no day; give the column of the day with --time .columns with dates: when."),
        ({"time": "then"}, "no such column, and no such key.*columns with dates: when"),
        ({"time": "number"}, "int64 tells no day"),
        ({"time": "when", "by": ("colour",)}, "'colour': no row"),
        ({"time": "when", "by": ("pair",)}, "is no value of a group|have no field"),
    ],
)
def test_wrong_columns_are_told(tmp_path: Path, config: dict[str, object], message: str) -> None:
    pair = pa.array([{"x": 1}, {"x": 2}])
    output = dated_output(
        tmp_path, pa.array([date(2024, 1, 1)] * 2), number=pa.array([1, 2]), pair=pair
    )
    with pytest.raises(ConfigError, match=message):
        count(output, TrendsConfig.model_validate(config))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    output = make_output(tmp_path, ROWS)
    result = read_result(Folder(str(output)))
    (output / result.files[1].name).write_bytes(b"PAR1 is not enough PAR1")
    with pytest.raises(InputError, match=result.files[1].name):
        count_result(result, TrendsConfig())


def test_columns_with_other_names_are_found(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"output": CONFIG.output.model_copy(update={"prefix": "b_"})})
    write_days(tmp_path / "in", ROWS)
    job = Job("model-a", "digest-a", config)
    Run(tmp_path / "in", tmp_path / "out", job=job, predict=told).run()
    counts = told_counts(count(tmp_path / "out", TrendsConfig(by=("topic",))))
    assert ("2024-01-01", "topic", "sport", "negative", 1) in counts


def test_series_hold_groups_that_can_be_judged() -> None:
    def row(day: int, column: str, value: str, label: str | None, rows: int) -> dict[str, object]:
        return {
            "day": date(2024, 1, day),
            "column": column,
            "value": value,
            "label": label,
            "rows": rows,
        }

    rows = [
        row(1, "", "", "negative", 25),
        row(3, "", "", None, 5),
        row(1, "topic", "big", "negative", 15),
        row(1, "topic", "big", "positive", 5),
        row(3, "topic", "big", None, 2),
        row(1, "topic", "small", "negative", 19),
    ]
    series = make_series(pa.Table.from_pylist(rows, schema=COUNTS), 20)
    assert series.groups == [ALL_ROWS, Group("topic", "big")]
    assert series.days == [date(2024, 1, 1), date(2024, 1, 3)]
    assert series.rows.tolist() == [[25, 5], [20, 2]]
    assert series.judged.tolist() == [[25, 0], [20, 0]]
    assert series.labelled("negative").tolist() == [[25, 0], [15, 0]]
    assert series.until(date(2024, 1, 2)).rows.tolist() == [[25], [20]]
    assert day_name(0) == "dt=2024-01-01"
