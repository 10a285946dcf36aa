"""Sentences -> token ids, as the tokenizer gives them, at several times its rate.

BERT's tokenizers cut a text at white space, punctuation and Han characters, and look at each piece
alone. Words repeat (Zipf 1949). So the UTF-8 of all texts is cut at once, Arrow lists the distinct
pieces, the tokenizer sees each of them once, and numpy gathers their ids: no Python object stands
for a token.

Unigram tokenizers like XLM-R's are asked in the same way; `unigram` says where a text is cut for
them. Vocabularies of other kinds (byte-level BPE) get the tokenizer itself. So does any tokenizer
whose ids for a probe text are not the same both ways.

Shapes: N bytes of all texts, S sentences, P pieces, T ids.
"""

import gc
import json
import string
import threading
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Any
from unicodedata import category

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tokenizers
from tokenizers.pre_tokenizers import BertPreTokenizer

from bertsum.text.ragged import bounds, ranges
from bertsum.text.unigram import UnigramCuts

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
Spans = Sequence[Sequence[tuple[int, int]]]
Piece = tuple[str, float]

# Given to the tokenizer at once, also of one sentence: it takes up to 500 bytes a character, and a
# file without a single full stop is one sentence. Where a longer sentence is cut, ids may differ.
_TOKENIZE_CHARACTERS = 500_000
# Pieces that are remembered before all are forgotten: some 60 MB. English news hold 60,000 distinct
# pieces a million words.
_MAX_PIECES = 300_000
_MAX_PIECE_CHARACTERS = 20_000_000

# Score of a piece, below the sum of any split of a special token into its letters.
_NEVER_CHOSEN = -100.0

# Short pieces are tokenized together, with a mark after each. This one is for BERT's tokenizers.
_MARK = "|"
_JOINED_PIECES = 64
_MAX_JOINED_CHARACTERS = 100

# Kinds of characters. All others are 0.
_WHITE = 1
_ALONE = 2  # a piece of its own

_HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00))
_PUNCTUATION = ((0x2010, 0x2070), (0x3000, 0x3040), (0xFF00, 0xFFF0))


