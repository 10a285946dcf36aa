"""What a maker of columns needs of the model, and what it gives for one row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bertsum.model.batches import TokenPools
from bertsum.text.encoder import EncodedDocument

Columns = Mapping[str, Any]
"""Values of one row, by fields of `Prediction`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the model computes beside the scores of every row: see `BertSum.forward`.

    - `compared`: [K, H] vectors of length 1, to which each sentence's embedding is compared.
    - `common_query`: [H] of length 1, the query of documents that have none of their own.
    - `pools`: the documents of a batch, in its order -> the means of tokens to read, if any.
    """

    sentence_sentiments: bool = False
    document_vectors: bool = False
    pools: Callable[[Sequence[EncodedDocument]], TokenPools | None] | None = None
    token_sentiments: bool = False
    compared: Tensor | None = None
    query_cosines: bool = False
    common_query: Tensor | None = None
