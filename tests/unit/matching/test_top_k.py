"""The nearest candidates, against sorting all products in float64."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from bertsum.matching import top_k as module
from bertsum.matching.top_k import Block, Queries, top_k

CPU = torch.device("cpu")
NONE = np.zeros(0, np.int64)


def unit_vectors(count: int, seed: int, num_features: int = 24) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, num_features))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def in_blocks(vectors: np.ndarray, sizes: list[int], groups: np.ndarray) -> list[Block]:
    borders = np.cumsum([0, *sizes])
    assert borders[-1] == len(vectors)
    return [Block(int(low), vectors[low:high], groups[low:high]) for low, high in pairwise(borders)]


def by_sorting(queries: Queries, vectors: np.ndarray, groups: np.ndarray, k: int):
    """Scores and indices of the best; Python's own sums of exact fractions would be the same."""
    scores = queries.vectors.astype(np.float64) @ vectors.astype(np.float64).T
    scores[queries.groups[:, None] != groups[None, :]] = -np.inf
    for row, excluded in enumerate(queries.excluded):
        scores[row, excluded] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    padding = ((0, 0), (0, k - order.shape[1]))
    order = np.pad(order, padding, constant_values=-1)
    best = np.pad(best, padding, constant_values=-np.inf)
    order[best == -np.inf] = -1
    return best, order


@st.composite
def problems(draw):
    """Candidates of which many are equal, in blocks of odd sizes, with groups and exclusions."""
    sizes = draw(st.lists(st.integers(0, 90), min_size=1, max_size=4))
    num_candidates, num_queries = sum(sizes), draw(st.integers(1, 5))
    seed = draw(st.integers(0, 1000))
    random = np.random.default_rng(seed)
    distinct = unit_vectors(draw(st.sampled_from([1, 3, 500])), seed, draw(st.integers(1, 8)))
    vectors = distinct[random.integers(0, len(distinct), num_candidates)]
    num_groups = draw(st.integers(1, 3))
    groups = random.integers(num_groups > 1, num_groups, num_candidates).astype(np.int32)
    queries = Queries(
        distinct[random.integers(0, len(distinct), num_queries)],
        random.integers(num_groups > 1, num_groups + (num_groups > 1), num_queries).astype(
            np.int32
        ),
        [
            np.unique(random.integers(0, num_candidates, draw(st.integers(0, 20))))
            if num_candidates
            else NONE
            for _ in range(num_queries)
        ],
    )
    return queries, vectors, groups, sizes, draw(st.integers(1, 8))


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([1, 4]), st.sampled_from([0, 3]))
def test_the_result_is_that_of_sorting(problem, group: int, spare: int) -> None:
    queries, vectors, groups, sizes, k = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_GROUP", group)
        patch.setattr(module, "_SPARE", spare)
        nearest = top_k(queries, in_blocks(vectors, sizes, groups), k, device=CPU)
    scores, indices = by_sorting(queries, vectors, groups, k)
    np.testing.assert_array_equal(nearest.indices, indices)
    np.testing.assert_array_equal(nearest.scores, scores)


def test_scikit_learn_agrees() -> None:
    vectors, wanted = unit_vectors(3000, 1), unit_vectors(40, 2)
    no_groups = np.zeros(3000, np.int32)
    queries = Queries(wanted, np.zeros(40, np.int32), [NONE] * 40)
    nearest = top_k(queries, in_blocks(vectors, [1024, 1024, 952], no_groups), 5, device=CPU)
    # sorted by distance, which for vectors of length 1 is the order of products
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    index = NearestNeighbors(n_neighbors=3000, algorithm="brute", metric="cosine").fit(exact)
    distances, indices = index.kneighbors(wanted.astype(np.float64))
    by_cosine = (1 - distances) * lengths[indices][:, :, 0]
    by_cosine *= np.linalg.norm(wanted.astype(np.float64), axis=1)[:, None]
    order = np.argsort(-by_cosine, axis=1)[:, :5]
    np.testing.assert_array_equal(nearest.indices, np.take_along_axis(indices, order, 1))
    np.testing.assert_allclose(
        nearest.scores, np.take_along_axis(by_cosine, order, 1), rtol=0, atol=1e-12
    )


def test_a_near_tie_that_float32_cannot_tell_is_decided_rightly() -> None:
    """The second candidate is better by 2**-30, which is lost beside 1 in float32."""
    vectors = np.array([[1, 0, 0], [1, 2**-15, 0], [1, 2**-15, 2**-15]], np.float16)
    queries = Queries(np.array([[1, 2**-15, 0]], np.float16), np.zeros(1, np.int32), [NONE])
    nearest = top_k(queries, [Block(0, vectors, np.zeros(3, np.int32))], 3, device=CPU)
    assert nearest.indices.tolist() == [[1, 2, 0]]
    assert nearest.scores.tolist() == [[1 + 2**-30, 1 + 2**-30, 1.0]]


def test_a_sign_of_life_after_each_block() -> None:
    vectors, calls = unit_vectors(30, 3), []
    queries = Queries(vectors[:2], np.zeros(2, np.int32), [NONE] * 2)
    blocks = in_blocks(vectors, [10, 10, 10], np.zeros(30, np.int32))
    top_k(queries, blocks, 1, device=CPU, on_block=lambda: calls.append(1))
    assert len(calls) == 3