class Tokenizer:
    """Ids of sentences by a tokenizer of the `tokenizers` library.

    Remembers the ids of pieces. Threads may share one.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        """`backend` neither pads nor truncates, and reads special tokens as text."""
        self._backend = backend
        self._lock = threading.Lock()
        self._unigram = _unigram_cuts(backend)
        self._mark = self._unigram.mark if self._unigram else _MARK
        mark_ids, _ = self._encode([self._mark])
        self._mark_id = int(mark_ids[-1]) if len(mark_ids) else -1
        # What is not the beginning of a word for a Unigram tokenizer must not be alone: a mark goes
        # before it, and the ids of "▁" and the mark are left out.
        self._lead = self._mark if self._unigram else ""
        self._num_lead_ids = len(mark_ids) if self._unigram else 0
        # The memory: ids of piece p are _ids[_starts[row]:][:_lengths[row]] with row = _rows[p].
        self._rows: dict[str, int] = {}
        self._num_characters = 0
        self._ids: IntArray
        self._starts: LongArray
        self._lengths: IntArray
        self._forget()
        self.is_by_pieces = self._can_cut_by_pieces()
        self._forget()

    def tokenize(self, texts: Sequence[str], spans: Spans) -> tuple[IntArray, IntArray]:
        """Tokenize the sentences of all texts.

        `spans`: the sentences of each text, as (start, stop) in characters.

        Returns the ids of all sentences, [T], one sentence after the other, and the number of ids
        of each, [S]. Raises UnicodeEncodeError for a lone surrogate.
        """
        if self.is_by_pieces:
            with self._lock:
                return self._tokenize_by_pieces(texts, spans)
        sentences: list[str] = []
        for text, text_spans in zip(texts, spans, strict=True):
            sentences += [text[start:stop] for start, stop in text_spans]
        return self._tokenize_by_sentences(sentences)

    def _can_cut_by_pieces(self) -> bool:
        """Whether pieces of texts get the ids of the whole; a probe text must agree."""
        is_bert = isinstance(self._backend.pre_tokenizer, BertPreTokenizer)
        if not is_bert and self._unigram is None:
            return False
        for token in self._backend.get_added_tokens_decoder().values():
            if not token.special:  # searched for before a text is cut, so it may span pieces
                return False
        text = _probe_text()
        spans = [(start, min(start + 2000, len(text))) for start in range(0, len(text), 2000)]
        expected = self._tokenize_by_sentences([text[start:stop] for start, stop in spans])
        return all(map(np.array_equal, self._tokenize_by_pieces([text], [spans]), expected))

    def _tokenize_by_sentences(self, sentences: list[str]) -> tuple[IntArray, IntArray]:
        parts: list[str] = []
        part_sentences: list[int] = []
        for index, text in enumerate(sentences):
            for start in range(0, len(text), _TOKENIZE_CHARACTERS):
                parts.append(text[start : start + _TOKENIZE_CHARACTERS])
                part_sentences.append(index)
        ids, lengths = self._encode(parts)
        return ids, np.bincount(part_sentences, lengths, len(sentences)).astype(np.int32)

    def _tokenize_by_pieces(self, texts: Sequence[str], spans: Spans) -> tuple[IntArray, IntArray]:
        if not any(texts):
            return np.zeros(0, np.int32), np.zeros(sum(map(len, spans)), np.int32)
        # [N] bytes, [P + 1] cuts, [S, 2] bytes of the sentences
        cut = self._unigram.cut if self._unigram else _cut_as_bert
        data, cuts, sentence_bytes = cut(texts, spans)
        cuts = _cut_long_pieces(data, cuts)
        rows = self._look_up(data, cuts)  # [P]
        # Each bound of a sentence is a cut, so that a sentence is the pieces first:last.
        first = np.searchsorted(cuts, sentence_bytes[:, 0])
        last = np.searchsorted(cuts, sentence_bytes[:, 1])
        # Pieces between sentences give no ids. With first = [0, 3] and last = [2, 4] of 4 pieces,
        # the steps are [1, 0, -1, 1, -1] and their sums [1, 1, 0, 1]: piece 2 is in no sentence.
        steps = np.bincount(first, minlength=len(cuts)) - np.bincount(last, minlength=len(cuts))
        lengths = self._lengths[rows]
        lengths[np.cumsum(steps)[:-1] == 0] = 0
        starts = self._starts[rows]
        id_bounds = bounds(lengths)
        num_ids = (id_bounds[last] - id_bounds[first]).astype(np.int32)
        return self._ids[ranges(starts, starts + lengths)], num_ids

    def _look_up(self, data: ByteArray, cuts: LongArray) -> LongArray:
        """[P] rows of the pieces in the memory, once new pieces were added to it."""
        # Arrow takes the bytes and the cuts as they are: string i is data[cuts[i]:cuts[i + 1]].
        num_pieces = len(cuts) - 1
        buffers = (pa.py_buffer(cuts), pa.py_buffer(data))
        encoded = pa.LargeStringArray.from_buffers(num_pieces, *buffers).dictionary_encode()
        distinct = encoded.dictionary.to_pylist()
        # Forget before a look-up, never in it: rows of one call come from one state of the memory.
        if len(self._rows) > _MAX_PIECES or self._num_characters > _MAX_PIECE_CHARACTERS:
            self._forget()
        rows = list(map(self._rows.get, distinct))
        if None in rows:
            known = zip(distinct, rows, strict=True)
            self._learn([piece for piece, row in known if row is None])
            rows = list(map(self._rows.get, distinct))
        # int32; Arrow's own way to numpy imports pandas
        indices = np.frombuffer(encoded.indices.buffers()[1], np.int32, num_pieces)
        piece_rows: LongArray = np.array(rows, np.int64)[indices]
        return piece_rows

    def _learn(self, pieces: list[str]) -> None:
        """Append new pieces and their ids to the memory."""
        if not pieces:
            return
        short: list[str] = []
        others: list[str] = []
        for piece in pieces:
            can_be_joined = len(piece) <= _MAX_JOINED_CHARACTERS and self._mark not in piece
            if can_be_joined and self._unigram:
                can_be_joined = self._unigram.can_end(piece)
            (short if can_be_joined else others).append(piece)
        short_ids, short_lengths = self._encode_joined(short)
        other_ids, other_lengths = self._encode_led(others)
        first_row = len(self._rows)
        rows = range(first_row, first_row + len(pieces))
        self._rows.update(zip(chain(short, others), rows, strict=True))
        self._ids = np.concatenate([self._ids, short_ids, other_ids])
        self._lengths = np.concatenate([self._lengths, short_lengths, other_lengths])
        self._starts = bounds(self._lengths)[:-1]
        self._num_characters += sum(map(len, pieces))

    def _forget(self) -> None:
        self._rows = {}
        self._num_characters = 0
        self._ids = np.zeros(0, np.int32)
        self._starts = np.zeros(0, np.int64)
        self._lengths = np.zeros(0, np.int32)

    def _encode_joined(self, pieces: list[str]) -> tuple[IntArray, IntArray]:
        """Do the same as `_encode` at less than half its cost: a call of the tokenizer is dear.

        ["The", " cat"] -> "The| cat|" -> ids [7, mark, 8, mark] -> ids [7, 8], lengths [1, 1]
        """
        texts = []
        for start in range(0, len(pieces), _JOINED_PIECES):
            group = pieces[start : start + _JOINED_PIECES]
            texts.append(self._mark.join([*group, ""]))
        ids, _ = self._encode_led(texts)
        marks = np.flatnonzero(ids == self._mark_id)
        if len(marks) != len(pieces):  # a piece has become the mark, or a mark something else
            return self._encode_led(pieces)
        return np.delete(ids, marks), np.diff(marks, prepend=-1).astype(np.int32) - 1

    def _encode_led(self, texts: list[str]) -> tuple[IntArray, IntArray]:
        """Do the same as `_encode` for texts that may begin inside a word."""
        if not self._lead:
            return self._encode(texts)
        ids, lengths = self._encode([self._lead + text for text in texts])
        stops = bounds(lengths)[1:]
        lengths -= self._num_lead_ids
        return ids[ranges(stops - lengths, stops)], lengths

    def _encode(self, texts: list[str]) -> tuple[IntArray, IntArray]:
        """Ids of all texts, and the number of each text's, by the tokenizer itself."""
        ids = [np.zeros(0, np.int32)]
        lengths = [np.zeros(0, np.int32)]
        for part in _parts(texts, _TOKENIZE_CHARACTERS):
            encodings = self._backend.encode_batch_fast(part, add_special_tokens=False)
            part_ids = [encoding.ids for encoding in encodings]
            part_lengths = np.fromiter(map(len, part_ids), np.int32, len(part_ids))
            num_ids = int(part_lengths.sum())
            ids.append(np.fromiter(chain.from_iterable(part_ids), np.int32, num_ids))
            lengths.append(part_lengths)
        return np.concatenate(ids), np.concatenate(lengths)


