"""Summaries that answer a query, as a job: every row, the same as in Python, and made once."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.job_helpers import documents, read_result, result_files, write

from bertsum.config import SummarizerConfig
from bertsum.inference.summarizer import Summarizer
from jobs import summarize

pytestmark = pytest.mark.usefixtures("cluster")


def run(*arguments: object) -> int:
    return summarize.main([str(argument) for argument in arguments])


def test_a_query_column_from_beginning_to_end(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = ["cat", None, "market prices", "", "?", "中文没有词"] * 5
    table = documents(30).append_column("asked", pa.array(queries))
    write(table, tmp_path / "in" / "a.parquet")
    command = (tmp_path / "in", tmp_path / "out", "--model", checkpoint)
    command += ("--set", "rows_per_unit=8", "--set", "summarizer.dtype=float32")
    asking = (*command, "--query-column", "asked", "--snippet", "60")
    assert run(*asking) == 0
    result = read_result(tmp_path / "out")
    assert result["id"].to_pylist() == table["id"].to_pylist()
    assert result["asked"].to_pylist() == queries
    statuses = ["ok", "empty", "ok", "empty", "empty", "unknown"] * 5
    assert result["query_status"].to_pylist() == statuses
    for scores, status in zip(result["query_scores"].to_pylist(), statuses, strict=True):
        assert (scores is not None) == (status == "ok")
    assert max(len(summary) for summary in result["summary"].to_pylist()) <= 60
    config = SummarizerConfig(
        query_column="asked",
        dtype="float32",
        query_weight=3.0,
        selection={"unit": "characters", "size": 60, "most_sentences": 2, "cut": "word"},
    )
    alone = Summarizer(checkpoint, config, device="cpu")(table)
    assert result["summary"].to_pylist() == alone["summary"].to_pylist()
    assert result["query_spans"].to_pylist() == alone["query_spans"].to_pylist()

    # again: nothing; another query: other names, so it must be asked for
    made = {
        name: (tmp_path / "out" / name).stat().st_mtime_ns
        for name in result_files(tmp_path / "out")
    }
    assert run(*asking) == 0
    assert {n: (tmp_path / "out" / n).stat().st_mtime_ns for n in made} == made
    capsys.readouterr()
    assert run(*command, "--query", "dog") == 1
    assert "--on-existing replace" in capsys.readouterr().err
    narrow = ("--query", "dog", "--set", "summarizer.keep_columns=[id]", "--on-existing", "replace")
    assert run(*command, *narrow) == 0
    replaced = read_result(tmp_path / "out")
    assert "asked" not in replaced.column_names
    assert replaced["query_status"].to_pylist() == ["ok"] * 30


def test_what_is_refused_before_any_work(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(documents(3), tmp_path / "in.parquet")
    command = (tmp_path / "in.parquet", tmp_path / "out", "--model", checkpoint)
    for options, code, said in (
        (("--query-column", "asked"), 2, "there is no column 'asked'"),
        (("--query-column", "id"), 2, "must name a string column"),
        (("--query", "a", "--query-column", "b"), 2, "give one"),
        (("--snippet", "9", "--sentences", "2"), 2, "give one"),
    ):
        assert run(*command, *options) == code
        printed = capsys.readouterr()
        assert said in " ".join((printed.out + printed.err).split())
    assert not (tmp_path / "out").exists()
    assert pq.read_table(tmp_path / "in.parquet").num_rows == 3
