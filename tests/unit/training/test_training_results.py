"""What a run writes for people at its end, against what the saved model says of the same rows."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.rows import sentiment_rows, summary_rows, training_config
from sklearn.metrics import confusion_matrix

from bertsum import Summarizer
from bertsum.config import SummarizerConfig
from bertsum.evaluation.rouge import rouge
from bertsum.storage.folder import Folder
from bertsum.training.run import run

SIZE = 1
CONFIG = SummarizerConfig.model_validate({"selection": {"size": SIZE}, "dtype": "float32"})


@pytest.fixture
def output(tmp_path: Path, base: Path) -> Path:
    """A run on two sources; the second has a name that no file could have."""
    return train(tmp_path)[0]


def train(tmp_path: Path) -> tuple[Path, list[str]]:
    """OUTPUT, and what was said."""
    for name, rows in (("news", summary_rows(12)), ("reviews", sentiment_rows(14))):
        pq.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    config = training_config(
        encoder="package:tiny_base/model",
        data_root=str(tmp_path),
        epochs=1,
        worst_examples=4,
        sources=[
            {
                "name": "news",
                "train_uri": "news.parquet",
                "validation_uri": "news.parquet",
                "summary_column": "summary",
                "num_summary_sentences": SIZE,
            },
            {
                "name": "a/b <i>",
                "train_uri": "reviews.parquet",
                "validation_uri": "reviews.parquet",
                "sentiment_column": "label",
            },
        ],
    )
    said: list[str] = []

    def report(line: Mapping[str, Any]) -> None:
        said.extend([line["message"]] if "message" in line else [])

    run(config, Folder(str(tmp_path / "out")), torch.device("cpu"), "a command", report)
    return tmp_path / "out", said


def test_a_run_reports_what_its_model_says(output: Path) -> None:
    reports = json.loads((output / "validation_report.json").read_text())
    summarizer = Summarizer(str(output), CONFIG)
    rows = sentiment_rows(14)
    predictions = [summarizer(text) for text in rows["document"]]
    figures = reports["a/b <i>"]["sentiment"]["model"]
    labels = figures["labels"]
    said = [prediction.sentiment for prediction in predictions]
    expected = confusion_matrix(rows["label"], said, labels=labels)
    assert figures["confusion"] == expected.tolist()
    assert sum(figures["calibration"]["counts"]) == 14
    measured = json.loads((output / "validation.json").read_text())["a/b <i>"]["sentiment"]
    assert figures["accuracy"] == measured["accuracy"]
    assert figures["calibration"]["error"] == pytest.approx(measured["calibration_error"])
    assert figures["calibration"]["error_95"][0] <= figures["calibration"]["error_95"][1]

    worst = json.loads((output / "worst_examples.json").read_text())
    wrong = [example for example in worst if example["head"] == "sentiment"]
    distances = {}
    for text, label, prediction in zip(*rows.values(), predictions, strict=True):
        if prediction.sentiment != label:
            distances[text] = prediction.sentiment_scores[prediction.sentiment]
    ranked = sorted(distances.values(), reverse=True)[:4]
    assert [example["distance"] for example in wrong] == pytest.approx(ranked, abs=0.01)
    for example in wrong:
        assert example["distance"] == pytest.approx(distances[example["text"]], abs=0.01)


def test_the_worst_summaries_are_those_that_the_model_makes(output: Path) -> None:
    rows = summary_rows(12)
    summarizer = Summarizer(str(output), CONFIG)
    gaps = {}
    for text, reference in zip(*rows.values(), strict=True):
        summary = summarizer(text).summary
        gaps[text] = 100 - rouge([summary], [reference])[0].rouge_1  # the oracle finds it whole
    worst = [e for e in json.loads((output / "worst_examples.json").read_text()) if e["head"] == "summary"]  # fmt: skip
    assert worst and all(example["source"] == "news" for example in worst)
    expected = [gap for gap in sorted(gaps.values(), reverse=True) if gap > 0][:4]
    assert [example["distance"] for example in worst] == pytest.approx(expected, abs=0.01)
    for example in worst:
        assert example["summary"] == summarizer(example["text"]).summary
        pieces = [example["text"][start:stop] for start, stop in example["spans"]]
        assert "\n".join(pieces) == example["summary"]
        assert example["reference"] == rows["summary"][rows["document"].index(example["text"])]
    report = json.loads((output / "validation_report.json").read_text())["news"]["rouge"]
    assert list(report["systems"]) == ["model", "LEAD-1", "oracle"]
    assert report["systems"]["oracle"]["rouge_1"]["mean"] == pytest.approx(100)


def test_the_card_shows_pictures_that_are_there(output: Path) -> None:
    card = (output / "model_card.md").read_text()
    names = [line.partition("](")[2].rstrip(")") for line in card.splitlines() if line[:2] == "!["]
    assert names == [
        "curves.png",
        "pictures/1_news_rouge.png",
        "pictures/2_a_b__i__confusion.png",
        "pictures/2_a_b__i__calibration.png",
    ]
    assert all((output / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert "![a b i confusion](" in card


def test_a_picture_that_cannot_be_drawn_does_not_lose_the_model(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("no such font")

    monkeypatch.setattr("matplotlib.axes.Axes.barh", fail)
    output, said = train(tmp_path)
    assert "warning: pictures are left out: no such font" in "\n".join(said)
    assert Summarizer(str(output))("A cat sleeps.").status == "ok"
    card = (output / "model_card.md").read_text()
    assert "![curves](curves.png)" in card and "pictures/" not in card
