"""What importance, nearness and words weigh where a summary is to answer a query.

A pair is a document and a query of it, such as its title. The query is asked of the sentences of
this document and of another pair's, so that importance alone does not find the right ones. Of all
weights on a grid those are taken whose choice of sentences has the highest ROUGE against the text
that answers the query: a mean over sets of the mean over a set's pairs.

Few weights, since more of them learn what a set's queries have in common: a bilinear form of the
embeddings (rank 32) chose better on held-out pairs of its kinds, and worse for queries of another
kind.

Shapes: S sentences of both documents, G points of the grid, N pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertsum.errors import InputError
from bertsum.evaluation.rouge import rouge_of_groups
from bertsum.inference.query import MOST_CHARACTERS, importance_logits
from bertsum.inference.reader import document_encoder
from bertsum.masking import mask
from bertsum.model.batches import group_documents, make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.model_config import QueryWeights
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.phrases.query_words import bm25, query_words
from bertsum.training.heads.config import QueryFitConfig
from bertsum.training.heads.embedding import read_rows
from bertsum.training.results.log import Report, shown

_BATCH_TOKENS = 4096
_MAX_WINDOWS = 8  # of a document
_HELD_OUT = 5  # each fifth pair is measured on
_LEAST_PAIRS = 20
_NEARNESS = (0.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
_WORDS = (0.0, 0.125, 0.25, 0.5, 1.0)
_GRID = np.array(list(product(_NEARNESS, _WORDS)))  # [G, 2]
FloatArray = npt.NDArray[np.float64]
Pair = tuple[str, str, str]  # document, query, and the text that answers it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Sentences of which a query was asked."""

    sentences: list[str]  # [S]
    importance: FloatArray  # [S] logits
    cosines: FloatArray  # [S] to the query
    own: int  # how many of the first sentences are of the query's document
    query: str
    summary: str  # what answers it
    language: str  # of the query's document


def read_query_pairs(
    config: QueryFitConfig, resolve: Callable[[str], str], seed: int
) -> list[list[Pair]]:
    """Read the pairs of each set. `resolve`: see `read_embedding_texts`. Raises InputError."""
    sets: list[list[Pair]] = []
    for source in config.pairs:
        columns = {
            "text_column": source.text_column,
            "query_column": source.query_column,
            "summary_column": source.summary_column,
        }
        rows = read_rows("query", resolve(source.uri), columns, source.max_rows, seed)
        sets.append([(text, query, summary) for text, query, summary in rows])
    return sets


def fit_query(
    model: BertSum,
    tokenizer: Any,
    config: QueryFitConfig,
    sets: Sequence[Sequence[Pair]],
    report: Report,
) -> str:
    """Fit the weights in place. Returns a sentence on them, for people.

    `sets`: what `read_query_pairs` has read for `config`. Raises InputError for fewer pairs than
    can be fitted and measured on.
    """
    encoder = document_encoder(model, tokenizer)
    scores, usual = [], []  # of each set: [N, G] ROUGE, and cosines
    for source, pairs in zip(config.pairs, sets, strict=True):
        asked = _ask(model, encoder, pairs, report)
        if len(asked) < _LEAST_PAIRS:
            raise InputError(
                f"query: {mask(source.uri)}: {len(asked)} pairs that the model can read are too "
                f"few to fit on; at least {_LEAST_PAIRS} are needed"
            )
        scores.append(np.array([_grid_scores(part, source.num_sentences) for part in asked]))
        own = np.concatenate([part.cosines[: part.own] for part in asked])
        other = np.concatenate([part.cosines[part.own :] for part in asked])
        usual.append((own.mean() + other.mean()) / 2)
    fitted_on = np.mean([values[_is_fitted_on(len(values))].mean(0) for values in scores], 0)
    # of equal ones the first, which have the smallest weights
    best = int(fitted_on.argmax())
    nearness, words = _GRID[best].tolist()
    model.query_weights = QueryWeights(
        nearness=nearness, words=words, usual_cosine=round(float(np.mean(usual)), 3)
    )
    default = QueryWeights()
    others = {
        "importance alone": (0.0, 0.0),
        "the default": (default.nearness, default.words),
    }
    parts = []
    for source, values in zip(config.pairs, scores, strict=True):
        held_out = values[~_is_fitted_on(len(values))].mean(0)
        measured = [f"{50 * held_out[best]:.1f}"]
        for name, weights in others.items():
            index = int((np.array(weights) == _GRID).all(1).argmax())
            measured.append(f"{50 * held_out[index]:.1f} by {name}")
        parts.append(
            f"{mask(source.uri)} ({source.query_column}), {len(values):,} pairs: "
            f"{', '.join(measured)}"
        )
    return (
        f"Query: {nearness:g} * (cosine - {model.query_weights.usual_cosine:g}) + {words:g} * BM25 "
        f"are added to the importance of a sentence. Mean of ROUGE-1 and ROUGE-2 on each "
        f"{_HELD_OUT}th pair, held out, among the sentences of two documents: {'; '.join(parts)}."
    )


