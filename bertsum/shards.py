"""INPUT: the Parquet files in it, their footers, and their rows in pieces of bounded size."""

import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from bertsum.errors import InputError
from bertsum.scope import ALL, Scope, partition_of
from bertsum.storage import FileInfo, Folder, describe, mask

SUFFIXES = (".parquet", ".parq", ".pq")
_FOOTER_THREADS = 16  # a footer is one or two small reads, so it is latency that threads hide
_CHUNK_ROWS = 128  # progress is told chunk by chunk, and a laptop reads some ten documents a second
_CHUNK_BYTES = 16 * 2**20
_BUFFER_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of INPUT. `path` is relative to INPUT's root, so that a moved or re-mounted INPUT is still the same."""

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

    `is_directory`: new files below count too.
    """

    root: Folder
    files: tuple[InputFile, ...]
    is_directory: bool = False
    scope: Scope = ALL


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Size of one row group; `num_bytes` is uncompressed."""

    num_rows: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A readable Parquet file: what its footer says."""

    file: InputFile
    schema: pa.Schema
    row_groups: tuple[RowGroup, ...]

    @property
    def num_rows(self) -> int:
        return sum(group.num_rows for group in self.row_groups)


def list_input(uri: str, scope: Scope = ALL) -> Input:
    """Files of a Parquet file, a directory (walked recursively) or a glob, that lie in the partitions of `scope`.

    Raises InputError when there are none.
    """
    source = _list_all(uri, scope)
    files = tuple(file for file in source.files if scope.holds(file.partition))
    if not files:
        raise InputError(f"INPUT {mask(uri)} has no file in {', '.join(scope.patterns[:3])}")
    return replace(source, files=files, scope=scope)


def _list_all(uri: str, scope: Scope) -> Input:
    if uri.lower().startswith(("http://", "https://")) and "?" in uri:
        raise InputError(f"INPUT {mask(uri)}: a URL with a query would put it into the names and records of OUTPUT")
    folder = Folder(uri, InputError)
    if folder.is_file():
        return _single_file(uri)
    if found := scope.list_names(folder):
        return Input(folder, _in_order(_parquet_files(folder, found)), is_directory=True)
    if glob.has_magic(uri):
        return _match(uri)
    where = "" if scope.is_all else f" in {', '.join(scope.patterns[:3])}"
    raise InputError(f"INPUT {mask(uri)} does not exist, or is empty{where}")


def read_footers(source: Input, files: Sequence[InputFile]) -> tuple[list[Shard], dict[str, str]]:
    """Footers of `files`, in their order, and the reason for each file that is no readable Parquet file."""
    shards: list[Shard] = []
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        for file, outcome in zip(files, pool.map(lambda file: _try_footer(source.root, file), files), strict=True):
            if isinstance(outcome, Shard):
                shards.append(outcome)
            else:
                problems[file.path] = outcome
    return shards, problems


def stream_rows(root: Folder, file: InputFile, start: int, stop: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Rows [start, stop) in tables of bounded size. Raises InputError when the file is damaged or has changed."""
    _refuse_changed(root, file)
    with reading(root, file.path), root.open(file.path) as stream:
        # without pre-buffering and with a buffer, pages are read as they are needed, not whole column chunks
        parquet = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        groups, first_row = _groups_of(parquet.metadata, start, stop)
        position = first_row
        for batch in parquet.iter_batches(
            _rows_per_chunk(parquet.metadata, groups), row_groups=groups, columns=list(columns), use_threads=False
        ):
            low, high = max(start - position, 0), min(stop - position, batch.num_rows)
            position += batch.num_rows
            if low < high:
                yield pa.Table.from_batches([batch.slice(low, high - low)])
            if position >= stop:
                break
    _refuse_changed(root, file)  # while it was read: a file that is written in place mixes old pages with new ones
    if position < stop:
        raise InputError(f"{root}/{mask(file.path)} ends at row {position}; its footer promises row {stop}")


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
        raise InputError(f"{root}/{mask(file.path)} changed after the job was planned; run the command again")


