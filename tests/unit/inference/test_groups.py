"""Sentences, embedding, topic and keywords: against sums by hand from the model's own weights."""

import dataclasses
import json
import shutil

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny

import bertsum
from bertsum.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError
from bertsum.inference.columns.mixed import MixedSentiment
from bertsum.inference.device_batches import Scores
from bertsum.inference.reader import document_encoder
from bertsum.inference.summarizer import Summarizer
from bertsum.model.batches import make_batch
from bertsum.schema import Document, Status

GROUPS = ("sentences", "embedding", "topic", "keywords", "aspects")
TOPICS = ("animals", "money")
TEXT = tiny.text(20, 5)  # 20 sentences in several windows
HALF = 1e-3  # float16 has 3 digits


def make(directory, *outputs: str, **config) -> Summarizer:
    values = {"dtype": "float32", "outputs": outputs} | config
    return Summarizer(directory, SummarizerConfig.model_validate(values), device="cpu")


def save(directory, **changes):
    model = tiny.model(**changes)
    model.temperatures["sentiment"] = 0.5
    save_checkpoint(directory, model, tiny.wordpiece(), "", version=bertsum.__version__)
    return directory


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A checkpoint that gives every group, with random weights also in the embedding's matrix."""
    directory = tmp_path_factory.mktemp("rich") / "model"
    heads = {"topic_labels": TOPICS, "token_sentiment_labels": ("O", "good", "bad")}
    return save(directory, **heads, embedding_layers=(1, 2))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A checkpoint without any of the heads."""
    return save(tmp_path_factory.mktemp("plain") / "model", sentiment_labels=())


@pytest.fixture(scope="module")
def with_all(rich):
    return make(rich, *GROUPS)


def read(directory, text):
    """The model, the batch of one text, its [T, H] token and [S, H] sentence vectors."""
    model, tokenizer = load_checkpoint(directory)
    documents = document_encoder(model, tokenizer).encode([text], ["en"], 256)
    batch = make_batch(documents, [0])
    with torch.no_grad():
        return model, batch, model.token_vectors(batch).numpy(), model.sentence_vectors(batch)


def softmax(values):
    exponentials = np.exp(values - values.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# Sentences


def test_each_sentence_has_its_span_score_and_sentiment(with_all, rich):
    sentences = with_all(TEXT).sentences
    assert [TEXT[s["start"] : s["start"] + s["length"]] for s in sentences] == [
        tiny.sentence(*range(7 * i, 7 * i + 5)) for i in range(20)
    ]
    model, batch, _, vectors = read(rich, TEXT)
    with torch.no_grad():
        logits = model.summarization(vectors, batch.surface, [20]).numpy()
    expected_scores = 1 / (1 + np.exp(-logits))
    assert [s["score"] for s in sentences] == pytest.approx(expected_scores.tolist(), abs=1e-5)
    # Attention to one sentence alone gives all of its weight to it: only its value counts.
    attention, classifier = model.sentiment.attention, model.sentiment.classifier
    weight, bias = attention.in_proj_weight[-32:], attention.in_proj_bias[-32:]
    values = attention.out_proj(vectors @ weight.T + bias)
    probabilities = softmax(classifier(values).detach().numpy() / 0.5)
    found = np.array([list(s["sentiment_scores"].values()) for s in sentences])
    assert found == pytest.approx(probabilities, abs=1e-5)
    labels = model.config.sentiment_labels
    assert [s["sentiment"] for s in sentences] == [labels[i] for i in probabilities.argmax(1)]


def test_a_document_of_one_sentence_has_its_sentiment(with_all):
    prediction = with_all("The dog sleeps.")
    (sentence,) = prediction.sentences
    assert sentence["sentiment"] == prediction.sentiment
    assert sentence["sentiment_scores"] == pytest.approx(prediction.sentiment_scores, abs=1e-6)


def test_sentences_of_a_model_without_sentiment(plain):
    sentences = make(plain, "sentences")("The dog sleeps. A cat runs.").sentences
    assert [(s["start"], s["sentiment"], s["sentiment_scores"]) for s in sentences] == [
        (0, None, None),
        (16, None, None),
    ]


def test_sentences_that_were_not_read_are_left_out(rich):
    prediction = make(rich, *GROUPS, max_windows=1)(TEXT)
    assert prediction.truncated
    assert 0 < len(prediction.sentences) < prediction.num_sentences == 20


# Embedding


def test_the_embedding_is_the_mean_of_all_tokens(checkpoint):
    embedding = np.array(make(checkpoint, "embedding")(TEXT).embedding)
    _, _, tokens, _ = read(checkpoint, TEXT)
    assert embedding == pytest.approx(unit(tokens.mean(0)), abs=HALF)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=HALF)


def test_the_head_maps_means_of_layers(with_all, rich):
    model, batch, _, _ = read(rich, TEXT)
    with torch.no_grad():
        features = model.embedding_features(batch)[0].numpy()
    mapped = model.embedding.weight.numpy() @ features + model.embedding.bias.numpy()
    assert np.array(with_all(TEXT).embedding) == pytest.approx(unit(mapped), abs=HALF)


def test_an_embedding_does_not_depend_on_the_documents_beside_it(with_all):
    texts = [TEXT, "The cat.", tiny.text(3, 9, first=4), tiny.text(40)]
    together = [prediction.embedding for prediction in with_all(texts)]
    alone = [with_all(text).embedding for text in texts]
    assert np.array(together) == pytest.approx(np.array(alone), abs=HALF)


def test_both_types_hold_the_same_numbers_in_every_reader(rich, tmp_path):
    texts = [TEXT, None, "The cat."]
    path = tmp_path / "rows.parquet"
    found = {}
    for kind, expected in (
        ("float16", pa.list_(pa.float16(), 32)),
        ("float32", pa.list_(pa.float32())),
    ):
        table = make(rich, "embedding", embedding_type=kind)(pa.table({"document": texts}))
        assert table.schema.field("embedding").type == expected
        pq.write_table(table, path)
        assert pq.read_table(path)["embedding"].to_pylist() == table["embedding"].to_pylist()
        rows = duckdb.sql(f"SELECT embedding, typeof(embedding) FROM '{path}'").fetchall()
        assert {kind for _, kind in rows} == {"FLOAT[]"}
        found[kind] = [row[0] for row in rows]
    assert found["float16"] == found["float32"]
    assert found["float16"][1] is None
    assert len(found["float16"][0]) == 32
    cosine = duckdb.sql(
        f"SELECT array_cosine_similarity(embedding::FLOAT[32], embedding::FLOAT[32]) FROM '{path}'"
    ).fetchall()
    assert [row[0] for row in cosine] == [pytest.approx(1, abs=HALF), None, cosine[2][0]]


# Topics


def test_topics_of_the_head(with_all, rich):
    prediction = with_all(TEXT)
    assert list(prediction.topic_scores) == list(TOPICS)
    assert sum(prediction.topic_scores.values()) == pytest.approx(1)
    assert prediction.topic == max(prediction.topic_scores, key=prediction.topic_scores.get)
    model, _, _, vectors = read(rich, TEXT)
    with torch.no_grad():
        expected = softmax(model.topic(vectors, [20]).numpy()[0])
    assert list(prediction.topic_scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)


def test_topics_by_name_are_the_nearest(checkpoint):
    topics = {"cat": "", "market": "bank price", "river": ""}
    texts = ["cat", "market: bank price", "river", TEXT]
    summarizer = make(checkpoint, "embedding", "topic", topics=topics)
    predictions = summarizer(texts)
    assert [prediction.topic for prediction in predictions[:3]] == list(topics)
    vectors = np.array([prediction.embedding for prediction in predictions])
    expected = softmax(vectors @ vectors[:3].T / 0.05)
    found = np.array([list(prediction.topic_scores.values()) for prediction in predictions])
    assert found == pytest.approx(expected, abs=0.03)  # of vectors rounded to float16


def test_named_topics_come_before_those_of_the_head(rich):
    topics = make(rich, "topic", topics=["cat", "bank"])("The cat sleeps.").topic_scores
    assert list(topics) == ["cat", "bank"]


@pytest.mark.parametrize("topics", [["sport"], ["a", "a"], {"": "x", "b": ""}])
def test_topics_that_decide_nothing_are_refused(topics):
    with pytest.raises(ValueError, match="topics"):
        SummarizerConfig.model_validate({"topics": topics})


def test_a_topic_without_a_word_is_refused(checkpoint):
    with pytest.raises(ConfigError, match="has no word"):
        make(checkpoint, "topic", topics=["cat", "\u200b"])


@pytest.mark.parametrize("topic", ["体育", "😀"])
def test_a_topic_that_the_model_cannot_read_is_refused(checkpoint, topic):
    with pytest.raises(ConfigError, match=f"summarizer.topics: '{topic}' is not in a language"):
        make(checkpoint, "topic", topics=["cat", topic])


# Keywords


def test_keywords_are_phrases_of_the_document(with_all):
    text = "The red river rises. The red river is big. Dogs sleep near the old bank."
    keywords = with_all(text).keywords
    assert all(keyword["text"] in text for keyword in keywords)
    assert any("red river" in keyword["text"] for keyword in keywords)
    scores = [keyword["score"] for keyword in keywords]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1
    assert len(make_few(with_all)(text).keywords) == 2


def make_few(summarizer: Summarizer) -> Summarizer:
    values = summarizer.config.model_dump() | {"keywords": 2}
    return Summarizer(summarizer._source, SummarizerConfig.model_validate(values), device="cpu")


# All of them


HOSTILE = [
    None,
    "",
    " \n ",
    "😀 🎉",
    "cat",
    "Cat 😀!",
    "a. b. c. d.",
    "\u200b\ufeffthe cat\0dog. ‮the bank‬",
    "the of and in. The of and.",
    "cat dog bank " * 3000,
    tiny.text(10_000, 3),
    "Ова је прва. Ово је друга.",
]


def test_hostile_texts_have_a_row_and_nothing_that_is_no_number(rich):
    table = make(rich, *GROUPS, max_windows=1000)(pa.table({"document": HOSTILE}))
    assert table.num_rows == len(HOSTILE)
    for text, row in zip(HOSTILE, table.to_pylist(), strict=True):
        is_read = row["status"] == Status.OK
        for group in (*GROUPS, "topic_scores"):
            assert (row[group] is not None) == is_read, (text, group)
        if is_read:
            assert np.isfinite(row["embedding"]).all()
            assert len(row["sentences"]) <= row["num_sentences"]
            assert json.dumps(row["keywords"], allow_nan=False)
    assert len(table["sentences"][10].as_py()) == 10_000


def test_groups_change_no_other_column(with_all, rich):
    columns = {"document": [TEXT, "The cat sleeps.", ""]}
    alone = make(rich)(pa.table(columns))
    assert with_all(pa.table(columns)).select(alone.column_names) == alone


def test_a_document_that_a_group_fails_at_is_an_error_row(with_all, monkeypatch):
    original = type(with_all.readers[""]._makers[0]).columns

    def fail(self, documents, scores):
        if any("marker" in document.text for document in documents):
            raise RuntimeError("no sentence")
        return original(self, documents, scores)

    monkeypatch.setattr(type(with_all.readers[""]._makers[0]), "columns", fail)
    rows = with_all(["The cat sleeps.", "The marker.", "A dog runs."])
    assert [row.status for row in rows] == [Status.OK, Status.ERROR, Status.OK]
    assert rows[1].error == "finishing failed: RuntimeError: no sentence"
    assert (rows[1].summary, rows[1].sentiment, rows[1].num_sentences) == (None, None, 1)
    assert rows[2].sentences


def test_a_row_is_json(with_all):
    (prediction,) = with_all.predict([Document(TEXT)])
    assert json.loads(json.dumps(dataclasses.asdict(prediction)))["embedding"]


# What a model cannot give


def test_a_topic_without_a_head_is_refused_with_what_there_is(checkpoint, family):
    with pytest.raises(ConfigError, match=r"topics with summarizer.topics.*: summary, sentiment"):
        make(checkpoint, "topic")
    with pytest.raises(ConfigError, match="its member 'english' has no head for topics"):
        make(family, "topic")


def test_topics_that_are_not_written_are_refused(checkpoint):
    with pytest.raises(ConfigError, match=r"add topic to summarizer\.outputs"):
        make(checkpoint, topics=["a", "b"])


def test_a_size_of_another_model_is_refused(checkpoint):
    with pytest.raises(ConfigError, match="the model has 32 features"):
        make(checkpoint, "embedding", embedding_size=384)


def test_members_with_vectors_of_unequal_length_have_no_embedding(family, tmp_path):
    shutil.copytree(family, tmp_path / "mixed")
    base = tiny.encoder("xlm-roberta", hidden_size=16)
    model = bertsum.model.bert_sum.BertSum(base, tiny.model_config())
    save_checkpoint(
        tmp_path / "mixed" / "multilingual",
        model,
        tiny.unigram(),
        "",
        version=bertsum.__version__,
    )
    with pytest.raises(ConfigError, match="32 of english, 16 of multilingual"):
        make(tmp_path / "mixed", "embedding")
    assert make(tmp_path / "mixed", "keywords")("The cat sleeps.").keywords


def test_members_of_a_family_embed_by_their_own_model(family):
    summarizer = make(family, *GROUPS[:-1], topics=["cat", "bank"])
    english, chinese = summarizer(["The cat sleeps in the house.", "猫坐在垫子上。河水很大。"])
    assert len(english.embedding) == len(chinese.embedding) == 32
    alone = make(family / "multilingual", "embedding")("猫坐在垫子上。河水很大。")
    assert chinese.embedding == pytest.approx(alone.embedding, abs=HALF)


# The sentiment `mixed`


def polarities(prediction):
    """Mean probability of a positive and of a negative sentence."""
    by_label = [sentence["sentiment_scores"] for sentence in prediction.sentences]
    return [
        sum(scores[label] for scores in by_label) / len(by_label)
        for label in ("positive", "negative")
    ]


def test_both_polarities_must_reach_the_threshold(rich):
    texts = [TEXT, "The cat sleeps. A dog runs.", "The bank.", tiny.text(9, 3, first=2)]
    plain_rows = make(rich, "sentences")(texts)
    weaker = [min(polarities(prediction)) for prediction in plain_rows]
    assert max(weaker) < 0.5
    for prediction, value in zip(plain_rows, weaker, strict=True):
        threshold = value * 0.999
        rows = make(rich, "sentences", mixed=threshold)(texts)
        answers = [row.sentiment for row in rows]
        expected = [
            "mixed" if other >= threshold else before.sentiment
            for before, other in zip(plain_rows, weaker, strict=True)
        ]
        assert answers == expected
        assert "mixed" in answers
        same = dataclasses.replace(rows[texts.index(TEXT)], sentiment=plain_rows[0].sentiment)
        assert same == plain_rows[0]  # nothing but the label differs
        assert prediction.sentiment != "mixed"


def test_the_rule_in_numbers():
    maker = MixedSentiment(("negative", "neutral", "positive"), 0.33)
    praise_and_blame = [[0.1, 0.0, 0.9], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]  # 0.6 and 1 / 3
    scores = [
        Scores(sentence_sentiments=np.array(rows, np.float32))
        for rows in (praise_and_blame, praise_and_blame[:2], praise_and_blame[2:])
    ]
    assert maker.columns([], scores) == [{"sentiment": "mixed"}, {}, {}]


def test_it_is_for_three_sentiments_of_known_names(plain, rich, family, tmp_path):
    named = save(tmp_path / "named", sentiment_labels=("mixed", "negative", "positive"))
    for directory, labels in ((plain, "none"), (named, "mixed, negative, positive")):
        with pytest.raises(ConfigError, match=f"mixed=0.3 needs .* the model has {labels}"):
            make(directory, mixed=0.3)
    with pytest.raises(ConfigError, match="needs"):
        make(save(tmp_path / "two", sentiment_labels=("0", "1")), mixed=0.3)
    assert make(family, mixed=0.3)("The cat sleeps. A dog runs.").sentiment
    for wrong in (0, 0.6, float("nan")):
        with pytest.raises(ValueError, match="mixed"):
            make(rich, mixed=wrong)
