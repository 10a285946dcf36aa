"""Pairs of a query and its document, as indices into the texts of a batch.

A text is encoded once, however many pairs it is in: an answer that is right for many questions, or
a negative that is the document of another pair.

Shapes: B texts of a batch or of a whole step, P pairs, C candidates.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.model.losses import IGNORE
from bertsum.model.transfer import to_device
from bertsum.text.encoder import EncodedDocument
from bertsum.training.examples import Example, is_labelled

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """What each query is compared with.

    A text that is known to be right for the query too, or that is the query itself, is no wrong
    answer, and is left out.
    """

    queries: Tensor  # [P] of the B texts
    candidates: Tensor  # [C] of the B texts, each text once
    right: Tensor  # [P] of the C candidates
    is_left_out: Tensor  # [P, C]
    weights: Tensor  # [P] float32

    def to(self, device: torch.device) -> "Contrast":
        """Copy the tensors to `device`; the host does not wait for a GPU."""
        return Contrast(
            queries=to_device(self.queries, device),
            candidates=to_device(self.candidates, device),
            right=to_device(self.right, device),
            is_left_out=to_device(self.is_left_out, device),
            weights=to_device(self.weights, device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTexts:
    """P pairs among B texts.

    - `ids`: [B] equal for equal texts
    - `is_candidate`: [B] whether a text is the document or a negative of a pair
    - `queries`, `documents`: [P] of the B texts
    - `weights`: [P]
    """

    ids: Indices
    is_candidate: npt.NDArray[np.bool_]
    queries: Indices
    documents: Indices
    weights: npt.NDArray[np.float32]

    def sorted_as(self, order: Sequence[int]) -> "PairTexts":
        """The same pairs where the texts come in another order: [B] their present indices."""
        new_index = np.argsort(order)
        return PairTexts(
            ids=self.ids[order],
            is_candidate=self.is_candidate[order],
            queries=new_index[self.queries],
            documents=new_index[self.documents],
            weights=self.weights,
        )

    def contrast(self) -> Contrast:
        """Compare each query with the candidates of all pairs."""
        candidates = np.flatnonzero(self.is_candidate)
        candidate_ids, first = np.unique(self.ids[candidates], return_index=True)
        right = np.searchsorted(candidate_ids, self.ids[self.documents])
        query_ids, number = np.unique(self.ids[self.queries], return_inverse=True)
        is_left_out = query_ids[:, None] == candidate_ids  # [different queries, C]
        is_left_out[number, right] = True
        is_left_out = is_left_out[number]
        is_left_out[np.arange(len(right)), right] = False
        return Contrast(
            queries=torch.from_numpy(self.queries),
            candidates=torch.from_numpy(candidates[first]),
            right=torch.from_numpy(right),
            is_left_out=torch.from_numpy(is_left_out),
            weights=torch.from_numpy(self.weights),
        )


def join_pairs(parts: Sequence[PairTexts]) -> PairTexts:
    """The pairs of several batches, whose texts follow each other."""
    starts = np.cumsum([0, *(len(part.ids) for part in parts)])
    return PairTexts(
        ids=np.concatenate([part.ids for part in parts]),
        is_candidate=np.concatenate([part.is_candidate for part in parts]),
        queries=np.concatenate(
            [part.queries + start for part, start in zip(parts, starts[:-1], strict=True)]
        ),
        documents=np.concatenate(
            [part.documents + start for part, start in zip(parts, starts[:-1], strict=True)]
        ),
        weights=np.concatenate([part.weights for part in parts]),
    )


def with_pair_texts(examples: Sequence[Example]) -> tuple[list[Example], PairTexts | None]:
    """Each text that is to be encoded as an example of its own, and the pairs of them.

    A text comes once, unless it has different labels. Queries and negatives have none. None where
    no example has a pair.
    """
    if not any(example.pair for example in examples):
        return list(examples), None
    texts: list[Example] = []
    index_of: dict[str, int] = {}

    def add(example: Example) -> int:
        text = example.document.text
        if text not in index_of or is_labelled(replace(example, is_held=False)):
            texts.append(example)
        return index_of.setdefault(text, len(texts) - 1)

    # documents first: where a text is one of them, it has its labels and held vectors
    of_examples = [add(replace(example, pair=None)) for example in examples]
    queries, documents, weights, candidates = [], [], [], []
    for example, document in zip(examples, of_examples, strict=True):
        if example.pair is None:
            continue
        held = None if example.held_vectors is None else example.held_vectors[1:]
        query = add(_unlabelled(example.pair.query, is_held=example.is_held, held_vectors=held))
        queries.append(query)
        documents.append(document)
        weights.append(example.pair.weight)
        candidates.append(document)
        candidates += [add(_unlabelled(negative)) for negative in example.pair.negatives]
    is_candidate = np.zeros(len(texts), np.bool_)
    is_candidate[candidates] = True
    return texts, PairTexts(
        ids=np.array([text_id(example.document.text) for example in texts], np.int64),
        is_candidate=is_candidate,
        queries=np.array(queries, np.int64),
        documents=np.array(documents, np.int64),
        weights=np.array(weights, np.float32),
    )


def text_id(text: str) -> int:
    """A number of 64 bits, the same for the same text on all workers."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _unlabelled(
    document: EncodedDocument,
    *,
    is_held: bool = False,
    held_vectors: npt.NDArray[np.float32] | None = None,
) -> Example:
    labels = np.full(document.num_read_sentences, IGNORE, np.float32)
    return Example(document, labels, IGNORE, None, is_held=is_held, held_vectors=held_vectors)
