"""`bertsum text [FILE|-]`: summary and sentiment of one document on the terminal; no Ray."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding

from bertsum.config import SummarizerConfig, load_config
from bertsum.errors import InputError
from bertsum.masking import describe, mask
from bertsum.schema import Document, Prediction, Status
from jobs.terminal.exit_codes import guard, is_unicode


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 a summary was printed, 1 there is none (the status says why), 2 wrong command or file."""
    return guard(lambda: text(parser().parse_args(argv)))


def text(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    language = [f"language={arguments.language}"] if arguments.language else []
    config = load_config(SummarizerConfig, arguments.config, [*arguments.set, *language])
    document = _read(arguments.file)
    start = time.perf_counter()
    from bertsum.inference.summarizer import (
        Summarizer,  # torch takes seconds: only once the options are known to be right
    )

    summarizer = Summarizer(arguments.model, config)
    loaded = time.perf_counter()
    prediction = summarizer.predict([document])[0]
    seconds = {"load": loaded - start, "predict": time.perf_counter() - loaded}
    if arguments.json:
        # in another encoding than UTF-8 what it lacks must be written as JSON's own escapes
        ascii_only = not is_unicode(sys.stdout.encoding)
        print(json.dumps(_as_json(prediction, seconds), ensure_ascii=ascii_only, indent=1))
    else:
        _print(prediction, document, seconds)
    return 0 if prediction.status in (Status.OK, Status.UNKNOWN_LANGUAGE) else 1


def _read(file: str) -> Document:
    if file == "-" and sys.stdin.isatty():
        print("reading the text from the terminal; end it with Ctrl-D", file=sys.stderr)
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"cannot read {mask(file)}: {describe(error, known_path=file)}") from error
    try:
        return Document(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _as_json(prediction: Prediction, seconds: dict[str, float]) -> dict[str, Any]:
    return asdict(prediction) | {"seconds": {name: round(value, 3) for name, value in seconds.items()}}


def _print(prediction: Prediction, document: Document, seconds: dict[str, float]) -> None:
    console = Console(highlight=False, markup=False)
    if prediction.summary:
        console.print(Padding(prediction.summary, (1, 0)))
    if prediction.status != Status.OK:
        console.print(f"status     {prediction.status}" + (f": {prediction.error}" if prediction.error else ""))
    if prediction.sentiment is not None and prediction.sentiment_scores:
        scores = sorted(prediction.sentiment_scores.items(), key=lambda entry: -entry[1])
        console.print("sentiment  " + ", ".join(f"{label} {score:.2f}" for label, score in scores))
    chosen = len(prediction.summary_sentences or ())
    length, whole = len(prediction.summary or ""), len(document.text or "")
    console.print(
        f"read       {prediction.num_sentences:,} sentences, {prediction.num_tokens:,} tokens, {whole:,} characters"
        + (" (only the beginning: longer than max_windows allows)" if prediction.truncated else "")
    )
    console.print(f"kept       {chosen} sentences, {length:,} characters ({length / max(whole, 1):.0%})")
    console.print(f"time       {seconds['load']:.1f} s to load the model, {seconds['predict']:.2f} s to read the text")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(prog="bertsum text", description="Summary and sentiment of one document.")
    add = options.add_argument
    add("file", metavar="FILE", nargs="?", default="-", help="UTF-8 text file; - (the default): standard input")
    add("--model", metavar="M", help="checkpoint: directory, URI or hub name (default: the shipped one)")
    add("--config", metavar="FILE", type=Path, help="YAML file with configuration values of the summarizer")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="one value, e.g. selection.size=5; repeatable")
    add("--language", metavar="CODE", help="ISO 639-1 code (default: from the script of the text)")
    add("--json", action="store_true", help="everything, for machines")
    return options


if __name__ == "__main__":
    sys.exit(main())
