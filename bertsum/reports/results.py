"""Results of a run for programs: a dataset of the files that are complete, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

from bertsum.errors import ConfigError, IncompleteError
from bertsum.reports.documents import read_documents
from bertsum.reports.result import Result, read_result
from bertsum.reports.view import DocumentView, view_document
from bertsum.runs.partitions import partition_of
from bertsum.storage.folder import Folder, open_filesystem

if TYPE_CHECKING:
    import pandas
    import polars

Columns = Sequence[str] | None
"""Columns to read; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The rows of a finished run, in the order of INPUT.

    - `dataset`: of the files that the manifests list, with hive partitions as columns.
    - `records`: what the records of OUTPUT say of them.
    """

    dataset: ds.Dataset
    records: Result

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return self.records.num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        files, job = self.records.files, self.records.job
        model = job["model"]["id"]
        if "then" in job:
            model += f", then {job['then']['model']['id']}"
        return f"Results({self.records.output}: {self.num_rows:,} rows, {len(files):,} files, by {model})"

    def to_table(self, columns: Columns = None, filter: ds.Expression | None = None) -> pa.Table:
        """The rows as a table of Arrow.

        `filter`: such as `pyarrow.dataset.field("sentiment") == "negative"`; files and row groups
        without such rows are not read.
        """
        return self.dataset.to_table(columns=columns, filter=filter)

    def to_pandas(
        self, columns: Columns = None, filter: ds.Expression | None = None
    ) -> "pandas.DataFrame":
        """The rows as a data frame; maps become dicts. Raises ConfigError without pandas."""
        _require("pandas")
        frame: pandas.DataFrame = self.to_table(columns, filter).to_pandas(maps_as_pydicts="strict")
        return frame

    def to_polars(
        self, columns: Columns = None, filter: ds.Expression | None = None
    ) -> "polars.DataFrame":
        """The rows as a data frame; maps become lists of `key` and `value`.

        Raises ConfigError without polars.
        """
        frame: polars.DataFrame = _require("polars").from_arrow(self.to_table(columns, filter))
        return frame

    def show(self, row: int, input: str | None = None) -> DocumentView:
        """A document with what the run says of it, its text read again from INPUT.

        - `row`: its number, from 0.
        - `input`: where INPUT is now; None: where the records say.

        A text that cannot be read is told in the view. Raises IndexError for a row that there is
        not.
        """
        if not 0 <= row < self.num_rows:
            raise IndexError(f"row {row} of {self.num_rows}")
        (document,) = read_documents(self.records, [row], input)
        return view_document(document)


def read_results(output: str | Path, *, published_only: bool = False) -> Results:
    """The results that a run of `summarize`, `nightly` or `backfill` left in OUTPUT.

    - `output`: the directory, local or remote.
    - `published_only`: read the partitions that are published while others are still at work.

    The files are those of this moment: a later run that replaces them removes them, and then this
    must be called again.

    Raises IncompleteError for a run that is not finished, and ConfigError where there is none.
    """
    result = read_result(Folder(str(output)))
    if not result.is_complete:
        if not published_only or not result.published:
            raise IncompleteError(_unfinished(result))
        values = {name: getattr(result, name) for name in Result.__dataclass_fields__}
        values["files"] = [f for f in result.files if partition_of(f.name) in result.published]
        # a new one, which counts its `first_rows` anew
        result = Result(**values | {"missing_units": 0, "missing_rows": 0})
    return Results(dataset=_dataset(result), records=result)


def _unfinished(result: Result) -> str:
    published = sorted(result.published - {""})
    state = f"{result.missing_units:,} units with {result.missing_rows:,} rows are missing"
    if not result.missing_units:
        state = "its units are there and not published, or parts of INPUT could not be used"
    if result.limit is not None:
        state = f"it is a try-out of the first {result.limit:,} rows"
    advice = "the command that began it goes on"
    if published:
        advice += (
            f"; {len(published)} partition(s) are published, {published[0]} to {published[-1]}: "
            "read_results(OUTPUT, published_only=True) reads these"
        )
    return f"the run in {result.output} is not finished: {state} (`bertsum status`); {advice}"


def _dataset(result: Result) -> ds.Dataset:
    """A dataset of the files, with the columns of all of them."""
    filesystem, root = open_filesystem(result.output.uri)
    arrow: FileSystem = LocalFileSystem()
    if not result.output.is_local:
        arrow = PyFileSystem(FSSpecHandler(filesystem))
    paths = [f"{root}/{entry.name}" for entry in result.files]
    if not paths:
        return ds.dataset(pa.table({}))
    file_format = ds.ParquetFileFormat()
    options = ds.FileSystemFactoryOptions(partition_base_dir=root)
    options.partitioning_factory = ds.HivePartitioning.discover()
    factory = ds.FileSystemDatasetFactory(arrow, paths, file_format, options)
    # of all files: a later one may have columns that the first one lacks
    schema = factory.inspect(promote_options="permissive", fragments=None)
    return factory.finish(schema)


def _require(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"this needs {package}: pip install 'bertsum[notebook]', or pip install {package}"
        ) from error
