"""Document -> tokens in windows, as the model reads them."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category
from unicodedata import name as unicode_name

import numpy as np
import numpy.typing as npt

from bertsum.config import ModelConfig
from bertsum.errors import ModelError
from bertsum.ragged import bounds
from bertsum.sentences import Span, detect_language, split_sentences
from bertsum.surface import surface_features
from bertsum.tokenizing import Tokenizer
from bertsum.windows import SpecialIds, make_windows

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_LAST_LATIN = "\u024f"
_EAST_ASIAN = "CJK"  # with kana: one token a character, in any vocabulary


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
    surface: FloatArray  # [S, NUM_SURFACE_FEATURES], or [S, 0] for a model without them
    num_read_sentences: int  # S
    num_tokens: int  # of the whole document, special tokens left out
    unknown_share: float  # of the tokens of words, those that the tokenizer could not make sense of

    @property
    def truncated(self) -> bool:
        """Whether some of the document lies beyond `max_windows`."""
        return self.num_read_tokens < self.num_tokens or self.num_read_sentences < len(self.spans)

    @property
    def is_text(self) -> BoolArray:
        """[T] which tokens are the author's: all but [CLS] and [SEP], the first and the last of each piece."""
        is_text = np.ones(len(self.input_ids), np.bool_)
        is_text[self.cls_positions] = False
        is_text[np.append(self.cls_positions[1:], len(is_text)) - 1] = False
        return is_text

    @property
    def num_read_tokens(self) -> int:
        """Of `num_tokens`, those that the windows hold."""
        return len(self.input_ids) - 2 * len(self.cls_positions)


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
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # an author's "[SEP]" is text
        self._backend, self._tokenizer = backend, Tokenizer(backend)
        self._has_segments = config.segments and num_segments > 1
        self._has_surface = config.surface_features
        self.max_window_tokens = min(config.max_window_tokens, max_positions)
        self._is_word, self._is_unknown = _sort_vocabulary(backend, tokenizer.unk_token_id)
        self.tokenizer_digest = hashlib.sha256(backend.to_str().encode()).hexdigest()

    def encode(self, texts: Sequence[str], languages: Sequence[str | None], max_windows: int) -> list[EncodedDocument]:
        """One EncodedDocument a text, in order. A language of None is taken from the script of the text."""
        return self.window(self.tokenize(texts, languages), max_windows)

    def tokenize(self, texts: Sequence[str], languages: Sequence[str | None]) -> TokenizedDocuments:
        """The first half of `encode`, whose result does not depend on the size of windows."""
        known = [
            base_language(language) if language else detect_language(text)
            for text, language in zip(texts, languages, strict=True)
        ]
        spans = [split_sentences(text, language) for text, language in zip(texts, known, strict=True)]
        return TokenizedDocuments(texts, known, spans, *self._tokenizer.tokenize(texts, spans))

    def window(self, tokenized: TokenizedDocuments, max_windows: int) -> list[EncodedDocument]:
        """The second half of `encode`."""
        ids, lengths = tokenized.ids, tokenized.lengths
        counts = np.fromiter(map(len, tokenized.spans), np.int64, len(tokenized.spans))
        special = SpecialIds(self.cls_id, self.sep_id)
        windows = make_windows(ids, lengths, counts, special, self.max_window_tokens, max_windows)
        segments = windows.token_type_ids if self._has_segments else np.zeros_like(windows.token_type_ids)
        sentence_bounds = bounds(counts)
        id_bounds = bounds(lengths)[sentence_bounds]
        shares = self._unknown_shares(ids, id_bounds)
        surface = np.zeros((len(lengths), 0), np.float32)
        if self._has_surface:  # a sort of all tokens
            surface = surface_features(ids, lengths, counts, len(self._is_word))
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
                cls_positions=windows.cls_positions[windows.piece_bounds[i] : windows.piece_bounds[i + 1]],
                window_lengths=windows.window_lengths[windows.window_bounds[i] : windows.window_bounds[i + 1]],
                surface=surface[sentences[i] : sentences[i] + num_read],
                num_read_sentences=num_read,
                num_tokens=num_tokens[i],
                unknown_share=shares[i],
            )
            documents.append(document)
        return documents

    def first_tokens(self, document: EncodedDocument, starts: Sequence[int | None]) -> list[int | None]:
        """The first token that begins at each place of the text.

        None for a place that is None, where no token begins, or that was not read.
        """
        token_starts = np.full(len(document.input_ids), -1)
        is_text = document.is_text
        sentences = [document.text[start:stop] for start, stop in document.spans[: document.num_read_sentences]]
        encodings = self._backend.encode_batch(sentences, add_special_tokens=False)
        found = [
            first + start
            for encoding, (first, _) in zip(encodings, document.spans, strict=False)
            for start, _ in encoding.offsets
        ]
        token_starts[is_text] = found[: int(is_text.sum())]
        places = {start: token for token, start in reversed(list(enumerate(token_starts.tolist()))) if start >= 0}
        return [None if start is None else places.get(start) for start in starts]

    def _unknown_shares(self, ids: IntArray, bounds: npt.NDArray[np.int64]) -> list[float]:
        """Of the words of each document; 1 where it has none."""
        words, unknown = (
            np.diff(np.concatenate([[0], np.cumsum(kind[ids], dtype=np.int64)])[bounds])
            for kind in (self._is_word, self._is_unknown)
        )
        shares: list[float] = np.divide(unknown, words, out=np.ones(len(words)), where=words > 0).tolist()
        return shares


