"""Whole runs in this process: what is measured is what is saved, and nothing is saved as learned that was not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from helpers.rows import sentiment_rows, summary_rows, training_config
from pydantic import ValidationError
from safetensors.torch import load_file

import bertsum
from bertsum.checkpoints.checkpoint import (
    load_checkpoint,
    read_base,
    save_checkpoint,
)
from bertsum.errors import ConfigError, ModelError, OutputError
from bertsum.evaluation.calibration import calibration, fit_temperature_by_length
from bertsum.inference.reader import document_encoder
from bertsum.storage.folder import Folder
from bertsum.training.data import read_examples
from bertsum.training.loop import renew_heads
from bertsum.training.run import claim_output, run
from bertsum.training.start.sources import source_uri
from bertsum.training.validation import LabelledSource, predict_examples, validate

START_RANK = 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """`news.parquet` with summaries and `reviews.parquet` with sentiment."""
    for name, rows in (("news", summary_rows(12)), ("reviews", sentiment_rows(12))):
        pq.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    return tmp_path


@pytest.fixture
def start(base, tmp_path: Path) -> Path:
    """A checkpoint that differs from the encoder of `tiny_base` by products of rank START_RANK."""
    return tiny.save_moved(tmp_path / "start", base, rank=START_RANK, scale=0.2)


def sources(*names: str) -> list[dict]:
    labels = {"news": {"summary_column": "summary"}, "reviews": {"sentiment_column": "label"}}
    uris = [(name, f"{name}.parquet") for name in names]
    return [
        {"name": name, "train_uri": uri, "validation_uri": uri, **labels[name]}
        for name, uri in uris
    ]


def train(data: Path, on_news=lambda news: None, **values) -> list[str]:
    """A run into DATA/out; the lines for people."""
    defaults = {
        "encoder": "package:tiny_base/model",
        "data_root": str(data),
        "sources": sources("news", "reviews"),
    }
    config = training_config(**(defaults | {"epochs": 1} | values))
    (data / "out").mkdir(exist_ok=True)
    said: list[str] = []

    def report(news: dict) -> None:
        said.extend([news["message"]] if "message" in news else [])
        on_news(news)

    run(config, Folder(str(data / "out")), torch.device("cpu"), "bertsum train", report)
    return said


def losses(data: Path) -> tuple[dict, dict]:
    """By source and kind: as the run measured them, and those of the checkpoint that lies in DATA/out."""
    measured = json.loads((data / "out" / "validation.json").read_text())
    model, tokenizer = load_checkpoint(data / "out")
    config = training_config(sources=sources("news", "reviews"), data_root=str(data))
    encoder = document_encoder(model, tokenizer)
    labelled = [
        LabelledSource(
            one,
            [],
            read_examples(
                str(data / f"{one.name}.parquet"), one, encoder, model.config, max_windows=9
            ),
        )
        for one in config.sources
    ]
    found = validate(model, labelled, None, "float32")
    return tuple(
        {name: {k: v for k, v in one.items() if "loss" in k} for name, one in m.items()}
        for m in (measured, found)
    )


@pytest.mark.parametrize(
    ("values", "rank"),
    [
        ({"lora_rank": 2, "encoder_learning_rate": 0.03}, START_RANK + 2),
        ({"lora_rank": 2, "adapter": "adalora", "encoder_learning_rate": 0.03}, START_RANK + 3),
        ({"trained": "heads"}, START_RANK),
        ({"lora_rank": 2, "encoder_learning_rate": 0.03, "saved_rank": 1}, 1),
        ({"trained": "heads", "saved_rank": 1}, 1),
    ],
)
def test_what_is_measured_is_what_is_saved(
    data: Path, base, start: Path, values: dict, rank: int
) -> None:
    """Also where the run began with a delta, to which it adds, and where a rank that was asked for loses much."""
    said = train(data, start_from=str(start), **values)
    assert read_base(data / "out") == (base, rank)
    assert any(line.startswith("rank 1 loses up to") for line in said) == ("saved_rank" in values)
    measured, loaded = losses(data)
    assert measured.keys() == loaded.keys() == {"news", "reviews"}
    for name, one in measured.items():
        assert one == pytest.approx(loaded[name], rel=1e-3)


class KilledError(Exception):
    """A kill, as the run sees it."""


def test_a_run_that_goes_on_reads_the_sentence_vectors_that_it_has(
    data: Path, base, start: Path
) -> None:
    def kill(news: dict) -> None:
        if "summary_loss" in news:
            raise KilledError

    values = {"start_from": str(start), "trained": "summarization", "new_heads": ["summarization"]}
    with pytest.raises(KilledError):
        train(data, on_news=kill, **values)
    assert len(list((data / "out" / "vectors").iterdir())) == 2  # equal files of both splits
    said = train(data, **values)
    assert any("of 4 files in" in line and " 0 made now" in line for line in said)
    assert not list((data / "out" / "vectors").iterdir())
    weights = load_file(data / "out" / "model.safetensors")
    (data / "out").rename(data / "resumed")
    train(data, **values)
    undisturbed = load_file(data / "out" / "model.safetensors")
    assert all(torch.equal(weights[name], undisturbed[name]) for name in undisturbed)


def test_a_run_on_the_encoder_of_another_one_reads_its_sentence_vectors(
    data: Path, base, start: Path
) -> None:
    """An encoder that does not learn is saved as it was: rounded anew, it would be another one."""
    values = {"trained": "summarization", "vectors_uri": str(data / "vectors")}
    train(data, start_from=str(start), **values)
    first, second = load_file(start / "model.safetensors"), data / "second"
    (data / "out").rename(second)
    kept = {name for name in first if name.startswith("encoder.")}
    saved = load_file(second / "model.safetensors")
    assert kept
    assert {name for name in saved if name.startswith("encoder.")} == kept
    assert all(torch.equal(saved[name], first[name]) for name in kept)
    said = train(data, start_from=str(second), **values | {"trained": "sentiment"})
    assert any(" 0 made now" in line for line in said)
    # of other heads, the second run changes only the one that it names
    changed = load_file(data / "out" / "model.safetensors")
    differing = {name.partition(".")[0] for name in saved if not saved[name].equal(changed[name])}
    assert differing == {"sentiment"}


def test_a_head_that_the_model_lacks_cannot_be_trained_alone(data: Path, base, start: Path) -> None:
    with pytest.raises(ConfigError, match="trained: topic names a head that the model lacks"):
        train(data, start_from=str(start), trained="topic")


@pytest.mark.parametrize(
    ("recorded", "native", "chosen"),
    [
        ("auto", torch.float32, "float32"),
        ("auto", torch.bfloat16, "bfloat16"),
        ("auto", torch.float16, "float32"),
        ("bfloat16", torch.float32, "bfloat16"),
        ("float32", torch.bfloat16, "float32"),
    ],
)
def test_auto_is_the_format_that_the_run_began_with_or_the_devices(
    data: Path,
    base,
    monkeypatch: pytest.MonkeyPatch,
    recorded: str,
    native: torch.dtype,
    chosen: str,
) -> None:
    """Before `auto` was the default, bfloat16 was; such a run goes on, and keeps it."""
    monkeypatch.setattr("bertsum.training.start.record.choose_dtype", lambda name, device: native)
    values = {
        "encoder": "package:tiny_base/model",
        "data_root": str(data),
        "sources": sources("news", "reviews"),
        "epochs": 1,
    }
    output = Folder(str(data / "out"))
    assert claim_output(output, training_config(**values, dtype=recorded))
    assert claim_output(output, training_config(**values, dtype="auto"))
    assert json.loads(output.read_bytes("training_config.json"))["dtype"] == recorded
    assert f"dtype: auto is {chosen} here" in train(data, dtype="auto")
    other = {"float32": "bfloat16", "bfloat16": "float32"}[chosen]
    with pytest.raises(OutputError, match="these differ: dtype"):
        claim_output(output, training_config(**values, dtype=other))


def test_a_whole_checkpoint_to_begin_with_is_saved_whole(data: Path, base) -> None:
    save_checkpoint(data / "whole", tiny.model(), tiny.wordpiece(), "", version=bertsum.__version__)
    train(data, start_from=str(data / "whole"), lora_rank=2)
    assert read_base(data / "out") == (None, 0)


def test_a_difference_to_another_encoder_is_refused_before_the_first_step(data: Path, base) -> None:
    encoder = tiny.encoder(hidden_size=64, intermediate_size=64)
    model = bertsum.model.bert_sum.BertSum(encoder, tiny.model_config())
    save_checkpoint(data / "other", model, tiny.wordpiece(), "", version=bertsum.__version__)
    with pytest.raises(
        ModelError, match=r"cannot be saved as a difference to the encoder in .*tiny_base"
    ):
        train(data, start_from=str(data / "other"), saved_rank=4)
    assert list((data / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        (
            ["news"],
            {},
            r"head sentiment begins at random .*no training row .*\(sentiment_column.*sentiment_labels: \[\]",
        ),
        (
            ["news", "reviews"],
            {"model": {"topic_labels": ["a", "b"]}},
            "head topic begins at random",
        ),
        (
            ["reviews"],
            {"model": {"rank_candidates": True}},
            r"head candidates .*\(summary_column\).*model.rank_candidates: false",
        ),
        (
            ["reviews"],
            {"trained": "summarization"},
            "no training row has a label for what learns: summarization",
        ),
        (
            ["news", "reviews"],
            {"trained": "summarization"},
            "head sentiment .*: `trained` leaves it out",
        ),
    ],
)
def test_a_head_that_learns_from_nothing_is_refused(
    data: Path, base, names: list[str], values: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(data, sources=sources(*names), **values)
    assert list((data / "out").iterdir()) == []


def test_a_summary_without_a_word_of_the_document_is_measured_all_the_same(
    data: Path, base, start: Path
) -> None:
    texts, summaries = summary_rows(4).values()
    table = pa.table(
        {"document": [*texts, texts[0], texts[1]], "summary": [*summaries, "Qqqq xxxx.", None]}
    )
    pq.write_table(table, data / "news.parquet")
    told: list[dict] = []
    said = train(data, told.append, sources=sources("news"), start_from=str(start))
    assert {"part": "news measured", "done": 5, "total": 5} in told
    assert said[0].startswith(
        "news: 4 rows to train on, 5 to measure on, 3 without a label left out"
    )
    assert json.loads((data / "out" / "validation.json").read_text())["news"]["rows"] == 5


def test_a_head_that_is_taken_over_needs_no_rows(data: Path, base, start: Path) -> None:
    said = train(data, sources=sources("news"), start_from=str(start))
    assert not any("warning" in line and "validation rows" not in line for line in said)


def raw_reviews(data: Path, output: str = "out") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of the checkpoint in DATA/OUTPUT for the reviews, their classes, and their tokens."""
    model, tokenizer = load_checkpoint(data / output)
    (config,) = training_config(sources=sources("reviews")).sources
    encoder = document_encoder(model, tokenizer)
    uri = str(data / "reviews.parquet")
    examples = read_examples(uri, config, encoder, model.config, max_windows=9)
    rows = predict_examples(model, examples, "float32").classes["sentiment"]
    # no [CLS] is left out: a token for each one that the windows hold
    wanted = [len(example.document.input_ids) for example in examples]
    assert rows.lengths.tolist() == wanted
    return rows.logits, rows.labels, rows.lengths


