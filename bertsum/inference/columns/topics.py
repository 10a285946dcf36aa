"""The group `topic`: what a head has learned, or which of the user's topics is nearest."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bertsum.inference.columns.text_vectors import text_vectors
from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.model.bert_sum import BertSum
from bertsum.text.encoder import DocumentEncoder, EncodedDocument

FloatArray = npt.NDArray[np.float32]
# Softmax of cosine / temperature: a difference of 0.05 makes a topic e = 2.7 times as likely.
_TEMPERATURE = 0.05


class HeadTopics:
    """Makes `topic` and `topic_scores` from the probabilities of the model's head."""

    wanted = Wanted()

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> list[Columns]:
        """[N] the topic of each document."""
        rows = [score.topic_scores for score in scores]
        return _by_label(self._labels, [row for row in rows if row is not None])


class NamedTopics:
    """Makes them from how near each document's vector is to those of the topics' texts."""

    wanted = Wanted(document_vectors=True)

    def __init__(self, labels: Sequence[str], vectors: FloatArray) -> None:
        """`vectors`: [K, H] of the topics, each of length 1."""
        self._labels, self._vectors = labels, vectors

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> list[Columns]:
        """[N] the topic of each document."""
        vectors = [score.document_vector for score in scores]
        known = np.stack([vector for vector in vectors if vector is not None])  # [N, H]
        cosines = known @ self._vectors.T  # [N, K]
        # the greatest is taken away first, so that no exponential overflows
        exponentials = np.exp((cosines - cosines.max(1, keepdims=True)) / _TEMPERATURE)
        return _by_label(self._labels, exponentials / exponentials.sum(1, keepdims=True))


def named_topics(
    topics: Mapping[str, str], model: BertSum, encoder: DocumentEncoder
) -> NamedTopics:
    """Encode the names and descriptions of topics once, by the model that reads the documents.

    Raises ConfigError for a topic without a word.
    """
    texts = [f"{name}: {text}" if text else name for name, text in topics.items()]
    vectors = text_vectors(texts, model, encoder, key="summarizer.topics")
    return NamedTopics(list(topics), vectors.cpu().numpy())


def _by_label(labels: Sequence[str], rows: Sequence[FloatArray] | FloatArray) -> list[Columns]:
    """[N] the most likely label of each [C] probabilities, and all of them by label."""
    columns: list[Columns] = []
    for row in rows:
        columns.append(
            {
                "topic": labels[int(row.argmax())],
                "topic_scores": dict(zip(labels, row.tolist(), strict=True)),
            }
        )
    return columns
