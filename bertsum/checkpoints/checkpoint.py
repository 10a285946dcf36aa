"""Checkpoints: a directory with `config.json`, `model.safetensors`, the tokenizer's files and `model_card.md`.

A checkpoint is whole (all weights, in their own precision), or a delta on an encoder that a Python package carries: the
heads, and for each encoder weight that training changed a low-rank product that is added to it at load time. Only
safetensors are read, remote code never runs, and names and shapes are checked against the configuration.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertsum.checkpoints.config import (
    CONFIG_FILE,
    PACKAGE_PREFIX,
    WEIGHTS_FILE,
    BaseEncoder,
    CheckpointConfig,
    package_encoder,
    read_config,
    sha256_of,
)
from bertsum.checkpoints.encoder_delta import Delta, apply_delta, delta_of, rank_of
from bertsum.checkpoints.locate import resolve
from bertsum.checkpoints.size_checks import Shapes, check_amount, check_numbers, check_shapes, file_shapes, skeleton
from bertsum.errors import ModelError
from bertsum.model.bert_sum import BertSum

CARD_FILE = "model_card.md"


def load_encoder(source: str) -> tuple[Any, Any]:
    """Encoder (float32) and tokenizer of a package, a directory, a URI or a hub name.

    Raises ModelError also where weights are missing: Transformers would fill them with random numbers.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar for 90 MB, on every start

    directory = package_encoder(source).path if source.startswith(PACKAGE_PREFIX) else resolve(source)
    try:
        config = _bare_encoder_config(directory)
        check_amount(
            directory / CONFIG_FILE, config.to_dict(), skeleton(lambda: _build(config)), _bare_shapes(directory)
        )
        encoder, report = AutoModel.from_pretrained(
            directory,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=_attention(config),
            dtype=torch.float32,
            output_loading_info=True,
        )
        tokenizer = _load_tokenizer(directory, config)
    except Exception as error:  # Transformers has no error of its own for what is damaged
        raise ModelError(f"{source} ({directory}) is not an encoder that Transformers can load: {error}") from error
    if len(tokenizer) > config.vocab_size:
        raise ModelError(
            f"{source} ({directory}): its tokenizer has {len(tokenizer):,} tokens, and its encoder "
            f"vectors for {config.vocab_size:,} of them; one of the two is of another model"
        )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))  # no head reads it
    if missing:
        raise ModelError(
            f"{source} ({directory}) lacks {len(missing)} weights of its encoder: {', '.join(missing[:5])}"
        )
    return encoder, tokenizer


def load_tokenizer(source: str) -> Any:
    """Tokenizer of an encoder (see `load_encoder`) or of a checkpoint, without any weights. Raises ModelError."""
    directory = package_encoder(source).path if source.startswith(PACKAGE_PREFIX) else resolve(source)
    try:
        if b'"bertsum_version"' not in (directory / CONFIG_FILE).read_bytes():
            return _load_tokenizer(directory, _bare_encoder_config(directory))
        checkpoint = read_config(directory)
        if checkpoint.base_encoder is not None:
            return load_tokenizer(str(checkpoint.base_encoder.path))
        check_numbers(directory / CONFIG_FILE, checkpoint.model_dump(), {})
        return _load_tokenizer(directory, _encoder_config(checkpoint))
    except Exception as error:  # Transformers has no error of its own for what is damaged
        raise ModelError(f"{source} ({directory}) has no tokenizer that Transformers can load: {error}") from error


def load_checkpoint(directory: Path) -> tuple[BertSum, Any]:
    """Model in evaluation mode, float32, on the CPU, and its tokenizer. Raises ModelError that names what is wrong."""
    config = read_config(directory)
    shapes = file_shapes([directory / WEIGHTS_FILE])
    check_numbers(directory / CONFIG_FILE, config.model_dump(), shapes)
    if config.base_encoder is not None:
        _check_digest(config.base_encoder)
        encoder, tokenizer = load_encoder(str(config.base_encoder.path))
        expected = skeleton(lambda: BertSum(encoder, config.model))
        check_shapes(directory / CONFIG_FILE, config.model_dump(), *map(_of_heads, (expected, shapes)))
    else:
        encoder, tokenizer = _empty_encoder(config, directory, shapes)
    model = BertSum(encoder, config.model)
    weights = _read_weights(directory / WEIGHTS_FILE)
    if config.base_encoder is not None:
        originals = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("encoder.")}
        weights = apply_delta(originals, weights)
    _load_strictly(model, weights, directory)
    if config.weights_sha256 is not None:
        _check_weights(directory / WEIGHTS_FILE, config.weights_sha256)
    return model.eval(), tokenizer


def save_checkpoint(directory: Path, model: BertSum, tokenizer: Any, card: str, version: str) -> None:
    """Write a whole checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    config = CheckpointConfig(
        bertsum_version=version,
        model=model.config,
        encoder=model.encoder.config.to_diff_dict() | {"model_type": model.encoder.config.model_type},
    )
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    tokenizer.save_pretrained(directory)
    _write(directory, config, weights, card)


def make_delta(model: BertSum, base: BaseEncoder, rank: int) -> Delta:
    """The heads and the difference to the base encoder, at `rank`. Raises ModelError where that does not fit."""
    check_base(model, base)
    encoder, _ = load_encoder(str(base.path))
    return delta_of(model.state_dict(), encoder.state_dict(), base, rank)


def save_delta(directory: Path, model: BertSum, delta: Delta, card: str, version: str) -> None:
    """Write a delta of the model."""
    directory.mkdir(parents=True, exist_ok=True)
    config = CheckpointConfig(bertsum_version=version, model=model.config, base_encoder=delta.base)
    _write(directory, config, delta.weights, card)


def check_base(model: BertSum, base: BaseEncoder) -> None:
    """Raise ModelError where the model's encoder is of another shape than the base encoder."""
    config = _bare_encoder_config(base.path)
    there = skeleton(lambda: _build(config))
    for name, weight in model.encoder.state_dict().items():
        if tuple(weight.shape) != there.get(name):
            raise ModelError(
                f"the model cannot be saved as a difference to the encoder in {base.path}: its {name} is of shape "
                f"{tuple(weight.shape)}, and there of {there.get(name, 'none')}. Without saved_rank it is saved whole"
            )


