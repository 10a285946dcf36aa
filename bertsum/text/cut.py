"""Cuts a sentence that is longer than a budget: after a clause, a word, or a grapheme cluster.

A grapheme cluster is what people see as one character, like "é" of two code points or a flag. The
borders of clusters and of words are those of Unicode (UAX 29), by the package `regex`.
"""

from typing import Literal

import regex

from bertsum.text.sentences import UNSPACED_LANGUAGES

ELLIPSIS = "…"

_CLUSTER = regex.compile(r"\X")
# A comma before a space ends a clause, that of "1,000" does not; a wide one needs no space. So do
# an opening bracket, and a dash between spaces or a long one.
_CLAUSE_END = regex.compile(r"[,;:،؛](?=\s)|[，、；：—]|（|\s+(?=[-–—]\s|[(\[])")
_SPACE = regex.compile(r"\s+")
# A number stays with what follows it, which may be its unit: "50%", "50万".
_WORD_BORDER = regex.compile(r"(?w)\b(?!(?<=\d)[^\s,.;:，。、；：)）])")
# What says nothing at an end: spaces, opening brackets and quotation marks, dashes, commas.
_LOOSE_END = regex.compile(r"[\s\p{Ps}\p{Pi}\p{Pd},;:،؛，、；：]+\Z")
_LEAST_SHARE = 0.5  # of what fits, that a cut after a clause, or at a space, must leave


def kept_length(
    sentence: str, budget: int, language: str, border: Literal["clause", "word"]
) -> int:
    """How many characters of a sentence are kept, so that they and an ELLIPSIS fit into a budget.

    Characters are code points, as Python counts them. 0: not even the first cluster fits.

    - `clause`: up to the last end of a clause, if that is half of what fits; else as `word`
    - `word`: up to the last space, if that is half of what fits; else up to the last border of a
      word, or of a cluster. Chinese, Japanese and Thai are not cut at spaces.
    """
    room = budget - len(ELLIPSIS)
    ends = [cluster.end() for cluster in _CLUSTER.finditer(sentence)]
    fitting = {end for end in ends if end <= room}
    is_spaced = language not in UNSPACED_LANGUAGES
    # the best kind of border first, each with the least that it must leave
    tries: list[tuple[regex.Pattern[str], float]] = [(_WORD_BORDER, 0)]
    if is_spaced:
        tries.insert(0, (_SPACE, _LEAST_SHARE * room))
    if border == "clause":
        # Thai has no commas, but spaces between its clauses
        clause_end = _SPACE if language == "th" else _CLAUSE_END
        tries.insert(0, (clause_end, _LEAST_SHARE * room))
    for pattern, least in tries:
        borders = [match.start() for match in pattern.finditer(sentence)]
        last = max(fitting.intersection(borders), default=0)
        loose = _LOOSE_END.search(sentence, endpos=last)
        # a mark may be part of a cluster, which then stays whole
        kept = loose.start() if loose and loose.start() in fitting else last
        if kept and kept >= least:
            return kept
    return max(fitting, default=0)
