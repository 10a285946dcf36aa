"""The words of a query: where they stand in a sentence, and how much a sentence has of them.

The rules need no dictionary:

- A word without spaces around it, in Chinese, Japanese or Thai, is looked for as its pairs of
  characters: 人民币 as 人民 and 民币. One that is a single character is looked for as that.
- Words that say nothing are left out, unless the query has no other.
- Upper and lower case are equal, and in English so are the forms of a word: `charges` and
  "charged".
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bertsum.text.phrases.mentions import UNSPACED
from bertsum.text.phrases.stop_words import STOP_WORDS
from bertsum.text.sentences import Span
from bertsum.text.words import MARKS, WORD

_RUN = re.compile(rf"[{UNSPACED}]+|[^\W_{UNSPACED}][\w{MARKS}]*?(?=[{UNSPACED}]|\Z)")
_IS_UNSPACED = re.compile(f"[{UNSPACED}]")
_ENGLISH_ENDING = re.compile(r"(?:ing|edly|ed|es|s|ly|e)$")
_SHORTEST_STEM = 3  # letters that must be left of a word: `red` has no ending
# of BM25: how soon a word's repetitions saturate; how much a long text loses
_SATURATION, _LENGTH_SHARE = 1.2, 0.75

FloatArray = npt.NDArray[np.float64]


def query_words(query: str, language: str) -> frozenset[str]:
    """The distinct words that are looked for."""
    words = {word for word, _ in _words(query, language)}
    stop_words = {_stem(word, language) for word in STOP_WORDS.get(language, ())}
    return frozenset(words - stop_words or words)


def word_spans(text: str, words: frozenset[str], language: str) -> list[Span]:
    """Where these words of a query stand in a text, in code points, in order.

    Spans that touch are one: two neighbouring pairs of characters are one word of three.
    """
    spans: list[Span] = []
    for word, (start, stop) in _words(text, language, singles=True):
        if word not in words:
            continue
        if spans and spans[-1][1] >= start:
            start = spans.pop()[0]
        spans.append((start, stop))
    return spans


def bm25(sentences: Sequence[str], words: frozenset[str], language: str) -> FloatArray:
    """[S] how much each sentence has of a query's words, the rare ones of the document above all.

    0 for a sentence that has none. A word that most sentences have counts little, but never less
    than nothing.
    """
    counts = []
    for text in sentences:
        counts.append(Counter(word for word, _ in _words(text, language, singles=True)))
    lengths = np.array([count.total() for count in counts], np.float64)
    lengths /= max(lengths.mean(), 1) if len(lengths) else 1
    scores = np.zeros(len(sentences))
    for word in sorted(words):  # a sum of one order has the same bits each time
        hits = np.array([count[word] for count in counts], np.float64)
        num_with = int(np.count_nonzero(hits))
        scores += word_gains(hits, lengths, num_with=num_with, num_texts=len(counts))
    return scores


def word_gains(
    hits: FloatArray, lengths: FloatArray, *, num_with: int, num_texts: int
) -> FloatArray:
    """[T] what a word adds to the BM25 of texts.

    Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", equation
    3.15, with the rarity of a word as Lucene has it, which is never below 0.

    - `hits`: [T] how often each text has the word.
    - `lengths`: [T] words of each text, as a multiple of the mean.
    - `num_with`: how many of all `num_texts` texts have the word.
    """
    rarity = math.log(1 + (num_texts - num_with + 0.5) / (num_with + 0.5))
    damping = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * lengths)
    return rarity * hits * (_SATURATION + 1) / (hits + damping)


def _words(text: str, language: str, *, singles: bool = False) -> Iterator[tuple[str, Span]]:
    """The words of a text as they are compared, and their spans; pairs of characters overlap.

    `singles`: also the characters of pairs, each alone.
    """
    for match in WORD.finditer(text):
        for run in _RUN.finditer(match[0]):
            start, stop = match.start() + run.start(), match.start() + run.end()
            if not _IS_UNSPACED.match(run[0]):
                yield _stem(run[0].lower(), language), (start, stop)
                continue
            for first in range(start, stop):
                if singles or len(run[0]) == 1:
                    yield text[first], (first, first + 1)
                if first + 2 <= stop:
                    yield text[first : first + 2], (first, first + 2)


def _stem(word: str, language: str) -> str:
    """An English word without the ending that changes with its use; other words as they are."""
    if language != "en" or not word.isascii():
        return word
    if word.endswith(("ies", "ied")) and len(word) > _SHORTEST_STEM + 1:
        return word[:-3] + "y"
    if word.endswith("ss"):
        return word
    ending = _ENGLISH_ENDING.search(word)
    if ending is None or ending.start() < _SHORTEST_STEM:
        return word
    stem = word[: ending.start()]
    # `stopped` and `stop`
    is_doubled = len(stem) > _SHORTEST_STEM and stem[-1] == stem[-2] and stem[-1] not in "aels"
    return stem[:-1] if is_doubled else stem