def temperatures(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text())["temperatures"]


def test_a_run_ends_with_the_temperature_of_what_it_saves(data: Path, base) -> None:
    said = train(data)
    logits, labels, lengths = raw_reviews(data)
    fitted = fit_temperature_by_length([(logits, labels, lengths)])
    saved = temperatures(data / "out")
    assert saved == {"sentiment": pytest.approx(fitted.model_dump(), rel=1e-3)}
    sentence = (
        f"Temperature of sentiment: {saved['sentiment']['short']:.3f} of short texts and "
        f"{saved['sentiment']['long']:.3f} of long ones, fitted on 12 validation rows of 1 sources."
    )
    assert sentence in said
    assert sentence in (data / "out" / "model_card.md").read_text()
    measured = json.loads((data / "out" / "validation.json").read_text())["reviews"]
    inverse = fitted.inverse(lengths.astype(np.float32))
    probabilities = torch.from_numpy(logits * inverse[:, None]).softmax(1)
    wanted = calibration(probabilities.numpy(), labels).error
    assert measured["sentiment"]["calibration_error"] == pytest.approx(wanted, abs=1e-3)
    likelihood = probabilities[torch.arange(12), torch.from_numpy(labels)]
    assert measured["sentiment_loss"] == pytest.approx(-likelihood.log().mean().item(), rel=1e-3)


