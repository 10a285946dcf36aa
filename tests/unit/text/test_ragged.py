"""Runs of unequal length, against plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertsum.text.ragged import (
    bounds,
    is_run_start,
    offsets,
    ranges,
    run_numbers,
    sort_runs,
    split_runs,
)

COUNTS = st.lists(st.integers(0, 6), max_size=8)


@given(COUNTS)
def test_bounds_runs_and_offsets(counts: list[int]) -> None:
    assert bounds(counts).tolist() == [sum(counts[:i]) for i in range(len(counts) + 1)]
    items = [(run, offset) for run, count in enumerate(counts) for offset in range(count)]
    array = np.array(counts, np.int32)
    assert list(zip(run_numbers(array).tolist(), offsets(array).tolist(), strict=True)) == items


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=8))
def test_ranges(pairs: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in pairs], np.int64)
    stops = starts + np.array([count for _, count in pairs], np.int64)
    expected = [number for start, count in pairs for number in range(start, start + count)]
    assert ranges(starts, stops).tolist() == expected


@given(COUNTS)
def test_runs_together_are_all_items(counts: list[int]) -> None:
    runs = split_runs(np.arange(sum(counts)), counts)
    assert [len(run) for run in runs] == counts
    assert [item for run in runs for item in run.tolist()] == list(range(sum(counts)))


@given(st.lists(st.integers(0, 3), max_size=8))
def test_run_starts_are_values_that_differ_from_those_before(values: list[int]) -> None:
    expected = [index == 0 or values[index - 1] != value for index, value in enumerate(values)]
    assert is_run_start(np.array(values, np.int64)).tolist() == expected


@given(st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=5))
def test_each_run_is_sorted_and_ends_where_it_ended(runs: list[list[int]]) -> None:
    """Runs without a value among them, also at the end."""
    array = np.array([value for run in runs for value in run], np.int32)
    run_bounds = bounds([len(run) for run in runs])
    sort_runs(array, run_bounds)
    ordered = [sorted(run) for run in runs]
    assert array.tolist() == [value for run in ordered for value in run]
    starts = [
        index == 0 or run[index - 1] != value for run in ordered for index, value in enumerate(run)
    ]
    assert is_run_start(array, run_bounds).tolist() == starts
