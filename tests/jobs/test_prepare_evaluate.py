"""Training shards and measures on a real Ray: from rows to results, again, and after a change."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import tiny
from helpers.job_helpers import (
    losses,
    make_checkpoint,
    make_training,
    read_result,
    result_files,
    write,
)

from bertsum import Summarizer
from bertsum.config import SummarizerConfig
from bertsum.evaluation.config import EvaluationConfig
from bertsum.evaluation.word_spans import span_report
from bertsum.labels.shards import is_prepared
from jobs import evaluate, prepare, status, train
from jobs import report as report_job
from jobs.evaluate import name_models

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """20 labelled rows in two files, one of them without text, one without a label."""
    for part in range(2):
        texts: list[str | None] = [tiny.text(3 + i, first=10 * part + i) for i in range(10)]
        summaries: list[str | None] = [
            tiny.sentence(10 * part + i, 10 * part + i + 1) for i in range(10)
        ]
        labels: list[str | None] = ["positive", "negative"] * 5
        texts[3] = None
        summaries[4] = labels[4] = None
        columns = {
            "id": range(10 * part, 10 * part + 10),
            "document": texts,
            "highlights": summaries,
            "label": labels,
        }
        write(pa.table(columns), tmp_path / "in" / f"{part}.parquet")
    return tmp_path / "in"


def test_preparing(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "shards"
    command = [
        str(source),
        str(output),
        "--encoder",
        str(checkpoint),
        "--summary-column",
        "highlights",
    ]
    command += ["--set", "rows_per_unit=5", "--set", "documents.sentiment_column=label"]
    assert prepare.main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in ("in the shards 16 with", "left out: empty 2 (no text)", "left out: no_label 2 ("):
        assert part in printed
    assert len(result_files(output)) == 4
    assert all(is_prepared(pq.read_schema(output / name)) for name in result_files(output))
    assert read_result(output)["id"].to_pylist() == [i for i in range(20) if i % 10 not in (3, 4)]
    manifest = json.loads((output / "_bertsum" / "manifest.json").read_text())
    assert (manifest["rows"], manifest["statuses"]) == (16, {"ok": 16, "empty": 2, "no_label": 2})

    # again: nothing; one shard lost: made again, the same to the byte; other labels: refused
    lost = output / result_files(output)[1]
    before = lost.read_bytes()
    assert prepare.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    lost.unlink()
    assert prepare.main(command) == 0
    assert lost.read_bytes() == before
    assert prepare.main([*command, "--oracle", "combination"]) == 1
    assert "--on-existing replace" in capsys.readouterr().err
    assert status.main([str(output)]) == 0


def test_shards_train_as_rows_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prepared in several units, one file each, and read as one source: the same steps and the same weights."""
    config = make_training(tmp_path, epochs=3)
    common = [
        "--encoder",
        str(tmp_path / "encoder"),
        "--set",
        "rows_per_unit=7",
        "--set",
        "resources.num_cpus=1",
    ]
    for name, column in (("news", "summary"), ("reviews", "sentiment")):
        arguments = [f"--{column}-column", {"summary": "summary", "sentiment": "label"}[column]]
        assert (
            prepare.main(
                [
                    str(tmp_path / f"{name}.parquet"),
                    str(tmp_path / f"{name}-shards"),
                    *arguments,
                    *common,
                ]
            )
            == 0
        )
    assert len(result_files(tmp_path / "news-shards")) == 5  # one row group each
    values = yaml.safe_load(config.read_text())
    for source in values["sources"]:
        source["train_uri"] = f"{source['name']}-shards"
    prepared = tmp_path / "prepared.yaml"
    prepared.write_text(yaml.safe_dump(values))
    for path, output in ((config, "raw"), (prepared, "shards")):
        assert train.main([str(path), str(tmp_path / output), "--address", "local"]) == 0, (
            capsys.readouterr().err
        )
    assert losses(tmp_path / "raw") == losses(tmp_path / "shards")
    assert len(losses(tmp_path / "raw")) > 5
    raw, shards = (tmp_path / output / "model.safetensors" for output in ("raw", "shards"))
    assert raw.read_bytes() == shards.read_bytes()


