"""Losses and measures of a run for TensorBoard, Weights & Biases and MLflow; their packages are extras."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from bertsum.errors import ConfigError
from bertsum.storage import Folder

Tracker = Literal["tensorboard", "wandb", "mlflow"]


class _Writer(Protocol):
    def write(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


def check_trackers(names: Sequence[Tracker], output: Folder) -> None:
    """Raise ConfigError where a package is missing, or OUTPUT is no place for what it writes."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(f"tracking with {name} needs its package: pip install 'bertsum[{name}]'")
    if names and not output.is_local:
        raise ConfigError(f"tracking writes files beside the checkpoint, so OUTPUT must be local, not {output}")


class Tracking:
    """The trackers of a run; what it gets are the lines of the run's log."""

    def __init__(self, names: Sequence[Tracker], output: Folder, config: Mapping[str, Any], step: int) -> None:
        """`step`: the run goes on after it. Checks as `check_trackers` does."""
        check_trackers(names, output)
        makers: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _Wandb, "mlflow": _MLflow}
        self._writers: list[_Writer] = [makers[name](Path(output.uri), config, step) for name in names]

    def add(self, line: Mapping[str, Any]) -> None:
        """Write one line of the log."""
        values = {key: value for key, value in numbers(line) if key not in ("step", "num_steps")}
        for writer in self._writers:
            writer.write(values, line["step"])

    def close(self) -> None:
        """End the run in all trackers."""
        for writer in self._writers:
            writer.close()


def numbers(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """All numbers in nested mappings, by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


class _TensorBoard:
    """`OUTPUT/tensorboard`, for `tensorboard --logdir`."""

    def __init__(self, directory: Path, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        make: Any = SummaryWriter
        self._writer = make(str(directory / "tensorboard"), purge_step=step + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name.replace(".", "/"), value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Offline in `OUTPUT/wandb`, unless WANDB_MODE says otherwise; `wandb sync` sends it later."""

    def __init__(self, directory: Path, config: Mapping[str, Any], step: int) -> None:
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


class _MLflow:
    """`OUTPUT/mlflow.db`, unless MLFLOW_TRACKING_URI names a server or another place."""

    def __init__(self, directory: Path, config: Mapping[str, Any], step: int) -> None:
        import mlflow

        for name in ("mlflow", "alembic"):  # which tell of each table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{directory}/mlflow.db"))
        mlflow.set_experiment("bertsum")
        mlflow.start_run(run_name=directory.name)
        simple = {
            key: value for key, value in config.items() if isinstance(value, str | int | float) and key != "notes"
        }
        mlflow.log_params(simple)
        self._mlflow: Any = mlflow

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()
