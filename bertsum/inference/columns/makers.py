"""Columns of optional groups of outputs: one module a group, and the list of them here.

Each is made from what the one pass of the encoder gave, for all documents of a pool at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bertsum.config import SummarizerConfig
from bertsum.inference.device_batches import Scores, Wanted
from bertsum.model.bert_sum import BertSum
from bertsum.text.encoder import DocumentEncoder, EncodedDocument

Columns = Mapping[str, Any]
"""Values of one row, by fields of `Prediction`."""


class ColumnMaker(Protocol):
    """Makes the columns of one group.

    - `wanted`: which scores it needs beside those of every row.
    """

    wanted: Wanted

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> Sequence[Columns]:
        """[N] values of its columns for each document that the model has read."""


def make_column_makers(
    config: SummarizerConfig, model: BertSum, encoder: DocumentEncoder
) -> list[ColumnMaker]:
    """Make what the chosen groups need, in the order of OutputGroup.

    The columns of `spans` and `language` are known without a maker.
    """
    return []


def all_wanted(makers: Sequence[ColumnMaker]) -> Wanted:
    """What any of the makers needs."""
    return Wanted(
        sentence_vectors=any(maker.wanted.sentence_vectors for maker in makers),
        sentence_sentiments=any(maker.wanted.sentence_sentiments for maker in makers),
    )
