"""What several commands have in common on the command line: options, and numbers whose range is checked."""

import argparse
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from bertsum.errors import ConfigError

_ON_EXISTING = (
    "results of another model, configuration or input in OUTPUT: refuse (resume, the default), or remove them once the "
    "new ones are complete (replace)"
)
_LIMIT = (
    "a try-out of the first N rows: it writes no manifest and no _SUCCESS; a later run without it keeps its results "
    "and does the rest"
)
_MOST = 2**53  # beyond it a float is no longer exact, and nothing is counted that high


def count(option: str, least: int) -> Callable[[str], int]:
    """A whole number of at least `least`. Raises ConfigError, which argparse lets pass."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= _MOST:
            raise ConfigError(f"{option}: a whole number of at least {least} is expected, not {text!r}")
        return number

    return parse


def amount(option: str) -> Callable[[str], float]:
    """A finite number of at least 0: minutes, hours, or a price. Raises ConfigError."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number <= _MOST:  # false for nan
            raise ConfigError(f"{option}: a number of at least 0 is expected, not {text!r}")
        return number

    return parse


def add_options(parser: argparse.ArgumentParser, limit: bool = True) -> None:
    """The options that every job over INPUT and OUTPUT has; `limit`: whether it can be tried out on the first rows."""
    add = parser.add_argument
    add("--config", metavar="FILE", type=Path, help="YAML file with configuration values")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="one configuration value; repeatable")
    add("--address", metavar="A", help="local, auto, HOST:PORT or ray://HOST:PORT (default: RAY_ADDRESS, else local)")
    add("--on-existing", choices=["resume", "replace"], help=_ON_EXISTING)
    if limit:
        add("--limit", metavar="N", type=count("--limit", 1), help=_LIMIT)


def overrides(arguments: argparse.Namespace, short: Mapping[str, object]) -> list[str]:
    """`--set` values, then those of the short options, which are other spellings of some of them."""
    options = {"on_existing": arguments.on_existing, **short}
    return [*arguments.set, *(f"{key}={value}" for key, value in options.items() if value is not None)]


def find_address(arguments: argparse.Namespace) -> str:
    """Where Ray is."""
    return arguments.address or os.environ.get("RAY_ADDRESS") or "local"
