"""INPUT that is not Parquet: copied once, and again only when it has changed."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.waiting import LIMIT_SECONDS

from bertsum.errors import ConfigError, InputError
from bertsum.runs import importing
from bertsum.runs.importing import find_input
from bertsum.runs.partitions import Scope
from bertsum.storage.folder import Folder

STEPWISE = """
import sys
import pyarrow.parquet as pq
from bertsum.runs import importing
from bertsum.storage.folder import Folder
importing._ROWS_PER_FILE, write = 2, Folder.write_replace

def stepwise(folder, name, data):
    if name.startswith("part-"):
        print(name, flush=True)
        sys.stdin.readline()
    write(folder, name, data)

Folder.write_replace = stepwise
found = importing.find_input(sys.argv[1], Folder(sys.argv[2]))
print(found.root.uri, *[pq.read_metadata(f"{found.root.uri}/{file.path}").num_rows for file in found.files])
"""
ROWS = [{"id": number, "document": f"Text {number}, here.", "label": None} for number in range(5)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read(uri: Path, output: Path, split: str = "train") -> list[dict[str, object]]:
    found = find_input(str(uri), Folder(str(output)), split)
    return [
        row
        for file in found.files
        for row in pq.read_table(f"{found.root.uri}/{file.path}").to_pylist()
    ]


def write_json(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def copy_stepwise(uri: Path, output: Path) -> "subprocess.Popen[str]":
    """A process that says which part of the copy it will write, and waits for a line; at its end, what it has."""
    environment = os.environ | {"HF_HOME": str(output.parent / "hf")}
    return subprocess.Popen(
        [sys.executable, "-c", STEPWISE, str(uri), str(output)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def say(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def go_on(process: "subprocess.Popen[str]") -> str:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return say(process)


def parts(output: Path) -> list[Path]:
    return sorted((output / "_bertsum" / "input").rglob("*.parquet"))


def records(output: Path) -> list[Path]:
    return sorted((output / "_bertsum" / "input").glob("*.json"))


def make_old(paths: list[Path]) -> None:
    for path in paths:
        os.utime(path, (1, 1))


def test_json_lines_csv_and_gzip(tmp_path: Path) -> None:
    assert read(write_json(tmp_path / "a.jsonl", ROWS), tmp_path / "1") == ROWS
    lines = "id,document\n" + "".join(f'{row["id"]},"{row["document"]}"\n' for row in ROWS)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.tsv").write_text(lines.replace(", h", " h").replace(",", "\t"))
    without_label = [{"id": row["id"], "document": row["document"]} for row in ROWS]
    assert read(tmp_path / "a.csv.gz", tmp_path / "2") == without_label
    assert [row["id"] for row in read(tmp_path / "a.tsv", tmp_path / "3")] == list(range(5))


def test_a_saved_dataset_and_its_splits(tmp_path: Path) -> None:
    import datasets

    saved = datasets.Dataset.from_list([{"id": 1}, {"id": 2}])
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(
        tmp_path / "many"
    )
    assert read(tmp_path / "one", tmp_path / "1") == [{"id": 1}, {"id": 2}]
    assert read(tmp_path / "many", tmp_path / "2", "test") == [{"id": 2}]
    with pytest.raises(InputError, match=r"no split 'dev'; it has \['train', 'test'\]"):
        read(tmp_path / "many", tmp_path / "3", "dev")


def test_the_copy_is_made_once_and_again_after_a_change(tmp_path: Path) -> None:
    path, output = write_json(tmp_path / "a.json", ROWS), tmp_path / "out"
    read(path, output)
    (copy,) = parts(output)
    first = copy.stat()
    read(path, output)
    assert copy.stat() == first
    write_json(path, ROWS[:2])
    os.utime(path, ns=(1, 1))
    assert read(path, output) == ROWS[:2]
    assert len(records(output)) == 1


def test_two_processes_at_once_have_one_copy_with_all_rows(tmp_path: Path) -> None:
    """The second begins when the first has written a part, and is slower."""
    path, output = write_json(tmp_path / "a.jsonl", ROWS), tmp_path / "out"
    with copy_stepwise(path, output) as first, copy_stepwise(path, output) as second:
        assert say(first) == say(second) == "part-00000.parquet\n"
        assert go_on(first) == "part-00001.parquet\n"
        assert go_on(second) == "part-00001.parquet\n"
        has_first, _ = first.communicate("\n\n", timeout=LIMIT_SECONDS)
        assert read(path, output) == ROWS
        has_second, _ = second.communicate("\n\n", timeout=LIMIT_SECONDS)
    assert (first.returncode, second.returncode) == (0, 0)
    assert has_first.splitlines()[-1].endswith(" 2 2 1")
    assert has_second.splitlines()[-1] == has_first.splitlines()[-1]
    assert read(path, output) == ROWS
    assert len(parts(output)) == 3, "the copy of the second is gone"


def test_a_process_that_begins_does_not_disturb_one_that_is_at_it(tmp_path: Path) -> None:
    """As it was lost before: the second process begins, and waits, and the first one lists what it has."""
    path, output = write_json(tmp_path / "a.jsonl", ROWS), tmp_path / "out"
    with copy_stepwise(path, output) as first:
        assert say(first) == "part-00000.parquet\n"
        assert go_on(first) == "part-00001.parquet\n"
        with copy_stepwise(path, output) as second:
            assert say(second) == "part-00000.parquet\n"
            has_first, _ = first.communicate("\n\n", timeout=LIMIT_SECONDS)
            second.kill()
    assert has_first.splitlines()[-1].endswith(" 2 2 1")
    assert read(path, output) == ROWS


def test_a_killed_copy_is_made_again_and_goes_after_an_hour(tmp_path: Path) -> None:
    path, output = write_json(tmp_path / "a.jsonl", ROWS), tmp_path / "out"
    with copy_stepwise(path, output) as process:
        say(process)
        assert go_on(process) == "part-00001.parquet\n"
        process.kill()
    left = parts(output)
    assert [part.name for part in left] == ["part-00000.parquet"]
    assert read(path, output) == ROWS
    assert left[0] in parts(output), "another process may be at work on it"
    make_old(parts(output))
    assert read(path, output) == ROWS
    assert len(parts(output)) == 1
    assert left[0] not in parts(output)


def test_the_copy_of_what_has_changed_goes_after_an_hour_and_that_of_another_input_stays(
    tmp_path: Path,
) -> None:
    path, other, output = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "out"
    read(write_json(path, ROWS), output)
    read(write_json(other, ROWS[1:]), output)
    read(write_json(path, ROWS[2:]), output)
    assert (len(parts(output)), len(records(output))) == (3, 2)
    make_old(parts(output))
    assert read(path, output) == ROWS[2:]
    assert (len(parts(output)), len(records(output))) == (2, 2)
    before = parts(output)
    assert read(other, output) == ROWS[1:]
    assert parts(output) == before


def test_an_input_that_changes_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output, write = (
        write_json(tmp_path / "a.jsonl", ROWS),
        tmp_path / "out",
        Folder.write_replace,
    )

    def change(folder: Folder, name: str, data: bytes) -> None:
        os.utime(path, ns=(1, 1))
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write_replace", change)
    with pytest.raises(
        InputError, match=r"a\.jsonl changed while it was copied; run the command again"
    ):
        read(path, output)
    assert parts(output) == records(output) == []
    assert read(path, output) == ROWS


def test_a_copy_that_lacks_a_file_is_named(tmp_path: Path) -> None:
    path, output = write_json(tmp_path / "a.jsonl", ROWS), tmp_path / "out"
    read(path, output)
    parts(output)[0].unlink()
    with pytest.raises(
        InputError,
        match=r"lacks 1 of its 1 files; remove .*/out/_bertsum/input, and INPUT is copied",
    ):
        read(path, output)


def test_parquet_is_read_where_it_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", tmp_path / "out") == [{"id": 1}]
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json does not exist"):
        read(tmp_path / "nowhere.json", tmp_path / "out")
    (tmp_path / "bad.json").write_text("{no json")
    with pytest.raises(InputError, match=r"bad\.json, line 1: no JSON"):
        read(tmp_path / "bad.json", tmp_path / "out")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match=r"empty\.jsonl"):
        read(tmp_path / "empty.jsonl", tmp_path / "out")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_info.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'bertsum\[datasets\]'"):
        read(tmp_path / "saved", tmp_path / "out")
    assert read(write_json(tmp_path / "a.json", ROWS), tmp_path / "out") == ROWS


def test_a_directory_and_a_glob_keep_their_partitions(tmp_path: Path) -> None:
    for day in (1, 2):
        (tmp_path / "in" / f"dt={day}").mkdir(parents=True)
        write_json(tmp_path / "in" / f"dt={day}" / "a.jsonl", ROWS[day:])
    (tmp_path / "in" / "dt=2" / "b.CSV").write_text("id,document\n7,x\n")
    (tmp_path / "in" / "notes.txt").write_text("no table")
    source = find_input(str(tmp_path / "in"), Folder(str(tmp_path / "out")))
    assert [(file.path, file.partition) for file in source.files] == [
        ("dt=1/a.jsonl-00000.parquet", "dt=1"),
        ("dt=2/a.jsonl-00000.parquet", "dt=2"),
        ("dt=2/b.CSV-00000.parquet", "dt=2"),
    ]
    (note,) = source.notes
    assert "left out of INPUT: 1 file(s)" in note and note.endswith("notes.txt")
    assert read(tmp_path / "in", tmp_path / "out") == [
        *ROWS[1:],
        *ROWS[2:],
        {"id": 7, "document": "x"},
    ]
    assert len(records(tmp_path / "out")) == 1
    assert read(tmp_path / "in" / "*" / "*.jsonl", tmp_path / "out") == [*ROWS[1:], *ROWS[2:]]
    write_json(tmp_path / "in" / "dt=1" / "new.jsonl", ROWS)
    assert len(read(tmp_path / "in", tmp_path / "out")) == 4 + 5 + 3 + 1


def test_parquet_beside_other_tables_is_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": [1]}), tmp_path / "in" / "a.parquet")
    write_json(tmp_path / "in" / "b.json", ROWS)
    source = find_input(str(tmp_path / "in"), Folder(str(tmp_path / "out")))
    assert [file.path for file in source.files] == ["a.parquet"]
    assert "left out of INPUT: 1 file(s)" in source.notes[0] and source.notes[0].endswith("b.json")
    with pytest.raises(InputError, match=r"CSV or JSON files and others, like a\.parquet"):
        find_input(str(tmp_path / "in" / "*"), Folder(str(tmp_path / "out")))


def test_a_choice_of_partitions_needs_parquet(tmp_path: Path) -> None:
    (tmp_path / "in" / "dt=1").mkdir(parents=True)
    path = write_json(tmp_path / "in" / "dt=1" / "a.jsonl", ROWS)
    for uri in (path, tmp_path / "in"):
        with pytest.raises(InputError, match="`bertsum summarize` without --partitions"):
            find_input(str(uri), Folder(str(tmp_path / "out")), scope=Scope(("dt=1",)))


def test_output_must_not_lie_in_a_directory_of_tables(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", ROWS)
    with pytest.raises(InputError, match="would read its own results"):
        find_input(str(tmp_path), Folder(str(tmp_path / "out")))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_an_output_that_is_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text("id,document\n1,One.\n")
    pq.write_table(pa.table({"document": ["One."]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"OUTPUT .*/a\.csv is a file"):
        find_input(str(tmp_path / name), Folder(str(tmp_path / "a.csv")))


def test_a_dry_run_writes_nothing_into_output(tmp_path: Path) -> None:
    path, output = write_json(tmp_path / "a.jsonl", ROWS), tmp_path / "out"
    source = find_input(str(path), Folder(str(output)), dry_run=True)
    assert [
        pq.read_metadata(f"{source.root.uri}/{file.path}").num_rows for file in source.files
    ] == [5]
    assert not output.exists()
    made = find_input(str(path), Folder(str(output)))
    assert find_input(str(path), Folder(str(output)), dry_run=True).files == made.files


def test_what_must_be_said_is_said_again_and_of_earlier_copies(tmp_path: Path) -> None:
    path, output = tmp_path / "a.tsv", tmp_path / "out"
    path.write_text('document\tlabel\n"So it was\tNone\n')
    first = find_input(str(path), Folder(str(output)))
    assert [note.partition(": ")[2][:30] for note in first.notes] == [
        "1 field(s) begin with a quotat",
        "column 'label' has 'None' (1):",
    ]
    assert find_input(str(path), Folder(str(output))).notes == first.notes
    (record,) = records(output)
    content = json.loads(record.read_text())
    del content["notes"]
    record.write_text(json.dumps(content))
    (note,) = find_input(str(path), Folder(str(output))).notes
    assert "made by an earlier version of bertsum" in note


def test_pieces_are_bounded_by_rows_and_by_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_CHARACTERS_PER_FILE", 25)
    path, output = write_json(tmp_path / "a.jsonl", ROWS), tmp_path / "out"
    assert read(path, output) == ROWS
    assert len(parts(output)) == 3, "a text has 13 characters"
    monkeypatch.setattr(importing, "_ROWS_PER_FILE", 1)
    read(path, tmp_path / "other")
    assert len(parts(tmp_path / "other")) == 5
