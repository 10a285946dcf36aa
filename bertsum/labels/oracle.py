"""Reference summary -> the sentences that an extractive summary should hold.

`greedy_oracle`: Nallapati et al. 2017 ("SummaRuNNer", section 3) with the objective of Liu & Lapata
2019: add, one at a time, the sentence that raises ROUGE-1 F + ROUGE-2 F against the reference most,
over sets of n-grams; stop when none does. `best_combination`: the same objective over all
combinations.

A set of n-grams is an int with a bit for each n-gram of the document, so that a union is `|` and
its size a `bit_count`: trying all combinations would be slow with sets of tuples. With the
sentences "a b" and "b c", a is bit 0, b bit 1, c bit 2: masks 0b011 and 0b110, their union 0b111.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb

from bertsum.text.words import words


def greedy_oracle(
    sentences: Sequence[str], summary: str, language: str, max_sentences: int
) -> list[int]:
    """Choose at most `max_sentences` sentences one by one; return their indices, ascending.

    None is chosen when no sentence shares a word with the summary. Of sentences that raise the
    score equally, the first is taken.
    """
    document = _Document(sentences, summary, language)
    useful = document.useful_sentences()
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < max_sentences and useful:
        scores = [document.score([*chosen, index]) for index in useful]
        score = max(scores)
        # a sentence that is chosen already, or adds nothing, never raises the score
        if score <= best:
            break
        best = score
        chosen.append(useful[scores.index(score)])
    return sorted(chosen)


def best_combination(
    sentences: Sequence[str],
    summary: str,
    language: str,
    max_sentences: int,
    *,
    max_combinations: int,
) -> list[int] | None:
    """Choose the best of all sets of at most `max_sentences` sentences; return their indices.

    None when there are more than `max_combinations` sets. Of equally good ones, the smallest, then
    the first. Only sentences that share a word with the summary count: any other adds to what the
    summary is divided by, and to nothing else.
    """
    document = _Document(sentences, summary, language)
    useful = document.useful_sentences()
    sizes = range(1, min(max_sentences, len(useful)) + 1)
    if sum(comb(len(useful), size) for size in sizes) > max_combinations:
        return None
    best = 0.0
    best_group: tuple[int, ...] = ()
    for size in sizes:
        for group in combinations(useful, size):
            score = document.score(group)
            # not `>=`: of equal groups the smaller one came first
            if score > best:
                best, best_group = score, group
    return list(best_group)


class _Document:
    """Unigrams and bigrams of a document's sentences and of its summary.

    No bigram goes across the lines of the summary: one sentence is on each.
    """

    def __init__(self, sentences: Sequence[str], summary: str, language: str) -> None:
        tokens = [words(sentence, language) for sentence in sentences]
        lines = [words(line, language) for line in summary.splitlines()]
        self._unigrams = _Ngrams(tokens, lines, 1)
        self._bigrams = _Ngrams(tokens, lines, 2)

    def useful_sentences(self) -> list[int]:
        """Indices of the sentences that share a word with the summary."""
        wanted = self._unigrams.wanted
        return [index for index, mask in enumerate(self._unigrams.masks) if mask & wanted]

    def score(self, group: Sequence[int]) -> float:
        """ROUGE-1 F + ROUGE-2 F of a group of sentences."""
        return self._unigrams.f_measure(group) + self._bigrams.f_measure(group)


class _Ngrams:
    """n-grams of a document's sentences and of the summary, as bits."""

    def __init__(
        self, sentences: Sequence[Sequence[str]], summary: Sequence[Sequence[str]], n: int
    ) -> None:
        bits: dict[tuple[str, ...], int] = {}
        self.masks = [_mask(tokens, n, bits) for tokens in sentences]  # of each sentence
        # bits of all n-grams so far: with 3 of them 0b111
        in_document = (1 << len(bits)) - 1
        wanted = 0
        for line in summary:
            wanted |= _mask(line, n, bits)  # adds bits for what is in no sentence
        self.num_wanted = wanted.bit_count()
        self.wanted = wanted & in_document

    def f_measure(self, group: Sequence[int]) -> float:
        have = 0
        for index in group:
            have |= self.masks[index]
        if not have or not self.num_wanted:
            return 0.0
        hits = (have & self.wanted).bit_count()
        # 2 P R / (P + R) with P = hits / have and R = hits / wanted
        return 2 * hits / (have.bit_count() + self.num_wanted)


def _mask(tokens: Sequence[str], n: int, bits: dict[tuple[str, ...], int]) -> int:
    """The n-grams of a sentence; new ones get the next bit."""
    mask = 0
    # for n = 2, "a b c" and "b c" side by side give (a, b) and (b, c)
    for gram in zip(*(tokens[i:] for i in range(n)), strict=False):
        mask |= 1 << bits.setdefault(gram, len(bits))
    return mask
