"""Where the clauses of a sentence end, roughly: enough to tell what stands near a word."""

import re

import numpy as np
import numpy.typing as npt

# A comma, a colon, a dash, or an English word that begins a clause.
_BORDER = re.compile(
    r"[,;:–—-]\s|\.\.\.|[，；：]|\b(?:but|while|whereas|although|though|however|as|despite|and|after"
    r"|amid|yet)\b",
    re.IGNORECASE,
)


def clause_numbers(text: str, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[n] offsets in a sentence -> [n] the number of the clause of each, from 0."""
    borders = [match.start() for match in _BORDER.finditer(text)]
    return np.searchsorted(np.array(borders, np.int64), offsets, side="right")
