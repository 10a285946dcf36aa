"""Reference summary -> the sentences that an extractive summary should hold.

`greedy_oracle`: Nallapati et al. 2017 ("SummaRuNNer", section 3) with the objective of Liu & Lapata 2019: add, one at a
time, the sentence that raises ROUGE-1 F + ROUGE-2 F against the reference most, over sets of n-grams; stop when none
does. `best_combination`: the same objective over all combinations.

A set of n-grams is an int with a bit for each n-gram of the document, so that a union is `|` and its size a
`bit_count`: trying all combinations would be slow with sets of tuples.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb

from bertsum.text.words import ngrams, words


def greedy_oracle(
    sentences: Sequence[str], summary: str, language: str, max_sentences: int
) -> list[int]:
    """Indices of the chosen sentences, ascending; empty when no sentence shares a word with the summary.

    Of sentences that raise the score equally, the first is taken.
    """
    overlaps = _overlaps(sentences, summary, language)
    chosen: list[int] = []
    covered = [0] * len(overlaps)
    best = 0.0
    useful = _sharing(overlaps, len(sentences))
    while len(chosen) < max_sentences and useful:
        scores = [_score(overlaps, [o.masks[index] | have for o, have in zip(overlaps, covered, strict=True)])
                  for index in useful]  # fmt: skip
        score = max(scores)
        if score <= best:
            break
        best = score
        chosen.append(useful[scores.index(score)])
        covered = [o.masks[chosen[-1]] | have for o, have in zip(overlaps, covered, strict=True)]
    return sorted(chosen)


def best_combination(
    sentences: Sequence[str], summary: str, language: str, max_sentences: int, max_combinations: int
) -> list[int] | None:
    """The best of all sets of at most `max_sentences` sentences, or None when there are more than `max_combinations`.

    Of equally good ones, the smallest, then the first. Only sentences that share a word with the summary count: any
    other adds to what the summary is divided by, and to nothing else.
    """
    overlaps = _overlaps(sentences, summary, language)
    useful = _sharing(overlaps, len(sentences))
    sizes = range(1, min(max_sentences, len(useful)) + 1)
    if sum(comb(len(useful), size) for size in sizes) > max_combinations:
        return None
    best = 0.0
    chosen: tuple[int, ...] = ()
    for size in sizes:
        for group in combinations(useful, size):
            score = _score(overlaps, [_union(o.masks, group) for o in overlaps])
            if score > best:
                best, chosen = score, group
    return list(chosen)


def rouge_of_sets(
    sentences: Sequence[str], summary: str, language: str, groups: Sequence[Sequence[int]]
) -> list[float]:
    """What the oracles raise, ROUGE-1 F + ROUGE-2 F over sets of n-grams from 0 to 2, of some groups of sentences."""
    overlaps = _overlaps(sentences, summary, language)
    return [
        _score(overlaps, [_union(overlap.masks, group) for overlap in overlaps]) for group in groups
    ]


class _Overlap:
    """n-grams of a document's sentences and of the summary, as bits. The summary's may be in no sentence."""

    def __init__(
        self, sentences: Sequence[Sequence[str]], summary: Sequence[Sequence[str]], n: int
    ) -> None:
        bits: dict[tuple[str, ...], int] = {}
        self.masks = [_mask(tokens, n, bits) for tokens in sentences]
        wanted = frozenset[tuple[str, ...]]().union(*(ngrams(line, n) for line in summary))
        self.num_wanted = len(wanted)
        self.wanted = sum(1 << bits[gram] for gram in wanted if gram in bits)


def _overlaps(sentences: Sequence[str], summary: str, language: str) -> list[_Overlap]:
    """Of unigrams and of bigrams, none of them across the lines of the summary: one sentence stands on each."""
    tokens = [words(sentence, language) for sentence in sentences]
    lines = [words(line, language) for line in summary.splitlines()]
    return [_Overlap(tokens, lines, n) for n in (1, 2)]


def _sharing(overlaps: Sequence[_Overlap], num_sentences: int) -> list[int]:
    unigrams = overlaps[0]
    return [index for index in range(num_sentences) if unigrams.masks[index] & unigrams.wanted]


def _mask(tokens: Sequence[str], n: int, bits: dict[tuple[str, ...], int]) -> int:
    mask = 0
    for gram in zip(*(tokens[i:] for i in range(n)), strict=False):
        mask |= 1 << bits.setdefault(gram, len(bits))
    return mask


def _union(masks: Sequence[int], group: Sequence[int]) -> int:
    union = 0
    for index in group:
        union |= masks[index]
    return union


def _score(overlaps: Sequence[_Overlap], have: Sequence[int]) -> float:
    """ROUGE-1 F + ROUGE-2 F of sets of n-grams."""
    score = 0.0
    for overlap, mask in zip(overlaps, have, strict=True):
        if mask and overlap.num_wanted:
            hits = (mask & overlap.wanted).bit_count()
            score += 2 * hits / (mask.bit_count() + overlap.num_wanted)
    return score
