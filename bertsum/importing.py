"""INPUT that is not Parquet -> a copy that is, below OUTPUT, by the package `datasets`: JSON, CSV, saved and hub sets.

The copy is made once, before any work, so that units, fingerprints and resuming are those of Parquet files.
"""

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.errors import ConfigError, InputError
from bertsum.shards import Input, list_input
from bertsum.storage import Folder, describe, mask

HUB_PREFIX = "hub:"
_COPY, _RECORD = "_bertsum/input", "_bertsum/input.json"
_LOADERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv"}
_SAVED = ("dataset_info.json", "dataset_dict.json")
_ROWS_PER_FILE = 10_000


def find_input(uri: str, output: Folder, split: str = "train") -> Input:
    """The rows of INPUT as Parquet files: its own, or those of the copy.

    INPUT may be what `list_input` takes, a .json, .jsonl, .csv or .tsv file (also .gz), a directory that
    `datasets.Dataset.save_to_disk` wrote, or `hub:NAME` (`hub:NAME:CONFIG`) of the Hugging Face hub; `split` says which
    part of the last two. Raises InputError, and ConfigError where `datasets` is missing.
    """
    loader = _loader(uri)
    if loader is None and not uri.startswith(HUB_PREFIX) and not _is_saved(uri):
        return list_input(uri)
    identity = {"input": mask(uri), "split": split, "version": _version(uri)}
    if output.info(_RECORD) is None or json.loads(output.read_bytes(_RECORD)) != identity:
        output.remove(_RECORD)
        copy = Folder(f"{output.uri}/{_COPY}")
        for name in copy.list_names():
            copy.remove(name)
        _write(_tables(uri, loader, split), copy)
        output.write_replace(_RECORD, json.dumps(identity).encode())
    return list_input(f"{output.uri}/{_COPY}")


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


def _write(tables: Iterable[pa.Table], copy: Folder) -> None:
    for number, table in enumerate(tables):
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
        copy.write_replace(f"part-{number:05d}.parquet", sink.getvalue().to_pybytes())