def _unigram_cuts(backend: tokenizers.Tokenizer) -> UnigramCuts | None:
    if not isinstance(backend.model, tokenizers.models.Unigram):
        return None
    was_collecting = gc.isenabled()
    gc.disable()  # which would look at each of 250,000 pieces again and again: 0.4 s
    try:
        settings = json.loads(backend.to_str())
    finally:
        if was_collecting:
            gc.enable()
    _hide_special_pieces(backend, settings["model"])
    return UnigramCuts.of(backend, settings)


def _hide_special_pieces(backend: tokenizers.Tokenizer, model: dict[str, Any]) -> None:
    """Keep a Unigram model from choosing special tokens: see `hidden_pieces`.

    `model`: the part of the tokenizer's JSON; its scores change along.
    """
    added = backend.get_added_tokens_decoder().values()
    special = {token.content for token in added if token.special}
    pieces = [(piece, score) for piece, score in model["vocab"]]
    hidden = hidden_pieces(pieces, special)
    if hidden == pieces:
        return
    model["vocab"] = hidden
    options = {key: model[key] for key in ("unk_id", "byte_fallback")}
    backend.model = tokenizers.models.Unigram(hidden, **options)


def hidden_pieces(pieces: list[Piece], special: Collection[str]) -> list[Piece]:
    """Pieces and their scores, those of special tokens so low that an author's "<s>" is text.

    `encode_special_tokens` only stops the search for them before a text is cut. They are pieces of
    the vocabulary, too, with the best of all scores.

    The score of an unknown character lies below that of any piece, so it sinks along. That changes
    nothing where each character of a piece is a piece itself; other vocabularies stay as they are.
    """
    names = {piece for piece, _ in pieces}
    if not set("".join(names)) <= names:
        return pieces
    return [(piece, _NEVER_CHOSEN if piece in special else score) for piece, score in pieces]


def _cut_as_bert(texts: Sequence[str], spans: Spans) -> tuple[ByteArray, LongArray, LongArray]:
    """[N] the UTF-8 of all texts, [P + 1] where pieces begin, and [S, 2] the bytes of sentences."""
    joined = "".join(texts)
    data = np.frombuffer(joined.encode("utf-8"), np.uint8)
    sentence_bytes = _byte_bounds(data, joined.isascii(), texts, spans)
    return data, _cuts(data, sentence_bytes), sentence_bytes


def _byte_bounds(data: ByteArray, is_ascii: bool, texts: Sequence[str], spans: Spans) -> LongArray:
    """[S, 2] of all sentences: (start, stop) in bytes of the joined texts.

    texts ["é.", "b"], spans [[(0, 2)], [(0, 1)]] -> characters [[0, 2], [2, 3]]
    -> bytes [[0, 3], [3, 4]], since é takes two.
    """
    counts = np.fromiter(map(len, spans), np.int64, len(spans))
    flat = chain.from_iterable(chain.from_iterable(spans))
    characters = np.fromiter(flat, np.int64, 2 * int(counts.sum())).reshape(-1, 2)
    text_lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    text_starts = bounds(text_lengths)[:-1]
    characters += np.repeat(text_starts, counts)[:, None]
    if is_ascii:
        return characters
    # Bytes 10xxxxxx continue a character; all others begin one. Those that continue are few: before
    # byte 1 of "é.", the first of them, 1 character has begun, so character 1 and all behind it lie
    # a byte farther.
    continuing = np.flatnonzero((data & 0xC0) == 0x80)
    num_begun = continuing - np.arange(len(continuing))
    byte_bounds: LongArray = characters + np.searchsorted(num_begun, characters, side="right")
    return byte_bounds


