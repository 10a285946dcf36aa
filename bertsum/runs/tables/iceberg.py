"""Apache Iceberg, through the package `pyiceberg`: metadata in OUTPUT/_iceberg, any catalog.

Files stay as the units wrote them: columns are found by name, and the values of the partition come
from the table's metadata, as the specification has it for files of Hive layouts.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.io import FileIO, InputFile, OutputFile
from pyiceberg.io.fsspec import FsspecInputFile, FsspecOutputFile
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import assign_fresh_schema_ids
from pyiceberg.table import Table, TableProperties
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from sqlalchemy.exc import IntegrityError, OperationalError

from bertsum.errors import BertsumError, ConfigError, OutputError
from bertsum.output_config import OutputConfig
from bertsum.runs.records import FileRecord
from bertsum.runs.tables.table import Change, ConflictError, Values, until_alone
from bertsum.storage.folder import Folder, describe, open_filesystem

_EPOCH = date(1970, 1, 1)
_FIRST_PARTITION_ID = 1000  # where the specification lets ids of partition fields begin
_DIRECTORY = "_iceberg"


class StoreIO(FileIO):
    """Metadata files through the filesystems, options and credentials of everything else here."""

    def new_input(self, location: str) -> InputFile:
        return FsspecInputFile(location, _filesystem(location))

    def new_output(self, location: str) -> OutputFile:
        return FsspecOutputFile(location, _filesystem(location))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        path = location if isinstance(location, str) else location.location
        _filesystem(path).rm_file(path)


def _filesystem(location: str) -> Any:
    filesystem, _ = open_filesystem(location)
    filesystem.invalidate_cache()  # a remembered listing lacks what another writer has just made
    return filesystem


class IcebergBackend:
    """The table in its catalog; see `bertsum.runs.tables.table.Backend`."""

    def __init__(self, config: OutputConfig, output: Folder) -> None:
        self._output, self._name = output, config.table_name
        self._catalog = _catalog(config, output)
        self._table: Table | None = None

    def schema(self) -> pa.Schema | None:
        table = self._load()
        return None if table is None else table.schema().as_arrow()

    def keys(self) -> list[str]:
        return [] if self._table is None else [field.name for field in self._table.spec().fields]

    def create(self, schema: pa.Schema, keys: Sequence[str]) -> None:
        from pyiceberg.io.pyarrow import _pyarrow_to_schema_without_ids

        # IntegrityError: the catalog in OUTPUT looks, then inserts; another writer came in between
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            self._catalog.create_namespace(self._name.rpartition(".")[0])
        columns = assign_fresh_schema_ids(_pyarrow_to_schema_without_ids(schema))
        fields = []
        for partition_id, key in enumerate(keys, _FIRST_PARTITION_ID):
            source_id = columns.find_field(key).field_id
            fields.append(PartitionField(source_id, partition_id, IdentityTransform(), key))
        # files without Iceberg's field ids, like ours, are read by the names in this mapping
        mapping = {TableProperties.DEFAULT_NAME_MAPPING: columns.name_mapping.model_dump_json()}
        location = f"{self._output.uri}/{_DIRECTORY}"
        try:
            self._catalog.create_table(
                self._name,
                columns,
                location=location,
                partition_spec=PartitionSpec(*fields),
                properties=mapping,
            )
        except TableAlreadyExistsError as error:
            raise ConflictError from error

    def add_columns(self, fields: Sequence[pa.Field]) -> None:
        table = self._table
        assert table is not None
        try:
            with table.update_schema() as update:
                update.union_by_name(pa.schema([*table.schema().as_arrow(), *fields]))
        except CommitFailedException as error:
            raise ConflictError from error

    def files(self) -> dict[str, Values]:
        table = self._load()
        if table is None:
            return {}
        files: dict[str, Values] = {}
        for task in table.scan().plan_files():
            files[self._local_name(task.file.file_path)] = _values(table, task.file.partition)
        return files

    def commit(self, change: Change, note: Mapping[str, str]) -> None:
        table = self._table
        assert table is not None
        # pyiceberg would put an append on top of what others committed meanwhile; we want to look
        # again instead
        table.metadata.properties[TableProperties.COMMIT_NUM_RETRIES] = "0"
        transaction = table.transaction()
        try:
            with transaction.update_snapshot(snapshot_properties=dict(note)).overwrite() as update:
                for task in table.scan().plan_files():
                    if self._local_name(task.file.file_path) in change.remove:
                        update.delete_data_file(task.file)
                for values, record in change.add.values():
                    update.append_data_file(self._data_file(table, values, record))
            transaction.commit_transaction()
        except (CommitFailedException, ValidationException) as error:
            raise ConflictError from error

    def _data_file(self, table: Table, values: Values, record: FileRecord) -> DataFile:
        schema = table.schema()
        with self._output.open(record.name) as stream:
            metadata = pq.read_metadata(stream)
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=metadata,
            stats_columns=compute_statistics_plan(schema, table.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(schema),
        )
        fields: list[int | str | None] = []
        for is_day, value in zip(_day_fields(table), values, strict=True):
            if value is not None and is_day:  # in days since 1970-01-01: 1970-01-03 is 2
                fields.append((date.fromisoformat(value) - _EPOCH).days)
            else:
                fields.append(value)
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=f"{self._output.uri}/{record.name}",
            file_format=FileFormat.PARQUET,
            partition=Record(*fields),
            file_size_in_bytes=record.bytes,
            sort_order_id=None,  # rows are in the order of the input
            spec_id=table.spec().spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def _local_name(self, path: str) -> str:
        return path.removeprefix(f"{self._output.uri}/")

    def _load(self) -> Table | None:
        """The table as it is now."""
        try:
            self._table = self._catalog.load_table(self._name)
        except NoSuchTableError:
            self._table = None
        return self._table


def _catalog(config: OutputConfig, output: Folder) -> Catalog:
    if config.catalog is None and not output.is_local:
        raise ConfigError(
            f"an Iceberg table in {output} needs a catalog that outlives this machine: name one of "
            "your pyiceberg configuration (.pyiceberg.yaml or PYICEBERG_CATALOG__... variables) "
            "with output.catalog"
        )
    if "." not in config.table_name:
        raise ConfigError(f"output.table_name must be NAMESPACE.TABLE, not {config.table_name!r}")
    try:
        if config.catalog is not None:
            # pyiceberg has filesystems of its own, which know nothing of our `storage_options`
            properties = {} if output.is_local else {"py-io-impl": f"{__name__}.StoreIO"}
            return load_catalog(config.catalog, **properties)
        directory = Path(output.uri, _DIRECTORY)
        directory.mkdir(parents=True, exist_ok=True)
        return until_alone(lambda: _open_local_catalog(directory))
    except BertsumError:
        raise
    except Exception as error:  # each kind of catalog raises its own
        raise OutputError(
            f"cannot open the Iceberg catalog {config.catalog or 'in OUTPUT'}: {describe(error)}"
        ) from error


def _open_local_catalog(directory: Path) -> Catalog:
    """The catalog in OUTPUT, in an SQLite file.

    Who opens it first makes its tables. Raises ConflictError where two do so at the same moment.
    """
    try:
        return load_catalog(
            "bertsum", type="sql", uri=f"sqlite:///{directory}/catalog.db", warehouse=str(directory)
        )
    except OperationalError as error:
        if "already exists" in str(error):
            raise ConflictError from error
        raise


def _values(table: Table, record: Record) -> Values:
    """The partition's values as text, as directories have them."""
    values: list[str | None] = []
    for index, is_day in enumerate(_day_fields(table)):
        value = record[index]
        if value is None:
            values.append(None)
        elif is_day:  # pyiceberg gives a date, or its number of days since 1970-01-01
            day = value if isinstance(value, date) else _EPOCH + timedelta(days=value)
            values.append(day.isoformat())
        else:
            values.append(str(value))
    return tuple(values)


def _day_fields(table: Table) -> list[bool]:
    """Whether each partition key holds days."""
    schema = table.schema()
    return [str(schema.find_type(field.source_id)) == "date" for field in table.spec().fields]
