"""SQL views and dbt's source of a result, run in DuckDB and, where it is on PATH, in dbt."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers.report_runs import Run, predict, span, write_documents
from helpers.waiting import LIMIT_SECONDS

from bertsum.config import SummarizerConfig
from bertsum.reports.catalog import DESCRIPTIONS, dbt_files, read_catalog
from bertsum.reports.results import read_results
from bertsum.runs.records import Job
from bertsum.schema import OutputGroup, Prediction, Status, prediction_schema
from jobs.report import main

LABEL = 'it\'s {{ 1 + 1 }} "bad"'  # of a model; neither SQL nor dbt may take it for its own
EVERYTHING = SummarizerConfig.model_validate(
    {"outputs": list(OutputGroup), "targets": ["Beta"], "mixed": 0.3}
)
DBT = shutil.which("dbt")


def predict_all(text: str, number: int) -> Prediction:
    made = predict(text, number)
    scores = {"positive": 0.7, LABEL: 0.3}
    target = {
        "target": "Beta",
        "sentiment": LABEL,
        "sentiment_scores": scores,
        "mentions": [span(0, 2), span(3, 5)],
    }
    values = {name: getattr(made, name) for name in Prediction.__dataclass_fields__}
    for sentence in values["sentences"]:
        sentence |= {"sentiment": "positive", "sentiment_scores": scores}
    changed = {
        "sentiment": LABEL if number % 2 else "positive",
        "sentiment_scores": scores,
        "embedding": [0.5, -1.5],
        "targets": [target] if number % 3 == 0 else [],
        "query_scores": [0.75],
        "query_spans": [span(0, 5)],
        "query_status": "ok",
    }
    return Prediction(**values | changed)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    texts = {
        "dt=2026-11-20": [f"Alpha {i}. Beta. Gamma." for i in range(9)],
        "dt=2026-11-21": ["Later. B. C.", None],
    }
    write_documents(tmp_path / "in", texts)
    job = Job("model-a", "d", EVERYTHING)
    root = tmp_path / "News-2026"
    Run(tmp_path / "in", root, job=job, predict=predict_all, rows_per_unit=4).run()
    hidden = root / "_bertsum" / "input"  # where copies of CSV files lie
    hidden.mkdir()
    shutil.copy(next(root.glob("dt=*/*.parquet")), hidden / "copy.parquet")
    return root


@pytest.fixture
def database(output: Path, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """With the views that the command writes."""
    assert main([str(output), "--views", str(tmp_path / "views.sql")]) == 0
    with duckdb.connect() as database:
        database.execute((tmp_path / "views.sql").read_text(encoding="utf-8"))
        yield database


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted(output.glob("dt=*/*.parquet")):
        for number, row in enumerate(
            pq.ParquetFile(path).read().to_pylist(maps_as_pydicts="strict")
        ):
            rows.append(row | {"key": (str(path), number)})
    return rows


def test_the_flat_view_has_every_row_and_plain_columns(
    database: duckdb.DuckDBPyConnection, output: Path
) -> None:
    types = dict(row[:2] for row in database.execute("DESCRIBE news_2026_flat").fetchall())
    assert not [name for name, kind in types.items() if kind[-1] in ")]"], types
    query = f"""
        SELECT bertsum_file, bertsum_row, id, summary, sentiment, sentiment_scores_positive,
            "sentiment_scores_{LABEL.replace('"', '""')}", summary_sentences, sentences_count,
            targets_count, dt::VARCHAR FROM news_2026_flat ORDER BY 1, 2"""
    expected = []
    for row in rows_of(output):
        scores = row["sentiment_scores"] or {}
        chosen = row["summary_sentences"]
        values = (
            *row["key"],
            row["id"],
            row["summary"],
            row["sentiment"],
            scores.get("positive"),
            scores.get(LABEL),
            None if chosen is None else ",".join(map(str, chosen)),
            None if row["sentences"] is None else len(row["sentences"]),
            None if row["targets"] is None else len(row["targets"]),
            Path(row["key"][0]).parent.name.removeprefix("dt="),
        )
        expected.append(values)
    assert database.execute(query).fetchall() == expected
    assert len(expected) == 11


def test_each_list_of_records_has_a_view(database: duckdb.DuckDBPyConnection, output: Path) -> None:
    spans = ("summary_spans", "query_spans")
    for column in ("sentences", "keywords", "aspects", "targets", *spans):
        view = f"news_2026_{column}"
        types = dict(row[:2] for row in database.execute(f"DESCRIBE {view}").fetchall())
        assert not [name for name, kind in types.items() if kind[-1] in ")]"], types
        found = database.execute(
            f"SELECT bertsum_file, bertsum_row, element_index FROM {view} ORDER BY ALL"
        ).fetchall()
        expected = []
        for row in rows_of(output):
            expected += [(*row["key"], index) for index in range(len(row[column] or ()))]
        assert found == expected and found
    sentences = database.execute(
        "SELECT id, element_index, start, length, round(sentiment_scores_positive::DOUBLE, 2) "
        "FROM news_2026_sentences WHERE id = 'dt=2026-11-20-3' ORDER BY 2"
    ).fetchall()
    assert sentences == [
        ("dt=2026-11-20-3", 0, 0, 7, 0.7),
        ("dt=2026-11-20-3", 1, 9, 4, 0.7),
        ("dt=2026-11-20-3", 2, 15, 6, 0.7),
    ]
    mentions = database.execute("SELECT DISTINCT mentions_count FROM news_2026_targets").fetchall()
    assert mentions == [(2,)]


def test_the_source_has_descriptions_and_tests_that_hold(output: Path, tmp_path: Path) -> None:
    assert main([str(output), "--dbt", str(tmp_path / "dbt")]) == 0
    (source,) = yaml.safe_load((tmp_path / "dbt" / "sources.yml").read_text())["sources"]
    (table,) = source["tables"]
    columns = {column["name"]: column for column in table["columns"]}
    location = table["meta"]["external_location"]
    database = duckdb.connect()
    found = database.execute(f"DESCRIBE SELECT * FROM {location}").fetchall()
    types = {row[0]: row[1] for row in found if row[0] not in ("bertsum_file", "file_row_number")}
    declared = {name: column["data_type"] for name, column in columns.items()}
    for name, kind in types.items():
        if name != "dt":  # DuckDB makes a date of it, Arrow a string
            cast = f"SELECT typeof(CAST(NULL AS {declared[name]}))"
            assert database.execute(cast).fetchone() == (kind,), name
    assert types.keys() == columns.keys()
    assert all(column["description"] for column in columns.values())
    num_tests = 0
    for name, column in columns.items():
        for test in column.get("data_tests", ()):
            num_tests += 1
            condition = f'"{name}" IS NULL'
            if test != "not_null":
                values = test["accepted_values"]["arguments"]["values"]
                # as dbt's own test does, once it has rendered them
                literals = ", ".join("'" + v.replace("{{ '{' }}", "{") + "'" for v in values)
                condition = f'"{name}" NOT IN ({literals})'
            query = f"SELECT count(*) FROM {location} WHERE {condition}"
            assert database.execute(query).fetchone() == (0,), (name, test)
    assert num_tests == 8  # 4 columns without nulls; query_status, status, sentiment, topic
    accepted = columns["sentiment"]["data_tests"][0]["accepted_values"]["arguments"]["values"]
    assert accepted == ["positive", LABEL.replace("'", "''").replace("{", "{{ '{' }}"), "mixed"]
    assert table["config"]["loaded_at_field"] == 'cast("dt" as timestamp)'
    assert table["config"]["freshness"]["error_after"] == {"count": 4, "period": "day"}
    latest = database.execute(f'SELECT max(cast("dt" as timestamp))::VARCHAR FROM {location}')
    assert latest.fetchone() == ("2026-11-21 00:00:00",)


def test_without_days_freshness_is_that_of_the_publication(tmp_path: Path) -> None:
    write_documents(tmp_path / "in", {"": ["Alpha. Beta."]})
    Run(tmp_path / "in", tmp_path / "out").run()
    files = dbt_files(read_catalog(read_results(tmp_path / "out")))
    (table,) = yaml.safe_load(files["sources.yml"])["sources"][0]["tables"]
    (time,) = duckdb.execute(table["config"]["loaded_at_query"]).fetchone() or ()
    written = (tmp_path / "out" / "_SUCCESS").stat().st_mtime
    assert time.timestamp() == pytest.approx(written, abs=2)


def test_every_column_has_a_description() -> None:
    assert DESCRIPTIONS.keys() == set(prediction_schema(tuple(OutputGroup)).names)
    assert all(status.value in DESCRIPTIONS["status"] for status in Status)


@pytest.mark.parametrize("name", ["Bertsum_File", "file_row_number"])
def test_a_column_that_views_cannot_have_is_named(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"document": ["Alpha. Beta."], name: [1]})
    pq.write_table(table, tmp_path / "in" / "documents.parquet")
    Run(tmp_path / "in", tmp_path / "out").run()
    assert main([str(tmp_path / "out"), "--views", str(tmp_path / "views.sql")]) == 2
    assert f"a column {name!r}" in capsys.readouterr().err


def test_a_column_of_the_input_is_no_map_for_its_name(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"document": ["Alpha. Beta."], "topic_scores": [0.5]})
    pq.write_table(table, tmp_path / "in" / "documents.parquet")
    run = Run(tmp_path / "in", tmp_path / "out", job=Job("model-a", "d", SummarizerConfig()))
    run.run()
    assert "topic_scores" not in read_catalog(read_results(tmp_path / "out")).labels


def test_an_unfinished_run_has_no_views(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(output), "--views", str(output / "views.sql")]) == 2
    assert "takes no other files" in capsys.readouterr().err
    (output / "_SUCCESS").unlink()
    for path in output.glob("dt=*/_SUCCESS"):
        path.unlink()
    assert main([str(output), "--views", str(tmp_path / "views.sql")]) == 1
    assert "is not finished" in capsys.readouterr().err
    assert not (tmp_path / "views.sql").exists()


@pytest.mark.skipif(DBT is None, reason="there is no dbt on PATH (pip install dbt-duckdb)")
@pytest.mark.slow
def test_dbt_builds_the_views_and_runs_the_tests(output: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    assert main([str(output), "--dbt", str(project / "models")]) == 0
    (project / "dbt_project.yml").write_text(
        "name: p\nversion: '1.0'\nprofile: p\nmodel-paths: [models]\n"
    )
    (project / "profiles.yml").write_text(
        "p:\n  target: t\n  outputs:\n    t: {type: duckdb, path: p.duckdb}\n"
    )

    def dbt(*arguments: str) -> str:
        done = subprocess.run(
            [str(DBT), *arguments, "--profiles-dir", "."],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert "PASS=13 WARN=0 ERROR=0" in dbt("build")  # 6 views, 7 tests
    query = (
        "select count(*) as documents, count(distinct dt) as days from {{ ref('news_2026_flat') }}"
    )
    assert re.search(r"\|\s*11 \|\s*2 \|", dbt("show", "--inline", query))
    # the days of the test are long past or to come: what counts is that there is an answer
    fresh = subprocess.run(
        [str(DBT), "source", "freshness", "--profiles-dir", "."],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert re.search(r"(PASS|WARN|ERROR STALE) freshness of bertsum.news_2026", fresh.stdout), fresh
