"""`bertsum tune CONFIG OUTPUT`: many training runs -> the best configuration, by Ray Tune.

Each trial is a run in `OUTPUT/trials/NAME`, which goes on from its own checkpoints when the command starts again.
OUTPUT gets `best.yaml` for `bertsum train`, `trials.csv`, and `trials.png`.
"""

import argparse
import csv
import hashlib
import importlib.util
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from bertsum.config import load_config
from bertsum.errors import ConfigError, IncompleteError
from bertsum.storage import Folder, mask
from bertsum.training_config import TrainingConfig
from bertsum.tuning_config import TuningConfig
from jobs.guard import guard
from jobs.train import absolute

_CONFIG_FILE = "tuning_config.json"
_RESUMES = "the same command goes on; each trial from its last checkpoint"

Trial = dict[str, Any]  # values of the space by key, and `score`, `step`, `error`, `directory`


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 no trial gave a result (the same command goes on), 2 command or configuration wrong."""
    arguments = parser().parse_args(argv)
    return guard(lambda: tune(arguments), f"interrupted; {_RESUMES}")


def tune(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    config = load_config(TuningConfig, arguments.config, arguments.set)
    _check_extras(config)
    base = absolute(load_config(TrainingConfig, Path(config.training)))
    if not base.best_metric:
        raise ConfigError(f"{config.training} has no best_metric: say which measure is sought")
    first = {key: values[0] if isinstance(values, tuple) else values.low for key, values in config.space.items()}
    with_values(base, first)  # a wrong key is better known now than in a trial
    output = Folder(arguments.output)
    _claim(output, config, base)
    address = arguments.address or os.environ.get("RAY_ADDRESS") or "local"
    trials = _search(config, base, output, address)
    _write(config, base, output, trials)
    return 0


def with_values(base: TrainingConfig, values: Mapping[str, Any]) -> TrainingConfig:
    """The training configuration with some values replaced. Raises ConfigError for a key or value that it refuses."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return load_config(TrainingConfig, None, [*_as_overrides(base), *overrides])


def _as_overrides(base: TrainingConfig) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in base.model_dump(mode="json").items()]


def _claim(output: Folder, config: TuningConfig, base: TrainingConfig) -> None:
    """Raise ConfigError where OUTPUT holds another search."""
    ours = json.dumps([config.model_dump(mode="json"), base.model_dump(mode="json")]).encode()
    if not output.create_exclusive(_CONFIG_FILE, ours) and output.read_bytes(_CONFIG_FILE) != ours:
        raise ConfigError(f"{output} holds a search with another configuration; give another directory")


def _search(config: TuningConfig, base: TrainingConfig, output: Folder, address: str) -> list[Trial]:
    console = Console(stderr=True)
    console.print(f"starting Ray ({mask(address)})")
    from jobs.cluster import connected, reserve
    from jobs.tune_trials import run_trials

    with connected(address):
        shape = reserve(base.resources, base.resources.replicas or 1, can_grow=address != "local")
        return run_trials(config, base, output, shape)


def _write(config: TuningConfig, base: TrainingConfig, output: Folder, trials: Sequence[Trial]) -> None:
    """Table, plot and best configuration. Raises IncompleteError where no trial has a score."""
    ranked = sorted(trials, key=lambda trial: (trial["score"] is None, -(trial["score"] or 0.0)))
    names = [*config.space, "score", "step", "error", "directory"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names)
    writer.writeheader()
    writer.writerows(ranked)
    output.write_replace("trials.csv", stream.getvalue().encode())
    table = Table(*names[:-2])
    for trial in ranked:
        table.add_row(*(_short(trial[name]) for name in names[:-2]))
    Console().print(table)
    if ranked[0]["score"] is None:
        raise IncompleteError(f"no trial gave a result: {ranked[0]['error']}; {_RESUMES}")
    best = with_values(base, {key: ranked[0][key] for key in config.space})
    text = yaml.safe_dump(best.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    output.write_replace("best.yaml", text.encode())
    if importlib.util.find_spec("matplotlib") is not None:
        output.write_replace("trials.png", _draw(list(config.space), [t for t in ranked if t["score"] is not None]))
    print(f"best: score {ranked[0]['score']:.4f}; bertsum train {output}/best.yaml OUTPUT")


def _draw(keys: Sequence[str], trials: Sequence[Trial]) -> bytes:
    """PNG: the score of each trial over each key."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(keys), 3.6), layout="constrained")
    for number, key in enumerate(keys, 1):
        axes = figure.add_subplot(1, len(keys), number)
        values = [trial[key] for trial in trials]
        is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        axes.scatter(values if is_number else [str(value) for value in values], [trial["score"] for trial in trials])
        if is_number and min(values) > 0 and max(values) > 20 * min(values):
            axes.set_xscale("log")
        axes.set_xlabel(key)
        axes.set_ylabel("score")
        axes.grid(alpha=0.3)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _check_extras(config: TuningConfig) -> None:
    needed = ["peft", "rouge_score", *(["optuna"] if config.searcher == "optuna" else [])]
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"tuning needs {', '.join(missing)}: pip install 'bertsum[train,tune]'")


def trial_name(values: Mapping[str, Any]) -> str:
    """Directory of a trial: the same values are the same run."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum tune",
        description="Many training runs -> the best configuration. Start the same command again, and it goes on.",
        epilog="exit codes: 0 done, 1 no trial gave a result (the same command goes on), 2 command or config wrong",
    )
    add = options.add_argument
    add("config", metavar="CONFIG", type=Path, help="YAML file: training, space, num_trials, ...")
    add("output", metavar="OUTPUT", help="directory for trials and results; all nodes must reach it")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="one configuration value; repeatable")
    add("--address", metavar="A", help="local, auto or HOST:PORT (default: RAY_ADDRESS, else local)")
    return options


if __name__ == "__main__":
    sys.exit(main())
