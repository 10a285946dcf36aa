"""The group `aspects`: the words that opinions are about, joined to spans, and their sentiments."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.schema import Aspect
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.phrases.tags import choose_tags, find_spans, inside
from bertsum.text.sentences import UNSPACED_LANGUAGES, Span
from bertsum.text.words import MARKS

_LETTERS = rf"[\w{MARKS}]+"
# "The Dell's touch-pad isn't bad." in words: The, Dell, 's, touch-pad, isn, 't, bad, .
_WORD_OR_MARK = re.compile(rf"(?<=\w)['’]{_LETTERS}|{_LETTERS}(?:[-/+]{_LETTERS})*|\S")


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
        # few sentences hold an aspect, and only these are split into words
        sentences = np.unique(document.token_sentences[is_inside]).tolist()
        aspects: list[Aspect] = []
        for sentence in sentences:
            # a word has the label of its first token, as in training
            words = self._words(document, sentence)
            starts = [start for start, _ in words]
            first_tokens = self._encoder.first_tokens(document, starts, [sentence])
            read: list[Span] = []
            tokens: list[int] = []
            for word, token in zip(words, first_tokens, strict=True):
                if token is not None:
                    read.append(word)
                    tokens.append(token)
            rows = probabilities[tokens]  # [n, C]
            tags = choose_tags(rows, self._labels)
            for kind, first, last in sorted(find_spans(tags), key=lambda span: span[1]):
                columns = [self._labels.index(tag) for tag in tags[first : last + 1]]
                score = float(rows[range(first, last + 1), columns].mean())
                start, stop = _without_marks(document.text, read[first][0], read[last][1])
                if start < stop:
                    aspects.append(
                        {
                            "text": document.text[start:stop],
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
            spans = [match.span() for match in _WORD_OR_MARK.finditer(text)]
        return [(start + first, start + last) for first, last in spans]


def _without_marks(text: str, start: int, stop: int) -> Span:
    """A span without marks at both ends, such as quotation marks; empty if there is no letter."""
    word = re.search(rf"\w(?:.*[\w{MARKS}])?", text[start:stop], re.DOTALL)
    return (start + word.start(), start + word.end()) if word else (start, start)
