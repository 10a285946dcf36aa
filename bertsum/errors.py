"""Every error that bertsum raises on purpose.

    BertsumError
    ├── ConfigError        the command or the configuration is wrong            exit code 2
    │   ├── InputError     INPUT is missing, holds no Parquet, or no usable column
    │   │   └── RowError   the labels of one row do not fit together
    │   ├── ModelError     the checkpoint is missing, damaged or does not fit its configuration
    │   └── ResourceError  the job asks for what the cluster cannot give, or names no cluster
    │       └── UnavailableError  not now: Ray or the cluster may have it at another try       1
    ├── OutputError        OUTPUT cannot be written, or holds the rows of something else   1
    ├── DeviceError        the device is lost, or others have taken its memory             1
    ├── IncompleteError    the job ended with units missing                                1
    └── HeldError          results are complete, and held back from readers                3

A message holds the value, where it came from, and what was allowed. Only `main` functions turn an
error into an exit code; library code never exits.
"""

from typing import ClassVar


class BertsumError(Exception):
    """Base of the tree: `except BertsumError` catches everything that bertsum raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(BertsumError):
    """The command or a configuration value is wrong."""

    exit_code = 2


class InputError(ConfigError):
    """INPUT is missing, holds no Parquet file, or has no usable text column."""


class RowError(InputError):
    """The labels of one row do not fit together.

    `row`: its index in the table, from 0; `reason`: what is wrong.
    """

    def __init__(self, reason: str, row: int) -> None:
        super().__init__(f"row {row} of the table: {reason}")
        self.reason, self.row = reason, row


class ModelError(ConfigError):
    """A checkpoint is missing, damaged, unsafe, or does not fit its configuration."""


class ResourceError(ConfigError):
    """The job asks for what the cluster cannot give, or its address names no cluster."""


class UnavailableError(ResourceError):
    """The cluster cannot serve the command now; the same command may succeed at another try.

    Ray did not start in time, a head does not answer, or nodes are full or have not joined yet.
    """

    exit_code = 1


class OutputError(BertsumError):
    """OUTPUT cannot be written, or holds rows of another model or configuration."""


class DeviceError(BertsumError):
    """An error of the device that is no document's fault.

    After an illegal access or an assertion in a kernel every later call in the process would fail,
    too. Where other processes have taken the memory, a later call may succeed.
    """


class IncompleteError(BertsumError):
    """The job ended with units missing; what was finished stays, and the same command resumes."""


class HeldError(BertsumError):
    """Results are complete, and held back from readers, since they are unlike earlier ones.

    Trying again changes nothing: somebody must look. `bertsum publish` lets them through.
    """

    exit_code = 3
