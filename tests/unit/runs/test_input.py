"""INPUT: which files, what their footers say, and rows in bounded pieces."""

import base64
import os
import uuid
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as parquet_encryption
import pytest

from bertsum.config import SummarizerConfig
from bertsum.errors import InputError
from bertsum.runs.columns import check_documents
from bertsum.runs.input import InputFile, input_root, list_input, read_footers, stream_rows
from bertsum.storage.folder import FileInfo, Folder


def write(path: Path, num_rows: int, row_group_size: int = 100) -> pa.Table:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {"id": range(num_rows), "document": [f"text {i} " * 5 for i in range(num_rows)]}
    )
    pq.write_table(table, path, row_group_size=row_group_size)
    return table


def paths(uri: object) -> list[str]:
    return [file.path for file in list_input(str(uri)).files]


def test_a_directory_is_walked_in_path_order(tmp_path: Path) -> None:
    for name in (
        "dt=2/b.parquet",
        "dt=2/a.PQ",
        "dt=10/c d%.parquet",
        "top.parquet",
        "_x/no.parquet",
        "dt=2/.no.parquet",
    ):
        write(tmp_path / name, 1)
    (tmp_path / "dt=2" / "notes.txt").write_text("no Parquet")
    source = list_input(str(tmp_path))
    assert [file.path for file in source.files] == [
        "dt=10/c d%.parquet",
        "dt=2/a.PQ",
        "dt=2/b.parquet",
        "top.parquet",
    ]
    assert [file.partition for file in source.files] == ["dt=10", "dt=2", "dt=2", ""]
    assert source.files[0].size == (tmp_path / "dt=10/c d%.parquet").stat().st_size


def test_a_single_file_and_globs(tmp_path: Path) -> None:
    for name in ("dt=1/a.parquet", "dt=2/a.parquet", "dt=2/b.dat", "x[1].parquet"):
        write(tmp_path / name, 1)
    assert paths(tmp_path / "dt=1" / "a.parquet") == ["a.parquet"]
    assert paths(tmp_path / "x[1].parquet") == ["x[1].parquet"]
    assert paths(tmp_path / "*" / "a.parquet") == ["dt=1/a.parquet", "dt=2/a.parquet"]
    assert paths(tmp_path / "dt=2*") == ["dt=2/a.parquet", "dt=2/b.dat"]
    assert paths(tmp_path / "dt=2" / "*.dat") == ["b.dat"]
    assert paths(tmp_path / "**" / "a.parquet") == ["dt=1/a.parquet", "dt=2/a.parquet"]


def test_the_root_of_input_is_known_without_a_listing(tmp_path: Path) -> None:
    """It is that of the listing, also once the files are gone."""
    write(tmp_path / "dt=1" / "a.parquet", 1)
    uris = [tmp_path, tmp_path / "dt=1" / "a.parquet", tmp_path / "*" / "a.parquet"]
    roots = [list_input(str(uri)).root.uri for uri in uris]
    assert [input_root(str(uri)).uri for uri in uris] == roots
    assert roots == [str(tmp_path), str(tmp_path / "dt=1"), str(tmp_path)]


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", 1)
    monkeypatch.chdir(tmp_path)
    assert paths("a.parquet") == paths("*.parquet") == paths(".") == ["a.parquet"]


