"""`bertsum text [FILE|-]`: summary and sentiment of one document on the terminal; no Ray."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding

from bertsum.checkpoints.locate import resolve
from bertsum.checkpoints.outputs import with_outputs
from bertsum.config import SummarizerConfig
from bertsum.config_base import load_config
from bertsum.errors import InputError
from bertsum.inference.arrow import unreadable
from bertsum.masking import describe, mask
from bertsum.schema import (
    MIXED,
    Document,
    Prediction,
    QueryStatus,
    Status,
    prediction_schema,
)
from jobs.options import (
    add_config_options,
    add_model_option,
    add_query_options,
    override,
    parse,
    snippet_overrides,
)
from jobs.terminal.exit_codes import guard, is_unicode

_SHOWN_FEATURES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """The options of the command. `file` `-` is standard input."""

    file: str = "-"
    model: str | None = None
    config: Path | None = None
    settings: Sequence[str] = ()
    language: str | None = None
    query: str | None = None
    snippet: int | None = None
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 summary printed, 1 there is none (the status says why), 2 bad command."""
    return guard(lambda: text(parse(TextOptions, parser(), argv)))


def text(options: TextOptions) -> int:
    """Run the command; returns its exit code."""
    short: dict[str, object] = {"language": options.language or None, "query": options.query}
    short |= snippet_overrides(options.snippet)
    given = [override(key, value) for key, value in short.items() if value is not None]
    config = load_config(SummarizerConfig, options.config, [*options.settings, *given])
    for key in ("language_column", "query_column", "targets_column"):
        if (column := getattr(config, key)) is not None:
            # perhaps of a file for `summarize`
            reason = "a single text has no columns"
            print(f"warning: {key}={column} is ignored: {reason}", file=sys.stderr)
    document = _read(options.file)
    directory = resolve(options.model)
    config = with_outputs(config, directory)
    start = loaded = time.perf_counter()
    prediction, is_without_aspects = unreadable(document), False
    if prediction is None:  # else no model has to be loaded
        # It imports torch, which takes a second: only once the options are known to be right.
        from bertsum.inference.routing import only_member
        from bertsum.inference.summarizer import Summarizer

        summarizer = Summarizer(*only_member(directory, document, config))
        loaded = time.perf_counter()
        prediction = summarizer.predict([document])[0]
        is_without_aspects = set(config.outputs or ()) > set(summarizer.config.outputs or ())
    seconds = {"load": loaded - start, "predict": time.perf_counter() - loaded}
    if options.json:
        rounded = {name: round(value, 3) for name, value in seconds.items()}
        # What an encoding other than UTF-8 lacks must be written as JSON's own escapes.
        ascii_only = not is_unicode(sys.stdout.encoding)
        values = asdict(prediction)
        names = prediction_schema(config.outputs).names
        record = {config.output.name_of(name): values[name] for name in names}
        record.setdefault("seconds", rounded)  # which a column may be renamed to
        print(json.dumps(record, ensure_ascii=ascii_only, indent=1))
    else:
        _print(prediction, document, seconds)
        if prediction.summary_spans and "spans" in (config.outputs or ()):
            ranges = [(span["start"], span["length"]) for span in prediction.summary_spans]
            print("spans      " + ", ".join(f"{start}:{start + size}" for start, size in ranges))
        if is_without_aspects:
            print("aspects    unknown: the model for this language has no head for words")
    return 0 if prediction.status in (Status.OK, Status.UNKNOWN_LANGUAGE) else 1


