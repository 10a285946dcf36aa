"""Sentences -> token ids, as the tokenizer gives them, at several times its rate.

BERT's tokenizers cut a text at white space, punctuation and Han characters, and look at each piece alone. Words repeat
(Zipf 1949), so the UTF-8 of all texts is cut at once, Arrow finds the distinct pieces, the tokenizer sees each of them
once, and numpy gathers their ids: no Python object stands for a token. A vocabulary of another kind (byte-level BPE,
Unigram) gets the tokenizer itself, and so does one that a comparison of both ways on a probe text finds different.
"""

import string
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any
from unicodedata import category

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers.pre_tokenizers import BertPreTokenizer

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]

# At once, also of one sentence: a tokenizer takes up to 500 bytes a character, and a file without a single full stop
# is one sentence. Where a sentence of more is cut, its tokens may differ.
_TOKENIZE_CHARACTERS = 500_000
_MAX_PIECES = 300_000  # remembered before all are forgotten: some 60 MB, and English news hold 60,000 a million words
_MAX_PIECE_CHARACTERS = 20_000_000

_MARK, _JOINED_PIECES, _MAX_JOINED = "|", 64, 100  # between pieces that are tokenized together; how many, how long

_WHITE, _ALONE = 1, 2
_HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00))
_PUNCTUATION = ((0x2010, 0x2070), (0x3000, 0x3040), (0xFF00, 0xFFF0))