def _is_fitted_on(count: int) -> npt.NDArray[np.bool_]:
    """[N] which pairs of a set decide."""
    is_fitted_on: npt.NDArray[np.bool_] = np.arange(count) % _HELD_OUT != 0
    return is_fitted_on


@torch.inference_mode()
def _ask(
    model: BertSum, encoder: DocumentEncoder, pairs: Sequence[Pair], report: Report
) -> list[_Asked]:
    """[N] each query asked of its own document, and of that of the pair before it.

    Pairs of which the model reads no word are left out.
    """
    model.eval()
    documents = encoder.encode([text for text, _, _ in pairs], [None] * len(pairs), _MAX_WINDOWS)
    queries = encoder.encode(
        [query[:MOST_CHARACTERS] for _, query, _ in pairs],
        [document.language for document in documents],
        max_windows=1,
    )
    kept: list[tuple[EncodedDocument, str]] = []  # with its query, and what answers it
    for document, query, (_, _, summary) in zip(documents, queries, pairs, strict=True):
        if document.num_read_tokens and query.num_read_tokens:
            kept.append((replace(document, query=query), summary))
    own = [document for document, _ in kept]
    # of the first one it is the last
    others = [replace(own[i - 1], query=document.query) for i, document in enumerate(own)]
    results = _read(model, [*own, *others], report)
    asked = []
    for i, (document, summary) in enumerate(kept):
        (importance, cosines), (other_importance, other_cosines) = results[i], results[i + len(own)]
        asked.append(
            _Asked(
                sentences=_sentences(document) + _sentences(others[i]),
                importance=np.concatenate([importance, other_importance]),
                cosines=np.concatenate([cosines, other_cosines]),
                own=len(cosines),
                query=document.query.text if document.query else "",
                summary=summary,
                language=document.language,
            )
        )
    return asked


def _read(
    model: BertSum, documents: Sequence[EncodedDocument], report: Report
) -> dict[int, tuple[FloatArray, FloatArray]]:
    """By index of the document: the logits of its sentences' importance, and their cosines."""
    device = next(model.parameters()).device
    results = {}
    groups = group_documents(documents, _BATCH_TOKENS)
    for group in shown(groups, len(documents), "documents of queries", report):
        batch = make_batch(documents, group)
        logits = model(batch.to(device), document_vectors=True, query_cosines=True)
        probabilities = torch.split(logits.sentence_logits.sigmoid().cpu(), batch.num_sentences)
        cosines = torch.split(logits.query_cosines.double().cpu(), batch.num_sentences)
        for row, index in enumerate(batch.documents):
            results[index] = (
                importance_logits(probabilities[row].numpy()),
                cosines[row].numpy(),
            )
    return results


def _sentences(document: EncodedDocument) -> list[str]:
    """Those that were read."""
    spans = document.spans[: document.num_read_sentences]
    return [document.text[start:stop] for start, stop in spans]


def _grid_scores(asked: _Asked, num_sentences: int) -> FloatArray:
    """[G] ROUGE-1 + ROUGE-2, from 0 to 2, of what each point of the grid chooses."""
    language = asked.language
    words = bm25(asked.sentences, query_words(asked.query, language), language)
    # [G, S]
    logits = asked.importance + _GRID[:, :1] * asked.cosines + _GRID[:, 1:] * words
    order = np.argsort(-logits, axis=1, kind="stable")[:, :num_sentences]
    members = np.zeros(logits.shape, np.float32)
    np.put_along_axis(members, order, 1, axis=1)
    return rouge_of_groups(asked.sentences, asked.summary, language, members).astype(np.float64)
