"""Jobs with a family of checkpoints: one run, each document by the model for its language."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tiny
from helpers.job_helpers import read_result, result_files, write

from bertsum.checkpoints.config import model_digest
from bertsum.config import SummarizerConfig
from bertsum.inference.summarizer import Summarizer
from jobs import benchmark, evaluate, summarize, text

ENGLISH = "The price of the house in the city rises. The bank says the market is good."
GERMAN = "Die Brücke über den Fluss wird gesperrt. Die Anwohner sind sehr verärgert."
CHINESE = "猫坐在垫子上。河水很大。城市很大。狗坐在河上。"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.family(tmp_path_factory.mktemp("family") / "model")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    texts = [
        ENGLISH,
        None,
        GERMAN,
        CHINESE,
        "123",
        *(f"{ENGLISH} {tiny.text(i)}" for i in range(9)),
    ]
    rows = pa.table({"id": range(len(texts)), "document": texts, "lang": ["x"] * len(texts)})
    write(rows, tmp_path / "in" / "a.parquet", row_group_size=4)
    return tmp_path / "in"


def command(module, *arguments: object) -> int:
    settings = ("--set", "summarizer.dtype=float32")
    return module.main([*map(str, arguments), *(settings if module is summarize else ())])


@pytest.mark.usefixtures("cluster")
def test_a_run_over_a_corpus_of_several_languages(
    source: Path, family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = (source, output, "--model", family, "--set", "rows_per_unit=4")
    assert command(summarize, *arguments, "--show", 3) == 0
    found = read_result(output)
    assert found["language"].to_pylist() == ["en", None, "de", "zh", None, *["en"] * 9]
    assert found["lang"].to_pylist() == ["x"] * 14
    # units of 4 rows, as here: to the last bit, a unit has the same batches
    summarizer = Summarizer(family, SummarizerConfig(dtype="float32"))
    rows = pq.read_table(source / "a.parquet")
    parts = [summarizer(rows.slice(start, 4)) for start in range(0, 14, 4)]
    assert found.equals(pa.concat_tables(parts).cast(found.schema))
    manifest = json.loads((output / "_bertsum" / "manifest.json").read_text())
    assert manifest["job"]["model"] == {"id": str(family), "digest": model_digest(family)}
    assert manifest["job"]["config"]["outputs"] == ["summary", "sentiment", "language"]

    files = result_files(output)
    for same in ((), ("--set", "summarizer.outputs=[language]")):
        assert command(summarize, *arguments, *same) == 0
        assert result_files(output) == files
    capsys.readouterr()
    assert command(summarize, *arguments, "--set", "summarizer.outputs=[]") == 1
    assert "--on-existing replace" in capsys.readouterr().err


@pytest.mark.usefixtures("cluster")
def test_an_input_column_of_the_name_is_refused_before_any_work(
    source: Path, family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pq.read_table(source / "a.parquet").rename_columns(["id", "document", "language"])
    write(rows, tmp_path / "in2" / "a.parquet")
    arguments = (tmp_path / "in2", tmp_path / "out", "--model", family)
    assert command(summarize, *arguments) == 2
    error = capsys.readouterr().err
    assert "['language']" in error
    assert "keep_columns" in error
    assert not result_files(tmp_path / "out")
    write(rows.drop(["language"]), tmp_path / "in3" / "language=de" / "a.parquet")
    assert command(summarize, tmp_path / "in3", tmp_path / "out", "--model", family) == 2
    assert "partition key 'language'" in capsys.readouterr().err


def test_the_text_command_says_the_language(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(GERMAN)
    assert command(text, tmp_path / "a.txt", "--model", family, "--json") == 0
    assert json.loads(capsys.readouterr().out)["language"] == "de"
    assert command(text, tmp_path / "a.txt", "--model", family) == 0
    assert "language   de" in capsys.readouterr().out
    assert command(text, tmp_path / "a.txt", "--model", family / "english", "--json") == 0
    assert "language" not in json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("cluster")
def test_a_family_is_measured(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [ENGLISH, GERMAN, CHINESE, ENGLISH]
    labels = ["positive", "negative", "neutral", "positive"]
    write(pa.table({"document": texts, "sentiment": labels}), tmp_path / "rows.parquet")
    evaluation = (tmp_path / "rows.parquet", tmp_path / "measures", "--model", f"f={family}")
    settings = (
        "--set",
        "evaluation.sentiment_column=sentiment",
        "--set",
        "evaluation.baselines=[]",
    )
    assert command(evaluate, *evaluation, *settings) == 0
    measured = read_result(tmp_path / "measures")["sentiment"].to_pylist()
    expected = Summarizer(family)(texts)
    for row, prediction in zip(measured, expected, strict=True):
        scores = dict(row[0]["scores"])
        assert scores == pytest.approx(prediction.sentiment_scores, abs=1e-2)
    capsys.readouterr()
    rows = tmp_path / "texts.parquet"
    write(pa.table({"document": texts}), rows)
    assert command(benchmark, rows, "--model", family) == 0