def read_base(directory: Path) -> tuple[BaseEncoder | None, int]:
    """What a checkpoint is a difference to, and the rank of that difference; None and 0 of a whole checkpoint."""
    base = read_config(directory).base_encoder
    return base, rank_of(file_shapes([directory / WEIGHTS_FILE])) if base else 0


def _bare_encoder_config(directory: Path) -> Any:
    from transformers import AutoConfig

    values = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    _refuse_other_models(values)
    check_numbers(directory / CONFIG_FILE, values, _bare_shapes(directory))
    return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


def _encoder_config(config: CheckpointConfig) -> Any:
    from transformers import AutoConfig

    values = dict(config.encoder or {})
    _refuse_other_models(values)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _refuse_other_models(values: Mapping[str, Any]) -> None:
    """Some architectures hold a second model, which Transformers would fetch from the hub for the first one's sake.

    Called before Transformers sees the configuration: reading it is enough to fetch the second one's.
    """
    for key, value in values.items():
        if "backbone" in str(key) and value:
            raise ModelError(
                f"config.json names another model to load ({key}: {value!r}); allowed are BERT-like encoders"
            )
        if isinstance(value, Mapping):
            _refuse_other_models(value)


def _empty_encoder(config: CheckpointConfig, directory: Path, shapes: Shapes) -> tuple[Any, Any]:
    """The encoder of a whole checkpoint, its weights not yet loaded, and the tokenizer."""
    config_path, values = directory / CONFIG_FILE, config.model_dump()
    try:
        encoder_config = _encoder_config(config)
        check_shapes(config_path, values, skeleton(lambda: BertSum(_build(encoder_config), config.model)), shapes)
        encoder = _build(encoder_config)
        tokenizer = _load_tokenizer(directory, encoder_config)
    except ModelError:
        raise
    except Exception as error:  # Transformers has no error of its own for what is damaged
        raise ModelError(f"{directory}: Transformers cannot build its encoder or tokenizer: {error}") from error
    return encoder, tokenizer


def _build(config: Any) -> Any:
    from transformers import AutoModel

    from_config: Any = AutoModel.from_config
    return from_config(config, attn_implementation=_attention(config), dtype=torch.float32, trust_remote_code=False)


def _of_heads(shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not name.startswith("encoder.")}


def _bare_shapes(directory: Path) -> Shapes:
    """Raises ModelError where Transformers would read other files, or a second model."""
    paths = sorted(directory.glob("*.safetensors"))
    for index in directory.glob("*.index.json"):
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if not named <= {path.name for path in paths}:
            raise ModelError(f"{index} names files that are not beside it: {', '.join(sorted(map(str, named))[:3])}")
    if (directory / "adapter_config.json").exists():
        raise ModelError(f"{directory} holds an adapter (adapter_config.json); merge it into its encoder first")
    return file_shapes(paths)


def _attention(config: Any) -> str:
    """SDPA where Transformers has it for the encoder. Said, because a configuration may name code on a hub here."""
    from transformers import AutoModel

    return "sdpa" if getattr(AutoModel._model_mapping[type(config)], "_supports_sdpa", False) else "eager"


def _load_tokenizer(directory: Path, config: Any) -> Any:
    """Raises OSError where there is no vocabulary: Transformers would make an empty one up."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, config=config, local_files_only=True, trust_remote_code=False)
    names = sorted({"tokenizer.json", *tokenizer.vocab_files_names.values()})
    if not any((directory / name).is_file() for name in names):
        raise OSError(f"the tokenizer's vocabulary is missing; it is in one of {', '.join(names)}")
    return tokenizer


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is missing or not a safetensors file (pickles are never read): {error}") from error


def _load_strictly(model: BertSum, weights: dict[str, Tensor], directory: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    check_shapes(directory / CONFIG_FILE, model.config.model_dump(), expected, given)
    model.load_state_dict(weights, assign=False)


def _write(directory: Path, config: CheckpointConfig, weights: dict[str, Tensor], card: str) -> None:
    """The configuration comes last: a directory without one is not a checkpoint."""
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / WEIGHTS_FILE)
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    values = config.model_dump(exclude_none=True) | {"weights_sha256": sha256_of(directory / WEIGHTS_FILE)}
    text = json.dumps(values, indent=2, ensure_ascii=False)
    (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _check_weights(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise ModelError(f"{path} has the digest {found[:12]}, but {CONFIG_FILE} says {expected[:12]}: it was changed")


def _check_digest(base: BaseEncoder) -> None:
    found = sha256_of(base.path / WEIGHTS_FILE)
    if found != base.sha256:
        raise ModelError(
            f"the encoder in {base.path} has the digest {found[:12]}; this delta was trained on {base.sha256[:12]}"
        )
