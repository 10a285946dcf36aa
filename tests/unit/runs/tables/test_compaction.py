"""Small files of a table put together: every row once and in order, whatever is killed, grows or runs beside it."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.lake_harness import (
    BIG,
    DAYS,
    FORMATS,
    READERS,
    LakeHarness,
    earlier_reader,
    expected,
    ids_in_order,
    make,
    num_commits,
    results,
    table_files,
)
from helpers.output_harness import JOB, OTHER_JOB, Killed, kill_at, write_input

from bertsum.runs import commit
from bertsum.runs.concurrent_runs import create_unit, find_holder
from bertsum.runs.input import list_input, stream_rows
from bertsum.runs.plan import Plan
from bertsum.runs.records import encode, read_back
from bertsum.runs.units import Coverage, FileSlice, Unit, joined
from bertsum.storage.folder import Folder


@pytest.fixture(params=FORMATS)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> LakeHarness:
    pytest.importorskip({"iceberg": "pyiceberg", "delta": "deltalake"}[request.param])
    return make(tmp_path, request.param, file_bytes=BIG)


def test_one_file_for_each_partition(harness: LakeHarness) -> None:
    plan = harness.work()
    assert len(plan.units) == 4
    assert results(harness) == table_files(harness)
    assert len(results(harness)) == 2
    assert ids_in_order(harness) == list(range(29))
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))
    assert num_commits(harness) == 1
    again = harness.look()
    assert commit.is_finished(harness.output, again)
    assert again.units.keys() == results(harness)
    (file,) = [name for name in results(harness) if "2026-11-20" in name]
    metadata = pq.read_metadata(harness.root / file)
    assert (metadata.num_rows, metadata.num_row_groups) == (25, 1)
    record = read_back(harness.output, [file])[0]
    assert (record.counts.rows, record.counts.tokens, record.counts.statuses) == (
        25,
        50,
        {"ok": 25},
    )


def test_what_comes_later_is_put_to_it_and_readers_keep_what_they_read(
    harness: LakeHarness,
) -> None:
    harness.work()
    first = table_files(harness)
    earlier = earlier_reader(harness)
    write_input(harness.input, "dt=2026-11-21/z.parquet", 12, first_id=29)
    plan = harness.work()
    assert len(plan.missing) == 2
    assert len(table_files(harness)) == 2
    assert len(table_files(harness) & first) == 1
    assert results(harness) == table_files(harness) | first  # of 4 rows and of 16
    assert sorted(earlier()) == expected(DAYS)
    days = DAYS | {"2026-11-21": range(25, 41)}
    assert harness.read() == dict.fromkeys(READERS, expected(days))
    assert num_commits(harness) == 2
    assert commit.is_finished(harness.output, harness.look())
    harness.work(OTHER_JOB)
    assert len(table_files(harness)) == 2
    assert not table_files(harness) & first
    assert harness.read() == dict.fromkeys(READERS, expected(days))


def test_files_are_as_big_as_asked_and_big_ones_are_left_alone(tmp_path: Path) -> None:
    harness = make(tmp_path, "delta", file_bytes=0)
    for i in range(12):
        write_input(harness.input, f"dt=2026-11-22/{i:02d}.parquet", 10, first_id=100 + 10 * i)
    harness.work()
    sizes = sorted((harness.root / name).stat().st_size for name in table_files(harness))
    file_bytes = sizes[-1] * 5
    shutil.rmtree(harness.root)
    harness = LakeHarness(tmp_path, "delta", file_bytes=file_bytes)
    harness.work()
    made = {name: (harness.root / name).stat().st_size for name in table_files(harness)}
    assert len(made) == 5  # one, one, and three of 12 files of which 4 or 5 make one
    assert max(made.values()) <= file_bytes
    assert ids_in_order(harness) == [*range(29), *range(100, 220)]
    smaller = LakeHarness(tmp_path, "delta", file_bytes=min(made.values()))
    write_input(harness.input, "dt=2026-11-22/99.parquet", 1, first_id=220)
    smaller.work()
    assert made.keys() < table_files(smaller)


def test_columns_that_change_are_not_put_together(tmp_path: Path) -> None:
    harness = make(tmp_path, "delta", file_bytes=BIG)
    pq.write_table(
        pa.table({"id": [29], "document": ["text 29"], "more": ["x"]}),
        harness.input / "dt=2026-11-21" / "z.parquet",
    )
    plan = harness.look()
    harness.lake.prepare(
        [s.append(pa.field("more", pa.string())) for s in harness.schemas()],
        sorted(plan.partitions),
    )
    harness.begin(plan)
    extra = [name for name in plan.units if "/z-" in name]
    harness.make([(name, unit) for name, unit in plan.missing.items() if name not in extra])
    (name,) = extra
    (part,) = plan.units[name].slices
    source = list_input(str(harness.input))
    (rows,) = stream_rows(source.root, part.file, 0, 1, ["id", "more"])
    schema = pa.schema([*rows.schema, ("status", pa.string()), ("num_tokens", pa.int32())])
    whole = pa.table([*rows.columns, ["ok"], pa.array([2], pa.int32())], schema=schema)
    assert harness.output.create_exclusive(name, encode([whole], schema, plan.units[name], JOB)[0])
    harness.finish(plan)
    assert name in table_files(harness)
    assert len(table_files(harness)) == 3


@pytest.mark.parametrize("patterns", [(), ("dt=*",)])
def test_killed_at_any_change_of_files(
    harness: LakeHarness, patterns: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run ends with the rows of both days, each once, in one file a day, and leaves nothing behind."""
    step, killed = 0, True
    while killed:
        own = make(tmp_path / str(step), harness.table, file_bytes=BIG)
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            killed = False
            try:
                own.work(JOB, *patterns)
            except Killed:
                killed = True
        assert (
            {len(rows) for rows in own.read().values()} <= {0, 4, 25, 29}
            if table_exists(own)
            else True
        )
        own.work(JOB, *patterns)
        assert results(own) == table_files(own)
        assert len(results(own)) == 2
        assert ids_in_order(own) == list(range(29))
        assert commit.is_finished(own.output, own.look(JOB, *patterns))
        step += 3
    assert step >= 20


