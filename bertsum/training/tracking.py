"""Losses and measures of a run for TensorBoard, Weights & Biases and MLflow.

Their packages are extras.
"""

import logging
import math
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from bertsum.errors import ConfigError, OutputError
from bertsum.masking import describe
from bertsum.storage.folder import Folder

_LONGEST_MLFLOW_NAME = 250  # characters

Tracker = Literal["tensorboard", "wandb", "mlflow"]


Config = Mapping[str, object]  # of the run, by key


class _Writer(Protocol):
    def write(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


def check_trackers(names: Sequence[Tracker], output: Folder) -> None:
    """Raise ConfigError where a tracker's package is missing, or where OUTPUT is not local."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"tracking with {name} needs its package: pip install 'bertsum[{name}]'"
            )
    if names and not output.is_local:
        raise ConfigError(
            f"tracking writes files beside the checkpoint, so OUTPUT must be local, not {output}"
        )


class Tracking:
    """The trackers of a run; what it gets are the lines of the run's log.

    A run is worth more than its record: a tracker that fails after the start is left out from then
    on, and `say` is told. The log of the run has what it misses.
    """

    def __init__(
        self,
        names: Sequence[Tracker],
        output: Folder,
        config: Config,
        step: int,
        *,
        say: Callable[[str], None],
    ) -> None:
        """Start the trackers, after a check as by `check_trackers`.

        - `config`: of the run.
        - `step`: the run resumes after it.
        - `say`: gets a sentence for people.

        Raises OutputError for a tracker that cannot start.
        """
        check_trackers(names, output)
        makers: dict[str, Callable[[Path, Config, int], _Writer]] = {
            "tensorboard": _TensorBoard,
            "wandb": _Wandb,
            "mlflow": _MLflow,
        }
        self._say = say
        self._writers: dict[str, _Writer] = {}
        for name in names:
            try:
                self._writers[name] = makers[name](Path(output.uri), config, step)
            except (
                Exception
            ) as error:  # each package has errors of its own, and so have its servers
                self.close()
                raise OutputError(
                    f"tracking with {name} cannot begin: {describe(error)}; leave it out with "
                    "--set 'tracking=[]'"
                ) from error

    def add(self, line: Mapping[str, Any]) -> None:
        """Write a line of the log, without what is not finite: no curve has a point for it."""
        values = {}
        for key, value in numbers(line):
            if key not in ("step", "num_steps") and math.isfinite(value):
                values[key] = value
        for name, writer in list(self._writers.items()):
            try:
                writer.write(values, line["step"])
            except Exception as error:
                self._drop(name, error)

    def close(self) -> None:
        """End the run in all trackers."""
        for name, writer in list(self._writers.items()):
            try:
                writer.close()
            except Exception as error:
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        # a second try would fail again, at each step of the run
        del self._writers[name]
        reason = describe(error)
        self._say(f"warning: {name} is left out from here on: {reason}. The log has all values")


def finite_values(value: object) -> object:
    """Copy nested lists and mappings, with None for each number that JSON has no word for.

    These are the infinite ones and NaN.
    """
    if isinstance(value, Mapping):
        return {key: finite_values(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite_values(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numbers(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """All numbers in nested mappings, by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


class _TensorBoard:
    """`OUTPUT/tensorboard`, for `tensorboard --logdir`."""

    def __init__(self, directory: Path, config: Config, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what an earlier attempt wrote of later steps goes
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name.replace(".", "/"), value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Offline in `OUTPUT/wandb`, unless WANDB_MODE says otherwise; `wandb sync` sends it later."""

    def __init__(self, directory: Path, config: Config, step: int) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project="bertsum",
            name=directory.name,
            dir=directory,
            config=dict(config),
            mode=mode,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def mlflow_name(name: str) -> str:
    """The name of a measure as MLflow takes it, which may hold any name of a source or a class.

    Letters and digits of all scripts, `_`, `-`, `.` and blanks stay. So do slashes, where the name
    does not look like a path such as `a//b`, which MLflow refuses. Any other character becomes its
    number: `a,b` is `a_2c_b`.
    """
    kept = r"[^\w. /-]" if posixpath.normpath(name) == name and name[0] != "/" else r"[^\w. -]"
    return re.sub(kept, lambda match: f"_{ord(match[0]):x}_", name)[:_LONGEST_MLFLOW_NAME]


class _MLflow:
    """`OUTPUT/mlflow.db`, unless MLFLOW_TRACKING_URI names a server or another file."""

    def __init__(self, directory: Path, config: Config, step: int) -> None:
        import mlflow

        for name in ("mlflow", "alembic"):  # which tell of each table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        mlflow.set_tracking_uri(
            os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{directory}/mlflow.db")
        )
        mlflow.set_experiment("bertsum")
        is_inside = mlflow.active_run() is not None  # of a program that calls this one
        mlflow.start_run(run_name=directory.name, nested=is_inside)
        # MLflow takes no nested values; notes may be longer than it allows
        simple = {}
        for key, value in config.items():
            if isinstance(value, str | int | float) and key != "notes":
                simple[key] = value
        mlflow.log_params(simple)
        self._mlflow = mlflow

    def write(self, values: Mapping[str, float], step: int) -> None:
        named = {mlflow_name(name): value for name, value in values.items()}
        self._mlflow.log_metrics(named, step=step)

    def close(self) -> None:
        self._mlflow.end_run()
