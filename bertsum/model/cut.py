"""Cuts a sentence that is longer than a budget: after a clause, a word, or a grapheme cluster.

Of a sentence that answers a query, the part with the query's words is kept, with a little before it.

A grapheme cluster is what people see as one character, like "é" of two code points or a flag. The
borders of clusters and of words are those of Unicode (UAX 29), by the package `regex`.
"""

from collections.abc import Callable, Iterator, Sequence

import regex

from bertsum.text.sentences import Span

ELLIPSIS = "…"

TokenSpans = Callable[[Sequence[str]], list[list[Span]]]
"""Where the tokens of each text stand in it, see `DocumentEncoder.token_spans`."""

_CLUSTER_END = regex.compile(r"\X\K")  # \K: the match begins behind the cluster
# A comma before a space ends a clause, that of "1,000" does not; a wide one needs no space. So do
# an opening bracket, and a dash between spaces or a long one.
_CLAUSE_END = regex.compile(r"[,;:،؛](?=\s)|[，、；：—（]|(?<!\s)\s++(?=[-–—]\s|[(\[])")
_SPACE = regex.compile(r"\s++")
_AFTER_SPACE = regex.compile(r"(?<=\s)\S")
# A number stays with what follows it, which may be its unit: "50%", "50万".
_WORD_BORDER = regex.compile(r"(?w)\b(?!(?<=\d)[^\s,.;:，。、；：)）])")
# What says nothing at an end: spaces, opening brackets and quotation marks, dashes, commas.
# Searched from the end: else a long run of spaces would be read once for each of them.
_LOOSE_END = regex.compile(r"(?r)[\s\p{Ps}\p{Pi}\p{Pd},;:،؛，、；：]+\Z")
_LEAST_SHARE = 0.5  # of what fits, that a cut after a clause, or at a space, must leave
_NO_WORD_BORDERS = ("zh", "ja")  # between words, which are written without spaces
_MOST_TOKEN_CHARACTERS = 32  # on average; English has 5, and a text of spaces any number


def kept_characters(sentence: str, most: int, language: str, *, by_clause: bool) -> int:
    """How many characters of a sentence are kept, if at most `most` fit.

    Characters are code points, as Python counts them. 0: not even the first cluster fits.

    The first of these that there is: up to
    - the last end of a clause, if `by_clause`, and if that is half of what fits
    - the last space, if that is half of what fits; not in Chinese and Japanese
    - the last border of a word; Chinese, Japanese and Thai have one after each character
    - the last border of a cluster
    """
    clusters = set(_borders(_CLUSTER_END, sentence, most))
    # the best kind of border first, each with the least that it must leave
    tries: list[tuple[regex.Pattern[str], float]] = [(_WORD_BORDER, 0)]
    if language not in _NO_WORD_BORDERS:
        tries.insert(0, (_SPACE, _LEAST_SHARE * most))
    if by_clause:
        tries.insert(0, (_CLAUSE_END, _LEAST_SHARE * most))
    for pattern, least in tries:
        last = max(clusters.intersection(_borders(pattern, sentence, most)), default=0)
        loose = _LOOSE_END.search(sentence, endpos=last)
        # a mark may be part of a cluster, which then stays whole
        kept = loose.start() if loose and loose.start() in clusters else last
        if kept and kept >= least:
            return kept
    return max(clusters, default=0)


def kept_around(sentence: str, most: int, words: Sequence[Span], language: str) -> Span:
    """The part of a sentence, of at most `most` characters, that has most of these words.

    `words`: where they stand, in order. The part is the beginning where that has as many. Else it
    begins with a word, and half of what is left beside its words is before them. Room is left for
    an ELLIPSIS at each end that is cut. An empty part: not even one cluster fits.
    """
    room = most - 2 * len(ELLIPSIS)
    best = range(0)
    stop = 0
    for first in range(len(words)):
        # the run of words from `first` on that fits; it never ends before the run of the word before
        while stop < len(words) and words[stop][1] - words[first][0] <= room:
            stop += 1
        if stop - first > len(best):
            best = range(first, stop)
    if not best or words[best[-1]][1] <= most - len(ELLIPSIS):
        return 0, kept_characters(sentence, most - len(ELLIPSIS), language, by_clause=False)
    first_word, last_word = words[best[0]], words[best[-1]]
    beside = room - (last_word[1] - first_word[0])
    earliest = first_word[0] - beside // 2
    # near the end of the sentence, more of what is before the words fits
    earliest = min(earliest, len(sentence) - (most - len(ELLIPSIS)))
    start = _begin(sentence, earliest, first_word[0], language)
    if len(sentence) - start <= most - len(ELLIPSIS):
        return start, len(sentence)
    kept = kept_characters(sentence[start:], room, language, by_clause=False)
    return start, start + kept


def _begin(sentence: str, earliest: int, latest: int, language: str) -> int:
    """Where a part begins: with the first word between the two, which are where a word may begin.

    In Chinese and Japanese with any cluster.
    """
    if language not in _NO_WORD_BORDERS:
        match = _AFTER_SPACE.search(sentence, max(0, earliest), latest + 1)
        return match.start() if match else latest
    borders = (border for border in _borders(_CLUSTER_END, sentence, latest) if border >= earliest)
    return next(borders, latest)


def kept_by_tokens(
    sentence: str, size: int, *, language: str, by_clause: bool, token_spans: TokenSpans
) -> int:
    """How many characters are kept, so that they and an ELLIPSIS are at most `size` tokens."""
    beginning = sentence[: size * _MOST_TOKEN_CHARACTERS]
    (tokens,) = token_spans([beginning])
    # the last token that is allowed is that of the ellipsis
    kept = tokens[size - 1][0] if len(tokens) >= size else len(beginning)
    while kept := kept_characters(sentence, kept, language, by_clause=by_clause):
        # part of a word may be more tokens than it is within the word
        (tokens,) = token_spans([sentence[:kept] + ELLIPSIS])
        if len(tokens) <= size:
            break
        kept -= 1
    return kept


def _borders(pattern: regex.Pattern[str], sentence: str, most: int) -> Iterator[int]:
    """Where matches begin, up to `most`; what lies far behind it is not read."""
    for match in pattern.finditer(sentence):
        if match.start() > most:
            break
        yield match.start()
