"""Whether the vocabulary of a model knows the language of a text.

A first look counts tokens, of all texts at once. It is too strict for two kinds of text: an emoji
is an unknown token that says nothing of the language, and a Hebrew word in an English sentence is
a token a letter. So a text that the first look finds unknown gets a second one, which counts
words. In a text without a letter it counts signs.
"""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Self
from unicodedata import category
from unicodedata import name as unicode_name

import numpy as np
import numpy.typing as npt

from bertsum.text.letterless import has_letter
from bertsum.text.ragged import bounds as bounds_of
from bertsum.text.tokenizer import Tokenizer

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
WeightArray = npt.NDArray[np.float64]

# Of the tokens of words. The English vocabulary of the shipped model knows a third of the
# characters of Chinese text: in 4,500 Chinese documents the share was 0.33 to 1.0, in 3,800
# English ones at most 0.2. Of words it is the same share, and more in a short text, whose few
# words say less of its language: _STANDARD_ERRORS of the share of a sample. So a text is unknown
# from 1 of 1 word on, 1 of 2, 2 of 3, 2 of 4, 3 of 5, 3 of 8, 7 of 20, 29 of 100.
_MAX_UNKNOWN_SHARE = 0.25
_STANDARD_ERRORS = 0.8
_HAN_WEIGHT = 0.5  # in words, of a Chinese character: a word has about two of them

# Neither letter, space nor punctuation.
_SYMBOL = re.compile(r"[^\w\s!-~\u00a1-\u00bf\u2010-\u206f\u3000-\u303f\uff00-\uffef]")

_LAST_LATIN = "\u024f"
_EAST_ASIAN = "CJK"  # with kana
_METASPACE = "▁"  # before a word in a Unigram vocabulary; it is a symbol itself
_ADDRESS = re.compile(r"[!-~]*(?:://|www\.)[!-~]+")


@dataclass(frozen=True, slots=True)
class _Kinds:
    """What the tokens of a vocabulary of V say of a language. [V] each."""

    is_word: BoolArray  # not of digits or punctuation
    is_unknown: BoolArray  # among those: says that the language is not known
    known: WeightArray  # 1 for the first token of a word that is known, else 0
    foreign: WeightArray  # words, at least, for the first token of one that is unknown, else 0
    is_sign: BoolArray  # a digit or a symbol

    @classmethod
    def empty(cls, size: int) -> Self:
        """Of a vocabulary whose tokens say nothing."""
        return cls(
            is_word=np.zeros(size, np.bool_),
            is_unknown=np.zeros(size, np.bool_),
            known=np.zeros(size),
            foreign=np.zeros(size),
            is_sign=np.zeros(size, np.bool_),
        )


