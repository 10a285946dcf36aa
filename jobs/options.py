"""The options that several commands have: how they are parsed, and the dataclasses that hold them.

Each command has a dataclass of its own below these, with one field for each of its options. The
names of the fields are those under which argparse keeps the values (`dest`).
"""

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bertsum.errors import ConfigError
from bertsum.storage.folder import Folder, mask
from jobs.terminal.log_lines import FORMATS, VARIABLE, set_format

_ON_EXISTING = (
    "results of another model, configuration or input in OUTPUT: refuse (resume, the default), or "
    "remove them once the new ones are complete (replace)"
)
_LIMIT = (
    "a try-out of the first N rows: it writes no manifest and no _SUCCESS; a later run without it "
    "keeps its results and does the rest"
)
# Whoever reads a snippet has asked. On training rows (lines of highlights of cnn_dailymail, one
# sentence each) ROUGE-1 is 0.7 points higher with it than with 1, and no higher beyond it.
_SNIPPET_QUERY_WEIGHT = 3.0
_MOST = 2**53  # beyond it a float is no longer exact, and nothing is counted that high

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What every job over INPUT and OUTPUT is given.

    - `settings`: the values of `--set`, as KEY=VALUE.
    - `address`: of Ray; None: see `find_address`.
    - `on_existing`: `resume` or `replace`; None: what the configuration says.
    - `limit`: the number of rows of a try-out; None: all rows.
    - `log_format`: of what is printed, see `jobs.terminal.log_lines`.
    """

    input: str
    output: str
    config: Path | None = None
    settings: Sequence[str] = ()
    address: str | None = None
    on_existing: str | None = None
    limit: int | None = None
    log_format: str = FORMATS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """What `train` and `tune` are given.

    - `settings`: the values of `--set`, as KEY=VALUE.
    - `address`: of Ray; None: see `find_address`.
    """

    config: Path
    output: str
    settings: Sequence[str] = ()
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentOptions(RunOptions):
    """What `summarize`, `nightly` and `backfill` are given. None: the default of the configuration.

    - `sentences`: the length of the longest summary.
    - `query`, `query_column`: what summaries answer.
    - `snippet`: most characters of a summary of one or two sentences.
    - `then`: the file that says what a model writes from the summaries; None: nothing.
    """

    model: str | None = None
    text_column: str | None = None
    language: str | None = None
    sentences: int | None = None
    query: str | None = None
    query_column: str | None = None
    snippet: int | None = None
    then: Path | None = None


def parse(
    kind: type[Options], parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> Options:
    """The options of a command line as `kind`; `argv` None: those of this process.

    Raises ConfigError and SystemExit for a command line that is wrong.
    """
    # The only use of the Namespace: past this line every option has a name and a type.
    options = kind(**vars(parser.parse_args(argv)))
    if isinstance(options, RunOptions):
        # argparse checks what was typed, not the default
        if options.log_format not in FORMATS:
            raise ConfigError(
                f"{VARIABLE} is {options.log_format!r}; {' or '.join(FORMATS)} is expected"
            )
        set_format(options.log_format)  # before anything is printed
    return options


def count(option: str, least: int) -> Callable[[str], int]:
    """Parse a whole number of at least `least`. Raises ConfigError, which argparse lets pass."""

    def parse_count(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1  # refused below, with the same words
        if not least <= number <= _MOST:
            raise ConfigError(
                f"{option}: a whole number of at least {least} is expected, not {text!r}"
            )
        return number

    return parse_count


def amount(option: str) -> Callable[[str], float]:
    """Parse a finite number of at least 0: minutes, hours, or a price. Raises ConfigError."""

    def parse_amount(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan  # refused below, with the same words
        if not 0 <= number <= _MOST:  # false for nan
            raise ConfigError(f"{option}: a number of at least 0 is expected, not {text!r}")
        return number

    return parse_amount


def add_config_options(
    parser: argparse.ArgumentParser, config: str, setting: str = "one configuration value"
) -> None:
    """Add `--config` and `--set`; `config` and `setting` are their help."""
    parser.add_argument("--config", metavar="FILE", type=Path, help=config)
    add_set_option(parser, setting)


def add_set_option(
    parser: argparse.ArgumentParser, setting: str = "one configuration value"
) -> None:
    """Add `--set`; `setting` is its help."""
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=f"{setting}; repeatable",
    )


def add_options(parser: argparse.ArgumentParser, limit: bool = True) -> None:
    """Add the options of RunOptions.

    `limit`: whether the job can be tried out on the first rows.
    """
    add = parser.add_argument
    add_config_options(parser, "YAML file with configuration values")
    add_address_option(parser)
    add(
        "--log-format",
        choices=FORMATS,
        default=os.environ.get(VARIABLE, FORMATS[0]),
        help=f"text for people, or a JSON object a line (default: {VARIABLE}, else text)",
    )
    add("--on-existing", choices=["resume", "replace"], help=_ON_EXISTING)
    if limit:
        add("--limit", metavar="N", type=count("--limit", 1), help=_LIMIT)


def add_document_options(parser: argparse.ArgumentParser, limit: bool) -> None:
    """Add the options of DocumentOptions; `limit`: see `add_options`."""
    add = parser.add_argument
    add(
        "input",
        metavar="INPUT",
        help="Parquet, CSV or JSON: file, directory or glob; local or s3://, gs://, ...",
    )
    add("output", metavar="OUTPUT", help="directory for the results, local or remote")
    add_model_option(parser)
    add_options(parser, limit)
    add_text_column_option(parser)
    add(
        "--language",
        metavar="CODE",
        help="ISO 639-1 code of all documents (default: detected, or from the script of each)",
    )
    add(
        "--sentences",
        metavar="N",
        type=count("--sentences", 1),
        help="longest summary, in sentences (default: 3)",
    )
    add_query_options(parser)
    add(
        "--query-column",
        metavar="NAME",
        help="column with what each summary is to answer (default: generic summaries)",
    )
    add(
        "--then",
        metavar="FILE",
        type=Path,
        help="YAML file that names a model of `generate`, which writes from each summary meanwhile",
    )


def add_query_options(parser: argparse.ArgumentParser) -> None:
    """Add `--query` and `--snippet`, see `snippet_overrides`."""
    parser.add_argument(
        "--query", metavar="TEXT", help="what all summaries are to answer (default: nothing)"
    )
    parser.add_argument(
        "--snippet",
        metavar="N",
        type=count("--snippet", 1),
        help="at most N characters, of one or two sentences, cut if need be",
    )


def snippet_overrides(snippet: int | None) -> dict[str, object]:
    """The values that `--snippet` stands for, by key of the summarizer."""
    if snippet is None:
        return {}
    budget = {"unit": "characters", "size": snippet, "most_sentences": 2, "cut": "word"}
    values: dict[str, object] = {f"selection.{key}": value for key, value in budget.items()}
    return values | {"query_weight": _SNIPPET_QUERY_WEIGHT}


def add_address_option(parser: argparse.ArgumentParser) -> None:
    """Add `--address` of Ray, see `find_address`."""
    parser.add_argument(
        "--address",
        metavar="A",
        help="local, auto, HOST:PORT or ray://HOST:PORT (default: RAY_ADDRESS, else local)",
    )


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Add `--model` of the commands that summarize."""
    parser.add_argument(
        "--model",
        metavar="M",
        help="checkpoint: directory, URI or hub name (default: the shipped one)",
    )


