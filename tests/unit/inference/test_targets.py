"""Targets: what weighs in their vectors, and sums by hand from the model's own weights."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bertsum.config import SummarizerConfig
from bertsum.config_base import hashed_values
from bertsum.errors import ConfigError, InputError
from bertsum.inference.columns.targets import Resemblance, TargetColumns, with_targets
from bertsum.inference.device_batches import Scores
from bertsum.inference.summarizer import Summarizer
from bertsum.model.batches import make_batch
from bertsum.runs.columns import needed_columns
from bertsum.schema import Document, Status
from bertsum.text.phrases.clauses import clause_numbers
from jobs.text import main as text_command

LABELS = ("negative", "neutral", "positive")
TEXT = "The cat runs, the dog sleeps. The old cat is big."


def make(directory, *outputs, **config):
    values = {"dtype": "float32", "outputs": outputs, **config}
    return Summarizer(directory, SummarizerConfig.model_validate(values), device="cpu")


def pools(text: str, *targets: str):
    """For each target of each sentence the weights of its tokens, by token."""
    tokenizer = tiny.wordpiece()
    encoder = tiny.document_encoder(tokenizer)
    (document,) = encoder.encode([text], ["en"], 64)
    made = TargetColumns(encoder, LABELS).pools([with_targets(document, targets)])
    tokens = tokenizer.convert_ids_to_tokens(document.input_ids.tolist())
    rows = []
    for row in range(sum(made.counts)):
        chosen = made.rows == row
        names = [tokens[token] for token in made.tokens[chosen]]
        rows.append(list(zip(names, made.weights[chosen].tolist(), strict=True)))
    return rows


def test_near_tokens_of_the_clause_weigh_most() -> None:
    (row,) = pools("The cat runs, the dog sleeps.", "cat")
    assert [token for token, _ in row] == ["the", "cat", "runs", ",", "the", "dog", "sleeps", "."]
    expected = np.exp(-np.array([1, 0, 1, 2, 3, 4, 5, 6]) / 16) * [1, 1, 1, *[0.3] * 5]
    assert [weight for _, weight in row] == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_tokens_nearer_to_another_target_do_not_count() -> None:
    cat, dog = pools("The cat sees a dog.", "cat", "dog")
    assert [token for token, weight in cat if weight] == ["the", "cat", "sees"]
    assert [token for token, weight in dog if weight] == ["a", "dog", "."]


def test_many_targets_in_a_long_sentence_share_its_tokens() -> None:
    """Each token is in the pools of the nearest targets only, of which there are at most two."""
    names = [f"n{number}" for number in range(150)]
    text = " ".join(f"the cat {name} sees a dog" for name in names)
    rows = pools(text, *names)
    (document,) = tiny.document_encoder().encode([text], ["en"], 64)
    assert len(rows) == 150
    assert len(document.spans) < 20  # sentences of more than 7 targets each
    assert sum(map(len, rows)) <= 2 * document.num_tokens
    for row in rows:
        assert sum(weight for _, weight in row) == pytest.approx(1, abs=1e-5)


def test_pools_in_parts_give_the_same_rows(checkpoint, monkeypatch) -> None:
    """Names that share their mentions have each all tokens of the sentence."""
    names = ["cat", "Cat", "CAT", "cats", "dog"]
    text = "The cat and the Cat and the CAT see cats, " + "but the dog sleeps, " * 20
    summarizer = make(checkpoint, "targets", targets=names)
    whole = summarizer(text).targets
    monkeypatch.setattr("bertsum.model.bert_sum._POOLED", 7)
    parts = summarizer(text).targets
    assert len(whole) == len(parts) == 5
    for target, expected in zip(parts, whole, strict=True):
        assert target["sentiment_scores"] == pytest.approx(expected["sentiment_scores"], abs=1e-6)
        assert target["mentions"] == expected["mentions"]


def test_each_sentence_with_a_mention_has_a_pool() -> None:
    rows = pools(TEXT, "cat", "dog", "bird")
    assert [[token for token, weight in row if weight][-1] for row in rows] == [",", ".", "."]
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one, two but three", [0, 1, 2, 2]),
        ("1,5 one two", [0, 0, 0]),
        ("一，二", [0]),
        ("while one", [1, 1]),
    ],
)
def test_clauses(text: str, expected: list[int]) -> None:
    offsets = np.array([0, *(i + 1 for i, c in enumerate(text) if c == " ")], np.int64)
    assert clause_numbers(text, offsets).tolist() == expected


def columns(text: str, targets: tuple[str, ...], sentiments: list[list[float]]):
    (document,) = tiny.document_encoder().encode([text], ["en"], 64)
    document = with_targets(document, targets)
    scores = Scores(pool_sentiments=np.array(sentiments, np.float32))
    (row,) = TargetColumns(tiny.document_encoder(), LABELS).columns([document], [scores])
    return row["targets"]


def test_a_target_alone_has_the_mean_of_its_sentences() -> None:
    (cat,) = columns(TEXT, ("bird", "cat"), [[0.8, 0.1, 0.1], [0.2, 0.1, 0.7]])
    assert cat["mentions"] == [{"start": 4, "length": 3}, {"start": 38, "length": 3}]
    # geometric means 0.4, 0.1, 0.2646, divided by their sum
    means = np.array([(0.8 * 0.2) ** 0.5, 0.1, (0.1 * 0.7) ** 0.5])
    found = list(cat["sentiment_scores"].values())
    assert found == pytest.approx((means / means.sum()).tolist(), abs=1e-5)
    assert (cat["target"], cat["sentiment"]) == ("cat", "negative")


def test_differences_in_a_sentence_are_enlarged() -> None:
    text = "The cat sees a dog."
    cat, dog = columns(text, ("dog", "cat"), [[0.5, 0.1, 0.4], [0.6, 0.1, 0.3]])[::-1]
    # The order is that of the user, and rows are in the order of the mentions' targets: dog, cat.
    assert (dog["target"], cat["target"]) == ("dog", "cat")
    assert (dog["sentiment"], cat["sentiment"]) == ("positive", "negative")
    # log 0.4 - log 0.3 = 0.288; the difference of positive becomes 5 times that
    ratio = dog["sentiment_scores"]["positive"] / dog["sentiment_scores"]["neutral"]
    other = cat["sentiment_scores"]["positive"] / cat["sentiment_scores"]["neutral"]
    assert np.log(ratio / other) == pytest.approx(5 * np.log(4 / 3), abs=1e-4)
    # equal ones stay as they are
    cat, dog = columns(text, ("cat", "dog"), [[0.6, 0.1, 0.3]] * 2)
    assert list(cat["sentiment_scores"].values()) == pytest.approx([0.6, 0.1, 0.3], abs=1e-5)


# Through a model


def test_the_head_reads_the_weighted_mean(checkpoint) -> None:
    summarizer = make(checkpoint, "targets", targets=["cat"])
    model = summarizer.model
    text = "The cat sleeps."
    (target,) = summarizer(text).targets
    (document,) = summarizer.encoder.encode([text], [None], 64)
    with torch.no_grad():
        vectors = model.token_vectors(make_batch([document], [0]))[1:-1]  # the cat sleeps .
        weights = torch.exp(-torch.tensor([1.0, 0, 1, 2]) / 16)
        mean = (weights[:, None] * vectors).sum(0) / weights.sum()
        expected = model.sentiment(mean[None], [1]).softmax(1)[0].tolist()
    assert list(target["sentiment_scores"].values()) == pytest.approx(expected, abs=1e-5)
    assert target["mentions"] == [{"start": 4, "length": 3}]


def cosine(checkpoint, *texts: str) -> float:
    """Of the embeddings of two texts, each of one sentence."""
    first, second = (prediction.embedding for prediction in make(checkpoint, "embedding")(texts))
    return float(np.dot(first, second))


def test_a_sentence_that_resembles_a_name_counts(checkpoint) -> None:
    """The one sentence of a document has the document's embedding, and a sentiment of its own."""
    text = "The cat sleeps."
    alike = cosine(checkpoint, text, "bird")
    assert 0.02 < alike < 0.98
    values = {"targets": ["Bird", "cat", "bird"], "target_resemblance": alike - 0.01}
    (prediction,) = make(checkpoint, "targets", "sentences", **values)([text])
    cat, bird = prediction.targets
    assert (bird["target"], bird["mentions"]) == ("bird", [])
    assert bird["sentiment"] == prediction.sentences[0]["sentiment"]
    expected = prediction.sentences[0]["sentiment_scores"]
    assert bird["sentiment_scores"] == pytest.approx(expected, abs=1e-5)
    # what is mentioned is what it is without resemblance
    (alone,) = make(checkpoint, "targets", targets=["cat"])(text).targets
    assert cat["mentions"] == alone["mentions"] == [{"start": 4, "length": 3}]
    assert cat["sentiment_scores"] == pytest.approx(alone["sentiment_scores"], abs=1e-6)
    # a little further apart than allowed; and names of the document's own are mentioned or absent
    values["target_resemblance"] = alike + 0.01
    (found,) = make(checkpoint, "targets", **values)(text).targets
    assert found["target"] == "cat"
    values |= {"targets": ["cat"], "target_resemblance": 0.001}
    (prediction,) = make(checkpoint, "targets", **values).predict(
        [Document(text, targets=("bird",))]
    )
    assert [target["target"] for target in prediction.targets] == ["cat"]


