"""What the matrix of the embedding learns from pairs: a made world whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bertsum.training.heads import pairs
from bertsum.training.heads.pairs import Pairs, index_pairs, learn_from_pairs, recalls


def as_pairs(*rows: tuple[int, int]) -> Pairs:
    indices = np.array(rows)
    return Pairs(queries=indices[:, 0], texts=indices[:, 1])


def test_each_distinct_text_has_one_index():
    texts, sets = index_pairs(["a", "b", "a"], [[("c", "b"), ("d", "a")], [], [("c", "e")]])
    assert texts == ["a", "b", "c", "d", "e"]
    assert [part.queries.tolist() for part in sets] == [[2, 3], [], [2]]
    assert [part.texts.tolist() for part in sets] == [[1, 0], [], [4]]


def test_recall_counts_queries_whose_text_is_nearest_by_the_angle():
    vectors = np.array([[1, 0], [0, 1], [-1, 0], [9, 1], [0.1, 3], [1, 1]], float)
    # 0 finds 3 by its angle, though 3 is far away; 1 finds 4; 2 is nearer to 4 than to 3
    assert recalls(vectors, [as_pairs((0, 3), (1, 4), (2, 3))]) == [pytest.approx(2 / 3)]
    # an answer of two questions stands among the texts once
    assert recalls(vectors, [as_pairs((0, 3), (5, 3), (1, 4))]) == [1.0]


def test_the_loss_is_cross_entropy_without_the_same_text_as_a_wrong_answer():
    queries = torch.eye(3)
    texts = torch.tensor([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    # the first and the third text are one text
    loss = pairs._pair_loss(queries, texts, torch.tensor([0, 1, 2]), torch.tensor([7, 8, 7]))
    by_query = [-math.log(math.exp(12) / (math.exp(12) + math.exp(0)))]
    by_query.append(-math.log(math.exp(20) / (math.exp(16) + math.exp(20) + math.exp(16))))
    by_query.append(-math.log(math.exp(0) / (math.exp(0) + math.exp(0))))
    by_text = [-math.log(math.exp(12) / (math.exp(12) + math.exp(16)))]
    by_text.append(-math.log(math.exp(20) / (math.exp(0) + math.exp(20) + math.exp(0))))
    by_text.append(-math.log(math.exp(0) / (math.exp(16) + math.exp(0))))
    expected = sum(by_query) / 3 + sum(by_text) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray, Pairs]:
    """Features of 400 queries and their texts: 16 of the subject that both have, and 16 of a mood.

    The vectors to stay near have both, and the mood is larger.
    """
    generator = np.random.default_rng(0)
    subjects = np.tile(generator.normal(size=(400, 16)), (2, 1))
    x = np.hstack([subjects, 1.5 * generator.normal(size=(800, 16))])
    y = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x, y, Pairs(queries=np.arange(400), texts=np.arange(400, 800))


FIRST = (np.eye(32), np.zeros(32))


def test_pairs_teach_what_is_common_to_them(world):
    x, y, both = world
    learned, held_out = both.select(np.arange(400) < 300), both.select(np.arange(400) >= 300)
    weight, bias = learn_from_pairs(x, y, FIRST, [learned], seed=0)
    before, after = recalls(x, [held_out])[0], recalls(x @ weight.T + bias, [held_out])[0]
    assert after > 1.4 * before


def test_pairs_that_weigh_more_teach_more(world):
    x, y, both = world
    learned, held_out = both.select(np.arange(400) < 300), both.select(np.arange(400) >= 300)
    found = []
    for size in (0.1, 1, 10):
        weight, bias = learn_from_pairs(x, y, FIRST, [replace(learned, weight=size)], seed=0)
        found.append(recalls(x @ weight.T + bias, [held_out])[0])
    assert found[0] < found[1] < found[2]


def test_without_pairs_vectors_stay_where_they_are(world):
    x, y, _ = world
    weight, bias = learn_from_pairs(x, y, FIRST, [], seed=0)
    vectors = x @ weight.T + bias
    cosines = (vectors * y).sum(1) / np.linalg.norm(vectors, axis=1)
    assert cosines.mean() > 0.99


def test_the_mean_of_two_maps_weighs_them_by_the_lengths_of_their_vectors():
    x = np.array([[3.0, 4.0], [0.0, 5.0]])  # both of length 5
    one, ten = (np.eye(2), np.zeros(2)), (-10 * np.eye(2), np.array([0.0, 0.0]))
    weight, bias = pairs._mean_of_maps(one, ten, x)
    assert weight == pytest.approx(np.zeros((2, 2)))
    assert bias == pytest.approx(np.zeros(2))
    weight, bias = pairs._mean_of_maps(one, (np.zeros((2, 2)), np.array([2.0, 0.0])), x)
    assert weight == pytest.approx(np.eye(2) / 10)
    assert bias == pytest.approx([0.5, 0.0])


def test_the_same_seed_gives_the_same_matrix(world):
    x, y, both = world
    one, again, other = (learn_from_pairs(x, y, FIRST, [both], seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
