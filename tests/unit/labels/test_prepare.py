"""Training shards: what a row holds, what is left out, and that reading them is as good as encoding again."""

import numpy as np
import pyarrow as pa
import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bertsum.errors import InputError
from bertsum.labels.prepare import LEFT_OUT, DocumentsConfig, Preparer, check_labelled, kept_schema
from bertsum.labels.shards import (
    PreparedDocument,
    check_tokenizer,
    encode_prepared,
    is_prepared,
    shard_schema,
)
from bertsum.runs.columns import check_shards
from bertsum.runs.input import InputFile, Shard

TEXT = (
    "The cat sleeps in the house. A dog runs. Market prices rise in the city. Old news of the bank."
)
SUMMARY = "Market prices rise.\nA dog runs in the river."


def prepare(rows: dict, tokenizer=None, **config) -> pa.Table:
    preparer = Preparer(tokenizer or tiny.wordpiece(), DocumentsConfig.model_validate(config))
    (table,) = preparer.stream([pa.table(rows)])
    return table


def one(table: pa.Table) -> PreparedDocument:
    (value,) = table["prepared"].to_pylist()
    return PreparedDocument.from_row(value)


def test_a_row_of_a_shard():
    table = prepare({"id": [7], "document": [TEXT], "summary": [SUMMARY]}, summary_column="summary")
    assert table["status"].to_pylist() == ["ok"]
    document = one(table)
    assert [TEXT[a:b] for a, b in document.spans] == [
        part.strip() + "." for part in TEXT.split(".")[:-1]
    ]
    assert document.sentence_labels.tolist() == [0, 1, 1, 0]
    assert document.language == "en"
    encoded = tiny.encode(TEXT)[0]
    assert document.sentence_tokens.tolist() == encoded.sentence_tokens.tolist()
    assert table["num_tokens"].to_pylist() == [encoded.num_tokens] == [len(document.input_ids)]
    assert table.schema.remove(table.schema.get_field_index("status")).equals(
        shard_schema(
            pa.schema([("id", pa.int64()), ("document", pa.string()), ("summary", pa.string())]), ""
        )
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from([TEXT, "One bird.", tiny.text(9, 11), "猫狗。 cat", ""]),
        min_size=1,
        max_size=5,
    )
)
def test_prepared_rows_give_the_same_windows(texts):
    encoder = tiny.document_encoder(max_window_tokens=24)
    split = prepare({"document": texts}, sentiment="neutral", min_sentences=1)
    places = [place for place, status in enumerate(split["status"].to_pylist()) if status == "ok"]
    values = [PreparedDocument.from_row(split["prepared"][place].as_py()) for place in places]
    found = encode_prepared(values, [texts[place] for place in places], encoder, 3)
    expected = encoder.encode([texts[place] for place in places], [None] * len(places), 3)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.spans, ours.language) == (theirs.spans, theirs.language)
        for name in (
            "input_ids",
            "token_type_ids",
            "token_sentences",
            "cls_positions",
            "window_lengths",
        ):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def test_what_is_left_out_and_why():
    rows = {
        "document": [
            TEXT,
            None,
            "\0\1\2\3",
            "12 34",
            "央行下调利率。猫。",
            TEXT,
            TEXT,
            "One bird.",
            tiny.text(9),
        ],
        "summary": [SUMMARY, "a", "a", "a", "a", None, "zebra", "One bird.", "The cat"],
    }
    table = prepare(rows, summary_column="summary", min_sentences=2, max_sentences=8)
    expected = [
        "ok",
        "empty",
        "not_text",
        "not_text",
        "unknown_language",
        "no_label",
        "no_overlap",
        "too_short",
    ]
    assert table["status"].to_pylist() == [*expected, "too_long"]
    assert {*expected, "too_long"} - {"ok"} == LEFT_OUT.keys() - {"error"}
    assert table["prepared"].null_count == 8


def test_a_text_that_breaks_the_tokenizer_is_found_and_the_others_stay(monkeypatch):
    preparer = Preparer(tiny.wordpiece(), DocumentsConfig(sentiment="neutral"))
    tokenize = preparer.encoder.tokenize

    def fails(texts, languages):
        if "One bird." in texts:
            raise RuntimeError("no")
        return tokenize(texts, languages)

    monkeypatch.setattr(preparer.encoder, "tokenize", fails)
    (table,) = preparer.stream([pa.table({"document": [TEXT, "One bird.", TEXT]})])
    assert table["status"].to_pylist() == ["ok", "error", "ok"]