def table_exists(harness: LakeHarness) -> bool:
    return harness.lake._backend.schema() is not None


def test_two_runs_at_once_put_the_same_together(harness: LakeHarness) -> None:
    """Both have made or found every unit; one is done before the other looks."""
    plan = harness.look()
    harness.lake.prepare(harness.schemas(), sorted(plan.partitions))
    harness.begin(plan)
    harness.make(plan.missing.items())
    records = {record.name: record for record in read_back(harness.output, list(plan.units))}
    harness.committer(lake=harness.lake).commit(plan, records)
    gone = [(name, unit) for name, unit in plan.missing.items() if name not in results(harness)]
    assert len(gone) == 3
    harness.make(gone)  # the other one makes them again
    harness.committer(lake=harness.lake).commit(plan, records)
    assert results(harness) == table_files(harness)
    assert ids_in_order(harness) == list(range(29))
    assert num_commits(harness) == 1


def contents(harness: LakeHarness, names: Iterable[str]) -> dict[str, bytes]:
    return {name: harness.output.read_bytes(name) for name in names}


def both_look(harness: LakeHarness) -> tuple[Plan, dict[str, bytes]]:
    """The plan of two runs at once, all units made by one of them, and those that the end of it puts together."""
    plan = harness.look()
    harness.lake.prepare(harness.schemas(), sorted(plan.partitions))
    harness.begin(plan)
    harness.make(plan.missing.items())
    return plan, contents(harness, [name for name in plan.units if "2026-11-20" in name])


