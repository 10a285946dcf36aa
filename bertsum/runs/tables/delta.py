"""Delta Lake, through the package `deltalake`: the log lies in OUTPUT/_delta_log."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction

from bertsum.errors import ConfigError, OutputError
from bertsum.runs.tables.table import Change, ConflictError, Values
from bertsum.storage.folder import Folder, describe

_S3 = ("s3", "s3a")
_S3_OPTIONS = {
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
    "region_name": "aws_region",
}
# deltalake would rebase an append onto what others did; we want to look again instead.
_NO_RETRY = 0


class DeltaBackend:
    """The table in OUTPUT; see `bertsum.runs.tables.table.Backend`."""

    def __init__(self, output: Folder) -> None:
        # deltalake (1.6.6) decodes a local path twice: it writes the log below `a%20b`, and looks
        # for it below `a b`
        if output.is_local and unquote(output.uri) != output.uri:
            raise ConfigError(
                f"OUTPUT {output.uri} cannot be a Delta table: the package deltalake reads a percent "
                "sign with two hexadecimal digits in a path as another character; rename the "
                "directory, or use output.table=iceberg or parquet"
            )
        self._uri, self._options = output.uri, _store_options(output)
        self._table: DeltaTable | None = None

    def schema(self) -> pa.Schema | None:
        table = self._load()
        return None if table is None else pa.schema(table.schema())

    def keys(self) -> list[str]:
        return [] if self._table is None else list(self._table.metadata().partition_columns)

    def create(self, schema: pa.Schema, keys: Sequence[str]) -> None:
        try:
            DeltaTable.create(
                self._uri,
                schema=schema,
                partition_by=list(keys),
                mode="error",
                storage_options=self._options,
            )
        except DeltaError as error:
            # the error is the same whether another writer was faster or the store refuses
            if self._load() is None:
                raise OutputError(
                    f"cannot make the Delta table in {self._uri}: {describe(error)}"
                ) from error
            raise ConflictError from error

    def add_columns(self, fields: Sequence[pa.Field]) -> None:
        from deltalake import Field, Schema

        assert self._table is not None
        new = Schema.from_arrow(pa.schema(fields)).fields
        try:
            self._table.alter.add_columns(
                [Field(field.name, field.type, nullable=True) for field in new]
            )
        except CommitFailedError as error:
            raise ConflictError from error

    def files(self) -> dict[str, Values]:
        table = self._load()
        if table is None:
            return {}
        keys = self.keys()
        files: dict[str, Values] = {}
        for row in pa.table(table.get_add_actions(flatten=True)).to_pylist():
            values = [row[f"partition.{key}"] for key in keys]
            # the log has a path as a URL, and a partition's value with the type of its column
            files[unquote(row["path"])] = tuple(None if v is None else str(v) for v in values)
        return files

    def commit(self, change: Change, note: Mapping[str, str]) -> None:
        assert self._table is not None
        keys, now = self.keys(), int(time.time() * 1000)  # milliseconds, as the log has them
        actions: list[AddAction | RemoveAction] = []
        for name, (values, record) in change.add.items():
            by_key = dict(zip(keys, values, strict=True))
            # the only statistic: with it a count of rows reads no file
            statistics = json.dumps({"numRecords": record.counts.rows})
            actions.append(AddAction(name, record.bytes, by_key, now, True, statistics))
        for name, values in change.remove.items():
            by_key = dict(zip(keys, values, strict=True))
            actions.append(RemoveAction(name, True, now, partition_values=by_key))
        properties = CommitProperties(custom_metadata=dict(note), max_commit_retries=_NO_RETRY)
        try:
            self._table.create_write_transaction(
                actions,
                mode="append",
                schema=self._table.schema(),
                partition_by=keys,
                commit_properties=properties,
            )
        except CommitFailedError as error:
            raise ConflictError from error

    def _load(self) -> DeltaTable | None:
        """The newest version."""
        try:
            self._table = DeltaTable(self._uri, storage_options=self._options)
        except TableNotFoundError:
            self._table = None
        return self._table


def _store_options(output: Folder) -> dict[str, str]:
    """What `deltalake` does not see in the environment: our `storage_options`, and http allowed."""
    if output.uri.partition("://")[0] not in _S3:
        return {}
    given = {**output.options, **output.options.get("client_kwargs", {})}
    endpoint = (
        given.get("endpoint_url")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    options: dict[str, str] = {}
    for name, option in _S3_OPTIONS.items():
        if value := given.get(name):
            options[option] = str(value)
    if endpoint:
        options["aws_endpoint_url"] = str(endpoint)
        if endpoint.startswith("http://"):  # a store of one's own, as in tests
            options["aws_allow_http"] = "true"
    return options
