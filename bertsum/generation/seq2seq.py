"""A sequence-to-sequence model of Transformers with its tokenizer, from a directory.

Only safetensors are read, and remote code never runs.
"""

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bertsum.checkpoints.config import CONFIG_FILE
from bertsum.checkpoints.size_checks import (
    check_amount,
    check_numbers,
    file_shapes,
    without_numbers,
)
from bertsum.errors import ConfigError, ModelError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.sentence_input import SentenceInput, read_format
from bertsum.generation.task import Task, find_task
from bertsum.inference.arguments import choose_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_DEFAULT_INPUT_TOKENS = 512  # of a model with positions of any number: those of T5's training
_UNLIMITED = 10**9  # Transformers' tokenizers have 1e30 where they know no limit
# What a model's files may say of how it writes. The rest would be another search (groups of beams,
# another model that guesses), another result (several texts, scores), an end by the clock, at
# another token each time, or a string that ends a text, which needs the tokenizer.
_SETTINGS = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "decoder_start_token_id",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "num_beams",
    "pad_token_id",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "sequence_bias",
    "suppress_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq2Seq:
    """A model in evaluation mode.

    - `max_input_tokens`: most tokens that it reads, special tokens included.
    - `max_output_tokens`: most that it writes; None: any number.
    - `sentence_input`: how it reads texts, if `bertsum train` made it; else its tokenizer says.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    task: Task
    max_input_tokens: int
    max_output_tokens: int | None
    sentence_input: SentenceInput | None = None


def load_task(directory: Path, config: GenerateConfig) -> Task:
    """Check the model's files but its weights, and find out how it is told what to write.

    Raises ModelError and ConfigError.
    """
    model_config, tokenizer = _read_files(directory)
    longest, _ = _positions(model_config, tokenizer, config)
    task = find_task(directory, tokenizer, config)
    sentences = _sentence_input(model_config, tokenizer)
    if sentences is None:
        num_taken = len(tokenizer(task.prefix)["input_ids"])
    else:
        num_taken = len(sentences.ids(task.prefix, config.language))
    if num_taken >= longest:
        raise ConfigError(
            f"the prefix {task.prefix!r} takes {num_taken} of the {longest} tokens that the model "
            "reads, and leaves no room for a text: give another generate.prefix or a larger "
            "generate.max_input_tokens"
        )
    return task


def load_seq2seq(directory: Path, config: GenerateConfig, device: torch.device) -> Seq2Seq:
    """Load a model. Raises ModelError that names what is wrong, and ConfigError."""
    from transformers import AutoModelForSeq2SeqLM, GenerationConfig

    model_config, tokenizer = _read_files(directory)
    dtype = choose_dtype(config.dtype, device)
    if dtype is torch.float16:  # numbers of T5 leave its range
        dtype = torch.float32
    try:
        model, report = AutoModelForSeq2SeqLM.from_pretrained(
            directory,
            config=model_config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    except Exception as error:  # Transformers has no error of its own for what is damaged
        raise ModelError(f"{directory} is no model that Transformers can load: {error}") from error
    # Transformers would fill them with random numbers. No decoder reads the pooler of an encoder.
    missing = sorted(n for n in report["missing_keys"] if not n.startswith("encoder.pooler."))
    if missing:
        raise ModelError(f"{directory} lacks {len(missing)} weights: {', '.join(missing[:5])}")
    # where a call of `generate` says nothing, Transformers asks these again
    files = model.generation_config
    settings = GenerationConfig()  # type: ignore[no-untyped-call]  # it is not typed
    for name in _SETTINGS:
        setattr(settings, name, getattr(files, name))
    model.generation_config = settings
    longest_input, longest_output = _positions(model_config, tokenizer, config)
    return Seq2Seq(
        model=model.eval().to(device),
        tokenizer=tokenizer,
        task=find_task(directory, tokenizer, config),
        max_input_tokens=longest_input,
        max_output_tokens=longest_output,
        sentence_input=_sentence_input(model_config, tokenizer),
    )


def _read_files(directory: Path) -> "tuple[PreTrainedConfig, PreTrainedTokenizerBase]":
    """Read configuration and tokenizer, and compare the sizes with those of the weights."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it is not typed
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise ModelError(
            f"{directory} holds no weights as *.safetensors; pickles (*.bin) are never read"
        )
    shapes = file_shapes(weights)
    path = directory / CONFIG_FILE
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        if not config.is_encoder_decoder:
            raise ModelError(
                f"{directory} is a {config.model_type} model, which is none that reads a text and "
                "writes another; there are BART, Pegasus, T5, Marian, NLLB, M2M100, mBART, ..."
            )
        # before Transformers takes memory for what a damaged or hostile configuration asks for
        check_numbers(path, config.to_dict(), shapes)
        make = partial(AutoModelForSeq2SeqLM.from_config, config)
        skeleton: nn.Module = without_numbers(make)
        # a weight that several modules share counts once, as in a file
        own_shapes = {name: tuple(weight.shape) for name, weight in skeleton.named_parameters()}
        check_amount(path, config.to_dict(), own_shapes, shapes)
        with warnings.catch_warnings():
            # without the package Marian's texts have other tokens: rows would depend on the node
            warnings.filterwarnings("error", message=".*sacremoses")
            tokenizer = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
    except ModelError:
        raise
    except (ImportError, UserWarning) as error:
        raise ModelError(
            f"the tokenizer of {directory} needs a package that is not installed: "
            f"pip install 'bertsum[generate]' ({error})"
        ) from error
    except Exception as error:  # Transformers has no error of its own for what is damaged
        raise ModelError(
            f"{directory} is no sequence-to-sequence model that Transformers can load: {error}"
        ) from error
    return config, tokenizer


def _sentence_input(
    model_config: "PreTrainedConfig", tokenizer: "PreTrainedTokenizerBase"
) -> SentenceInput | None:
    form = read_format(model_config)
    return None if form is None else SentenceInput(tokenizer, form)


def _positions(
    model_config: "PreTrainedConfig",
    tokenizer: "PreTrainedTokenizerBase",
    config: GenerateConfig,
) -> tuple[int, int | None]:
    """Most tokens that are read and written. Raises ConfigError where more are asked for."""
    bound = output = getattr(model_config, "max_position_embeddings", None)
    if model_config.model_type == "encoder-decoder":  # whose halves have their own
        bound = getattr(model_config.encoder, "max_position_embeddings", None)
        output = getattr(model_config.decoder, "max_position_embeddings", None)
    form = read_format(model_config)
    if form is not None:
        bound = form.max_tokens
    bounds = [] if bound is None else [bound]
    if form is None and tokenizer.model_max_length < _UNLIMITED:
        bounds.append(tokenizer.model_max_length)
    longest = min(bounds, default=_DEFAULT_INPUT_TOKENS)
    if config.max_input_tokens is not None:
        if bound is not None and config.max_input_tokens > bound:
            raise ConfigError(
                f"generate.max_input_tokens={config.max_input_tokens} is more than the model has "
                f"positions: {bound}"
            )
        longest = config.max_input_tokens
    max_tokens = config.decoding.max_tokens
    # one position is the token that the decoder starts from
    if output is not None and max_tokens is not None and max_tokens > output - 1:
        raise ConfigError(
            f"generate.decoding.max_tokens={max_tokens} is more than the model can write: "
            f"{output - 1}"
        )
    return longest, None if output is None else output - 1
