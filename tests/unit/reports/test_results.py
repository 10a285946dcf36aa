"""Results for programs: whole ones only, with the rows and columns of all files."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from helpers.report_runs import CONFIG, Run, predict, write_documents
from helpers.waiting import LIMIT_SECONDS

import bertsum
from bertsum import read_results
from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError, IncompleteError
from bertsum.runs.records import Job

ROOT = Path(__file__).parents[3]
TEXTS = {
    "dt=2026-11-20": [f"Alpha {i}. Beta. Gamma <b>{i}</b>." for i in range(30)],
    "dt=2026-11-21": ["Later one. Two. Three.", None, "Later two. B. C."],
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_documents(tmp_path / "in", TEXTS)
    return Run(tmp_path / "in", tmp_path / "out", rows_per_unit=7).run()


def test_rows_are_those_that_duckdb_reads(run: Run, tmp_path: Path) -> None:
    results = read_results(tmp_path / "out")
    assert len(results) == results.num_rows == 33
    table = results.to_table(columns=["id", "sentiment", "dt"])
    query = "SELECT id, sentiment, dt::VARCHAR FROM read_parquet(?, hive_partitioning = true)"
    expected = duckdb.execute(query, [f"{tmp_path}/out/dt=*/*.parquet"]).fetchall()
    assert sorted(zip(*table.to_pydict().values(), strict=True)) == sorted(expected)
    # in the order of INPUT
    ids = [f"{partition}-{i}" for partition, texts in TEXTS.items() for i in range(len(texts))]
    assert table["id"].to_pylist() == ids
    assert "33 rows" in repr(results) and "model-a" in repr(results)


def test_a_filter_reads_what_it_asks_for(run: Run) -> None:
    results = read_results(run.output.uri)
    wanted = (ds.field("dt") == "2026-11-21") & ds.field("sentiment").is_valid()
    table = results.to_table(columns=["id"], filter=wanted)
    assert table["id"].to_pylist() == ["dt=2026-11-21-0", "dt=2026-11-21-2"]


def test_pandas_has_dicts_and_numbers(run: Run) -> None:
    frame = read_results(run.output.uri).to_pandas(["sentiment_scores", "num_tokens"])
    assert frame["sentiment_scores"][0] == pytest.approx(
        {"positive": 0.6, "negative": 0.2, "neutral": 0.2}
    )
    assert frame["num_tokens"].sum() == sum(
        len((text or "").split()) for texts in TEXTS.values() for text in texts
    )


def test_polars_has_the_same_rows(run: Run) -> None:
    polars = pytest.importorskip("polars")
    results = read_results(run.output.uri)
    frame = results.to_polars()
    assert isinstance(frame, polars.DataFrame)
    assert frame["id"].to_list() == results.to_table(["id"])["id"].to_pylist()
    assert frame["summary"].null_count() == 1


def test_a_package_that_is_missing_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ConfigError, match=r"needs polars: pip install 'bertsum\[notebook\]'"):
        read_results(run.output.uri).to_polars()


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    write_documents(tmp_path / "in", TEXTS)
    run = Run(tmp_path / "in", tmp_path / "out", rows_per_unit=7)
    plan = run.plan()
    run.begin(plan)
    run.make(plan, most_units=2)
    units = run.plan().missing.values()
    rows = sum(unit.num_rows for unit in units)
    missing = rf"{len(units)} units with {rows} rows are missing .*bertsum status.*goes on$"
    for published_only in (False, True):
        with pytest.raises(IncompleteError, match=missing):
            read_results(tmp_path / "out", published_only=published_only)
    run.make(run.plan())
    with pytest.raises(IncompleteError, match="are there and not published"):
        read_results(tmp_path / "out")
    run.finish(run.plan())
    assert len(read_results(tmp_path / "out")) == 33


def test_days_that_are_published_can_be_read_while_another_is_made(
    run: Run, tmp_path: Path
) -> None:
    # a run over one day takes its mark away; the other day stays published
    (tmp_path / "out" / "_SUCCESS").unlink()
    (tmp_path / "out" / "dt=2026-11-21" / "_SUCCESS").unlink()
    with pytest.raises(
        IncompleteError, match=r"1 partition\(s\) are published.*published_only=True"
    ):
        read_results(tmp_path / "out")
    results = read_results(tmp_path / "out", published_only=True)
    assert len(results) == 30
    assert set(results.to_table(["dt"])["dt"].to_pylist()) == {"2026-11-20"}


def test_files_that_are_no_part_of_the_result_are_not_read(run: Run, tmp_path: Path) -> None:
    """Superseded ones during a replacement, and copies of CSV files of INPUT."""
    first = next((tmp_path / "out").glob("dt=*/*.parquet"))
    name = first.name.replace("-", "-1", 1)
    (first.parent / name).write_bytes(first.read_bytes())
    hidden = tmp_path / "out" / "_bertsum" / "input"
    hidden.mkdir()
    (hidden / "a.parquet").write_bytes(first.read_bytes())
    assert read_results(tmp_path / "out").to_table(["id"]).num_rows == 33


def test_columns_that_only_later_files_have_are_there(tmp_path: Path) -> None:
    write_documents(tmp_path / "in", {"dt=1": ["Alpha. Beta."]})
    path = tmp_path / "in" / "dt=2" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"id": ["x"], "document": ["Later. B."], "extra": [7]}), path)
    Run(tmp_path / "in", tmp_path / "out").run()
    table = read_results(tmp_path / "out").to_table(["id", "extra", "dt"])
    assert table["extra"].to_pylist() == [None, 7]
    assert table["dt"].to_pylist() == [1, 2]


def test_a_run_over_nothing_has_no_rows(tmp_path: Path) -> None:
    write_documents(tmp_path / "in", {"": []})
    Run(tmp_path / "in", tmp_path / "out").run()
    results = read_results(tmp_path / "out")
    assert len(results) == 0 and results.to_table().num_rows == 0


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run in"):
        read_results(tmp_path)


def test_a_document_is_shown_with_its_text_of_input(run: Run, tmp_path: Path) -> None:
    results = read_results(tmp_path / "out")
    html = results.show(3)._repr_html_()
    assert "dt=2026-11-20-3 (dt=2026-11-20/documents.parquet, row 3)" in html
    assert html.count("<mark") == 2
    assert ">Alpha 3</mark>. Beta. <mark" in html
    assert "&lt;b&gt;3&lt;/b&gt;" in html and "<b>" not in html
    assert "status: empty" in repr(results.show(31))
    for row in (-1, 33):
        with pytest.raises(IndexError, match=f"row {row} of 33"):
            results.show(row)
    (tmp_path / "in" / "dt=2026-11-20" / "documents.parquet").unlink()
    assert "is gone from INPUT" in results.show(0)._repr_html_()


def test_results_are_read_without_torch(run: Run) -> None:
    code = (
        "import sys, bertsum; r = bertsum.read_results(sys.argv[1]); r.show(0)._repr_html_();"
        "print(r.num_rows, *{'torch', 'transformers', 'ray'} & sys.modules.keys())"
    )
    arguments = [sys.executable, "-c", code, run.output.uri]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        arguments,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    assert done.stdout.split() == ["33"]


def test_public_names_are_few_and_documented() -> None:
    assert bertsum.__all__ == [
        "Document",
        "Prediction",
        "Summarizer",
        "__version__",
        "read_results",
        "show",
    ]
    assert set(bertsum.__all__) <= set(dir(bertsum))
    for name in set(bertsum.__all__) - {"__version__"}:
        public = getattr(bertsum, name)
        assert public.__doc__ and public.__name__ == name
    for function in (bertsum.read_results, bertsum.show):
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        assert {*names, "return"} <= function.__annotations__.keys()
    with pytest.raises(AttributeError, match="no attribute 'Summariser'"):
        bertsum.Summariser  # noqa: B018


def test_other_names_of_columns_are_known(tmp_path: Path) -> None:
    values = CONFIG.model_dump(mode="json") | {"output": {"prefix": "ai_"}}
    job = Job("model-a", "d", SummarizerConfig.model_validate(values))
    write_documents(tmp_path / "in", {"": ["Alpha. Beta. Gamma."]})
    Run(tmp_path / "in", tmp_path / "out", job=job, predict=predict).run()
    results = read_results(tmp_path / "out")
    assert results.to_table(["ai_summary"])["ai_summary"].to_pylist() == ["Alpha Gamma."]
    assert results.show(0)._repr_html_().count("<mark") == 2
