"""ROUGE F-measures, equal to the reference implementation in Python (`rouge-score`) and several
times as fast.

`rouge_lsum` takes one sentence a line, and is what BERTSUM papers call ROUGE-L. Lin 2004, "ROUGE: A
Package for Automatic Evaluation of Summaries"; where the paper leaves a choice, the reference
implementation has made it.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bertsum.errors import ConfigError
from bertsum.text.words import words

_ENGLISH_WORD = re.compile(r"[a-z0-9]+")
_SHORT_WORD = 3  # characters; words up to this length are not stemmed


@dataclass(frozen=True, slots=True)
class Rouge:
    """F-measures in percent: 100 is a perfect match."""

    rouge_1: float
    rouge_2: float
    rouge_lsum: float


class _Stemmer(Protocol):
    def stem(self, word: str) -> str: ...


def rouge(summaries: Sequence[str], references: Sequence[str], language: str = "en") -> list[Rouge]:
    """Score each summary against its reference; both have one sentence a line.

    Words are counted, characters in Chinese, Japanese and Thai. English goes through the Porter
    stemmer, as in the literature. Raises ConfigError where it is not installed.
    """
    scores = []
    for summary, reference in zip(summaries, references, strict=True):
        summary_lines, reference_lines = _lines(summary, language), _lines(reference, language)
        have = list(chain.from_iterable(summary_lines))
        want = list(chain.from_iterable(reference_lines))
        # A token or bigram counts as often as it occurs on both sides.
        shared = Counter(have) & Counter(want)
        shared_bigrams = Counter(pairwise(have)) & Counter(pairwise(want))
        num_bigrams = max(len(have) - 1, 0), max(len(want) - 1, 0)
        rouge_1 = _f_measure(shared.total(), len(have), len(want))
        rouge_2 = _f_measure(shared_bigrams.total(), *num_bigrams)
        lcs_hits = _lcs_hits(summary_lines, reference_lines, shared)
        scores.append(Rouge(rouge_1, rouge_2, _f_measure(lcs_hits, len(have), len(want))))
    return scores


def rouge_of_groups(
    sentences: Sequence[str], reference: str, language: str, members: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """[N] ROUGE-1 + ROUGE-2 F, from 0 to 2, of groups of S sentences, as `rouge` counts them.

    `members`: [N, S] 1 where group n has sentence s, else 0.

    Bigrams that go from a sentence to the next are left out: of the other ones each sentence has
    its own, so that all groups are one product of matrices.
    """
    lines = [list(chain.from_iterable(_lines(sentence, language))) for sentence in sentences]
    wanted = list(chain.from_iterable(_lines(reference, language)))
    num_tokens = members @ np.array([len(tokens) for tokens in lines], np.float32)  # [N]
    unigrams = _hits_of_groups(lines, wanted, members)
    bigrams = _hits_of_groups(
        [list(pairwise(tokens)) for tokens in lines], list(pairwise(wanted)), members
    )
    # 2 P R / (P + R) = 2 hits / (number of one side + number of the other), and of n tokens there
    # are n - 1 bigrams; without a hit the divisor may be 0
    total = num_tokens + len(wanted)
    scores = 2 * unigrams / np.maximum(total, 1) + 2 * bigrams / np.maximum(total - 2, 1)
    return scores.astype(np.float32)


def _hits_of_groups(
    lines: Sequence[Sequence[Hashable]],
    wanted: Sequence[Hashable],
    members: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """[N] how many of the wanted n-grams each group has.

    With "a b", "a c" and the wanted "a b a a": room [3, 1] for a and b, counts [[1, 1], [1, 0]], and
    both sentences together have min([2, 1], [3, 1]), 3 hits.
    """
    room = Counter(wanted)
    column = {gram: index for index, gram in enumerate(room)}
    counts = np.zeros((len(lines), len(room)), np.float32)  # [S, V]
    for row, grams in enumerate(lines):
        for gram in grams:
            if gram in column:
                counts[row, column[gram]] += 1
    most = np.array(list(room.values()), np.float32)
    hits: npt.NDArray[np.float32] = np.minimum(members @ counts, most).sum(axis=1)
    return hits


def mean_rouge(scores: Sequence[Rouge]) -> Rouge:
    """Mean over documents. Raises ValueError for none."""
    if not scores:
        raise ValueError("the mean of no ROUGE scores is undefined")
    total = len(scores)
    return Rouge(
        rouge_1=sum(score.rouge_1 for score in scores) / total,
        rouge_2=sum(score.rouge_2 for score in scores) / total,
        rouge_lsum=sum(score.rouge_lsum for score in scores) / total,
    )


def _lines(text: str, language: str) -> list[list[str]]:
    """Tokens of each line; empty lines are left out."""
    lines = [line for line in text.split("\n") if line]
    if language != "en":
        return [words(line, language) for line in lines]
    return [list(map(_stem, _ENGLISH_WORD.findall(line.lower()))) for line in lines]


# Texts repeat their words, and stemming one is slow.
@lru_cache(2**16)
def _stem(word: str) -> str:
    return _stemmer().stem(word) if len(word) > _SHORT_WORD else word


@cache
def _stemmer() -> _Stemmer:
    """nltk's Porter stemmer, which not all who import this module need."""
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise ConfigError(
            "ROUGE of English needs nltk's stemmer: pip install 'bertsum[train]'"
        ) from error
    stemmer: _Stemmer = PorterStemmer()
    return stemmer


