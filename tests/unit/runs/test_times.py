"""The record of when units were made."""

import json
from pathlib import Path

import pytest

from bertsum.runs import times
from bertsum.runs.times import TimesWriter, UnitTime, read_times
from bertsum.storage.folder import Folder

FIRST, SECOND = UnitTime(100.5, 2.25, "host:1"), UnitTime(200.0, 3.0, "host:2")


@pytest.fixture
def output(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


def test_a_later_attempt_keeps_what_is_there(output: Folder) -> None:
    for name, made in (("a.parquet", FIRST), ("b.parquet", SECOND)):
        writer = TimesWriter(output)
        writer.add("", name, made)
        writer.flush("", {"a.parquet", "b.parquet"})
    assert read_times(output, [""]) == {"a.parquet": FIRST, "b.parquet": SECOND}


def test_both_stages_of_a_unit(output: Folder, tmp_path: Path) -> None:
    both = UnitTime(200.0, 3.0, "host:2", FIRST)
    writer = TimesWriter(output)
    writer.add("", "a.parquet", both)
    writer.add("", "b.parquet", SECOND)
    writer.flush("", {"a.parquet", "b.parquet"})
    assert read_times(output, [""]) == {"a.parquet": both, "b.parquet": SECOND}
    units = json.loads((tmp_path / "_bertsum/times.json").read_text())["units"]
    assert units["b.parquet"] == [200.0, 3.0, "host:2"]  # as earlier versions read and write it


def test_two_runs_at_once_lose_nothing_of_each_other(output: Folder) -> None:
    ours, others = TimesWriter(output), TimesWriter(output)
    ours.add("", "a.parquet", FIRST)
    others.add("", "b.parquet", SECOND)
    for writer in (ours, others):
        writer.flush("", {"a.parquet", "b.parquet"})
    assert read_times(output, [""]) == {"a.parquet": FIRST, "b.parquet": SECOND}


def test_files_that_are_no_part_of_the_result_go(output: Folder) -> None:
    writer = TimesWriter(output)
    writer.add("", "old.parquet", FIRST)
    writer.flush("", {"old.parquet"})
    writer.add("", "new.parquet", SECOND)
    writer.flush("", {"new.parquet"})
    assert read_times(output, [""]) == {"new.parquet": SECOND}


def test_partitions_have_records_of_their_own(output: Folder, tmp_path: Path) -> None:
    writer = TimesWriter(output)
    writer.add("y=2026/m=1", "y=2026/m=1/a.parquet", FIRST)
    writer.add("y=2026/m=2", "y=2026/m=2/a.parquet", SECOND)
    writer.flush("y=2026/m=1", {"y=2026/m=1/a.parquet"})
    assert not (tmp_path / "_bertsum/times/y=2026/m=2.json").exists()
    writer.flush("y=2026/m=2", {"y=2026/m=2/a.parquet"})
    found = read_times(output, ["y=2026/m=1", "y=2026/m=2", "y=2026/m=3"])
    assert found == {"y=2026/m=1/a.parquet": FIRST, "y=2026/m=2/a.parquet": SECOND}
    assert list(output.list_names()) == []  # hidden from whoever reads OUTPUT


def test_it_is_written_now_and_then(output: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(times.time, "monotonic", lambda: now)
    writer = TimesWriter(output)
    writer.add("", "a.parquet", FIRST)
    assert read_times(output, [""]) == {}
    now += 31
    writer.add("", "b.parquet", SECOND)
    assert read_times(output, [""]).keys() == {"a.parquet", "b.parquet"}


def test_a_store_that_is_down_for_a_while_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_bertsum").write_text("a file where the directory should be")
    now = 1000.0
    monkeypatch.setattr(times.time, "monotonic", lambda: now)
    writer = TimesWriter(Folder(str(tmp_path)))
    now += 31
    writer.add("", "a.parquet", FIRST)  # cannot be written, and is no error
    (tmp_path / "_bertsum").unlink()
    writer.flush("", {"a.parquet"})
    assert read_times(Folder(str(tmp_path)), [""]) == {"a.parquet": FIRST}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"units": 1}', '{"units": {"a": [1, "x", "y"]}}', '{"units": {"a": 1}}'],
)
def test_a_damaged_record_is_none_and_is_made_anew(
    output: Folder, tmp_path: Path, text: str
) -> None:
    (tmp_path / "_bertsum").mkdir()
    (tmp_path / "_bertsum/times.json").write_text(text)
    assert read_times(output, [""]) == {}
    writer = TimesWriter(output)
    writer.add("", "a.parquet", FIRST)
    writer.flush("", {"a.parquet"})
    assert json.loads((tmp_path / "_bertsum/times.json").read_text())["units"].keys() == {
        "a.parquet"
    }
