"""Pairs of a query and its document: how they are read, what their loss is, and that an encoder learns from them."""

import math
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from helpers.rows import sentiment_rows, training_config
from pydantic import ValidationError
from sklearn.metrics import ndcg_score

from bertsum.errors import InputError
from bertsum.evaluation.retrieval import rank_measures
from bertsum.model.losses import held_loss, pair_loss
from bertsum.storage.folder import Folder
from bertsum.training import loop as training
from bertsum.training import optimization
from bertsum.training.data import labelled_batch, read_examples
from bertsum.training.examples import labelled
from bertsum.training.heads.pair_texts import with_pair_texts
from bertsum.training.heads.pair_vectors import (
    embed_documents,
    pair_rows,
    with_held_vectors,
)
from bertsum.training.optimization import LossModule, make_optimizer, train_step
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.start.sources import read_sources
from bertsum.training.state import StateStore
from bertsum.training.validation import LabelledSource, validate

SOURCE = {"name": "desk", "train_uri": "desk.parquet", "query_column": "question"}
# the vectors go through a matrix, as those of the shipped model do
MODEL = {"sentiment_labels": [], "embedding_layers": [1, 2]}


def rows(count: int = 12) -> dict:
    """Four answers, each right for every fourth question; negatives as `bertsum match` finds them."""
    answers = [tiny.sentence(*range(9 * i, 9 * i + 4)) for i in range(4)]
    questions = [tiny.sentence(*range(5 * i + 1, 5 * i + 5)) for i in range(count)]
    found = [[{"id": str(k), "document": answers[k]} for k in (i % 4, (i + 1) % 4)]
             for i in range(count)]  # fmt: skip
    return {
        "document": [answers[i % 4] for i in range(count)],
        "question": questions,
        "matches": found,
        "clicks": [1 + i % 3 for i in range(count)],
    }


def read(tmp_path, columns: dict, **values):
    path = tmp_path / "desk.parquet"
    pq.write_table(pa.table(columns), path)
    source = SourceConfig.model_validate(SOURCE | values)
    return read_examples(
        str(path), source, tiny.document_encoder(), tiny.model_config(), max_windows=8
    )


def config(**values):
    defaults = {"sources": [SOURCE], "model": {"sentiment_labels": []}, "max_batch_tokens": 2000}
    return training_config(**(defaults | values))


def held(examples, model):
    is_drawn = np.ones(len(examples), np.bool_)
    return with_held_vectors(examples, is_drawn, partial(embed_documents, model, dtype="float32"))


def make_model(**values):
    model = tiny.model(dropout=0.0, **MODEL)
    training.open_encoder(model, config(**values))
    return model


# Rows


def test_a_row_has_its_query_its_negatives_and_its_weight(tmp_path):
    columns = rows(4)
    examples = read(tmp_path, columns, negatives_column="matches", pair_weight_column="clicks")
    pairs = [example.pair for example in examples]
    assert [pair.query.text for pair in pairs] == columns["question"]
    # what `match` has found of the row's own answer is no negative
    expected = [[columns["document"][(i + 1) % 4]] for i in range(4)]
    assert [[text.text for text in pair.negatives] for pair in pairs] == expected
    assert [pair.weight for pair in pairs] == [1, 2, 3, 1]
    for example in examples:
        texts = [example.document, example.pair.query, *example.pair.negatives]
        assert example.num_tokens == sum(len(text.input_ids) for text in texts)
    assert examples.token_counts.tolist() == [example.num_tokens for example in examples]


def test_negatives_may_be_strings_of_which_the_first_ones_are_read(tmp_path):
    columns = rows(2) | {
        "others": [["The cat.", None, " ", "The cat.", "A dog.", "The bird."], None]
    }
    examples = read(tmp_path, columns, negatives_column="others", max_negatives=2)
    found = [[text.text for text in example.pair.negatives] for example in examples]
    assert found == [["The cat.", "A dog."], []]


