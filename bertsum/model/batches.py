"""Encoded documents -> batches under a token budget.

A batch is packed: all tokens of its documents stand in one sequence, window after window, with no padding. Windows are
sorted by length, and documents by number of sentences, so that attention can take runs of equal ones as one block.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.model.attention import to_device
from bertsum.text.encoder import EncodedDocument, IntArray
from bertsum.text.ragged import bounds, ranges, split_runs


@dataclass(frozen=True, slots=True)
class Batch:
    """T tokens in W windows, S sentences and B documents. Sentences stand document by document, in document order."""

    documents: list[int]  # [B] places in the list that the batches were made from
    input_ids: Tensor  # [T] int64
    token_type_ids: Tensor  # [T] int64
    token_sentences: Tensor  # [T] int64, into S
    cls_positions: Tensor  # [P] int64, into T; P >= S, since a long sentence has several pieces
    surface: Tensor  # [S, NUM_SURFACE_FEATURES] float32, or [S, 0] for a model without them
    window_lengths: list[int]  # [W] ascending
    num_sentences: list[int]  # [B] ascending: attention takes runs of documents of equal length

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`; the host does not wait for a GPU."""
        return replace(
            self,
            input_ids=to_device(self.input_ids, device),
            token_type_ids=to_device(self.token_type_ids, device),
            token_sentences=to_device(self.token_sentences, device),
            cls_positions=to_device(self.cls_positions, device),
            surface=to_device(self.surface, device),
        )


def group_documents(documents: Sequence[EncodedDocument], max_batch_tokens: int) -> list[list[int]]:
    """`group_by_length` of the documents' tokens."""
    return group_by_length([len(document.input_ids) for document in documents], max_batch_tokens)


def group_by_length(token_counts: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Places of the documents of each batch: longest first, at most `max_batch_tokens` tokens a batch.

    The longest first, so that a device that lacks memory says so at once. A document longer than the budget is a batch
    of its own. Documents without sentences are left out.
    """
    order = sorted(range(len(token_counts)), key=lambda place: -token_counts[place])
    groups: list[list[int]] = []
    room = 0
    for place in order:
        num_tokens = token_counts[place]
        if num_tokens == 0:
            break
        if num_tokens > room:
            groups.append([])
            room = max_batch_tokens
        groups[-1].append(place)
        room -= num_tokens
    return groups


def make_batch(documents: Sequence[EncodedDocument], places: Sequence[int]) -> Batch:
    """Pack the documents at `places` into one batch, sorted by their number of sentences."""
    places = sorted(places, key=lambda place: documents[place].num_read_sentences)
    chosen = [documents[place] for place in places]
    first_sentences = bounds([document.num_read_sentences for document in chosen])
    token_sentences = np.concatenate(
        [d.token_sentences + first for d, first in zip(chosen, first_sentences, strict=False)]
    )
    window_lengths = np.concatenate([document.window_lengths for document in chosen])
    is_cls = np.zeros(len(token_sentences), np.bool_)
    first_tokens = bounds([len(document.input_ids) for document in chosen])
    is_cls[np.concatenate([d.cls_positions + first for d, first in zip(chosen, first_tokens, strict=False)])] = True
    order = packed_order(window_lengths)

    def packed(values: IntArray) -> Tensor:
        return torch.from_numpy(values[order].astype(np.int64))

    return Batch(
        documents=places,
        input_ids=packed(np.concatenate([document.input_ids for document in chosen])),
        token_type_ids=packed(np.concatenate([document.token_type_ids for document in chosen])),
        token_sentences=packed(token_sentences),
        cls_positions=torch.from_numpy(np.flatnonzero(is_cls[order])),
        surface=torch.from_numpy(np.concatenate([document.surface for document in chosen])),
        window_lengths=np.sort(window_lengths).tolist(),
        num_sentences=[document.num_read_sentences for document in chosen],
    )


def packed_order(window_lengths: IntArray) -> npt.NDArray[np.int64]:
    """[T] for each token of the packed sequence, its place before the windows were sorted by length."""
    by_length = np.argsort(window_lengths, kind="stable")
    limits = bounds(window_lengths)
    return ranges(limits[by_length], limits[by_length + 1])


def split_tokens(values: npt.NDArray[np.int64], documents: Sequence[EncodedDocument]) -> list[npt.NDArray[np.int64]]:
    """[T] values of a batch's packed tokens -> those of each document, in its own order. `documents`: the batch's."""
    lengths = np.concatenate([document.window_lengths for document in documents])
    own = np.empty_like(values)
    own[packed_order(lengths)] = values
    return split_runs(own, [len(document.input_ids) for document in documents])
