"""Words and n-grams, as ROUGE, the oracles and trigram blocking count them."""

import re
import unicodedata
from collections.abc import Sequence

from bertsum.text.sentences import UNSPACED_LANGUAGES

Ngrams = frozenset[tuple[str, ...]]

# Python's \w leaves out combining marks, so it would cut a Hindi word at each of its vowel signs.
MARKS = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c)[0] == "M")
WORD = re.compile(rf"[\w{MARKS}]+")
_ASCII_WORD = re.compile(r"\w+", re.ASCII)


def words(text: str, language: str) -> list[str]:
    """Lower-cased words without punctuation; characters in languages that do not space words."""
    pattern = _ASCII_WORD if text.isascii() else WORD  # the class of all marks is slow
    runs: list[str] = pattern.findall(text.lower())
    return list("".join(runs)) if language in UNSPACED_LANGUAGES else runs


def ngrams(tokens: Sequence[str], n: int) -> Ngrams:
    """The set of runs of n tokens."""
    # zip ends with the shortest: tokens, tokens without the first, ...
    return frozenset(zip(*(tokens[i:] for i in range(n)), strict=False))
