"""The matrix of the embedding: least squares by another solver, and a run that fits it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from helpers.rows import sentiment_rows, training_config
from pydantic import ValidationError
from safetensors.torch import load_file

from bertsum.checkpoints.checkpoint import (
    load_checkpoint,
    load_encoder,
    read_base,
)
from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError, InputError
from bertsum.inference.summarizer import Summarizer
from bertsum.storage.folder import Folder
from bertsum.training import run as training_run
from bertsum.training.heads.embedding import ridge
from bertsum.training.heads.untrained import UntrainedEncoder
from bertsum.training.run import run

NUM_TEXTS = 300
ENCODER = "package:tiny_base/model"


def test_ridge_is_least_squares_with_a_penalty():
    """The same as ordinary least squares with a row for each penalized weight (Hoerl 1970)."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(2, 3, (50, 4)), generator.normal(size=(50, 4))
    weight, bias = ridge(x, y, 0.5)
    penalty = np.sqrt(0.5 * x.var(0).mean() * 50)
    rows = np.block([[x, np.ones((50, 1))], [penalty * np.eye(4), np.zeros((4, 1))]])
    expected = np.linalg.lstsq(rows, np.vstack([y, np.zeros((4, 4))]))[0]
    assert weight == pytest.approx(expected[:4].T)
    assert bias == pytest.approx(expected[4])


def test_ridge_finds_a_map_that_there_is():
    generator = np.random.default_rng(1)
    x, true = generator.normal(size=(100, 5)), generator.normal(size=(5, 5))
    weight, bias = ridge(x, x @ true.T + 3, 1e-12)
    assert weight == pytest.approx(true)
    assert bias == pytest.approx(np.full(5, 3))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    texts = [tiny.text(1 + i % 3, 3 + i % 5, first=3 * i) for i in range(NUM_TEXTS)]
    pq.write_table(pa.table({"title": [*texts, None, " "]}), tmp_path / "texts.parquet")
    pq.write_table(pa.table(sentiment_rows(12)), tmp_path / "reviews.parquet")
    return tmp_path


@pytest.fixture
def start(base, tmp_path: Path) -> Path:
    """A checkpoint whose encoder has gone far from that of `tiny_base`."""
    return tiny.save_moved(tmp_path / "start", base, rank=3, scale=0.3)


def train(data: Path, **values) -> list[str]:
    """A run into DATA/out; the lines for people."""
    texts = {"uri": "texts.parquet", "text_column": "title"}
    source = {
        "name": "reviews",
        "train_uri": "reviews.parquet",
        "validation_uri": "reviews.parquet",
        "sentiment_column": "label",
    }
    defaults = {
        "encoder": ENCODER,
        "data_root": str(data),
        "sources": [source],
        "epochs": 1,
        "model": {"embedding_layers": [0, 2]},
        "embedding": {"texts": [texts]},
    }
    config = training_config(**(defaults | values))
    (data / "out").mkdir(exist_ok=True)
    said: list[str] = []

    def report(news: dict) -> None:
        said.extend([news["message"]] if "message" in news else [])

    run(config, Folder(str(data / "out")), torch.device("cpu"), "bertsum train", report)
    return said


def cosine_to_the_encoder(directory: Path, texts: list[str]) -> float:
    """Of the embeddings of a checkpoint and the means of the encoder's own hidden states."""
    config = SummarizerConfig.model_validate({"outputs": ["embedding"], "dtype": "float32"})
    predictions = Summarizer(directory, config, device="cpu")(texts)
    encoder, tokenizer = load_encoder(ENCODER)
    cosines = []
    for text, prediction in zip(texts, predictions, strict=True):
        with torch.no_grad():
            hidden = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = hidden.mean(0).numpy()
        cosines.append(np.dot(prediction.embedding, expected) / np.linalg.norm(expected))
    return float(np.mean(cosines))