def _cuts(data: ByteArray, sentence_bytes: LongArray) -> LongArray:
    """[P + 1] the byte at which each piece begins, and the end of the data.

    Cuts are at each bound of a sentence, around what stands alone, and before white space, which
    goes with the piece behind it. For "don't  ,a", with _ for white space:

        bytes     d o n ' t _ _ , a
        kinds     0 0 0 2 0 1 1 2 0
        before    0 0 0 0 2 0 1 1 2     the kind of what ends before the byte
        is_cut    1 0 0 1 1 1 0 0 1     pieces "don", "'", "t", "  ,", "a"
    """
    kinds = np.frombuffer(data.tobytes().translate(_KIND_OF_BYTE), np.uint8)
    before = np.zeros(len(data) + 1, np.uint8)
    before[1:] = kinds
    leads = np.flatnonzero(data >= 0xE0)  # first bytes of characters of three bytes and more
    if len(leads):
        # 1110aaaa 10bbbbbb 10cccccc is the character aaaabbbbbbcccccc. Those of four bytes, from
        # 0xF0 on, never stand alone here; the padding is for bytes behind the last one of them.
        padded = np.append(data, np.zeros(2, np.uint8)).astype(np.int32)
        high, middle, low = padded[leads] & 0x0F, padded[leads + 1] & 0x3F, padded[leads + 2] & 0x3F
        codes = high << 12 | middle << 6 | low
        alone = leads[_IS_ALONE[codes] & (data[leads] < 0xF0)]
        kinds = kinds.copy()
        kinds[alone] = before[alone + 3] = _ALONE
    before = before[:-1]
    # Behind white space nothing is cut: the white space goes along.
    is_cut = (before == _ALONE) | ((kinds != 0) & (before != _WHITE))
    is_cut[0] = True
    is_cut[sentence_bytes[sentence_bytes < len(data)]] = True
    return np.append(np.flatnonzero(is_cut), len(data))


def _cut_long_pieces(data: ByteArray, cuts: LongArray) -> LongArray:
    """Add cuts, so that no piece is longer than the tokenizer may see at once."""
    if not (np.diff(cuts) > _TOKENIZE_CHARACTERS).any():
        return cuts
    added: list[int] = []  # cuts inside pieces that are too long
    for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        for offset in range(start + _TOKENIZE_CHARACTERS, stop, _TOKENIZE_CHARACTERS):
            while data[offset] & 0xC0 == 0x80:  # back to the first byte of the character
                offset -= 1
            added.append(offset)
    return np.union1d(cuts, np.array(added, np.int64))


def _parts(texts: list[str], max_characters: int) -> Iterator[list[str]]:
    """Runs of texts of at most `max_characters` together; a longer text is alone."""
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


def _is_alone() -> npt.NDArray[np.bool_]:
    """[65536] whether a character of three bytes is a piece of its own.

    It is if it is Han, or of the punctuation that goes with Han and with typeset English.
    """
    alone = np.zeros(0x10000, np.bool_)
    for start, stop in _HAN:
        alone[start:stop] = True
    for start, stop in _PUNCTUATION:
        alone[start:stop] = [category(chr(code))[0] == "P" for code in range(start, stop)]
    return alone


_KINDS = dict.fromkeys(" \t\n\r", _WHITE) | dict.fromkeys(string.punctuation, _ALONE)
_KIND_OF_BYTE = bytes(_KINDS.get(chr(byte), 0) for byte in range(256))  # for bytes.translate
_IS_ALONE = _is_alone()


def _probe_text() -> str:
    """Characters of all kinds inside, before, after and between words; pairs of punctuation."""
    # Whole blocks where BERT's rules differ from character to character, samples elsewhere.
    blocks = ((0, 0x250), (0x300, 0x370), (0x2000, 0x2070), (0x3000, 0x3100), (0xFF00, 0xFFF0))
    codes = list(chain.from_iterable(range(*block) for block in blocks))
    codes += [*range(0x1F600, 0x1F610), *range(0x370, 0xD800, 211)]
    for start, stop in _HAN:
        codes += [*range(start, stop, 499), stop - 1]
    parts = [f"e{c}e {c}{c} {c}e {c}. e{c}" for c in map(chr, codes)]
    for a in string.punctuation:
        parts += [f"a{a}{b}b {a}{b}" for b in string.punctuation]
    return " ".join([*parts, "word" * 40, "Zürich 你好 naïve don't e-mail 12,345.60"])
