"""`generate` on a real Ray: abstracts and translations, once, again, and after a change."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny, tiny_seq2seq
from helpers.job_helpers import read_result, result_files, write

from bertsum.errors import ConfigError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.generator import Generator
from bertsum.generation.seq2seq import load_seq2seq
from bertsum.generation.sources import SENTENCE_SCORES
from bertsum.inference.summarizer import Summarizer
from jobs import generate, report, summarize
from jobs.engine.work import GenerateWork
from jobs.submit import make_request

ROWS = 25
MAX_TOKENS = "generate.decoding.max_tokens=12"


@pytest.fixture(scope="session")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_seq2seq.save(tmp_path_factory.mktemp("bart"))


@pytest.fixture(scope="session")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_seq2seq.save_nllb(tmp_path_factory.mktemp("nllb"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two days of documents: one of them is empty, and some are too long for the models."""
    texts: list[str | None] = [tiny.text(2 + i % 12, length=5, first=i) for i in range(ROWS)]
    texts[4] = None
    table = pa.table({"id": range(ROWS), "document": texts})
    write(table.slice(0, 15), tmp_path / "in" / "dt=2026-11-28" / "a.parquet", row_group_size=5)
    write(table.slice(15), tmp_path / "in" / "dt=2026-11-29" / "b.parquet")
    return tmp_path


def command(corpus: Path, model: Path, checkpoint: Path, *settings: str) -> list[str]:
    arguments = [str(corpus / "in"), str(corpus / "out"), "--model", str(model)]
    for setting in (f"sentences_model={checkpoint}", "rows_per_unit=5", MAX_TOKENS, *settings):
        arguments += ["--set", setting]
    return arguments


@pytest.mark.usefixtures("cluster")
def test_abstracts(
    corpus: Path, bart: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(corpus, bart, checkpoint)
    assert generate.main([*arguments, "--dry-run"]) == 0
    assert not (corpus / "out").exists()
    assert generate.main(arguments) == 0
    assert "saved)" in capsys.readouterr().out
    result = read_result(corpus / "out")
    assert result["id"].to_pylist() == list(range(ROWS))
    manifest = json.loads((corpus / "out/_bertsum/manifest.json").read_text())
    assert manifest["statuses"] == {"ok": 24, "empty": 1}
    assert manifest["tokens"] == sum(result["abstract_num_tokens"].to_pylist())
    assert set(result["abstract_source"].to_pylist()) == {"document", "best_sentences", None}

    # the rows are those of the library, unit by unit
    config = GenerateConfig.model_validate({"decoding": {"max_tokens": 12}})
    seq2seq = load_seq2seq(bart, config, torch.device("cpu"))

    def load() -> Summarizer:
        return Summarizer(str(checkpoint), SENTENCE_SCORES, device="cpu")

    generator = Generator(seq2seq, config, load)
    day = pq.read_table(corpus / "in/dt=2026-11-29/b.parquet", partitioning=None).slice(0, 5)
    (expected,) = generator.stream([day])
    assert result.slice(15, 5).to_pylist() == expected.to_pylist()

    page = corpus / "page.html"
    assert report.main([str(corpus / "out"), "--html", str(page)]) == 0
    assert "25 rows, 25 documents" in capsys.readouterr().out
    data = page.read_text().partition('id="data">')[2].partition("</script>")[0]
    documents = json.loads(data)["documents"]
    assert [d["readings"][0].get("summary") for d in documents] == result["abstract"].to_pylist()
    assert documents[0]["text"] == tiny.text(2, length=5, first=0)

    # again: nothing to do; one file lost: the same bytes
    assert generate.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    lost = corpus / "out" / result_files(corpus / "out")[-1]
    before = lost.read_bytes()
    lost.unlink()
    assert generate.main(arguments) == 0
    assert lost.read_bytes() == before

    # another setting: refused, then replaced where that is asked for
    longer = [*arguments, "--set", "generate.decoding.max_tokens=14"]
    capsys.readouterr()
    assert generate.main(longer) == 1
    assert "--on-existing replace" in capsys.readouterr().err
    day_alone = ["--partitions", "dt=2026-11-29", "--on-existing", "replace"]
    assert generate.main([*longer, *day_alone]) == 0
    assert max(read_result(corpus / "out")["abstract_new_tokens"].to_pylist()[15:]) > 11


@pytest.mark.usefixtures("cluster")
def test_translations_of_summaries(
    corpus: Path, nllb: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = corpus / "summaries"
    assert summarize.main([str(corpus / "in"), str(summaries), "--model", str(checkpoint),
                           "--sentences", "2"]) == 0  # fmt: skip
    capsys.readouterr()
    arguments = [str(summaries), str(corpus / "out"), "--model", str(nllb), "--summaries",
                 "--translate-to", "de", "--set", MAX_TOKENS]  # fmt: skip
    assert generate.main(arguments) == 0
    printed = capsys.readouterr().out
    result = read_result(corpus / "out")
    rows = result.to_pylist()
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert [row["summary_de_status"] for row in rows] == [
        "empty" if row["id"] == 4 else "ok" for row in rows]  # fmt: skip
    written = read_result(summaries).to_pylist()
    assert [row["summary"] for row in rows] == [row["summary"] for row in written]
    read = sum(row["summary_de_num_tokens"] for row in rows)
    whole = sum(row["num_tokens"] for row in written)
    assert f"tokens read: {read:,} instead of {whole:,}" in printed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["generate.translate_to=de"], "name no language that it translates to"),
        (["generate.text_column=body"], "there is no column 'body' (generate.text_column"),
        (["generate.document_tokens_column=document"], "a column of whole numbers"),
        (["generate.max_input_tokens=100"], "more than the model has positions: 64"),
        (["generate.keep_columns=[title]"], "keep_columns names ['title']"),
        (["generate.translate_to='a b'"], "is no code of a language"),
        (["generate.decoding.beams=2"], "there is no such key; allowed here: length_penalty"),
    ],
)
def test_what_is_wrong_is_said_before_work(
    settings: list[str], message: str, corpus: Path, bart: Path, checkpoint: Path, capsys
) -> None:
    assert generate.main(command(corpus, bart, checkpoint, *settings)) == 2
    assert message in capsys.readouterr().err
    assert not (corpus / "out").exists()


def test_a_clash_of_names(corpus: Path, bart: Path, checkpoint: Path, capsys) -> None:
    table = pa.table({"document": ["the cat"], "Abstract": ["x"]})
    write(table, corpus / "in" / "c.parquet")
    assert generate.main(command(corpus, bart, checkpoint)) == 2
    assert "columns ['Abstract'] have the names of columns of the result" in capsys.readouterr().err


def test_a_model_that_changed_on_a_node_is_refused(
    bart: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.engine.work.set_threads", lambda num_threads: None)  # of pytest
    from bertsum.generation.config import GenerateRows
    from bertsum.runs.records import Job

    rows = GenerateRows(generate=GenerateConfig(), sentences_model="x")
    work = GenerateWork(model=str(bart), job=Job(str(bart), "other", rows), config=rows.generate,
                        sentences_model=None, sentences_digest="x")  # fmt: skip
    with pytest.raises(ConfigError, match="all nodes must see the same model"):
        work.load(1, 0)


def test_submitted_with_the_same_arguments() -> None:
    arguments = ["s3://b/in", "s3://b/out", "--model", "s3://b/bart", "--translate-to", "de"]
    request = make_request("generate", arguments, [])
    assert request.entrypoint.endswith("generate " + " ".join(arguments))
    assert request.output == "s3://b/out"