def test_a_source_that_is_not_trained_on_does_not_decide_the_temperature(data: Path, base) -> None:
    only_measured = sources("reviews")[0] | {"name": "elsewhere", "train_uri": None}
    only_trained = sources("reviews")[0] | {"validation_uri": None}
    said = train(data, sources=[*sources("news"), only_trained, only_measured])
    assert temperatures(data / "out") == {}
    (sentence,) = [line for line in said if line.startswith("Temperature")]
    assert sentence.startswith("Temperature of sentiment: 1.000, not fitted: no source")
    assert "calibration_error" in (data / "out" / "validation.json").read_text()


def test_a_head_that_does_not_learn_keeps_its_temperature(data: Path, base, start: Path) -> None:
    values = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps(values | {"temperatures": {"sentiment": 1.75}}))
    said = train(data, start_from=str(start), trained="summarization")
    assert temperatures(data / "out") == {"sentiment": 1.75}
    assert not [line for line in said if line.startswith("Temperature")]


@pytest.mark.parametrize(
    ("new_heads", "kept"), [(["sentiment"], {}), (["topic"], {"sentiment": 1.75})]
)
def test_a_new_head_has_no_temperature_of_the_old_one(new_heads: list[str], kept: dict) -> None:
    model = tiny.model()
    model.temperatures = {"sentiment": 1.75}
    config = training_config(model={"topic_labels": ["a", "b"]}, new_heads=["topic", *new_heads])
    assert renew_heads(model, config).temperatures == kept


