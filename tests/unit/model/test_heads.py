"""Heads of topic and of words: labels from rows, learning, measures, and checkpoints."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from helpers.rows import training_config
from pydantic import ValidationError

from bertsum.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bertsum.errors import InputError
from bertsum.model.losses import IGNORE
from bertsum.training import loop as training
from bertsum.training.data import labelled_batch, read_examples
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.validation import LabelledSource, measure_examples

TAGS = ("O", "positive", "negative", "neutral")
HEADS = {"topic_labels": ("animals", "money"), "token_sentiment_labels": TAGS}


def read(tmp_path: Path, rows: dict, max_windows: int = 8, **columns: object) -> list:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(rows), path)
    source = SourceConfig.model_validate({"name": "news"} | columns)
    return read_examples(
        str(path),
        source,
        tiny.document_encoder(),
        tiny.model_config(**HEADS),
        max_windows=max_windows,
    )


def word_rows(count: int = 8) -> dict:
    """Each document has words of two sentences; `good` and `bad` have a label, others are O."""
    words = [
        ["The", "cat", "is", ["good", "bad"][i % 2], ".", "A", tiny.WORDS[i], "zebraz", "runs", "."]
        for i in range(count)
    ]
    known = {"good": "positive", "bad": "negative"}
    return {
        "document": [" ".join(row).replace(" .", ".") for row in words],
        "words": words,
        "tags": [[known.get(word, "O") for word in row] for row in words],
    }


def test_labels_of_words_are_on_their_first_tokens(tmp_path: Path) -> None:
    """`zebraz` is spelled in pieces; its label is on the first one, and the others have none."""
    columns = {"tokens_column": "words", "token_sentiments_column": "tags"}
    example = read(tmp_path, word_rows(1), **columns)[0]
    backend = tiny.wordpiece().backend_tokenizer
    tokens = [backend.id_to_token(int(token)) for token in example.document.input_ids]
    found = [
        (token, TAGS[label])
        for token, label in zip(tokens, example.token_labels, strict=True)
        if label != IGNORE
    ]
    assert [tag for _, tag in found] == ["O", "O", "O", "positive", "O", "O", "O", "O", "O", "O"]
    assert [token for token, _ in found] == [
        "the",
        "cat",
        "is",
        "good",
        ".",
        "a",
        "the",
        "zebra",
        "runs",
        ".",
    ]
    assert "##z" in tokens
    assert tokens.count("[CLS]") == 2


def test_labels_of_words_stay_with_their_tokens_in_a_batch(tmp_path: Path) -> None:
    """Windows are sorted by length when documents are packed, and so must the labels be."""
    rows = word_rows()
    for i in range(0, 8, 2):  # longer ones first
        rows["document"][i] += " " + tiny.text(3)
    examples = read(tmp_path, rows, tokens_column="words", token_sentiments_column="tags")
    batch = labelled_batch(examples)
    good, bad = (tiny.wordpiece().convert_tokens_to_ids(word) for word in ("good", "bad"))
    labels = batch.class_labels["token_sentiment"]
    assert set(batch.batch.input_ids[labels == TAGS.index("positive")].tolist()) == {good}
    assert set(batch.batch.input_ids[labels == TAGS.index("negative")].tolist()) == {bad}
    assert int((labels == TAGS.index("positive")).sum()) == 4


def test_words_that_were_not_read_or_found_have_no_label(tmp_path: Path) -> None:
    rows = {
        "document": [tiny.text(20, 8), "A cat.", "A dog."],
        "words": [tiny.text(20, 8).replace(".", " .").split(), ["elsewhere"], None],
        "tags": [["O"] * 180, ["positive"], None],
    }
    rows["tags"][0] = ["O"] * len(rows["words"][0])
    examples = read(tmp_path, rows, 1, tokens_column="words", token_sentiments_column="tags")
    assert examples[0].document.truncated
    assert 0 < (examples[0].token_labels != IGNORE).sum() < 70
    assert examples[1].token_labels is examples[2].token_labels is None


def test_topics_by_their_name_in_the_data(tmp_path: Path) -> None:
    rows = {"document": ["A cat.", "A price.", "A dog."], "topic": ["animals", "finance", None]}
    examples = read(tmp_path, rows, topic_column="topic", topic_names={"finance": "money"})
    assert [example.topic_label for example in examples] == [0, 1, IGNORE]
    with pytest.raises(
        InputError, match=r"the label 'finance'; the model knows \['animals', 'money'\]"
    ):
        read(tmp_path, rows, topic_column="topic")


def test_labels_of_words_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"source news: .*row 0 \(from 0\): it has 1 words and 2 labels"
    ):
        read(tmp_path, {"document": ["A cat."], "words": [["A"]], "tags": [["O", "O"]]},
             tokens_column="words", token_sentiments_column="tags")  # fmt: skip
    with pytest.raises(
        ValidationError, match="tokens_column and token_sentiments_column go together"
    ):
        SourceConfig.model_validate({"name": "news", "tokens_column": "words"})
    with pytest.raises(ValidationError, match="cannot learn with trained=heads"):
        training_config(trained="heads", model=HEADS)


def test_a_model_learns_all_heads_and_keeps_them(tmp_path: Path) -> None:
    rows = word_rows() | {"topic": [["animals", "money"][i % 2] for i in range(8)]}
    columns = {"tokens_column": "words", "token_sentiments_column": "tags", "topic_column": "topic"}
    examples = read(tmp_path, rows, **columns)
    config = training_config(model=HEADS, epochs=30, sources=[{"name": "news"} | columns])
    torch.manual_seed(0)
    model = training.build_model(tiny.encoder(), config)
    log: list[dict] = []
    training.train(
        model, [LabelledSource(config.sources[0], examples, examples)], config, log.append
    )
    assert log[-1]["topic_loss"] < log[0]["topic_loss"] / 2
    assert log[-1]["token_sentiment_loss"] < log[0]["token_sentiment_loss"] / 2
    assert log[-1]["summary_loss"] == log[-1]["sentiment_loss"] == 0
    found = measure_examples(model, examples, config.sources[0], "float32")
    assert found["token_sentiment"]["support"] == {
        "O": 72,
        "positive": 4,
        "negative": 4,
        "neutral": 0,
    }
    assert found["token_sentiment"]["recall"]["positive"] == found["topic"]["accuracy"] == 1
    save_checkpoint(tmp_path / "model", model, tiny.wordpiece(), "# A card\n", version="0.0.0")
    loaded, _ = load_checkpoint(tmp_path / "model")
    batch = labelled_batch(examples).batch
    with torch.no_grad():
        expected, again = (
            module.eval()(batch, token_sentiments=True) for module in (model, loaded)
        )
    for name in ("topic_logits", "token_sentiment_logits"):
        np.testing.assert_allclose(
            getattr(again, name).numpy(), getattr(expected, name).numpy(), atol=1e-6
        )