class KnownLanguage:
    """Tells texts whose language the vocabulary of one tokenizer knows from others."""

    def __init__(self, backend: Any, tokenizer: Tokenizer, unk_id: int | None):
        """Sort the vocabulary of a tokenizer.

        - `backend`: the `tokenizers.Tokenizer` that `tokenizer` asks.
        - `unk_id`: its id of [UNK].
        """
        self._tokenizer = tokenizer
        self._kinds = _sort_vocabulary(backend, unk_id)
        self.vocabulary_size = len(self._kinds.is_word)

    def is_unknown(self, texts: Sequence[str], ids: IntArray, bounds: LongArray) -> BoolArray:
        """[N] whether each text is of a language that the vocabulary does not know.

        `ids`: of all texts, one after the other; `bounds`: [N + 1] where those of each text begin.
        """
        words = _sums(self._kinds.is_word[ids], bounds)
        unknown = _sums(self._kinds.is_unknown[ids], bounds)
        result: BoolArray = (unknown > _MAX_UNKNOWN_SHARE * words) | (words == 0)
        if result.any():
            known = _sums(self._kinds.known[ids], bounds)
            foreign = _sums(self._kinds.foreign[ids], bounds)
            # unless a word became [UNK] by a symbol
            is_sure = _are_too_many(foreign, known + foreign)
            unsure = []
            for i in np.flatnonzero(result).tolist():
                if not is_sure[i] or _SYMBOL.search(texts[i]):
                    unsure.append(i)
            result[unsure] = self._is_unknown_by_words([texts[i] for i in unsure])
            for i in np.flatnonzero(result).tolist():
                if not has_letter(texts[i]):
                    # unknown where [UNK]s outnumber the known signs: "9/10 👍" has two of these, 9
                    # and 10; "👍!" has none, since punctuation says little
                    own = ids[bounds[i] : bounds[i + 1]]
                    num_unknown = self._kinds.is_unknown[own].sum()
                    result[i] = len(own) == 0 or num_unknown > self._kinds.is_sign[own].sum()
        return result

    def _is_unknown_by_words(self, texts: Sequence[str]) -> BoolArray:
        """[N] the second look. A text without a word is unknown.

        "He said שלום to all." has 1 unknown word of 5, though 4 of its 8 tokens are unknown.
        """
        split = [_split_words(text) for text in texts]
        words = list(chain.from_iterable(split))
        text_of_word = np.repeat(
            np.arange(len(texts)), [len(words_of_text) for words_of_text in split]
        )
        if not words:
            return np.ones(len(texts), np.bool_)
        ids, lengths = self._tokenizer.tokenize(words, [[(0, len(word))] for word in words])
        num_unknown = _sums(self._kinds.is_unknown[ids], np.concatenate([[0], np.cumsum(lengths)]))
        is_unknown = 2 * num_unknown > lengths
        # A name is the same in any language: "Купил iPhone Pro" is not English. The first word of
        # a text may be any word.
        is_name = np.array([word != word.lower() for word in words], np.bool_)
        is_name[1:] &= text_of_word[1:] == text_of_word[:-1]
        is_name[:1] = False
        weights = np.array([_weight(word[0]) for word in words])
        weights[(lengths == 0) | (is_name & ~is_unknown)] = 0
        totals = np.bincount(text_of_word, weights, len(texts))
        unknown = np.bincount(text_of_word, weights * is_unknown, len(texts))
        is_unknown_text: BoolArray = _are_too_many(unknown, totals) | (totals == 0)
        return is_unknown_text


def _are_too_many(unknown: npt.NDArray[Any], total: npt.NDArray[Any]) -> BoolArray:
    """[N] whether the words of a text that are unknown are too many of all its words."""
    share = _MAX_UNKNOWN_SHARE
    standard_error = np.sqrt(share * (1 - share) * total)  # of the number of unknown words
    result: BoolArray = unknown > share * total + _STANDARD_ERRORS * standard_error
    return result


def _split_words(text: str) -> list[str]:
    """Split a text into runs of letters and their marks, and single Chinese characters.

    Web addresses are left out.
    "Don't用it❤️" -> Don, t, 用, it. The last character there is a mark without a letter.
    """
    letters = _ADDRESS.sub(" ", text).translate(_LETTERS)
    return [word for word in letters.split() if category(word[0])[0] == "L"]


