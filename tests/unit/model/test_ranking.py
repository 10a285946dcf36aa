"""Candidates against their definition in plain Python, and what becomes of them in training and in a summary."""

import itertools
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.rows import training_config
from pydantic import ValidationError
from torch import nn

import bertsum
from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.config import SelectionConfig
from bertsum.inference.summarizer import Summarizer
from bertsum.model import candidates as module
from bertsum.model.candidates import _FEATURES, _TEXT_FEATURES
from bertsum.model.ranking import CandidateRanker, QueryScores, choose_sentences
from bertsum.model.selection import select_sentences
from bertsum.schema import Document

VOCABULARY_SIZE = 400
SENTENCES = [
    "The cat sleeps in the house.",
    "Prices fall.",
    "A dog runs to the river and the cat sees the dog.",
    "The bank report says prices rise.",
    "It is good.",
    "The cat sleeps on an old house of the city.",
    "A bird.",
    "The big market falls and the bank falls.",
    "The dog is small.",
    "Two red birds and one blue bird.",
    "The report was bad.",
    "River and city.",
]
SCORES = np.array([0.5, 0.31, 0.9, 0.8, 0.02, 0.7, 0.45, 0.6, 0.3, 0.55, 0.1, 0.2], np.float32)


def encode(*texts, tokenizer=None):
    return tiny.document_encoder(tokenizer or tiny.wordpiece()).encode(
        texts, ["en"] * len(texts), 16
    )


@pytest.fixture(scope="module")
def document():
    (found,) = encode(" ".join(SENTENCES))
    assert found.num_read_sentences == len(SENTENCES)
    return found


def make_candidates(document, scores, size, vocabulary_size, **more):
    (candidates,) = module.make_candidates([document], [scores], [size], vocabulary_size, **more)
    return candidates


def sets(candidates):
    """The sentences of each candidate."""
    return [candidates.sentences(index) for index in range(len(candidates.swapped))]


def feature(candidates, name):
    """The values of a feature before they were centred."""
    index = [title for title, _, _ in _FEATURES].index(name)
    _, centre, spread = _FEATURES[index]
    return candidates.features[:, index] * spread + centre


@pytest.mark.parametrize("fewer", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 12, 40])
def test_candidates_are_the_best_scored_sentences_and_all_that_differ_in_up_to_three(
    document, size, fewer
):
    found = sets(make_candidates(document, SCORES, size, VOCABULARY_SIZE, fewer_sentences=fewer))
    order = np.argsort(-SCORES).tolist()
    size = min(size, len(order))
    best, border = order[:size], order[max(0, size - 5) : size + 5]
    sure = set(best) - set(border)
    expected = {
        frozenset(sure | set(chosen))
        for smaller in range(max(1, size - fewer), size + 1)
        for chosen in itertools.combinations(border, smaller - len(sure))
        if len(set(best) - sure - set(chosen)) <= 3
    }
    assert found[0] == sorted(best)
    assert len(found) == len(expected)
    assert set(map(frozenset, found)) == expected


@pytest.mark.parametrize(("size", "fewer"), [(1, 0), (3, 0), (3, 2), (7, 1)])
def test_features_are_what_their_names_say(document, size, fewer):
    candidates = make_candidates(document, SCORES, size, VOCABULARY_SIZE, fewer_sentences=fewer)
    backend = tiny.wordpiece().backend_tokenizer
    tokens = [backend.encode(sentence, add_special_tokens=False).ids for sentence in SENTENCES]
    occurrences = Counter(token for sentence in tokens for token in sentence)
    rarity = {token: math.sqrt(token / VOCABULARY_SIZE) for token in occurrences}
    topicality = {token: rarity[token] * math.log(count) for token, count in occurrences.items()}
    lead = {token for sentence in tokens[:3] for token in sentence}
    for row, chosen in zip(candidates.features, sets(candidates), strict=True):
        union = {token for index in chosen for token in tokens[index]}
        length = sum(len(tokens[index]) for index in chosen)
        whole = sum(rarity[token] for token in union)
        logits = [math.log(SCORES[index] / (1 - SCORES[index])) for index in chosen]
        expected = [
            np.mean(logits),
            np.mean(SCORES[chosen]),
            math.log(length),
            np.mean([math.log(1 + index) for index in chosen]),
            math.log(1 + chosen[0]),
            sum(index < 3 for index in chosen) / len(chosen),
            whole / sum(rarity[token] for index in chosen for token in set(tokens[index])),
            math.log(1 + whole),
            sum(topicality[token] for token in union) / sum(topicality.values()),
            sum(topicality[token] for token in union) / length,
            sum(rarity[token] for token in union & lead) / sum(rarity[token] for token in lead),
            math.log(len(SENTENCES)),
            math.log(len(chosen)),
            math.log(sum(map(len, tokens))),
        ]
        _, centre, spread = zip(*_FEATURES, strict=True)
        assert row * np.array(spread) + np.array(centre) == pytest.approx(
            np.array(expected), abs=1e-4
        )


