"""A tokenizer of the `tokenizers` library with the ids of its special tokens."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tokenizers


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainTokenizer:
    """What a DocumentEncoder reads of a tokenizer of Transformers, which takes longer to import.

    - `make`: loads that tokenizer
    """

    backend_tokenizer: tokenizers.Tokenizer
    cls_token_id: int
    sep_token_id: int
    pad_token_id: int
    unk_token_id: int
    make: Callable[[], Any]
    is_fast: bool = True

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def to_transformers(self) -> Any:
        """Load the tokenizer of Transformers, with all that a DocumentEncoder has set here."""
        tokenizer = self.make()
        set_up(tokenizer.backend_tokenizer)
        tokenizer.backend_tokenizer.model = self.backend_tokenizer.model
        return tokenizer


def set_up(backend: tokenizers.Tokenizer) -> None:
    """Make a tokenizer read all of a text as text: no padding, no end, no special tokens."""
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # an author's "[SEP]" is text


def digest_of(backend: tokenizers.Tokenizer) -> str:
    """SHA-256 of a tokenizer that is set up; another vocabulary or rule has another one."""
    return hashlib.sha256(backend.to_str().encode()).hexdigest()
