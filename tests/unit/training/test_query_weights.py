"""What a query weighs: a made world whose answer is known, and its way into a checkpoint."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tiny
from helpers.rows import training_config
from pydantic import ValidationError

import bertsum
from bertsum.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bertsum.config import SummarizerConfig
from bertsum.errors import InputError
from bertsum.evaluation.rouge import rouge
from bertsum.inference.summarizer import Summarizer
from bertsum.model_config import QueryWeights
from bertsum.schema import Document
from bertsum.training.heads import query as heads
from bertsum.training.heads.config import QueryFitConfig
from bertsum.training.heads.query import fit_query, read_query_pairs


def config(**changes) -> QueryFitConfig:
    pairs = {"uri": "a", "query_column": "q", "summary_column": "s", "num_sentences": 1}
    return QueryFitConfig.model_validate({"pairs": [pairs | changes]})


def words_of(index: int) -> list[str]:
    """Two words that no other index has, next to each other."""
    chosen = list(itertools.combinations(range(12, 38), 2))[index]
    return [tiny.WORDS[number] for number in chosen]


def world(count: int = 40) -> list[tuple[str, str, str]]:
    """In each document one sentence has the words of the query: the right one, in any place."""
    pairs = []
    for index in range(count):
        sentences = [tiny.sentence(index % 5, 7, 3, 2 + place) for place in range(5)]
        answer = f"On {words_of(index)[0]} and {words_of(index)[1]}."
        sentences.insert(index % 6, answer)
        pairs.append((" ".join(sentences), " ".join(words_of(index)), answer))
    return pairs


@pytest.fixture
def model():
    return tiny.model()


def test_the_words_of_the_query_are_learned_to_count(model):
    told = []
    facts = fit_query(model, tiny.wordpiece(), config(), [world()], told.append)
    assert told[-1] == {"part": "documents of queries", "done": 80, "total": 80}
    weights = model.query_weights
    assert weights.words > 0
    asked = heads._ask(model, tiny.document_encoder(), world(), told.append)
    own = [cosine for part in asked for cosine in part.cosines[: part.own]]
    other = [cosine for part in asked for cosine in part.cosines[part.own :]]
    halfway = (np.mean(own) + np.mean(other)) / 2
    assert weights.usual_cosine == pytest.approx(halfway, abs=6e-4)  # of three digits
    assert f"{weights.words:g} * BM25" in facts
    assert "a (q), 40 pairs: " in facts and "by importance alone" in facts


def test_the_grid_is_what_each_point_chooses(model):
    """Against the same sum, sorted and measured one by one."""
    (asked, *_) = heads._ask(model, tiny.document_encoder(), world(3), print)
    assert len(asked.sentences) == len(asked.cosines) == 12 and asked.own == 6
    scores = heads._grid_scores(asked, 2)
    from bertsum.text.phrases.query_words import bm25, query_words

    words = bm25(asked.sentences, query_words(asked.query, "en"), "en")
    for (nearness, weight), score in zip(heads._GRID.tolist(), scores, strict=True):
        logits = asked.importance + nearness * asked.cosines + weight * words
        best = sorted(range(12), key=lambda index: -logits[index])[:2]
        lines = "\n".join(asked.sentences[index] for index in best)
        (expected,) = rouge([lines], [asked.summary], "en")
        # bigrams from a sentence to the next are left out there
        assert score == pytest.approx((expected.rouge_1 + expected.rouge_2) / 100, abs=0.1)


def test_cosines_are_those_of_the_summarizer(model, tmp_path):
    save_checkpoint(tmp_path, model, tiny.wordpiece(), "", version=bertsum.__version__)
    summarizer = Summarizer(
        tmp_path, SummarizerConfig(query_column="q", dtype="float32"), device="cpu"
    )
    pairs = world(3)
    asked = heads._ask(model, tiny.document_encoder(), pairs, print)
    for part, (text, query, _) in zip(asked, pairs, strict=True):
        ((_, _, scores),) = summarizer.predict_all_heads([Document(text, query=query)])
        np.testing.assert_allclose(part.cosines[: part.own], scores.query_cosines, atol=1e-5)


def test_a_checkpoint_keeps_the_weights_and_they_count(model, tmp_path):
    text, query = world(1)[0][:2]
    scores = []
    for number, weights in enumerate((None, QueryWeights(nearness=0, words=0))):
        model.query_weights = weights
        directory = tmp_path / str(number)
        save_checkpoint(directory, model, tiny.wordpiece(), "", version=bertsum.__version__)
        assert ('"query"' in (directory / "config.json").read_text()) == (weights is not None)
        assert load_checkpoint(directory)[0].query_weights == weights
        values = {"dtype": "float32", "selection": {"size": 3, "trigram_blocking": False}}
        asking = SummarizerConfig.model_validate(values | {"query_column": "q"})
        (row,) = Summarizer(directory, asking, device="cpu").predict([Document(text, query=query)])
        scores.append(row.query_scores)
        if weights is not None:  # importance alone is left
            assert row.query_scores == pytest.approx(row.summary_scores, abs=1e-5)
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)


def test_pairs_are_read_and_few_are_refused(model, tmp_path):
    rows = world(25)
    table = {name: [row[i] for row in rows] for i, name in enumerate(("document", "q", "s"))}
    table["q"][3] = None
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    wanted = config(uri="a.parquet")
    (pairs,) = read_query_pairs(wanted, lambda uri: f"{tmp_path}/{uri}", 0)
    assert pairs == [row for number, row in enumerate(rows) if number != 3]
    with pytest.raises(InputError, match=r"there is no column 'x' \(query_column"):
        read_query_pairs(config(query_column="x"), lambda uri: f"{tmp_path}/a.parquet", 0)
    with pytest.raises(InputError, match="19 pairs that the model can read are too few"):
        fit_query(model, tiny.wordpiece(), wanted, [rows[:19]], print)


def test_fitting_alone_needs_a_checkpoint_and_pairs():
    fit = config().model_dump()
    for values in ({"trained": "query"}, {"trained": "query", "start_from": "a"},
                   {"trained": "query", "query": fit}):  # fmt: skip
        with pytest.raises(ValidationError, match="needs start_from, and pairs"):
            training_config(**values)
    assert not training_config(trained="query", query=fit, start_from="a").has_steps
    assert training_config(query=fit).has_steps
