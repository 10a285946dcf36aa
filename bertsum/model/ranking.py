"""Whole summaries, ranked: the sentences that are best together, in place of those that score best
one by one.

The best-scored sentences of a document may be long, or say the same thing; which words a summary
holds is a matter of all its sentences. So sets that differ from the best-scored sentences in a few
are compared as wholes (the candidates of Zhong et al. 2020, "Extractive Summarization as Text
Matching"), by a small network that has learned the ROUGE of such sets. It reads the scores, and
what can be counted in the tokens: length, position, and how much of what the document repeats, and
of its lead, the set covers (Lin & Bilmes 2011, "A Class of Submodular Functions for Document
Summarization"). It may also read which sentences state facts, and which quote or lean on others. So
it costs no second pass of an encoder, and no GPU waits for it.

Shapes: S sentences, K + M of them ranked, N candidates, T tokens, V distinct tokens of a document,
F features.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bertsum.config import SelectionConfig
from bertsum.model.selection import select_sentences, sentence_budget
from bertsum.text.encoder import EncodedDocument
from bertsum.text.surface_features import LEAD_SENTENCES, SMALLEST_RARITY

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

# Of the ranked sentences, the last few inside the summary and the first few outside may be swapped.
# 5 and 3 make 226 candidates of a summary of 5 sentences or more, and 381 with a sentence fewer.
_MOST_SWAPPED = 5  # sentences on each side
_MOST_SWAPS = 3  # at once
_MOST_REPEATED = 1 / 3  # share of the trigrams of a sentence that better ones may have
_SMALLEST_SCORE = 1e-4  # of a logit that is finite
_HIDDEN_SIZE = 64
# ROUGE by which candidates of a document differ, about: new weights give numbers near 1.
_UNIT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sets:
    """Sets of a document's sentences, the best-scored ones first.

    `sure`: [K] sentences that are in all sets.
    `others`: [M] sentences that are in some sets, best score first.
    `swapped`: [N, M] 1 where set n has the sentence others[m], else 0.
    """

    sure: LongArray
    others: LongArray
    swapped: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates(_Sets):
    """Sets of a document's sentences, and what the ranker reads of each."""

    features: FloatArray  # [N, F]

    def sentences(self, candidate: int) -> list[int]:
        """Indices of a candidate's sentences, ascending."""
        chosen = self.others[self.swapped[candidate] > 0]
        return sorted([*self.sure.tolist(), *chosen.tolist()])


# Centre and spread of each feature on English news, so that they reach the network near 0 with a
# size near 1. Rarity and topicality: see `_cover`.
_FEATURES = (
    ("mean logit of the scores", -0.4, 1.0),
    ("mean score", 0.4, 0.2),
    ("log(tokens)", 5.0, 0.5),
    ("mean of log(1 + index of a sentence)", 1.8, 0.5),
    ("log(1 + first index)", 0.5, 0.6),
    ("share of the first three sentences", 0.3, 0.2),
    ("rarity / sum over the sentences alone", 0.75, 0.1),
    ("log(1 + rarity)", 3.6, 0.4),
    ("topicality / the document's", 0.75, 0.2),
    ("topicality / tokens", 0.15, 0.07),
    ("shared with the lead / the lead's rarity", 0.65, 0.25),
    ("log(sentences of the document)", 3.0, 0.5),
    ("log(sentences of the summary)", 1.7, 0.4),
    ("log(tokens of the document)", 6.3, 0.5),
)
# Of the text itself; see `_text_marks`.
_TEXT_FEATURES = (
    ("numbers / tokens", 0.015, 0.02),
    ("capitalized words / tokens", 0.1, 0.05),
    ("share of sentences that quote", 0.25, 0.3),
    ("share of sentences that lean on the one before", 0.15, 0.2),
)
_NUMBER = re.compile(r"\d+")
# A quotation mark; of apostrophes those before a word, not within one. All marks come first in the
# pattern, so that a sentence without any is left quickly.
_QUOTATION = re.compile(r"[\"“”„«»「『'‘](?:(?<!['‘])|(?<!\w.)\w)")
# English first words of sentences that say little alone.
_LEANING = re.compile(r"(?:He|She|It|They|But|And|This|That|These|His|Her|I|We|You)\b")