def base_language(tag: str) -> str:
    """The language of a tag: zh of zh-CN, zh_Hans and ZH."""
    return tag.replace("_", "-").partition("-")[0].lower()


def _sort_vocabulary(backend: Any, unk_id: int | None) -> tuple[BoolArray, BoolArray]:
    """[V] which tokens are of words (not digits or punctuation), and which say that the language is not known.

    The latter are [UNK]; single letters of a non-Latin script inside a word ("##ж"): a WordPiece vocabulary that has
    only the alphabet of a language spells each word letter by letter, and a model of it has nothing to go by; and all
    tokens of a script of which such a vocabulary has hardly more than letters, or only a few common Chinese characters.
    """
    vocabulary = backend.get_vocab(with_added_tokens=True)
    size = max(vocabulary.values()) + 1  # more than the number of tokens where ids have gaps
    is_word, is_unknown = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
    foreign = _foreign_scripts(vocabulary)
    for token, index in vocabulary.items():
        is_word[index] = any(category(character)[0] in "LM" for character in token)
        is_letter = token.startswith("##") and len(token) == 3 and is_word[index] and token[2] > _LAST_LATIN
        is_unknown[index] = is_letter or _script(token.removeprefix("##")) in foreign
    if unk_id is not None:
        is_word[unk_id] = is_unknown[unk_id] = True
    return is_word, is_unknown


def _foreign_scripts(vocabulary: Iterable[str]) -> set[str]:
    """Scripts with hardly a word in a WordPiece vocabulary, measured by its Latin words; of others, none.

    The vocabulary of English BERT has 26,482 Latin words and pieces, 8 of Cyrillic and 244 Chinese characters; that of
    multilingual BERT has thousands of each.
    """
    words: Counter[str] = Counter()
    is_wordpiece = False
    for token in vocabulary:
        is_piece = token.startswith("##")
        is_wordpiece |= is_piece
        letters = token.removeprefix("##")
        script = _script(letters)
        words[script] += not is_piece if script == _EAST_ASIAN else len(letters) > 1
    least = {script: words["LATIN"] / (20 if script == _EAST_ASIAN else 500) for script in words}
    return {script for script in words if script and words[script] < least[script]} if is_wordpiece else set()


def _script(letters: str) -> str:
    """Of the first letter, as Unicode names it; empty for what is not a letter."""
    if not letters or category(letters[0])[0] != "L":
        return ""
    script = unicode_name(letters[0], "").partition(" ")[0]
    return _EAST_ASIAN if script in ("CJK", "HIRAGANA", "KATAKANA") else script