def test_rows_that_are_measured_need_no_negatives(tmp_path):
    pq.write_table(pa.table(rows(4)), tmp_path / "train.parquet")
    measured = pa.table(rows(3)).drop_columns(["matches"])
    pq.write_table(measured, tmp_path / "validation.parquet")
    files = {f"{part}_uri": str(tmp_path / f"{part}.parquet") for part in ("train", "validation")}
    chosen = config(sources=[SOURCE | files | {"negatives_column": "matches"}])
    (source,) = read_sources(chosen, chosen.model, tiny.document_encoder(), lambda line: None)
    assert [len(example.pair.negatives) for example in source.train] == [1] * 4
    assert [example.pair.negatives for example in source.validation] == [()] * 3
    assert [example.pair.query.text for example in source.validation] == rows(3)["question"]


def test_rows_without_a_query_or_a_weight_have_no_pair(tmp_path):
    columns = rows(4) | {"question": ["The cat?", None, " ", "A dog?"], "clicks": [2.5, 1, 1, None]}
    examples = read(tmp_path, columns, pair_weight_column="clicks")
    assert [example.pair and example.pair.weight for example in examples] == [2.5, None, None, None]
    assert len(labelled(examples)) == 1


@pytest.mark.parametrize("weight", [-1.0, math.inf])
def test_a_weight_that_is_none_is_named(tmp_path, weight):
    with pytest.raises(InputError, match=r"source desk: .*row 1 \(from 0\).*'clicks'.*holds"):
        read(tmp_path, rows(2) | {"clicks": [1.0, weight]}, pair_weight_column="clicks")


def test_matches_without_their_text_say_how_to_get_it(tmp_path):
    columns = rows(1) | {"matches": [[{"id": "a", "score": 0.5}]]}
    with pytest.raises(InputError, match=r"fields \['id', 'score'\].*match.candidate_columns"):
        read(tmp_path, columns, negatives_column="matches")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {
                "sources": [
                    SOURCE | {"query_column": None, "topic_column": "a", "negatives_column": "b"}
                ]
            },
            "belong to the pairs of query_column",
        ),
        ({"trained": "heads"}, "embedding.pairs"),
        ({"embedding": {"texts": [{"uri": "texts.parquet"}]}}, "give one of the two"),
    ],
)
def test_what_does_not_go_together_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        config(**values)


# The loss


def test_the_loss_of_a_batch_is_that_of_sentence_transformers():
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    generator = torch.Generator().manual_seed(0)
    queries, documents, negatives = torch.nn.functional.normalize(
        torch.randn(3, 6, 8, generator=generator), dim=2
    )
    reference = losses.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0)
    expected = reference.compute_loss_from_embeddings([queries, documents, negatives], None)
    found = pair_loss(
        queries,
        torch.cat([documents, negatives]),
        right=torch.arange(6),
        is_left_out=torch.zeros(6, 12, dtype=torch.bool),
        weights=torch.ones(6),
        temperature=0.05,
    )
    torch.testing.assert_close(found / 6, expected)


def brute_force(examples, vectors: dict[str, np.ndarray], temperature: float) -> float:
    """The definition, pair by pair: no text counts twice, and none that is right for the query as wrong."""
    texts = {text.text for one in examples for text in (one.document, *one.pair.negatives)}
    total = 0.0
    for one in examples:
        query = one.pair.query.text
        known = {other.document.text for other in examples if other.pair.query.text == query}
        wrong = texts - known - {query}
        logits = {text: vectors[query] @ vectors[text] / temperature
                  for text in wrong | {one.document.text}}  # fmt: skip
        normalizer = math.log(sum(math.exp(value) for value in logits.values()))
        total += one.pair.weight * (normalizer - logits[one.document.text])
    return total