def _read(file: str) -> Document:
    """The text of a UTF-8 file, with or without a byte order mark. Raises InputError."""
    if file == "-" and sys.stdin.isatty():
        print("reading the text from the terminal; end it with Ctrl-D", file=sys.stderr)
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"cannot read {mask(file)}: {describe(error, known_path=file)}") from error
    try:
        return Document(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error


def _print(prediction: Prediction, document: Document, seconds: dict[str, float]) -> None:
    """Print for people: the summary, then a line for each fact."""
    console = Console(highlight=False, markup=False)
    if prediction.summary:
        console.print(Padding(prediction.summary, (1, 0)))
    if prediction.status != Status.OK:
        reason = f": {prediction.error}" if prediction.error else ""
        console.print(f"status     {prediction.status}{reason}")
    if prediction.sentiment is not None and prediction.sentiment_scores:
        mixed = f"{MIXED}: " if prediction.sentiment == MIXED else ""
        console.print(f"sentiment  {mixed}{_likeliest_first(prediction.sentiment_scores)}")
    _print_groups(console, prediction, document)
    if prediction.language is not None:
        console.print(f"language   {prediction.language}")
    num_chosen = len(prediction.summary_sentences or ())
    length, full_length = len(prediction.summary or ""), len(document.text or "")
    cut = " (only the beginning: longer than max_windows allows)" if prediction.truncated else ""
    console.print(
        f"read       {prediction.num_sentences:,} sentences, {prediction.num_tokens:,} tokens, "
        f"{full_length:,} characters{cut}"
    )
    share = length / max(full_length, 1)  # an empty text has a summary of no characters
    console.print(f"kept       {num_chosen} sentences, {length:,} characters ({share:.0%})")
    console.print(
        f"time       {seconds['load']:.1f} s to load the model, {seconds['predict']:.2f} s to read "
        "the text"
    )


def _print_groups(console: Console, prediction: Prediction, document: Document) -> None:
    """Print what the groups of `summarizer.outputs` say."""
    if prediction.query_status == QueryStatus.OK:
        found: dict[str, str] = {}  # each word once, in the order of the summary
        for span in prediction.query_spans or ():
            word = (document.text or "")[span["start"] : span["start"] + span["length"]]
            found.setdefault(word.casefold(), word)
        scores = ", ".join(f"{score:.2f}" for score in prediction.query_scores or ())
        console.print(f"query      scores {scores}; words {', '.join(found.values()) or 'none'}")
    elif prediction.query_status is not None:
        console.print(f"query      {prediction.query_status}: the summary is the generic one")
    if prediction.topic is not None and prediction.topic_scores:
        console.print(f"topic      {_likeliest_first(prediction.topic_scores)}")
    if prediction.keywords is not None:
        phrases = (f"{entry['text']} {entry['score']:.2f}" for entry in prediction.keywords)
        console.print(f"keywords   {', '.join(phrases)}")
    for aspect in prediction.aspects or ():
        # aspect     negative 0.91  battery life
        shown = " ".join(aspect["text"].split())
        console.print(f"aspect     {aspect['sentiment']} {aspect['score']:.2f}  {shown}")
    for target in prediction.targets or ():
        score = target["sentiment_scores"][target["sentiment"]]
        count = len(target["mentions"])
        # target     negative 0.91  battery (2 mentions)
        where = f"{count} mention{'s' if count > 1 else ''}" if count else "resembles"
        shown = f"{target['target']} ({where})"
        console.print(f"target     {target['sentiment']} {score:.2f}  {shown}")
    if prediction.embedding is not None:
        first = ", ".join(f"{value:.3f}" for value in prediction.embedding[:_SHOWN_FEATURES])
        console.print(f"embedding  {len(prediction.embedding)} features: {first}, ...")
    for number, sentence in enumerate(prediction.sentences or ()):
        start, text = sentence["start"], document.text or ""
        shown = " ".join(text[start : start + sentence["length"]].split())
        by_label = sentence["sentiment_scores"] or {}
        sentiment = f"{label} {by_label[label]:.2f}" if (label := sentence["sentiment"]) else ""
        # sentence  7  0.83  negative 0.91  The trains were late again.
        console.print(f"sentence {number:>2}  {sentence['score']:.2f}  {sentiment:<13}  {shown}")


def _likeliest_first(scores: Mapping[str, float]) -> str:
    """Labels with their probabilities; equal ones in the order of the model."""
    ordered = sorted(scores.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{label} {score:.2f}" for label, score in ordered)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum text", description="Summary and sentiment of one document."
    )
    add = options.add_argument
    add(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="UTF-8 text file; - (the default): standard input",
    )
    add_model_option(options)
    add_config_options(
        options,
        "YAML file with configuration values of the summarizer",
        "one value, e.g. selection.size=5",
    )
    add("--language", metavar="CODE", help="ISO 639-1 code (default: it is detected)")
    add_query_options(options)
    add("--json", action="store_true", help="everything, for machines")
    return options


if __name__ == "__main__":
    sys.exit(main())
