"""INPUT that is not Parquet -> a copy that is, below OUTPUT, by the package `datasets`: JSON, CSV, saved and hub sets.

The copy is made once, before any work, so that units, fingerprints and resuming are those of Parquet files. Each
process that makes one does so in a directory of its own; of several the first that is whole becomes the copy, by a
record `KEY.json` beside them, which is created exclusively and says what was copied, and to which files. Only they are
read. KEY stands for INPUT as it is, so that no record is ever written a second time.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.errors import ConfigError, InputError, OutputError
from bertsum.shards import Input, InputFile, list_input
from bertsum.storage import Folder, describe, mask

HUB_PREFIX = "hub:"
_COPIES = "_bertsum/input"
_LOADERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv"}
_SAVED = ("dataset_info.json", "dataset_dict.json")
_ROWS_PER_FILE = 10_000


def find_input(uri: str, output: Folder, split: str = "train") -> Input:
    """The rows of INPUT as Parquet files: its own, or those of the copy.

    INPUT may be what `list_input` takes, a .json, .jsonl, .csv or .tsv file (also .gz), a directory that
    `datasets.Dataset.save_to_disk` wrote, or `hub:NAME` (`hub:NAME:CONFIG`) of the Hugging Face hub; `split` says which
    part of the last two. Raises InputError, also where it changes while it is copied, and ConfigError where `datasets`
    is missing.
    """
    loader = _loader(uri)
    if loader is None and not uri.startswith(HUB_PREFIX) and not _is_saved(uri):
        return list_input(uri)
    identity = {"input": mask(uri), "split": split, "version": _version(uri)}
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    record = f"{_COPIES}/{key}.json"
    if output.info(record) is None:
        _copy(_tables(uri, loader, split), uri, identity, output, key)
    found = _read_copy(output, json.loads(output.read_bytes(record)))
    with suppress(OutputError):  # others may be at it, too
        _clean(output, record, identity)
    return found


def _copy(tables: Iterable[pa.Table], uri: str, identity: Mapping[str, Any], output: Folder, key: str) -> None:
    """Copy INPUT and record the copy, unless another process was faster."""
    name = f"{key}-{secrets.token_hex(8)}"
    own = Folder(f"{output.uri}/{_COPIES}/{name}")
    try:
        files = _write(tables, own)
        if not files:
            raise InputError(f"INPUT {mask(uri)} has no row")
        if _version(uri) != identity["version"]:
            raise InputError(f"INPUT {mask(uri)} changed while it was copied; run the command again")
    except BaseException:
        _remove_all(own)
        raise
    content = json.dumps({**identity, "directory": name, "files": files}).encode()
    exclusive = output.can_create_exclusively()
    if not Folder(output.uri, exclusive=exclusive).create_own(f"{_COPIES}/{key}.json", content):
        _remove_all(own)


def _remove_all(folder: Folder) -> None:
    for name in folder.list_names():
        folder.remove(name)


def _read_copy(output: Folder, record: Mapping[str, Any]) -> Input:
    """The files that the record names. Raises InputError where one is gone."""
    root = Folder(f"{output.uri}/{_COPIES}/{record['directory']}", InputError)
    there = root.list_names()
    if missing := [name for name in record["files"] if name not in there]:
        raise InputError(
            f"{root}, the copy of INPUT, lacks {len(missing)} of its {len(record['files'])} files; remove "
            f"{output}/{_COPIES}, and INPUT is copied again"
        )
    return Input(root, tuple(InputFile(name, there[name].size, there[name].version) for name in record["files"]))


def _clean(output: Folder, record: str, identity: Mapping[str, Any]) -> None:
    """Remove the copies of INPUT as it was before it changed, and what killed processes left of theirs.

    Of a process that may be at work nothing is removed: a copy without a record must have lain there for an hour.
    """
    copies, wanted = Folder(f"{output.uri}/{_COPIES}"), set()
    names = list(copies.list_names())
    for name in [name for name in names if "/" not in name and name.endswith(".json")]:
        other = json.loads(copies.read_bytes(name))
        if f"{_COPIES}/{name}" != record and all(other[key] == identity[key] for key in ("input", "split")):
            copies.remove(name)  # first, so that nobody begins to read what goes
        else:
            wanted.add(other["directory"])
    for directory, group in groupby((name for name in names if "/" in name), lambda name: name.partition("/")[0]):
        files = [f"{_COPIES}/{name}" for name in group]
        if directory not in wanted and len(output.untouched(files)) == len(files):
            for file in files:
                output.remove(file)


def _loader(uri: str) -> str | None:
    name = uri.lower().removesuffix(".gz")
    return next((loader for suffix, loader in _LOADERS.items() if name.endswith(suffix)), None)


def _is_saved(uri: str) -> bool:
    folder = Folder(uri, InputError)
    return not folder.is_file() and any(folder.info(name) is not None for name in _SAVED)


def _version(uri: str) -> list[str]:
    """Changes when the files change. A set of the hub has none: it is copied once."""
    if uri.startswith(HUB_PREFIX):
        return []
    if _loader(uri) is None:
        return [f"{name} {info.size} {info.version}" for name, info in Folder(uri, InputError).list_names().items()]
    directory, _, name = uri.rpartition("/")
    info = Folder(directory or ("/" if uri.startswith("/") else "."), InputError).info(name)
    if info is None:
        raise InputError(f"INPUT {mask(uri)} does not exist")
    return [f"{info.size} {info.version}"]


def _tables(uri: str, loader: str | None, split: str) -> Iterable[pa.Table]:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"INPUT {mask(uri)} needs the package datasets: pip install 'bertsum[datasets]'") from error
    datasets.disable_progress_bars()
    try:
        yield from _open(datasets, uri, loader, split).with_format("arrow").iter(_ROWS_PER_FILE)
    except Exception as error:  # datasets raises whatever its readers raise
        raise InputError(f"INPUT {mask(uri)}: datasets cannot read it: {describe(error)}") from error


def _open(datasets: Any, uri: str, loader: str | None, split: str) -> Any:
    if loader is not None:
        options = {"sep": "\t"} if ".tsv" in uri.lower() else {}
        return datasets.load_dataset(loader, data_files=uri, split="train", streaming=True, **options)
    if uri.startswith(HUB_PREFIX):
        name, _, config = uri.removeprefix(HUB_PREFIX).partition(":")
        return datasets.load_dataset(name, config or None, split=split, streaming=True)
    saved = datasets.load_from_disk(uri)
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise ValueError(f"there is no split {split!r}; it has {list(saved)}")
        return saved[split]
    return saved


def _write(tables: Iterable[pa.Table], copy: Folder) -> list[str]:
    names = []
    for number, table in enumerate(tables):
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
        names.append(f"part-{number:05d}.parquet")
        copy.write_replace(names[-1], sink.getvalue().to_pybytes())
    return names