def test_labels_that_come_with_the_data_win():
    rows = {
        "document": [TEXT, TEXT],
        "given": [["A dog runs.", "Old news of the bank."], ["not there"]],
        "marks": [[0, 1], [1]],
        "summary": [SUMMARY] * 2,
    }
    columns = {
        "sentences_column": "given",
        "sentence_labels_column": "marks",
        "summary_column": "summary",
    }
    table = prepare(rows, **columns)
    assert table["status"].to_pylist() == ["ok", "no_label"]
    assert table["prepared"][0].as_py()["sentence_labels"] == [0, 0, 0, 1]


def test_sentiment_alone_is_a_label():
    rows = {
        "document": [TEXT] * 3,
        "summary": [None, "zebra", SUMMARY],
        "label": ["positive", "positive", None],
    }
    table = prepare(rows, summary_column="summary", sentiment_column="label")
    assert table["status"].to_pylist() == ["ok"] * 3
    assert [value["sentence_labels"] for value in table["prepared"].to_pylist()] == [
        None,
        None,
        [0, 1, 1, 0],
    ]


def test_a_document_is_cut_at_a_sentence():
    document = one(
        prepare({"document": [TEXT], "summary": [SUMMARY]}, summary_column="summary", max_tokens=13)
    )
    assert len(document.spans) == 2
    assert len(document.input_ids) == document.sentence_tokens.sum() <= 13
    assert document.sentence_labels.tolist() == [1, 1]  # the first one shares "in the"
    assert len(one(prepare({"document": [TEXT]}, sentiment="neutral", max_tokens=1)).spans) == 1


def test_the_best_combination_where_there_are_few():
    rows = {
        "document": ["Cat dog bird house. Cat dog marker. Bird house zebra."],
        "summary": ["Cat dog marker bird house zebra"],
    }
    greedy = one(prepare(rows, summary_column="summary", num_summary_sentences=2))
    exact = one(
        prepare(rows, summary_column="summary", num_summary_sentences=2, oracle="combination")
    )
    few = one(
        prepare(
            rows,
            summary_column="summary",
            num_summary_sentences=2,
            oracle="combination",
            max_combinations=1,
        )
    )
    assert exact.sentence_labels.tolist() == [0, 1, 1]
    assert (
        greedy.sentence_labels.tolist()
        == few.sentence_labels.tolist()
        != exact.sentence_labels.tolist()
    )


def test_a_language_column():
    table = prepare(
        {"document": ["One bird."], "lang": ["de-AT"]}, sentiment="neutral", language_column="lang"
    )
    assert one(table).language == "de"


def shard(**types: pa.DataType) -> Shard:
    return Shard(InputFile("a.parquet", 1, "v"), pa.schema(list(types.items())), ())


def test_columns_are_checked_before_any_work():
    config = DocumentsConfig(summary_column="summary", keep_columns=("id",))
    good = shard(id=pa.int64(), document=pa.string(), summary=pa.string(), other=pa.int8())
    assert check_labelled(good, config) is None
    assert kept_schema(good.schema, config).names == ["id", "document", "summary"]
    assert "no column 'summary'" in check_labelled(
        shard(id=pa.int64(), document=pa.string()), config
    )
    assert "no column 'id'" in check_labelled(
        shard(document=pa.string(), summary=pa.string()), config
    )
    numbers = shard(id=pa.int64(), document=pa.int64(), summary=pa.string())
    assert "'document' is int64" in check_labelled(numbers, config)
    clash = shard(document=pa.string(), status=pa.string())
    with pytest.raises(InputError, match=r"\['status'\]"):
        check_shards(
            [clash], lambda one: check_labelled(one, DocumentsConfig(sentiment="neutral")), False
        )


@pytest.mark.parametrize("values", [{}, {"sentiment": "a", "min_sentences": 4, "max_sentences": 3}])
def test_a_configuration_without_sense_is_refused(values):
    with pytest.raises(ValidationError):
        DocumentsConfig.model_validate(values)


def test_another_tokenizer_is_noticed():
    schema = shard_schema(pa.schema([]), tiny.document_encoder().tokenizer_digest)
    assert is_prepared(schema)
    assert not is_prepared(pa.schema([("prepared", pa.string())]))
    check_tokenizer(schema, tiny.document_encoder(max_window_tokens=20), "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet was prepared with another tokenizer"):
        check_tokenizer(schema, tiny.document_encoder(tiny.unigram()), "a.parquet")