def test_a_unit_that_is_in_a_bigger_file_is_not_made_again(harness: LakeHarness) -> None:
    """The other run computed it all the while, and creates it after the end of the first: the name is free again."""
    plan, made = both_look(harness)
    harness.finish(plan)
    before = contents(harness, results(harness))
    assert not made.keys() & before.keys()
    for name, data in made.items():
        created, holder = create_unit(
            harness.output, name, plan.units[name], job=JOB, data=data, outdated=plan.outdated
        )
        assert not created
        assert holder is not None
        assert holder.name in before
        assert holder.counts.rows == plan.units[name].num_rows
    assert contents(harness, results(harness)) == before


@pytest.mark.parametrize("name_is_taken", [True, False])
def test_the_other_run_ends_while_a_unit_is_created(
    harness: LakeHarness, name_is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between look and create: the unit is taken away again. Between create and look: the create was refused."""
    plan, made = both_look(harness)
    name, data = next(iter(made.items()))
    real = Folder.create_exclusive

    def create(folder: Folder, *values: Any) -> bool:
        monkeypatch.undo()
        created = real(folder, *values) if name_is_taken else False
        harness.finish(plan)
        return created if name_is_taken else real(folder, *values)

    monkeypatch.setattr(Folder, "create_exclusive", create)
    created, holder = create_unit(
        harness.output, name, plan.units[name], job=JOB, data=data, outdated=plan.outdated
    )
    assert not created
    assert (holder is None) is name_is_taken
    assert results(harness) == table_files(harness)
    assert harness.read() == dict.fromkeys(READERS, expected(DAYS))


def test_units_of_a_file_that_is_given_up_are_made_again(harness: LakeHarness) -> None:
    """One of the input files in the big file changed; the units of the other one have the names that they had."""
    write_input(harness.input, "dt=2026-11-21/z.parquet", 12, first_id=29)
    harness.work()
    write_input(harness.input, "dt=2026-11-21/ü.parquet", 5, first_id=50)
    plan = harness.look()
    (big,) = [entry.file for entry in plan.superseded]
    again = [name for name, unit in plan.missing.items() if big.unit.holds(unit)]
    assert len(again) == 2
    for name in again:
        unit = plan.units[name]
        assert find_holder(harness.output, name, unit, job=JOB, outdated=()) is not None
        created = create_unit(
            harness.output, name, unit, job=JOB, data=b"rows", outdated=plan.outdated
        )
        assert created == (True, None)
        harness.output.remove(name)
    harness.work()
    days = DAYS | {"2026-11-21": [*range(29, 41), *range(50, 55)]}
    assert harness.read() == dict.fromkeys(READERS, expected(days))
    harness.output.remove(next(name for name in table_files(harness) if "2026-11-21" in name))
    lost = harness.look().missing
    assert lost
    for name, unit in lost.items():
        assert (
            find_holder(harness.output, name, unit, job=JOB, outdated=()) is None
        )  # it is not there


def test_results_that_stand_for_their_input_files_stay_apart(tmp_path: Path) -> None:
    harness = make(tmp_path, "delta", file_bytes=BIG, vanished_input="keep_files")
    plan = harness.work()
    assert table_files(harness) == plan.units.keys()


def test_joined_units() -> None:
    def part(path: str, start: int, stop: int) -> FileSlice:
        return FileSlice(path, 1, "v", 10, start, stop)

    units = [
        Unit((part("a", 0, 5),)),
        Unit((part("a", 5, 10),)),
        Unit((part("b", 0, 0), part("c", 2, 4))),
    ]
    whole = joined(units)
    assert whole.slices == (part("a", 0, 10), part("b", 0, 0), part("c", 2, 4))
    covered = Coverage([whole])
    assert all(covered.holds(unit) for unit in units)
    assert not covered.holds(Unit((part("c", 3, 5),)))
    assert not covered.holds(Unit((part("d", 0, 1),)))
    assert not Coverage([units[0]]).holds(whole)
    assert all(whole.holds(unit) for unit in [*units, whole])
    assert not any(whole.holds(Unit((part(path, 3, 5),))) for path in "cd")
    assert not whole.holds(Unit((FileSlice("a", 1, "other content", 10, 0, 5),)))
