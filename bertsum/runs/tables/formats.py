"""Which table format the configuration names; its package is imported only then."""

from bertsum.errors import ConfigError
from bertsum.output_config import OutputConfig
from bertsum.runs.tables.table import Lake
from bertsum.storage.folder import Folder


def open_table(config: OutputConfig, output: Folder) -> Lake | None:
    """The table that the configuration names; None for plain Parquet."""
    if config.table == "parquet":
        return None
    # where each result stands for its own input file, none is put together with others
    file_bytes = 0 if config.vanished_input == "keep_files" else config.file_bytes
    try:
        if config.table == "iceberg":
            from bertsum.runs.tables.iceberg import IcebergBackend

            return Lake(IcebergBackend(config, output), str(output), file_bytes)
        from bertsum.runs.tables.delta import DeltaBackend

        return Lake(DeltaBackend(output), str(output), file_bytes)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"output.table={config.table} needs `pip install 'bertsum[{config.table}]'`: {error}"
        ) from error