class CandidateRanker(nn.Module):
    """Features of candidates -> the ROUGE-1 + ROUGE-2 F that is expected of each.

    The number is right up to a constant of the document.
    """

    def __init__(
        self,
        vocabulary_size: int,
        dropout: float,
        *,
        fewer_sentences: int = 0,
        reads_text: bool = False,
    ):
        """Set up for candidates as `make_candidates` makes them with the same values."""
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.fewer_sentences = fewer_sentences
        self.reads_text = reads_text
        self.layers = nn.Sequential(
            nn.Linear(len(_feature_scales(reads_text)), _HIDDEN_SIZE),
            nn.GELU("tanh"),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN_SIZE, _HIDDEN_SIZE),
            nn.GELU("tanh"),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN_SIZE, 1, bias=False),  # a constant of the document decides nothing
        )

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] -> [N]."""
        expected: Tensor = self.layers(features)
        return _UNIT * expected.squeeze(1)

    @torch.inference_mode()
    def best(self, candidates: Sequence[Candidates]) -> list[int]:
        """Index of the candidate of each document that is expected to be best."""
        if not candidates:
            return []
        features = torch.from_numpy(np.concatenate([document.features for document in candidates]))
        expected = self(features.to(next(self.parameters()).device))
        by_document = expected.split([len(document.features) for document in candidates])
        return [int(values.argmax()) for values in by_document]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadText:
    """Tokens of a document that were read, without special ones."""

    ids: IntArray  # [T]
    sentences: IntArray  # [T] sentence of each token
    sentence_tokens: IntArray  # number of tokens of each sentence, also of those beyond S


def make_candidates(
    document: EncodedDocument,
    scores: FloatArray,
    size: int,
    vocabulary_size: int,
    *,
    fewer_sentences: int = 0,
    reads_text: bool = False,
) -> Candidates:
    """Make the sets of sentences to compare; a single one where there is nothing to choose.

    `scores`: [S] probabilities of the sentences that were read, at least one.
    `size`: sentences of a set, at least one.
    `fewer_sentences`: also sets with up to so many fewer, but at least one.
    `reads_text`: with the features of the text itself.
    """
    is_text = document.is_text
    text = _ReadText(
        ids=document.input_ids[is_text],
        sentences=document.token_sentences[is_text],
        sentence_tokens=document.sentence_tokens,
    )
    # the best sentences, without those that repeat what better ones say
    stops = np.cumsum(text.sentence_tokens)
    kept: list[int] = []
    seen: set[tuple[int, ...]] = set()
    for index in np.argsort(-scores, kind="stable").tolist():
        ids = text.ids[stops[index] - text.sentence_tokens[index] : stops[index]].tolist()
        trigrams = set(zip(ids, ids[1:], ids[2:], strict=False))
        if len(trigrams & seen) <= _MOST_REPEATED * len(trigrams):
            kept.append(index)
            seen |= trigrams
        if len(kept) == size + _MOST_SWAPPED:
            break
    ranked = np.array(kept, np.int64)
    size = min(size, len(ranked))
    sure, others = np.split(ranked, [max(0, size - _MOST_SWAPPED)])
    swapped = _swaps(size - len(sure), len(ranked) - size, min(fewer_sentences, size - 1))
    sets = _Sets(sure=sure, others=others, swapped=swapped)
    columns = _features(text, scores, sets, vocabulary_size)
    if reads_text:
        columns += _text_features(document, sets)
    features = np.empty((len(swapped), len(columns)), np.float32)
    for index, column in enumerate(columns):
        features[:, index] = column
    scales = _feature_scales(reads_text)
    features = (features - scales[:, 0]) / scales[:, 1]
    return Candidates(sure=sure, others=others, swapped=swapped, features=features)


@cache
def _swaps(num_in: int, num_out: int, fewer: int) -> FloatArray:
    """[N, num_in + num_out] sets that the first `num_in` become when up to _MOST_SWAPS of them go.

    As many others come as go, or up to `fewer` less. Of 2 in and 1 out: [1, 1, 0], [0, 1, 1],
    [1, 0, 1]; with `fewer` 1 also [0, 1, 0], [1, 0, 0], [0, 0, 1].
    """
    rows = []
    for missing in range(fewer + 1):
        for num_added in range(min(_MOST_SWAPS - missing, num_in - missing, num_out) + 1):
            leaving = combinations(range(num_in), num_added + missing)
            coming = combinations(range(num_in, num_in + num_out), num_added)
            for removed, added in product(leaving, coming):
                row = np.repeat(np.array([1, 0], np.float32), [num_in, num_out])
                row[list(removed)] = 0
                row[list(added)] = 1
                rows.append(row)
    return np.stack(rows)


@cache
def _feature_scales(reads_text: bool) -> FloatArray:
    """[F, 2] centre and spread of each feature."""
    features = _FEATURES + _TEXT_FEATURES if reads_text else _FEATURES
    return np.array([(centre, spread) for _, centre, spread in features], np.float32)


def _features(
    text: _ReadText, scores: FloatArray, sets: _Sets, vocabulary_size: int
) -> list[FloatArray | float]:
    """[N] or a number for all sets: what _FEATURES names."""
    size = len(sets.sure) + sets.swapped.sum(axis=1, dtype=np.float64)  # [N]
    num_others = len(sets.others)

    # What adds up over sentences: of the others, those that are swapped in, and all sure ones.
    chosen = np.concatenate([sets.others, sets.sure])  # [M + K]
    score = np.clip(scores[chosen], _SMALLEST_SCORE, 1 - _SMALLEST_SCORE)
    log_index = np.log1p(chosen)
    in_lead = chosen < LEAD_SENTENCES
    logit = np.log(score / (1 - score))
    single = np.stack(
        [logit, score, text.sentence_tokens[chosen], log_index, in_lead]
    )  # [5, M + K]
    sums = sets.swapped @ single[:, :num_others].T + single[:, num_others:].sum(axis=1)  # [N, 5]
    logits, score_sum, tokens, log_indices, leads = sums.T

    # The first sentence of a set is a sure one or the smallest of those that it has of the others.
    first_sure = log_index[num_others:].min(initial=np.inf)
    other_indices = np.where(sets.swapped > 0, log_index[:num_others], np.inf)
    first = other_indices.min(axis=1, initial=first_sure)

    cover = _cover(text, sets, len(scores), vocabulary_size)
    return [
        logits / size,
        score_sum / size,
        np.log(np.maximum(tokens, 1)),
        log_indices / size,
        first,
        leads / size,
        cover.rarity / np.maximum(cover.summed_rarity, SMALLEST_RARITY),
        np.log1p(cover.rarity),
        cover.topicality / cover.of_document[1],
        cover.topicality / np.maximum(tokens, 1),
        cover.lead_rarity / cover.of_document[2],
        math.log(len(scores)),
        np.log(size),
        math.log(max(1, len(text.ids))),
    ]


def _text_features(document: EncodedDocument, sets: _Sets) -> list[FloatArray]:
    """[N] each: what _TEXT_FEATURES names."""
    marks = []
    for index in [*sets.others.tolist(), *sets.sure.tolist()]:
        start, stop = document.spans[index]
        marks.append(_text_marks(document.text[start:stop], int(document.sentence_tokens[index])))
    single = np.array(marks, np.float32)  # [M + K, 6]
    num_others = len(sets.others)
    sums = sets.swapped @ single[:num_others] + single[num_others:].sum(axis=0)  # [N, 6]
    sentences, tokens, numbers, capitalized, quoting, leaning = sums.T
    tokens = np.maximum(tokens, 1)
    return [numbers / tokens, capitalized / tokens, quoting / sentences, leaning / sentences]


def _text_marks(sentence: str, num_tokens: int) -> tuple[int, ...]:
    """What _TEXT_FEATURES count in a sentence, after the sentence itself and its tokens.

    'He said "no" to Ann Lee in 2020.' of 12 tokens: 1, 12, 1, 2, 1, 1.
    """
    # The first word of a sentence has a capital anyway, and so has "I".
    capitalized = [word for word in sentence.split()[1:] if len(word) > 1 and word[0].isupper()]
    return (
        1,
        num_tokens,
        len(_NUMBER.findall(sentence)),
        len(capitalized),
        _QUOTATION.search(sentence) is not None,
        _LEANING.match(sentence) is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cover:
    """What the distinct tokens of each set weigh."""

    rarity: FloatArray  # [N]
    topicality: FloatArray  # [N]
    lead_rarity: FloatArray  # [N] of tokens that the lead has
    summed_rarity: FloatArray  # [N] the sentences' rarities, added: a repeated token counts twice
    of_document: FloatArray  # [3] rarity, topicality and lead rarity of the whole document


def _cover(text: _ReadText, sets: _Sets, num_sentences: int, vocabulary_size: int) -> _Cover:
    """Weigh the distinct tokens of each set.

    Rarity of a token: sqrt(id / vocabulary size), as in `text.surface_features`. Topicality:
    rarity * log(occurrences in the document).

    With sentences "a b", "b c" and "a c" as others[0], others[1] and the only sure one, and
    distinct tokens a, b, c:

        row       [0, 1, 2]                             of each sentence
        has       [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
        swapped   [[1, 0], [0, 1]]                      the sets {0, 2} and {1, 2}
        covered   min([[2, 1, 1], [1, 1, 2]], 1) @ weights
    """
    distinct, token, occurrences = np.unique(text.ids, return_inverse=True, return_counts=True)
    rarity = np.sqrt(distinct / vocabulary_size)  # [V]
    in_lead = np.zeros(len(distinct))
    in_lead[token[text.sentences < LEAD_SENTENCES]] = 1
    weights = np.stack([rarity, rarity * np.log(occurrences), rarity * in_lead], axis=1)  # [V, 3]
    weights = weights.astype(np.float32)

    # Sure sentences share one row: no set goes without them, and a document may have thousands.
    num_others = len(sets.others)
    row = np.full(num_sentences, -1)  # [S] -1: in no set
    row[sets.others] = np.arange(num_others)
    row[sets.sure] = num_others
    rows = row[text.sentences]  # [T]
    has = np.zeros((num_others + 1, len(distinct)), np.float32)  # [M + 1, V] 1: the row has it
    has[rows[rows >= 0], token[rows >= 0]] = 1
    # A token counts once, however many sentences of the set have it.
    covered = np.minimum(sets.swapped @ has[:-1] + has[-1], 1) @ weights  # [N, 3]

    alone = has @ weights[:, 0]  # [M + 1] rarity of each row alone
    if len(sets.sure):
        # Their row says what they have together; wanted is the sum over each of them. One number
        # for each pair (sentence, token) leaves each pair once.
        is_sure = rows == num_others
        pairs = np.unique(text.sentences[is_sure] * len(distinct) + token[is_sure])
        alone[-1] = rarity[pairs % len(distinct)].sum()
    return _Cover(
        rarity=covered[:, 0],
        topicality=covered[:, 1],
        lead_rarity=covered[:, 2],
        summed_rarity=sets.swapped @ alone[:-1] + alone[-1],
        of_document=np.maximum(weights.sum(axis=0), SMALLEST_RARITY),
    )


def choose_sentences(
    documents: Sequence[EncodedDocument],
    scores: Sequence[FloatArray],
    config: SelectionConfig,
    ranker: CandidateRanker | None,
) -> list[list[int]]:
    """Indices of the sentences of each document's summary, ascending.

    The best candidate where there is a ranker, sentences are counted, and nothing is blocked; else
    what `select_sentences` takes.

    `scores`: of each document, [S] probabilities of the sentences that were read.
    """
    scored = zip(documents, scores, strict=True)
    if ranker is None or config.trigram_blocking or not config.counts_sentences:
        chosen = []
        for document, values in scored:
            sentences = select_sentences(
                values,
                document.text,
                document.spans,
                sentence_tokens=document.sentence_tokens,
                language=document.language,
                config=config,
            )
            chosen.append(sentences)
        return chosen
    candidates = []
    for document, values in scored:
        sets = make_candidates(
            document,
            values,
            sentence_budget(len(document.spans), config),
            ranker.vocabulary_size,
            fewer_sentences=0 if config.exact_size else ranker.fewer_sentences,
            reads_text=ranker.reads_text,
        )
        candidates.append(sets)
    best = ranker.best(candidates)
    return [sets.sentences(index) for sets, index in zip(candidates, best, strict=True)]
