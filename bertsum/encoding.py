"""Document -> tokens, cut into windows at sentence ends.

Each sentence becomes `[CLS] sentence [SEP]` (Liu & Lapata 2019, "Text Summarization with Pretrained Encoders"). A
window holds whole sentences; a sentence longer than a window is cut into pieces that count as one sentence.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from unicodedata import category

import numpy as np
import numpy.typing as npt

from bertsum.config import ModelConfig
from bertsum.errors import ModelError
from bertsum.sentences import Span, detect_language, split_sentences
from bertsum.surface import surface_features

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

# At once, also of one sentence: a tokenizer takes up to 500 bytes a character, and a file without a single full stop
# is one sentence. Where a sentence of more is cut, its tokens may differ.
_TOKENIZE_CHARACTERS = 500_000


@dataclass(frozen=True, slots=True)
class TokenizedDocuments:
    """Some documents, split and tokenized, not yet cut into windows.

    `ids`: of all sentences of all documents, without special tokens; `lengths`: ids of each sentence.
    """

    texts: Sequence[str]
    languages: Sequence[str]
    spans: Sequence[list[Span]]
    ids: IntArray
    lengths: IntArray


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """One document, ready for a model. T tokens of W windows, one after the other; S sentences that were read.

    `spans` and `sentence_tokens` (tokens without [CLS] and [SEP]) cover all sentences, also those beyond `max_windows`.
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
    surface: FloatArray  # [S, NUM_SURFACE_FEATURES]
    num_read_sentences: int  # S
    unknown_share: float  # of the tokens of words, those that the tokenizer could not make sense of

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole document, special tokens left out."""
        return int(self.sentence_tokens.sum())

    @property
    def truncated(self) -> bool:
        """Whether some of the document lies beyond `max_windows`."""
        num_special = 2 * len(self.cls_positions)
        return len(self.input_ids) - num_special < self.num_tokens or self.num_read_sentences < len(self.spans)


class DocumentEncoder:
    """Splits, tokenizes and windows documents for one encoder."""

    def __init__(self, tokenizer: Any, config: ModelConfig, *, num_segments: int, max_positions: int):
        """`tokenizer`: a fast one of Transformers. `num_segments`, `max_positions`: what the encoder can embed.

        Raises ModelError for a tokenizer without [CLS], [SEP], [UNK] or a Rust backend.
        """
        for name in ("cls_token_id", "sep_token_id", "pad_token_id"):
            if getattr(tokenizer, name, None) is None:
                raise ModelError(f"{type(tokenizer).__name__} has no {name}; a BERT-like tokenizer is expected")
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(f"{type(tokenizer).__name__} has no fast (tokenizer.json) form; convert it first")
        self.cls_id, self.sep_id, self.pad_id = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # an author's "[SEP]" is text
        self._has_segments = config.segments and num_segments > 1
        self.max_window_tokens = min(config.max_window_tokens, max_positions)
        self._is_word, self._is_unknown = _sort_vocabulary(self._backend, tokenizer.unk_token_id)
        self.tokenizer_digest = hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    def encode(self, texts: Sequence[str], languages: Sequence[str | None], max_windows: int) -> list[EncodedDocument]:
        """One EncodedDocument a text, in order. A language of None is taken from the script of the text."""
        return self.window(self.tokenize(texts, languages), max_windows)

    def tokenize(self, texts: Sequence[str], languages: Sequence[str | None]) -> TokenizedDocuments:
        """The first half of `encode`, whose result does not depend on the size of windows."""
        known = [
            _base_language(language) if language else detect_language(text)
            for text, language in zip(texts, languages, strict=True)
        ]
        spans = [split_sentences(text, language) for text, language in zip(texts, known, strict=True)]
        sentences = [text[a:b] for text, text_spans in zip(texts, spans, strict=True) for a, b in text_spans]
        return TokenizedDocuments(texts, known, spans, *self._tokenize(sentences))

    def window(self, tokenized: TokenizedDocuments, max_windows: int) -> list[EncodedDocument]:
        """The second half of `encode`."""
        documents, sentence, token = [], 0, 0
        for text, language, text_spans in zip(tokenized.texts, tokenized.languages, tokenized.spans, strict=True):
            text_lengths = tokenized.lengths[sentence : sentence + len(text_spans)]
            text_ids = tokenized.ids[token : token + int(text_lengths.sum())]
            documents.append(self._window(text, language, text_spans, text_ids, text_lengths, max_windows))
            sentence, token = sentence + len(text_spans), token + len(text_ids)
        return documents

    def _tokenize(self, sentences: list[str]) -> tuple[IntArray, IntArray]:
        """Ids of all sentences one after the other, and the number of ids of each."""
        limit = _TOKENIZE_CHARACTERS
        starts = [(index, start) for index, text in enumerate(sentences) for start in range(0, len(text), limit)]
        pieces = [sentences[index][start : start + limit] for index, start in starts]
        ids, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        for part in _parts(pieces, limit):
            encodings = [encoding.ids for encoding in self._backend.encode_batch_fast(part, add_special_tokens=False)]
            lengths.append(np.fromiter(map(len, encodings), np.int32, len(encodings)))
            ids.append(np.fromiter(chain.from_iterable(encodings), np.int32, int(lengths[-1].sum())))
        num_ids = np.bincount([index for index, _ in starts], np.concatenate(lengths), len(sentences))
        return np.concatenate(ids), num_ids.astype(np.int32)

    def _window(
        self, text: str, language: str, spans: list[Span], ids: IntArray, lengths: IntArray, max_windows: int
    ) -> EncodedDocument:
        pieces, window_lengths = _plan_windows(lengths, self.max_window_tokens, max_windows)
        num_tokens = sum(window_lengths)
        input_ids = np.full(num_tokens, self.sep_id, np.int32)
        token_sentences = np.zeros(num_tokens, np.int32)
        token_type_ids = np.zeros(num_tokens, np.int32)
        cls_positions = np.fromiter((piece.position for piece in pieces), np.int32, len(pieces))
        for piece in pieces:
            stop = piece.position + piece.length + 2
            input_ids[piece.position + 1 : stop - 1] = ids[piece.start : piece.start + piece.length]
            token_sentences[piece.position : stop] = piece.sentence
            if self._has_segments and piece.index_in_window % 2:
                token_type_ids[piece.position : stop] = 1
        input_ids[cls_positions] = self.cls_id
        num_read_sentences = pieces[-1].sentence + 1 if pieces else 0
        surface = surface_features(ids, lengths, np.array([len(lengths)]), len(self._is_word))
        return EncodedDocument(
            text=text,
            language=language,
            spans=spans,
            sentence_tokens=lengths,
            input_ids=input_ids,
            token_type_ids=token_type_ids,
            token_sentences=token_sentences,
            cls_positions=cls_positions,
            window_lengths=np.array(window_lengths, np.int32),
            surface=surface[:num_read_sentences],
            num_read_sentences=num_read_sentences,
            unknown_share=self._unknown_share(ids),
        )

    def _unknown_share(self, ids: IntArray) -> float:
        num_words = int(self._is_word[ids].sum())
        return float(self._is_unknown[ids].sum()) / num_words if num_words else 1.0


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a sentence that stands in one window. `position`: of its [CLS]; `start`, `length`: of its ids."""

    sentence: int
    index_in_window: int
    position: int
    start: int
    length: int


