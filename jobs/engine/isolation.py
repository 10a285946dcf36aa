"""Computes a unit whose process has died before, so that another death names the rows to blame."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from bertsum.errors import BertsumError
from bertsum.inference.stream import Progress, Stream
from jobs.engine.suspects import Advice

_KILLER = (
    "the process that computed this document died each time (a native crash, no memory, or no "
    "progress)"
)
_SMALLEST_BATCH = 512  # tokens


def compute_isolated(
    stream: Stream,
    tables: Iterable[pa.Table],
    advice: Advice,
    *,
    mark_running: Callable[[int, int], None],
    on_progress: Progress,
) -> Iterator[pa.Table]:
    """Yield results of `tables`, piece by piece.

    - `tables`: all rows of the unit.
    - `advice`: which rows are computed alone, or not at all.
    - `mark_running`: called with (start, stop), the rows of each piece, before it is computed, and
      with (0, 0) at the end.
    - `on_progress`: see `bertsum.inference.stream.Progress`.

    The batches, and so the bits of the results, are those of an undisturbed run as long as no row
    is suspected and the device's memory is not in doubt: from the third start on, each start halves
    the tokens of a batch.

    Raises BertsumError for a row that kills its process where the stream cannot give up a row.
    """
    max_batch_tokens = stream.max_batch_tokens
    # starts 1 and 2: all tokens, 3: half of them, 4: a quarter; two deaths at full size may well be
    # for want of memory
    halvings = max(0, advice.starts - 2)
    stream.max_batch_tokens = max(_SMALLEST_BATCH, max_batch_tokens >> halvings)
    try:
        row = 0  # the first one of the table, counted in the unit
        for table in tables:
            for start, stop, is_killer in advice.pieces(row, row + table.num_rows):
                piece = table.slice(start - row, stop - start)
                if is_killer:
                    try:
                        result = stream.give_up(piece, _KILLER)
                    except BertsumError as error:
                        raise BertsumError(f"row {start} of the unit: {error}") from error
                    yield result
                else:
                    mark_running(start, stop)
                    yield from stream.stream([piece], on_progress)
            row += table.num_rows
    finally:
        stream.max_batch_tokens = max_batch_tokens
    # a death from here on, as in writing the file, is no row's fault
    mark_running(0, 0)
