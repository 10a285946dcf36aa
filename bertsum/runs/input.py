"""INPUT: the Parquet files in it, their footers, and their rows in pieces of bounded size."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import IO
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from bertsum.errors import InputError
from bertsum.runs.partitions import ALL, Scope, partition_of
from bertsum.storage.folder import FileInfo, Folder, describe, mask

SUFFIXES = (".parquet", ".parq", ".pq")
# also with .gz; see `bertsum.runs.importing`
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
# Hidden like names that begin with `_` or `.`: checksums, and what is being written (by Flink, by
# `hdfs dfs -put`).
_TEMPORARY_SUFFIXES = (".crc", ".tmp", ".inprogress", "._copying_")
_BACKUP_SUFFIXES = (".bak", ".old", ".orig", "~")  # of files that are in the directory, too
_MAGIC = (b"PAR1", b"PARE")  # how every Parquet file begins; the second: its footer is encrypted
_SMALLEST_BYTES = 12  # magic at both ends, and the footer's length
_IS_ENCRYPTED = "the file is encrypted, and bertsum has no keys"
_FOOTER_THREADS = 16  # a footer is one or two small reads, so it is latency that threads hide
_CHUNK_ROWS = 128  # progress is told chunk by chunk, and a laptop reads some ten documents a second
_CHUNK_BYTES = 16 * 2**20  # uncompressed
_BUFFER_BYTES = 2**20
_KNOWN_BY_NAME = (
    f"CSV, TSV and JSON are known by their names: {', '.join(TABLE_SUFFIXES)}, also .gz"
)
_TABLES_ARE_READ = (
    "CSV, TSV and JSON are read by `bertsum summarize` without --partitions, and by `bertsum "
    "prepare` and `evaluate`"
)


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of INPUT.

    `path` is relative to INPUT's root, so that a moved or re-mounted INPUT is still the same.
    """

    path: str
    size: int
    version: str

    @property
    def partition(self) -> str:
        """Directory below the root, like `dt=2026-11-20`, or an empty string."""
        return partition_of(self.path)


@dataclass(frozen=True, slots=True)
class Input:
    """What INPUT holds in a scope: where it starts, and its files in path order.

    `is_directory`: new files below count too. `notes`: what the user must be told of how INPUT was
    read, a line each. `copy_of`: what the files are a copy of, for messages; empty where they are
    INPUT itself.
    """

    root: Folder
    files: tuple[InputFile, ...]
    is_directory: bool = False
    scope: Scope = ALL
    notes: tuple[str, ...] = ()
    copy_of: str = ""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Size of one row group; `num_bytes` is uncompressed."""

    num_rows: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A readable Parquet file: what its footer says. `encrypted`: columns that cannot be read."""

    file: InputFile
    schema: pa.Schema
    row_groups: tuple[RowGroup, ...]
    encrypted: frozenset[str] = frozenset()

    @property
    def num_rows(self) -> int:
        return sum(group.num_rows for group in self.row_groups)


def is_table(path: str) -> bool:
    """Whether a file is CSV, TSV or JSON by its name."""
    return path.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)


def refuse_table(uri: str) -> None:
    """Raise InputError for the name of a CSV, TSV or JSON file."""
    if is_table(uri):
        raise InputError(
            f"INPUT {mask(uri)} is no Parquet by its name, which is expected here. "
            f"{_TABLES_ARE_READ}"
        )


def list_input(uri: str, scope: Scope = ALL, *, tables: bool = False) -> Input:
    """The files that a URI names: a Parquet file, a directory (walked recursively) or a glob.

    - `scope`: only files in these partitions
    - `tables`: take a CSV, TSV or JSON file, too, and all of them in a directory without Parquet

    Raises InputError when there are none.
    """
    if not tables:
        refuse_table(uri)
    source = _list_all(uri, scope, tables)
    files = tuple(file for file in source.files if scope.holds(file.partition))
    if not files:
        raise InputError(f"INPUT {mask(uri)} has no file in {', '.join(scope.patterns[:3])}")
    return replace(source, files=files, scope=scope)


