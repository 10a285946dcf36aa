"""Whole summaries, ranked: the sentences that are best together, in place of those that score best one by one.

The best-scored sentences of a document may be long, or say the same thing; which words a summary holds is a matter of
all its sentences. So sets that differ from the best-scored sentences in a few are compared as wholes (the candidates of
Zhong et al. 2020, "Extractive Summarization as Text Matching"), by a small network that has learned the ROUGE of such
sets. It reads the scores, and what can be counted in the tokens: length, places, and how much of what the document
repeats, and of its lead, the set covers (Lin & Bilmes 2011, "A Class of Submodular Functions for Document
Summarization"). So it costs no second pass of an encoder, and no GPU waits for it.

Shapes: S sentences, K + M of them ranked, N candidates, V distinct tokens of a document, F features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bertsum.config import SelectionConfig
from bertsum.model.selection import select_sentences, sentence_budget
from bertsum.text.encoder import EncodedDocument

FloatArray = npt.NDArray[np.float32]

_MOST_SWAPPED = 5  # sentences on each side of the border that may change sides
_MOST_SWAPS = 3  # at once
_LEAD = 3  # sentences with which news says what matters
_MOST_REPEATED = 1 / 3  # share of the trigrams of a sentence that better ones may have
_SMALLEST_SCORE = 1e-4
_SMALLEST = 1e-3  # a sum of rarities that something is divided by
_HIDDEN_SIZE = 64
_UNIT = 0.1  # of ROUGE, about what candidates of a document differ in: new weights give numbers near 1


@dataclass(frozen=True, slots=True)
class Candidates:
    """Sets of a document's sentences, the best-scored ones first.

    `sure`: [K] places of sentences that are in all of them; `others`: [M] of those that are in some, best score first;
    `swapped`: [N, M] 1 where a candidate has one.
    """

    sure: npt.NDArray[np.int64]
    others: npt.NDArray[np.int64]
    swapped: FloatArray
    features: FloatArray  # [N, F]

    def places(self, candidate: int) -> list[int]:
        """The sentences of one of them, ascending."""
        return sorted([*self.sure.tolist(), *self.others[self.swapped[candidate] > 0].tolist()])


class CandidateRanker(nn.Module):
    """Features of candidates -> the ROUGE-1 + ROUGE-2 F that is expected of each, up to a constant of the document."""

    def __init__(self, vocabulary_size: int, dropout: float):
        super().__init__()
        self.vocabulary_size = vocabulary_size
        sizes = (len(_FEATURES), _HIDDEN_SIZE, _HIDDEN_SIZE)
        hidden = [(nn.Linear(have, want), nn.GELU("tanh"), nn.Dropout(dropout)) for have, want in pairwise(sizes)]
        self.layers = nn.Sequential(
            *(layer for layers in hidden for layer in layers), nn.Linear(_HIDDEN_SIZE, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] -> [N]."""
        return _UNIT * self.layers(features).squeeze(1)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def best(self, candidates: Sequence[Candidates]) -> list[int]:
        """Which candidate of each document is expected to be best."""
        if not candidates:
            return []
        features = torch.from_numpy(np.concatenate([one.features for one in candidates]))
        expected = self(features.to(next(self.parameters()).device)).split([len(one.swapped) for one in candidates])
        return [int(values.argmax()) for values in expected]


def make_candidates(document: EncodedDocument, scores: FloatArray, size: int, vocabulary_size: int) -> Candidates:
    """The sets of `size` sentences to compare; a single one where there is nothing to choose.

    `scores`: [S] probabilities of the sentences that were read, at least one.
    """
    ids, owners = _tokens(document)
    order = np.argsort(-scores, kind="stable")
    ranked = _without_repeats(ids, document.sentence_tokens, order, size + _MOST_SWAPPED)
    size = min(size, len(ranked))
    sure, others = np.split(ranked, [max(0, size - _MOST_SWAPPED)])
    swapped = _swaps(size - len(sure), len(ranked) - size)
    features = _features(ids, owners, document.sentence_tokens, scores, sure, others, swapped, vocabulary_size)
    return Candidates(sure, others, swapped, features)


def _without_repeats(
    ids: npt.NDArray[Any], sentence_tokens: npt.NDArray[np.int32], order: npt.NDArray[np.int64], most: int
) -> npt.NDArray[np.int64]:
    """The first sentences of `order`, but those of which better ones have said more than _MOST_REPEATED."""
    stops = np.cumsum(sentence_tokens)
    kept: list[int] = []
    seen: set[tuple[int, ...]] = set()
    for place in order.tolist():
        own = ids[stops[place] - sentence_tokens[place] : stops[place]].tolist()
        trigrams = set(zip(own, own[1:], own[2:], strict=False))
        if len(trigrams & seen) <= _MOST_REPEATED * len(trigrams):
            kept.append(place)
            seen |= trigrams
        if len(kept) == most:
            break
    return np.array(kept, np.int64)


@cache
def _swaps(num_in: int, num_out: int) -> FloatArray:
    """[N, num_in + num_out] 0/1: the first `num_in`, and all sets that differ from them in at most _MOST_SWAPS."""
    rows = []
    for count in range(min(_MOST_SWAPS, num_in, num_out) + 1):
        for leaving, coming in product(combinations(range(num_in), count), combinations(range(num_out), count)):
            row = np.repeat(np.array([1, 0], np.float32), [num_in, num_out])
            row[list(leaving)] = 0
            row[[num_in + place for place in coming]] = 1
            rows.append(row)
    return np.stack(rows)


