"""`bertsum train CONFIG OUTPUT`: labelled Parquet -> checkpoint, in one process.

The result directory holds the checkpoint, `training_log.jsonl` (a line a step), `validation.json` and its
configuration.
"""

import argparse
import importlib.util
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console

import bertsum
from bertsum import training
from bertsum.checkpoint import load_checkpoint, load_encoder, save_checkpoint, save_delta
from bertsum.checkpoint_config import package_encoder
from bertsum.config import SummarizerConfig, load_config
from bertsum.encoding import DocumentEncoder
from bertsum.errors import ConfigError
from bertsum.model import BertSum
from bertsum.model_card import model_card
from bertsum.model_source import resolve
from bertsum.predictor import document_encoder
from bertsum.training_config import SourceConfig, TrainingConfig
from bertsum.training_data import Example, is_labelled, read_examples
from jobs.guard import guard
from jobs.progress import format_seconds

_STEPS_PER_LINE = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the configuration says; returns the exit code."""
    arguments = parser().parse_args(argv)

    def work() -> int:
        _check_extra()
        config = load_config(TrainingConfig, arguments.config, arguments.set)
        if config.lora_rank or config.saved_rank:
            package_encoder(config.encoder)  # a delta is saved on a package's encoder: better known now than at the end
        run(config, arguments)
        return 0

    return guard(work, "interrupted; nothing was saved")


def parser() -> argparse.ArgumentParser:
    """The options; `bertsum submit` looks them up before it sends a job away."""
    options = argparse.ArgumentParser(prog="bertsum train", description="Labelled Parquet -> checkpoint.")
    options.add_argument("config", metavar="CONFIG", type=Path, help="YAML file; see jobs/configs/")
    options.add_argument("output", metavar="OUTPUT", type=Path, help="directory of the checkpoint")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    return options


def run(config: TrainingConfig, arguments: argparse.Namespace) -> None:
    """Read, train, measure, save."""
    start, output = time.monotonic(), arguments.output
    console = Console(stderr=True)
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model, tokenizer = _start(config)
    sources = _read_sources(config, document_encoder(model, tokenizer), model.config.sentiment_labels, console)
    if config.trained != "all":
        training.freeze(model, config.trained)
        sources = [_with_vectors(model, source, config.dtype) for source in sources]
    with (output / "training_log.jsonl").open("w", encoding="utf-8") as file:
        training.train(model, sources, config, _logger(file, console))
    training.merge_encoder(model)
    results = training.validate(model, sources, None, config.dtype)
    _write_json(output / "validation.json", results)
    _write_json(output / "training_config.json", config.model_dump(mode="json"))
    counts = {source.config.name: sum(map(is_labelled, source.train)) for source in sources}
    card = model_card(config, counts, results, _facts(arguments, time.monotonic() - start))
    console.print(card.partition("## Measured")[2])
    if rank := config.saved_rank or config.lora_rank:
        lost = save_delta(output, model, package_encoder(config.encoder), rank, card, bertsum.__version__)
        console.print(f"saved the delta in {output}; relative error of its factors {lost:.1e}")
    else:
        save_checkpoint(output, model, tokenizer, card, bertsum.__version__)
        console.print(f"saved the checkpoint in {output}")


def _start(config: TrainingConfig) -> tuple[BertSum, Any]:
    """The model before the first step, and its tokenizer."""
    if config.start_from is None:
        encoder, tokenizer = load_encoder(config.encoder)
        return training.build_model(encoder, config), tokenizer
    model, tokenizer = load_checkpoint(resolve(config.start_from))
    if config.trained == "all":
        training.open_encoder(model, config)
    return model, tokenizer


def _check_extra() -> None:
    missing = [name for name in ("peft", "rouge_score") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"training needs {', '.join(missing)}: pip install 'bertsum[train]'")


def _read_sources(
    config: TrainingConfig, encoder: DocumentEncoder, labels: Sequence[str], console: Console
) -> list[training.LabelledSource]:
    sources = []
    for source in config.sources:
        start = time.monotonic()

        def read(uri: str | None, source: SourceConfig = source, **limits: Any) -> list[Example]:
            if uri is None:
                return []
            uri = uri if "://" in uri or uri.startswith("/") else f"{config.data_root}/{uri}"
            return read_examples(uri, source, encoder, labels, seed=config.seed, **limits)

        train = read(source.train_uri, max_rows=source.max_documents, max_windows=source.max_windows)
        validation = read(source.validation_uri, max_windows=SummarizerConfig().max_windows)
        sources.append(training.LabelledSource(source, train, validation))
        console.print(
            f"{source.name}: {len(train)} rows to train on, {len(validation)} to measure on "
            f"({time.monotonic() - start:.0f} s)"
        )
    return sources


def _with_vectors(model: BertSum, source: training.LabelledSource, dtype: str) -> training.LabelledSource:
    train, validation = (
        training.compute_vectors(model, examples, dtype) for examples in (source.train, source.validation)
    )
    return training.LabelledSource(source.config, train, validation)


def _logger(file: TextIO, console: Console) -> training.Log:
    start = time.monotonic()

    def log(values: dict[str, Any]) -> None:
        file.write(json.dumps(values) + "\n")
        file.flush()
        if "summary_loss" not in values:
            console.print(_summary_line(values))
        elif values["step"] % _STEPS_PER_LINE == 0:
            left = (time.monotonic() - start) / values["step"] * (values["num_steps"] - values["step"])
            console.print(
                f"step {values['step']}/{values['num_steps']}  summary loss {values['summary_loss']:.4f}  "
                f"sentiment loss {values['sentiment_loss']:.4f}  {values['tokens_per_second']} tokens/s  "
                f"{format_seconds(left)} left"
            )

    return log


def _summary_line(values: dict[str, Any]) -> str:
    parts = [f"validation at step {values['step']}"]
    for name, result in values.items():
        if isinstance(result, dict) and "rouge" in result:
            cosine, deviation = result["spread"]["vector_cosine"], result["spread"]["score_deviation"]
            parts.append(
                f"{name} R1 {result['rouge']['rouge_1']:.2f} (lead {result['lead']['rouge_1']:.2f}; "
                f"cosine {cosine:.2f}, deviation {deviation:.3f})"
            )
        if isinstance(result, dict) and "sentiment" in result:
            parts.append(
                f"{name} accuracy {result['sentiment']['accuracy']:.3f} "
                f"({result['sentiment']['accuracy_among_present_labels']:.3f} among its labels)"
            )
    return "; ".join(parts)


def _facts(arguments: argparse.Namespace, seconds: float) -> list[str]:
    settings = "".join(f" --set {shlex.quote(value)}" for value in arguments.set)
    return [
        f"A BERTSUM model, trained by bertsum {bertsum.__version__} on {date.today()} in {format_seconds(seconds)} "
        f"({torch.get_num_threads()} threads, {platform.machine()}) with:",
        f"    bertsum train {arguments.config} {arguments.output}{settings}",
    ]


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