def _list_all(uri: str, scope: Scope, tables: bool) -> Input:
    """The same, where a glob's files may lie outside of `scope`."""
    if uri.lower().startswith(("http://", "https://")) and "?" in uri:
        raise InputError(
            f"INPUT {mask(uri)}: a URL with a query would put it into the names and records of "
            "OUTPUT"
        )
    folder = Folder(uri, InputError)
    if folder.is_file():
        name = uri.rstrip("/").rpartition("/")[2]
        folder = _directory_of(uri)
        info = folder.info(name)
        if info is None:
            raise InputError(f"INPUT {mask(uri)} is gone")
        if not (is_table(name) or name.lower().endswith(SUFFIXES) or _begins_well(folder, name)):
            raise InputError(
                f"INPUT {mask(uri)} is no Parquet, neither by name nor by content. {_KNOWN_BY_NAME}; "
                "unpack or convert what is packed in another way"
            )
        return Input(folder, (_input_file(name, info),))
    if listed := scope.list_names(folder):
        files, notes = _choose_files(folder, listed, tables)
        # a link like `latest` would give rows twice, so links to directories are not followed
        if scope.is_all and (links := folder.linked_directories()):
            count = f"{len(links):,} link(s) to directories below {folder}"
            notes = (*notes, f"left out of INPUT: {count}: {_first_names(links)}")
        return Input(folder, _in_order(files), is_directory=True, notes=notes)
    if glob.has_magic(uri):
        return _match(uri, tables)
    where = "" if scope.is_all else f" in {', '.join(scope.patterns[:3])}"
    raise InputError(f"INPUT {mask(uri)} does not exist, or is empty{where}")


def read_footers(source: Input, files: Sequence[InputFile]) -> tuple[list[Shard], dict[str, str]]:
    """Footers of `files`, in their order, and the reason for each file that cannot be read.

    Raises InputError where all files of INPUT are encrypted: no other try of the same command would
    do better.
    """
    shards: list[Shard] = []
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        outcomes = pool.map(lambda file: _try_footer(source.root, file), files)
        for file, outcome in zip(files, outcomes, strict=True):
            if isinstance(outcome, Shard):
                shards.append(outcome)
            else:
                problems[file.path] = outcome
    encrypted = [reason for reason in problems.values() if _IS_ENCRYPTED in reason]
    if encrypted and len(encrypted) == len(source.files):
        raise InputError(encrypted[0])
    return shards, problems


