"""Where each sentence of each document goes: windows of whole sentences, many documents at once.

Each sentence becomes `[CLS] sentence [SEP]` (Liu & Lapata 2019, "Text Summarization with Pretrained
Encoders"). A sentence longer than a window is cut into pieces, which count as one sentence. A
window is as full as the next piece allows.

Shapes: B documents, S sentences, P pieces that were read, W windows, T tokens of these pieces with
[CLS] and [SEP].
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt

from bertsum.text.ragged import bounds, offsets, ranges, run_numbers

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows of several documents, one document after the other.

    Document b has the tokens token_bounds[b]:token_bounds[b + 1]; pieces and windows likewise.
    """

    input_ids: IntArray  # [T]
    token_type_ids: IntArray  # [T] 0, 1, 0, ... by pieces of a window
    token_sentences: IntArray  # [T] sentence of each token in its document
    cls_positions: IntArray  # [P] in the tokens of its document
    window_lengths: IntArray  # [W]
    token_bounds: list[int]  # [B + 1]
    piece_bounds: list[int]  # [B + 1]
    window_bounds: list[int]  # [B + 1]
    num_read_sentences: list[int]  # [B]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """How much of a document is read: `max_windows` windows of at most `max_tokens` tokens."""

    max_tokens: int
    max_windows: int


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of [CLS] and [SEP]."""

    cls: int
    sep: int


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Parts of sentences that are in one window. Piece p has ids[start[p]:start[p] + length[p]]."""

    sentence: LongArray  # [P] among those of all documents
    start: LongArray  # [P]
    length: LongArray  # [P]

    @classmethod
    def cut(cls, lengths: IntArray, longest: int) -> Self:
        """Make one piece of each sentence, also of an empty one, and more where it is too long.

        With lengths [3, 5] and longest 4: sentence [0, 1, 1], start [0, 3, 7], length [3, 4, 1].
        """
        rounded_up = -(-lengths.astype(np.int64) // longest)
        counts = np.maximum(1, rounded_up)
        sentence = run_numbers(counts)
        offset = offsets(counts) * longest
        start = bounds(lengths)[sentence] + offset
        return cls(sentence, start, np.minimum(longest, lengths[sentence] - offset))

    @property
    def size(self) -> LongArray:
        """[P] tokens of each piece: its ids, [CLS] and [SEP]."""
        return self.length + 2

    def select(self, indices: LongArray) -> "_Pieces":
        return _Pieces(self.sentence[indices], self.start[indices], self.length[indices])

    def tokens(self, ids: IntArray, special: SpecialIds) -> IntArray:
        """[T] of all pieces, one after the other: [CLS] ids [SEP] [CLS] ids [SEP] ..."""
        token_bounds = bounds(self.size)
        # All are [SEP] at first; [CLS] and the ids leave one of them, at the end of a piece.
        tokens = np.full(token_bounds[-1], special.sep, np.int32)
        tokens[token_bounds[:-1]] = special.cls
        sources = ranges(self.start, self.start + self.length)
        tokens[ranges(token_bounds[:-1] + 1, token_bounds[1:] - 1)] = ids[sources]
        return tokens


def make_windows(
    ids: IntArray,
    lengths: IntArray,
    counts: LongArray,
    *,
    special: SpecialIds,
    limits: WindowLimits,
) -> Windows:
    """Cut documents into windows.

    `ids`: of all sentences, one after the other, without special tokens.
    `lengths`: [S] number of ids of each sentence.
    `counts`: [B] number of sentences of each document.
    """
    all_pieces = _Pieces.cut(lengths, limits.max_tokens - 2)  # beside [CLS] and [SEP]
    sentence_bounds = bounds(counts)
    first_pieces = np.searchsorted(all_pieces.sentence, sentence_bounds)
    window_pieces, window_bounds, read_until = _fill(all_pieces.size, first_pieces, limits)

    # From here on only pieces that were read count.
    num_pieces = read_until - first_pieces[:-1]  # [B]
    read = ranges(first_pieces[:-1], read_until)  # [P] indices among all pieces
    pieces = all_pieces.select(read)
    document = run_numbers(num_pieces)  # [P]
    sentence = pieces.sentence - sentence_bounds[document]  # [P] in its document
    piece_bounds = bounds(num_pieces)
    token_bounds = bounds(pieces.size)  # [P + 1] of pieces
    document_tokens = token_bounds[piece_bounds]  # [B + 1] of documents

    # Each window begins with a piece that was read, so that its index among them can be looked up.
    window_starts = np.append(np.searchsorted(read, window_pieces), len(read))  # [W + 1]
    index_in_window = offsets(np.diff(window_starts))  # [P]
    num_read = np.zeros(len(counts), np.int64)
    np.maximum.at(num_read, document, sentence + 1)  # a document without pieces keeps its 0
    return Windows(
        input_ids=pieces.tokens(ids, special),
        token_type_ids=np.repeat((index_in_window % 2).astype(np.int32), pieces.size),
        token_sentences=np.repeat(sentence.astype(np.int32), pieces.size),
        cls_positions=(token_bounds[:-1] - document_tokens[document]).astype(np.int32),
        window_lengths=np.diff(token_bounds[window_starts]).astype(np.int32),
        token_bounds=document_tokens.tolist(),
        piece_bounds=piece_bounds.tolist(),
        window_bounds=window_bounds,
        num_read_sentences=num_read.tolist(),
    )


def _fill(
    sizes: LongArray, first_pieces: LongArray, limits: WindowLimits
) -> tuple[list[int], list[int], LongArray]:
    """Fill windows with pieces of the given sizes, document by document.

    Returns the first piece of each window, [W]; the documents' bounds in the windows, [B + 1]; and
    the piece before which the reading of each document ends, [B].
    """
    # The piece that no longer fits into a window that begins with piece p is the same whatever
    # windows come before, so it is computed for all pieces at once; then one step a window is left.
    ends = bounds(sizes)
    following = np.searchsorted(ends, ends[:-1] + limits.max_tokens, side="right") - 1
    next_piece = following.tolist()
    starts: list[int] = []
    window_bounds = [0]
    read_until: list[int] = []
    for first, stop in pairwise(first_pieces.tolist()):
        capacity = len(starts) + limits.max_windows
        piece = first
        while piece < stop and len(starts) < capacity:
            starts.append(piece)
            piece = next_piece[piece]
        window_bounds.append(len(starts))
        read_until.append(min(piece, stop))  # the last window may reach into the next document
    return starts, window_bounds, np.array(read_until, np.int64)
