"""The nearest candidates of each query, by the product of their vectors: exact, block by block.

The device multiplies in float32, whose rounding depends on the kernel. Each query keeps some more
candidates than are asked for, and the host computes their products again in float64. A product of
two float16 numbers is a multiple of 2**-48, so that sums of them up to 16 have no rounding at all
in the 53 bits of float64: for vectors of length 1 the scores, their order and their ties are the
same on every machine and for every size of a block.

Letters of shapes: Q queries, C candidates of a block, H features, K kept, W kept in the first pass.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Vectors = npt.NDArray[np.float16]
Scores = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_SPARE = 27  # kept beside the wanted ones; more are only needed among many equal candidates
_GROUP = 32  # candidates whose best score stands for them, while the best groups are sought
_EXACT_QUERIES = 64  # at once where all products are in float64
_EXACT_BYTES = 2**25  # of float64 vectors at once, where the kept candidates are compared again
_FLOAT32_UNIT = 2.0**-24  # the relative error of one rounding


@dataclass(frozen=True, slots=True)
class Block:
    """Candidates with consecutive indices from `first` on.

    - `vectors`: [C, H]
    - `groups`: [C] of each candidate; it matches only queries of its group
    """

    first: int
    vectors: Vectors
    groups: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Queries:
    """What candidates are looked for.

    - `vectors`: [Q, H]
    - `groups`: [Q]
    - `excluded`: [Q] indices of candidates that each query must not get
    """

    vectors: Vectors
    groups: npt.NDArray[np.int32]
    excluded: Sequence[Indices]

    def part(self, rows: Indices) -> "Queries":
        """The queries with these numbers."""
        excluded = [self.excluded[row] for row in rows]
        return Queries(self.vectors[rows], self.groups[rows], excluded)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The best candidates of each query, best first; of equal scores the lower index first.

    - `scores`: [Q, K]; -inf where there are fewer candidates
    - `indices`: [Q, K]; -1 where there are fewer candidates
    """

    scores: Scores
    indices: Indices


def top_k(
    queries: Queries,
    blocks: Sequence[Block],
    k: int,
    *,
    device: torch.device,
    on_block: Callable[[], None] = lambda: None,
) -> Nearest:
    """The `k` candidates with the largest products, as sorting all of them in float64 gives.

    - `blocks`: in the order of their indices; each is read once or twice
    - `device`: of the first pass
    - `on_block`: called after each block
    """
    blocks = [block for block in blocks if len(block.vectors)]
    approximate, longest = _first_pass(queries, blocks, k + _SPARE, device, on_block)
    indices = approximate.indices
    scores = _exact_scores(queries.vectors, blocks, indices)
    # candidates of equal scores in their own order: the last key of lexsort is the first criterion
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    nearest = Nearest(np.take_along_axis(scores, order, 1), np.take_along_axis(indices, order, 1))
    # A sum of H products in float32 differs from the exact one by at most H roundings of the
    # lengths' product. If the last one kept lies further below the k-th than two such errors, then
    # nothing that was left out can belong to the best.
    lengths = np.linalg.norm(queries.vectors.astype(np.float64), axis=1)
    error = queries.vectors.shape[1] * 1.01 * _FLOAT32_UNIT * lengths * longest
    last, wanted = approximate.scores[:, -1], approximate.scores[:, k - 1]
    is_open = (indices[:, -1] >= 0) & (last + 2 * error >= wanted)
    for rows in _chunks(np.flatnonzero(is_open), _EXACT_QUERIES):
        exact = _exact_pass(queries.part(rows), blocks, k, on_block)
        nearest.scores[rows], nearest.indices[rows] = exact.scores, exact.indices
    return nearest


def _first_pass(
    queries: Queries,
    blocks: Sequence[Block],
    width: int,
    device: torch.device,
    on_block: Callable[[], None],
) -> tuple[Nearest, float]:
    """The best `width` candidates by products in float32, and the length of the longest vector."""
    size = len(queries.vectors)
    best = torch.full((size, width), -torch.inf, device=device)
    indices = torch.full((size, width), -1, dtype=torch.int64, device=device)
    query_vectors = torch.from_numpy(queries.vectors).to(device).float()
    longest = 0.0
    for block in blocks:
        vectors = torch.from_numpy(block.vectors).to(device).float()
        longest = max(longest, float(torch.linalg.vector_norm(vectors, dim=1).max()))
        scores = query_vectors @ vectors.T  # [Q, C]
        _exclude(scores, queries, block)
        new, columns = _best_columns(scores, width)
        merged = torch.cat([best, new], 1)
        best, chosen = merged.topk(width, 1)
        indices = torch.cat([indices, columns + block.first], 1).gather(1, chosen)
        on_block()
    indices[best == -torch.inf] = -1
    kept = Nearest(best.double().cpu().numpy(), indices.cpu().numpy())
    return kept, longest


