"""Reference summary -> sentence labels: the greedy oracle of extractive summarization.

Nallapati et al. 2017 ("SummaRuNNer", section 3) with the objective of Liu & Lapata 2019: add, one at a time, the
sentence that raises ROUGE-1 F + ROUGE-2 F against the reference most, over sets of n-grams; stop when none does.
"""

import re
import unicodedata
from collections.abc import Sequence

from bertsum.sentences import UNSPACED_LANGUAGES

Ngrams = frozenset[tuple[str, ...]]

# Python's \w leaves out combining marks, so it would cut a Hindi word at each of its vowel signs.
_MARKS = "".join(chr(code) for code in range(0x10000) if unicodedata.category(chr(code))[0] == "M")
_WORD = re.compile(rf"[\w{_MARKS}]+")


def words(text: str, language: str) -> list[str]:
    """Lower-cased words without punctuation; characters in languages that do not space words."""
    found: list[str] = _WORD.findall(text.lower())
    return [character for word in found for character in word] if language in UNSPACED_LANGUAGES else found


def ngrams(tokens: Sequence[str], n: int) -> Ngrams:
    """The set of runs of n tokens."""
    return frozenset(zip(*(tokens[i:] for i in range(n)), strict=False))


def greedy_oracle(sentences: Sequence[str], summary: str, language: str, max_sentences: int) -> list[int]:
    """Indices of the chosen sentences, ascending; empty when no sentence shares a word with the summary."""
    references = [_summary_ngrams(summary, language, n) for n in (1, 2)]
    tokens = [words(sentence, language) for sentence in sentences]
    candidates = [(ngrams(t, 1), ngrams(t, 2)) for t in tokens]
    chosen: list[int] = []
    covered: tuple[Ngrams, Ngrams] = (frozenset(), frozenset())
    best = 0.0
    while len(chosen) < max_sentences:
        score, place = max(
            ((_gain(covered, candidate, references), -index) for index, candidate in enumerate(candidates)),
            default=(0.0, 0),
        )
        if score <= best:
            break
        best = score
        chosen.append(-place)
        covered = (covered[0] | candidates[-place][0], covered[1] | candidates[-place][1])
    return sorted(chosen)


def _summary_ngrams(summary: str, language: str, n: int) -> Ngrams:
    """n-grams of the reference, none of them across its lines: one sentence stands on each."""
    return frozenset[tuple[str, ...]]().union(*(ngrams(words(line, language), n) for line in summary.splitlines()))


def _gain(covered: tuple[Ngrams, Ngrams], candidate: tuple[Ngrams, Ngrams], references: list[Ngrams]) -> float:
    """ROUGE-1 F + ROUGE-2 F of the covered n-grams together with the candidate's."""
    score = 0.0
    for have, new, reference in zip(covered, candidate, references, strict=True):
        both = have | new
        if both and reference:
            score += 2 * len(both & reference) / (len(both) + len(reference))
    return score
