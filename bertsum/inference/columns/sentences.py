"""The group `sentences`: where each sentence stands, its score, and its own sentiment."""

from collections.abc import Sequence

from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.schema import SentenceReading
from bertsum.text.encoder import EncodedDocument


class SentenceColumns:
    """Makes `sentences`, of those that were read."""

    wanted = Wanted(sentence_sentiments=True)

    def __init__(self, labels: Sequence[str]) -> None:
        """`labels`: of the sentiment; empty for a model without it."""
        self._labels = labels

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> list[Columns]:
        """[N] the sentences of each document."""
        return [
            {"sentences": self._readings(document, score)}
            for document, score in zip(documents, scores, strict=True)
        ]

    def _readings(self, document: EncodedDocument, scores: Scores) -> list[SentenceReading]:
        sentence_scores = [] if scores.sentence_scores is None else scores.sentence_scores.tolist()
        sentiments: list[dict[str, float] | None] = [None] * len(sentence_scores)
        if scores.sentence_sentiments is not None:
            rows = scores.sentence_sentiments.tolist()  # [S, C]
            sentiments = [dict(zip(self._labels, row, strict=True)) for row in rows]
        # sentences beyond `max_windows` have no score, and are left out
        spans = document.spans[: len(sentence_scores)]
        readings: list[SentenceReading] = []
        for (start, stop), score, by_label in zip(spans, sentence_scores, sentiments, strict=True):
            reading: SentenceReading = {
                "start": start,
                "length": stop - start,
                "score": score,
                "sentiment": max(by_label, key=by_label.__getitem__) if by_label else None,
                "sentiment_scores": by_label,
            }
            readings.append(reading)
        return readings
