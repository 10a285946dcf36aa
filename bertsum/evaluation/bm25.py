"""BM25, the ranking of documents by the words that they share with a query.

What a word adds is `word_gains`, as it is for sentences. Shapes: N documents.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bertsum.text.phrases.query_words import FloatArray, word_gains
from bertsum.text.sentences import UNSPACED_LANGUAGES
from bertsum.text.words import words


class Bm25:
    """The words of documents, by which queries are compared with all of them at once."""

    def __init__(self, documents: Iterable[Sequence[str]]) -> None:
        """`documents`: the words of each."""
        lengths: list[int] = []
        indices: dict[str, list[int]] = defaultdict(list)
        hits: dict[str, list[int]] = defaultdict(list)
        for index, document in enumerate(documents):
            lengths.append(len(document))
            for word, count in Counter(document).items():
                indices[word].append(index)
                hits[word].append(count)
        self._num_documents = len(lengths)
        mean = sum(lengths) / max(1, len(lengths)) or 1.0
        multiples = np.array(lengths, np.float64) / mean  # [N]
        # of each word the documents that have it, and what it adds to their scores
        self._postings: dict[str, tuple[npt.NDArray[np.int64], FloatArray]] = {}
        for word, having in indices.items():
            rows = np.array(having)
            gains = word_gains(
                np.array(hits[word], np.float64),
                multiples[rows],
                num_with=len(having),
                num_texts=len(lengths),
            )
            self._postings[word] = rows, gains

    def scores(self, query: Sequence[str]) -> FloatArray:
        """[N] scores of all documents; a word that the query repeats counts as often."""
        scores = np.zeros(self._num_documents)
        for word in query:
            if word in self._postings:
                rows, gains = self._postings[word]
                scores[rows] += gains  # each document stands there once
        return scores


def terms(text: str, language: str) -> list[str]:
    """What is compared: words, or in languages that do not space them pairs of characters."""
    found = words(text, language)
    if language in UNSPACED_LANGUAGES and len(found) > 1:
        return [first + second for first, second in pairwise(found)]
    return found
