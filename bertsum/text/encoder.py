"""Document -> tokens in windows, as the model reads them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bertsum.errors import ModelError
from bertsum.model_config import ModelConfig
from bertsum.text.known_language import KnownLanguage
from bertsum.text.language_tags import base_language
from bertsum.text.plain_tokenizer import PlainTokenizer, digest_of, set_up
from bertsum.text.ragged import bounds
from bertsum.text.sentences import Span, detect_language, split_sentences
from bertsum.text.surface_features import surface_features
from bertsum.text.tokenizer import Tokenizer
from bertsum.text.windows import SpecialIds, WindowLimits, make_windows

IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

Mentions = Mapping[int, Mapping[str, list[Span]]]
"""Spans of mentions by sentence, then by name."""

# What a token of a word that begins is marked by: in WordPiece, Unigram and byte-level BPE.
_WORD_MARKS = ("", "▁", "Ġ")
_MOST_RARITIES = 100_000  # words, of which each takes some 100 bytes


@dataclass(frozen=True, slots=True)
class TokenizedDocuments:
    """Documents that are split and tokenized, not yet cut into windows.

    - `ids`: of all sentences of all documents, without special tokens.
    - `lengths`: number of ids of each sentence.
    """

    texts: Sequence[str]
    languages: Sequence[str]
    spans: Sequence[list[Span]]
    ids: IntArray
    lengths: IntArray


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """One document, ready for a model: T tokens of W windows, one after the other.

    S sentences were read. `spans` and `sentence_tokens` (tokens without [CLS] and [SEP]) cover all
    sentences, also those beyond `max_windows`.
    """

    text: str
    language: str
    spans: list[Span]
    sentence_tokens: IntArray
    input_ids: IntArray  # [T]
    token_type_ids: IntArray  # [T]
    token_sentences: IntArray  # [T] sentence of each token, its [CLS] and [SEP] included
    cls_positions: IntArray  # [P] one for each piece of a sentence
    window_lengths: IntArray  # [W]
    surface: FloatArray  # [S, NUM_SURFACE_FEATURES], or [S, 0] for a model without them
    num_read_sentences: int  # S
    num_tokens: int  # of the whole document, special tokens left out
    is_unknown_language: (
        bool  # the vocabulary does not know its words, so a model has nothing to go by
    )
    targets: tuple[str, ...] = ()  # different names to which the sentiment is asked
    mentions: Mentions = field(default_factory=dict)  # of targets, in the sentences that were read
    query: "EncodedDocument | None" = None  # what its row asks; it rides along in the same batch

    @property
    def truncated(self) -> bool:
        """Whether some of the document lies beyond `max_windows`."""
        return self.num_read_tokens < self.num_tokens or self.num_read_sentences < len(self.spans)

    @property
    def is_text(self) -> BoolArray:
        """[T] which tokens are the author's: all but the [CLS] and [SEP] around each piece."""
        is_text = np.ones(len(self.input_ids), np.bool_)
        is_text[self.cls_positions] = False
        is_text[np.append(self.cls_positions[1:], len(is_text)) - 1] = False
        return is_text

    @property
    def num_batch_tokens(self) -> int:
        """Tokens that it brings into a batch: T, and those of its query; 0 if T is 0."""
        num_tokens = len(self.input_ids)
        return num_tokens + (len(self.query.input_ids) if self.query and num_tokens else 0)

    @property
    def num_read_tokens(self) -> int:
        """Of `num_tokens`, those that the windows hold."""
        return len(self.input_ids) - 2 * len(self.cls_positions)