def add_text_column_option(parser: argparse.ArgumentParser) -> None:
    """Add `--text-column` of the commands whose default it is to read `document`."""
    parser.add_argument(
        "--text-column", metavar="NAME", help="column with the text (default: document)"
    )


def overrides(options: RunOptions, short: Mapping[str, object]) -> list[str]:
    """`--set` values, then those of the short options, which are other spellings of some of them.

    `short` holds the values of the short options by key; None: not given.
    """
    # The last of two values for a key holds, so that the short options win.
    given = {"on_existing": options.on_existing, **short}
    return [*options.settings, *(override(k, v) for k, v in given.items() if v is not None)]


def override(key: str, value: object) -> str:
    """`key=value` for `load_config`, with a text that stays what it is.

    Unquoted, YAML makes False of the language `no`, and `text` of a column `text #1`.
    """
    # A string of JSON is one of YAML, if characters beyond 16 bits are not escaped as two halves.
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def target_file(option: str, uri: str, outputs: Sequence[Folder] = ()) -> tuple[Folder, str]:
    """Directory and name of the file that an option asks for.

    Raises ConfigError where it names no file, or one in an OUTPUT, which takes those of its job.
    """
    directory, _, name = uri.rpartition("/")
    if not name:
        raise ConfigError(f"{option} {mask(uri)!r} names no file")
    folder = Folder(directory or ("/" if uri.startswith("/") else "."))
    refuse_inside(option, uri, folder, outputs)
    return folder, name


def refuse_inside(option: str, uri: str, folder: Folder, outputs: Sequence[Folder]) -> None:
    """Raise ConfigError where the folder of what an option names is an OUTPUT, or lies in one."""
    for output in outputs:
        if folder.is_below(output):
            raise ConfigError(
                f"{option} {mask(uri)!r} lies in OUTPUT {output}, which takes no other files than "
                "those of its job; choose another directory"
            )


def split_name(model: str) -> tuple[str | None, str]:
    """Split `NAME=M` of `evaluate --model` into the name, None if there is none, and M."""
    name, separator, uri = model.partition("=")
    # `x=/c/d` has a name; in `https://host/m?token=x` the sign is part of the URI's query.
    return (name, uri) if separator and "/" not in name else (None, model)


def find_address(address: str | None) -> str:
    """Where Ray is: what `--address` says, else RAY_ADDRESS, else on this machine."""
    return address or os.environ.get("RAY_ADDRESS") or "local"
