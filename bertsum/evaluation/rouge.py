"""ROUGE F-measures, equal to the reference implementation in Python (`rouge-score`) and several times as fast.

`rouge_lsum` takes one sentence a line, and is what BERTSUM papers call ROUGE-L. Lin 2004, "ROUGE: A Package for
Automatic Evaluation of Summaries"; where the paper leaves a choice, the reference implementation has made it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

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


def rouge(summaries: Sequence[str], references: Sequence[str], language: str = "en") -> list[Rouge]:
    """One score a pair, of words (of characters in Chinese, Japanese, Thai); both sides have one sentence a line.

    English goes through the Porter stemmer, as in the literature. Raises ConfigError where it is not installed.
    """
    return [
        _rouge(_lines(summary, language), _lines(reference, language))
        for summary, reference in zip(summaries, references, strict=True)
    ]


def mean_rouge(scores: Sequence[Rouge]) -> Rouge:
    """Mean over documents. Raises ValueError for none."""
    if not scores:
        raise ValueError("the mean of no ROUGE scores is undefined")
    total = len(scores)
    return Rouge(
        sum(score.rouge_1 for score in scores) / total,
        sum(score.rouge_2 for score in scores) / total,
        sum(score.rouge_lsum for score in scores) / total,
    )


def _lines(text: str, language: str) -> list[list[str]]:
    return [_tokens(line, language) for line in text.split("\n") if line]


def _tokens(text: str, language: str) -> list[str]:
    if language != "en":
        return words(text, language)
    return [_stem(word) for word in _ENGLISH_WORD.findall(text.lower())]


@lru_cache(2**16)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word)) if len(word) > _SHORT_WORD else word


@cache
def _stemmer() -> Any:
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise ConfigError("ROUGE of English needs nltk's stemmer: pip install 'bertsum[train]'") from error
    return PorterStemmer()


def _rouge(summary: Sequence[Sequence[str]], reference: Sequence[Sequence[str]]) -> Rouge:
    have, want = [[token for line in side for token in line] for side in (summary, reference)]
    return Rouge(
        _f_measure((Counter(have) & Counter(want)).total(), len(have), len(want)),
        _f_measure((_bigrams(have) & _bigrams(want)).total(), max(len(have) - 1, 0), max(len(want) - 1, 0)),
        _f_measure(_lcs_hits(summary, reference, have, want), len(have), len(want)),
    )


def _bigrams(tokens: Sequence[str]) -> Counter[tuple[str, str]]:
    return Counter(pairwise(tokens))


def _f_measure(hits: int, num_have: int, num_want: int) -> float:
    if not hits:
        return 0.0
    precision, recall = hits / num_have, hits / num_want
    return 100 * (2 * precision * recall / (precision + recall))


def _lcs_hits(
    summary: Sequence[Sequence[str]], reference: Sequence[Sequence[str]], have: Sequence[str], want: Sequence[str]
) -> int:
    """Tokens of the reference's sentences that are in a longest common subsequence with a sentence of the summary.

    No token counts more often than it occurs on either side.
    """
    room = Counter(have) & Counter(want)
    hits = 0
    for line in reference:
        union = set[int]().union(*(_lcs_positions(line, other) for other in summary))
        for position in sorted(union):
            if room[line[position]] > 0:
                room[line[position]] -= 1
                hits += 1
    return hits


def _lcs_positions(reference: Sequence[str], candidate: Sequence[str]) -> list[int]:
    """Positions in `reference` of one longest common subsequence: the one that the usual table leads to.

    Row i of the table is an int: bit j is 0 where its value at j + 1 is one more than at j (Hyyrö 2004, "Bit-parallel
    LCS-length computation revisited"). Words that are not in `candidate` would repeat the row before them.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(candidate):
        places[token] = places.get(token, 0) | 1 << place
    positions = [position for position, token in enumerate(reference) if token in places]
    full = (1 << len(candidate)) - 1
    rows = [full]
    for position in positions:
        row, matches = rows[-1], rows[-1] & places[reference[position]]
        rows.append(((row + matches) | (row - matches)) & full)
    found = []
    i, j = len(positions), len(candidate)
    while i and j:
        if places[reference[positions[i - 1]]] >> (j - 1) & 1:
            found.append(positions[i - 1])
            i, j = i - 1, j - 1
        elif j - 1 - _ones(rows[i], j - 1) > j - _ones(rows[i - 1], j):
            j -= 1
        else:
            i -= 1
    return found


def _ones(row: int, length: int) -> int:
    return (row & ((1 << length) - 1)).bit_count()
