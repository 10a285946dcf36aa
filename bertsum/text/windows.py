"""Where each sentence of each document goes: windows of whole sentences, many documents at once.

Each sentence becomes `[CLS] sentence [SEP]` (Liu & Lapata 2019, "Text Summarization with Pretrained Encoders"); one
longer than a window is cut into pieces that count as one sentence. A window is as full as the next piece allows.

Shapes: B documents, S sentences, P pieces that were read, W windows, T tokens of the pieces with [CLS] and [SEP].
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bertsum.text.ragged import bounds, offsets, ranges, run_numbers

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of some documents, one after the other, and where each document begins: the [B + 1] bounds."""

    input_ids: IntArray  # [T]
    token_type_ids: IntArray  # [T] 0, 1, 0, ... by pieces of a window
    token_sentences: IntArray  # [T] sentence of each token in its document
    cls_positions: IntArray  # [P] in the tokens of its document
    window_lengths: IntArray  # [W]
    token_bounds: list[int]
    piece_bounds: list[int]
    window_bounds: list[int]
    num_read_sentences: list[int]  # [B]


@dataclass(frozen=True, slots=True)
class _Pieces:
    """[P] each: parts of sentences that stand in one window. `start`, `length`: of its ids."""

    sentence: LongArray  # of all documents
    start: LongArray
    length: LongArray

    def of(self, places: LongArray) -> "_Pieces":
        return _Pieces(self.sentence[places], self.start[places], self.length[places])


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of [CLS] and [SEP]."""

    cls: int
    sep: int


def make_windows(
    ids: IntArray, lengths: IntArray, counts: LongArray, special: SpecialIds, max_tokens: int, max_windows: int
) -> Windows:
    """Windows of at most `max_tokens` tokens, the first `max_windows` of each document.

    `ids` of all sentences, one after the other; `lengths`: [S] ids of each; `counts`: [B] sentences of each document.
    """
    pieces = _cut_sentences(lengths, max_tokens - 2)
    sentence_bounds = bounds(counts)
    first_pieces = np.searchsorted(pieces.sentence, sentence_bounds)
    starts, window_bounds, read = _fill(pieces.length + 2, first_pieces, max_tokens, max_windows)
    kept = ranges(first_pieces[:-1], read)
    document = run_numbers(read - first_pieces[:-1])
    pieces = pieces.of(kept)
    sizes = pieces.length + 2
    token_ends = bounds(sizes)
    piece_bounds = bounds(read - first_pieces[:-1])
    window_starts = np.append(np.searchsorted(kept, starts), len(kept))
    in_window = offsets(np.diff(window_starts))
    token_bounds = token_ends[piece_bounds]
    sentence = pieces.sentence - sentence_bounds[document]
    num_read = np.zeros(len(counts), np.int64)
    np.maximum.at(num_read, document, sentence + 1)
    return Windows(
        input_ids=_input_ids(ids, pieces, token_ends, special),
        token_type_ids=np.repeat((in_window % 2).astype(np.int32), sizes),
        token_sentences=np.repeat(sentence.astype(np.int32), sizes),
        cls_positions=(token_ends[:-1] - token_bounds[document]).astype(np.int32),
        window_lengths=np.diff(token_ends[window_starts]).astype(np.int32),
        token_bounds=token_bounds.tolist(),
        piece_bounds=piece_bounds.tolist(),
        window_bounds=window_bounds,
        num_read_sentences=num_read.tolist(),
    )


def _cut_sentences(lengths: IntArray, longest: int) -> _Pieces:
    """One piece a sentence, also of an empty one, and more where it is longer than `longest`."""
    counts = np.maximum(1, -(-lengths.astype(np.int64) // longest))
    sentence = run_numbers(counts)
    offset = offsets(counts) * longest
    start = bounds(lengths)[sentence] + offset
    return _Pieces(sentence, start, np.minimum(longest, lengths[sentence] - offset))


def _fill(
    sizes: LongArray, first_pieces: LongArray, max_tokens: int, max_windows: int
) -> tuple[list[int], list[int], LongArray]:
    """First piece of each window, the windows' bounds by document, and the piece at which each document ends.

    Which piece would be the first of the next window is known for all pieces at once; then one step a window.
    """
    ends = bounds(sizes)
    following = (np.searchsorted(ends, ends[:-1] + max_tokens, side="right") - 1).tolist()
    starts: list[int] = []
    window_bounds, read = [0], []
    for first, stop in pairwise(first_pieces.tolist()):
        most = len(starts) + max_windows
        place = first
        while place < stop and len(starts) < most:
            starts.append(place)
            place = following[place]
        window_bounds.append(len(starts))
        read.append(min(place, stop))
    return starts, window_bounds, np.array(read, np.int64)


def _input_ids(ids: IntArray, pieces: _Pieces, token_ends: LongArray, special: SpecialIds) -> IntArray:
    input_ids = np.full(token_ends[-1], special.sep, np.int32)
    input_ids[token_ends[:-1]] = special.cls
    inner = token_ends[:-1] + 1
    input_ids[ranges(inner, inner + pieces.length)] = ids[ranges(pieces.start, pieces.start + pieces.length)]
    return input_ids
