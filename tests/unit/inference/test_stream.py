"""A thread that works behind an iterator: order, bounds, errors, and an end in any case."""

import threading
from collections.abc import Iterator

import pytest

from bertsum.inference.stream import map_behind


def test_results_keep_the_order_of_their_items() -> None:
    assert list(map_behind(str, range(100))) == [str(number) for number in range(100)]
    assert list(map_behind(str, [])) == []


def test_a_result_is_computed_while_the_next_item_is_made() -> None:
    is_computing, may_end = threading.Event(), threading.Event()

    def compute(number: int) -> int:
        if number == 0:
            is_computing.set()
            assert may_end.wait(60)
        return threading.get_ident()

    def items() -> Iterator[int]:
        yield 0
        assert is_computing.wait(60)  # for ever, were it computed before this item is asked for
        may_end.set()
        yield 1

    threads = set(map_behind(compute, items()))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_slow_reader_has_two_results_ahead_at_most() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    for count, _ in enumerate(map_behind(str, items()), start=1):
        assert len(made) <= count + 1


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_an_error_comes_in_the_turn_of_its_item(failing: int) -> None:
    def compute(number: int) -> int:
        if number == failing:
            raise ValueError("damaged")
        return number

    results = []
    with pytest.raises(ValueError, match="damaged"):
        for result in map_behind(compute, range(4)):
            results.append(result)
    assert results == list(range(failing))


def test_an_error_of_the_items_ends_the_thread() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("no more")

    before = threading.active_count()
    with pytest.raises(ValueError, match="no more"):
        list(map_behind(str, items()))
    assert threading.active_count() == before


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    results = map_behind(str, range(10))
    assert next(results) == "0"
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
