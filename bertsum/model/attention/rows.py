"""Attention that learns in bfloat16 on a CPU, over sequences side by side in rows of one length.

The gradient of PyTorch's SDPA calls five small products for each head of each sequence, and for
each new shape of a product oneDNN makes a kernel: with short texts of many lengths that took half
of a training step. Rows have few shapes, and all heads of all rows are one product. Whole sequences
share a row, and a mask keeps them apart: Krell et al. 2021, "Efficient Sequence Packing without
Cross-contamination". Scores are rounded to bfloat16, as in inference.

Shapes: N tokens, n rows of length L, A heads, D their size.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertsum.text.ragged import bounds

# Of longer sequences SDPA is as fast: at 512 tokens 1.0 times with AMX, 1.2 without it, while up to
# 128 tokens rows are four times as fast, or 2.4 to 2.8. And it keeps no weights for the gradient.
LONGEST_IN_ROWS = 256
_LEAST_LENGTH, _LENGTH_STEP = 128, 64  # of a row
# Of a sum of exponentials: what is lost to underflow is below 1e-17 of it.
LEAST_TOTAL, MOST_TOTAL = 1e-20, 1e20


@dataclass(frozen=True, slots=True)
class Rows:
    """Where packed tokens stand in rows."""

    places: Tensor  # [N] int64, into n * L
    mask: Tensor  # [n, 1, L, L] bfloat16: 0 between tokens of one sequence, else -inf

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Rows":
        """Rows for sequences of these lengths, which ascend."""
        row_length = max(_LEAST_LENGTH, -(-lengths[-1] // _LENGTH_STEP) * _LENGTH_STEP)
        starts = bounds(lengths)
        places = np.empty(starts[-1], np.int64)
        rows = fill_rows(lengths, row_length)
        sequence_of = np.full((len(rows), row_length), -1)  # places that stay empty see each other
        for number, sequences in enumerate(rows):
            stop = 0
            for sequence in sequences:
                start, stop = stop, stop + lengths[sequence]
                sequence_of[number, start:stop] = sequence
                taken = np.arange(start, stop) + number * row_length
                places[starts[sequence] : starts[sequence + 1]] = taken
        are_apart = torch.from_numpy(sequence_of[:, :, None] != sequence_of[:, None, :])
        mask = torch.zeros(are_apart.shape, dtype=torch.bfloat16)
        return cls(torch.from_numpy(places), mask.masked_fill_(are_apart, -torch.inf).unsqueeze(1))

    def spread(self, values: Tensor) -> Tensor:
        """[N] -> [n * L], 0 where no token stands."""
        return values.new_zeros(self.mask[..., 0].numel()).index_copy(0, self.places, values)


def fill_rows(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """The sequences of each row: the longest of those left, then the longest that still fits.

    `lengths`: ascending, at most `row_length`.
    """
    left, left_lengths = list(range(len(lengths))), list(lengths)
    rows: list[list[int]] = []
    while left:
        rows.append([])
        room = row_length
        while num_fitting := bisect_right(left_lengths, room):
            rows[-1].append(left.pop(num_fitting - 1))
            room -= left_lengths.pop(num_fitting - 1)
    return rows


def attend_in_rows(
    query_key_value: tuple[Tensor, Tensor, Tensor], rows: Rows, num_heads: int
) -> Tensor:
    """Softmax attention inside each sequence: [n * L, H] each -> [n * L, H]."""
    count, _, length, _ = rows.mask.shape
    heads = []  # [n * A, L, D] each
    for part in query_key_value:
        heads.append(part.view(count, length, num_heads, -1).transpose(1, 2).flatten(0, 1))
    attended: Tensor = _Attention.apply(*heads, rows.mask)  # type: ignore[no-untyped-call]
    return attended.view(count, num_heads, length, -1).transpose(1, 2).flatten(2).flatten(0, 1)


class _Attention(torch.autograd.Function):
    """softmax(q k' / sqrt(D) + mask) v, with [n * A, L, D] each, as w v / t.

    w are the exponentials of the scores and t the sums of their rows: see `packed.py`. With g
    the gradient divided by t, that of v is w' g, and that of the scores w * (g v' - the sum of g *
    the result).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        ctx.scale = query.shape[2] ** -0.5
        query = query * ctx.scale
        scores = torch.bmm(query, key.transpose(1, 2))  # [n * A, L, L]
        of_rows = scores.view(len(mask), -1, *scores.shape[1:])
        of_rows += mask
        weights = scores.exp()
        totals = weights.sum(2, keepdim=True)
        least, most = torch.aminmax(totals)
        if not (least > LEAST_TOTAL and most < MOST_TOTAL):  # also where a total is NaN
            weights, totals = scores.softmax(2), torch.ones_like(totals)
        result = torch.bmm(weights, value) / totals
        ctx.save_for_backward(query, key, value, weights, totals, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, weights, totals, result = ctx.saved_tensors
        gradient = gradient / totals
        of_value = torch.bmm(weights.transpose(1, 2), gradient)
        of_scores = torch.bmm(gradient, value.transpose(1, 2))
        of_scores -= (gradient * result).sum(2, keepdim=True)
        of_scores *= weights
        of_query = torch.bmm(of_scores, key) * ctx.scale
        of_key = torch.bmm(of_scores.transpose(1, 2), query)
        return of_query, of_key, of_value, None
