"""`bertsum tune CONFIG OUTPUT`: many training runs -> the best configuration, by Ray Tune.

OUTPUT gets `best.yaml` for `bertsum train`, `trials.csv`, `trials.png`, and in each `trials/NUMBER`
a training run.
"""

import argparse
import csv
import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bertsum.config_base import load_config, with_defaults
from bertsum.errors import ConfigError, IncompleteError, OutputError
from bertsum.storage.folder import Folder, mask
from bertsum.storage.lock import Claim
from bertsum.training.config import TrainingConfig, WorkersConfig
from bertsum.tuning.config import TuningConfig, with_values
from bertsum.tuning.trials import Trial, TrialStore, ranked, short
from jobs.options import TrainingOptions, add_set_option, find_address, parse
from jobs.terminal.console import console
from jobs.terminal.exit_codes import guard
from jobs.terminal.plots import draw_trials
from jobs.terminal.progress import Bar
from jobs.train import absolute, say_aside

_CONFIG_FILE = "tuning_config.json"
_BEST_FILE = "best.yaml"
_RESUMES = "the same command goes on, each trial from its last checkpoint"
# These may change when a search goes on.
_FREE_KEYS = ("training", "num_trials", "max_concurrent_trials", "silence_seconds")
_FREE_TRAINING_KEYS = (
    "resources",
    "max_worker_failures",
    "checkpoint_every_minutes",
    "kept_checkpoints",
    "vectors_uri",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0: done or nothing to do. 1: trials are missing, and the same command goes on. 2: configuration
    wrong.
    """
    return guard(lambda: tune(parse(TrainingOptions, parser(), argv)), f"interrupted; {_RESUMES}")


def tune(options: TrainingOptions) -> int:
    """Run the command; returns its exit code."""
    config = load_config(TuningConfig, options.config, options.settings)
    needed = ["peft", "rouge_score", "pandas", "tensorboardX"]  # the last two are Ray Tune's
    if config.searcher == "optuna":
        needed.append("optuna")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"tuning needs {', '.join(missing)}: pip install 'bertsum[train,tune]'")
    base = absolute(config.read_training())
    output = Folder(options.output)
    address = find_address(options.address)
    with Claim(output, say_aside) as claim:
        _begin(output, config, base)
        trials = TrialStore(output).read()
        # A trial without an outcome was broken off, and goes on.
        if sum(trial.outcome is not None for trial in trials) >= config.most_trials:
            print(f"nothing to do: {output} holds all {config.most_trials} trials")
        else:
            trials = _search(config, base, output, trials=trials, address=address, claim=claim)
        _finish(config, base, output, trials)
    return 0


def _begin(output: Folder, config: TuningConfig, base: TrainingConfig) -> None:
    """Claim OUTPUT for this search. One of which nothing has come makes room.

    Raises ConfigError if OUTPUT holds another search.
    """
    ours = config.model_dump(mode="json", exclude=set(_FREE_KEYS))
    ours["training"] = base.model_dump(mode="json", exclude=set(_FREE_TRAINING_KEYS))
    written, store = json.dumps(ours, indent=1).encode(), TrialStore(output)
    # Exclusively: of two searches that start at once, one sees the other's file.
    if output.create_exclusive(_CONFIG_FILE, written):
        return
    try:
        # with the defaults of keys that came later than it
        theirs = with_defaults(TuningConfig, json.loads(output.read_bytes(_CONFIG_FILE)))
    except ValueError as error:
        raise OutputError(
            f"{output}/{_CONFIG_FILE} is damaged: {error}; give another directory"
        ) from error
    if isinstance(theirs.get("training"), dict):
        # what an earlier version wrote may hold keys that are free by now
        for key in _FREE_TRAINING_KEYS:
            theirs["training"].pop(key, None)
        if base.dtype == "auto":  # its trials keep the format with which they began
            ours["training"]["dtype"] = theirs["training"].get("dtype")
    keys = [key for key in ours if ours[key] != theirs.get(key)]
    # A first try with, say, a wrong path: all its trials failed without a score, and nothing is lost.
    if keys and all(trial.outcome == "failed" and not trial.scores for trial in store.read()):
        store.clear()
        output.write_replace(_CONFIG_FILE, written)
    elif keys:
        raise ConfigError(
            f"{output} holds a search with another configuration; these differ: "
            f"{', '.join(keys)}. Give another directory"
        )


def _search(
    config: TuningConfig,
    base: TrainingConfig,
    output: Folder,
    *,
    trials: Sequence[Trial],
    address: str,
    claim: Claim,
) -> list[Trial]:
    """Start or join Ray, run what is missing of the search, and return all trials."""
    if address.startswith("ray://"):
        raise ConfigError(
            f"tuning does not run behind {mask(address)}: use bertsum submit tune, or run on a "
            "machine of the cluster"
        )
    bar = Bar(Console(stderr=True))
    bar.say(f"starting Ray ({mask(address)})")
    # They import Ray and torch, which takes seconds: a finished search needs neither.
    from jobs.engine.cluster import connected, reserve
    from jobs.learning.trials import Search, run_trials

    # How many trials run at once is the search's own choice, not that of its training runs.
    wanted = WorkersConfig.model_validate({**base.resources.model_dump(), "replicas": None})
    with connected(address):
        shape = reserve(wanted, config.most_trials, can_grow=address != "local")
        search = Search(
            config=config,
            store=TrialStore(output),
            bar=bar,
            trials={trial.number: trial for trial in trials},
            check=claim.check,
        )
        with bar:
            return run_trials(search, base, output.uri, shape)


def _finish(
    config: TuningConfig, base: TrainingConfig, output: Folder, trials: Sequence[Trial]
) -> None:
    """Write table, plot and best configuration.

    Raises IncompleteError if trials are missing, or none has a score.
    """
    order = ranked(trials)
    keys = list(config.space)
    output.write_replace("trials.csv", _csv(keys, order, output).encode())
    _show(keys, order, "mean of " * (len(base.best_metric) > 1) + ", ".join(base.best_metric))
    best = order[0].best if order else None
    if best is not None:
        if importlib.util.find_spec("matplotlib") is not None:
            output.write_replace("trials.png", draw_trials(keys, order))
        values = with_values(base, order[0].values).model_dump(mode="json", exclude_unset=True)
        output.write_replace(
            _BEST_FILE, yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()
        )
    # After best.yaml is written: a search that is interrupted before that still has them all.
    for trial in trials:
        if trial.outcome is not None:
            TrialStore(output).remove_checkpoints(trial)
    if broken := [trial for trial in trials if trial.outcome is None]:
        raise IncompleteError(
            f"trial {broken[0].number} has not ended: {broken[0].error}; {_RESUMES}"
        )
    if best is None:
        reason = order[0].error or "its best_metric is not a number"
        raise IncompleteError(f"no trial gave a result; the first: {reason}")
    print(
        f"best: trial {order[0].number}, score {best.score:.4f}; "
        f"bertsum train {output}/{_BEST_FILE} OUTPUT"
    )


def _csv(keys: Sequence[str], trials: Sequence[Trial], output: Folder) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["trial", *keys, "score", "step", "share", "outcome", "error", "directory"])
    for trial in trials:
        last = trial.scores[-1].share if trial.scores else None
        best = [trial.best.score, trial.best.step] if trial.best else [None, None]
        values = [trial.values.get(key) for key in keys]
        row = [
            trial.number,
            *values,
            *best,
            last,
            trial.outcome,
            trial.error,
            f"{output}/{trial.directory}",
        ]
        writer.writerow(row)
    return stream.getvalue()


def _show(keys: Sequence[str], trials: Sequence[Trial], metric: str) -> None:
    table = Table(title=f"score: {metric}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("trial", *keys, "score", "at step", "measured to", "outcome"):
        table.add_column(name, justify="left" if name == "outcome" else "right", overflow="fold")
    for trial in trials:
        values = [short(trial.values.get(key)) for key in keys]
        measured = ["", "", ""]
        if best := trial.best:
            share = trial.scores[-1].share
            measured = [f"{best.score:.4f}", f"{best.step:,}", f"{share:.0%}"]
        reason = f": {trial.error}" if trial.error else ""
        outcome = f"{trial.outcome or 'broken off'}{reason}"
        table.add_row(str(trial.number), *values, *measured, outcome)
    console.print(table)


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum tune",
        description="Many training runs -> the best configuration. "
        "Start the same command again, and it goes on.",
        epilog="exit codes: 0 done, 1 trials are missing (the same command goes on), "
        "2 command or config wrong",
    )
    add = options.add_argument
    add("config", metavar="CONFIG", type=Path, help="YAML file: training, space, num_trials, ...")
    add(
        "output", metavar="OUTPUT", help="directory for trials and results; all nodes must reach it"
    )
    add_set_option(options)
    # Without ray://, which tuning refuses: see `_search`.
    add(
        "--address", metavar="A", help="local, auto or HOST:PORT (default: RAY_ADDRESS, else local)"
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
