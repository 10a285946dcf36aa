"""Types of numbers on the command line, whose range argparse does not check by itself."""

import math
from collections.abc import Callable

from bertsum.errors import ConfigError

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