def test_the_untrained_encoder_reads_the_beginning_behind_its_prefix(base):
    texts = [tiny.text(1 + i, 6, first=11 * i) for i in range(5)]
    found = UntrainedEncoder(ENCODER, "the cat ", 12).embed(texts)
    encoder, tokenizer = load_encoder(ENCODER)
    encoder.eval()
    for text, vector in zip(texts, found, strict=True):
        ids = tokenizer("the cat " + text)["input_ids"]
        assert len(ids) > 8
        with torch.no_grad():  # its tokenizer puts no marks around a text
            mean = encoder(torch.tensor([ids[:12]])).last_hidden_state[0].mean(0)
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert UntrainedEncoder(ENCODER, "", 12).embed([]).shape == (0, 32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_without_steps_leads_vectors_back(data, start, dtype):
    texts = [tiny.text(2, 6, first=11 * i + 1) for i in range(20)]  # not those it is fitted on
    before = cosine_to_the_encoder(start, texts)
    heads = {"trained": "embedding", "new_heads": ["embedding"]}
    said = train(data, start_from=str(start), dtype=dtype, **heads)
    assert f"a matrix fitted on {NUM_TEXTS} texts" in "".join(said)
    after = cosine_to_the_encoder(data / "out", texts)
    assert before < 0.9
    assert 1 - after < (1 - before) / 2
    assert "a matrix fitted on" in (data / "out" / "model_card.md").read_text()
    # nothing else has changed
    old, new = load_checkpoint(start)[0].state_dict(), load_checkpoint(data / "out")[0].state_dict()
    assert new.keys() - old.keys() == {"embedding.weight", "embedding.bias"}
    for name, weight in old.items():
        assert weight.numpy() == pytest.approx(new[name].numpy(), abs=2e-3), name
    assert read_base(data / "out")[1] == 3
    saved = load_file(data / "out" / "model.safetensors")["embedding.weight"]
    assert saved.dtype == torch.int8
    assert saved.abs().max() == 127
    assert torch.equal(new["embedding.weight"], saved.float())


def test_pairs_are_learned_from(data, start):
    pairs = {"uri": "pairs.parquet", "query_column": "title"}
    questions = [tiny.text(1, 3, first=7 * i) for i in range(40)]
    answers = [tiny.text(2, 5, first=7 * i) for i in range(40)]
    table = pa.table({"title": [*questions, None, "of nothing"], "document": [*answers, "a", " "]})
    pq.write_table(table, data / "pairs.parquet")
    embedding = {"texts": [{"uri": "texts.parquet", "text_column": "title"}], "pairs": [pairs]}
    arguments = {"start_from": str(start), "trained": "embedding", "new_heads": ["embedding"]}
    train(data, **arguments)
    before = load_checkpoint(data / "out")[0].embedding.weight
    (data / "out").rename(data / "without")
    said = "".join(train(data, embedding=embedding, **arguments))
    assert "pairs.parquet (title), 40 pairs: " in said
    assert not torch.equal(load_checkpoint(data / "out")[0].embedding.weight, before)


def test_pairs_go_on_from_the_matrix_of_the_start(data, start):
    """No other is fitted on the texts, which are few and all alike here."""
    questions = [tiny.text(1, 3, first=7 * i) for i in range(40)]
    answers = [tiny.text(2, 5, first=7 * i) for i in range(40)]
    pq.write_table(pa.table({"title": questions, "document": answers}), data / "pairs.parquet")
    train(data, start_from=str(start), trained="embedding", new_heads=["embedding"])
    fitted = (data / "out").rename(data / "fitted")
    pq.write_table(pa.table({"title": [tiny.text(1, 3)] * 20}), data / "texts.parquet")
    pairs = [{"uri": "pairs.parquet", "query_column": "title"}]
    embedding = {"texts": [{"uri": "texts.parquet", "text_column": "title"}], "pairs": pairs}
    near = []
    for values in ({"model": {"embedding_lead_tokens": 20}}, {"new_heads": ["embedding"]}):
        said = train(
            data, start_from=str(fitted), trained="embedding", embedding=embedding, **values
        )
        assert ("the matrix of start_from" in "".join(said)) is ("model" in values)
        old, new = (load_checkpoint(directory)[0] for directory in (fitted, data / "out"))
        weights = (model.embedding.weight.flatten() for model in (old, new))
        near.append(torch.cosine_similarity(*weights, dim=0).item())
        assert new.config.embedding_lead_tokens == (20 if "model" in values else None)
        shutil.rmtree(data / "out")
    assert near[1] < near[0] < 0.9999


def test_without_a_start_there_is_no_matrix_to_go_on_from():
    pairs = [{"uri": "pairs.parquet", "query_column": "title"}]
    values = {
        "trained": "embedding",
        "model": {"embedding_layers": [0, 2]},
        "embedding": {"texts": [{"uri": "texts.parquet"}], "pairs": pairs},
        "sources": [{"name": "a", "validation_uri": "a.parquet", "sentiment_column": "label"}],
    }
    assert not training_config(encoder=ENCODER, **values).keeps_matrix
    assert training_config(encoder=ENCODER, start_from="model", **values).keeps_matrix


def test_pairs_lack_a_column_or_are_few(data, start):
    pq.write_table(pa.table({"a": ["x"] * 19, "document": ["y"] * 19}), data / "pairs.parquet")
    arguments = {"start_from": str(start), "trained": "embedding", "new_heads": ["embedding"]}
    texts = [{"uri": "texts.parquet", "text_column": "title"}]
    for column, message in (
        ("a", "19 pairs are too few"),
        ("b", "no column 'b' .query_column names it"),
    ):
        pairs = [{"uri": "pairs.parquet", "query_column": column}]
        with pytest.raises(InputError, match=message):
            train(data, embedding={"texts": texts, "pairs": pairs}, **arguments)


def test_it_is_fitted_after_the_encoder_has_learned(data, base):
    train(data, lora_rank=2, encoder_learning_rate=0.03)
    texts = [tiny.text(2, 6, first=11 * i + 1) for i in range(20)]
    assert cosine_to_the_encoder(data / "out", texts) > 0.9


def test_heads_that_learn_leave_it_as_it_is(data, start):
    train(data, start_from=str(start), trained="embedding", new_heads=["embedding"])
    before = load_checkpoint(data / "out")[0].embedding.weight
    (data / "out").rename(data / "fitted")
    train(
        data,
        start_from=str(data / "fitted"),
        trained="heads",
        model={},
        embedding=None,
        weight_decay=1.0,
    )
    assert torch.equal(load_checkpoint(data / "out")[0].embedding.weight, before)


def test_an_encoder_that_learns_does_not_leave_it_behind(data, start):
    train(data, start_from=str(start), trained="embedding", new_heads=["embedding"])
    (data / "out").rename(data / "fitted")
    with pytest.raises(ConfigError, match=r"give texts to fit it on anew \(embedding.texts\)"):
        train(data, start_from=str(data / "fitted"), model={}, embedding=None)


def test_an_encoder_learns_from_pairs_through_the_matrix_of_its_start(data, start):
    """The matrix stays as it was fitted, and the encoder learns to give it what it reads."""
    train(data, start_from=str(start), trained="embedding", new_heads=["embedding"])
    fitted = (data / "out").rename(data / "fitted")
    matrix = load_checkpoint(fitted)[0].embedding.weight
    answers = [tiny.sentence(*range(9 * i, 9 * i + 4)) for i in range(3)]
    rows = {
        "document": [answers[i % 3] for i in range(9)],
        "question": [tiny.sentence(*range(5 * i + 1, 5 * i + 5)) for i in range(9)],
    }
    pq.write_table(pa.table(rows), data / "desk.parquet")
    uris = {"train_uri": "desk.parquet", "validation_uri": "desk.parquet"}
    desk = {"name": "desk", "query_column": "question", "hold_vectors": True, **uris}
    run_values = {
        "start_from": str(fitted),
        "trained": "all",
        "sources": [desk],
        "embedding": None,
        "model": {},
        "lora_rank": 8,
        "encoder_learning_rate": 5e-3,
        "epochs": 60,
        "hold_weight": 0.1,
    }
    train(data, **run_values)
    measures = json.loads((data / "out" / "validation.json").read_text())["desk"]["retrieval"]
    assert measures["recall_at_1"]["mean"] > 0.8
    card = (data / "out" / "model_card.md").read_text()
    assert (
        "| desk | 9 | 1 | queries of its documents; vectors held near those from before |" in card
    )
    assert f"| desk | {measures['recall_at_1']['mean']:.3f} (" in card
    assert torch.equal(load_checkpoint(data / "out")[0].embedding.weight, matrix)
    # what users load finds what was measured
    config = SummarizerConfig.model_validate({"outputs": ["embedding"], "dtype": "float32"})
    summarizer = Summarizer(str(data / "out"), config)
    of_answers = np.array([prediction.embedding for prediction in summarizer(answers)])
    of_questions = np.array([prediction.embedding for prediction in summarizer(rows["question"])])
    is_right = (of_questions @ of_answers.T).argmax(1) == np.arange(9) % 3
    assert is_right.mean() == pytest.approx(measures["recall_at_1"]["mean"])


def test_an_encoder_that_learns_is_held_to_the_one_before_training(data, start):
    """What it has lost comes back while it learns labels; the matrix learns beside it, and no texts are fitted on."""
    texts = [tiny.text(2, 6, first=11 * i + 1) for i in range(20)]  # not those that are held
    before = cosine_to_the_encoder(start, texts)
    reviews = {"name": "reviews", "train_uri": "reviews.parquet", "sentiment_column": "label"}
    held = {"name": "texts", "train_uri": "texts.parquet", "text_column": "title"}
    values = {
        "start_from": str(start),
        "new_heads": ["embedding"],
        "sources": [reviews, held | {"hold_vectors": True}],
        "embedding": None,
        "lora_rank": 8,
        "encoder_learning_rate": 5e-3,
        "head_learning_rate": 5e-3,
        "epochs": 8,
    }
    with pytest.raises(ValidationError, match="need a matrix"):
        train(data, **values)
    for wrong in ({"hold_prefix": "query: "}, {"hold_to": "encoder", "sources": [reviews]}):
        with pytest.raises(ValidationError, match=r"hold_to: encoder"):
            train(data, **(values | {"new_heads": [], "model": {}} | wrong))
    train(data, hold_to="encoder", **values)
    after = cosine_to_the_encoder(data / "out", texts)
    assert before < 0.9
    assert 1 - after < (1 - before) / 2
    matrix = load_checkpoint(data / "out")[0].embedding.weight
    last_layer_alone = torch.eye(32, 64).roll(32, dims=1)
    assert 0.01 < (matrix - last_layer_alone).abs().max() < 1
    card = (data / "out" / "model_card.md").read_text()
    assert f"vectors held near those of `{ENCODER}`" in card


@pytest.mark.parametrize("hold_to", ["start", "encoder"])
def test_vectors_to_hold_are_made_once(data, start, monkeypatch, hold_to):
    """A run that goes on, or another one with these rows, reads them; other rows are other vectors."""
    calls = []
    for owner, name in ((UntrainedEncoder, "embed"), (training_run, "embed_documents")):
        made = getattr(owner, name)

        def counted(*arguments, made=made):
            calls.append(made)
            return made(*arguments)

        monkeypatch.setattr(owner, name, counted)
    held = {"name": "texts", "train_uri": "texts.parquet", "text_column": "title"}
    values = {
        "start_from": str(start),
        "new_heads": ["embedding"],
        "sources": [held | {"hold_vectors": True}],
        "embedding": None,
        "hold_to": hold_to,
        "lora_rank": 2,
    }
    if hold_to == "start":
        values |= {"new_heads": [], "model": {}}

    def weights() -> dict[str, torch.Tensor]:
        found = load_file(data / "out" / "model.safetensors")
        shutil.rmtree(data / "out")
        return found

    train(data, **values)
    assert len(calls) == 1
    assert not (data / "out" / "vectors").exists() or not any((data / "out" / "vectors").iterdir())
    expected = weights()
    for _ in range(2):
        train(data, vectors_uri=str(data / "vectors"), **values)
        assert len(calls) == 2
        found = weights()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    table = pq.read_table(data / "texts.parquet")
    pq.write_table(table.slice(0, 20), data / "texts.parquet")
    train(data, vectors_uri=str(data / "vectors"), **values)
    assert len(calls) == 3
    assert len(list((data / "vectors").iterdir())) == 2


def test_vectors_are_made_only_of_rows_that_are_drawn(data, start, monkeypatch):
    counts = []
    embed = UntrainedEncoder.embed

    def counted(self, texts):
        counts.append(len(texts))
        return embed(self, texts)

    monkeypatch.setattr(UntrainedEncoder, "embed", counted)
    held = {"name": "texts", "train_uri": "texts.parquet", "text_column": "title"}
    said = train(
        data,
        start_from=str(start),
        new_heads=["embedding"],
        sources=[held | {"hold_vectors": True, "weight": 0.25}],
        embedding=None,
        hold_to="encoder",
        lora_rank=2,
    )
    assert counts == [NUM_TEXTS // 4]
    assert f"texts: {NUM_TEXTS // 4} rows with vectors to hold" in "".join(said)


def test_the_layers_of_the_start_count(data, start):
    train(data, start_from=str(start), trained="embedding", new_heads=["embedding"])
    (data / "out").rename(data / "fitted")
    train(data, start_from=str(data / "fitted"), model={}, lora_rank=2)
    assert load_checkpoint(data / "out")[0].config.embedding_layers == (0, 2)


def test_a_start_without_the_head_is_refused(data, start):
    with pytest.raises(ConfigError, match=r"new_heads: \[embedding\]"):
        train(data, start_from=str(start), trained="embedding")


def test_too_few_texts_are_refused(data, start):
    few = {"texts": [{"uri": "texts.parquet", "text_column": "title", "max_rows": 19}]}
    with pytest.raises(InputError, match="19 texts are too few"):
        train(
            data,
            start_from=str(start),
            trained="embedding",
            new_heads=["embedding"],
            embedding=few,
        )


def test_a_missing_column_is_named(data, start):
    other = {"texts": [{"uri": "texts.parquet"}]}
    with pytest.raises(InputError, match="there is no column 'document'"):
        train(
            data,
            start_from=str(start),
            trained="embedding",
            new_heads=["embedding"],
            embedding=other,
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding": None}, "give them with embedding.texts"),
        ({"model": {}}, "embedding_layers, which is empty"),
        ({"encoder": "new"}, "has random weights"),
    ],
)
def test_settings_that_do_not_go_together(values, message):
    texts = {"texts": [{"uri": "texts.parquet"}]}
    defaults = {"model": {"embedding_layers": [0, 2]}, "embedding": texts}
    with pytest.raises(ValidationError, match=message):
        training_config(**(defaults | values))
