"""Vectors of documents by a model as it is: to hold them during a run, and to measure pairs."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from bertsum.evaluation.retrieval import MOST_ROWS, rank_measures, ranks
from bertsum.model.batches import group_documents, make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.text.encoder import EncodedDocument
from bertsum.training.examples import Example, ExampleFile
from bertsum.training.heads.pair_texts import text_id
from bertsum.training.optimization import autocast
from bertsum.training.results.log import Report, shown
from bertsum.training.state import VectorStore, documents_digest

_BATCH_TOKENS = 8192  # no gradients are kept, so any device has room for these
_CHUNK = 1024  # examples that are in memory at once
FloatArray = npt.NDArray[np.float32]
Embed = Callable[[Sequence[EncodedDocument]], FloatArray]
"""[N] documents -> [N, H] vectors of length 1."""


@dataclass(frozen=True, slots=True)
class PairRows:
    """Vectors of N pairs, of length 1."""

    queries: FloatArray  # [N, H]
    documents: FloatArray  # [N, H]
    ids: npt.NDArray[np.int64]  # [N] equal for equal documents


@torch.no_grad()
def embed_documents(model: BertSum, documents: Sequence[EncodedDocument], dtype: str) -> FloatArray:
    """[N, H] vectors of length 1."""
    model.eval()
    device = next(model.parameters()).device
    vectors = np.zeros((len(documents), model.encoder.config.hidden_size), np.float32)
    for group in group_documents(documents, _BATCH_TOKENS):
        batch = make_batch(documents, group).to(device)
        with autocast(device, dtype):
            embedded = model.embed(batch)
        vectors[batch.documents] = embedded.float().cpu().numpy()
    return vectors


def kept(embed: Embed, store: VectorStore, weights: bytes, hidden_size: int) -> Embed:
    """The same vectors, read from `store` where they are there, else written to it.

    `weights`: digest of what makes vectors of documents.
    """

    def read_or_embed(documents: Sequence[EncodedDocument]) -> FloatArray:
        if not documents:
            return embed(documents)
        # also what lies beyond the windows, which an encoder before training may read
        texts = hashlib.sha256(weights)
        for document in documents:
            text = document.text.encode()
            texts.update(len(text).to_bytes(8, "big") + text)
        digest = documents_digest(texts.digest(), documents)
        found = store.read(digest, [len(documents)], hidden_size)
        if found is not None:
            return found[0].numpy()
        vectors = embed(documents)
        store.write(digest, [torch.from_numpy(vectors)])
        return vectors

    return read_or_embed


def with_held_vectors(
    examples: Sequence[Example],
    is_drawn: npt.NDArray[np.bool_],
    embed: Embed,
    report: Report = lambda line: None,
) -> ExampleFile:
    """The examples with the vectors to hold, [N, H] of length 1 as `embed` gives them.

    `is_drawn`: [N] whether a step learns from the example; the others need no vectors.
    """

    def completed() -> Iterator[Example]:
        starts = range(0, len(examples), _CHUNK)
        chunks = (range(start, min(start + _CHUNK, len(examples))) for start in starts)
        for indices in shown(chunks, len(examples), "vectors to hold", report):
            chunk = list(examples[indices.start : indices.stop])
            held = [
                example.texts[:2] if example.is_held and is_drawn[index] else []
                for index, example in zip(indices, chunk, strict=True)
            ]
            vectors = embed([document for texts in held for document in texts])
            first = 0
            for example, texts in zip(chunk, held, strict=True):
                own = vectors[first : first + len(texts)]
                first += len(texts)
                yield replace(example, held_vectors=own) if texts else example

    return ExampleFile.write(completed())


def pair_rows(model: BertSum, examples: Sequence[Example], dtype: str) -> PairRows:
    """The vectors of the pairs among the first MOST_ROWS examples."""
    queries, documents = [], []
    for example in examples[:MOST_ROWS]:
        if example.pair is not None:
            queries.append(example.pair.query)
            documents.append(example.document)
    return PairRows(
        embed_documents(model, queries, dtype),
        embed_documents(model, documents, dtype),
        np.array([text_id(document.text) for document in documents], np.int64),
    )


def measure_pairs(parts: Sequence[PairRows]) -> dict[str, dict[str, float]]:
    """How the queries of all workers find their documents among all, by name of the measure."""
    ids = np.concatenate([part.ids for part in parts])
    # equal documents are one candidate
    _, first, right = np.unique(ids, return_index=True, return_inverse=True)
    queries = np.concatenate([part.queries for part in parts])
    documents = np.concatenate([part.documents for part in parts])
    return rank_measures(ranks(queries, documents[first], right))
