"""What is counted in the characters of sentences: numbers, capitalized words, and how they begin.

All sentences are counted at once, in an array of their characters: C characters of S sentences.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bertsum.text.ragged import bounds

# English first words of sentences that say little alone.
_LEANING_WORDS = (
    *("He", "She", "It", "They", "This", "That", "These", "His", "Her", "I", "We", "You"),
    *("But", "And"),
)
_LEANING = re.compile(rf"(?:{'|'.join(_LEANING_WORDS)})\b")

# What a character is. All that are known have _KNOWN, so that 0 is one that was never seen.
_KNOWN, _SPACE, _DIGIT, _UPPER, _WORD, _QUOTE, _APOSTROPHE = (1 << bit for bit in range(7))
_KINDS = np.zeros(0x110000, np.uint8)  # by code point
_QUOTES = frozenset('"“”„«»「『')
_APOSTROPHES = frozenset("'‘")


def count_marks(sentences: Sequence[str]) -> npt.NDArray[np.int64]:
    """[S, 4] numbers, capitalized words, whether it quotes, whether it leans on the one before.

    The first word of a sentence has a capital anyway, and so has "I": they do not count.
    An apostrophe quotes before a word, not within one.

    'He said "no" to Ann Lee in 2020.': 1, 2, 1, 1.
    """
    # White space before, between and behind sentences: no word or number spans two of them.
    text = "\n".join(["", *sentences, ""])
    kinds = _kinds_of(np.frombuffer(text.encode("utf-32-le"), np.uint32))  # [C]
    lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
    starts = 1 + np.arange(len(sentences)) + bounds(lengths)[:-1]  # behind the white space

    def count(marks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Indices of characters, ascending -> [S]."""
        return np.diff(np.searchsorted(marks, starts), append=len(marks))

    is_digit = kinds & _DIGIT > 0
    numbers = np.flatnonzero(is_digit[1:] & ~is_digit[:-1]) + 1
    is_space = kinds & _SPACE > 0
    words = np.flatnonzero(~is_space[1:] & is_space[:-1]) + 1  # where each begins
    is_capitalized = (kinds[words] & _UPPER > 0) & ~is_space[words + 1]
    # a sentence without a word has the first one of the next sentence
    first_words = np.searchsorted(words, starts)
    is_capitalized[first_words[first_words < len(words)]] = False
    quotes = np.flatnonzero(kinds & (_QUOTE | _APOSTROPHE) > 0)
    begins_word = (kinds[quotes - 1] & _WORD == 0) & (kinds[quotes + 1] & _WORD > 0)
    is_quote = (kinds[quotes] & _QUOTE > 0) | begins_word
    leaning = [
        sentence.startswith(_LEANING_WORDS) and _LEANING.match(sentence) is not None
        for sentence in sentences
    ]
    return np.stack(
        [count(numbers), count(words[is_capitalized]), count(quotes[is_quote]) > 0, leaning], axis=1
    )


def _kinds_of(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """[C] code points -> what each is; those that are new are looked up one by one."""
    kinds = _KINDS[codes]
    unseen = np.unique(codes[kinds == 0]).tolist()
    if not unseen:
        return kinds
    for code in unseen:
        character = chr(code)
        kind = _KNOWN
        kind |= _SPACE * character.isspace()
        kind |= _DIGIT * character.isdecimal()
        kind |= _UPPER * character.isupper()
        kind |= _WORD * (character.isalnum() or character == "_")
        kind |= _QUOTE * (character in _QUOTES)
        kind |= _APOSTROPHE * (character in _APOSTROPHES)
        _KINDS[code] = kind
    return _KINDS[codes]