def _f_measure(hits: int, num_have: int, num_want: int) -> float:
    if not hits:
        return 0.0
    # the harmonic mean: with 2 hits, 4 words and 3 wanted, 1/2 and 2/3 give 57.1 percent
    precision, recall = hits / num_have, hits / num_want
    return 100 * (2 * precision * recall / (precision + recall))


def _lcs_hits(
    summary: Sequence[Sequence[str]], reference: Sequence[Sequence[str]], room: Counter[str]
) -> int:
    """Count tokens of the reference that a summary sentence has in the same order.

    Those are the tokens of each sentence of the reference that are in a longest common subsequence
    with a sentence of the summary. `room`: how often each token may count, which is used up.
    """
    hits = 0
    for line in reference:
        matched: set[int] = set()
        for other in summary:
            matched.update(_lcs_positions(line, other))
        # each position once, though several sentences of the summary may have it
        for position in sorted(matched):
            if room[line[position]] > 0:
                room[line[position]] -= 1
                hits += 1
    return hits


def _lcs_positions(reference: Sequence[str], candidate: Sequence[str]) -> list[int]:
    """Positions in `reference` of one longest common subsequence: that of the usual table.

    The usual table holds at (i, j) the length for the first i words of `reference` and the first j
    of `candidate`. Here row i is an int: bit j is 0 where the table's value at j + 1 is one more
    than at j (Hyyrö 2004, "Bit-parallel LCS-length computation revisited").

    reference "a b", candidate "b a": row 0 is 0b11, row 1 is 0b01 (values 0, 0, 1), and row 2 is
    0b10 (values 0, 1, 1).
    """
    # Bit j is 1 where the word is candidate[j].
    masks: dict[str, int] = {}
    for index, token in enumerate(candidate):
        masks[token] = masks.get(token, 0) | 1 << index
    # Words that are not in `candidate` would repeat the row before them.
    shared = [position for position, token in enumerate(reference) if token in masks]
    all_bits = (1 << len(candidate)) - 1
    rows = [all_bits]
    for position in shared:
        row = rows[-1]
        matches = row & masks[reference[position]]
        rows.append(((row + matches) | (row - matches)) & all_bits)

    # Back from the last cell: along a match, else to the larger of the cells to the left and above.
    # The value of a cell is the number of zeros below bit j, so j less the number of ones.
    positions = []
    i, j = len(shared), len(candidate)
    while i and j:
        if masks[reference[shared[i - 1]]] >> (j - 1) & 1:
            positions.append(shared[i - 1])
            i, j = i - 1, j - 1
        elif (j - 1) - _ones(rows[i], j - 1) > j - _ones(rows[i - 1], j):
            j -= 1
        else:
            i -= 1
    return positions


def _ones(row: int, length: int) -> int:
    """Number of ones among the lowest `length` bits."""
    return (row & ((1 << length) - 1)).bit_count()