def stream_rows(
    root: Folder, file: InputFile, start: int, stop: int, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Rows [start, stop) of a file, in tables of bounded size.

    Raises InputError when the file is damaged, or is another one than was planned.
    """
    _refuse_changed(root, file)
    with reading(root, file.path), root.open(file.path) as stream:
        # without pre-buffering and with a buffer, pages are read as they are needed, not whole
        # column chunks
        parquet = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        groups, first_row = _groups_of(parquet.metadata, start, stop)
        position = first_row
        batches = parquet.iter_batches(
            _rows_per_chunk(parquet.metadata, groups),
            row_groups=groups,
            columns=list(columns),
            use_threads=False,  # several files are read at once already
        )
        for batch in batches:
            # what of [start, stop) lies in the batch: for rows [100, 228) and [150, 500), 50 to 128
            low, high = max(start - position, 0), min(stop - position, batch.num_rows)
            position += batch.num_rows
            if low < high:
                yield pa.Table.from_batches([batch.slice(low, high - low)])
            if position >= stop:
                break
    # again, since a file that is written in place mixes old pages with new ones
    _refuse_changed(root, file)
    if position < stop:
        raise InputError(
            f"{root}/{mask(file.path)} ends at row {position}; its footer promises row {stop}"
        )


@contextmanager
def reading(root: Folder, path: str) -> Iterator[None]:
    """Errors of the Parquet reader become an InputError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = describe(error, known_path=f"{root.uri}/{path}")
        raise InputError(f"cannot read {root}/{mask(path)}: {reason}") from error


def _refuse_changed(root: Folder, file: InputFile) -> None:
    if root.info(file.path) != FileInfo(file.size, file.version):
        raise InputError(
            f"{root}/{mask(file.path)} changed after the job was planned; run the command again"
        )


def read_schema(root: Folder, path: str) -> pa.Schema:
    """Columns and types of one file."""
    with reading(root, path), root.open(path) as stream:
        return pq.read_schema(stream)


def input_root(uri: str) -> Folder:
    """The directory to which the paths of INPUT's files are relative; nothing is listed.

    Raises InputError where its filesystem cannot be reached.
    """
    folder = Folder(uri, InputError)
    if folder.is_file():
        return _directory_of(uri)
    if glob.has_magic(uri) and not (folder.is_local and os.path.isdir(uri)):  # noqa: PTH112
        return _glob_root(uri.split("/"))
    return folder


def _directory_of(uri: str) -> Folder:
    directory = uri.rstrip("/").rpartition("/")[0]
    # the directory of `/a.parquet` is `/`, and of `a.parquet` the working directory
    return Folder(directory or ("/" if uri.startswith("/") else "."), InputError)


def _glob_depth(parts: Sequence[str]) -> int:
    """The first part of a glob that has a wildcard."""
    return next(i for i, part in enumerate(parts) if glob.has_magic(part))


def _glob_root(parts: Sequence[str]) -> Folder:
    """Where listing begins: of `s3://bucket/2026/dt=*/a.parquet`, at `s3://bucket/2026`."""
    root = "/".join(parts[: _glob_depth(parts)])
    return Folder(root or ("/" if parts[0] == "" else "."), InputError)


def _match(uri: str, tables: bool) -> Input:
    """Files of a glob, which may match files or directories.

    Its root is the directory before its first part with a wildcard.
    """
    parts = uri.split("/")
    depth = _glob_depth(parts)
    folder = _glob_root(parts)
    pattern = re.compile(glob_translate("/".join(parts[depth:]).rstrip("/")))
    names = folder.list_names()
    files: list[InputFile] = []
    below: dict[str, FileInfo] = {}  # files of directories that the glob matches
    for name, info in names.items():
        # the directories above a file: of `a/b/c`, `a` and `a/b`
        parents = accumulate(name.split("/")[:-1], "{}/{}".format)
        if pattern.match(name):
            files.append(_input_file(name, info))
        elif any(map(pattern.match, parents)):
            below[name] = info
    if not files and not below:
        raise InputError(f"INPUT {mask(uri)} matches no file")
    notes: tuple[str, ...] = ()
    if below:
        chosen, notes = _choose_files(folder, below, tables)
        files += chosen
    return Input(folder, _in_order(files), notes=notes)


def parquet_files(
    folder: Folder, listed: Mapping[str, FileInfo]
) -> tuple[list[InputFile], tuple[str, ...]]:
    """The Parquet files among those listed, and a line for each reason to leave others out.

    A name with one of SUFFIXES is taken at its word. A file of another name, like Hive's
    `000000_0`, is one if it begins with a Parquet file's magic bytes, which costs a small request
    for each such file. Hidden files are left out without a line: their names begin with `_` or `.`,
    or end with one of _TEMPORARY_SUFFIXES.
    """
    visible: list[str] = []
    unclear: list[str] = []  # those of them whose names do not say that they are Parquet
    for name in listed:
        if name.lower().endswith(_TEMPORARY_SUFFIXES):
            continue
        visible.append(name)
        if not name.lower().endswith(SUFFIXES):
            unclear.append(name)
    reasons: dict[str, str] = {}
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        answers = pool.map(lambda name: _why_left_out(folder, name, listed[name].size), unclear)
        for name, reason in zip(unclear, answers, strict=True):
            if reason is not None:
                reasons[name] = reason
    files = [_input_file(name, listed[name]) for name in visible if name not in reasons]
    return files, _say_left_out(folder, reasons)


def _choose_files(
    folder: Folder, listed: Mapping[str, FileInfo], tables: bool
) -> tuple[list[InputFile], tuple[str, ...]]:
    """The files to read of a directory, and what to say of others.

    Raises InputError when there are none.
    """
    files, notes = parquet_files(folder, listed)
    text_files = [name for name in listed if is_table(name)]
    if not files and tables and text_files:
        files = [_input_file(name, listed[name]) for name in text_files]
        reasons: dict[str, str] = {}
        for name in sorted(listed.keys() - set(text_files)):
            if not name.lower().endswith(_TEMPORARY_SUFFIXES):
                reasons[name] = "are neither CSV nor JSON by their names"
        notes = _say_left_out(folder, reasons)
    if not files:
        advice = _TABLES_ARE_READ if text_files else _KNOWN_BY_NAME
        raise InputError(
            f"{folder} holds no Parquet file, neither by name nor by content, but "
            f"{_first_names(list(listed))}. {advice}"
        )
    return files, notes


def _say_left_out(folder: Folder, reasons: Mapping[str, str]) -> tuple[str, ...]:
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names_by_reason.setdefault(reason, []).append(name)
    notes = []
    for reason, names in names_by_reason.items():
        files = f"{len(names):,} file(s) below {folder}"
        notes.append(f"left out of INPUT: {files} that {reason}: {_first_names(names)}")
    return tuple(notes)


def _begins_well(folder: Folder, name: str) -> bool:
    """Whether a file begins as Parquet does, or is unreadable, which its footer's reader reports."""
    try:
        return folder.read_start(name, len(_MAGIC[0])) in _MAGIC
    except InputError:
        return True


def _why_left_out(folder: Folder, name: str, size: int) -> str | None:
    """None for a Parquet file, and for an unreadable one."""
    if name.lower().endswith(_BACKUP_SUFFIXES):
        return f"are backups by their names ({', '.join(_BACKUP_SUFFIXES)})"
    if size == 0:
        return "are empty"
    if size >= _SMALLEST_BYTES and _begins_well(folder, name):
        return None
    return f"are no Parquet (they do not begin with {_MAGIC[0].decode()})"


def _in_order(files: Iterable[InputFile]) -> tuple[InputFile, ...]:
    # By parts, as a directory tree sorts: `a/x` comes before `a-b/x`, although "-" is before "/".
    return tuple(sorted(files, key=lambda file: file.path.split("/")))


def _first_names(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(map(mask, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _input_file(path: str, info: FileInfo) -> InputFile:
    """Raises InputError for a path that could lead out of OUTPUT, where it becomes part of names.

    Object stores allow keys like `a/../../b`, which a file system follows upwards.
    """
    decoded = path
    while (shorter := unquote(decoded)) != decoded:  # `%252e` is `%2e` is `.`
        decoded = shorter
    parts = [*path.split("/"), *decoded.replace("\\", "/").split("/")]
    if "\0" in decoded or any(part in (".", "..") for part in parts) or "" in path.split("/"):
        raise InputError(
            f"INPUT holds a file whose name could lead out of OUTPUT: {mask(repr(path))}"
        )
    return InputFile(path, info.size, info.version)


def _try_footer(root: Folder, file: InputFile) -> Shard | str:
    """The file by its footer, or why it cannot be read."""
    try:
        with reading(root, file.path), root.open(file.path) as stream:
            metadata = pq.read_metadata(stream)
            encrypted = _encrypted_columns(stream, metadata)
            groups = tuple(_row_group(metadata, i) for i in range(metadata.num_row_groups))
            counts = [group.num_rows for group in groups]
            # a damaged footer, by which rows would be left out without a word
            if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
                raise ValueError(f"its row groups do not add up to its {metadata.num_rows} rows")
            return Shard(file, metadata.schema.to_arrow_schema(), groups, encrypted)
    except InputError as error:
        if "encrypted metadata" in str(error):  # pyarrow's words for a footer that needs a key
            return f"cannot read {root}/{mask(file.path)}: {_IS_ENCRYPTED}"
        return str(error)


def _encrypted_columns(stream: IO[bytes], metadata: pq.FileMetaData) -> frozenset[str]:
    """Names of the columns that only a key opens.

    pyarrow 26 tells nobody of encryption, and ends the process when it is asked about an encrypted
    column. But a readable footer of an encrypted file is signed, so it is longer than its content.
    Only then a row is read of each column. The last 8 bytes (the footer's length and the magic) are
    still in the stream's buffer.
    """
    stream.seek(-8, os.SEEK_END)
    footer_bytes = int.from_bytes(stream.read(4), "little")
    if footer_bytes == metadata.serialized_size or not metadata.num_row_groups:
        return frozenset()
    encrypted: set[str] = set()
    for name in metadata.schema.to_arrow_schema().names:
        try:
            parquet = pq.ParquetFile(stream, pre_buffer=False)
            next(parquet.iter_batches(1, row_groups=[0], columns=[name]), None)
        except OSError as error:  # any other damage is told when the rows are read
            if "decrypt" in str(error).lower():
                encrypted.add(name)
    return frozenset(encrypted)


def _row_group(metadata: pq.FileMetaData, index: int) -> RowGroup:
    group = metadata.row_group(index)
    return RowGroup(group.num_rows, max(group.total_byte_size, 0))


def _groups_of(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[list[int], int]:
    """Row groups that hold rows of [start, stop), and the number of rows before them."""
    groups: list[int] = []
    first_row = position = 0
    for index in range(metadata.num_row_groups):
        end = position + metadata.row_group(index).num_rows
        if position < stop and end > start:
            if not groups:
                first_row = position
            groups.append(index)
        position = end
    return groups, first_row


def _rows_per_chunk(metadata: pq.FileMetaData, groups: Sequence[int]) -> int:
    """So many rows that a chunk holds about _CHUNK_BYTES, at least one and at most _CHUNK_ROWS.

    Judged by the row group with the biggest rows: with 1 MiB a row, 16 rows.
    """
    row_bytes = 1.0
    for index in groups:
        group = _row_group(metadata, index)
        if group.num_rows:
            row_bytes = max(row_bytes, group.num_bytes / group.num_rows)
    return max(1, min(_CHUNK_ROWS, int(_CHUNK_BYTES / row_bytes)))
