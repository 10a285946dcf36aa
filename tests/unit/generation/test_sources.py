"""What is read of a text that is longer than the model's input."""

from pathlib import Path

import pytest
from helpers import tiny, tiny_seq2seq

from bertsum.generation.sources import SENTENCE_SCORES, SourceReader, Text
from bertsum.inference.summarizer import Summarizer
from bertsum.schema import Document
from bertsum.text.sentences import split_sentences

MOST = 30
PREFIX = "the big: "


@pytest.fixture
def reader(checkpoint: Path) -> SourceReader:
    def load() -> Summarizer:
        return Summarizer(str(checkpoint), SENTENCE_SCORES, device="cpu")

    return SourceReader(tiny_seq2seq.tokenizer(), PREFIX, MOST, load)


def text(content: str, summary: str | None = None, language: str = "en") -> Text:
    return Text(text=content, summary=summary, language=language, tokenizer_language=None)


def words_of(reader: SourceReader, ids: list[int]) -> str:
    """What was read, without the prefix and the token at the end."""
    decoded = str(reader._tokenizer.decode(ids, skip_special_tokens=True))
    assert decoded.startswith(PREFIX.strip())
    return decoded.removeprefix(PREFIX.strip()).strip()


def test_a_text_that_fits_is_read_whole(reader: SourceReader) -> None:
    content = tiny.text(2, length=4)
    (reading,) = reader.read([text(content)])
    assert (reading.source, words_of(reader, reading.ids)) == ("document", content)
    assert reading.document_tokens == len(reading.ids)


def test_the_best_sentences_that_fit(reader: SourceReader, checkpoint: Path) -> None:
    content = tiny.text(12, length=4)
    spans = split_sentences(content, "en")
    (prediction,) = Summarizer(str(checkpoint), SENTENCE_SCORES, device="cpu").predict(
        [Document(content)]
    )
    scores = [sentence["score"] for sentence in prediction.sentences or ()]
    assert len(scores) == len(spans) == 12
    tokenizer = tiny_seq2seq.tokenizer()
    # by hand: the best one first, as long as all of it together fits
    chosen: list[int] = []
    for index in sorted(range(12), key=lambda index: -scores[index]):
        trial = sorted([*chosen, index])
        joined = PREFIX + " ".join(content[slice(*spans[i])] for i in trial)
        if len(tokenizer(joined)["input_ids"]) <= MOST:
            chosen = trial
    (reading,) = reader.read([text(content)])
    assert reading.source == "best_sentences"
    assert words_of(reader, reading.ids) == " ".join(content[slice(*spans[i])] for i in chosen)
    assert len(reading.ids) <= MOST
    assert reading.document_tokens == len(tokenizer(PREFIX + content)["input_ids"])


def test_the_summary_of_a_long_text_is_read(reader: SourceReader) -> None:
    summary = tiny.text(2, length=4, first=3)
    long_text = tiny.text(12, length=4)
    readings = reader.read(
        [text(long_text, summary), text(tiny.text(1), summary), text(long_text, long_text)]
    )
    assert [reading.source for reading in readings] == ["summary", "document", "best_sentences"]
    assert words_of(reader, readings[0].ids) == summary


def test_a_sentence_that_is_too_long_is_cut_at_a_word(reader: SourceReader) -> None:
    content = tiny.sentence(*range(80))
    (reading,) = reader.read([text(content)])
    assert reading.source == "cut_sentence"
    assert MOST - 3 <= len(reading.ids) <= MOST
    read = words_of(reader, reading.ids)
    assert content.startswith(f"{read} ")


def test_a_text_without_room_beside_the_prefix_is_refused() -> None:
    def load() -> Summarizer:
        raise AssertionError("one sentence needs no score")

    reader = SourceReader(tiny_seq2seq.tokenizer(), tiny.sentence(*range(9)), 8, load)
    with pytest.raises(ValueError, match="no character fits into 8 tokens"):
        reader._cut("cat", text("cat"))


def test_a_text_that_the_scoring_model_does_not_know(reader: SourceReader) -> None:
    content = "猫坐在垫子上 b。" * 20  # whose Han it does not know
    (reading,) = reader.read([text(content, language="zh")])
    assert reading.source == "first_sentences"
    assert 0 < len(reading.ids) <= MOST


@pytest.mark.parametrize("content", ["x" * 100_000, "a b " * 100_000, ". " * 5000 + "cat"])
def test_hostile_texts(content: str, reader: SourceReader) -> None:
    (reading,) = reader.read([text(content)])
    assert 0 < len(reading.ids) <= MOST
    assert reading.source != "document"


def test_the_summarizer_is_loaded_where_a_text_needs_it() -> None:
    def load() -> Summarizer:
        raise AssertionError("no text is too long")

    reader = SourceReader(tiny_seq2seq.tokenizer(), "", MOST, load)
    assert reader.read([text(tiny.text(1))])[0].source == "document"
