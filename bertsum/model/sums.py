"""Rows added up by what they belong to, and how many they are: tokens of sentences, of documents.

Shapes as in `bert_sum`; M pools of tokens, G of any of these.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bertsum.model.batches import Batch, TokenPools
from bertsum.model.transfer import to_device
from bertsum.text.ragged import offsets, run_numbers


def add_rows(sums: Tensor, indices: Tensor, rows: Tensor) -> None:
    """Add [n, H] rows to those of `sums` that `indices` [n] names, in place."""
    if sums.is_cuda:
        # sorts the rows by index first; `index_add_` would add them as threads come, and the same
        # batch would not have the same bits twice
        sums.index_put_((indices,), rows, accumulate=True)
    else:
        sums.index_add_(0, indices, rows)


def token_counts(groups: Tensor, num_groups: int) -> Tensor:
    """[G] float32: tokens of each sentence or pool, from [n] the group of each token."""
    # not `bincount`, for which the host waits for the device; whole numbers are exact in any order
    ones = torch.ones_like(groups, dtype=torch.float32)
    return ones.new_zeros(num_groups).index_add(0, groups, ones)


def count_rows(batch: Batch) -> int:
    """S + Q: what tokens are pooled to."""
    return sum(batch.num_sentences) + batch.num_queries


def document_numbers(batch: Batch) -> Tensor:
    """[S] int64: the document of each sentence, counted in the batch."""
    numbers = torch.from_numpy(run_numbers(batch.num_sentences))
    return to_device(numbers, batch.token_sentences.device)


def sentence_lengths(batch: Batch) -> Tensor:
    """[S] float32: tokens of each sentence."""
    return token_counts(batch.token_sentences, count_rows(batch))[: sum(batch.num_sentences)]


def tokens_before(lengths: Tensor, num_sentences: Sequence[int]) -> Tensor:
    """[S] float32: tokens of the sentences before each in its document.

    `lengths` [S]: as of `sentence_lengths`; `num_sentences` [B].
    """
    # whole numbers are exact in any order
    before = lengths.cumsum(0) - lengths  # in the batch
    in_document = offsets(num_sentences)
    firsts = torch.from_numpy(np.arange(len(in_document)) - in_document)
    return before - before[to_device(firsts, before.device)]


def document_lengths(batch: Batch) -> Tensor:
    """[B] float32: tokens of each document."""
    lengths = sentence_lengths(batch)
    totals = lengths.new_zeros(len(batch.num_sentences))
    return totals.index_add(0, document_numbers(batch), lengths)


def pool_lengths(pools: TokenPools) -> Tensor:
    """[M] float32: tokens of each mean."""
    return token_counts(pools.rows, sum(pools.counts))
