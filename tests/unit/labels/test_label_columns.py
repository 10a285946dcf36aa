"""Columns of labels: which types are taken, what a null means, and that rows and their shards teach the same."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tiny
from pydantic import ValidationError

from bertsum.errors import InputError, RowError
from bertsum.evaluation.columns import check_measurable
from bertsum.evaluation.config import EvaluationConfig
from bertsum.evaluation.evaluator import Evaluator
from bertsum.inference.summarizer import Summarizer
from bertsum.labels.config import LabelsConfig
from bertsum.labels.labels import word_labels
from bertsum.labels.prepare import DocumentsConfig, Preparer, check_labelled
from bertsum.model.losses import IGNORE
from bertsum.runs.input import InputFile, Shard
from bertsum.training.data import read_examples, read_texts
from bertsum.training.examples import labelled
from bertsum.training.start.source_config import SourceConfig

TEXT = "The cat sleeps. A dog runs. Market prices rise in the city."
SENTENCES = ["The cat sleeps.", "A dog runs.", "Market prices rise in the city."]
TAGS = ("O", "positive")
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(),
    2,
    [None, pa.py_buffer(np.array([0, 4, 8], np.int32).tobytes()), pa.py_buffer(b"caf\xe9bird")],
)


def read(path: Path, table: pa.Table, max_windows: int = 8, **columns: object) -> list:
    pq.write_table(table, path)
    source = SourceConfig.model_validate({"name": "news"} | columns)
    encoder, model = (
        tiny.document_encoder(),
        tiny.model_config(token_sentiment_labels=TAGS, topic_labels=("1", "2")),
    )
    return list(labelled(read_examples(str(path), source, encoder, model, max_windows=max_windows)))


def prepare(table: pa.Table, **columns: object) -> pa.Table:
    (prepared,) = Preparer(tiny.wordpiece(), DocumentsConfig.model_validate(columns)).stream(
        [table]
    )
    return prepared


def shard_of(table: pa.Table, **columns: object) -> pa.Table:
    """What `bertsum prepare` writes of the rows."""
    prepared = prepare(table, **columns)
    kept = [status == "ok" for status in prepared["status"].to_pylist()]
    return prepared.filter(pa.array(kept, pa.bool_())).drop(["status"])


def lessons(examples: list) -> list:
    """All that a model learns from each."""
    return [
        (e.document.text, e.sentence_labels.tolist(), e.sentiment_label, e.topic_label, e.summary, e.summary_size,
         None if e.token_labels is None else e.token_labels.tolist())
        for e in examples
    ]  # fmt: skip


WORDS = {"tokens_column": "words", "token_sentiments_column": "tags"}
GIVEN = {"sentences_column": "sentences", "sentence_labels_column": "labels"}
LONG = tiny.text(30, 8)
ENDING = LONG.split(". ")[-1]
CASES = {
    "summaries": (
        {"document": [TEXT] * 5 + [LONG] * 2,
         "summary": ["A dog runs.", None, " \n ", "Zebra!", "", ENDING, "A zebra."]},
        {"summary_column": "summary"},
    ),
    "summaries and classes": (
        {"document": [TEXT] * 4, "summary": ["A dog runs.", None, "Zebra!", "Zebra!"],
         "label": ["positive", "neutral", "neutral", None], "topic": [1, None, None, None]},
        {"summary_column": "summary", "sentiment_column": "label", "topic_column": "topic"},
    ),
    "lists of sentences": (
        {"document": [TEXT] * 4, "summary": [["A dog  runs.", None, "", "The cat."], None, [], [" ", None]]},
        {"summary_column": "summary"},
    ),
    "given labels": (
        {"document": [TEXT] * 9 + [LONG] * 2,
         "sentences": [SENTENCES, SENTENCES, None, [SENTENCES[0], None, SENTENCES[2]], SENTENCES, SENTENCES, SENTENCES,
                       ["elsewhere", SENTENCES[1]], [], [LONG[:20], ENDING], [LONG[:20], ENDING]],
         "labels": [[0, 1, 0], None, [0, 1, 0], [1, 1, 0], [1, None, 0], [None, None, None], [0, 0, 0],
                    [1, 0], [], [0, 1], [1, 0]]},
        GIVEN,
    ),
    "words": (
        {"document": [TEXT] * 6, "words": [["cat", "dog"], None, ["cat", None, "dog"], ["cat", "dog"], [], ["zebra"]],
         "tags": [["O", "positive"], None, ["O", "O", "positive"], [None, "O"], [], ["positive"]]},
        WORDS,
    ),
    "names": (
        {"document": [TEXT] * 5, "words": [["cat", "Dog runs"], None, ["zebra"], ["dog", None], []],
         "tags": [["O", "positive"], None, ["positive"], ["positive", "O"], []]},
        {"entities_column": "words", "entity_sentiments_column": "tags"},
    ),
    "aspects": (
        {"document": [TEXT] * 4, "tags": [["O", None, "positive"], ["O"], None, [None]]},
        {"aspect_sentiments_column": "tags"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("max_windows", [1, 8])
@pytest.mark.parametrize("case", list(CASES))
def test_rows_and_their_shards_teach_the_same(case: str, max_windows: int, tmp_path: Path) -> None:
    rows, columns = CASES[case]
    table = pa.table(rows)
    raw = lessons(read(tmp_path / "rows.parquet", table, max_windows, **columns))
    shard = lessons(
        read(tmp_path / "shard.parquet", shard_of(table, **columns), max_windows, **columns)
    )
    assert raw == shard
    assert 0 < len(raw) < table.num_rows  # of each kind, some rows have nothing to teach


def test_what_rows_teach(tmp_path: Path) -> None:
    def taught(case: str, max_windows: int = 8) -> list:
        rows, columns = CASES[case]
        return read(tmp_path / "rows.parquet", pa.table(rows), max_windows, **columns)

    summaries = taught("summaries", 1)
    assert [e.summary for e in summaries] == ["A dog runs.", ENDING]
    assert (
        0 < summaries[1].sentence_labels.sum() < len(summaries[1].sentence_labels) < 30
    )  # of what is read
    assert [e.sentence_labels.tolist() for e in taught("given labels")[:-2]] == [
        [0, 1, 0],
        [1, 0, 0],
        [1, IGNORE, 0],
        [0, 0, 0],  # the data says so
    ]
    long = taught("given labels", 1)[-1:]  # the other one's chosen sentence is not read
    assert [(len(e.sentence_labels) < 30, e.sentence_labels.sum()) for e in long] == [(True, 1)]
    assert len(taught("given labels")) - len(taught("given labels", 1)) == 1
    assert [e.summary for e in taught("lists of sentences")] == ["A dog runs.\nThe cat."]
    assert [(e.token_labels >= 0).sum() for e in taught("words")] == [2, 2, 1]
    # "cat" once; neither "Dog runs", since a capital matches no small letter, nor "zebra" is there
    assert [(e.token_labels >= 0).sum() for e in taught("names")] == [1, 1]
    assert [e.sentiment_label for e in taught("aspects")] == [2]
    assert [(e.sentiment_label, e.topic_label) for e in taught("summaries and classes")] == [
        (2, 0),
        (1, -1),
        (1, -1),
    ]
    assert taught("summaries and classes")[2].sentence_labels.tolist() == [IGNORE] * 3


@pytest.mark.parametrize(
    ("key", "good", "bad", "allowed"),
    [
        ("text_column", pa.large_string(), pa.int64(), "a string column"),
        ("text_column", pa.dictionary(pa.int32(), pa.string()), pa.binary(), "a string column"),
        ("text_column", pa.string_view(), pa.list_(pa.string()), "a string column"),
        (
            "summary_column",
            pa.list_(pa.large_string()),
            pa.binary(),
            "a column of strings, or of lists of strings",
        ),
        (
            "summary_column",
            pa.null(),
            pa.list_(pa.int8()),
            "a column of strings, or of lists of strings",
        ),
        (
            "sentiment_column",
            pa.int8(),
            pa.list_(pa.string()),
            "a column of strings, numbers or booleans",
        ),
        (
            "topic_column",
            pa.bool_(),
            pa.struct([("a", pa.int8())]),
            "a column of strings, numbers or booleans",
        ),
        (
            "sentences_column",
            pa.large_list(pa.string()),
            pa.string(),
            "a column of lists of strings",
        ),
        (
            "sentence_labels_column",
            pa.list_(pa.bool_()),
            pa.int8(),
            "a column of lists of numbers or booleans",
        ),
        (
            "sentence_labels_column",
            pa.list_(pa.null()),
            pa.list_(pa.string()),
            "a column of lists of numbers or",
        ),
        (
            "tokens_column",
            pa.list_(pa.string(), 2),
            pa.list_(pa.int8()),
            "a column of lists of strings",
        ),
        (
            "token_sentiments_column",
            pa.list_(pa.string()),
            pa.list_(pa.int8()),
            "a column of lists of strings",
        ),
        (
            "aspect_sentiments_column",
            pa.list_(pa.null()),
            pa.string(),
            "a column of lists of strings",
        ),
    ],
)
def test_types_are_checked_before_any_row_is_read(
    key: str, good: pa.DataType, bad: pa.DataType, allowed: str, tmp_path: Path
) -> None:
    types = {
        "x": good,
        "document": pa.string(),
        "sentences": pa.list_(pa.string()),
        "labels": pa.list_(pa.int8()),
    }
    types |= {"words": pa.list_(pa.string()), "tags": pa.list_(pa.string())}
    columns = {key: "x"} | ({"sentiment": "neutral"} if key == "text_column" else {})
    for pair in (GIVEN, WORDS):
        columns = pair | columns if key in pair else columns

    def problems(data_type: pa.DataType) -> list[str | None]:
        schema = pa.schema(list((types | {"x": data_type}).items()))
        shard = Shard(InputFile("a.parquet", 1, "v"), schema, ())
        found = [check_labelled(shard, DocumentsConfig.model_validate(columns))]
        found += [check_measurable(shard, EvaluationConfig.model_validate(columns))]
        try:
            read(tmp_path / "empty.parquet", schema.empty_table(), **columns)
        except InputError as error:
            return [*found, str(error)]
        return [*found, None]

    assert problems(good) == [None] * 3
    for problem in problems(bad):
        assert problem is not None
        problem = problem.replace(
            "<element:", "<item:"
        )  # Parquet has its own name for what is in a list
        assert f"column 'x' is {bad}, but {key} must name {allowed}" in problem


def test_a_list_is_a_summary_of_other_systems_too(checkpoint: Path) -> None:
    config = EvaluationConfig(
        summary_column="summary", system_columns=("other",), baselines=(), dtype="float32"
    )
    evaluator = Evaluator({"mine": Summarizer(checkpoint, config.summarizer, device="cpu")}, config)
    lists = pa.table(
        {
            "document": [TEXT],
            "summary": [["A dog runs.", "The cat."]],
            "other": [["The cat.", None]],
        }
    )
    lines = pa.table(
        {"document": [TEXT], "summary": ["A dog runs.\nThe cat."], "other": ["The cat."]}
    )
    found, expected = (next(evaluator.stream([table])) for table in (lists, lines))
    assert found.equals(expected)
    assert found["rouge"][0].as_py()


def test_what_is_not_utf8_counts_as_null(tmp_path: Path) -> None:
    texts, summaries = (
        {"document": NOT_UTF8},
        {"document": [TEXT] * 2, "summary": NOT_UTF8, "label": ["neutral"] * 2},
    )
    assert [
        e.document.text for e in read(tmp_path / "a.parquet", pa.table(texts), sentiment="neutral")
    ] == ["bird"]
    columns = {"summary_column": "summary", "sentiment_column": "label"}
    assert [e.summary for e in read(tmp_path / "b.parquet", pa.table(summaries), **columns)] == [
        None,
        "bird",
    ]
    assert prepare(pa.table(summaries), **columns)["status"].to_pylist() == ["ok", "ok"]
    assert list(
        read_texts(str(tmp_path / "a.parquet"), SourceConfig(name="a", sentiment="neutral"))
    ) == ["bird"]
    words = pa.ListArray.from_arrays(pa.array([0, 1, 2]), NOT_UTF8)
    table = pa.table({"document": ["A bird."] * 2, "words": words, "tags": [["O"], ["O"]]})
    assert len(read(tmp_path / "c.parquet", table, **WORDS)) == 1


def test_a_row_whose_labels_do_not_fit_is_named(tmp_path: Path, checkpoint: Path) -> None:
    good, bad = (
        {"document": [TEXT] * 3, "words": [["cat"]] * 3, "tags": [["O"]] * 2 + [tags]}
        for tags in (["O"], [])
    )
    pq.write_table(pa.table(good), tmp_path / "1.parquet")
    with pytest.raises(
        InputError,
        match=r"^source news: .*/2\.parquet, row 2 \(from 0\): it has 1 words and 0 labels",
    ):
        read(tmp_path / "2.parquet", pa.table(bad), **WORDS)
    source = SourceConfig.model_validate({"name": "news"} | WORDS)
    model = tiny.model_config(token_sentiment_labels=TAGS)
    with pytest.raises(
        InputError, match=r"/2\.parquet, row 2 \(from 0\)"
    ):  # of the file, not of the source
        read_examples(str(tmp_path), source, tiny.document_encoder(), model, max_windows=8)
    with pytest.raises(RowError, match="row 2 of the table: it has 1 words and 0 labels of words"):
        prepare(pa.table(bad), **WORDS)
    config = EvaluationConfig.model_validate(WORDS)
    evaluator = Evaluator({"mine": Summarizer(checkpoint, config.summarizer, device="cpu")}, config)
    with pytest.raises(RowError, match="row 2 of the table: it has 1 words and 0 labels of words"):
        next(evaluator.stream([pa.table(bad)]))


def test_words_of_names_have_the_sentiment_of_their_name() -> None:
    labels = LabelsConfig(entities_column="names", entity_sentiments_column="tags")
    text = "Apple beats Big Bank. Big Bank fell."
    row = {"names": ["Big Bank", "Apple", "Zebra"], "tags": ["negative", "positive", "neutral"]}
    assert word_labels(text, row, labels) == (
        [12, 16, 22, 26, 0],
        ["negative", "negative", "negative", "negative", "positive"],
    )
    with pytest.raises(InputError, match="it has 3 names and 1 labels of names"):
        word_labels(text, row | {"tags": ["O"]}, labels)
    for wrong in (
        {"entities_column": "names"},
        {"entities_column": "names", "entity_sentiments_column": "tags", **WORDS},
    ):
        with pytest.raises(ValidationError, match="entities_column"):
            LabelsConfig.model_validate(wrong)
