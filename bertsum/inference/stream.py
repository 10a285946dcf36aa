"""What a job does with the rows of a unit, as the engine sees it."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import pyarrow as pa

Progress = Callable[[int, int], None]
"""Called with the number of documents and of tokens that were just finished."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stream(Protocol):
    """Tables in, tables of results out: in order, one row for each row.

    - `stage_seconds`: seconds by stage, summed over all calls.
    - `max_batch_tokens`: most tokens of one batch on the device; 0 where nothing runs in batches.
    """

    stage_seconds: MutableMapping[str, float]
    max_batch_tokens: int

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        """Results of `tables`.

        The first of them may be read and prepared before this returns, but not computed.
        """

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """A result for rows that cannot be computed.

        Raises BertsumError where each row needs a real one.
        """

    def on_batch(self, call: Callable[[], None]) -> None:
        """Call `call` after each batch on the device, from now on: a sign of life."""


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; a thread makes the next one while the current one is used.

    The first is made before this returns.
    """
    # one thread, since a generator cannot be asked by two at once
    executor = ThreadPoolExecutor(1)
    following = executor.submit(_next_of, items)
    following.result()

    def remaining() -> Iterator[Item]:
        nonlocal following
        with executor:  # waits for the thread where the reader stops early
            while (item := following.result()) is not None:
                following = executor.submit(_next_of, items)
                yield item[0]

    return remaining()


def map_behind(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function(item)` of each item, in order; a thread computes it while the next item is made.

    At most two results are ahead of the reader. An error is raised in the turn of its item.
    """
    executor = ThreadPoolExecutor(1)
    behind: Future[Result] | None = None
    try:
        for item in items:
            following = executor.submit(function, item)
            if behind is not None:
                yield behind.result()
            behind = following
        if behind is not None:
            yield behind.result()
    finally:  # waits for the thread, also where the reader stops early
        executor.shutdown(cancel_futures=True)


def _next_of(items: Iterator[Item]) -> tuple[Item] | None:
    """The next item in a tuple, None after the last: a Future carries no StopIteration."""
    for item in items:
        return (item,)
    return None