def _best_columns(scores: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest scores of each row of [Q, C], at most `width`, and their columns.

    The best `width` lie in the `width` groups with the best maxima. So a row of 65,536 scores is
    reduced to 2,048 maxima by one pass, and 32 groups of 32 scores are sorted instead of all.
    """
    num_groups = scores.shape[1] // _GROUP
    if num_groups < 8 * width:  # too few groups to be worth it, or too many scores to gather
        return scores.topk(min(width, scores.shape[1]), 1)
    grouped = scores[:, : num_groups * _GROUP].view(len(scores), num_groups, _GROUP)
    best_groups = grouped.amax(2).topk(width, 1).indices  # [Q, W]
    columns = best_groups[:, :, None] * _GROUP + torch.arange(_GROUP, device=scores.device)
    # behind the last group there are up to _GROUP - 1 more columns
    rest = torch.arange(num_groups * _GROUP, scores.shape[1], device=scores.device)
    columns = torch.cat([columns.flatten(1), rest.expand(len(scores), -1)], 1)
    best, chosen = scores.gather(1, columns).topk(width, 1)
    return best, columns.gather(1, chosen)


def _exclude(scores: torch.Tensor, queries: Queries, block: Block) -> None:
    """Set the [Q, C] scores of pairs that must not match to -inf."""
    if queries.groups.any() or block.groups.any():
        differs = queries.groups[:, None] != block.groups[None, :]
        scores.masked_fill_(torch.from_numpy(differs).to(scores.device), -torch.inf)
    for row, excluded in enumerate(queries.excluded):
        if not len(excluded):
            continue
        columns = excluded - block.first
        columns = columns[(columns >= 0) & (columns < len(block.vectors))]
        if len(columns):
            scores[row, torch.from_numpy(columns).to(scores.device)] = -torch.inf


def _exact_scores(vectors: Vectors, blocks: Sequence[Block], indices: Indices) -> Scores:
    """The [Q, W] products in float64 of [Q, H] queries with the candidates of [Q, W] indices."""
    scores = np.full(indices.shape, -np.inf)
    num_features = vectors.shape[1]
    starts = np.array([block.first for block in blocks])
    # pairs in the order of candidates, so that each block is read once
    rows, columns = np.nonzero(indices >= 0)
    order = np.argsort(indices[rows, columns], kind="stable")
    for pairs in _chunks(order, max(1, _EXACT_BYTES // (16 * num_features))):
        wanted = indices[rows[pairs], columns[pairs]]
        candidates = np.empty((len(pairs), num_features))
        block_numbers = np.searchsorted(starts, wanted, "right") - 1
        for number in np.unique(block_numbers):
            here = block_numbers == number
            block = blocks[number]
            candidates[here] = block.vectors[wanted[here] - block.first]
        products = vectors[rows[pairs]] * candidates
        scores[rows[pairs], columns[pairs]] = products.sum(1)
    return scores


def _exact_pass(
    queries: Queries, blocks: Sequence[Block], k: int, on_block: Callable[[], None]
) -> Nearest:
    """The best `k` where every product is in float64, on the host."""
    best = torch.full((len(queries.vectors), k), -torch.inf, dtype=torch.float64)
    indices = torch.full(best.shape, -1, dtype=torch.int64)
    query_vectors = torch.from_numpy(queries.vectors).double()
    for block in blocks:
        scores = query_vectors @ torch.from_numpy(block.vectors).double().T
        _exclude(scores, queries, block)
        columns = torch.arange(block.first, block.first + scores.shape[1]).expand(len(scores), -1)
        # a stable sort keeps equal scores in the order of candidates
        best, chosen = torch.cat([best, scores], 1).sort(dim=1, descending=True, stable=True)
        best = best[:, :k]
        indices = torch.cat([indices, columns], 1).gather(1, chosen[:, :k])
        on_block()
    indices[best == -torch.inf] = -1
    return Nearest(best.numpy(), indices.numpy())


def _chunks(values: Indices, size: int) -> Iterator[Indices]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
