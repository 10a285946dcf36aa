"""The group `embedding`: one vector a document, to search, to compare and to group documents by."""

from collections.abc import Sequence

import numpy as np

from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.text.encoder import EncodedDocument


class EmbeddingColumns:
    """Makes `embedding`."""

    wanted = Wanted(document_vectors=True)

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> list[Columns]:
        """[N] the vector of each document, of length 1 up to rounding.

        Rounded to float16 whatever the column's type, so that both types hold the same numbers.
        """
        rows: list[Columns] = []
        for score in scores:
            if score.document_vector is None or not np.isfinite(score.document_vector).all():
                raise ValueError("the document's vector is not of numbers")
            rows.append({"embedding": score.document_vector.astype(np.float16).tolist()})
        return rows
