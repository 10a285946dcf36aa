"""ROUGE F-measures, equal to the Python reference (`rouge-score`) and several times as fast.

`rouge_lsum` takes one sentence a line, and is what BERTSUM papers call ROUGE-L. Lin 2004, "ROUGE: A
Package for Automatic Evaluation of Summaries"; where the paper leaves a choice, this follows the
reference implementation.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Protocol, cast

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
    """Score each pair of a summary and its reference; both have one sentence a line.

    Tokens are words, and characters in Chinese, Japanese and Thai. English words go through the
    Porter stemmer, as in the literature. Raises ConfigError where the stemmer is not installed.
    """
    scores = []
    for summary, reference in zip(summaries, references, strict=True):
        scores.append(_score(_token_lines(summary, language), _token_lines(reference, language)))
    return scores


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


def _token_lines(text: str, language: str) -> list[list[str]]:
    """Tokens of each line that is not empty."""
    token_lines = []
    for line in filter(None, text.split("\n")):
        if language == "en":
            token_lines.append([_stem(word) for word in _ENGLISH_WORD.findall(line.lower())])
        else:
            token_lines.append(words(line, language))
    return token_lines


@lru_cache(2**16)
def _stem(word: str) -> str:
    return _stemmer().stem(word) if len(word) > _SHORT_WORD else word


@cache
def _stemmer() -> _Stemmer:
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise ConfigError(
            "ROUGE of English needs nltk's stemmer: pip install 'bertsum[train]'"
        ) from error
    return cast(_Stemmer, PorterStemmer())


def _score(summary: Sequence[Sequence[str]], reference: Sequence[Sequence[str]]) -> Rouge:
    summary_tokens = list(chain.from_iterable(summary))
    reference_tokens = list(chain.from_iterable(reference))
    sizes = len(summary_tokens), len(reference_tokens)
    # bigrams reach across the ends of sentences, as in the reference implementation
    summary_bigrams = Counter(pairwise(summary_tokens))
    reference_bigrams = Counter(pairwise(reference_tokens))
    bigram_sizes = summary_bigrams.total(), reference_bigrams.total()
    # the intersection of counters takes the smaller count: a repeated word earns nothing
    common = Counter(summary_tokens) & Counter(reference_tokens)
    return Rouge(
        _f_measure(common.total(), *sizes),
        _f_measure((summary_bigrams & reference_bigrams).total(), *bigram_sizes),
        _f_measure(_lcs_hits(summary, reference, common), *sizes),
    )


def _f_measure(hits: int, num_summary: int, num_reference: int) -> float:
    if not hits:
        return 0.0
    precision, recall = hits / num_summary, hits / num_reference
    return 100 * (2 * precision * recall / (precision + recall))


def _lcs_hits(
    summary: Sequence[Sequence[str]], reference: Sequence[Sequence[str]], common: Counter[str]
) -> int:
    """Count tokens of reference sentences that are in a common subsequence with the summary.

    That is a longest one with any sentence of the summary. No token counts more often than
    `common` has it, which is how often it occurs on both sides; the counts in it are used up.
    """
    hits = 0
    for line in reference:
        positions: set[int] = set()
        for other in summary:
            positions.update(_lcs_positions(line, other))
        for position in sorted(positions):
            if common[line[position]] > 0:
                common[line[position]] -= 1
                hits += 1
    return hits


def _lcs_positions(reference: Sequence[str], candidate: Sequence[str]) -> list[int]:
    """Positions in `reference` of a longest common subsequence with `candidate`.

    Where there are several, it is the one that a walk through the usual table of lengths leads to.
    Row i of the table is an int: bit j is 0 where the length at j + 1 is one more than at j (Hyyrö
    2004, "Bit-parallel LCS-length computation revisited").
    """
    # Bits of a token are the positions in `candidate` that hold it: of "a b a", a has 0b101.
    bits_of: dict[str, int] = {}
    for index, token in enumerate(candidate):
        bits_of[token] = bits_of.get(token, 0) | 1 << index
    # A token that is not in `candidate` would only repeat the row before it.
    positions = [position for position, token in enumerate(reference) if token in bits_of]
    full = (1 << len(candidate)) - 1
    rows = [full]  # no token read yet: every length is 0
    for position in positions:
        row = rows[-1]
        # The carry of the sum moves each step of the lengths down to the next match below it.
        # With candidate "a b a": after "a", row 0b111 becomes 0b110, so the lengths are 1, 1, 1.
        matches = row & bits_of[reference[position]]
        rows.append(((row + matches) | (row - matches)) & full)
    # Walk back from the last corner. Where the tokens are equal they belong to the subsequence;
    # else go to the neighbour with the longer one, which has fewer ones in its row: a length is
    # the number of zeros among the first j bits, j - ones.
    lcs = []
    i, j = len(positions), len(candidate)
    while i and j:
        if bits_of[reference[positions[i - 1]]] >> (j - 1) & 1:
            lcs.append(positions[i - 1])
            i, j = i - 1, j - 1
        elif j - 1 - _ones(rows[i], j - 1) > j - _ones(rows[i - 1], j):
            j -= 1
        else:
            i -= 1
    return lcs


def _ones(row: int, length: int) -> int:
    """Number of ones among the lowest `length` bits."""
    return (row & ((1 << length) - 1)).bit_count()
