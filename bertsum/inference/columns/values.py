"""What a maker of columns needs of the model, and what it gives for one row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Columns = Mapping[str, Any]
"""Values of one row, by fields of `Prediction`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the model computes beside the scores of every row: see `BertSum.forward`."""

    sentence_sentiments: bool = False
    document_vectors: bool = False
    token_sentiments: bool = False
