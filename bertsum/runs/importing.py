"""INPUT that is not Parquet -> a copy that is, below OUTPUT.

CSV, TSV and JSON files are read here, saved and hub sets by the package `datasets`.

The copy is made once, before any work, so that units, fingerprints and resuming are those of
Parquet files. Each process that makes a copy writes it to a directory of its own. The first one
that is whole becomes the copy: its process creates a record `KEY.json` exclusively, which names
what was copied, and the files of the copy. Only they are read. KEY is a digest of INPUT as it is,
so that no record is ever written a second time.
"""

import atexit
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.errors import ConfigError, InputError, OutputError
from bertsum.runs.csv_files import CsvFiles
from bertsum.runs.input import Input, InputFile, is_table, list_input
from bertsum.runs.json_files import JsonFiles
from bertsum.runs.partitions import ALL, Scope
from bertsum.storage.folder import Folder, describe, mask

HUB_PREFIX = "hub:"
_COPIES = "_bertsum/input"
_SAVED = ("dataset_info.json", "dataset_dict.json")
_ROWS_PER_FILE = 10_000
_CHARACTERS_PER_FILE = 2**26
_MOST_NOTES = 20  # each of many files may have several
_EARLIER_COPY = (
    "its copy in OUTPUT was made by an earlier version of bertsum, which read fields that begin "
    "with a quotation mark, and words like None and NA, in another way; in a new OUTPUT it is read "
    "anew"
)

Tables = Iterable[tuple[str, pa.Table]]
"""Tables with the names of their files in the copy."""


def find_input(
    uri: str, output: Folder, split: str = "train", *, scope: Scope = ALL, dry_run: bool = False
) -> Input:
    """The rows of INPUT as Parquet files: its own, or those of the copy.

    INPUT may be what `list_input` takes, CSV, TSV and JSON files too, a directory that
    `datasets.Dataset.save_to_disk` wrote, or `hub:NAME` (`hub:NAME:CONFIG`) of the Hugging Face
    hub; `split` says which part of the last two. With a `scope` it must be Parquet. In a dry run a
    copy that OUTPUT lacks goes to a temporary directory of this process. Raises InputError, also
    where INPUT changes while it is copied, and ConfigError where `datasets` is missing or OUTPUT is a file.
    """
    if output.is_local and output.is_file():
        raise ConfigError(f"OUTPUT {output} is a file; a directory is expected")
    if not scope.is_all:
        return list_input(uri, scope)
    source = None
    if not uri.startswith(HUB_PREFIX):
        source = list_input(uri, tables=True)
        if not any(is_table(file.path) for file in source.files):
            return source
        # such a set has Arrow files beside its JSON, and `datasets` must read it
        if source.is_directory and any(file.path in _SAVED for file in source.files):
            source = None
        else:
            _refuse_mixture(source, output)
    identity = {"input": mask(uri), "split": split, "version": _version(uri, source)}
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    record = f"{_COPIES}/{key}.json"
    if output.info(record) is None:
        if dry_run:
            directory = tempfile.mkdtemp(prefix="bertsum-")
            atexit.register(shutil.rmtree, directory, ignore_errors=True)
            output = Folder(directory)
        _copy(uri, source, identity, output, key)
    copied = _read_copy(output, json.loads(output.read_bytes(record)), source)
    with suppress(OutputError):  # others may be at it, too
        if not dry_run:
            _clean(output, record, identity)
    return copied


def find_copies(output: Folder, input_uri: str) -> list[Folder]:
    """Directories of OUTPUT's copies of an INPUT, which is named as records name it."""
    copies = Folder(f"{output.uri}/{_COPIES}")
    directories: list[Folder] = []
    for name in copies.list_names():
        if name.endswith(".json") and "/" not in name:
            record = json.loads(copies.read_bytes(name))
            if record["input"] == input_uri:
                directory = f"{output.uri}/{_COPIES}/{record['directory']}"
                directories.append(Folder(directory, InputError))
    return directories


