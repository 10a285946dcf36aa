"""The group `keywords`: the phrases that stand for a document."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.schema import Keyword
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.phrases.key_phrases import Phrase, key_phrases


class KeywordColumns:
    """Makes `keywords`.

    No phrase is encoded: a phrase is as near to the document as the sentences that hold it.
    """

    wanted = Wanted(document_vectors=True)

    def __init__(self, encoder: DocumentEncoder, most: int) -> None:
        """`most`: phrases of a document."""
        self._encoder, self._most = encoder, most

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> list[Columns]:
        """[N] the phrases of each document, the best first."""
        return [
            {"keywords": self._keywords(document, score.sentence_similarities)}
            for document, score in zip(documents, scores, strict=True)
        ]

    def _keywords(
        self, document: EncodedDocument, similarities: npt.NDArray[np.float32] | None
    ) -> list[Keyword]:
        """`similarities`: [S] cosine of each sentence to the document."""
        spans = document.spans[: document.num_read_sentences]
        # a sentence that points away from the document says nothing for its phrases
        weights = [0.0] * len(spans) if similarities is None else similarities.clip(0).tolist()
        encoder = self._encoder
        phrases = key_phrases(
            document.text, spans, document.language, encoder.rarity, encoder.token_spans
        )
        values = [self._value(phrase, weights) for phrase in phrases]
        keywords: list[Keyword] = []
        chosen: list[set[str]] = []
        best = max(values, default=0.0)
        # sorted is stable: of equal ones the first in the document comes first
        for index in sorted(range(len(phrases)), key=lambda index: -values[index]):
            words = set(phrases[index].words)
            if len(keywords) == self._most or values[index] <= 0:
                break
            if not any(words <= other or other <= words for other in chosen):
                chosen.append(words)
                score = values[index] / best
                keywords.append({"text": phrases[index].text, "score": score})
        return keywords

    def _value(self, phrase: Phrase, weights: Sequence[float]) -> float:
        """How much a phrase stands for its document.

        It is near to the document often, its words are rare, and there are several of them.
        """
        nearness = sum(weights[sentence] for sentence in phrase.sentences)
        rarity = sum(map(self._encoder.rarity, phrase.words)) / len(phrase.words)
        # square roots: the tenth occurrence and the fourth word say less than the second
        return float(np.sqrt(nearness * len(phrase.words)) * rarity)
