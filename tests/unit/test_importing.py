"""INPUT that is not Parquet: read by `datasets`, copied once, and again only when it has changed."""

import gzip
import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsum.errors import ConfigError, InputError
from bertsum.importing import find_input
from bertsum.storage import Folder

ROWS = [{"id": number, "document": f"Text {number}, here.", "label": None} for number in range(5)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read(uri: Path, output: Path, split: str = "train") -> list[dict[str, object]]:
    found = find_input(str(uri), Folder(str(output)), split)
    return [row for file in found.files for row in pq.read_table(f"{found.root.uri}/{file.path}").to_pylist()]


def write_json(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


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
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(tmp_path / "many")
    assert read(tmp_path / "one", tmp_path / "1") == [{"id": 1}, {"id": 2}]
    assert read(tmp_path / "many", tmp_path / "2", "test") == [{"id": 2}]
    with pytest.raises(InputError, match=r"no split 'dev'; it has \['train', 'test'\]"):
        read(tmp_path / "many", tmp_path / "3", "dev")


def test_the_copy_is_made_once_and_again_after_a_change(tmp_path: Path) -> None:
    path, copy = write_json(tmp_path / "a.json", ROWS), tmp_path / "out" / "_bertsum" / "input" / "part-00000.parquet"
    read(path, tmp_path / "out")
    first = copy.stat()
    read(path, tmp_path / "out")
    assert copy.stat() == first
    write_json(path, ROWS[:2])
    os.utime(path, ns=(1, 1))
    assert read(path, tmp_path / "out") == ROWS[:2]


def test_a_copy_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", ROWS)
    read(path, tmp_path / "out")
    (tmp_path / "out" / "_bertsum" / "input.json").unlink()
    (tmp_path / "out" / "_bertsum" / "input" / "part-00007.parquet").write_bytes(b"half")
    assert read(path, tmp_path / "out") == ROWS


def test_parquet_is_read_where_it_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", tmp_path / "out") == [{"id": 1}]
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json does not exist"):
        read(tmp_path / "nowhere.json", tmp_path / "out")
    (tmp_path / "bad.json").write_text("{no json")
    with pytest.raises(InputError, match=r"bad\.json: datasets cannot read it"):
        read(tmp_path / "bad.json", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'bertsum\[datasets\]'"):
        read(write_json(tmp_path / "a.json", ROWS), tmp_path / "out")
