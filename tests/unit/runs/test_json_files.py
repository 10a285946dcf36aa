"""JSON lines and arrays: values as they are, one type a column, and the line of what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from bertsum.errors import InputError
from bertsum.runs.json_files import JsonFiles
from bertsum.storage.folder import Folder


def open_files(directory: Path, **contents: str) -> JsonFiles:
    for name, content in contents.items():
        (directory / f"{name}.json").write_text(content, encoding="utf-8")
    return JsonFiles(Folder(str(directory), InputError), [f"{name}.json" for name in contents])


def read(directory: Path, content: str) -> list[dict[str, Any]]:
    files = open_files(directory, a=content)
    return [dict(zip(files.columns("a.json"), row, strict=True)) for row in files.rows("a.json")]


ROWS = [
    {"document": "Grüße 🌍\u2028", "tokens": ["a", "b"], "n": 1, "info": {"x": None}, "date": "2026-11-28"},
    {"document": None, "tokens": [], "n": 2, "info": {"x": "y"}, "date": "2026-11-28T10:00:00"},
]  # fmt: skip


@pytest.mark.parametrize("ascii_only", [True, False])
def test_lines_and_arrays_have_the_same_rows(tmp_path: Path, ascii_only: bool) -> None:
    lines = "\n\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in ROWS)
    assert read(tmp_path, lines) == ROWS
    assert read(tmp_path, json.dumps(ROWS, ensure_ascii=ascii_only, indent=2)) == ROWS
    assert read(tmp_path, "\ufeff" + lines) == ROWS
    types = {name: str(kind) for name, kind in open_files(tmp_path, a=lines).types().items()}
    assert (types["tokens"], types["n"], types["date"]) == (
        "list<item: string>",
        "int64",
        "string",
    )


def test_a_column_has_one_type_however_far_apart_its_values_are(tmp_path: Path) -> None:
    integers = '{"id": 1, "n": 1}\n'
    content = 2500 * integers + '{"id": "a7", "n": 0.5, "new": true}\n' + 2500 * integers
    files = open_files(tmp_path, a=content)
    assert {name: str(kind) for name, kind in files.types().items()} == {
        "id": "string",
        "n": "double",
        "new": "bool",
    }
    rows = list(files.rows("a.json"))
    assert (rows[0], rows[2500], rows[-1]) == (["1", 1, None], ["a7", 0.5, True], ["1", 1, None])
    (note,) = files.notes
    assert "column 'id' holds values of several types: read as text" in note


def test_types_are_those_of_all_files(tmp_path: Path) -> None:
    files = open_files(tmp_path, a='{"id": 1}', b='{"id": "x", "more": 2}')
    assert str(files.types()["id"]) == "string"
    assert list(files.rows("a.json")) == [["1"]]
    assert files.columns("b.json") == ("id", "more")


def test_values_that_have_no_arrow_type_are_json(tmp_path: Path) -> None:
    assert read(tmp_path, '{"a": {}, "b": [1, "x"], "c": 123456789012345678901}') == [
        {"a": "{}", "b": '[1, "x"]', "c": "123456789012345678901"}
    ]


def test_half_a_surrogate_pair_is_replaced_and_whole_pairs_stay(tmp_path: Path) -> None:
    assert read(tmp_path, r'{"document": "a \ud83d b \ud83c\udf0d"}') == [
        {"document": "a \ufffd b 🌍"}
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": 2\n{"a": 3}\n', r"a\.json, line 2: no JSON"),
        ('{"a": 1}\n\n[1]\n', r"a\.json, line 3: a list; a JSON object is expected"),
        ('[{"a": 1},\n{"a" 2}]', r"a\.json, line 2: no JSON"),
        ('[{"a": 1}, 7]', r"a\.json, item 1 \(from 0\) of the array: a int"),
        ('{"a": 1, "a": 2}', r"a\.json, line 1: an object has the key 'a' twice"),
        ('{"a": ' + "[" * 100_000, r"a\.json, line 1: it is nested too deeply"),
    ],
)
def test_what_is_no_row_is_refused_with_its_line(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_files(tmp_path, a=content)


def test_bytes_that_are_no_utf_8_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": "x"}\n{"a": "Gr\xfc\xdfe"}\n')
    with pytest.raises(InputError, match=r"a\.json, line 2: byte 10 is not UTF-8"):
        JsonFiles(Folder(str(tmp_path), InputError), ["a.json"])