class _Letters(dict[int, str]):
    """For `str.translate`, by code point: what is neither letter nor mark becomes a space."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        kept = letter if category(letter)[0] in "LM" else " "
        self[code] = f" {letter} " if _is_han(letter) else kept
        return self[code]


_LETTERS = _Letters()


def _weight(letter: str) -> float:
    """In words, of what begins with this letter: see `_split_words`."""
    return _HAN_WEIGHT if _is_han(letter) else 1.0


def _sums(values: npt.NDArray[Any], bounds: LongArray) -> npt.NDArray[Any]:
    """[N] the sum of `values` between each two bounds."""
    totals = np.concatenate([[0], np.cumsum(values, dtype=np.result_type(values, np.int64))])
    sums: npt.NDArray[Any] = np.diff(totals[bounds])
    return sums


def _sort_vocabulary(backend: Any, unk_id: int | None) -> _Kinds:
    """Sort the tokens of a vocabulary by what they say of a language.

    Unknown are [UNK], single letters of a non-Latin script inside a word ("##ж"), and foreign
    tokens.

    A WordPiece vocabulary that has only the alphabet of a language spells each word letter by
    letter, and its model has nothing to go by. Foreign is a script of which such a vocabulary has
    hardly more than letters, or only a few common Chinese characters.
    """
    vocabulary = backend.get_vocab(with_added_tokens=True)
    tokens = list(vocabulary)
    ids = np.fromiter(vocabulary.values(), np.int64, len(tokens))
    # Not the number of tokens: ids may have gaps.
    kinds = _Kinds.empty(int(ids.max()) + 1)
    foreign = _foreign_scripts(tokens)
    # of all tokens at once, since a multilingual vocabulary has 250,000 of them
    categories, bounds = _categories(tokens)
    is_word = _sums(np.isin(categories, list(b"LM")), bounds) > 0
    num_signs = _sums(np.isin(categories, list(b"NS")), bounds)
    starts_word = np.array([token.startswith(_METASPACE) for token in tokens])
    kinds.is_sign[ids] = num_signs > starts_word
    kinds.is_word[ids] = is_word
    kinds.known[ids] = is_word
    for index in np.flatnonzero([token.startswith("##") for token in tokens]).tolist():
        letters = tokens[index].removeprefix("##")
        is_letter = len(letters) == 1 and is_word[index] and letters > _LAST_LATIN
        kinds.is_unknown[ids[index]] = is_letter
        kinds.known[ids[index]] = 0
    for token in tokens if foreign else []:
        letters = token.removeprefix("##")
        if _script(letters[:1]) in foreign:
            index = vocabulary[token]
            kinds.is_unknown[index] = True
            kinds.known[index] = 0
            if letters == token:  # it begins a word; a letter comes first, so it is one
                kinds.foreign[index] = _weight(letters[0])
    if unk_id is not None:
        kinds.is_word[unk_id] = kinds.is_unknown[unk_id] = True
        kinds.known[unk_id], kinds.foreign[unk_id] = 0, _HAN_WEIGHT
        kinds.is_sign[unk_id] = False  # though "<unk>" has two
    return kinds


def _categories(tokens: Sequence[str]) -> tuple[npt.NDArray[np.uint8], LongArray]:
    """[C] the first letter of the category of each character of all tokens; [V + 1] their bounds.

    ["ab", "7"] -> b"LLN", [0, 2, 3]
    """
    codes = np.frombuffer("".join(tokens).encode("utf-32-le"), np.uint32)
    by_code = np.zeros(sys.maxunicode + 1, np.uint8)
    for code in np.flatnonzero(np.bincount(codes)).tolist():
        by_code[code] = ord(category(chr(code))[0])
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    return by_code[codes], bounds_of(lengths)


def _foreign_scripts(vocabulary: Sequence[str]) -> set[str]:
    """Find the scripts with hardly a word in a WordPiece vocabulary, beside its Latin words.

    Of other vocabularies there are none.
    The vocabulary of English BERT has 26,482 Latin words and pieces, 8 of Cyrillic and 244 Chinese
    characters; that of multilingual BERT has thousands of each.
    """
    words: Counter[str] = Counter()
    if not any(token.startswith("##") for token in vocabulary):
        return set()
    for token in vocabulary:
        is_piece = token.startswith("##")
        letters = token.removeprefix("##")
        script = _script(letters[:1])
        words[script] += not is_piece if script == _EAST_ASIAN else len(letters) > 1
    foreign: set[str] = set()
    for script, count in words.items():
        # a character of East Asia is nearly a word, so there are more of them
        least = words["LATIN"] / (20 if script == _EAST_ASIAN else 500)
        if script and count < least:
            foreign.add(script)
    return foreign


@lru_cache(maxsize=10_000)
def _script(letter: str) -> str:
    """As Unicode names it; empty for what is not a letter."""
    if not letter or category(letter)[0] != "L":
        return ""
    script = unicode_name(letter, "").partition(" ")[0]
    return _EAST_ASIAN if script in ("CJK", "HIRAGANA", "KATAKANA") else script


@lru_cache(maxsize=10_000)
def _is_han(letter: str) -> bool:
    return unicode_name(letter, "").startswith("CJK ")