# Sentences, and what is counted in them: numbers, capitalized words, and whether they quote or lean.
MARKED = [
    ("The dog runs to the house of Ann Lee.", 0, 2, 0, 0),
    ('He said "no" to Ann in 2020.', 1, 1, 1, 1),
    ("But I say 'no' to 3 dogs and 20 cats.", 2, 0, 1, 1),
    ("Prices fall.", 0, 0, 0, 0),
    ("It's the dog's house.", 0, 0, 0, 1),
    ("Hero was a cat of Rome and Paris until 7 May.", 1, 3, 0, 0),
    ("“No bird sees the river.”", 0, 0, 1, 0),
    ("We see 1,500 birds.", 2, 0, 0, 1),
    ("the city is old.", 0, 0, 0, 0),
]


@pytest.mark.parametrize(("size", "fewer"), [(1, 0), (3, 2), (7, 1)])
def test_text_features_are_what_their_names_say(size, fewer):
    (document,) = encode(" ".join(sentence for sentence, *_ in MARKED))
    assert document.num_read_sentences == len(MARKED)
    scores = SCORES[: len(MARKED)]
    plain, candidates = (
        make_candidates(
            document, scores, size, VOCABULARY_SIZE, fewer_sentences=fewer, reads_text=reads_text
        )
        for reads_text in (False, True)
    )
    assert sets(candidates) == sets(plain)
    assert np.array_equal(candidates.features[:, : len(_FEATURES)], plain.features)
    _, centre, spread = zip(*_TEXT_FEATURES, strict=True)
    found = candidates.features[:, len(_FEATURES) :] * np.array(spread) + np.array(centre)
    for row, chosen in zip(found, sets(candidates), strict=True):
        tokens = document.sentence_tokens[chosen].sum()
        numbers, capitalized, quoting, leaning = np.sum([MARKED[i][1:] for i in chosen], axis=0)
        expected = [
            numbers / tokens,
            capitalized / tokens,
            quoting / len(chosen),
            leaning / len(chosen),
        ]
        assert row == pytest.approx(np.array(expected), abs=1e-5)


@pytest.mark.parametrize("reads_text", [False, True])
def test_a_document_of_one_sentence_or_without_rare_words_has_finite_features(reads_text):
    for text in ("A cat.", ".", "A. A. A. A. A."):
        (document,) = encode(text)
        scores = np.full(document.num_read_sentences, 1.0, np.float32)
        candidates = make_candidates(document, scores, 3, VOCABULARY_SIZE, reads_text=reads_text)
        assert np.isfinite(candidates.features).all()


