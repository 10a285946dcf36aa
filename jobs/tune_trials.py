"""The trials of `bertsum tune` on Ray Tune: each is a whole training run in one process."""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

import ray.tune
import torch
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator, Searcher

from bertsum.storage import Folder
from bertsum.training_config import TrainingConfig
from bertsum.training_run import LOG_FILE, begin, prepare_encoder, run
from bertsum.training_state import StateStore, read_log
from bertsum.tuning_config import RangeConfig, TuningConfig
from jobs.cluster import Shape
from jobs.tune import Trial, trial_name, with_values

_DIRECTORY, _VALUES_FILE = "trials", "trial.json"
_ALL_STEPS = 10**9  # a trial ends by itself


@dataclass(frozen=True, slots=True)
class Task:
    """What all trials share."""

    base: TrainingConfig
    output_uri: str
    num_threads: int


class Lines(ray.tune.Callback):
    """News of trials, as lines on the terminal."""

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A validation."""
        if "score" in result:
            name, step, score = trial_name(trial.config), result["step"], result["score"]
            print(f"trial {name}: step {step}, score {score:.4f}", file=sys.stderr, flush=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial that failed; the others go on."""
        print(f"trial {trial_name(trial.config)} failed", file=sys.stderr, flush=True)


def run_trials(config: TuningConfig, base: TrainingConfig, output: Folder, shape: Shape) -> list[Trial]:
    """Run all trials, those of an earlier start first: they go on, or only tell again what they found.

    Nothing of Ray Tune's own state is needed for that, so it lies in a directory that is removed.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # each run has its own log
    task = Task(base, output.uri, shape.num_threads)
    begun = read_trials(output)
    asha = ASHAScheduler(
        time_attr="step",
        grace_period=config.grace_validations * base.validate_every_steps,
        reduction_factor=config.reduction_factor,
        max_t=_ALL_STEPS,
    )
    with tempfile.TemporaryDirectory() as directory:
        grid = ray.tune.Tuner(
            ray.tune.with_resources(ray.tune.with_parameters(run_trial, task=task), shape.bundle),
            param_space={key: _domain(values) for key, values in config.space.items()},
            tune_config=ray.tune.TuneConfig(
                metric="score",
                mode="max",
                num_samples=config.num_trials,
                max_concurrent_trials=config.max_concurrent_trials,
                search_alg=_searcher(config, list(begun.values())),
                scheduler=asha if config.early_stopping == "asha" else None,
            ),
            run_config=ray.tune.RunConfig(storage_path=directory, verbose=0, callbacks=[Lines()]),
        ).fit()
        results = [grid[place] for place in range(len(grid))]
        errors = {trial_name(result.config): result.error for result in results if result.error and result.config}
    return [_result(output, name, values, errors.get(name)) for name, values in read_trials(output).items()]


def read_trials(output: Folder) -> dict[str, dict[str, Any]]:
    """Values of all trials in OUTPUT, by their names."""
    names = [name for name in output.list_names() if name.endswith(f"/{_VALUES_FILE}")]
    return {name.split("/")[1]: json.loads(output.read_bytes(name)) for name in names}


def run_trial(values: dict[str, Any], task: Task) -> None:
    """One training run; its scores go to Ray Tune, which may end it at any of them."""
    torch.set_num_threads(task.num_threads)
    config = with_values(task.base, values)
    output = Folder(f"{task.output_uri}/{_DIRECTORY}/{trial_name(values)}")
    output.create_exclusive(_VALUES_FILE, json.dumps(values).encode())
    is_unfinished = begin(output, config)
    state = StateStore(output, config.kept_checkpoints).latest()
    for line in _scores(output, state.step if state else 0):
        ray.tune.report({"score": line["score"], "step": line["step"]})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def report(news: dict[str, Any]) -> None:
        if "score" in news:
            ray.tune.report({"score": news["score"], "step": news["step"]})

    if is_unfinished:
        prepare_encoder(config, output)
        run(config, output, device, f"bertsum tune, trial {trial_name(values)}", report)


def _scores(output: Folder, last_step: int) -> list[dict[str, Any]]:
    return [line for line in read_log(output, LOG_FILE, last_step) if "score" in line]


def _domain(values: RangeConfig | tuple[Any, ...]) -> Any:
    if isinstance(values, tuple):
        return ray.tune.choice(list(values))
    if values.whole:
        draw = ray.tune.lograndint if values.log else ray.tune.randint
        return draw(int(values.low), int(values.high) + 1)
    return (ray.tune.loguniform if values.log else ray.tune.uniform)(values.low, values.high)


def _searcher(config: TuningConfig, begun: list[dict[str, Any]]) -> Searcher | BasicVariantGenerator:
    """`begun`: values of trials that come first."""
    if config.searcher == "optuna":
        from ray.tune.search.optuna import OptunaSearch

        return OptunaSearch(metric="score", mode="max", seed=config.seed, points_to_evaluate=begun or None)
    return BasicVariantGenerator(random_state=config.seed + len(begun), points_to_evaluate=begun or None)


def _result(output: Folder, name: str, values: dict[str, Any], error: Exception | None) -> Trial:
    directory = Folder(f"{output.uri}/{_DIRECTORY}/{name}")
    best = max(_scores(directory, _ALL_STEPS), key=lambda line: line["score"], default=None)
    return {
        **values,
        "score": best and best["score"],
        "step": best and best["step"],
        "error": str(error).strip().splitlines()[-1] if error else None,
        "directory": directory.uri,
    }