def test_a_model_without_summaries_says_so(data: Path, base) -> None:
    said = train(data, sources=sources("reviews"))
    warning = "The summarization layers began at random and learned from no row"
    assert any(line.startswith(f"warning: {warning}") for line in said)
    assert warning in (data / "out" / "model_card.md").read_text()


def test_validation_texts_that_were_trained_on_are_told(data: Path, base) -> None:
    """Those of any source, also in other case and with other spaces."""
    rows = pq.read_table(data / "reviews.parquet")
    others = pa.array([f"{text} It rises." for text in rows["document"].to_pylist()])
    changed = rows.set_column(rows.schema.get_field_index("document"), "document", others)
    same = [text.replace(" ", "  ").upper() for text in rows["document"].to_pylist()[:3]]
    repeated = rows.slice(0, 3).set_column(
        rows.schema.get_field_index("document"), "document", pa.array(same)
    )
    mixed = pa.concat_tables([repeated, changed.slice(3)])
    pq.write_table(mixed, data / "mixed.parquet")
    reviews, mixed_source = sources("reviews", "reviews")
    reviews["validation_uri"] = None
    mixed_source |= {"name": "mixed", "train_uri": None, "validation_uri": "mixed.parquet"}
    said = train(data, sources=[reviews, mixed_source])
    warning = "mixed: 3 of 12 validation rows have the text of a training row"
    assert any(line.startswith(f"warning: {warning}") for line in said)
    assert warning in (data / "out" / "model_card.md").read_text()


def test_a_source_may_lie_in_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As data_root and encoder may; in YAML no shell replaces the tilde."""
    monkeypatch.setenv("HOME", "/home/me")
    assert source_uri(training_config(data_root="s3://lake"), "~/a.parquet") == "/home/me/a.parquet"


def test_each_source_has_a_name_of_its_own() -> None:
    with pytest.raises(
        ValidationError, match="each needs a name of its own; more than one is called news"
    ):
        training_config(sources=sources("news", "reviews", "news"))
