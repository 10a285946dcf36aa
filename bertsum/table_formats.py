"""Which table format the configuration names; its package is imported only then."""

from bertsum.config import OutputConfig
from bertsum.errors import ConfigError
from bertsum.lake import Lake
from bertsum.storage import Folder


def open_table(config: OutputConfig, output: Folder) -> Lake | None:
    """The table that the configuration names; None for plain Parquet."""
    if config.table == "parquet":
        return None
    try:
        if config.table == "iceberg":
            from bertsum.iceberg import IcebergBackend

            return Lake(IcebergBackend(config, output))
        from bertsum.delta import DeltaBackend

        return Lake(DeltaBackend(output))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"output.table={config.table} needs `pip install 'bertsum[{config.table}]'`: {error}"
        ) from error
