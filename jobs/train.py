"""`bertsum train CONFIG OUTPUT`: labelled Parquet -> checkpoint, in this process or by Ray Train's workers.

OUTPUT holds the checkpoint, `training_log.jsonl` (a line a step), `validation.json`, the run's configuration, and under
`checkpoints/` the states from which the same command goes on.
"""

import argparse
import importlib.util
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from bertsum.checkpoint_config import package_encoder
from bertsum.config import load_config
from bertsum.errors import ConfigError, IncompleteError
from bertsum.storage import Folder, mask
from bertsum.tracking import check_trackers
from bertsum.training_config import TrainingConfig
from bertsum.training_run import begin, prepare_encoder
from jobs.guard import guard
from jobs.progress import format_seconds

_RESUMES = "the same command goes on from the last checkpoint"
_LINE_SECONDS = 10.0
_POLL_SECONDS = 0.3
_PLAIN_WIDTH = 120


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done or nothing to do, 1 failed (the same command goes on), 2 command or configuration wrong."""
    arguments = parser().parse_args(argv)
    return guard(lambda: train(arguments), f"interrupted; {_RESUMES}")


def train(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    _check_extra()
    config = absolute(load_config(TrainingConfig, arguments.config, arguments.set))
    if config.delta_rank:
        package_encoder(config.encoder)  # a delta is saved on a package's encoder: better known now than at the end
    output = Folder(arguments.output)
    check_trackers(config.tracking, output)
    if not begin(output, config):
        print(f"nothing to do: {output} holds the checkpoint of this configuration")
        return 0
    prepare_encoder(config, output)
    settings = "".join(f" --set {shlex.quote(mask(value))}" for value in arguments.set)
    command = f"bertsum train {arguments.config} {mask(arguments.output)}{settings}"
    address = arguments.address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local" and config.resources.replicas == 1:
        run_here(config, output, command)
    else:
        run_on_cluster(config, output, command, address)
    return 0


def run_here(config: TrainingConfig, output: Folder, command: str) -> None:
    """One worker on this machine is this process: no Ray. Raises what ended it."""
    import torch

    from bertsum.training_run import run

    if config.resources.num_cpus:
        torch.set_num_threads(max(1, int(config.resources.num_cpus)))
    has_gpu = torch.cuda.is_available() and config.resources.num_gpus != 0
    try:
        run(config, output, torch.device("cuda" if has_gpu else "cpu"), command, Lines(_console()).show)
    except FloatingPointError as error:
        raise IncompleteError(f"{error}; {_RESUMES}") from error


def run_on_cluster(config: TrainingConfig, output: Folder, command: str, address: str) -> None:
    """Start or join Ray, run the workers, and print what they say. Raises what ended them."""
    console = _console()
    console.print(f"starting Ray ({mask(address)})")
    import ray

    from jobs.cluster import connected, reserve
    from jobs.train_worker import Coordinator, Task

    with connected(address):
        shape = reserve(config.resources, config.resources.replicas or sys.maxsize, can_grow=address != "local")
        if shape.num_gpus % 1:
            raise ConfigError(f"resources.num_gpus must be a whole number in training, not {shape.num_gpus:g}")
        task = Task(config, output.uri, command, shape)
        actor: Any = ray.remote(Coordinator)  # whose options carry no types
        coordinator = actor.options(num_cpus=0, max_concurrency=4).remote(task)
        try:
            _follow(coordinator, Lines(console))
        finally:
            ray.kill(coordinator)  # and with it all workers, on a cluster that goes on without us


def _follow(coordinator: Any, lines: "Lines") -> None:
    import ray
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    fit = coordinator.fit.remote()
    try:
        is_done = False
        while not is_done:
            is_done = bool(ray.wait([fit], timeout=_POLL_SECONDS)[0])
            for news in ray.get(coordinator.hear.remote()):
                lines.show(news)
        ray.get(fit)
    except (RayError, TrainingFailedError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise IncompleteError(f"the workers ended before the run did: {mask(reason)}; {_RESUMES}") from error


def _console() -> Console:
    """As wide as the terminal, or as tables need it."""
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=_PLAIN_WIDTH)


class Lines:
    """What workers tell, as lines on the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start: tuple[int, float] | None = None  # step and time of the first news of these workers
        self._shown_at = 0.0

    def show(self, news: dict[str, Any]) -> None:
        """Print, or raise the error of a worker."""
        if "error" in news:
            raise news["error"]
        if "message" in news:
            self._console.print(news["message"], highlight=False, soft_wrap=True)
        elif "markdown" in news:
            self._console.print(Markdown(news["markdown"]))
        elif "validation" in news:
            self._console.print(_validation_line(news), highlight=False, soft_wrap=True)
        elif "num_steps" in news:
            self._show_step(news)

    def _show_step(self, news: dict[str, Any]) -> None:
        now = time.monotonic()
        if self._start is None or news["step"] <= self._start[0]:
            self._start = (news["step"], now)
        is_last = news["step"] == news["num_steps"]
        if now - self._shown_at < _LINE_SECONDS and not is_last:
            return
        self._shown_at = now
        done = news["step"] - self._start[0]
        left = (now - self._start[1]) / done * (news["num_steps"] - news["step"]) if done else None
        losses = [
            f"{name.replace('_', ' ')} {news[name]:.4f}" for name in news if name.endswith("_loss") and news[name]
        ]
        parts = [f"step {news['step']:,}/{news['num_steps']:,}", *losses, f"{news['tokens_per_second']:,} tokens/s"]
        text = "  ".join(parts + ([f"{format_seconds(left)} left"] if left is not None else []))
        self._console.print(text, highlight=False, soft_wrap=True)


