"""Columns of optional groups: what each says of a document, beside the summary and the sentiment."""

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsum.config import SelectionConfig, SummarizerConfig
from bertsum.inference.summarizer import Summarizer
from bertsum.schema import Document, Status

# what counts differently in bytes, UTF-16 units, code points and characters on the screen
HARD = [
    "e\u0301",
    "👩‍👩‍👧",
    "🇫🇷",
    "\r\n",
    "中",
    "ß",
    "\u200f",
    "x",
    ". ",
    "! ",
    "The bank. ",
    "a\u0308o",
]
TEXTS = st.lists(st.sampled_from(HARD) | st.text(max_size=5), max_size=30).map("".join)


def make(directory, *outputs: str, **config) -> Summarizer:
    values = {"dtype": "float32", "selection": SelectionConfig(size=2), "outputs": outputs}
    return Summarizer(directory, SummarizerConfig.model_validate(values | config), device="cpu")


@pytest.fixture(scope="module")
def with_spans(checkpoint):
    return make(checkpoint, "spans")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_spans_give_the_sentences_of_the_summary(with_spans, text):
    if any("\ud800" <= character <= "\udfff" for character in text):
        return  # no UTF-8, so no text
    table = with_spans(pa.table({"document": [text]}))
    (row,) = table.to_pylist()
    if row["summary"] is None:
        assert row["summary_spans"] is None
        return
    spans = row["summary_spans"]
    sentences = [text[span["start"] : span["start"] + span["length"]] for span in spans]
    assert len(sentences) == len(row["summary_sentences"])
    assert row["summary"] in (" ".join(sentences), "".join(sentences))
    if "\0" in text:
        return  # DuckDB's own functions end a string there
    connection = duckdb.connect()
    values = connection.execute(
        "SELECT list_transform($spans, s -> substr($text, s.start + 1, s.length))",
        {"spans": spans, "text": text},
    ).fetchall()
    assert (values[0][0] or []) == sentences


def test_a_text_of_another_script_has_spans(with_spans):
    """Its summary is the first sentences, whose spans are known as well."""
    prediction = with_spans("Ова је прва. Ово је друга.")
    assert prediction.status == Status.UNKNOWN_LANGUAGE
    assert prediction.summary_spans == [{"start": 0, "length": 12}, {"start": 13, "length": 13}]


def test_a_group_is_written_only_where_it_is_chosen(checkpoint, with_spans):
    assert with_spans.predict([Document("The bank. The dog.")])[0].summary_spans
    assert "summary_spans" in with_spans(pa.table({"document": ["The bank."]})).column_names
    assert "summary_spans" not in make(checkpoint)(pa.table({"document": ["x"]})).column_names
