"""`bertsum train CONFIG OUTPUT`: labelled Parquet -> checkpoint, here or by Ray Train's workers.

OUTPUT holds the checkpoint, `report.html` (what was measured, to look at), `training_log.jsonl` (a
line a step), `validation.json`, the run's configuration, and under `checkpoints/` the states from
which the same command goes on.
"""

import argparse
import importlib.util
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from bertsum.checkpoints.config import CONFIG_FILE, PACKAGE_PREFIX, package_encoder
from bertsum.config_base import load_config
from bertsum.errors import ConfigError, IncompleteError
from bertsum.reports.measures import PAGE_FILE
from bertsum.storage.folder import Folder, mask
from bertsum.storage.lock import Claim
from bertsum.training.config import TrainingConfig
from bertsum.training.run import claim_output, prepare_encoder
from bertsum.training.tracking import check_trackers
from jobs.learning.news import News
from jobs.options import (
    TrainingOptions,
    add_address_option,
    add_set_option,
    find_address,
    parse,
)
from jobs.report import write_measures
from jobs.terminal.exit_codes import guard
from jobs.terminal.progress import Bar, format_seconds

_RESUMES = "the same command goes on from the last checkpoint"
_BEGIN_ANEW = ". Another configuration needs another OUTPUT"
_PLAIN_WIDTH = 120  # of a report that goes to a file or a pipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0: done or nothing to do. 1: failed, and the same command goes on. 2: command or configuration
    wrong.
    """
    return guard(lambda: train(parse(TrainingOptions, parser(), argv)), f"interrupted; {_RESUMES}")


def train(options: TrainingOptions) -> int:
    """Run the command; returns its exit code."""
    missing = [name for name in ("peft", "rouge_score") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"training needs {', '.join(missing)}: pip install 'bertsum[train]'")
    config = absolute(load_config(TrainingConfig, options.config, options.settings))
    if config.start_from is None and (
        config.saved_rank or config.encoder.startswith(PACKAGE_PREFIX)
    ):
        # A delta is saved on a package's encoder: better known now than at the end.
        package_encoder(config.encoder)
    output = Folder(options.output)
    check_trackers(config.tracking, output)
    if output.info(CONFIG_FILE) is None:
        with Claim(output, say_aside) as claim:
            _train(options, config, output, Lines(claim.check))
    elif not claim_output(output, config):
        print(f"nothing to do: {output} holds the checkpoint of this configuration")
    if output.info(PAGE_FILE) is None:  # also where an earlier attempt ended before it was written
        print(write_measures(output))
    return 0


def _train(
    options: TrainingOptions, config: TrainingConfig, output: Folder, lines: "Lines"
) -> None:
    if not claim_output(output, config):
        return  # it has ended since we looked
    prepare_encoder(config, output)
    # For the model card, which others may read: without secrets, and as a shell takes it.
    settings = "".join(f" --set {shlex.quote(mask(value))}" for value in options.settings)
    command = f"bertsum train {options.config} {mask(options.output)}{settings}"
    address = find_address(options.address)
    if address == "local" and config.resources.replicas == 1:
        run_here(config, output, command, lines)
    else:
        run_on_cluster(config, output, command, address, lines)


def say_aside(text: str) -> None:
    """Print a line that is no result."""
    print(text, file=sys.stderr, flush=True)


def run_here(config: TrainingConfig, output: Folder, command: str, lines: "Lines") -> None:
    """Train in this process, without Ray. Raises what ended it."""
    # Here, since it takes seconds: a wrong configuration is refused before.
    import torch

    from bertsum.training.run import run

    if config.resources.num_cpus:
        torch.set_num_threads(max(1, int(config.resources.num_cpus)))
    has_gpu = torch.cuda.is_available() and config.resources.num_gpus != 0
    try:
        with lines:
            run(config, output, torch.device("cuda" if has_gpu else "cpu"), command, lines.show)
    except FloatingPointError as error:  # losses are no numbers; the same run would end the same
        raise ConfigError(f"{error}{_BEGIN_ANEW}") from error


def run_on_cluster(
    config: TrainingConfig, output: Folder, command: str, address: str, lines: "Lines"
) -> None:
    """Start or join Ray, run the workers, and show what they report. Raises what ended them."""
    lines.say(f"starting Ray ({mask(address)})")
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    from jobs.engine.cluster import connected, reserve
    from jobs.engine.remote_errors import explain
    from jobs.learning.workers import TrainingTask, run_workers

    with connected(address):
        shape = reserve(
            config.resources, config.resources.replicas or sys.maxsize, can_grow=address != "local"
        )
        if shape.num_gpus % 1:  # NCCL refuses two workers on one GPU
            raise ConfigError(
                f"resources.num_gpus must be a whole number in training, not {shape.num_gpus:g}"
            )
        try:
            with lines:
                task = TrainingTask(
                    config=config, output_uri=output.uri, command=command, shape=shape
                )
                run_workers(task, lines.show)
        except (RayError, TrainingFailedError) as error:
            raise IncompleteError(
                explain(error, "the workers ended before the run did", _RESUMES)
            ) from error


class Lines(Bar):
    """Shows what workers report.

    The last step moves a bar on a terminal, or is a line now and then; all else is a line.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        """`check`: called now and then; what it raises ends the run."""
        self._check = check
        console = Console(stderr=True)
        super().__init__(
            console if console.is_terminal else Console(stderr=True, width=_PLAIN_WIDTH)
        )
        self._start: tuple[int, float] | None = None  # step and time of these workers' first report
        self._part: tuple[str, int, int] | None = None  # without steps: name, rows, and those done
        self._part_start = (0, 0.0)  # rows and time of its first report

    def show(self, news: News) -> None:
        """Print, or raise the error of a worker."""
        self._check()
        if "error" in news:
            raise news["error"]
        if "message" in news:
            self.say(news["message"])
        elif "markdown" in news:
            self.console.print(Markdown(news["markdown"]))
        elif "validation" in news:
            self.say(_validation_line(news))
        elif "part" in news:
            self._show_part(news["part"], news["done"], news["total"])
        elif "num_steps" in news:
            self._show_step(news)

    def _show_part(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        # the next source: as many rows or other ones
        if self._part is None or self._part[:2] != (name, total) or done <= self._part[2]:
            self._part_start = (done, now)
        self._part = (name, total, done)
        first, start = self._part_start
        text = f"{name}  {done:,}/{total:,} rows"
        if done > first and now > start:
            rate = (done - first) / (now - start)
            text += f"  {format_seconds((total - done) / rate)} left  {rate:,.0f} rows/s"
        self.move(done, total, text)

    def _show_step(self, news: News) -> None:
        now = time.monotonic()
        # A step that is not later than the first one: workers have started again, from a checkpoint.
        if self._start is None or news["step"] <= self._start[0]:
            self._start = (news["step"], now)
        done, num_steps = news["step"] - self._start[0], news["num_steps"]
        parts = [f"step {news['step']:,}/{num_steps:,}"]
        if done:  # the first report alone gives no rate
            seconds_a_step = (now - self._start[1]) / done
            parts.append(f"{format_seconds(seconds_a_step * (num_steps - news['step']))} left")
        parts.append(f"{news['tokens_per_second']:,} tokens/s")
        for name, value in news.items():
            if name.endswith("_loss") and value:  # 0: the step had no label for it
                parts.append(f"{name.replace('_', ' ')} {value:.4f}")
        text = "  ".join(parts)
        if news["step"] < num_steps:
            self.move(news["step"], num_steps, text)
        else:
            self.say(text)
            # what follows the last step may take minutes, and has no steps to count
            self.move(num_steps, num_steps, "measuring and saving")


def _validation_line(news: News) -> str:
    parts = [f"validation at step {news['step']}"]
    for name, result in news["validation"].items():
        if "written" in result:
            parts.append(
                f"{name} perplexity {result['perplexity']:.1f}, "
                f"R1 {result['rouge']['rouge_1']:.2f} (lead {result['lead']['rouge_1']:.2f})"
            )
        if "spread" in result:
            cosine, deviation = (
                result["spread"]["vector_cosine"],
                result["spread"]["score_deviation"],
            )
            parts.append(
                f"{name} R1 {result['rouge']['rouge_1']:.2f} "
                f"(lead {result['lead']['rouge_1']:.2f}; "
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
                parts.append(
                    f"{name} {head.replace('_', ' ')} accuracy {accuracy:.3f}, "
                    f"macro-F1 {macro_f1:.3f}"
                )
        if "retrieval" in result:
            shares = [result["retrieval"][key]["mean"] for key in ("recall_at_1", "mrr")]
            parts.append(f"{name} recall at 1 {shares[0]:.3f}, MRR {shares[1]:.3f}")
    return "; ".join(parts)


def absolute(config: TrainingConfig) -> TrainingConfig:
    """Make paths absolute: each worker runs in another directory."""
    values = config.model_dump(exclude_unset=True)  # what is given is told from defaults
    for key in ("data_root", "encoder", "start_from"):
        path = Path(getattr(config, key) or "").expanduser()
        if getattr(config, key) and path.is_dir():
            values[key] = str(path.resolve())
    if config.vectors_uri and "://" not in config.vectors_uri:  # it need not exist
        values["vectors_uri"] = str(Path(config.vectors_uri).expanduser().resolve())
    return TrainingConfig.model_validate(values)


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(
        prog="bertsum train",
        description="Labelled Parquet -> checkpoint. "
        "Start the same command again, and the run goes on.",
        epilog="exit codes: 0 done, 1 failed or interrupted (the same command goes on), "
        "2 command or config wrong",
    )
    add = options.add_argument
    add("config", metavar="CONFIG", type=Path, help="YAML file; see jobs/configs/")
    add(
        "output",
        metavar="OUTPUT",
        help="directory of the checkpoint, local or remote; workers must reach it too",
    )
    add_set_option(options)
    add_address_option(options)
    return options


if __name__ == "__main__":
    sys.exit(main())
