"""Where a text can be cut so that a Unigram tokenizer gives the parts the ids of the whole.

A Unigram tokenizer chooses the pieces of a word whose scores have the largest sum (Kudo 2018). For
it a Chinese sentence is one word. Where no piece of the vocabulary has the characters a and b next
to each other, no choice of pieces spans a|b: the best choice for the whole is the best one before
the cut and the best one behind it. So words are cut there, too, and the short parts repeat.

Nothing is cut beside a character that is no piece itself, since unknown neighbours become one
token, or that normalization joins to its neighbours, as it does marks.

Shapes: C characters of all sentences.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self
from unicodedata import category

import numpy as np
import numpy.typing as npt
import tokenizers

from bertsum.text.ragged import bounds

BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]
LongArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.uint32]
Spans = Sequence[Sequence[tuple[int, int]]]

_METASPACE = "▁"  # stands for the space before a word
_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {
            "type": "Metaspace",
            "replacement": _METASPACE,
            "prepend_scheme": "always",
            "split": True,
        },
    ],
}
# Each looks at a character with the marks behind it, or at runs of spaces.
_NORMALIZERS = frozenset({"Nmt", "NFC", "NFKC", "Precompiled", "Lowercase"})
_RUN_OF_SPACES = {"Regex": " {2,}"}

_NUM_CODES = 0x10000  # beside characters of larger codes nothing is cut
_WHITE = " \t\n\r"
_JAMO = range(0x1100, 0x1200)  # letters of Hangul, which are composed to syllables
_SEPARATOR = "\ue000"  # a character for private use: nothing becomes it, none is composed with it

# Choices with equal sums are common: "aaa" is "aa" and "a", or "a" and "aa". So that they are equal
# wherever their sum begins, sums must be exact. They are where scores are multiples of 2**-29: a
# sum below 2**24, of the 500,000 characters that the tokenizer sees at once, then fits into the 53
# bits of a number. Scores of SentencePiece are, being float32; `tokenizer.json` changes their last
# bits, which is undone here.
_SCORE_UNIT = 2.0**-29
_MAX_SCORE_ERROR = 1e-12  # relative

_TABLE_BITS = 23
_FIRST_FACTOR, _SECOND_FACTOR = 0x9E3779B1, 0x85EBCA6B  # odd, and their bits look random


class UnigramCuts:
    """Cuts sentences for one tokenizer.

    `mark`: a piece of one character that is part of no other piece, so that a cut on both its sides
    is exact whatever stands there.
    """

    def __init__(self, *, mark: str, pairs: CodeArray, firsts: CodeArray, lasts: CodeArray):
        """Set up the look-ups.

        - `pairs`: [n, 2] neighbours in pieces.
        - `firsts`, `lasts`: [65536] first and last code of what each character is normalized to; 0
          beside which nothing is cut.
        """
        self.mark = mark
        self._can_cut = firsts > 0
        # Factors are applied here once. Numbers of 32 bits wrap around, as hashes do.
        self._before = lasts * np.uint32(_FIRST_FACTOR)
        self._behind = firsts * np.uint32(_SECOND_FACTOR)
        # Two pairs may share an entry; then one of them is not cut, which costs nothing but time.
        self._is_pair = np.zeros(1 << _TABLE_BITS, np.bool_)
        first, second = pairs[:, 0], pairs[:, 1]
        hashes = first * np.uint32(_FIRST_FACTOR) + second * np.uint32(_SECOND_FACTOR)
        self._is_pair[_entries(hashes)] = True
        self._is_white = np.zeros(_NUM_CODES, np.bool_)
        self._is_white[list(map(ord, _WHITE))] = True

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> Self | None:
        """Read the vocabulary of a tokenizer; None for one that is not of the kind.

        Rounds its scores to float32. `settings`: its `tokenizer.json`.
        """
        model = settings["model"]
        if model["type"] != "Unigram" or settings["pre_tokenizer"] != _PRE_TOKENIZER:
            return None
        if not all(map(_is_local, _steps(settings["normalizer"]))):
            return None
        pieces = [piece for piece, _ in model["vocab"]]
        scores = np.array([score for _, score in model["vocab"]])
        exact = scores.astype(np.float32).astype(np.float64)
        is_float32 = np.allclose(scores, exact, rtol=_MAX_SCORE_ERROR, atol=0)
        if not is_float32 or (exact % _SCORE_UNIT != 0).any():
            return None
        if (scores != exact).any():
            vocabulary = list(zip(pieces, exact.tolist(), strict=True))
            options = {key: model[key] for key in ("unk_id", "byte_fallback")}
            backend.model = tokenizers.models.Unigram(vocabulary, **options)
        alone = {piece for piece in pieces if len(piece) == 1}
        codes = np.frombuffer("\0".join(pieces).encode("utf-32-le"), np.uint32)
        pairs = np.stack([codes[:-1], codes[1:]], axis=1)
        pairs = pairs[(pairs != 0).all(axis=1)]
        joined = set(map(chr, np.unique(pairs).tolist()))
        firsts, lasts = _edges(backend, alone)
        # The last piece of a vocabulary is the rarest.
        for mark in reversed(pieces):
            is_letter = mark in alone and firsts[min(ord(mark), _NUM_CODES - 1)] == ord(mark)
            if is_letter and mark not in joined:
                return cls(mark=mark, pairs=pairs, firsts=firsts, lasts=lasts)
        return None

    def cut(self, texts: Sequence[str], spans: Spans) -> tuple[ByteArray, LongArray, LongArray]:
        """Cut all sentences.

        Returns their UTF-8 with a space before each, as a word begins with one; the byte at which
        each part begins, and the end; and [S, 2] the bytes at which the sentences begin and end.
        """
        sentences: list[str] = []
        for text, text_spans in zip(texts, spans, strict=True):
            sentences += [text[start:stop] for start, stop in text_spans]
        joined = " ".join(["", *sentences])
        codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)  # [C]
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        sentence_bounds = bounds(lengths + 1)  # in characters, with the space
        data = np.frombuffer(joined.encode("utf-8"), np.uint8)
        starts = np.flatnonzero(self._is_cut(codes, sentence_bounds))
        if len(data) == len(codes):  # of ASCII each character is a byte
            return data, np.append(starts, len(data)), _runs(sentence_bounds)
        # Bytes 10xxxxxx continue a character; all others begin one.
        byte_starts = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
        cuts = np.append(byte_starts[starts], len(data))
        return data, cuts, _runs(byte_starts[sentence_bounds])

    def can_end(self, part: str) -> bool:
        """Whether what follows a part stays apart: its end is neither white space nor dropped."""
        code = ord(part[-1])
        return code < _NUM_CODES and bool(self._can_cut[code])

    def _is_cut(self, codes: CodeArray, sentence_bounds: LongArray) -> BoolArray:
        """[C] whether a part begins at each character."""
        # Characters of larger codes take the place of 0, beside which nothing is cut.
        small = np.where(codes < _NUM_CODES, codes, np.uint32(0))
        hashes = self._before[small[:-1]] + self._behind[small[1:]]
        can_cut = self._can_cut[small]
        is_cut = np.zeros(len(codes), np.bool_)
        is_cut[1:] = can_cut[:-1] & can_cut[1:] & ~self._is_pair[_entries(hashes)]
        # White space goes with the word behind it.
        is_white = self._is_white[small]
        is_cut[1:] |= is_white[1:] & ~is_white[:-1]
        is_cut[sentence_bounds[:-1]] = True
        return is_cut


def _entries(hashes: CodeArray) -> CodeArray:
    """The entry of the table for each hash, by its upper bits, which depend on all others."""
    entries: CodeArray = hashes >> np.uint32(32 - _TABLE_BITS)
    return entries


def _runs(run_bounds: LongArray) -> LongArray:
    """[S + 1] bounds -> [S, 2] starts and stops."""
    return np.stack([run_bounds[:-1], run_bounds[1:]], axis=1)


def _steps(normalizer: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The normalizers that a sequence of them is made of."""
    if normalizer is None:
        return
    if normalizer["type"] == "Sequence":
        for step in normalizer["normalizers"]:
            yield from _steps(step)
    else:
        yield normalizer


