"""`summarize --then` on a real Ray: two pools, and the rows of two commands in turn."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from helpers import tiny, tiny_seq2seq
from helpers.job_helpers import read_result, result_files, write

from bertsum import read_results
from bertsum.runs.times import read_times
from bertsum.storage.folder import Folder
from jobs import backfill, generate, nightly, status, summarize

ROWS, UNIT_ROWS = 40, 5
MOST_TOKENS = 24
COMMON = ["--set", f"rows_per_unit={UNIT_ROWS}", "--set", "resources.num_cpus=1"]


@pytest.fixture(scope="session")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_seq2seq.save(tmp_path_factory.mktemp("bart"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two days of documents; one has no text."""
    texts: list[str | None] = [tiny.text(2 + i % 12, length=5, first=i) for i in range(ROWS)]
    texts[4] = None
    table = pa.table({"id": range(ROWS), "document": texts})
    write(table.slice(0, 25), tmp_path / "in" / "dt=2026-11-28" / "a.parquet")
    write(table.slice(25), tmp_path / "in" / "dt=2026-11-29" / "b.parquet")
    return tmp_path


@pytest.fixture
def then(corpus: Path, bart: Path, checkpoint: Path) -> Path:
    return write_then(corpus / "generate.yaml", bart, checkpoint)


def write_then(path: Path, bart: Path, checkpoint: Path, **keys: object) -> Path:
    values: dict[str, object] = {
        "model": str(bart),
        "generate": {"decoding": {"max_tokens": MOST_TOKENS}},
        "sentences_model": str(checkpoint),
        "resources": {"num_cpus": 1},
    }
    path.write_text(yaml.safe_dump(values | keys))
    return path


def command(corpus: Path, then: Path, checkpoint: Path, output: str = "out") -> list[str]:
    arguments = [str(corpus / "in"), str(corpus / output), "--model", str(checkpoint)]
    return [*arguments, *COMMON, "--then", str(then)]


@pytest.mark.usefixtures("cluster")
def test_the_rows_are_those_of_two_commands_in_turn(
    corpus: Path, then: Path, bart: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(corpus, then, checkpoint)
    assert summarize.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "saved)" in printed
    assert "time in pools" in printed
    result = read_result(corpus / "out")

    first = [str(corpus / "in"), str(corpus / "first"), "--model", str(checkpoint), *COMMON]
    assert summarize.main(first) == 0
    second = [str(corpus / "first"), str(corpus / "second"), "--model", str(bart), "--summaries"]
    settings = ["--set", f"generate.decoding.max_tokens={MOST_TOKENS}"]
    sentences = ["--set", f"sentences_model={checkpoint}"]
    assert generate.main([*second, *COMMON, *settings, *sentences]) == 0
    expected = read_result(corpus / "second")
    assert result.schema.names == expected.schema.names
    assert result.equals(expected)
    assert result["id"].to_pylist() == list(range(ROWS))
    assert len(result_files(corpus / "out")) == ROWS // UNIT_ROWS

    manifest = json.loads((corpus / "out/_bertsum/manifest.json").read_text())
    assert manifest["statuses"] == {"ok": ROWS - 1, "empty": 1}
    assert manifest["job"]["model"]["id"] == str(checkpoint)
    assert manifest["job"]["then"]["model"]["id"] == str(bart)
    assert manifest["tokens"] == sum(result["abstract_num_tokens"].to_pylist())
    results = read_results(corpus / "out")
    assert f"by {checkpoint}, then {bart})" in repr(results)
    records = results.records
    assert records.job["then"]["model"]["id"] == str(bart)
    assert records.config.text_column == "document"

    # who has made each unit, and when (both pools at once: see engine/test_two_pools.py)
    times = read_times(Folder(str(corpus / "out")), [""])
    assert times.keys() == set(result_files(corpus / "out"))
    for made in times.values():
        assert made.first is not None
        assert made.first.replica != made.replica
        assert made.first.begun + made.first.seconds < made.begun + made.seconds

    # once more it does nothing, and one lost file is made with the same bytes
    capsys.readouterr()
    assert summarize.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    lost = corpus / "out" / result_files(corpus / "out")[-1]
    before = lost.read_bytes()
    lost.unlink()
    assert summarize.main(arguments) == 0
    assert lost.read_bytes() == before

    # status tells of both models; without the second stage OUTPUT is another configuration
    capsys.readouterr()
    assert status.main([str(corpus / "out")]) == 0
    assert f"model {checkpoint}, then {bart}" in capsys.readouterr().out
    assert summarize.main(arguments[:-2]) == 1
    assert "--on-existing replace" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_nights_and_days(
    corpus: Path, then: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(corpus, then, checkpoint)
    assert nightly.main([*arguments, "--date", "2026-11-29"]) == 0
    assert "15 rows made now, in all ok 15" in capsys.readouterr().out
    days = ["--from", "2026-11-28", "--to", "2026-11-29"]
    assert backfill.main([*arguments, *days]) == 0
    assert "25 of them made now; 2 days done" in capsys.readouterr().out
    result = read_result(corpus / "out")
    assert result["id"].to_pylist() == list(range(ROWS))
    assert result["abstract_status"].to_pylist().count("ok") == ROWS - 1


def test_a_dry_run_tells_of_both_models(
    corpus: Path, then: Path, bart: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summarize.main([*command(corpus, then, checkpoint), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for text in (str(checkpoint), str(bart), "what --then writes from them"):
        assert text in printed.replace("\n", "")
    assert not (corpus / "out").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"generate": {"beams": 2}}, "generate.beams: there is no such key; allowed here:"),
        ({"rows_per_unit": 5}, "rows_per_unit: there is no such key; allowed here: generate,"),
        ({"generate": {"text_column": "document"}}, "generate.text_column: 'document' contradicts"),
        ({"generate": {"keep_columns": ["id"]}}, "summarizer.keep_columns narrows INPUT's columns"),
        ({"generate": {"translate_to": "de"}}, "name no language that it translates to"),
        ({"model": "/nowhere"}, "/nowhere"),
        ({"model": None}, "model: Input should be a valid string"),
    ],
)
def test_what_is_wrong_is_said_before_work(
    keys: dict[str, object], message: str, corpus: Path, bart: Path, checkpoint: Path, capsys
) -> None:
    then = write_then(corpus / "generate.yaml", bart, checkpoint, **keys)
    assert summarize.main(command(corpus, then, checkpoint)) == 2
    assert message in capsys.readouterr().err
    assert not (corpus / "out").exists()


def test_a_clash_of_names(corpus: Path, then: Path, checkpoint: Path, capsys) -> None:
    table = pa.table({"document": ["the cat"], "Abstract": ["x"]})
    write(table, corpus / "in" / "c.parquet")
    assert summarize.main(command(corpus, then, checkpoint)) == 2
    printed = capsys.readouterr().err
    assert "columns ['Abstract'] have the names of columns of the result" in printed
    assert "--set summarizer.keep_columns" in printed


@pytest.mark.usefixtures("cluster")
def test_two_pools_that_do_not_fit(
    corpus: Path, bart: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resources = {"num_cpus": 2}
    then = write_then(corpus / "generate.yaml", bart, checkpoint, resources=resources)
    assert summarize.main(command(corpus, then, checkpoint)) == 2
    message = capsys.readouterr().err
    assert "the second pool (--then) asks for 1 replica(s) with 2 CPUs and 0 GPUs each" in message
    assert "beside 1 replica(s) with 1 CPUs and 0 GPUs each of the first" in message
