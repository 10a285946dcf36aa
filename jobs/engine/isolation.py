"""A unit whose process has died before, computed so that the next death names the rows that cause it."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from bertsum.errors import BertsumError
from bertsum.inference.stream import Progress, Stream
from jobs.engine.suspects import Advice

_KILLER = "the process that computed this document died each time (a native crash, no memory, or no progress)"
_SMALLEST_BATCH = 512  # tokens


def compute_isolated(
    stream: Stream,
    tables: Iterable[pa.Table],
    advice: Advice,
    *,
    mark_running: Callable[[int, int], None],
    on_progress: Progress,
) -> Iterator[pa.Table]:
    """Results of `tables`, piece by piece. `mark_running(start, stop)` names each piece before it is computed.

    The batches, and so the bits of the results, are those of an undisturbed run as long as there are no suspects and
    the device's memory is not in doubt: from the third start on, each start halves the tokens of a batch.

    Raises BertsumError for a row that kills its process where the stream cannot give up a row.
    """
    max_batch_tokens = stream.max_batch_tokens
    stream.max_batch_tokens = max(_SMALLEST_BATCH, max_batch_tokens >> max(0, advice.starts - 2))
    try:
        row = 0
        for table in tables:
            for start, stop, is_killer in advice.pieces(row, row + table.num_rows):
                piece = table.slice(start - row, stop - start)
                if is_killer:
                    yield _give_up(stream, piece, start)
                else:
                    mark_running(start, stop)
                    yield from stream.stream([piece], on_progress)
            row += table.num_rows
    finally:
        stream.max_batch_tokens = max_batch_tokens
    mark_running(0, 0)


def _give_up(stream: Stream, piece: pa.Table, row: int) -> pa.Table:
    try:
        return stream.give_up(piece, _KILLER)
    except BertsumError as error:
        raise BertsumError(f"row {row} of the unit: {error}") from error
