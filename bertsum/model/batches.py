"""Encoded documents -> batches under a token budget.

A batch is packed: all tokens of its documents are one sequence, window after window, with no
padding. Windows are sorted by length, and documents by number of sentences, so that attention can
take runs of equal ones as one block.

A document's query is in the same sequence, in windows of its own. All its tokens count as one
sentence, which comes behind the sentences of all documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.model.transfer import to_device
from bertsum.text.encoder import EncodedDocument, IntArray
from bertsum.text.ragged import Item, bounds, ranges, split_runs


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPools:
    """M weighted means over n tokens of a batch, of which some may be in several."""

    tokens: Tensor  # [n] int64, into T
    weights: Tensor  # [n] float32, of sum 1 for each mean
    rows: Tensor  # [n] int64, into M
    counts: list[int]  # [B] means of each document, whose sum is M

    def to(self, device: torch.device) -> "TokenPools":
        """Copy the tensors to `device`."""
        return replace(
            self,
            tokens=to_device(self.tokens, device),
            weights=to_device(self.weights, device),
            rows=to_device(self.rows, device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """T tokens in W windows, P pieces, S sentences, B documents and Q queries.

    Sentences are sorted by document, in document order.
    """

    documents: list[int]  # [B] indices in the list that the batches were made from
    input_ids: Tensor  # [T] int64
    token_type_ids: Tensor  # [T] int64
    token_sentences: Tensor  # [T] int64, into S, and S + q for tokens of query q
    cls_positions: Tensor  # [P] int64, into T; P >= S, since a long sentence has several pieces
    surface: Tensor  # [S, NUM_SURFACE_FEATURES] float32, or [S, 0] for a model without them
    window_lengths: list[int]  # [W] ascending
    num_sentences: list[int]  # [B] ascending: attention takes runs of documents of equal length
    pools: TokenPools | None = None  # means of tokens of which the sentiment is asked
    query_documents: Tensor | None = None  # [Q] int64, into B: which document asks; None: Q is 0

    @property
    def num_queries(self) -> int:
        """Q."""
        return 0 if self.query_documents is None else len(self.query_documents)

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors to `device`; the host does not wait for a GPU."""
        asking = self.query_documents
        return replace(
            self,
            input_ids=to_device(self.input_ids, device),
            token_type_ids=to_device(self.token_type_ids, device),
            token_sentences=to_device(self.token_sentences, device),
            cls_positions=to_device(self.cls_positions, device),
            surface=to_device(self.surface, device),
            pools=None if self.pools is None else self.pools.to(device),
            query_documents=None if asking is None else to_device(asking, device),
        )


def group_documents(documents: Sequence[EncodedDocument], max_batch_tokens: int) -> list[list[int]]:
    """Group documents by `group_by_length` of their tokens."""
    counts = [document.num_batch_tokens for document in documents]
    return group_by_length(counts, max_batch_tokens)


def group_by_length(token_counts: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Indices of the documents of each batch: at most `max_batch_tokens` tokens a batch.

    A document longer than that is a batch of its own. Documents without tokens are left out.
    """
    # The longest first, so that a device that lacks memory says so at once.
    longest_first = sorted(range(len(token_counts)), key=lambda index: -token_counts[index])
    groups: list[list[int]] = []
    room = 0
    for index in longest_first:
        num_tokens = token_counts[index]
        if num_tokens == 0:  # as are all that follow
            break
        if num_tokens > room:
            groups.append([])
            room = max_batch_tokens
        groups[-1].append(index)
        room -= num_tokens
    return groups


def make_batch(documents: Sequence[EncodedDocument], indices: Sequence[int]) -> Batch:
    """Pack the documents with these indices, sorted by their number of sentences."""
    indices = sorted(indices, key=lambda index: documents[index].num_read_sentences)
    chosen = [documents[index] for index in indices]
    num_sentences = [document.num_read_sentences for document in chosen]
    parts = _with_queries(chosen)
    window_lengths = np.concatenate([part.window_lengths for part in parts])

    # Documents count sentences and tokens from 0, the batch from its first document to its last.
    first_sentences = bounds(num_sentences + [1] * (len(parts) - len(chosen)))
    first_tokens = bounds([len(part.input_ids) for part in parts])
    token_sentences = []
    cls_positions = []
    for i, part in enumerate(parts):
        is_query = i >= len(chosen)
        sentences = np.zeros_like(part.token_sentences) if is_query else part.token_sentences
        token_sentences.append(sentences + first_sentences[i])
        cls_positions.append(part.cls_positions + first_tokens[i])
    asking = [i for i, document in enumerate(chosen) if document.query is not None]

    # Positions cannot be sorted along with the windows, but a mark on each [CLS] can.
    is_cls = np.zeros(first_tokens[-1], np.bool_)
    is_cls[np.concatenate(cls_positions)] = True
    order = packed_order(window_lengths)

    def packed(values: Sequence[IntArray]) -> Tensor:
        return torch.from_numpy(np.concatenate(values)[order].astype(np.int64))

    return Batch(
        documents=indices,
        input_ids=packed([part.input_ids for part in parts]),
        token_type_ids=packed([part.token_type_ids for part in parts]),
        token_sentences=packed(token_sentences),
        cls_positions=torch.from_numpy(np.flatnonzero(is_cls[order])),
        surface=torch.from_numpy(np.concatenate([document.surface for document in chosen])),
        window_lengths=np.sort(window_lengths).tolist(),
        num_sentences=num_sentences,
        query_documents=torch.tensor(asking) if asking else None,
    )


def _with_queries(documents: Sequence[EncodedDocument]) -> list[EncodedDocument]:
    """The documents of a batch, then those of their queries that there are, in order."""
    queries = (document.query for document in documents)
    return [*documents, *(query for query in queries if query is not None)]


def packed_order(window_lengths: IntArray) -> npt.NDArray[np.int64]:
    """[T] the index that each token of the packed sequence had before windows were sorted.

    With window_lengths [3, 1]: [3, 0, 1, 2].
    """
    by_length = np.argsort(window_lengths, kind="stable")
    window_bounds = bounds(window_lengths)
    return ranges(window_bounds[by_length], window_bounds[by_length + 1])


def split_tokens(
    values: npt.NDArray[Item], documents: Sequence[EncodedDocument]
) -> list[npt.NDArray[Item]]:
    """Undo the packing: [T, ...] values of a batch's tokens -> those of each document, in order.

    `documents`: the batch's, in its order.
    """
    parts = _with_queries(documents)
    window_lengths = np.concatenate([part.window_lengths for part in parts])
    unsorted = np.empty_like(values)
    unsorted[packed_order(window_lengths)] = values
    by_part = split_runs(unsorted, [len(part.input_ids) for part in parts])
    return by_part[: len(documents)]
