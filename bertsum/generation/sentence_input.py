"""How a model that `bertsum train` made reads a text: [CLS] and [SEP] around each sentence.

As the encoder of BERTSUM reads it (Liu & Lapata 2019, section 3.1), with segments that alternate by
sentence. The checkpoint's `config.json` says so under INPUT_KEY; to Transformers it is an
`EncoderDecoderModel` like others.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError
from torch import Tensor

from bertsum.config_base import Config
from bertsum.errors import ModelError
from bertsum.model_config import ModelConfig
from bertsum.text.encoder import DocumentEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

INPUT_KEY = "bertsum_input"
_ALL_WINDOWS = 2**31  # of a text: as many as it has


class InputFormat(Config):
    """What `config.json` says of the input, under INPUT_KEY."""

    segments: bool = Field(description="token_type_ids 0, 1, 0, ... by sentence; else all 0")
    max_tokens: int = Field(ge=16, description="most tokens that are read of a text")

    @property
    def reader(self) -> ModelConfig:
        """The same for an encoder of which no head is used."""
        return ModelConfig(
            segments=self.segments,
            max_window_tokens=self.max_tokens,
            summarization_layers="linear",
            num_heads=1,
            sentiment_labels=(),
        )


def read_format(config: "PreTrainedConfig") -> InputFormat | None:
    """What a model's configuration says of its input; None for one that bertsum did not make.

    Raises ModelError where it says what cannot be.
    """
    values = getattr(config, INPUT_KEY, None)
    if values is None:
        return None
    try:
        return InputFormat.model_validate(values)
    except ValidationError as error:
        raise ModelError(f"{INPUT_KEY} of the model's config.json is damaged: {error}") from error


class SentenceInput:
    """Texts -> ids of all their sentences, as the model has learned to read them."""

    special_a_sentence = 2  # [CLS] and [SEP]

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", form: InputFormat) -> None:
        self._segments = form.segments
        self._encoder = DocumentEncoder(
            tokenizer, form.reader, num_segments=2, max_positions=form.max_tokens
        )

    def ids(self, text: str, language: str | None) -> list[int]:
        """Ids of a text: more than the model reads, where it is too long for one window."""
        (document,) = self._encoder.encode([text], [language], _ALL_WINDOWS)
        ids: list[int] = document.input_ids.tolist()
        return ids

    def lengths(self, sentences: Sequence[str]) -> list[int]:
        """Tokens of each sentence, [CLS] and [SEP] included."""
        spans = self._encoder.token_spans(sentences)
        return [len(tokens) + self.special_a_sentence for tokens in spans]

    def segments(self, ids: Tensor) -> Tensor | None:
        """[B, T] padded ids -> [B, T] token_type_ids; None where the model has no segments."""
        if not self._segments:
            return None
        # no text has the id of [CLS], whatever its author writes: each one begins a sentence
        number = (ids == self._encoder.cls_id).long().cumsum(1)  # 1, 2, ... by sentence
        segments: Tensor = (number - 1).clamp(min=0) % 2
        return segments