class Tokenizer:
    """Ids of sentences by a tokenizer of the `tokenizers` library; remembers pieces. Threads may share one."""

    def __init__(self, backend: Any):
        """`backend`: a `tokenizers.Tokenizer`, set to neither pad nor truncate, and to read special tokens as text."""
        self._backend = backend
        self._lock = threading.Lock()
        self._mark_id = self._id_of_mark()
        self._rows: dict[str, int] = {}
        self._ids: IntArray
        self._starts: LongArray
        self._lengths: IntArray
        self._forget()
        self.is_by_pieces = self._cuts_like_bert() and self._agrees_on(_probe_text())
        self._forget()

    def tokenize(self, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]) -> tuple[IntArray, IntArray]:
        """Ids of all sentences one after the other, and the number of ids of each.

        `spans`: of the sentences of each text, (start, stop) in characters. Raises UnicodeEncodeError for a lone
        surrogate.
        """
        if self.is_by_pieces:
            with self._lock:
                return self._by_pieces(texts, spans)
        return self._by_sentences([text[a:b] for text, bounds in zip(texts, spans, strict=True) for a, b in bounds])

    def _cuts_like_bert(self) -> bool:
        added = self._backend.get_added_tokens_decoder().values()  # those not special are found before a text is cut
        return isinstance(self._backend.pre_tokenizer, BertPreTokenizer) and all(token.special for token in added)

    def _agrees_on(self, text: str) -> bool:
        """Whether both ways give the same ids."""
        spans = [(start, min(start + 2000, len(text))) for start in range(0, len(text), 2000)]
        expected = self._by_sentences([text[start:stop] for start, stop in spans])
        found = self._by_pieces([text], [spans])
        return all(map(np.array_equal, found, expected))

    def _id_of_mark(self) -> int:
        ids, _ = self._encode([_MARK])
        return int(ids[0]) if len(ids) == 1 else -1

    def _by_sentences(self, sentences: list[str]) -> tuple[IntArray, IntArray]:
        limit = _TOKENIZE_CHARACTERS
        starts = [(index, start) for index, text in enumerate(sentences) for start in range(0, len(text), limit)]
        ids, lengths = self._encode([sentences[index][start : start + limit] for index, start in starts])
        num_ids = np.bincount([index for index, _ in starts], lengths, len(sentences))
        return ids, num_ids.astype(np.int32)

    def _by_pieces(self, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]) -> tuple[IntArray, IntArray]:
        joined = "".join(texts)
        if not joined:
            return np.zeros(0, np.int32), np.zeros(sum(map(len, spans)), np.int32)
        data = np.frombuffer(joined.encode("utf-8"), np.uint8)
        bounds = _byte_bounds(data, joined.isascii(), texts, spans)
        cuts = _cuts(data, bounds)
        rows = self._look_up(data, cuts)
        first, last = np.searchsorted(cuts, bounds[:, 0]), np.searchsorted(cuts, bounds[:, 1])
        lengths = self._lengths[rows]
        lengths[_outside(first, last, len(rows))] = 0
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        sources = np.repeat(self._starts[rows] - ends[:-1], lengths) + np.arange(ends[-1])
        return self._ids[sources], (ends[last] - ends[first]).astype(np.int32)

    def _look_up(self, data: ByteArray, cuts: LongArray) -> LongArray:
        """The row of each piece data[cuts[i]:cuts[i + 1]] in the memory, after new ones were added to it."""
        array = pa.LargeStringArray.from_buffers(len(cuts) - 1, pa.py_buffer(cuts), pa.py_buffer(data))
        encoded = array.dictionary_encode()
        pieces = encoded.dictionary.to_pylist()
        if len(self._rows) > _MAX_PIECES or self._num_characters > _MAX_PIECE_CHARACTERS:
            self._forget()
        self._learn([piece for piece in pieces if piece not in self._rows])
        rows = np.fromiter(map(self._rows.__getitem__, pieces), np.int64, len(pieces))
        found: LongArray = rows[encoded.indices.to_numpy(zero_copy_only=False)]
        return found

    def _learn(self, pieces: list[str]) -> None:
        plain = [piece for piece in pieces if len(piece) <= _MAX_JOINED and _MARK not in piece]
        others = [piece for piece in pieces if len(piece) > _MAX_JOINED or _MARK in piece]
        for some, encode in ((plain, self._encode_joined), (others, self._encode)):
            if some:
                self._remember(some, *encode(some))

    def _remember(self, pieces: list[str], ids: IntArray, lengths: IntArray) -> None:
        self._rows.update(zip(pieces, range(len(self._rows), len(self._rows) + len(pieces)), strict=True))
        self._starts = np.concatenate([self._starts, len(self._ids) + np.cumsum(lengths) - lengths])
        self._lengths = np.concatenate([self._lengths, lengths])
        self._ids = np.concatenate([self._ids, ids])
        self._num_characters += sum(map(len, pieces))

    def _forget(self) -> None:
        self._rows = {}
        self._num_characters = 0
        self._ids, self._starts, self._lengths = np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int32)

    def _encode_joined(self, pieces: list[str]) -> tuple[IntArray, IntArray]:
        """The same as `_encode`, at less than half its cost: many short pieces in one text, a mark after each."""
        groups = [pieces[start : start + _JOINED_PIECES] for start in range(0, len(pieces), _JOINED_PIECES)]
        ids, _ = self._encode([_MARK.join([*group, ""]) for group in groups])
        marks = np.flatnonzero(ids == self._mark_id)
        if len(marks) != len(pieces):  # something else has become the mark, or the mark something else
            return self._encode(pieces)
        return np.delete(ids, marks), np.diff(marks, prepend=-1).astype(np.int32) - 1

    def _encode(self, texts: list[str]) -> tuple[IntArray, IntArray]:
        ids, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        for part in _parts(texts, _TOKENIZE_CHARACTERS):
            encodings = [encoding.ids for encoding in self._backend.encode_batch_fast(part, add_special_tokens=False)]
            lengths.append(np.fromiter(map(len, encodings), np.int32, len(encodings)))
            ids.append(np.fromiter(chain.from_iterable(encodings), np.int32, int(lengths[-1].sum())))
        return np.concatenate(ids), np.concatenate(lengths)


def _byte_bounds(
    data: ByteArray, is_ascii: bool, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]
) -> LongArray:
    """[S, 2] of all sentences, (start, stop) in bytes of the joined texts."""
    counts = np.fromiter(map(len, spans), np.int64, len(spans))
    flat = chain.from_iterable(chain.from_iterable(spans))
    bounds = np.fromiter(flat, np.int64, 2 * int(counts.sum())).reshape(-1, 2)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    bounds += np.repeat(np.concatenate([[0], ends[:-1]]), counts)[:, None] if len(texts) else 0
    if is_ascii:
        return bounds
    starts = np.flatnonzero((data & 0xC0) != 0x80)  # of characters
    places: LongArray = np.append(starts, len(data))[bounds]
    return places