def read_schema(root: Folder, path: str) -> pa.Schema:
    """Columns and types of one file."""
    with reading(root, path), root.open(path) as stream:
        return pq.read_schema(stream)


def _single_file(uri: str) -> Input:
    directory, _, name = uri.rstrip("/").rpartition("/")
    folder = Folder(directory or ("/" if uri.startswith("/") else "."), InputError)
    info = folder.info(name)
    if info is None:
        raise InputError(f"INPUT {mask(uri)} is gone")
    return Input(folder, (_input_file(name, info),))


def _match(uri: str) -> Input:
    """The glob's root is the directory before its first pattern; what it matches may be files or directories."""
    parts = uri.split("/")
    depth = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    folder = Folder("/".join(parts[:depth]) or ("/" if uri.startswith("/") else "."), InputError)
    pattern = re.compile(glob_translate("/".join(parts[depth:]).rstrip("/")))
    names = folder.list_names()
    direct = {name: info for name, info in names.items() if pattern.match(name)}
    below = {name: info for name, info in names.items() if any(map(pattern.match, _parents(name)))}
    if not direct and not below:
        raise InputError(f"INPUT {mask(uri)} matches no file")
    files = {file.path: file for file in (_input_file(name, info) for name, info in direct.items())}
    if below:
        files |= {file.path: file for file in _parquet_files(folder, below)}
    return Input(folder, _in_order(files.values()))


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _parquet_files(folder: Folder, found: dict[str, FileInfo]) -> list[InputFile]:
    files = [_input_file(name, info) for name, info in found.items() if name.lower().endswith(SUFFIXES)]
    if not files:
        raise InputError(f"{folder} holds no Parquet file ({', '.join(SUFFIXES)}), but {_some(list(found))}")
    return files


def _in_order(files: Iterable[InputFile]) -> tuple[InputFile, ...]:
    return tuple(sorted(files, key=lambda file: file.path.split("/")))


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(mask(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _input_file(path: str, info: FileInfo) -> InputFile:
    _refuse_escape(path)
    return InputFile(path, info.size, info.version)


def _refuse_escape(path: str) -> None:
    """A path becomes part of names under OUTPUT; object stores allow keys that a file system would follow upwards."""
    decoded = path
    while (once := unquote(decoded)) != decoded:
        decoded = once
    parts = [*path.split("/"), *decoded.replace("\\", "/").split("/")]
    if "\0" in decoded or any(part in (".", "..") for part in parts) or "" in path.split("/"):
        raise InputError(f"INPUT holds a file whose name could lead out of OUTPUT: {mask(repr(path))}")


def _try_footer(root: Folder, file: InputFile) -> Shard | str:
    try:
        with reading(root, file.path), root.open(file.path) as stream:
            metadata = pq.read_metadata(stream)
            groups = tuple(_row_group(metadata, i) for i in range(metadata.num_row_groups))
            if any(group.num_rows < 0 for group in groups) or sum(g.num_rows for g in groups) != metadata.num_rows:
                raise ValueError(f"its row groups do not add up to its {metadata.num_rows} rows")
            return Shard(file, metadata.schema.to_arrow_schema(), groups)
    except InputError as error:
        return str(error)


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
            first_row = first_row if groups else position
            groups.append(index)
        position = end
    return groups, first_row


def _rows_per_chunk(metadata: pq.FileMetaData, groups: Sequence[int]) -> int:
    """So many rows that a chunk holds about _CHUNK_BYTES, judged by the row group with the biggest rows."""
    sizes = [_row_group(metadata, index) for index in groups]
    row_bytes = max((group.num_bytes / group.num_rows for group in sizes if group.num_rows), default=1)
    return max(1, min(_CHUNK_ROWS, int(_CHUNK_BYTES / max(row_bytes, 1))))
