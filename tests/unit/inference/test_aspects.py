"""Aspects: words with labels that are known, joined to spans of the document."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import bertsum
from bertsum.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError
from bertsum.inference.columns.aspects import AspectColumns
from bertsum.inference.device_batches import Scores
from bertsum.inference.summarizer import Summarizer
from bertsum.model.batches import make_batch
from bertsum.schema import Status
from bertsum.text.phrases.tags import choose_tags
from jobs.text import main as text_command

LABELS = ("O", "negative", "positive")
NEGATIVE, POSITIVE = (0.1, 0.7, 0.2), (0.1, 0.1, 0.8)
UNSURE = (0.45, 0.35, 0.2)  # `O` is likelier than each of the others, but not than both
OUTSIDE = (0.6, 0.3, 0.1)


def aspects(text, *, max_windows=64, tokenizer=None, **by_token):
    """Aspects of a text whose tokens have these probabilities, and others are outside."""
    tokenizer = tokenizer or tiny.wordpiece()
    encoder = tiny.document_encoder(tokenizer)
    (document,) = encoder.encode([text], [None], max_windows)
    tokens = tokenizer.convert_ids_to_tokens(document.input_ids.tolist())
    rows = np.array([by_token.get(token, OUTSIDE) for token in tokens], np.float32)
    (row,) = AspectColumns(encoder, LABELS).columns([document], [Scores(token_sentiments=rows)])
    for aspect in row["aspects"]:
        start = aspect["start"]
        assert text[start : start + aspect["length"]] == aspect["text"]
    return [(a["text"], a["sentiment"], round(a["score"], 3)) for a in row["aspects"]]


def test_words_of_a_run_are_one_span_with_one_sentiment() -> None:
    text = "The big cat sees a dog. The bird 😀 runs."
    found = aspects(text, big=POSITIVE, cat=POSITIVE, dog=NEGATIVE, bird=UNSURE)
    assert found == [
        ("big cat", "positive", 0.8),
        ("dog", "negative", 0.7),
        ("bird", "negative", 0.35),
    ]
    # 0.7 + 0.35 of negative are more than 0.2 + 0.2 of positive
    assert aspects("A big cat.", big=NEGATIVE, cat=UNSURE) == [("big cat", "negative", 0.525)]


def test_a_span_ends_with_its_sentence() -> None:
    found = aspects("He sees the cat. Dog food is good.", cat=POSITIVE, dog=POSITIVE)
    assert [text for text, _, _ in found] == ["cat", "Dog"]
    # without a full stop, too
    found = aspects("The old cat\n\nDog in the house", cat=POSITIVE, dog=NEGATIVE)
    assert [text for text, _, _ in found] == ["cat", "Dog"]


def test_a_word_has_the_label_of_its_first_token() -> None:
    """`zebraz` is spelled "zebra ##z", and "cat-bird" has three tokens."""
    assert aspects("A zebraz runs.", zebra=POSITIVE) == [("zebraz", "positive", 0.8)]
    assert aspects("A zebraz runs.", **{"##z": POSITIVE}) == []
    assert aspects("A cat-bird runs.", cat=POSITIVE) == [("cat-bird", "positive", 0.8)]
    assert aspects("The cat's bird.", cat=POSITIVE, bird=POSITIVE) == [
        ("cat", "positive", 0.8),
        ("bird", "positive", 0.8),
    ]


def test_marks_at_the_ends_are_left_out() -> None:
    labels = {'"': NEGATIVE, "cat": NEGATIVE, "(": NEGATIVE, "big": NEGATIVE}
    assert aspects('A "(big) cat" runs.', **labels, **{")": NEGATIVE}) == [
        ("big) cat", "negative", 0.7)
    ]
    assert aspects("A cat ( ( runs.", **{"(": NEGATIVE}) == []


def test_offsets_count_code_points() -> None:
    text = "👩‍👩‍👧 e\u0301\r\n\r\nThe 𝒳 cat."
    assert aspects(text, cat=POSITIVE) == [("cat", "positive", 0.8)]


def test_tokens_are_the_words_of_chinese() -> None:
    found = aspects("猫坐在垫子上。河水很大。", tokenizer=tiny.unigram(), 水=NEGATIVE, 很=NEGATIVE)
    assert found == [("水很", "negative", 0.7)]


def test_what_was_not_read_has_no_aspect() -> None:
    text = tiny.text(20) + " The zebra."
    assert aspects(text, zebra=POSITIVE) == [("zebra", "positive", 0.8)]
    assert aspects(text, zebra=POSITIVE, max_windows=1) == []


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["cat", "dog", "the", ". ", "\n\n", "😀", "-", "'", '"', "ż", "\u0301"])
    )
)
def test_spans_lie_in_one_sentence_and_apart(parts) -> None:
    text = " ".join(["The", *parts])
    encoder = tiny.document_encoder()
    (document,) = encoder.encode([text], ["en"], 64)
    generator = np.random.default_rng(len(text))
    rows = generator.dirichlet((1, 1, 1), len(document.input_ids)).astype(np.float32)
    (row,) = AspectColumns(encoder, LABELS).columns([document], [Scores(token_sentiments=rows)])
    end = 0
    for aspect in row["aspects"]:
        start, stop = aspect["start"], aspect["start"] + aspect["length"]
        assert end <= start < stop
        assert aspect["text"] == text[start:stop]
        assert aspect["text"] == aspect["text"].strip()
        assert sum(a <= start and stop <= b for a, b in document.spans) == 1
        assert 0 < aspect["score"] <= 1
        end = stop


def test_labels_with_borders_say_themselves_where_spans_end() -> None:
    labels = ("O", "B-good", "I-good")
    rows = np.array([[0.4, 0.35, 0.25], [0.2, 0.5, 0.3], [0.2, 0.3, 0.5], [0.2, 0.5, 0.3]])
    assert choose_tags(rows, labels) == ["O", "B-good", "I-good", "B-good"]
    assert choose_tags(rows, ("a", "b", "c")) == ["a", "b", "c", "b"]


# Through a model


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A checkpoint whose head is solved for the labels of one text: cat positive, dog negative."""
    model = tiny.model(token_sentiment_labels=LABELS)
    text = "The cat sees a dog. The river is big."
    encoder = tiny.document_encoder()
    (document,) = encoder.encode([text], ["en"], 8)
    tokens = tiny.wordpiece().convert_ids_to_tokens(document.input_ids.tolist())
    classes = [{"cat": 2, "dog": 1}.get(token, 0) for token in tokens]
    with torch.no_grad():
        vectors = model.token_vectors(make_batch([document], [0]))
        # fewer tokens than features, so there is an exact solution: logits of 0 and 8
        wanted = 8 * torch.nn.functional.one_hot(torch.tensor(classes), 3).float()
        model.token_sentiment[1].bias.zero_()
        model.token_sentiment[1].weight.copy_(torch.linalg.lstsq(vectors, wanted).solution.T)
    model.temperatures["token_sentiment"] = 2.0
    directory = tmp_path_factory.mktemp("taught") / "model"
    save_checkpoint(directory, model, tiny.wordpiece(), "", version=bertsum.__version__)
    return directory, text