def test_a_remote_filesystem(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 3)
    uri = f"memory://{uuid.uuid4().hex}/in"
    filesystem, root = fsspec.core.url_to_fs(uri)
    filesystem.pipe_file(f"{root}/dt=1/a.parquet", (tmp_path / "a.parquet").read_bytes())
    source = list_input(uri)
    assert [file.path for file in source.files] == ["dt=1/a.parquet"]
    assert paths(f"{uri}/dt=1/a.parquet") == ["a.parquet"]
    rows = pa.concat_tables(stream_rows(source.root, source.files[0], 1, 3, ["id"]))
    assert rows["id"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    "uri", ["missing", "empty", "text", "*.nothing", "https://host/a.parquet?token=1"]
)
def test_no_input_is_an_error_that_says_where(tmp_path: Path, uri: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.csv").write_text("x")
    with pytest.raises(InputError) as caught:
        list_input(uri if "://" in uri else str(tmp_path / uri))
    assert uri.rpartition("/")[2].partition("?")[0] in str(caught.value)
    assert "token=1" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    ["a/../b.parquet", "%2e%2e/b.parquet", "dt=..%252f..%2Fx/b.parquet", "a//b.parquet", "/a"],
)
def test_names_that_lead_out_of_output_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Object stores allow such keys."""
    monkeypatch.setattr(
        Folder, "list_names", lambda folder, *_: {f"{key}.parquet": FileInfo(1, "1")}
    )
    with pytest.raises(InputError, match="lead out of OUTPUT"):
        list_input(str(tmp_path))


def test_encoded_separators_in_a_partition_value_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "k=a%2Fb" / "x.parquet", 1)
    assert paths(tmp_path) == ["k=a%2Fb/x.parquet"]


def test_footers_and_broken_files(tmp_path: Path) -> None:
    write(tmp_path / "good.parquet", 250)
    data = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "huge.parquet").write_bytes(data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1")
    source = list_input(str(tmp_path))
    shards, problems = read_footers(source, source.files)
    assert [(shard.file.path, shard.num_rows) for shard in shards] == [("good.parquet", 250)]
    assert [group.num_rows for group in shards[0].row_groups] == [100, 100, 50]
    assert sorted(problems) == ["cut.parquet", "empty.parquet", "huge.parquet"]
    assert all(path in reason for path, reason in problems.items())


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 250), (0, 1), (99, 101), (100, 200), (249, 250), (30, 30)]
)
def test_stream_rows_gives_the_slice(tmp_path: Path, start: int, stop: int) -> None:
    table = write(tmp_path / "a.parquet", 250)
    source = list_input(str(tmp_path))
    pieces = list(stream_rows(source.root, source.files[0], start, stop, ["id", "document"]))
    expected = table.slice(start, stop - start)
    assert (pa.concat_tables(pieces) if pieces else expected.schema.empty_table()) == expected


def test_pieces_are_small_when_rows_are_big(tmp_path: Path) -> None:
    big = pa.table({"document": [os.urandom(2**20).hex() for _ in range(24)]})
    pq.write_table(big, tmp_path / "a.parquet")
    source = list_input(str(tmp_path))
    pieces = list(stream_rows(source.root, source.files[0], 0, 24, ["document"]))
    assert max(piece.nbytes for piece in pieces) < 40 * 2**20
    assert sum(piece.num_rows for piece in pieces) == 24


def test_a_file_that_changed_or_is_damaged_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 250)
    source = list_input(str(tmp_path))
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:60] = b"\xff" * 56  # the first page's header
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.parquet changed after the job was planned"):
        list(stream_rows(source.root, source.files[0], 0, 250, ["id"]))
    now = list_input(str(tmp_path)).files[0]
    with pytest.raises(InputError, match=r"cannot read .*a\.parquet"):
        list(stream_rows(source.root, now, 0, 250, ["id"]))


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.parquet"):
        list(
            stream_rows(
                Folder(str(tmp_path), InputError), InputFile("gone.parquet", 1, "1"), 0, 1, ["id"]
            )
        )


def test_files_of_other_names_are_read_if_they_are_parquet(tmp_path: Path) -> None:
    """As Hive, Impala and Spark name them; the rest is told, but for what is hidden."""
    for name in ("dt=1/000000_0", "dt=1/b.parquet", "dt=1/part-0.DAT", "dt=1/d.parquet.bak"):
        write(tmp_path / name, 1)
    hidden = (
        "_SUCCESS",
        ".b.parquet.crc",
        "b.parquet.crc",
        "c.parquet.tmp",
        "_temporary/0",
        "x._COPYING_",
    )
    for name in hidden:
        write(tmp_path / "dt=1" / name, 1)
    (tmp_path / "dt=1" / "notes.txt").write_text("no Parquet file at all")
    (tmp_path / "dt=1" / "short").write_text("PAR1")
    (tmp_path / "dt=1" / "000001_0").touch()
    (tmp_path / "latest").symlink_to(tmp_path / "dt=1")
    source = list_input(str(tmp_path))
    expected = ["dt=1/000000_0", "dt=1/b.parquet", "dt=1/part-0.DAT"]
    assert [file.path for file in source.files] == expected
    assert [note.partition(f" below {tmp_path}")[0::2] for note in source.notes] == [
        ("left out of INPUT: 1 file(s)", " that are empty: dt=1/000001_0"),
        (
            "left out of INPUT: 1 file(s)",
            " that are backups by their names (.bak, .old, .orig, ~): dt=1/d.parquet.bak",
        ),
        (
            "left out of INPUT: 2 file(s)",
            " that are no Parquet (they do not begin with PAR1): dt=1/notes.txt, dt=1/short",
        ),
        ("left out of INPUT: 1 link(s) to directories", ": latest"),
    ]
    assert [file.path for file in list_input(f"{tmp_path}/dt=*").files] == expected


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv.zip", "a.jsonl.zst", "notes.txt", "empty"])
def test_a_single_file_of_another_format_is_refused(tmp_path: Path, name: str) -> None:
    """By itself and as all that a directory has, with the formats that are read."""
    path = tmp_path / "in" / name
    path.parent.mkdir()
    path.write_bytes(b"" if name == "empty" else b"PK\x03\x04" + bytes(40))
    for uri in (path, path.parent):
        with pytest.raises(InputError, match=r"no Parquet.*\.csv, \.tsv, .*, also \.gz") as caught:
            list_input(str(uri), tables=True)
        assert name in str(caught.value)


def test_ordinary_names_cost_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read_start = Folder.read_start
    monkeypatch.setattr(
        Folder,
        "read_start",
        lambda folder, name, num: asked.append(name) or read_start(folder, name, num),
    )
    for name in ("a.parquet", "b.PARQ", "c.pq", "000000_0", "x.tmp"):
        write(tmp_path / name, 1)
    assert len(list_input(str(tmp_path)).files) == 4
    assert asked == ["000000_0"]


def test_a_file_that_cannot_be_looked_into_is_reported_with_its_footer(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1)
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    source = list_input(str(tmp_path))
    _, problems = read_footers(source, source.files)
    assert list(problems) == ["gone.parquet"]


@pytest.mark.parametrize("name", ["a.csv", "a.JSONL.gz", "*.tsv"])
def test_other_tables_are_refused_where_parquet_is_expected(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="CSV, TSV and JSON are read by `bertsum summarize`"):
        list_input(str(tmp_path / name))


class Keys(parquet_encryption.KmsClient):
    """Whose keys are not secret."""

    def __init__(self, _: object) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, wrapped: str, _: str) -> bytes:
        return base64.b64decode(wrapped)


def encrypt(table: pa.Table, path: Path, *, plaintext_footer: bool) -> None:
    factory = parquet_encryption.CryptoFactory(Keys)
    config = parquet_encryption.EncryptionConfiguration(
        footer_key="footer", column_keys={"column": ["document"]}, plaintext_footer=plaintext_footer
    )
    properties = factory.file_encryption_properties(
        parquet_encryption.KmsConnectionConfig(), config
    )
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


def test_an_encrypted_column_is_named_and_the_others_can_be_read(tmp_path: Path) -> None:
    table = write(tmp_path / "a.parquet", 5)
    encrypt(table, tmp_path / "b.parquet", plaintext_footer=True)
    source = list_input(str(tmp_path))
    (plain, encrypted), problems = read_footers(source, source.files)
    assert not problems
    assert (plain.encrypted, encrypted.encrypted) == (frozenset(), frozenset({"document"}))
    problem = check_documents(encrypted, SummarizerConfig())
    assert problem is not None and "column 'document' is encrypted" in problem
    assert check_documents(encrypted, SummarizerConfig(text_column="document")) == problem
    rows = pa.concat_tables(stream_rows(source.root, encrypted.file, 0, 5, ["id"]))
    assert rows["id"].to_pylist() == list(range(5))


def test_an_encrypted_file_is_named_whatever_its_name_is(tmp_path: Path) -> None:
    encrypt(write(tmp_path / "a.parquet", 5), tmp_path / "000000_0", plaintext_footer=False)
    source = list_input(str(tmp_path))
    shards, problems = read_footers(source, source.files)
    assert [shard.file.path for shard in shards] == ["a.parquet"]
    assert problems["000000_0"].endswith("000000_0: the file is encrypted, and bertsum has no keys")
    alone = list_input(str(tmp_path / "000000_0"))
    with pytest.raises(InputError, match="000000_0: the file is encrypted"):
        read_footers(alone, alone.files)