def _cuts(data: ByteArray, bounds: LongArray) -> LongArray:
    """Where pieces begin, and the end of the data: at each bound, at white space, and around what stands alone.

    A piece takes the white space before it along. No piece is longer than the tokenizer may see at once.
    """
    kinds = np.frombuffer(data.tobytes().translate(_KIND_OF_BYTE), np.uint8)
    before = np.concatenate([np.zeros(1, np.uint8), kinds[:-1]])
    leads = np.flatnonzero(data >= 0xE0)  # of characters of three bytes and more
    if len(leads):
        kinds, before = kinds.copy(), np.append(before, np.uint8(0))
        padded = np.append(data, np.zeros(2, np.uint8)).astype(np.int32)
        codes = (padded[leads] & 0x0F) << 12 | (padded[leads + 1] & 0x3F) << 6 | (padded[leads + 2] & 0x3F)
        alone = leads[_IS_ALONE[codes] & (data[leads] < 0xF0)]
        kinds[alone] = before[alone + 3] = _ALONE
        before = before[:-1]
    is_cut = (before & _ALONE) | (kinds & ~(before << 1 & _ALONE)) & _ALONE | (kinds & ~before & _WHITE)
    is_cut[bounds[bounds < len(data)]] = 1
    cuts = np.append(np.flatnonzero(is_cut), len(data))
    cuts = cuts if cuts[0] == 0 else np.concatenate([[0], cuts])
    return _cut_long(data, cuts) if (np.diff(cuts) > _TOKENIZE_CHARACTERS).any() else cuts


def _cut_long(data: ByteArray, cuts: LongArray) -> LongArray:
    """Further cuts, at characters, where a piece is too long."""
    more = [
        place - next(back for back in range(4) if data[place - back] & 0xC0 != 0x80)
        for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        for place in range(start + _TOKENIZE_CHARACTERS, stop, _TOKENIZE_CHARACTERS)
    ]
    return np.union1d(cuts, np.array(more, np.int64))


def _outside(first: LongArray, last: LongArray, num_pieces: int) -> npt.NDArray[np.bool_]:
    """[num_pieces] whether a piece lies in no sentence; the sentences hold pieces [first, last)."""
    steps = np.bincount(first, minlength=num_pieces + 1) - np.bincount(last, minlength=num_pieces + 1)
    outside: npt.NDArray[np.bool_] = np.cumsum(steps)[:num_pieces] == 0
    return outside


def _parts(texts: list[str], max_characters: int) -> Iterator[list[str]]:
    """Runs of texts of at most `max_characters` together; a longer one is alone."""
    part: list[str] = []
    room = max_characters
    for text in texts:
        if part and len(text) > room:
            yield part
            part, room = [], max_characters
        part.append(text)
        room -= len(text)
    if part:
        yield part


def _kind_of_byte() -> bytes:
    kinds = bytearray(256)
    for characters, kind in ((" \t\n\r", _WHITE), (string.punctuation, _ALONE)):
        for character in characters:
            kinds[ord(character)] = kind
    return bytes(kinds)


def _is_alone() -> npt.NDArray[np.bool_]:
    """[65536] characters of three bytes that are a piece of their own: Han, and the punctuation that goes with it."""
    alone = np.zeros(0x10000, np.bool_)
    for start, stop in _HAN:
        alone[start:stop] = True
    for start, stop in _PUNCTUATION:
        alone[start:stop] = [category(chr(code))[0] == "P" for code in range(start, stop)]
    return alone


_KIND_OF_BYTE = _kind_of_byte()
_IS_ALONE = _is_alone()


def _probe_text() -> str:
    """Each kind of character inside, before, after and between words, and each pair of ASCII punctuation."""
    ranges = ((0, 0x250), (0x300, 0x370), (0x2000, 0x2070), (0x3000, 0x3100), (0xFF00, 0xFFF0), (0x1F600, 0x1F610))
    codes = [*chain.from_iterable(range(*bounds) for bounds in ranges), *range(0x370, 0xD800, 211)]
    codes += [code for bounds in _HAN for code in (*range(*bounds, 499), bounds[1] - 1)]
    contexts = [f"e{c}e {c}{c} {c}e {c}. e{c}" for c in map(chr, codes)]
    pairs = [f"a{a}{b}b {a}{b}" for a in string.punctuation for b in string.punctuation]
    return " ".join([*contexts, *pairs, "word" * 40, "Zürich 你好 naïve don't e-mail 12,345.60"])
