"""Reference summary -> the sentences that an extractive summary should hold.

`greedy_oracle`: Nallapati et al. 2017 ("SummaRuNNer", section 3) with the objective of Liu & Lapata
2019. It adds the sentence that raises ROUGE-1 F + ROUGE-2 F against the reference most, over sets
of n-grams, and stops when none does. `best_combination`: the same objective over all combinations.

A set of n-grams is an int with a bit for each n-gram of the document: a union is `|`, and its size
a `bit_count`. Trying all combinations would be slow with sets of tuples. Of the sentences "a b a"
and "b c" the unigrams a, b, c get the bits 1, 2, 4; so the sentences are 3 and 6, and together 7.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb

from bertsum.text.words import ngrams, words


def greedy_oracle(
    sentences: Sequence[str], summary: str, language: str, max_sentences: int
) -> list[int]:
    """Indices of the chosen sentences, ascending.

    Empty when no sentence shares a word with the summary. Of sentences that raise the score
    equally, the first is taken.
    """
    overlaps = _overlaps(sentences, summary, language)
    chosen: list[int] = []
    covered = [0] * len(overlaps)  # n-grams of the chosen sentences, for each n
    best = 0.0
    useful = _sharing(overlaps, len(sentences))
    while len(chosen) < max_sentences and useful:
        best_index: int | None = None
        for index in useful:
            score = _score(overlaps, _add(overlaps, covered, index))
            if score > best:  # not >=: of equal ones the first stays
                best, best_index = score, index
        if best_index is None:
            break
        chosen.append(best_index)
        covered = _add(overlaps, covered, best_index)
    return sorted(chosen)


def best_combination(
    sentences: Sequence[str], summary: str, language: str, max_sentences: int, max_combinations: int
) -> list[int] | None:
    """The best of all sets of at most `max_sentences` sentences.

    None when there are more than `max_combinations` sets. Of equally good ones, the smallest, then
    the first. Only sentences that share a word with the summary count: any other one makes the
    chosen text longer, and so the score lower.
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
    """What the oracles raise, of each group of sentences: ROUGE-1 F + ROUGE-2 F, from 0 to 2."""
    overlaps = _overlaps(sentences, summary, language)
    scores = []
    for group in groups:
        scores.append(_score(overlaps, [_union(overlap.masks, group) for overlap in overlaps]))
    return scores


class _Overlap:
    """n-grams of a document's sentences and of the summary, as bits.

    - `masks`: [S] the n-grams of each sentence
    - `wanted`: those of the summary that are in a sentence, too
    - `num_wanted`: how many the summary has, those that are in no sentence included
    """

    def __init__(
        self, sentences: Sequence[Sequence[str]], summary: Sequence[Sequence[str]], n: int
    ) -> None:
        bits: dict[tuple[str, ...], int] = {}  # number of the bit of each n-gram
        self.masks = [_mask(tokens, n, bits) for tokens in sentences]
        wanted = frozenset[tuple[str, ...]]().union(*(ngrams(line, n) for line in summary))
        self.num_wanted = len(wanted)
        self.wanted = sum(1 << bits[gram] for gram in wanted if gram in bits)


def _overlaps(sentences: Sequence[str], summary: str, language: str) -> list[_Overlap]:
    """Of unigrams and of bigrams.

    No bigram reaches across lines of the summary, since a line is a sentence.
    """
    tokens = [words(sentence, language) for sentence in sentences]
    lines = [words(line, language) for line in summary.splitlines()]
    return [_Overlap(tokens, lines, n) for n in (1, 2)]


def _sharing(overlaps: Sequence[_Overlap], num_sentences: int) -> list[int]:
    """Indices of the sentences that share a word with the summary."""
    unigrams = overlaps[0]
    return [index for index in range(num_sentences) if unigrams.masks[index] & unigrams.wanted]


def _mask(tokens: Sequence[str], n: int, bits: dict[tuple[str, ...], int]) -> int:
    mask = 0
    for gram in zip(*(tokens[i:] for i in range(n)), strict=False):
        mask |= 1 << bits.setdefault(gram, len(bits))
    return mask


def _add(overlaps: Sequence[_Overlap], covered: Sequence[int], index: int) -> list[int]:
    """The n-grams of `covered` and of one more sentence, for each n."""
    return [overlap.masks[index] | covered[i] for i, overlap in enumerate(overlaps)]


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
            # F = 2 P R / (P + R) with P = hits / chosen and R = hits / wanted, which is this
            hits = (mask & overlap.wanted).bit_count()
            score += 2 * hits / (mask.bit_count() + overlap.num_wanted)
    return score