def _validation_line(news: dict[str, Any]) -> str:
    parts = [f"validation at step {news['step']}"]
    for name, result in news["validation"].items():
        if "rouge" in result:
            cosine, deviation = result["spread"]["vector_cosine"], result["spread"]["score_deviation"]
            parts.append(
                f"{name} R1 {result['rouge']['rouge_1']:.2f} (lead {result['lead']['rouge_1']:.2f}; "
                f"cosine {cosine:.2f}, deviation {deviation:.3f})"
            )
        if "sentiment" in result:
            parts.append(
                f"{name} accuracy {result['sentiment']['accuracy']:.3f} "
                f"({result['sentiment']['accuracy_among_present_labels']:.3f} among its labels)"
            )
        for head in ("topic", "token_sentiment"):
            if head in result:
                accuracy, macro_f1 = result[head]["accuracy"], result[head]["macro_f1"]
                parts.append(f"{name} {head.replace('_', ' ')} accuracy {accuracy:.3f}, macro-F1 {macro_f1:.3f}")
    return "; ".join(parts)


def absolute(config: TrainingConfig) -> TrainingConfig:
    """The same with absolute paths: workers run in directories of their own."""
    values = config.model_dump()
    for key in ("data_root", "encoder", "start_from"):
        if values[key] and Path(values[key]).expanduser().is_dir():
            values[key] = str(Path(values[key]).expanduser().resolve())
    return TrainingConfig.model_validate(values)


def _check_extra() -> None:
    missing = [name for name in ("peft", "rouge_score") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"training needs {', '.join(missing)}: pip install 'bertsum[train]'")


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum train",
        description="Labelled Parquet -> checkpoint. Start the same command again, and the run goes on.",
        epilog="exit codes: 0 done, 1 failed or interrupted (the same command goes on), 2 command or config wrong",
    )
    add = options.add_argument
    add("config", metavar="CONFIG", type=Path, help="YAML file; see jobs/configs/")
    add("output", metavar="OUTPUT", help="directory of the checkpoint, local or remote; workers must reach it too")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="one configuration value; repeatable")
    add("--address", metavar="A", help="local, auto, HOST:PORT or ray://HOST:PORT (default: RAY_ADDRESS, else local)")
    return options


if __name__ == "__main__":
    sys.exit(main())
