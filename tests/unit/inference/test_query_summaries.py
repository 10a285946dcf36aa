"""Summaries that answer a query: scores by hand, the columns, and rows without a query."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from pydantic import ValidationError

import bertsum
from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.checkpoints.outputs import with_outputs
from bertsum.config import SummarizerConfig
from bertsum.config_base import hashed_values
from bertsum.errors import ConfigError, InputError
from bertsum.inference import query as query_module
from bertsum.inference.summarizer import Summarizer
from bertsum.model.candidates import make_candidates
from bertsum.model_config import QueryWeights
from bertsum.runs.columns import needed_columns, output_schema
from bertsum.schema import Document, QueryStatus, Status
from bertsum.text.phrases.query_words import bm25, query_words
from jobs.text import main as text_command

TEXTS = [
    tiny.text(12, 7),
    "The cat 🐈 sleeps. A dog runs in the city. Market prices rise. The bank says good.",
    tiny.text(30, 12, first=5),  # several windows
]
QUERY = "Prices of the market"


def make(directory, **config):
    values = {"dtype": "float32", **config}
    return Summarizer(directory, SummarizerConfig.model_validate(values), device="cpu")


def test_scores_are_of_importance_nearness_and_words(checkpoint):
    summarizer = make(checkpoint, query_column="asked", selection={"size": 2})
    reader = summarizer.router.only_reader
    asked = [Document(text, query=QUERY) for text in TEXTS]
    (vector,) = make(checkpoint, outputs=["embedding"]).predict([Document(QUERY)])
    (sentence_cat,) = make(checkpoint, outputs=["embedding"]).predict([Document(TEXTS[1][:12])])
    results = summarizer.predict_all_heads(asked)
    for text, (prediction, encoded, scores) in zip(TEXTS, results, strict=True):
        sentences = [text[start:stop] for start, stop in encoded.spans]
        words = bm25(sentences, query_words(QUERY, "en"), "en")
        p = scores.sentence_scores.astype(float)
        logits = np.log(p / (1 - p)) + 0.25 * words + 8 * (scores.query_cosines - 0.2)
        expected = 1 / (1 + np.exp(-logits))
        assert prediction.query_status == QueryStatus.OK
        chosen = list(prediction.summary_sentences)
        assert prediction.query_scores == pytest.approx(expected[chosen], abs=1e-5)
        assert prediction.summary_scores == pytest.approx(p[chosen])
        assert int(expected.argmax()) in chosen
        assert reader.queries.status(encoded) == QueryStatus.OK
    # of the first sentence of the second text, alone in its document, the cosine is known otherwise
    (alone,) = summarizer.predict_all_heads([Document(TEXTS[1][:12], query=QUERY)])
    expected = float(np.dot(vector.embedding, sentence_cat.embedding))
    assert alone[2].query_cosines == pytest.approx([expected], abs=2e-3)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_whole_summaries_are_compared_by_what_is_expected_of_them_and_their_answers(
    tmp_path, weight
):
    """Against all candidates, one by one."""
    model = tiny.model(rank_candidates=True, fewer_sentences=1)
    model.query_weights = QueryWeights(nearness=6, words=1, usual_cosine=0.1, answers=0.5)
    save_checkpoint(tmp_path, model, tiny.wordpiece(), "", version=bertsum.__version__)
    values = {"query_column": "asked", "selection": {"size": 3}, "query_weight": weight}
    table = [Document(tiny.text(12, 7, first=first), query=QUERY) for first in range(6)]
    results = make(tmp_path, **values).predict_all_heads(table)
    differing = 0
    for document, (prediction, encoded, scores) in zip(table, results, strict=True):
        sentences = [document.text[start:stop] for start, stop in encoded.spans]
        words = bm25(sentences, query_words(QUERY, "en"), "en")
        answers = weight * (words + 6 * (scores.query_cosines - 0.1))
        p = scores.sentence_scores.astype(float)
        asked = 1 / (1 + np.exp(-np.log(p / (1 - p)) - answers))
        (candidates,) = make_candidates(
            [encoded],
            [scores.sentence_scores],
            [3],
            model.candidates.vocabulary_size,
            ranked_by=[asked.astype(np.float32)],
        )
        with torch.inference_mode():
            expected = model.candidates.eval()(torch.from_numpy(candidates.features)).tolist()
        chosen = [candidates.sentences(index) for index in range(len(expected))]
        for index, sentences_of_set in enumerate(chosen):
            expected[index] += 0.5 * answers[sentences_of_set].mean()
        assert prediction.summary_sentences == chosen[int(np.argmax(expected))]
        assert prediction.query_scores == pytest.approx(
            asked[prediction.summary_sentences], abs=1e-5
        )
        differing += prediction.summary_sentences != sorted(np.argsort(-asked)[:3].tolist())
    assert differing


def test_a_query_may_count_more(checkpoint):
    values = {"query": QUERY, "selection": {"size": 1}}
    (once,) = make(checkpoint, **values).predict([Document(TEXTS[2])])
    (twice,) = make(checkpoint, query_weight=2.0, **values).predict([Document(TEXTS[2])])

    def logit(p):
        return np.log(p / (1 - p))

    if once.summary_sentences == twice.summary_sentences:
        importance = logit(once.summary_scores[0])
        answers = logit(once.query_scores[0]) - importance
        assert logit(twice.query_scores[0]) == pytest.approx(importance + 2 * answers, abs=1e-3)
    (much,) = make(checkpoint, query_weight=1e6, **values).predict([Document(TEXTS[2])])
    (found,) = make(checkpoint, **values).predict_all_heads([Document(TEXTS[2])])
    _, encoded, scores = found
    sentences = [TEXTS[2][start:stop] for start, stop in encoded.spans]
    answers = 0.25 * bm25(sentences, query_words(QUERY, "en"), "en") + 8 * scores.query_cosines
    assert much.summary_sentences == [int(answers.argmax())]


def test_a_column_and_the_configuration_ask_the_same(checkpoint):
    """The one rides along in the batch, the other is encoded once."""
    by_column = make(checkpoint, query_column="asked")(
        pa.table({"document": TEXTS, "asked": [QUERY] * 3})
    )
    by_configuration = make(checkpoint, query=QUERY)(pa.table({"document": TEXTS}))
    assert by_column["summary"].to_pylist() == by_configuration["summary"].to_pylist()
    for name in ("query_scores", "summary_scores"):
        expected = by_configuration[name].to_pylist()
        for row, other in zip(by_column[name].to_pylist(), expected, strict=True):
            assert row == pytest.approx(other, abs=1e-5)
    assert by_column["query_spans"].to_pylist() == by_configuration["query_spans"].to_pylist()


def test_rows_without_a_query_have_the_generic_summary(checkpoint):
    queries = [None, "", " \n", "!?…", "中文没有词", "\ud800", QUERY, "x" * 10**6]
    table = pa.table({"document": [TEXTS[0]] * 8})
    generic = make(checkpoint)(table).to_pylist()
    summarizer = make(checkpoint, query_column="asked")
    predictions = summarizer.predict([Document(TEXTS[0], query=query) for query in queries])
    statuses = [prediction.query_status for prediction in predictions]
    assert statuses == ["empty"] * 4 + ["unknown"] + ["empty", "ok", "ok"]
    for prediction, row in zip(predictions, generic, strict=True):
        assert prediction.status == Status.OK
        if prediction.query_status == QueryStatus.OK:
            continue
        assert (prediction.query_scores, prediction.query_spans) == (None, None)
        assert prediction.summary == row["summary"]
        assert prediction.summary_sentences == row["summary_sentences"]
        assert prediction.summary_scores == pytest.approx(row["summary_scores"], abs=1e-5)
        by_label = dict(row["sentiment_scores"])
        assert prediction.sentiment_scores == pytest.approx(by_label, abs=1e-5)


def test_no_row_is_lost(checkpoint):
    documents = [None, "", TEXTS[1], "a\0b\0c\0", "中文没有词。" * 5]
    table = pa.table({"n": range(5), "document": documents, "asked": [QUERY] * 5})
    result = make(checkpoint, query_column="asked")(table)
    assert result["n"].to_pylist() == list(range(5))
    assert result["asked"].to_pylist() == [QUERY] * 5  # an input column, which passes through
    assert result["query_status"].to_pylist() == [None, None, "ok", None, None]
    narrow = make(checkpoint, query_column="asked", keep_columns=["n"])(table)
    assert "asked" not in narrow.column_names
    assert narrow["query_scores"].to_pylist() == result["query_scores"].to_pylist()
    assert result["status"].to_pylist() == make(checkpoint)(table)["status"].to_pylist()


def test_a_family_reads_a_query_in_the_language_of_its_document(family):
    rows = [("The cat sleeps. The dog runs.", "dog"), ("猫坐在垫子上。狗坐在河上。", "狗坐在河"),
            ("猫坐在垫子上。狗坐在河上。", "dog")]  # fmt: skip
    table = pa.table(
        {"document": [text for text, _ in rows], "asked": [asked for _, asked in rows]}
    )
    result = make(family, query_column="asked", selection={"size": 1})(table).to_pylist()
    assert [row["query_status"] for row in result] == ["ok", "ok", "ok"]
    assert result[1]["language"] == "zh"
    words = []
    for (text, _), row in zip(rows, result, strict=True):
        spans = row["query_spans"]
        words.append([text[span["start"] : span["start"] + span["length"]] for span in spans])
    assert set(words[0]) <= {"dog"} and set(words[1]) <= {"狗坐在河", "坐在"} and not words[2]


def test_spans_are_of_the_summary_in_code_points(checkpoint):
    (prediction,) = make(checkpoint, query_column="asked", selection={"size": 4}).predict(
        [Document(TEXTS[1], query="cat market")]
    )
    spans = prediction.query_spans
    found = [TEXTS[1][span["start"] : span["start"] + span["length"]] for span in spans]
    assert found == ["cat", "Market"]
    (one,) = make(checkpoint, query_column="asked", selection={"size": 1}).predict(
        [Document(TEXTS[1], query="cat market")]
    )
    (of_summary,) = one.summary_spans
    inside = range(of_summary["start"], of_summary["start"] + of_summary["length"])
    assert all(span["start"] in inside for span in one.query_spans)


def test_two_sentences_within_a_budget_of_characters(checkpoint):
    budget = {"unit": "characters", "size": 90, "cut": "word"}
    table = pa.table({"document": TEXTS})
    many = make(checkpoint, selection=budget)(table)["summary_sentences"].to_pylist()
    two = make(checkpoint, selection=budget | {"most_sentences": 2})(table).to_pylist()
    assert max(map(len, many)) > 2
    for row in two:
        assert 1 <= len(row["summary_sentences"]) <= 2
        assert len(row["summary"]) <= 90


def test_what_is_refused(checkpoint, family):
    for values in (
        {"query": "a", "query_column": "b"},
        {"query": "?!"},
        {"selection": {"most_sentences": 2}},
    ):
        with pytest.raises(ValidationError):
            SummarizerConfig.model_validate(values)
    with pytest.raises(ConfigError, match=r"no query is given.* gives: .*keywords") as refused:
        make(checkpoint, outputs=["query"])
    assert "query" not in str(refused.value).partition("gives:")[2]
    with pytest.raises(InputError, match="there is no column 'asked'"):
        make(checkpoint, query_column="asked")(pa.table({"document": ["The cat."]}))
    with pytest.raises(InputError, match="there is no column ''"):
        make(checkpoint, query_column="")(pa.table({"document": ["The cat."]}))
    with pytest.raises(InputError, match="strings are expected"):
        make(checkpoint, query_column="asked")(pa.table({"document": ["The cat."], "asked": [1]}))
    with pytest.raises(InputError, match="query_status"):
        make(checkpoint, query="cat")(pa.table({"document": ["A."], "query_status": ["x"]}))


def test_columns_come_with_a_query(checkpoint, family):
    config = SummarizerConfig(query="cat")
    assert with_outputs(config, checkpoint).outputs == ("summary", "sentiment", "query")
    assert with_outputs(config, family).outputs == ("summary", "sentiment", "language", "query")
    assert with_outputs(SummarizerConfig(), checkpoint).outputs is None
    config = with_outputs(SummarizerConfig(query_column="asked", keep_columns=("id",)), checkpoint)
    schema = pa.schema([("id", pa.int64()), ("asked", pa.string()), ("document", pa.string())])
    assert needed_columns(schema, config) == ["id", "asked", "document"]
    assert "asked" not in output_schema(schema, config).names
    assert output_schema(schema, config).names[-3:] == [
        "query_scores",
        "query_spans",
        "query_status",
    ]


def test_fingerprints_without_a_query_stay():
    values = hashed_values(SummarizerConfig())
    assert not any("query" in name for name in values)
    assert "most_sentences" not in values["selection"]
    assert hashed_values(SummarizerConfig(query="cat"))["query"] == "cat"


def test_scores_that_are_no_numbers_are_an_error_row(checkpoint):
    summarizer = make(checkpoint, query="cat")
    prepared = summarizer.prepare([Document(TEXTS[1])])
    (scores,) = summarizer.forward(prepared)
    broken = replace(scores, query_cosines=np.full_like(scores.query_cosines, np.nan))
    (prediction,) = summarizer.finish(prepared, [broken])
    assert prediction.status == Status.ERROR
    assert "not numbers" in prediction.error


def test_only_the_beginning_of_a_query_is_read(checkpoint, monkeypatch):
    monkeypatch.setattr(query_module, "MOST_CHARACTERS", 3)
    summarizer = make(checkpoint, query_column="asked")
    short, long = summarizer.predict([Document(TEXTS[0], query=q) for q in ("cat", "catdogbird")])
    assert short.query_scores == pytest.approx(long.query_scores, abs=1e-6)


def test_the_command_for_one_text(checkpoint, tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_text(TEXTS[1])
    command = [str(file), "--model", str(checkpoint), "--query", "cat", "--snippet", "40"]
    assert text_command([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["query_status"] == "ok"
    assert len(record["query_scores"]) == len(record["summary_sentences"]) <= 2
    assert len(record["summary"]) <= 40
    assert text_command(command) == 0
    assert "query" in capsys.readouterr().out


def test_files_have_the_same_columns_as_tables(checkpoint, tmp_path):
    """Parquet keeps the types of the columns."""
    result = make(checkpoint, query=QUERY)(pa.table({"document": TEXTS}))
    pq.write_table(result, tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(result)
