"""Summaries that answer a query: scores of sentences by importance and query, and their columns.

Nothing is encoded twice. The query of a row rides along in the batch of its document; the one of
the configuration is encoded once for each model.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bertsum.config import SummarizerConfig
from bertsum.inference.columns.text_vectors import text_vectors
from bertsum.inference.device_batches import Scores
from bertsum.model.bert_sum import BertSum
from bertsum.model.ranking import QueryScores
from bertsum.model_config import QueryWeights
from bertsum.schema import Prediction, QueryStatus, TextSpan
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.phrases.query_words import bm25, query_words, word_spans
from bertsum.text.sentences import Span

MOST_CHARACTERS = 1000  # of a query that are read
_LEAST = 1e-7  # so that no logarithm is of zero
FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


def importance_logits(probabilities: FloatArray) -> DoubleArray:
    """[S] logits of the probabilities of sentences, finite also where rounding made 0 or 1."""
    clipped = probabilities.astype(np.float64).clip(_LEAST, 1 - _LEAST)
    logits: DoubleArray = np.log(clipped / (1 - clipped))
    return logits


class QueryScorer:
    """Scores sentences for the query of their document.

    - `common_query`: [H] the vector of the configuration's query, on the model's device.
    """

    def __init__(self, config: SummarizerConfig, model: BertSum, encoder: DocumentEncoder) -> None:
        """Encode the query of the configuration, if there is one.

        Raises ConfigError for one without a word.
        """
        self._encoder = encoder
        self._weights = model.query_weights or QueryWeights()
        self._share = config.query_weight
        self._common: EncodedDocument | None = None
        self.common_query: Tensor | None = None
        if config.query is not None:
            text = config.query[:MOST_CHARACTERS]
            (self.common_query,) = text_vectors(
                [text], model, encoder, key="summarizer.query", may_be_unknown=True
            )
            (self._common,) = self.encode([text], [None])

    def encode(
        self, queries: Sequence[str], languages: Sequence[str | None]
    ) -> list[EncodedDocument | None]:
        """[N] the queries of rows; None for one in which there is nothing to read."""
        texts = []
        for query in queries:
            # a lone surrogate is no text, and a tokenizer would refuse all of them for it
            text = query[:MOST_CHARACTERS].encode("utf-8", "ignore").decode("utf-8")
            texts.append(text if re.search(r"\w", text) else "")
        encoded = self._encoder.encode(texts, languages, max_windows=1)
        return [query if query.num_read_tokens else None for query in encoded]

    def status(self, document: EncodedDocument) -> QueryStatus:
        """Whether the query of a document counts."""
        query = self._query(document)
        if query is None:
            return QueryStatus.EMPTY
        return QueryStatus.UNKNOWN if query.is_unknown_language else QueryStatus.OK

    def answers(self, document: EncodedDocument, scores: Scores) -> DoubleArray | None:
        """[S] what the query adds to the logits of sentences; None where no query counts."""
        query = self._query(document)
        if query is None or query.is_unknown_language:
            return None
        if scores.sentence_scores is None or scores.query_cosines is None:
            return None
        spans = document.spans[: len(scores.sentence_scores)]
        sentences = [document.text[start:stop] for start, stop in spans]
        words = bm25(sentences, query_words(query.text, document.language), document.language)
        weights = self._weights
        answers: DoubleArray = weights.words * words
        answers += weights.nearness * (scores.query_cosines - weights.usual_cosine)
        return self._share * answers

    def join(self, importance: Sequence[FloatArray], answers: Sequence[DoubleArray]) -> QueryScores:
        """What to choose sentences by, from the [S] importance and `answers` of each document."""
        scores = []
        for probabilities, gains in zip(importance, answers, strict=True):
            logits = importance_logits(probabilities) + gains
            scores.append((1 / (1 + np.exp(-logits))).astype(np.float32))
        return QueryScores(scores, [self._weights.answers * gains for gains in answers])

    def columns(
        self, document: EncodedDocument, prediction: Prediction, scores: FloatArray | None
    ) -> Mapping[str, Any]:
        """Values of the group `query`. `scores`: of the document, by importance and query."""
        query = self._query(document)
        if query is None or scores is None:
            return {"query_status": self.status(document)}
        spans: list[TextSpan] = []
        for span in prediction.summary_spans or ():
            first, length = span["start"], span["length"]
            for start, stop in self.word_spans(document, (first, first + length)):
                spans.append({"start": first + start, "length": stop - start})
        return {
            "query_scores": scores[list(prediction.summary_sentences or ())].tolist(),
            "query_spans": spans,
            "query_status": QueryStatus.OK,
        }

    def word_spans(self, document: EncodedDocument, part: Span) -> list[Span]:
        """Where the words of its query stand in a part of a document, counted from the part."""
        query = self._query(document)
        if query is None or query.is_unknown_language:
            return []
        words = query_words(query.text, document.language)
        return word_spans(document.text[slice(*part)], words, document.language)

    def _query(self, document: EncodedDocument) -> EncodedDocument | None:
        return document.query or self._common