def test_the_loss_is_that_of_its_definition(tmp_path):
    columns = rows(9)
    columns["question"][5] = columns["question"][0]  # with two right answers, of rows 0 and 5
    columns["question"][7] = columns["document"][2]  # a query that is also a candidate
    examples = list(
        read(tmp_path, columns, negatives_column="matches", pair_weight_column="clicks")
    )
    model = make_model()
    documents = [text for one in examples for text in one.texts]
    vectors = dict(
        zip(
            [text.text for text in documents],
            embed_documents(model, documents, "float32").astype(float),
            strict=True,
        )
    )
    batch = labelled_batch(examples)
    # each text is encoded once
    assert len(batch.examples) == len(vectors) == 4 + 7
    losses = LossModule(model, config())(batch)
    found = dict(zip(optimization.LOSSES, losses.tolist(), strict=True))
    assert found.pop("pair") == pytest.approx(brute_force(examples, vectors, 0.05), rel=1e-4)
    assert set(found.values()) == {0.0}


def test_a_text_with_labels_is_not_merged_with_one_that_has_others(tmp_path):
    columns = rows(4) | {"label": ["positive", "negative", "positive", "negative"]}
    columns["document"] = [columns["document"][0]] * 4
    path = tmp_path / "desk.parquet"
    pq.write_table(pa.table(columns), path)
    source = SourceConfig.model_validate(SOURCE | {"sentiment_column": "label"})
    encoder = tiny.document_encoder()
    examples = read_examples(str(path), source, encoder, tiny.model_config(), max_windows=8)
    texts, pairs = with_pair_texts(list(examples))
    assert [text.sentiment_label for text in texts] == [2, 0, 2, 0, -1, -1, -1, -1]
    assert pairs.documents.tolist() == [0, 0, 0, 0]
    assert len(pairs.contrast().candidates) == 1


def step(examples, *, parts: int, dropout: float = 0.0, **values) -> tuple[dict, dict]:
    """Losses and gradients of one step over `parts` batches."""
    chosen = config(encoder_dropout=dropout, clip_norm=1e9, **values)
    model = make_model(encoder_dropout=dropout)
    model.train()
    torch.manual_seed(3)
    batches = [
        labelled_batch(list(part)) for part in np.array_split(np.array(examples, object), parts)
    ]
    result = train_step(LossModule(model, chosen), batches, make_optimizer(model, chosen), chosen)
    gradients = {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }
    return result, gradients


