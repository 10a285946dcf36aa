"""The group `aspects`: the words that opinions are about, joined to spans, and their sentiments."""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.schema import Aspect
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.phrases.tags import choose_tags, find_spans, inside
from bertsum.text.ragged import bounds
from bertsum.text.sentences import UNSPACED_LANGUAGES, Span
from bertsum.text.words import MARKS

_LETTERS = rf"[\w{MARKS}]+"
# "The Dell's touch-pad isn't bad." in words: The, Dell, 's, touch-pad, isn, 't, bad, .
_WORD_OR_MARK = re.compile(rf"(?<=\w)['’]{_LETTERS}|{_LETTERS}(?:[-/+]{_LETTERS})*|\S")
# the same; the class of all marks is slow
_ASCII_WORD_OR_MARK = re.compile(r"(?<=\w)'\w+|\w+(?:[-/+]\w+)*|\S", re.ASCII)
_MARK = re.compile(r"[\W_]")


class AspectColumns:
    """Makes `aspects` from the sentiments of tokens."""

    wanted = Wanted(token_sentiments=True)

    def __init__(self, encoder: DocumentEncoder, labels: Sequence[str]) -> None:
        """`labels`: of the head for tokens, `O` among them."""
        self._encoder, self._labels = encoder, labels

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> list[Columns]:
        """[N] the aspects of each document, in order."""
        rows: list[Columns] = []
        for document, score in zip(documents, scores, strict=True):
            if score.token_sentiments is None or not np.isfinite(score.token_sentiments).all():
                raise ValueError("the sentiments of tokens are not numbers")
            rows.append({"aspects": self._aspects(document, score.token_sentiments)})
        return rows

    def _aspects(
        self, document: EncodedDocument, probabilities: npt.NDArray[np.float32]
    ) -> list[Aspect]:
        """`probabilities`: [T, C] of the document's tokens."""
        is_inside = document.is_text & inside(probabilities, self._labels)
        # only sentences that hold an aspect are split into words
        sentences = np.unique(document.token_sentences[is_inside]).tolist()
        by_sentence = [self._words(document, sentence) for sentence in sentences]
        starts = [start for spans in by_sentence for start, _ in spans]
        # a word has the label of its first token, as in training
        first_tokens = iter(self._encoder.first_tokens(document, starts, sentences))
        words: list[Span] = []
        tokens: list[int] = []
        numbers: list[int] = []  # of the sentence of each word
        for number, spans in enumerate(by_sentence):
            # `first_tokens` is not taken beyond the words of the sentence
            for word, token in zip(spans, first_tokens, strict=False):
                if token is not None:
                    words.append(word)
                    tokens.append(token)
                    numbers.append(number)
        return self._joined(document.text, words, probabilities[tokens], np.array(numbers))

    def _joined(
        self,
        text: str,
        words: Sequence[Span],
        probabilities: npt.NDArray[np.float32],
        sentences: npt.NDArray[np.int64],
    ) -> list[Aspect]:
        """Aspects of words, their [n, C] probabilities and the [n] numbers of their sentences."""
        aspects: list[Aspect] = []
        tags = choose_tags(probabilities, self._labels, sentences)
        edges = bounds(np.bincount(sentences)).tolist() if len(words) else [0]
        for first_word, end in pairwise(edges):
            for kind, first, last in sorted(find_spans(tags[first_word:end]), key=lambda s: s[1]):
                run = range(first_word + first, first_word + last + 1)
                columns = [self._labels.index(tags[word]) for word in run]
                score = float(probabilities[run, columns].mean())
                start, stop = _without_marks(text, words[run[0]][0], words[run[-1]][1])
                if start < stop:
                    aspects.append(
                        {
                            "text": text[start:stop],
                            "start": start,
                            "length": stop - start,
                            "sentiment": kind,
                            "score": score,
                        }
                    )
        return aspects

    def _words(self, document: EncodedDocument, sentence: int) -> list[Span]:
        """Spans of the words of a sentence, and of other marks; tokens where no spaces are."""
        start, stop = document.spans[sentence]
        text = document.text[start:stop]
        if document.language in UNSPACED_LANGUAGES:
            (spans,) = self._encoder.token_spans([text])
        else:
            pattern = _ASCII_WORD_OR_MARK if text.isascii() else _WORD_OR_MARK
            spans = [match.span() for match in pattern.finditer(text)]
        return [(start + first, start + last) for first, last in spans]


def _without_marks(text: str, start: int, stop: int) -> Span:
    """A span without marks at both ends, such as quotation marks; empty if there is no letter."""
    while start < stop and _MARK.match(text[start]):
        start += 1
    while start < stop and _MARK.match(text[stop - 1]) and text[stop - 1] not in MARKS:
        stop -= 1
    return start, stop