def _plan_windows(lengths: IntArray, max_window_tokens: int, max_windows: int) -> tuple[list[_Piece], list[int]]:
    """Where each piece of each sentence goes, and the length of each window, special tokens included."""
    pieces: list[_Piece] = []
    windows: list[int] = []
    longest = max_window_tokens - 2
    start = position = index_in_window = 0
    for sentence, num_ids in enumerate(lengths.tolist()):
        for offset in range(0, max(num_ids, 1), longest):
            length = min(longest, num_ids - offset)
            if not windows or windows[-1] + length + 2 > max_window_tokens:
                if len(windows) == max_windows:
                    return pieces, windows
                windows.append(0)
                index_in_window = 0
            pieces.append(_Piece(sentence, index_in_window, position, start + offset, length))
            windows[-1] += length + 2
            position += length + 2
            index_in_window += 1
        start += num_ids
    return pieces, windows


def _base_language(tag: str) -> str:
    """The language of a tag: zh of zh-CN, zh_Hans and ZH."""
    return tag.replace("_", "-").partition("-")[0].lower()


def _parts(sentences: list[str], max_characters: int) -> list[list[str]]:
    parts: list[list[str]] = []
    room = 0
    for sentence in sentences:
        if len(sentence) > room or not parts:
            parts.append([])
            room = max_characters
        parts[-1].append(sentence)
        room -= len(sentence)
    return parts


def _sort_vocabulary(backend: Any, unk_id: int | None) -> tuple[BoolArray, BoolArray]:
    """[V] which tokens are of words (not digits or punctuation), and which say that the language is not known.

    The latter are [UNK], and single letters of a non-Latin script inside a word ("##ж"): a WordPiece vocabulary that
    has only the alphabet of a language spells each word letter by letter, and a model of it has nothing to go by.
    """
    vocabulary = backend.get_vocab(with_added_tokens=True)
    size = max(vocabulary.values()) + 1  # more than the number of tokens where ids have gaps
    is_word, is_unknown = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
    for token, index in vocabulary.items():
        is_word[index] = any(category(character)[0] in "LM" for character in token)
        is_unknown[index] = token.startswith("##") and len(token) == 3 and is_word[index] and token[2] > "\u024f"
    if unk_id is not None:
        is_word[unk_id] = is_unknown[unk_id] = True
    return is_word, is_unknown