def test_sentences_that_resemble_a_name_count_alike() -> None:
    (document,) = tiny.document_encoder().encode([TEXT], ["en"], 64)
    document = with_targets(document, ("bird", "cat"))
    resemblance = Resemblance(names=["bird", "cat"], vectors=torch.eye(2), least_cosine=0.5)
    maker = TargetColumns(tiny.document_encoder(), LABELS, resemblance)
    scores = Scores(
        pool_sentiments=np.array([[0.8, 0.1, 0.1]] * 2, np.float32),
        sentence_cosines=np.array([[0.5, 0.9], [0.7, 0.9]], np.float32),
        sentence_sentiments=np.array([[0.8, 0.1, 0.1], [0.2, 0.1, 0.7]], np.float32),
    )
    (row,) = maker.columns([document], [scores])
    bird, cat = row["targets"]
    means = np.array([(0.8 * 0.2) ** 0.5, 0.1, (0.1 * 0.7) ** 0.5])
    expected = (means / means.sum()).tolist()
    assert list(bird["sentiment_scores"].values()) == pytest.approx(expected, abs=1e-5)
    assert cat["mentions"]
    assert cat["sentiment"] == "negative"


def test_a_row_does_not_depend_on_the_rows_beside_it(checkpoint) -> None:
    texts = [TEXT, "", "A bird.", tiny.text(40), "Dog. " * 30, "猫"]
    summarizer = make(checkpoint, "targets", targets=["cat", "dog"])
    together = [prediction.targets for prediction in summarizer(texts)]
    for text, expected in zip(texts, together, strict=True):
        alone = summarizer(text).targets
        assert [t["target"] for t in alone or ()] == [t["target"] for t in expected or ()]
        for first, second in zip(alone or (), expected or (), strict=True):
            assert first["mentions"] == second["mentions"]
            assert first["sentiment_scores"] == pytest.approx(second["sentiment_scores"], abs=1e-5)
    assert together[1] is None
    assert together[2] == []