def _refuse_mixture(source: Input, output: Folder) -> None:
    """Raise InputError for a glob that matches Parquet files, too, and for OUTPUT in INPUT."""
    for file in source.files:
        if not is_table(file.path):
            raise InputError(
                f"INPUT {source.root} matches CSV or JSON files and others, like {mask(file.path)}"
                "; give one format"
            )
    if source.is_directory and output.is_below(source.root):
        raise InputError(
            f"OUTPUT {output} lies in INPUT {source.root}; the job would read its own results"
        )


def _copy(
    uri: str, source: Input | None, identity: Mapping[str, Any], output: Folder, key: str
) -> None:
    """Copy INPUT and record the copy, unless another process was faster."""
    name = f"{key}-{secrets.token_hex(8)}"
    copy = Folder(f"{output.uri}/{_COPIES}/{name}")
    notes: list[str] = []
    try:
        split = str(identity["split"])
        tables = _from_files(source, notes) if source else _from_datasets(uri, split)
        files: list[str] = []
        for file_name, table in tables:
            sink = pa.BufferOutputStream()
            pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
            files.append(file_name)
            copy.write_replace(file_name, sink.getvalue().to_pybytes())
        if not files:
            raise InputError(f"INPUT {mask(uri)} has no row")
        # listed anew: rows of a file that changed meanwhile may be partly of its old content
        if _version(uri, source and list_input(uri, tables=True)) != identity["version"]:
            raise InputError(
                f"INPUT {mask(uri)} changed while it was copied; run the command again"
            )
    except BaseException:  # KeyboardInterrupt, too: nobody would ever read what is there so far
        _remove_all(copy)
        raise
    content = json.dumps({**identity, "directory": name, "files": files, "notes": notes}).encode()
    # of several processes with whole copies the first one to make this record wins
    exclusive = output.can_create_exclusively()
    if not Folder(output.uri, exclusive=exclusive).create_own(f"{_COPIES}/{key}.json", content):
        _remove_all(copy)


def _remove_all(folder: Folder) -> None:
    for name in folder.list_names():
        folder.remove(name)


def _read_copy(output: Folder, record: Mapping[str, Any], source: Input | None) -> Input:
    """The files that the record names. Raises InputError where one is gone."""
    root = Folder(f"{output.uri}/{_COPIES}/{record['directory']}", InputError)
    infos = root.list_names()
    files: list[InputFile] = []
    for name in record["files"]:
        if name in infos:
            files.append(InputFile(name, infos[name].size, infos[name].version))
    if num_missing := len(record["files"]) - len(files):
        raise InputError(
            f"{root}, the copy of INPUT, lacks {num_missing} of its {len(record['files'])} files; "
            f"remove {output}/{_COPIES}, and INPUT is copied again"
        )
    if source is None:
        return Input(root, tuple(files), copy_of=record["input"])
    # a record without notes is of an earlier version; only CSV was read in another way then
    num_csv = sum(_is_csv(file.path) for file in source.files)
    notes = record.get("notes", [f"{record['input']}: {_EARLIER_COPY}"] * num_csv)
    if len(notes) > _MOST_NOTES:
        notes = [*notes[:_MOST_NOTES], f"... and {len(notes) - _MOST_NOTES} more"]
    return Input(root, tuple(files), notes=(*source.notes, *notes), copy_of=record["input"])


def _clean(output: Folder, record: str, identity: Mapping[str, Any]) -> None:
    """Remove copies of INPUT as it was before it changed, and what killed processes left behind.

    Of a process that may be at work nothing is removed: a copy without a record must have lain
    there for an hour.
    """
    copies = Folder(f"{output.uri}/{_COPIES}")
    recorded: set[str] = set()  # directories whose records stay
    copied_files: dict[str, list[str]] = {}  # by directory
    for name in copies.list_names():
        directory, separator, _ = name.partition("/")
        if separator:
            copied_files.setdefault(directory, []).append(f"{_COPIES}/{name}")
        elif name.endswith(".json"):
            other = json.loads(copies.read_bytes(name))
            is_same_input = all(other[key] == identity[key] for key in ("input", "split"))
            if f"{_COPIES}/{name}" != record and is_same_input:
                copies.remove(name)  # before its files, so that nobody begins to read what goes
            else:
                recorded.add(other["directory"])
    for directory, files in copied_files.items():
        # one young file is enough: its process may be at work
        if directory not in recorded and len(output.untouched(files)) == len(files):
            for file in files:
                output.remove(file)