# Centre and spread of each feature on English news, so that they reach the network near 0 with a size near 1.
_FEATURES = (
    ("mean logit of the scores", -0.4, 1.0),
    ("mean score", 0.4, 0.2),
    ("log(tokens)", 5.0, 0.5),
    ("mean of log(1 + place of a sentence, from 0)", 1.8, 0.5),
    ("log(1 + first place)", 0.5, 0.6),
    ("share of the first three sentences", 0.3, 0.2),
    ("rarity / sum of the sentences' own", 0.75, 0.1),
    ("log(1 + rarity)", 3.6, 0.4),
    ("topicality / the document's", 0.75, 0.2),
    ("topicality / tokens", 0.15, 0.07),
    ("shared with the lead / the lead's rarity", 0.65, 0.25),
    ("log(sentences of the document)", 3.0, 0.5),
    ("log(sentences of the summary)", 1.7, 0.4),
    ("log(tokens of the document)", 6.3, 0.5),
)
_CENTRE, _SPREAD = (np.array(column, np.float32) for column in list(zip(*_FEATURES, strict=True))[1:])


def _features(
    ids: npt.NDArray[Any],
    owners: npt.NDArray[Any],
    sentence_tokens: npt.NDArray[np.int32],
    scores: FloatArray,
    sure: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    swapped: FloatArray,
    vocabulary_size: int,
) -> FloatArray:
    """[N, F] of `Candidates`. `ids`, `owners`: of `_tokens`.

    A token's rarity is the root of its place in the vocabulary, as in `surface.surface_features`; its topicality is
    rarity * log(occurrences in the document). Both are summed over the distinct tokens of a candidate.
    """
    distinct, token, occurrences = np.unique(ids, return_inverse=True, return_counts=True)
    rarity = np.sqrt(distinct / vocabulary_size)
    in_lead = np.zeros(len(distinct))
    in_lead[token[owners < _LEAD]] = 1
    weights = np.stack([rarity, rarity * np.log(occurrences), rarity * in_lead], axis=1).astype(np.float32)  # [V, 3]
    all_covered = np.maximum(weights.sum(axis=0), _SMALLEST)

    row = np.full(len(scores), -1)
    row[others] = np.arange(len(others))
    row[sure] = len(others)  # one for all of them: a document may have thousands
    rows = row[owners]
    has = np.zeros((len(others) + 1, len(distinct)), np.float32)  # [M + 1, V]
    has[rows[rows >= 0], token[rows >= 0]] = 1
    covered = np.minimum(swapped @ has[:-1] + has[-1], 1) @ weights  # [N, 3]

    chosen = np.concatenate([others, sure])
    score = np.clip(scores[chosen], _SMALLEST_SCORE, 1 - _SMALLEST_SCORE)
    places = np.log1p(chosen)
    own = has @ weights[:, 0]
    if len(sure):
        pairs = np.unique(owners[rows == len(others)] * len(distinct) + token[rows == len(others)])
        own[-1] = rarity[pairs % len(distinct)].sum()
    single = np.stack([np.log(score / (1 - score)), score, sentence_tokens[chosen], places, chosen < _LEAD])
    sums = swapped @ single[:, : len(others)].T + single[:, len(others) :].sum(axis=1)  # [N, 5]
    logit, score, tokens, place, leads = sums.T
    first = np.where(swapped > 0, places[: len(others)], np.inf).min(
        axis=1, initial=places[len(others) :].min(initial=np.inf)
    )
    size = len(sure) + swapped[0].sum()
    columns = (
        logit / size,
        score / size,
        np.log(np.maximum(tokens, 1)),
        place / size,
        first,
        leads / size,
        covered[:, 0] / np.maximum(swapped @ own[:-1] + own[-1], _SMALLEST),
        np.log1p(covered[:, 0]),
        covered[:, 1] / all_covered[1],
        covered[:, 1] / np.maximum(tokens, 1),
        covered[:, 2] / all_covered[2],
        math.log(len(scores)),
        math.log(size),
        math.log(max(1, len(ids))),
    )
    features = np.empty((len(swapped), len(_FEATURES)), np.float32)
    for index, column in enumerate(columns):
        features[:, index] = column
    return (features - _CENTRE) / _SPREAD


def _tokens(document: EncodedDocument) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The ids of what was read, without special tokens, and the sentence of each."""
    is_text = document.is_text
    return document.input_ids[is_text], document.token_sentences[is_text]


def choose_sentences(
    documents: Sequence[EncodedDocument],
    scores: Sequence[FloatArray],
    config: SelectionConfig,
    ranker: CandidateRanker | None,
) -> list[list[int]]:
    """Places of the sentences of each document's summary, ascending: the best candidate where there is a ranker,
    sentences are counted, and nothing is blocked; else what `select_sentences` takes.

    `scores`: [S] probabilities of the sentences that were read, a document.
    """
    if ranker is None or config.trigram_blocking or not config.counts_sentences:
        return [
            select_sentences(one, document.text, document.spans, document.sentence_tokens, document.language, config)
            for document, one in zip(documents, scores, strict=True)
        ]
    candidates = [
        make_candidates(document, one, sentence_budget(len(document.spans), config), ranker.vocabulary_size)
        for document, one in zip(documents, scores, strict=True)
    ]
    return [one.places(best) for one, best in zip(candidates, ranker.best(candidates), strict=True)]