def test_half_of_a_very_long_document_needs_little_memory():
    drawn = np.random.default_rng(0).choice(tiny.WORDS, (12_000, 6))
    long = " ".join(f"{' '.join(words).capitalize()}." for words in drawn)
    (document,) = tiny.document_encoder().encode([long], ["en"], 10**6)
    scores = np.random.default_rng(0).random(document.num_read_sentences).astype(np.float32)
    tracemalloc.start()
    candidates = make_candidates(document, scores, 6000, VOCABULARY_SIZE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 4000 < len(candidates.sentences(0)) <= 6000  # some say again what others say
    assert np.isfinite(candidates.features).all()
    assert peak < 50 * len(long)


def test_no_candidate_says_the_same_twice():
    same = [
        "A dog runs to the old river.",
        "A dog runs to the old river and the city.",
        "The dog runs to a new house.",
    ]
    (document,) = encode(" ".join([*same, *SENTENCES]))
    scores = np.array([0.99, 0.98, 0.97, *SCORES], np.float32)
    found = set(itertools.chain(*sets(make_candidates(document, scores, 3, VOCABULARY_SIZE))))
    assert found & {0, 1, 2} == {
        0,
        2,
    }  # of seven trigrams, the third sentence shares one with the first
    (document,) = encode(" ".join(["Prices fall and the bank falls."] * 5))
    assert sets(make_candidates(document, np.ones(5, np.float32), 3, VOCABULARY_SIZE)) == [[0]]


def test_documents_of_a_pool_have_the_candidates_that_each_has_alone():
    """Also where they have repeats, sure sentences, or fewer sentences than a set is to have."""
    rng = np.random.default_rng(0)
    texts = []
    for size in (1, 2, 3, 7, 12, 20, 40, 40, 40):
        few = rng.choice(tiny.WORDS, 8 if size == 40 else 30)  # of few words: many repeats
        drawn = rng.choice(few, (size, 7))
        texts.append(" ".join(f"{' '.join(words).capitalize()}." for words in drawn))
    documents = encode(*texts)
    scores = []
    for document in documents:
        scores.append(rng.integers(1, 9, document.num_read_sentences).astype(np.float32) / 10)
    sizes = [1, 3, 3, 5, 8, 3, 9, 3, 1]
    more = {"fewer_sentences": 1, "reads_text": True}
    pool = module.make_candidates(documents, scores, sizes, VOCABULARY_SIZE, **more)
    for document, values, size, found in zip(documents, scores, sizes, pool, strict=True):
        alone = make_candidates(document, values, size, VOCABULARY_SIZE, **more)
        assert sets(found) == sets(alone)
        assert found.features == pytest.approx(alone.features, abs=1e-5)
        assert ranked(found) == without_repeats(document, values, size + 5)


def ranked(candidates):
    return [*candidates.sure.tolist(), *candidates.others.tolist()]


def without_repeats(document, scores, most):
    """The definition: the best sentences, of whose trigrams better ones have at most a third."""
    tokens = document.input_ids[document.is_text]
    sentences = document.token_sentences[document.is_text]
    kept, seen = [], set()
    for index in np.argsort(-scores, kind="stable").tolist():
        ids = tokens[sentences == index].tolist()
        trigrams = set(itertools.pairwise(itertools.pairwise(ids)))
        if len(trigrams & seen) <= len(trigrams) / 3 and len(kept) < most:
            kept.append(index)
            seen |= trigrams
    return kept


def test_text_that_is_too_much_for_one_sort_is_ranked_the_same(document, monkeypatch):
    texts = [" ".join([*SENTENCES, SENTENCES[2]]), "Prices fall. " * 3]
    documents = encode(*texts)
    scores = [np.append(SCORES, np.float32(0.95)), np.ones(3, np.float32)]
    expected = module.make_candidates(documents, scores, [2, 2], VOCABULARY_SIZE)
    monkeypatch.setattr(module, "_KEY_BITS", 10)
    found = module.make_candidates(documents, scores, [2, 2], VOCABULARY_SIZE)
    assert list(map(ranked, found)) == list(map(ranked, expected))
    assert 12 in ranked(found[0]) and 2 not in ranked(found[0])


class Shortest(CandidateRanker):
    """Expects most of the candidate with the fewest tokens."""

    def forward(self, features):
        return -features[:, [title for title, _, _ in _FEATURES].index("log(tokens)")]


def ranker(fewer_sentences=0):
    return Shortest(VOCABULARY_SIZE, 0.0, fewer_sentences=fewer_sentences).eval()


@pytest.mark.parametrize("selection", [{"size": 3}, {"size": 0.25, "unit": "share"}])
def test_the_best_candidate_makes_the_summary_in_the_order_of_the_document(document, selection):
    config = SelectionConfig(**selection)
    candidates = make_candidates(document, SCORES, 3, VOCABULARY_SIZE)
    shortest = sets(candidates)[int(np.argmin(feature(candidates, "log(tokens)")))]
    (short,) = encode("A cat. A dog.")
    both = choose_sentences([document, short], [SCORES, SCORES[:2]], config, ranker())
    assert both[0] == shortest != sorted(np.argsort(-SCORES)[:3].tolist())
    assert len(both[1]) == (2 if config.unit == "sentences" else 1)
    assert choose_sentences([], [], config, ranker()) == []


@pytest.mark.parametrize(
    ("fewer", "selection", "expected"),
    [(0, {}, 3), (1, {}, 2), (2, {}, 1), (3, {}, 1), (2, {"exact_size": True}, 3)],
)
def test_a_summary_has_fewer_sentences_where_the_model_may_take_fewer(
    document, fewer, selection, expected
):
    config = SelectionConfig(size=3, **selection)
    (chosen,) = choose_sentences([document], [SCORES], config, ranker(fewer))
    assert len(chosen) == expected


class Indifferent(CandidateRanker):
    """Expects the same of all candidates."""

    def forward(self, features):
        return torch.zeros(len(features))


def query_scores(best, gain):
    """Of a query that the sentences `best` answer, the first one best; the others answer nothing."""
    scores, gains = np.full(12, 0.01, np.float32), np.zeros(12)
    for place, index in enumerate(best):
        scores[index] = 0.9 - 0.1 * place
        gains[index] = gain
    return QueryScores([scores], [gains])


@pytest.mark.parametrize(("size", "num_sure"), [(3, 0), (8, 3)])
def test_the_mean_of_a_set_is_that_of_its_sentences(document, size, num_sure):
    candidates = make_candidates(document, SCORES, size, VOCABULARY_SIZE, fewer_sentences=1)
    assert len(candidates.sure) == num_sure
    values = np.arange(12) ** 2.0
    expected = [values[chosen].mean() for chosen in sets(candidates)]
    assert candidates.means(values) == pytest.approx(expected)


def test_with_a_query_the_answers_of_a_set_count_beside_what_is_expected_of_it(document):
    """Sentences that answer are in the sets, also where they are not important."""
    config, answering = SelectionConfig(size=3), [5, 9, 10]

    def chosen(gain, ranker):
        query = query_scores(answering, gain)
        (sentences,) = choose_sentences([document], [SCORES], config, ranker, query)
        return sentences

    fewer = Indifferent(VOCABULARY_SIZE, 0.0, fewer_sentences=2).eval()
    assert chosen(1.0, fewer) == answering  # and as many as were asked for
    assert chosen(1e6, ranker()) == answering
    shortest = chosen(0.0, ranker())
    candidates = make_candidates(
        document, SCORES, 3, VOCABULARY_SIZE, ranked_by=query_scores(answering, 1).scores
    )
    assert sets(candidates)[0] == answering
    assert shortest == sets(candidates)[int(np.argmin(feature(candidates, "log(tokens)")))]
    assert shortest != answering
    # what is read of a set is its importance, not its answer
    logits = np.log(SCORES / (1 - SCORES))[answering]
    assert feature(candidates, "mean logit of the scores")[0] == pytest.approx(
        logits.mean(), abs=1e-4
    )


def test_one_sentence_for_a_query_is_the_one_that_answers_best(document):
    query = query_scores([4, 7], 1.0)
    config = SelectionConfig(size=1)
    assert choose_sentences([document], [SCORES], config, ranker(), query) == [[4]]


@pytest.mark.parametrize(
    "selection",
    [
        {"size": 20, "unit": "tokens"},
        {"size": 90, "unit": "characters"},
        {"size": 3, "trigram_blocking": True},
    ],
)
def test_other_budgets_and_blocking_are_left_to_the_scores(document, selection):
    config = SelectionConfig.model_validate(selection)
    expected = select_sentences(
        SCORES,
        document.text,
        document.spans,
        sentence_tokens=document.sentence_tokens,
        language="en",
        config=config,
    )
    assert choose_sentences([document], [SCORES], config, ranker()) == [expected]


def test_without_a_ranker_repeats_are_blocked_unless_told_otherwise(document):
    scores = np.where(np.isin(np.arange(12), [0, 5, 8]), 0.95, SCORES).astype(
        np.float32
    )  # 0 and 5 share a trigram
    (blocked,), (free,) = (
        choose_sentences(
            [document], [scores], SelectionConfig(size=3, trigram_blocking=blocking), None
        )
        for blocking in (None, False)
    )
    assert free == [0, 5, 8]
    assert blocked == [0, 2, 8]


@pytest.mark.parametrize("more", [{}, {"fewer_sentences": 1, "candidate_text_features": True}])
def test_a_checkpoint_with_a_ranker_makes_the_summaries_that_it_ranks_first(tmp_path, more):
    model = tiny.model(rank_candidates=True, **more)
    save_checkpoint(tmp_path, model, tiny.wordpiece(), "", version=bertsum.__version__)
    summarizer = Summarizer(tmp_path, device="cpu")
    texts = [" ".join(SENTENCES[index:] + SENTENCES[:index]) for index in range(0, 12, 2)]
    found = summarizer.predict_all_heads([Document(text) for text in texts])
    documents, scores = [part[1] for part in found], [part[2].sentence_scores for part in found]
    assert model.candidates is not None
    expected = choose_sentences(documents, scores, SelectionConfig(), model.candidates.eval())
    assert [part[0].summary_sentences for part in found] == expected
    assert expected != choose_sentences(
        documents, scores, SelectionConfig(trigram_blocking=False), None
    )


def test_only_a_model_with_a_ranker_can_train_one():
    with pytest.raises(ValidationError, match=r"trained: candidates needs model.rank_candidates"):
        training_config(trained="candidates")


@pytest.mark.parametrize(("reads_text", "num_features"), [(False, 14), (True, 18)])
def test_a_network_of_equal_layers_has_a_weight_for_each_feature(reads_text, num_features):
    network = CandidateRanker(VOCABULARY_SIZE, 0.5, reads_text=reads_text)
    linear = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linear] == [num_features, 64, 64]
    assert network(torch.zeros(5, num_features)).shape == (5,)