def test_names_of_a_column_and_of_the_configuration(checkpoint, tmp_path) -> None:
    names = [["dog", None, "cat"], None, [""]]
    table = pa.table({"document": [TEXT] * 3, "names": names})
    config = {"targets": ["cat"], "targets_column": "names", "keep_columns": []}
    summarizer = make(checkpoint, "targets", **config)
    assert needed_columns(table.schema, summarizer.config) == ["document", "names"]
    result = summarizer(table)
    rows = result["targets"].to_pylist()
    assert [[target["target"] for target in row] for row in rows] == [
        ["cat", "dog"],
        ["cat"],
        ["cat"],
    ]
    dictionary = pa.array(names, pa.list_(pa.dictionary(pa.int32(), pa.string())))
    assert summarizer(table.set_column(1, "names", dictionary)).equals(result)
    pq.write_table(result, tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet")["targets"].to_pylist() == rows
    with pytest.raises(InputError, match="holds string; lists of strings are expected"):
        summarizer(pa.table({"document": [TEXT], "names": ["cat"]}))
    with pytest.raises(InputError, match="there is no column 'names'"):
        summarizer(pa.table({"document": [TEXT]}))


def test_targets_of_a_document_in_python(checkpoint) -> None:
    summarizer = make(checkpoint, "targets", targets=["cat"])
    (prediction,) = summarizer.predict([Document(TEXT, targets=("dog", "cat"))])
    assert [target["target"] for target in prediction.targets] == ["cat", "dog"]


def test_mentions_beyond_the_windows_are_left_out(checkpoint) -> None:
    text = tiny.text(20) + " The zebra."
    (found,) = make(checkpoint, "targets", targets=["zebra"])(text).targets
    assert [m["start"] for m in found["mentions"]] == [text.index("zebra")]
    assert make(checkpoint, "targets", targets=["zebra"], max_windows=1)(text).targets == []


@settings(deadline=None, max_examples=40)
@given(
    st.text(alphabet="a bC.,\n猫e\u0301😀-", min_size=1, max_size=60),
    st.lists(st.sampled_from(["a", "b", "猫", "C", "ab"]), unique=True, min_size=1),
)
def test_any_text_has_a_row_whose_spans_are_mentions(checkpoint, text, targets) -> None:
    summarizer = _cached(checkpoint, tuple(targets))
    prediction = summarizer(text)
    assert (prediction.targets is not None) == (prediction.status == Status.OK)
    for target in prediction.targets or ():
        assert sum(target["sentiment_scores"].values()) == pytest.approx(1, abs=1e-4)
        for span in target["mentions"]:
            written = text[span["start"] : span["start"] + span["length"]]
            assert written.casefold().startswith(target["target"].casefold())


_summarizers: dict[tuple[str, ...], Summarizer] = {}


def _cached(directory, targets: tuple[str, ...]) -> Summarizer:
    if targets not in _summarizers:
        _summarizers[targets] = make(directory, "targets", targets=targets)
    return _summarizers[targets]


def test_what_is_refused_before_any_work(checkpoint) -> None:
    with pytest.raises(
        ConfigError, match=r"no target is named; name them with summarizer\.targets"
    ):
        make(checkpoint, "targets")
    with pytest.raises(ConfigError, match=r"add targets to summarizer\.outputs"):
        make(checkpoint, targets=["cat"])
    for wrong in (["a", "a"], ["..."], [""]):
        with pytest.raises(ValidationError, match=r"named twice|a target must have a letter"):
            SummarizerConfig(targets=wrong)
    with pytest.raises(ValidationError, match="target_resemblance compares sentences with targets"):
        SummarizerConfig(target_resemblance=0.3)
    added = {"targets", "targets_column", "target_resemblance"}
    assert not added & hashed_values(SummarizerConfig()).keys()
    with pytest.raises(ConfigError, match="those of the members english, multilingual differ"):
        make("bertsum-default", "targets", targets=["price"], target_resemblance=0.3)


def test_the_command_prints_targets(checkpoint, tmp_path, capsys) -> None:
    (tmp_path / "text").write_text(TEXT)
    options = ["--model", str(checkpoint), "--set", "outputs=[targets]"]
    options += ["--set", "targets=[cat, bird]"]
    assert text_command([str(tmp_path / "text"), *options]) == 0
    assert "cat (2 mentions)" in capsys.readouterr().out
    assert text_command([str(tmp_path / "text"), *options, "--json"]) == 0
    (target,) = json.loads(capsys.readouterr().out)["targets"]
    assert target["mentions"][1] == {"start": 38, "length": 3}
