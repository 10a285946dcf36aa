"""CSV and TSV: quoting, delimiters, types and missing values, against what was written."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsum.errors import InputError
from bertsum.runs.csv_files import CsvFiles
from bertsum.storage.folder import Folder

Rows = list[list[str | None]]


def open_files(directory: Path, **contents: str | bytes) -> CsvFiles:
    """Files by their names, with `_` for the dot."""
    paths = []
    for key, content in contents.items():
        paths.append(key.replace("_", "."))
        data = content.encode() if isinstance(content, str) else content
        (directory / paths[-1]).write_bytes(data)
    return CsvFiles(Folder(str(directory), InputError), paths)


def read(directory: Path, name: str, content: str | bytes) -> tuple[Rows, list[str]]:
    files = open_files(directory, **{name: content})
    return [list(row) for row in files.rows(name.replace("_", "."))], files.notes


def written(rows: Sequence[Sequence[str]], delimiter: str, **options: int) -> str:
    """As Python's csv module and pandas write it."""
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter, lineterminator="\n", **options).writerows(
        [["document", "label"], *rows]
    )
    return sink.getvalue()


def test_stray_quotation_marks_in_tsv_are_text(tmp_path: Path) -> None:
    rows = [
        ['"Great phone, loved it', "positive"],
        ["It broke", "negative"],
        ['He said "no" twice', "negative"],
        ['the end"', "neutral"],
        ['"Good"', "positive"],
    ]
    content = "document\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows)
    assert read(tmp_path, "a_tsv", content)[0] == rows
    # without the third row both ways of reading give two fields a row, and the marks swallow a line
    del rows[2]
    content = "document\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows)
    assert read(tmp_path, "a_tsv", content)[0] == rows
    _, (note,) = read(tmp_path, "a_tsv", content)
    assert "2 field(s) begin with a quotation mark, which is read as text" in note
    assert "5 lines is a row of its own (4 rows)" in note


def test_a_whole_sentence_in_quotation_marks_stays_so_in_tsv(tmp_path: Path) -> None:
    rows = [['"I loved it."', "positive"], ["It broke.", "negative"]]
    content = "document\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows)
    assert read(tmp_path, "a_tsv", content)[0] == rows


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_tsv_as_pandas_writes_it(tmp_path: Path, quoting: int) -> None:
    rows = [['a "b" c', "x"], ["two\nlines", "y"], ["a\ttab", "z"], ['"all"', "x"], ["plain", "x"]]
    expected, notes = read(tmp_path, "a_tsv", written(rows, "\t", quoting=quoting))
    assert expected == rows
    assert "5 rows from 7 lines; the longest row has 2 lines, from line 3" in notes[0]
    one_line = [['a "b" c', "x"], ["plain", "y"]]
    assert read(tmp_path, "a_tsv", written(one_line, "\t", quoting=quoting))[0] == one_line


VALUES = st.text(st.sampled_from('ab \n";|é'), max_size=6)


@settings(deadline=None, max_examples=150)
@given(rows=st.lists(st.tuples(VALUES, st.sampled_from(["x", "y", ""])), min_size=1, max_size=6))
@pytest.mark.parametrize(("name", "delimiter"), [("a_csv", ","), ("a_tsv", "\t")])
def test_what_a_program_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    delimiter: str,
    rows: list[tuple[str, str]],
) -> None:
    expected = [[value or None for value in row] for row in rows]
    assert read(tmp_path_factory.mktemp("csv"), name, written(rows, delimiter))[0] == expected


def test_a_stray_quotation_mark_in_csv_swallows_no_rows(tmp_path: Path) -> None:
    content = 'id,text,label\n1,"Great phone,positive\n2,It broke,negative\n3,the end",neutral\n'
    rows, (note,) = read(tmp_path, "a_csv", content)
    assert rows == [
        ["1", '"Great phone', "positive"],
        ["2", "It broke", "negative"],
        ["3", 'the end"', "neutral"],
    ]
    assert "1 field(s) begin with a quotation mark, which is read as text" in note
    never_closed = 'document,label\n"Great phone,positive\nIt broke,negative\n'
    assert len(read(tmp_path, "a_csv", never_closed)[0]) == 2


def test_csv_with_commas_and_line_breaks_in_fields(tmp_path: Path) -> None:
    rows, (note,) = read(tmp_path, "a_csv", 'document,label\n"Hello, Bob\nBye",pos\n"""So""",neg\n')
    assert rows == [["Hello, Bob\nBye", "pos"], ['"So"', "neg"]]
    assert "2 rows from 4 lines; the longest row has 2 lines, from line 2" in note