def make(directory, *outputs):
    values = {"dtype": "float32", "outputs": outputs}
    return Summarizer(directory, SummarizerConfig.model_validate(values), device="cpu")


EXPECTED = [
    # softmax of (0, 0, 8) / 2: e^4 / (e^4 + 2)
    {"text": "cat", "start": 4, "length": 3, "sentiment": "positive", "score": 0.9647},
    {"text": "dog", "start": 15, "length": 3, "sentiment": "negative", "score": 0.9647},
]


def test_a_run_ends_with_its_sentence() -> None:
    labels = ("O", "good", "bad")
    rows = np.array([[0.1, 0.8, 0.1], [0.2, 0.1, 0.7], [0.9, 0.1, 0.0]], np.float32)
    assert choose_tags(rows, labels) == ["good", "good", "O"]  # 0.9 against 0.8
    assert choose_tags(rows, labels, np.array([0, 1, 1])) == ["good", "bad", "O"]
    assert choose_tags(rows[:0], labels) == []


def test_aspects_of_a_model(taught) -> None:
    directory, text = taught
    table = make(directory, "aspects")(pa.table({"document": [text, None]}))
    found, empty = table["aspects"].to_pylist()
    assert empty is None
    assert found == [e | {"score": pytest.approx(e["score"], abs=1e-3)} for e in EXPECTED]


def test_the_head_is_computed_only_where_it_is_asked_for(taught) -> None:
    directory, text = taught
    for outputs, expected in (((), 0), (("keywords",), 0), (("aspects",), 1)):
        summarizer = make(directory, *outputs)
        calls = []
        summarizer.model.token_sentiment.register_forward_hook(lambda *_, c=calls: c.append(1))
        assert summarizer(text).status == Status.OK
        assert len(calls) == expected


def test_a_model_without_the_head_is_refused_with_what_there_is(checkpoint, family) -> None:
    with pytest.raises(
        ConfigError,
        match=r"asks for aspects, but the model has no head for words with the label O.*: summary, "
        "sentiment, language, spans, sentences, embedding, keywords",
    ):
        make(checkpoint, "aspects")
    with pytest.raises(ConfigError, match="no member of the model has a head for words"):
        make(family, "aspects")


@pytest.fixture(scope="module")
def half(taught, tmp_path_factory):
    """A family of which one member has the head."""
    directory = tiny.family(tmp_path_factory.mktemp("half") / "model")
    shutil.rmtree(directory / "english")
    shutil.copytree(taught[0], directory / "english")
    return directory


def test_documents_of_a_member_without_the_head_have_null(half, taught) -> None:
    english, chinese = make(half, "aspects")([taught[1], "猫坐在垫子上。河水很大。"])
    assert [aspect["text"] for aspect in english.aspects] == ["cat", "dog"]
    assert (chinese.status, chinese.aspects) == (Status.OK, None)


def test_the_command_prints_aspects_and_says_where_there_are_none(
    half, taught, tmp_path, capsys
) -> None:
    (tmp_path / "en").write_text(taught[1])
    (tmp_path / "zh").write_text("猫坐在垫子上。河水很大。")
    options = ["--model", str(half), "--set", "outputs=[aspects]", "--set", "dtype=float32"]
    assert text_command([str(tmp_path / "en"), *options]) == 0
    assert "aspect     positive 0.96  cat\naspect     negative 0.96  dog" in capsys.readouterr().out
    assert text_command([str(tmp_path / "zh"), *options]) == 0
    assert "aspects    unknown: the model for this language" in capsys.readouterr().out
    renamed = ["--set", "output.rename={aspects: words}"]
    assert text_command([str(tmp_path / "zh"), *options, *renamed]) == 0
    assert "aspects    unknown" in capsys.readouterr().out
    assert text_command([str(tmp_path / "zh"), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["aspects"] is None


def test_numbers_that_are_none_make_an_error_row(taught, tmp_path) -> None:
    directory, text = taught
    model, tokenizer = load_checkpoint(directory)
    with torch.no_grad():
        model.token_sentiment[1].weight.fill_(float("nan"))
    save_checkpoint(tmp_path / "model", model, tokenizer, "", version=bertsum.__version__)
    prediction = make(tmp_path / "model", "aspects")(text)
    assert prediction.status == Status.ERROR
    assert "not numbers" in prediction.error