def test_several_batches_learn_what_one_learns(tmp_path):
    read_rows = read(
        tmp_path,
        rows(9),
        negatives_column="matches",
        pair_weight_column="clicks",
        hold_vectors=True,
    )
    examples = list(held(read_rows, make_model()))
    moved = [replace(one, held_vectors=np.roll(one.held_vectors, 1, axis=1)) for one in examples]
    # a text that is in several batches is held in each, which makes another mean of what is held
    whole, gradients = step(moved, parts=1, hold_weight=0)
    parts, part_gradients = step(moved, parts=4, hold_weight=0)
    assert whole["pair_loss"] > 0.1
    assert whole["held_loss"] > 0.1
    assert parts["pair_loss"] == pytest.approx(whole["pair_loss"], rel=1e-5)
    assert part_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(part_gradients[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_dropout_is_the_same_when_a_batch_is_read_again(tmp_path, monkeypatch):
    seen = []
    forward = optimization.forward_batch

    def spy(*arguments):
        logits = forward(*arguments)
        seen.append(logits.document_vectors.detach().clone())
        return logits

    monkeypatch.setattr(optimization, "forward_batch", spy)
    step(list(read(tmp_path, rows(9))), parts=3, dropout=0.5)
    assert len(seen) == 6
    for first, second in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first, second)


def test_held_loss_is_one_minus_the_cosine_of_what_is_held():
    vectors = torch.tensor([[1.0, 0], [0.6, 0.8], [0, 1]])
    held = torch.tensor([[0.6, 0.8], [0, 0], [0, 1]])
    assert held_loss(vectors, held).item() == pytest.approx(0.4)


# Learning


def learn(tmp_path, steps: int, *, store=None, stop_at: int | None = None, **values):
    """A model that has learned the rows; its source, and its log."""

    class KilledError(Exception):
        pass

    source = SOURCE | {"hold_vectors": values.pop("hold_vectors", False)}
    chosen = config(
        sources=[source], max_steps=steps, max_batch_tokens=250, encoder_learning_rate=3e-3,
        checkpoint_every_minutes=0, **values,
    )  # fmt: skip
    model = make_model()
    examples = read(tmp_path, rows(), hold_vectors=source["hold_vectors"])
    if source["hold_vectors"]:
        examples = held(examples, model)
    lines: list[dict] = []

    def log(line: dict) -> None:
        lines.append(line)
        if line.get("step") == stop_at:
            raise KilledError

    sources = [LabelledSource(chosen.sources[0], examples, examples)]
    with suppress(KilledError):
        training.train(model, sources, chosen, log, store)
    return model, sources, lines


def test_queries_find_their_documents(tmp_path):
    source = LabelledSource(SourceConfig.model_validate(SOURCE), [], read(tmp_path, rows()))
    first = validate(make_model(), [source], None, "float32")["desk"]["retrieval"]
    model, sources, lines = learn(tmp_path, 60)
    last = validate(model, sources, None, "float32")["desk"]["retrieval"]
    assert first["recall_at_1"]["mean"] < 0.5
    assert last["recall_at_1"]["mean"] > 0.9
    assert last["mrr"]["mean"] > first["mrr"]["mean"]
    assert lines[-1]["pair_loss"] < lines[0]["pair_loss"] / 5


def test_held_vectors_stay_near_those_from_before(tmp_path):
    before = pair_rows(make_model(), list(read(tmp_path, rows())), "float32")
    cosines = {}
    for is_held in (False, True):
        model, sources, _ = learn(tmp_path, 60, hold_vectors=is_held, hold_weight=5.0)
        after = pair_rows(model, list(sources[0].validation), "float32")
        cosines[is_held] = float((after.queries * before.queries).sum(1).mean())
    assert cosines[True] > cosines[False] + 0.05


def test_a_run_that_goes_on_learns_what_an_undisturbed_one_learns(tmp_path):
    whole, _, lines = learn(tmp_path, 12, hold_vectors=True)
    store = StateStore(Folder(str(tmp_path / "out")), 2)
    learn(tmp_path, 12, hold_vectors=True, store=store, stop_at=7)
    resumed, _, rest = learn(tmp_path, 12, hold_vectors=True, store=store)
    assert rest[0]["step"] in (7, 8)
    losses = {line["step"]: line["pair_loss"] for line in lines}
    assert [line["pair_loss"] for line in rest] == [losses[line["step"]] for line in rest]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_pairs_and_sentiments_learn_together(tmp_path):
    pq.write_table(pa.table(sentiment_rows(8)), tmp_path / "reviews.parquet")
    reviews = SourceConfig.model_validate({"name": "reviews", "sentiment_column": "label"})
    model = tiny.model(dropout=0.0)
    encoder = tiny.document_encoder()
    read_reviews = read_examples(
        str(tmp_path / "reviews.parquet"), reviews, encoder, model.config, max_windows=8
    )
    chosen = training_config(sources=[SOURCE, reviews.model_dump()], max_batch_tokens=600)
    batch = labelled_batch([*read(tmp_path, rows(4)), *read_reviews])
    result = train_step(LossModule(model, chosen), [batch], make_optimizer(model, chosen), chosen)
    assert result["pair_loss"] > 0
    assert result["sentiment_loss"] > 0


# Measures


def test_measures_of_ranks_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    ranked = generator.integers(1, 30, 50)
    relevance = np.zeros((50, 30))
    relevance[np.arange(50), ranked - 1] = 1
    scores = np.tile(-np.arange(30.0), (50, 1))
    found = rank_measures(ranked)
    assert found["ndcg_at_10"]["mean"] == pytest.approx(ndcg_score(relevance, scores, k=10))
    assert found["mrr"]["mean"] == pytest.approx((1 / ranked).mean())
    for top in (1, 5, 10):
        assert found[f"recall_at_{top}"]["mean"] == pytest.approx(relevance[:, :top].sum(1).mean())
    for values in found.values():
        assert values["low"] < values["mean"] < values["high"]