def test_only_an_empty_field_is_missing(tmp_path: Path) -> None:
    labels = ["None", "NA", "null", "nan", "N/A", "x", ""]
    content = "document,label\n" + "".join(f"t,{label}\n" for label in labels)
    rows, (note,) = read(tmp_path, "a_csv", content)
    assert [row[1] for row in rows] == ["None", "NA", "null", "nan", "N/A", "x", None]
    assert "column 'label' has 'None' (1), 'NA' (1), 'null' (1), 'nan' (1), 'N/A' (1)" in note


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-20", ""], "int64"),
        (["00123", "4"], "string"),
        (["0.5", "3", "-1.25"], "double"),
        (["1.50"], "string"),
        (["1"] * 3000 + ["a"], "string"),
        (["1", "NA"], "string"),
        (["12345678901234567890"], "string"),
        (["123456789012345678", "0.5"], "string"),
        (["1e3"], "string"),
        (["nan", "inf"], "string"),
        (["1_000"], "string"),
        (["", ""], "null"),
    ],
)
def test_a_column_is_of_numbers_only_where_no_character_is_lost(
    tmp_path: Path, values: list[str], expected: str
) -> None:
    content = "id,document\n" + "".join(f"{value},x\n" for value in values)
    assert str(open_files(tmp_path, a_csv=content).types()["id"]) == expected


def test_types_are_those_of_all_files(tmp_path: Path) -> None:
    files = open_files(tmp_path, a_csv="id,x\n1,\n", b_csv="id,x\n007,2\n")
    assert {name: str(data_type) for name, data_type in files.types().items()} == {
        "id": "string",
        "x": "int64",
    }


@pytest.mark.parametrize(
    ("name", "content", "delimiter"),
    [
        ("a_csv", "id;document\n1;a, b\n", "';'"),
        ("a_csv", "id\tdocument\n1\ta, b\n", "'\\t'"),
        ("a_tsv", "id,document\n1,a b\n", "','"),
    ],
)
def test_other_delimiters_are_told(tmp_path: Path, name: str, content: str, delimiter: str) -> None:
    (row,), (note,) = read(tmp_path, name, content)
    assert row[0] == "1"
    assert f"its columns are separated by {delimiter}" in note


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, encoding: str) -> None:
    files = open_files(tmp_path, a_csv="document,label\nÜber,x\r\n".encode(encoding))
    assert files.columns("a.csv") == ("document", "label")
    assert list(files.rows("a.csv")) == [["Über", "x"]]


def test_gzip_blank_lines_and_an_index_without_a_name(tmp_path: Path) -> None:
    content = b",document\r\n0,a\r\n\r\n1,b\r\n"
    files = open_files(tmp_path, a_csv_gz=gzip.compress(content))
    assert files.columns("a.csv.gz") == ("Unnamed: 0", "document")
    assert list(files.rows("a.csv.gz")) == [["0", "a"], ["1", "b"]]
    assert files.notes[0].endswith("a.csv.gz: 1 blank line(s) are no rows")


def test_lines_that_end_with_a_carriage_return_alone_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv, line 1: its lines end with a carriage return"):
        open_files(tmp_path, a_csv="id,document\r1,One.\r2,Two.\r")
    assert open_files(tmp_path, a_csv="id,document\r\n").columns("a.csv") == ("id", "document")


def test_long_texts(tmp_path: Path) -> None:
    text = "long " * 60_000
    assert read(tmp_path, "a_csv", f'document,label\n"{text},",x\n')[0] == [[f"{text},", "x"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"document,label\na,x\nb\nc,y\n", r"a\.csv, line 3: 1 field\(s\), but the header has 2"),
        (b"document,label\na,x,z\n", r"a\.csv, line 2: 3 field\(s\), but the header has 2"),
        (b"document,x,x\na,1,2\n", r"a\.csv, line 1: two columns have the name 'x'"),
        (b"document,label\na,x\nGr\xfc\xdfe,y\n", r"a\.csv, line 3: byte 3 is not UTF-8"),
        (b'document,label\n"a\nb,"c" d,x\n', r"a\.csv, line 2: .* read as text, line 2: 1 field"),
        (b'document,label\n"He said \\"no\\", twice",x\n', r"line 2: .* not after a backslash"),
        (b'"document","label"\n"He said "no" twice","x"\n', r"line 2: .* is written twice"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_files(tmp_path, a_csv=content)


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"document,label\n" + b"some text,x\n" * 10_000)
    for data in (whole[: len(whole) // 2], b"no gzip at all"):
        with pytest.raises(InputError, match=r"cannot read .*a\.csv\.gz"):
            open_files(tmp_path, a_csv_gz=data)
