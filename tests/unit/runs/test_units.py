"""Cutting into units: every row once, within the limits, the same each time; names that stay below OUTPUT."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsum.config import SelectionConfig, SummarizerConfig
from bertsum.runs.input import InputFile, RowGroup, Shard
from bertsum.runs.units import (
    Coverage,
    FileSlice,
    Limits,
    Unit,
    cut,
    first_rows,
    job_fingerprint,
    split,
    unit_name,
)

SCHEMA = pa.schema([("id", pa.int64()), ("document", pa.string())])
OTHER = pa.schema([("id", pa.string()), ("document", pa.string())])


def shard(
    path: str, groups: Sequence[int], row_bytes: int = 10, schema: pa.Schema = SCHEMA
) -> Shard:
    return Shard(
        InputFile(path, 1000, "v1"),
        schema,
        tuple(RowGroup(rows, rows * row_bytes) for rows in groups),
    )


def rows(units: Sequence[Unit]) -> list[list[tuple[str, int, int]]]:
    return [[(part.path, part.start, part.stop) for part in unit.slices] for unit in units]


def whole(path: str, num_rows: int) -> Unit:
    return Unit((FileSlice(path, 1000, "v1", num_rows, 0, num_rows),))


def test_a_big_file_is_cut_at_row_group_borders() -> None:
    units = cut([shard("a", [400, 400, 400, 100])], Coverage(), Limits(1000, 10**9))
    assert rows(units) == [[("a", 0, 800)], [("a", 800, 1300)]]


def test_a_big_row_group_is_cut_into_equal_parts() -> None:
    units = cut([shard("a", [2001, 10])], Coverage(), Limits(1000, 10**9))
    assert rows(units) == [[("a", 0, 667)], [("a", 667, 1334)], [("a", 1334, 2011)]]


def test_bytes_cut_too_and_a_row_is_never_cut() -> None:
    units = cut([shard("a", [4], row_bytes=100)], Coverage(), Limits(1000, 250))
    assert rows(units) == [[("a", 0, 2)], [("a", 2, 4)]]
    units = cut([shard("a", [3], row_bytes=100)], Coverage(), Limits(1000, 1))
    assert rows(units) == [[("a", 0, 1)], [("a", 1, 2)], [("a", 2, 3)]]


def test_small_files_of_one_partition_and_schema_go_together() -> None:
    shards = [
        shard("dt=1/a", [5]),
        shard("dt=1/b", []),
        shard("dt=1/c", [4]),
        shard("dt=1/d", [2]),
        shard("dt=1/e", [1], schema=OTHER),
        shard("dt=2/a", [1]),
    ]
    units = cut(shards, Coverage(), Limits(10, 10**9))
    assert rows(units) == [
        [("dt=1/a", 0, 5), ("dt=1/b", 0, 0), ("dt=1/c", 0, 4)],
        [("dt=1/d", 0, 2)],
        [("dt=1/e", 0, 1)],
        [("dt=2/a", 0, 1)],
    ]


def test_a_file_of_no_rows_is_a_unit_once() -> None:
    units = cut([shard("a", [])], Coverage(), Limits(10, 10))
    assert rows(units) == [[("a", 0, 0)]]
    assert cut([shard("a", [])], Coverage(units), Limits(10, 10)) == []


SHARDS = st.lists(st.lists(st.integers(0, 40), max_size=5), min_size=1, max_size=6).map(
    lambda files: [shard(f"dt={i // 3}/{i}", groups) for i, groups in enumerate(files)]
)
LIMITS = st.builds(Limits, st.integers(1, 50), st.integers(1, 500))


@given(SHARDS, LIMITS)
def test_every_row_is_in_one_unit_in_order_and_within_limits(
    shards: list[Shard], limits: Limits
) -> None:
    units = cut(shards, Coverage(), limits)
    covered = [
        (part.path, row)
        for unit in units
        for part in unit.slices
        for row in range(part.start, part.stop)
    ]
    assert covered == [(shard.file.path, row) for shard in shards for row in range(shard.num_rows)]
    assert {part.path for unit in units for part in unit.slices} == {
        shard.file.path for shard in shards
    }
    assert all(unit.num_rows <= limits.num_rows for unit in units)
    assert all(unit.num_rows * 10 <= limits.num_bytes + 10 or unit.num_rows == 1 for unit in units)
    assert all(len({part.file.partition for part in unit.slices}) == 1 for unit in units)
    assert units == cut(shards, Coverage(), limits)


@given(SHARDS, LIMITS, LIMITS, st.data())
def test_what_an_earlier_cut_left_is_cut_without_gap_or_overlap(
    shards: list[Shard], earlier: Limits, limits: Limits, data: st.DataObject
) -> None:
    before = cut(shards, Coverage(), earlier)
    done = [unit for unit in before if data.draw(st.booleans())]
    units = [*done, *cut(shards, Coverage(done), limits)]
    covered = [
        (part.path, row)
        for unit in units
        for part in unit.slices
        for row in range(part.start, part.stop)
    ]
    assert sorted(covered) == sorted(
        (shard.file.path, row) for shard in shards for row in range(shard.num_rows)
    )
    names = [unit_name(unit, "job") for unit in units]
    assert len(set(names)) == len(names)
    coverage = Coverage(units)
    assert all(coverage.is_complete(shard.file.path) for shard in shards)


def test_coverage_refuses_rows_twice() -> None:
    coverage = Coverage([Unit((FileSlice("a", 1, "v", 100, 10, 20),))])
    assert not coverage.is_complete("a")
    for start, stop in [(10, 20), (0, 11), (19, 30), (0, 100), (12, 13)]:
        assert not coverage.add(Unit((FileSlice("a", 1, "v", 100, start, stop),)))
    assert list(coverage.open_ranges("a", 100)) == [(0, 10), (20, 100)]
    assert coverage.add(Unit((FileSlice("a", 1, "v", 100, 0, 10),)))
    assert coverage.add(Unit((FileSlice("a", 1, "v", 100, 20, 100),)))
    assert coverage.is_complete("a")


def test_first_rows_and_split() -> None:
    unit = Unit(
        (
            FileSlice("a", 1, "v", 5, 0, 5),
            FileSlice("b", 1, "v", 9, 0, 9),
            FileSlice("c", 1, "v", 1, 0, 1),
        )
    )
    assert rows([first_rows(unit, 7)]) == [[("a", 0, 5), ("b", 0, 2)]]
    assert rows(split(unit)) == [[("a", 0, 5)], [("b", 0, 9)], [("c", 0, 1)]]
    assert Unit.from_json(unit.to_json()) == unit


def test_the_fingerprint_is_of_all_that_changes_rows_and_nothing_else() -> None:
    unit, config = whole("dt=1/a.parquet", 5), SummarizerConfig()
    name = unit_name(unit, job_fingerprint("digest", config))
    exact = SelectionConfig(exact_size=True)
    assert name == unit_name(
        Unit.from_json(unit.to_json()), job_fingerprint("digest", SummarizerConfig())
    )
    others = [
        unit_name(unit, job_fingerprint("other", config)),
        unit_name(unit, job_fingerprint("digest", SummarizerConfig(max_windows=3))),
        unit_name(unit, job_fingerprint("digest", SummarizerConfig(selection=exact))),
        unit_name(
            Unit((FileSlice("dt=1/a.parquet", 1001, "v1", 5, 0, 5),)),
            job_fingerprint("digest", config),
        ),
        unit_name(
            Unit((FileSlice("dt=1/a.parquet", 1000, "v2", 5, 0, 5),)),
            job_fingerprint("digest", config),
        ),
        unit_name(
            Unit((FileSlice("dt=1/a.parquet", 1000, "v1", 5, 0, 4),)),
            job_fingerprint("digest", config),
        ),
        unit_name(
            Unit((*unit.slices, *whole("dt=1/b.parquet", 0).slices)),
            job_fingerprint("digest", config),
        ),
    ]
    assert len({name, *others}) == 8


def test_the_fingerprint_is_that_of_earlier_versions() -> None:
    """The values are those of the code before fields were added."""
    earlier = "b7ce03726da28f07a59cc71385ffc4c716660f321a9a04aed5335054a0b876c0"
    assert job_fingerprint("digest", SummarizerConfig()) == earlier
    changed = SummarizerConfig(text_column="body", language="de", selection=SelectionConfig(size=2))
    assert (
        job_fingerprint("digest", changed)
        == "6fe6be30d2f6b080c2984a70d17e6873712e4c6c5936a3e9cd65f32d71c11516"
    )
    binary = SummarizerConfig(text_format="binary")
    paths = [SummarizerConfig(text_format="json", text_path=path) for path in ("a", "b")]
    assert len({earlier, *(job_fingerprint("digest", config) for config in (binary, *paths))}) == 4


def test_names_sort_in_row_order_however_a_file_was_cut() -> None:
    units = [
        Unit((FileSlice("a.parquet", 1, "v", 10**7, start, start + 1),))
        for start in (0, 99, 100, 1000, 999_999)
    ]
    names = [unit_name(unit, "job") for unit in units]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("path", "start_of_name"),
    [
        ("a b.parquet", "a b-000000000-"),
        ("dt=2026%2F11/ü.snappy.parquet", "dt=2026%2F11/ü.snappy-000000000-"),
        ("_hidden.parquet", "hidden-000000000-"),
        ("k=v/.parquet", "k=v/part-000000000-"),
        ("x.data", "x.data-000000000-"),
    ],
)
def test_names_keep_partition_and_stem(path: str, start_of_name: str) -> None:
    name = unit_name(whole(path, 1), "job")
    assert name.startswith(start_of_name)
    assert name.endswith(".parquet")


@given(st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=300))
def test_a_name_is_one_visible_path_part_that_file_systems_take(stem: str) -> None:
    name = unit_name(whole(f"{stem}.parquet", 1), "job")
    assert PurePosixPath(name).parts == (name,)
    assert not name.startswith((".", "_"))
    assert len(name.encode("utf-8", "surrogatepass")) <= 255