def test_evaluating(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "measures"
    command = [
        str(source),
        str(output),
        "--model",
        str(checkpoint),
        "--model",
        f"again={checkpoint}",
        "--sentences",
        "2",
    ]
    command += [
        "--summary-column",
        "highlights",
        "--sentiment-column",
        "label",
        "--set",
        "rows_per_unit=7",
    ]
    command += ["--set", "evaluation.keep_columns=[id]", "--set", "evaluation.dtype=float32"]
    assert evaluate.main(command) == 0
    printed = capsys.readouterr().out
    for part in (
        "20 rows: ok 18, empty 2",
        "LEAD-2",
        "textrank",
        "sentiment by again, 16 rows",
        "said neutral",
    ):
        assert part in printed
    assert read_result(output)["id"].to_pylist() == list(range(20))
    report = json.loads((output / "_report" / "metrics.json").read_text())
    assert report["models"] == {"model": str(checkpoint), "again": str(checkpoint)}
    assert report["rouge"]["rows"] == 16
    systems = report["rouge"]["systems"]
    assert list(systems) == ["model", "again", "LEAD-2", *EvaluationConfig(sentiment="x").baselines]
    assert systems["model"] == systems["again"]
    assert systems["oracle"]["rouge_1"]["mean"] >= systems["LEAD-2"]["rouge_1"]["mean"]
    pictures = sorted(path.name for path in (output / "_report").glob("*.png"))
    assert pictures == [
        "calibration.png",
        "calibration_2.png",
        "confusion.png",
        "confusion_2.png",
        "rouge.png",
    ]
    assert all((output / "_report" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)

    worst = json.loads((output / "_report" / "worst_examples.json").read_text())
    texts = dict(enumerate(pq.read_table(source)["document"].to_pylist()))
    assert {example["head"] for example in worst} == {"summary", "sentiment"}
    for example in worst:
        name, row = example["where"].split(", row ")
        assert example["text"] == texts[10 * int(name.removesuffix(".parquet")) + int(row)]
    settings = {"selection": {"size": 2}, "dtype": "float32"}
    summarizer = Summarizer(str(checkpoint), SummarizerConfig.model_validate(settings))
    for example in worst:
        if example["head"] == "summary":
            chosen = summarizer(example["text"])
            assert example["summary"].split() == (chosen.summary or "").split()
            start, stop = example["spans"][0]
            assert example["summary"].startswith(example["text"][start:stop])
    page = output / "_report" / "report.html"
    assert f"report: {page}" in printed.replace("\n", "")
    before = page.read_bytes()
    page.unlink()
    assert report_job.main([str(output)]) == 0
    assert page.read_bytes() == before

    assert evaluate.main(command) == 0  # nothing is computed again; the tables are shown again
    printed = capsys.readouterr().out
    assert "nothing to do" in printed
    assert "LEAD-2" in printed


def test_labels_that_one_model_does_not_know(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = make_checkpoint(tmp_path / "more", sentiment_labels=("mixed", "negative", "positive"))
    table = pq.read_table(source / "0.parquet")
    labels = [
        "mixed" if place in (0, 6) else label
        for place, label in enumerate(table["label"].to_pylist())
    ]
    pq.write_table(table.set_column(3, "label", pa.array(labels)), source / "0.parquet")
    output = tmp_path / "measures"
    command = [str(source), str(output), "--model", f"less={checkpoint}", "--model", f"more={more}"]
    assert evaluate.main([*command, "--sentiment-column", "label"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "less does not know these labels of sentiment, and is wrong in their rows, 2 of 16: mixed (2)"
        in printed
    )
    assert "more does not know" not in printed
    found = json.loads((output / "_report" / "metrics.json").read_text())["sentiment"]
    assert found["less"]["labels"] == ["negative", "neutral", "positive", "mixed"]
    assert {model: values["rows"] for model, values in found.items()} == {"less": 16, "more": 16}
    assert {model: values["unknown_labels"] for model, values in found.items()} == {
        "less": {"mixed": 2},
        "more": {},
    }
    assert (output / "_report" / "confusion_2.png").exists()


def test_what_the_columns_of_groups_are_worth(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = source / "0.parquet", tmp_path / "measures"
    table = pq.read_table(file)
    names = pa.array([["cat", "zebra"]] * 10)
    tags = pa.array([["positive", "negative"]] * 10)
    topics = pa.array(["animals", "money"] * 5)
    for name, values in {"names": names, "tags": tags, "topic": topics}.items():
        table = table.append_column(name, values)
    pq.write_table(table, file)
    command = [str(file), str(output), "--model", f"own={checkpoint}"]
    for option in (
        "entities_column=names",
        "entity_sentiments_column=tags",
        "topic_column=topic",
        "topics=[animals, money]",
        "query_column=highlights",
    ):
        command += ["--set", f"evaluation.{option}"]
    assert evaluate.main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "targets by own, 18 entities in 9 rows" in printed
    assert "targets: 1 of 10 rows have no label and are left out" in printed
    assert "topic by own, 9 rows" in printed
    assert "retrieval: 2 of 10 rows have no query and text and are left out" in printed
    report = json.loads((output / "_report" / "metrics.json").read_text())
    assert report["targets"]["own"]["by_agreement"]["opposite"]["entities"] == 18
    assert report["topic"]["own"]["labels"] == ["animals", "money"]
    assert report["retrieval"]["own"]["candidates"] == 8
    assert (output / "_report" / "targets_confusion.png").exists()

    # a result of an earlier version, which measured no targets
    (result,) = result_files(output)
    earlier = pq.read_table(output / result).drop_columns(["expected_targets", "targets"])
    pq.write_table(earlier, output / result)
    assert evaluate.main(command) == 0
    report = json.loads((output / "_report" / "metrics.json").read_text())
    assert (report["rows"], report["targets"]) == (10, {})


def test_a_file_that_is_read_at_a_second_attempt(
    source: Path, tmp_path: Path, checkpoint: Path
) -> None:
    """Its unit was of two files and is two units by then, which the report is made from."""
    file, output = source / "1.parquet", tmp_path / "measures"
    whole, found = file.read_bytes(), file.stat()
    damaged = bytearray(whole)
    damaged[4:40] = b"\xff" * 36
    replace_content(file, bytes(damaged), found)

    def mend() -> None:
        plan = output / "_bertsum" / "plan.json"
        for _ in range(60_000):
            if plan.exists() and len(json.loads(plan.read_text())["files"]) == 2:
                replace_content(file, whole, found)
                break
            time.sleep(0.01)

    thread = threading.Thread(target=mend)
    thread.start()
    command = [str(source), str(output), "--model", str(checkpoint), "--sentiment-column", "label"]
    code = evaluate.main(
        [*command, "--set", "evaluation.keep_columns=[id]"]
    )  # the column that is damaged
    thread.join()
    assert code == 0
    assert len(result_files(output)) == 2
    assert json.loads((output / "_report" / "metrics.json").read_text())["rows"] == 20


def replace_content(file: Path, data: bytes, found: os.stat_result) -> None:
    """Of a file that is the same one to the job, which knows it by size and time."""
    temporary = file.with_name(".new")
    temporary.write_bytes(data)
    os.utime(temporary, ns=(found.st_atime_ns, found.st_mtime_ns))
    temporary.replace(file)


@pytest.mark.parametrize("name", ["oracle", "LEAD-3", "document"])
def test_two_systems_of_one_name_are_refused(
    name: str, source: Path, tmp_path: Path, checkpoint: Path, capsys
) -> None:
    command = [
        str(source),
        str(tmp_path / "out"),
        "--model",
        f"{name}={checkpoint}",
        "--summary-column",
        "highlights",
    ]
    assert evaluate.main([*command, "--set", "evaluation.system_columns=[document]"]) == 2
    assert (
        f"error: '{name}' names two of the systems ['{name}', 'LEAD-3', 'random'"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_found_before_the_work(
    source: Path, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "sumy.models.dom", None)
    command = [
        str(source),
        str(tmp_path / "out"),
        "--model",
        str(checkpoint),
        "--summary-column",
        "highlights",
    ]
    assert evaluate.main(command) == 2
    assert (
        "the baseline textrank needs sumy: pip install 'bertsum[evaluate]'"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (prepare, "no label column is named"),
        (evaluate, "no label column is named"),
    ],
)
def test_a_label_must_be_named(command, message: str, source: Path, tmp_path: Path, capsys) -> None:
    assert command.main([str(source), str(tmp_path / "out"), "--text-column", "document"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_row_whose_labels_do_not_fit_is_named(tmp_path: Path, checkpoint: Path, capsys) -> None:
    """Also where it lies in the second table of a unit, or in its second file."""
    long, short = (pa.table({"document": ["A cat."] * count, "words": [["cat"]] * count, "tags": [["O"]] * (count - 1)
                             + [[]]}) for count in (300, 7))  # fmt: skip
    for name, tables in {"long": [long], "two": [short.slice(0, 6), short]}.items():
        for part, table in enumerate(tables):
            write(table, tmp_path / name / f"{part}.parquet")
    columns = [
        "documents.tokens_column=words",
        "documents.token_sentiments_column=tags",
        "max_unit_attempts=1",
    ]
    options = [option for column in columns for option in ("--set", column)]
    for name, place in {"long": "0.parquet, row 299", "two": "1.parquet, row 6"}.items():
        command = [
            str(tmp_path / name),
            str(tmp_path / f"{name}-out"),
            "--encoder",
            str(checkpoint),
            *options,
        ]
        assert prepare.main(command) != 0
        shown = " ".join(capsys.readouterr().err.split())
        assert f"{place} (from 0): it has 1 words and 0 labels of words" in shown


def test_models_have_names() -> None:
    assert name_models([None]) == {"bertsum-default": None}
    signed = "https://user:password@host/m?token=abcdefgh"
    assert name_models([signed]) == {"m?token=***": signed}
    assert name_models(["s3://a/b/", "x=/c/d", "base="]) == {
        "b": "s3://a/b/",
        "x": "/c/d",
        "base": None,
    }
    with pytest.raises(evaluate.ConfigError, match="'b' is the name of two models"):
        name_models(["a/b", "c/b"])


def test_a_table_of_many_labels_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [f"label {number}" for number in range(40)]
    shares = dict.fromkeys(labels, 0.125)
    report = {
        "rows": 40,
        "words": 40,
        "accuracy": 0.5,
        "macro_f1": 0.5,
        "labels": labels,
        **dict.fromkeys(("precision", "recall", "f1"), shares),
        "support": dict.fromkeys(labels, 1234),
        "confusion": [[1] * 40] * 40,
        "spans": span_report([["a"]], [["a"]]),
    }
    heads = {"rouge": None, "sentiment": {}, "topic": {}, "targets": {}, "retrieval": {}}
    evaluate.show_report({"rows": 40, "statuses": {"ok": 40}, **heads, "words": {"own": report}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["label", "39", "0.125", "0.125", "0.125", "1,234"] in lines
    assert ["spans", "a", "1.000", "1.000", "1.000", "1"] in lines
