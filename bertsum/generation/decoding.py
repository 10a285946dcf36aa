"""Token ids in, token ids out: batches of similar length, beam search or draws, by Transformers.

What differs from a bare call of `generate` is told at each place; none of it changes a token.
"""

import hashlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bertsum.errors import ConfigError
from bertsum.generation.config import DecodingConfig, GenerateConfig
from bertsum.generation.seq2seq import Seq2Seq

if TYPE_CHECKING:
    from transformers import GenerationMixin, PreTrainedModel

_NUM_BEAMS, _NO_REPEATED_NGRAMS = 4, 3
_MAX_TOKENS, _MAX_TRANSLATED_TOKENS = 128, 256


@dataclass(frozen=True, slots=True)
class Generated:
    """Ids of a written text, without special ones, and whether the model ended it."""

    ids: list[int]
    is_ended: bool


class Decoder:
    """A model that writes, batch by batch."""

    def __init__(self, seq2seq: Seq2Seq, config: GenerateConfig) -> None:
        self._model = seq2seq.model
        self._decoding, self._sentences = config.decoding, seq2seq.sentence_input
        self.settings = make_settings(seq2seq, config)
        # M2M100 does not count the tokens of languages among the special ones
        self._special = frozenset([*seq2seq.tokenizer.all_special_ids, seq2seq.task.first_token])
        self._pad_id = self.settings.pad_token_id
        if self._pad_id is None:
            self._pad_id = seq2seq.tokenizer.pad_token_id or 0
        self._calls: list[Callable[[], None]] = []

    @property
    def cached_size(self) -> int:
        """Numbers that a batch keeps of each token: a key and a value in each layer."""
        config = self._model.config.get_text_config(decoder=True)
        layers = getattr(config, "decoder_layers", config.num_hidden_layers)
        return int(2 * layers * config.hidden_size)

    def on_token(self, call: Callable[[], None]) -> None:
        """Call `call` after each step of a batch, from now on: a batch may take minutes."""
        self._calls.append(call)

    def group(self, lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
        """Indices of the texts of each batch, see `padded_groups`."""
        return padded_groups(
            lengths,
            new_tokens=self.settings.max_new_tokens,
            num_beams=self.settings.num_beams,
            max_batch_tokens=max_batch_tokens,
        )

    @torch.inference_mode()
    def write(self, inputs: Sequence[Sequence[int]]) -> list[Generated]:
        """Write a text for each input: [B] lists of ids.

        A batch's padding and its other texts change the last bits of a text's scores, and so a
        token where two are equally good: see jobs/docs/generate.md.
        """
        longest = max(map(len, inputs))
        ids = torch.full((len(inputs), longest), self._pad_id)  # [B, T]
        mask = torch.zeros_like(ids)
        for row, values in enumerate(inputs):
            ids[row, : len(values)] = torch.tensor(values)
            mask[row, : len(values)] = 1
        model = cast("GenerationMixin", self._model)  # which each of these models is
        device = self._model.device
        inputs_of_model = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        segments = self._sentences.segments(ids) if self._sentences else None
        if segments is not None:
            inputs_of_model["token_type_ids"] = segments.to(device)
        processors = LogitsProcessorList([_Steps(self._calls)])
        if self._decoding.sampling:
            processors += self._draws(inputs, device)
        output = model.generate(
            **inputs_of_model,
            generation_config=self.settings,
            logits_processor=processors,
            cache=_BeamCache.of(self._model),
        )
        return [self._without_special(row) for row in output[:, 1:].tolist()]

    def _without_special(self, ids: list[int]) -> Generated:
        """Take a row apart: what was written, the token that ends it, and padding behind."""
        ends = self.settings.eos_token_id
        end_ids = set(ends) if isinstance(ends, list) else {ends}
        stop = next((i for i, token in enumerate(ids) if token in end_ids), len(ids))
        is_forced = self.settings.forced_eos_token_id is not None
        last = self.settings.max_new_tokens - 1
        is_ended = stop < len(ids) and not (is_forced and stop == last)
        return Generated([token for token in ids[:stop] if token not in self._special], is_ended)

    def _draws(self, inputs: Sequence[Sequence[int]], device: torch.device) -> LogitsProcessorList:
        decoding = self._decoding
        processors = LogitsProcessorList()
        if decoding.temperature != 1:
            processors.append(TemperatureLogitsWarper(decoding.temperature))
        if decoding.top_k:
            processors.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1:
            processors.append(TopPLogitsWarper(decoding.top_p))
        numbers = [draws(values, decoding.seed, self.settings.max_new_tokens) for values in inputs]
        processors.append(_Draws(torch.from_numpy(np.stack(numbers)).to(device)))
        return processors


def padded_groups(
    lengths: Sequence[int], *, new_tokens: int, num_beams: int, max_batch_tokens: int
) -> list[list[int]]:
    """Indices of the texts of each batch, of similar length, the longest first.

    A batch has at most `max_batch_tokens` tokens with its padding and with what is written, all of
    it once for each beam; a text that has more is a batch of its own.

    - `lengths`: [N] tokens of the inputs.
    - `new_tokens`: most that are written from each.
    """
    groups: list[list[int]] = []
    room = 0  # further texts that fit into the batch
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if room == 0:
            groups.append([])
            room = max(1, max_batch_tokens // ((lengths[index] + new_tokens) * num_beams))
        groups[-1].append(index)
        room -= 1
    return groups


def draws(
    ids: Sequence[int], seed: int, count: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """[count] numbers in [0, 1) that follow from a text and the seed alone, whatever its batch."""
    digest = hashlib.sha256(np.array([seed, *ids], np.int64).tobytes()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little"))).random(
        count
    )


def make_settings(seq2seq: Seq2Seq, config: GenerateConfig) -> GenerationConfig:
    """What the configuration says, else what the model's files say, else defaults.

    Lengths are of new tokens, without the one that the decoder starts from. Raises ConfigError for
    lengths that no text can have.
    """
    settings = deepcopy(seq2seq.model.generation_config)
    for name, value in seq2seq.task.settings.items():
        setattr(settings, name, value)
    decoding, is_translation = config.decoding, config.translate_to is not None
    settings.do_sample = False  # draws are made by `_Draws`
    settings.num_beams = decoding.num_beams or settings.num_beams or _NUM_BEAMS
    if decoding.sampling:
        settings.num_beams = 1
    if decoding.length_penalty is not None:
        settings.length_penalty = decoding.length_penalty
    if decoding.no_repeated_ngrams is not None:
        settings.no_repeat_ngram_size = decoding.no_repeated_ngrams
    elif settings.no_repeat_ngram_size is None and not is_translation:
        settings.no_repeat_ngram_size = _NO_REPEATED_NGRAMS
    longest, shortest = _lengths(settings, decoding)
    longest = longest or (_MAX_TRANSLATED_TOKENS if is_translation else _MAX_TOKENS)
    settings.max_new_tokens = min(longest, seq2seq.max_output_tokens or longest)
    if (decoding.min_tokens or 0) > settings.max_new_tokens:
        raise ConfigError(
            f"generate.decoding.min_tokens={decoding.min_tokens} is more than the model writes: "
            f"{settings.max_new_tokens}; generate.decoding.max_tokens may allow more"
        )
    settings.min_new_tokens = min(shortest, settings.max_new_tokens)
    settings.max_length = settings.min_length = None
    if seq2seq.task.first_token is not None:
        settings.forced_bos_token_id = seq2seq.task.first_token
    if seq2seq.task.start_token is not None:
        settings.decoder_start_token_id = seq2seq.task.start_token
    return settings


def _lengths(settings: GenerationConfig, decoding: DecodingConfig) -> tuple[int | None, int]:
    """Most new tokens, None where nobody says, and fewest."""
    longest = settings.max_new_tokens
    if longest is None and settings.max_length is not None:
        longest = settings.max_length - 1
    shortest = settings.min_new_tokens
    if shortest is None:
        shortest = max(0, (settings.min_length or 0) - 1)
    if decoding.min_tokens is not None:
        shortest = decoding.min_tokens
    return decoding.max_tokens or longest, shortest


class _BeamCache(EncoderDecoderCache):
    """Keys and values of a batch; those of the input stay where they are between steps.

    All beams of a text read the same input, so that its keys and values are the same for each of
    them. Transformers copies them at each step all the same, which costs more than the step.
    """

    @classmethod
    def of(cls, model: "PreTrainedModel") -> "_BeamCache":
        config = model.config.get_text_config(decoder=True)
        return cls(DynamicCache(config=config), DynamicCache(config=config))

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self.self_attention_cache.reorder_cache(beam_idx)


@dataclass(frozen=True, slots=True)
class _Steps:
    """A processor of logits that tells of each step and leaves them as they are."""

    calls: Sequence[Callable[[], None]]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for call in self.calls:
            call()
        return scores


@dataclass(frozen=True, slots=True)
class _Draws:
    """A processor of logits that leaves the token which is drawn, so that the search must take it.

    `numbers`: [B, L] in [0, 1), one for each token of each text.

    A token is drawn where the sum of the probabilities up to it is first above the number. With
    probabilities 0.2, 0.5 and 0.3 the number 0.6 draws the second one.
    """

    numbers: Tensor

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - 1
        sums = scores.double().softmax(-1).cumsum(-1)  # [B, V]
        limits = self.numbers[:, step, None] * sums[:, -1:]
        drawn = (sums <= limits).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, float("-inf")).scatter(1, drawn, 0.0)