def _version(uri: str, source: Input | None) -> list[str]:
    """Changes when the files change. A set of the hub has none: it is copied once."""
    if uri.startswith(HUB_PREFIX):
        return []
    if source is None:
        infos = Folder(uri, InputError).list_names()
        return [f"{name} {info.size} {info.version}" for name, info in infos.items()]
    if _is_single_file(source):
        return [f"{file.size} {file.version}" for file in source.files]
    return [f"{file.path} {file.size} {file.version}" for file in source.files]


def _is_single_file(source: Input) -> bool:
    return len(source.files) == 1 and not source.is_directory and not source.files[0].partition


def _from_files(source: Input, notes: list[str]) -> Tables:
    """Tables of CSV, TSV and JSON files in turn; `notes` takes in what must be said of them."""
    csv_paths: list[str] = []
    json_paths: list[str] = []
    for file in source.files:
        (csv_paths if _is_csv(file.path) else json_paths).append(file.path)
    # both read their files once already: a column's type must fit all of them
    csv_files = CsvFiles(source.root, csv_paths)
    json_files = JsonFiles(source.root, json_paths)
    notes += [*csv_files.notes, *json_files.notes]
    for file in source.files:
        path = file.path
        files = csv_files if _is_csv(path) else json_files
        types = files.types()
        schema = pa.schema([(column, types[column]) for column in files.columns(path)])
        prefix = "part" if _is_single_file(source) else path
        for number, rows in enumerate(_pieces(files.rows(path))):
            table = _to_table(rows, schema, f"{source.root}/{mask(path)}")
            yield f"{prefix}-{number:05d}.parquet", table


def _is_csv(path: str) -> bool:
    return path.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def _pieces(rows: Iterable[Sequence[object]]) -> Iterator[list[Sequence[object]]]:
    """Rows in lists that fit into memory."""
    piece: list[Sequence[object]] = []
    num_characters = 0
    for row in rows:
        piece.append(row)
        for value in row:
            if isinstance(value, str):
                num_characters += len(value)
        if len(piece) >= _ROWS_PER_FILE or num_characters >= _CHARACTERS_PER_FILE:
            yield piece
            piece, num_characters = [], 0
    if piece:
        yield piece


def _to_table(rows: Sequence[Sequence[object]], schema: pa.Schema, name: str) -> pa.Table:
    """A table of these rows. Text becomes a number where the schema says so."""
    columns = []
    for index, field in enumerate(schema):
        values = [row[index] for row in rows]
        # fields of CSV are strings, and values of JSON have their type already
        is_text = any(isinstance(value, str) for value in values)
        try:
            column = pa.array(values, pa.string() if is_text else field.type)
            columns.append(column.cast(field.type))
        except (pa.ArrowException, OverflowError, ValueError) as error:
            raise InputError(
                f"{name}: column {field.name!r} as {field.type}: {describe(error)}"
            ) from error
    return pa.Table.from_arrays(columns, schema=schema)


def _from_datasets(uri: str, split: str) -> Tables:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"INPUT {mask(uri)} needs the package datasets: pip install 'bertsum[datasets]'"
        ) from error
    datasets.disable_progress_bars()
    try:
        if uri.startswith(HUB_PREFIX):
            name, _, config = uri.removeprefix(HUB_PREFIX).partition(":")
            dataset = datasets.load_dataset(name, config or None, split=split, streaming=True)
        else:
            dataset = datasets.load_from_disk(uri)
        if isinstance(dataset, datasets.DatasetDict):
            if split not in dataset:
                raise ValueError(f"there is no split {split!r}; it has {list(dataset)}")
            dataset = dataset[split]
        tables = dataset.with_format("arrow").iter(_ROWS_PER_FILE)
        for number, table in enumerate(tables):
            yield f"part-{number:05d}.parquet", table
    except Exception as error:  # datasets raises whatever its readers raise
        raise InputError(
            f"INPUT {mask(uri)}: datasets cannot read it: {describe(error)}"
        ) from error
