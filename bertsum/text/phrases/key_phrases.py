"""Phrases of a document that may stand for it: runs of words between stop words and punctuation.

In languages that do not space words the tokens of a model are the words.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bertsum.text.phrases.stop_words import STOP_WORDS
from bertsum.text.sentences import UNSPACED_LANGUAGES, Span
from bertsum.text.words import MARKS

_MOST_WORDS = 4
_ANY = rf"[\w{MARKS}]"
# a word with its hyphens and apostrophes, or a mark that ends a phrase
_WORD_OR_MARK = re.compile(rf"{_ANY}+(?:[-'’]{_ANY}+)*|[^\s]")
_ASCII_WORD_OR_MARK = re.compile(r"\w+(?:[-']\w+)*|[^\s]", re.ASCII)
_POSSESSIVE = re.compile(r"['’]s$")
# By language, tokens that are no names of anything
_PARTICLES = {
    # hiragana, of which grammar is made
    "ja": re.compile(r"[\u3040-\u309f]$"),
    # those with a particle at an edge ("bought", "also good", "not so"; but Yemen and Bhutan), and
    # counts and dates ("three days", "this week")
    "zh": re.compile(
        r"[了的很些]|也(?!门)|.*[了的着吗呢于]$|不[^丹]$|得很$"
        r"|[一二两三四五六七八九十几半][天年月日次个种条位名片张块件家间台只元点分岁层根句]$"
        r"|[本上下今明去昨][周年月天日次]$"
    ),
}
_COMMON, _COMMON_AND_SHORT = 0.1, 0.2  # rarities below which a word says nothing by itself
_SHORT_WORD = 3  # letters
_CAPITAL_NOUNS = frozenset({"de"})  # languages in which a capital is no sign of a name

Rarity = Callable[[str], float]
SplitWords = Callable[[Sequence[str]], Sequence[Sequence[Span]]]


@dataclass(slots=True)
class Phrase:
    """A phrase and where it occurs.

    - `text`: as the document writes it first.
    - `words`: lower case, without a possessive 's.
    - `sentences`: index of the sentence of each occurrence.
    - `is_whole`: somewhere it is all between two marks or stop words.
    """

    text: str
    words: tuple[str, ...]
    sentences: list[int] = field(default_factory=list)
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class _Word:
    lower: str
    start: int
    stop: int


def key_phrases(
    text: str, spans: Sequence[Span], language: str, rarity: Rarity, split_words: SplitWords
) -> list[Phrase]:
    """Candidates of a document, in the order of their first occurrence.

    - `spans`: of the sentences that are looked at.
    - `rarity`: of a word, from 0 for the most frequent ones to 1.
    - `split_words`: sentences -> spans of the words in each, for languages without spaces.

    A phrase is a candidate if it occurs twice, or if it is whole: in "the Bank of England raised
    interest rates", `Bank`, `England`, `raised interest rates`; with another "interest rates"
    somewhere, also that.
    """
    is_unspaced = language in UNSPACED_LANGUAGES
    runs = _word_runs(text, spans, language, rarity)
    if is_unspaced:
        runs = _token_runs(text, spans, language, split_words)
    phrases: dict[tuple[str, ...], Phrase] = {}
    for sentence, run in runs:
        for start in range(len(run)):
            for stop in range(start + 1, min(start + _MOST_WORDS, len(run)) + 1):
                words = tuple(word.lower for word in run[start:stop])
                phrase = phrases.get(words)
                if phrase is None:
                    written = text[run[start].start : run[stop - 1].stop]
                    phrase = phrases[words] = Phrase(written, words)
                phrase.sentences.append(sentence)
                # of unspaced languages a run is a clause, so that there a single word is whole
                if stop - start == (1 if is_unspaced else len(run)):
                    phrase.is_whole = True
    candidates: list[Phrase] = []
    for phrase in phrases.values():
        # one character is no word of Chinese, and "a" none of English
        is_long_enough = len(phrase.text) > 1 and (is_unspaced or len(phrase.words[0]) > 1)
        if is_long_enough and (phrase.is_whole or len(phrase.sentences) > 1):
            candidates.append(phrase)
    hidden = _hidden(candidates)
    return [phrase for phrase in candidates if phrase.words not in hidden]


def _hidden(candidates: Iterable[Phrase]) -> set[tuple[str, ...]]:
    """Those that mostly occur in a longer phrase: `bank`, 5 times, where 3 are `central bank`."""
    counts = {phrase.words: len(phrase.sentences) for phrase in candidates}
    hidden = set()
    for words, count in counts.items():
        for start in range(len(words)):
            for stop in range(start + 1, len(words) + 1):
                part = words[start:stop]
                # a long phrase that occurs once hides only what occurs once
                is_most = 2 * count >= counts.get(part, 0) and (count > 1 or counts.get(part) == 1)
                if part != words and is_most:
                    hidden.add(part)
    return hidden


def _word_runs(
    text: str, spans: Sequence[Span], language: str, rarity: Rarity
) -> Iterable[tuple[int, list[_Word]]]:
    """(sentence, words) of each run between stop words, numbers and marks.

    Where capitals are of names a name ends its run: `England`, `raised interest rates`. The first
    word of a sentence has its capital from there, and goes with what follows.
    """
    pattern = _ASCII_WORD_OR_MARK if text.isascii() else _WORD_OR_MARK
    stop_words = STOP_WORDS.get(language)
    for sentence, (start, stop) in enumerate(spans):
        run: list[_Word] = []
        was_name: bool | None = None  # the word before; None where it does not count
        for match in pattern.finditer(text, start, stop):
            written = match.group()
            base = _POSSESSIVE.sub("", written)
            lower = base.lower()
            is_word = written[0].isalpha()
            if is_word:
                # without a list the frequency of a word tells
                limit = _COMMON_AND_SHORT if len(lower) <= _SHORT_WORD else _COMMON
                is_word = lower not in stop_words if stop_words else rarity(lower) >= limit
            is_name = written[0].isupper() and language not in _CAPITAL_NOUNS
            if run and (not is_word or was_name not in (None, is_name)):
                yield sentence, run
                run = []
            if is_word:
                run.append(_Word(lower, match.start(), match.start() + len(base)))
                was_name = None if match.start() == start else is_name
            else:
                was_name = None
        if run:
            yield sentence, run


def _token_runs(
    text: str, spans: Sequence[Span], language: str, split_words: SplitWords
) -> Iterable[tuple[int, list[_Word]]]:
    """The same from the tokens of a model."""
    stop_words = STOP_WORDS.get(language, frozenset())
    particles = _PARTICLES.get(language)
    sentences = [text[start:stop] for start, stop in spans]
    for sentence, token_spans in enumerate(split_words(sentences)):
        first = spans[sentence][0]
        run: list[_Word] = []
        for start, stop in token_spans:
            written = sentences[sentence][start:stop].strip()
            is_break = not written.isalpha() or written in stop_words
            is_particle = particles is not None and particles.match(written) is not None
            if not (is_break or is_particle):
                run.append(_Word(written.lower(), first + start, first + stop))
            elif run and written:
                yield sentence, run
                run = []
        if run:
            yield sentence, run
