"""The sentiment `mixed`, of documents that praise and blame."""

from collections.abc import Sequence

import numpy as np

from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.schema import MIXED, NEGATIVE, POSITIVE
from bertsum.text.encoder import EncodedDocument


class MixedSentiment:
    """Replaces `sentiment` where both polarities are strong; `sentiment_scores` stay.

    The mean of the sentences' probabilities is the share of the sentences that are expected to be
    of a polarity: of (0.9, 0.8, 0.1) positive and (0.1, 0.1, 0.8) negative, 60 % and 33 %.
    """

    wanted = Wanted(sentence_sentiments=True)

    def __init__(self, labels: Sequence[str], threshold: float) -> None:
        """`labels`: of the sentiment. `threshold`: the least mean of each polarity."""
        self._polarities = [labels.index(POSITIVE), labels.index(NEGATIVE)]
        self._threshold = threshold

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> list[Columns]:
        """[N] the new sentiment of each document, or nothing."""
        rows: list[Columns] = []
        for score in scores:
            means = np.zeros(2)
            if score.sentence_sentiments is not None:
                means = score.sentence_sentiments.mean(0)[self._polarities]  # [S, C] -> [2]
            rows.append({"sentiment": MIXED} if means.min() >= self._threshold else {})
        return rows