class DocumentEncoder:
    """Splits, tokenizes and windows documents for one encoder."""

    def __init__(
        self, tokenizer: Any, config: ModelConfig, *, num_segments: int, max_positions: int
    ):
        """Set up for a tokenizer and an encoder.

        - `tokenizer`: a fast one of Transformers, or a PlainTokenizer.
        - `config`: the size of windows, and which inputs the model gets.
        - `num_segments`, `max_positions`: what the encoder can embed.

        Raises ModelError for a tokenizer without [CLS], [SEP], [UNK] or a Rust backend.
        """
        for name in ("cls_token_id", "sep_token_id", "pad_token_id"):
            if getattr(tokenizer, name, None) is None:
                raise ModelError(
                    f"{type(tokenizer).__name__} has no {name}; a BERT-like tokenizer is expected"
                )
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"{type(tokenizer).__name__} has no fast (tokenizer.json) form; convert it first"
            )
        self.cls_id, self.sep_id, self.pad_id = (
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            tokenizer.pad_token_id,
        )
        backend = tokenizer.backend_tokenizer
        set_up(backend)
        # first, since the next line may round scores of its vocabulary
        self._digest = tokenizer if isinstance(tokenizer, PlainTokenizer) else digest_of(backend)
        self._backend, self._tokenizer = backend, Tokenizer(backend)
        self._has_segments = config.segments and num_segments > 1
        self._has_surface = config.surface_features
        self.max_window_tokens = min(config.max_window_tokens, max_positions)
        self._rarities: dict[str, float] = {}
        self._known_language = KnownLanguage(backend, self._tokenizer, tokenizer.unk_token_id)

    @cached_property
    def tokenizer_digest(self) -> str:
        """Digest of the tokenizer as Transformers loads it, whatever has loaded this one."""
        if isinstance(self._digest, str):
            return self._digest
        backend = self._digest.make().backend_tokenizer
        set_up(backend)
        return digest_of(backend)

    def encode(
        self, texts: Sequence[str], languages: Sequence[str | None], max_windows: int
    ) -> list[EncodedDocument]:
        """Encode texts, in order. A language of None is taken from the script of the text."""
        return self.window(self.tokenize(texts, languages), max_windows)

    def tokenize(self, texts: Sequence[str], languages: Sequence[str | None]) -> TokenizedDocuments:
        """The first half of `encode`, whose result does not depend on the size of windows."""
        known = [
            base_language(language) or detect_language(text)
            for text, language in zip(texts, languages, strict=True)
        ]
        spans = [
            split_sentences(text, language) for text, language in zip(texts, known, strict=True)
        ]
        return TokenizedDocuments(texts, known, spans, *self._tokenizer.tokenize(texts, spans))

    def window(self, tokenized: TokenizedDocuments, max_windows: int) -> list[EncodedDocument]:
        """The second half of `encode`."""
        ids, lengths = tokenized.ids, tokenized.lengths
        counts = np.fromiter(map(len, tokenized.spans), np.int64, len(tokenized.spans))
        special = SpecialIds(self.cls_id, self.sep_id)
        limits = WindowLimits(max_tokens=self.max_window_tokens, max_windows=max_windows)
        windows = make_windows(ids, lengths, counts, special=special, limits=limits)
        segments = (
            windows.token_type_ids if self._has_segments else np.zeros_like(windows.token_type_ids)
        )
        sentence_bounds = bounds(counts)
        id_bounds = bounds(lengths)[sentence_bounds]
        is_unknown = self._known_language.is_unknown(tokenized.texts, ids, id_bounds).tolist()
        surface = np.zeros((len(lengths), 0), np.float32)
        if self._has_surface:  # a sort of all tokens
            surface = surface_features(ids, lengths, counts, self._known_language.vocabulary_size)
        sentences, num_tokens = sentence_bounds.tolist(), np.diff(id_bounds).tolist()
        documents = []
        for i, (text, language, spans) in enumerate(
            zip(tokenized.texts, tokenized.languages, tokenized.spans, strict=True)
        ):
            tokens = slice(windows.token_bounds[i], windows.token_bounds[i + 1])
            num_read = windows.num_read_sentences[i]
            document = EncodedDocument(
                text=text,
                language=language,
                spans=spans,
                sentence_tokens=lengths[sentences[i] : sentences[i + 1]],
                input_ids=windows.input_ids[tokens],
                token_type_ids=segments[tokens],
                token_sentences=windows.token_sentences[tokens],
                cls_positions=windows.cls_positions[
                    windows.piece_bounds[i] : windows.piece_bounds[i + 1]
                ],
                window_lengths=windows.window_lengths[
                    windows.window_bounds[i] : windows.window_bounds[i + 1]
                ],
                surface=surface[sentences[i] : sentences[i] + num_read],
                num_read_sentences=num_read,
                num_tokens=num_tokens[i],
                is_unknown_language=is_unknown[i],
            )
            documents.append(document)
        return documents

    def first_tokens(
        self,
        document: EncodedDocument,
        starts: Sequence[int | None],
        sentences: Sequence[int] | None = None,
    ) -> list[int | None]:
        """Find the index of the first token that begins at each offset of the text.

        `sentences`: those in which the offsets lie, in order; default: all that were read.

        None for an offset that is None, where no token begins, or that was not read.
        """
        if sentences is None:
            sentences = range(document.num_read_sentences)
        spans = [document.spans[sentence] for sentence in sentences]
        offsets: list[int] = []
        for tokens, (sentence_start, _) in zip(
            self.token_spans([document.text[start:stop] for start, stop in spans]),
            spans,
            strict=True,
        ):
            offsets += [sentence_start + start for start, _ in tokens]
        token_starts = np.full(len(document.input_ids), -1)
        is_asked = document.is_text & np.isin(document.token_sentences, sentences)
        # the last tokens of the last sentence may lie beyond the windows
        token_starts[is_asked] = offsets[: int(is_asked.sum())]
        # several tokens may begin at one offset, of which `unique` finds the first
        different, tokens_at = np.unique(token_starts, return_index=True)
        token_at: dict[int | None, int] = dict(
            zip(different.tolist(), tokens_at.tolist(), strict=True)
        )
        token_at.pop(-1, None)  # those that were not asked for
        return [token_at.get(start) for start in starts]

    def token_spans(self, sentences: Sequence[str]) -> list[list[Span]]:
        """Where the tokens of each sentence stand in it."""
        encodings = self._backend.encode_batch(sentences, add_special_tokens=False)
        return [encoding.offsets for encoding in encodings]

    def rarity(self, word: str) -> float:
        """How rare a word in lower case is, from 0 for the most frequent ones to 1.

        Vocabularies are sorted by frequency, so it is sqrt(id / size), and 1 for a word of several
        tokens.
        """
        rarity = self._rarities.get(word)
        if rarity is None:
            ids = [self._backend.token_to_id(mark + word) for mark in _WORD_MARKS]
            known = [token_id for token_id in ids if token_id is not None]
            size = self._known_language.vocabulary_size
            rarity = math.sqrt(min(known) / size) if known else 1.0
            if len(self._rarities) >= _MOST_RARITIES:
                self._rarities.clear()  # so that names of a long run do not fill the memory
            self._rarities[word] = rarity
        return rarity