def _is_local(step: Mapping[str, Any]) -> bool:
    """Whether a normalizer does the same to the parts of a text as to the whole."""
    if step["type"] == "Replace":
        pattern = step["pattern"]
        return pattern == _RUN_OF_SPACES or len(pattern.get("String", "")) == 1
    return step["type"] in _NORMALIZERS


def _edges(backend: tokenizers.Tokenizer, alone: set[str]) -> tuple[CodeArray, CodeArray]:
    """[65536] the first and the last code of what each character is normalized to.

    0 for those beside which nothing is cut: both ends must be letters, numbers, punctuation or
    symbols that are pieces, of a kind that is composed with nothing before it.
    """
    firsts, lasts = np.zeros(_NUM_CODES, np.uint32), np.zeros(_NUM_CODES, np.uint32)
    letters = []
    for code in range(_NUM_CODES):
        if category(chr(code))[0] in "LNPS" and code not in _JAMO:
            letters.append(chr(code))
    normalized = letters
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(_SEPARATOR.join(letters))
        normalized = text.split(_SEPARATOR)
    for letter, text in zip(letters, normalized, strict=True):
        ends = text[:1], text[-1:]
        if all(map(alone.__contains__, ends)) and all(map(_stands_alone, text)):
            firsts[ord(letter)], lasts[ord(letter)] = map(ord, ends)
    return firsts, lasts


def _stands_alone(character: str) -> bool:
    is_visible = category(character)[0] in "LNPS" and character != _METASPACE
    return is_visible and ord(character) not in _JAMO
