"""What the model reads of a text: all of it, or the sentences of it that fit.

- `document`: all of it.
- `summary`: the text is too long; its extractive summary is read.
- `best_sentences`: the text is too long; the sentences that fit are read, the best ones by the
  scores of an extractive model, in the order of the text.
- `first_sentences`: the same where that model cannot read the text.
- `cut_sentence`: not even the best sentence fits; its beginning is read.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bertsum.config import SummarizerConfig
from bertsum.generation.sentence_input import SentenceInput
from bertsum.inference.summarizer import Summarizer
from bertsum.model.selection import join_sentences
from bertsum.schema import Document, OutputGroup, Prediction
from bertsum.text.sentences import Span, split_sentences

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DOCUMENT, SUMMARY, BEST = "document", "summary", "best_sentences"
FIRST, CUT = "first_sentences", "cut_sentence"
SENTENCE_SCORES = SummarizerConfig(outputs=(OutputGroup.SENTENCES,))
"""What the model that scores sentences is asked for."""

_MOST_CHARACTERS = 100  # of a token: a text with more of them for each token is too long unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text to be read, with its extractive summary if there is one.

    - `language`: whose rules end its sentences.
    - `tokenizer_language`: what the tokenizer must be told; None: nothing.
    """

    text: str
    summary: str | None
    language: str
    tokenizer_language: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """Ids that the model reads, what they are of, and how many the whole text has, if counted."""

    ids: list[int]
    source: str
    document_tokens: int | None


class SourceReader:
    """Makes ids of texts, at most `max_tokens` each.

    - `prefix`: written before each text.
    - `load_summarizer`: gives the model that scores sentences; asked when one is needed.
    - `sentence_input`: of a model that `bertsum train` made.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        prefix: str,
        max_tokens: int,
        load_summarizer: Callable[[], Summarizer],
        sentence_input: SentenceInput | None = None,
    ) -> None:
        self._tokenizer, self._prefix, self._max_tokens = tokenizer, prefix, max_tokens
        self._sentence_input = sentence_input
        self._load_summarizer = load_summarizer
        self._calls: list[Callable[[], None]] = []

    @cached_property
    def num_prefix_tokens(self) -> int:
        """Tokens of an empty text: of the prefix, and special ones."""
        if self._sentence_input is not None:
            return len(self._sentence_input.ids(self._prefix, None))
        return len(self._tokenizer(self._prefix)["input_ids"])

    def on_batch(self, call: Callable[[], None]) -> None:
        """Call `call` after each batch whose sentences are scored, from now on."""
        self._calls.append(call)

    def read(self, texts: Sequence[Text]) -> list[Reading]:
        """One reading a text, in order."""
        readings: dict[int, Reading] = {}
        long_texts: dict[int, int | None] = {}  # by index: how many tokens, if counted
        for index, text in enumerate(texts):
            ids = self._encode(text.text, text)
            count = None if ids is None else len(ids)
            if ids is not None and len(ids) <= self._max_tokens:
                readings[index] = Reading(ids, DOCUMENT, count)
                continue
            short = self._encode(text.summary, text) if text.summary else None
            if short is not None and len(short) <= self._max_tokens:
                readings[index] = Reading(short, SUMMARY, count)
            else:
                long_texts[index] = count
        if long_texts:
            documents = [Document(texts[i].text, texts[i].language) for i in long_texts]
            predictions = self._summarizer.predict(documents)
            for (index, count), prediction in zip(long_texts.items(), predictions, strict=True):
                ids, source = self._best_sentences(texts[index], prediction)
                readings[index] = Reading(ids, source, count)
        return [readings[index] for index in range(len(texts))]

    @cached_property
    def _summarizer(self) -> Summarizer:
        summarizer = self._load_summarizer()
        summarizer.on_batch(self._give_sign_of_life)
        return summarizer

    def _give_sign_of_life(self) -> None:
        for call in self._calls:
            call()

    def _encode(self, content: str, text: Text) -> list[int] | None:
        """Ids of `content`, a part of `text`; None where it is too long to be worth encoding."""
        if len(content) > _MOST_CHARACTERS * self._max_tokens:
            return None
        if self._sentence_input is not None:
            return self._sentence_input.ids(self._prefix + content, text.language)
        if text.tokenizer_language is not None:
            self._tokenizer.src_lang = text.tokenizer_language
        return list(self._tokenizer(self._prefix + content, verbose=False)["input_ids"])

    def _best_sentences(self, text: Text, prediction: Prediction) -> tuple[list[int], str]:
        """Ids of the sentences that fit, and what they are."""
        spans: list[Span] = []
        scores: list[float] = []
        for sentence in prediction.sentences or ():
            spans.append((sentence["start"], sentence["start"] + sentence["length"]))
            scores.append(sentence["score"])
        source = BEST
        if not spans:
            source, spans = FIRST, split_sentences(text.text, text.language)
            scores = [-float(index) for index in range(len(spans))]
        best_first = sorted(range(len(spans)), key=lambda index: (-scores[index], index))
        chosen = self._fill([text.text[start:stop] for start, stop in spans], best_first)
        while chosen:
            joined = join_sentences(text.text, spans, sorted(chosen), text.language)
            ids = self._encode(joined, text)
            if ids is not None and len(ids) <= self._max_tokens:
                return ids, source
            chosen.pop()  # tokens at the borders of sentences may be more than those of each
        return self._cut(text.text[slice(*spans[best_first[0]])], text), CUT

    def _fill(self, sentences: Sequence[str], best_first: Sequence[int]) -> list[int]:
        """Indices of the sentences that fit, the best first; a longer one is passed over."""
        if self._sentence_input is not None:
            lengths = self._sentence_input.lengths(sentences)
        else:
            encoded = self._tokenizer(list(sentences), add_special_tokens=False, verbose=False)
            lengths = [len(ids) for ids in encoded["input_ids"]]
        room = self._max_tokens - self.num_prefix_tokens
        chosen: list[int] = []
        for index in best_first:
            if lengths[index] <= room:
                chosen.append(index)
                room -= lengths[index]
        return chosen

    def _cut(self, sentence: str, text: Text) -> list[int]:
        """Ids of the longest beginning of a sentence that fits, up to the end of a word.

        Raises ValueError where no character fits.
        """
        limit = min(len(sentence), _MOST_CHARACTERS * self._max_tokens)

        def num_tokens(length: int) -> int:
            return len(self._encode(sentence[:length], text) or ())

        length = bisect_right(range(limit + 1), self._max_tokens, key=num_tokens) - 1
        if length < 1:
            raise ValueError(f"no character fits into {self._max_tokens} tokens with the prefix")
        space = sentence.rfind(" ", 0, length + 1)
        beginning = sentence[: space if space > 0 else length]
        return self._encode(beginning, text) or []
