"""Checkpoints: a directory with `config.json`, `model.safetensors`, the tokenizer's files and
`model_card.md`.

A checkpoint is whole (all weights, in their own precision), or a delta on an encoder that a Python
package carries: the heads, and for each encoder weight that training changed a low-rank product
that is added to it at load time. Only safetensors are read, remote code never runs, and names and
shapes are checked against the configuration.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bertsum.checkpoints.config import (
    CONFIG_FILE,
    PACKAGE_PREFIX,
    WEIGHTS_FILE,
    BaseEncoder,
    CheckpointConfig,
    package_path,
    read_config,
    sha256_of,
)
from bertsum.checkpoints.encoder_delta import (
    Delta,
    apply_delta,
    delta_of,
    encoder_part,
    rank_of,
    without_scales,
)
from bertsum.checkpoints.family import FAMILY_FILE
from bertsum.checkpoints.locate import resolve_checkpoint
from bertsum.checkpoints.q4_encoder import (
    load_q4_encoder,
    load_q4_tokenizer,
    read_q4_config,
    read_q4_encoder,
)
from bertsum.checkpoints.size_checks import (
    Shapes,
    check_amount,
    check_numbers,
    check_shapes,
    file_shapes,
    shapes_of,
    skeleton,
)
from bertsum.checkpoints.without_transformers import (
    empty_encoder,
    read_encoder,
    read_tokenizer,
)
from bertsum.errors import ModelError
from bertsum.model.bert_encoder import BertConfig, BertEncoder, read_bert_config
from bertsum.model.bert_sum import BertSum
from bertsum.text.plain_tokenizer import PlainTokenizer

if TYPE_CHECKING:  # importing them takes seconds
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    Tokenizer = PlainTokenizer | PreTrainedTokenizerBase

CARD_FILE = "model_card.md"
Value = TypeVar("Value")
AnyTokenizer = TypeVar("AnyTokenizer")


def load_encoder(source: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load encoder (float32) and tokenizer of a package, a directory, a URI or a hub name.

    Raises ModelError, also where weights are missing: Transformers would fill them with random
    numbers.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it is not typed

    directory = _directory(source)
    if directory.is_file():
        return load_q4_encoder(directory)
    try:
        config = _bare_encoder_config(directory)
        if config.is_encoder_decoder:  # its decoder would ask for a text of its own
            raise ModelError(
                f"{config.model_type} has a decoder, too; allowed are BERT-like encoders"
            )
        # before Transformers takes memory for what a damaged or hostile configuration asks for
        expected = skeleton(lambda: _build(config))
        check_amount(directory / CONFIG_FILE, config.to_dict(), expected, _bare_shapes(directory))
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
        raise ModelError(
            f"{source} ({directory}) is not an encoder that Transformers can load: {error}"
        ) from error
    if len(tokenizer) > config.vocab_size:
        raise ModelError(
            f"{source} ({directory}): its tokenizer has {len(tokenizer):,} tokens, and its encoder "
            f"vectors for {config.vocab_size:,} of them; one of the two is of another model"
        )
    # No head reads the pooler, so that many encoders come without.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ModelError(
            f"{source} ({directory}) lacks {len(missing)} weights of its encoder: "
            f"{', '.join(missing[:5])}"
        )
    return encoder, tokenizer


def load_tokenizer(source: str) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of an encoder (see `load_encoder`) or of a checkpoint, without weights.

    Raises ModelError.
    """
    directory = _directory(source)
    if directory.is_file():
        return load_q4_tokenizer(directory)
    try:
        # a bare encoder's configuration lacks this key
        if b'"bertsum_version"' not in (directory / CONFIG_FILE).read_bytes():
            return _load_tokenizer(directory, _bare_encoder_config(directory))
        checkpoint = read_config(directory)
        if checkpoint.base_encoder is not None:
            return load_tokenizer(_source(checkpoint.base_encoder))
        check_numbers(directory / CONFIG_FILE, checkpoint.model_dump(), {})
        return _load_tokenizer(directory, _encoder_config(checkpoint))
    except Exception as error:  # Transformers has no error of its own for what is damaged
        raise ModelError(
            f"{source} ({directory}) has no tokenizer that Transformers can load: {error}"
        ) from error


def load_checkpoint(directory: Path) -> "tuple[BertSum, PreTrainedTokenizerBase]":
    """Load a model, in evaluation mode, float32, on the CPU, and its tokenizer.

    Its encoder is of a class of Transformers, and so can be trained with adapters.

    Raises ModelError that names what is wrong.
    """
    return _load(directory, load_encoder, _empty_encoder)


def load_for_inference(directory: Path) -> "tuple[BertSum, Tokenizer]":
    """Do the same as `load_checkpoint` without Transformers, which takes seconds to import.

    An encoder of BERT's family becomes a BertEncoder, which has the same weights; any other one is
    loaded by Transformers.
    """
    return _load(directory, _load_plain_encoder, _empty_plain_encoder)


def _load(
    directory: Path,
    load_base: Callable[[str], tuple[nn.Module, AnyTokenizer]],
    make_empty: Callable[[CheckpointConfig, Path, Shapes], tuple[nn.Module, AnyTokenizer]],
) -> tuple[BertSum, AnyTokenizer]:
    """Load a model and its tokenizer.

    - `load_base`: loads the encoder of a delta, as `load_encoder` does
    - `make_empty`: makes that of a whole checkpoint, as `_empty_encoder` does
    """
    config = read_config(directory)
    config_path, weights_path = directory / CONFIG_FILE, directory / WEIGHTS_FILE
    shapes = file_shapes([weights_path])
    check_numbers(config_path, config.model_dump(), shapes)
    if config.base_encoder is not None:
        encoder, tokenizer = _load_base(config.base_encoder, load_base)
        expected = skeleton(lambda: BertSum(encoder, config.model))
        check_shapes(
            config_path, config.model_dump(), _heads(expected), _heads(without_scales(shapes))
        )
    else:
        encoder, tokenizer = make_empty(config, directory, shapes)
    model = BertSum(encoder, config.model)
    try:
        weights = load_file(weights_path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{weights_path} is missing or not a safetensors file (pickles are never read): {error}"
        ) from error
    first_weights = model.state_dict()  # the base encoder's, and random heads
    if config.base_encoder is not None:
        heads = _heads(first_weights)
        base_weights = {name: w for name, w in first_weights.items() if name not in heads}
        weights = apply_delta(base_weights, weights)
    values = config.model.model_dump()
    check_shapes(config_path, values, shapes_of(first_weights), shapes_of(weights))
    # copied into float32, whatever the precision of the file
    model.load_state_dict(weights, assign=False)
    model.temperatures = dict(config.temperatures)
    model.query_weights = config.query
    if config.weights_sha256 is not None:
        digest = sha256_of(weights_path)
        if digest != config.weights_sha256:
            raise ModelError(
                f"{weights_path} has the digest {digest[:12]}, but {CONFIG_FILE} says "
                f"{config.weights_sha256[:12]}: it was changed"
            )
    return model.eval(), tokenizer


def save_checkpoint(
    directory: Path,
    model: BertSum,
    tokenizer: "PreTrainedTokenizerBase",
    card: str,
    *,
    version: str,
) -> None:
    """Write a whole checkpoint. `version`: of bertsum."""
    directory.mkdir(parents=True, exist_ok=True)
    known_config = model.encoder.config
    if isinstance(model.encoder, BertEncoder) and model.encoder.full_config is not None:
        known_config = model.encoder.full_config()
        known_config.dtype = torch.float32  # in which `load_encoder` loads every encoder
    # What differs from the defaults of its type, and the type.
    encoder_config = known_config.to_diff_dict()
    encoder_config["model_type"] = known_config.model_type
    config = CheckpointConfig(
        bertsum_version=version,
        model=model.config,
        temperatures=model.temperatures,
        query=model.query_weights,
        encoder=encoder_config,
    )
    weights = {}
    for name, tensor in model.state_dict().items():  # clones: safetensors refuses shared memory
        weights[name] = tensor.detach().cpu().contiguous().clone()
    tokenizer.save_pretrained(directory)
    _write(directory, config, weights, card)


def make_delta(
    model: BertSum, base: BaseEncoder, rank: int, unchanged: Path | None = None
) -> Delta:
    """Take the heads, and the difference to the base encoder at `rank`.

    - `unchanged`: the delta checkpoint whose encoder the model has, if it has not learned since

    Raises ModelError where the encoder does not fit.
    """
    check_base(model, base)
    encoder, _ = load_encoder(_package_source(base))
    known = encoder_part(load_file(unchanged / WEIGHTS_FILE)) if unchanged else None
    return delta_of(model.state_dict(), encoder.state_dict(), base, rank, encoder_delta=known)


def save_delta(directory: Path, model: BertSum, delta: Delta, card: str, *, version: str) -> None:
    """Write a delta of the model. `version`: of bertsum."""
    directory.mkdir(parents=True, exist_ok=True)
    config = CheckpointConfig(
        bertsum_version=version,
        model=model.config,
        temperatures=model.temperatures,
        query=model.query_weights,
        base_encoder=delta.base,
    )
    _write(directory, config, delta.weights, card)


def check_base(model: BertSum, base: BaseEncoder) -> None:
    """Raise ModelError where the model's encoder is of another shape than the base encoder."""
    config = read_q4_config(base.path) if base.file else _bare_encoder_config(base.path)
    base_shapes = skeleton(lambda: _build(config))
    for name, shape in shapes_of(model.encoder.state_dict()).items():
        if shape != base_shapes.get(name):
            raise ModelError(
                f"the model cannot be saved as a difference to the encoder in {base.path}: its "
                f"{name} is of shape {shape}, and there of {base_shapes.get(name, 'none')}. "
                "Without saved_rank it is saved whole"
            )


def read_base(directory: Path) -> tuple[BaseEncoder | None, int]:
    """The encoder that a checkpoint is a difference to, and the rank of that difference.

    None and 0 of a whole checkpoint.
    """
    base = read_config(directory).base_encoder
    return base, rank_of(file_shapes([directory / WEIGHTS_FILE])) if base else 0


def _directory(source: str) -> Path:
    """Where the encoder or checkpoint is, fetched if it is elsewhere."""
    if source.startswith(PACKAGE_PREFIX):
        return package_path(source)
    return resolve_checkpoint(source)


def _bare_encoder_config(directory: Path) -> "PreTrainedConfig":
    """The configuration of an encoder that is not part of a checkpoint."""
    from transformers import AutoConfig

    values = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    if "bertsum_version" in values:
        raise ModelError("it is a checkpoint of bertsum, from which a run starts by start_from")
    _refuse_other_models(values)
    check_numbers(directory / CONFIG_FILE, values, _bare_shapes(directory))
    config: PreTrainedConfig = AutoConfig.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False
    )
    return config


def _encoder_config(config: CheckpointConfig) -> "PreTrainedConfig":
    """The configuration of the encoder of a whole checkpoint."""
    from transformers import AutoConfig

    values = dict(config.encoder or {})
    _refuse_other_models(values)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _refuse_other_models(values: Mapping[str, object]) -> None:
    """Raise ModelError where a configuration names a second model.

    Some architectures hold one, and Transformers would fetch it from the hub. Reading the
    configuration is enough for that, so this comes before.
    """
    for key, value in values.items():
        if "backbone" in str(key) and value:
            raise ModelError(
                f"config.json names another model to load ({key}: {value!r}); "
                "allowed are BERT-like encoders"
            )
        if isinstance(value, Mapping):
            _refuse_other_models(value)


def _load_base(
    base: BaseEncoder, load: Callable[[str], tuple[nn.Module, AnyTokenizer]]
) -> tuple[nn.Module, AnyTokenizer]:
    """Load the encoder of a delta, see `_load`, and check that it is the right one."""
    source = _source(base)
    if source != base.hub_source:
        digest = sha256_of(base.weights_path)
        if digest != base.sha256:
            raise ModelError(
                f"the encoder in {base.path} has the digest {digest[:12]}; "
                f"this delta was trained on {base.sha256[:12]}"
            )
        return load(source)
    try:
        return load(source)
    except ModelError as error:
        raise ModelError(
            f"the model's encoder is in the package {base.package}, which is not installed; "
            f"in its place: {error}"
        ) from error


def _load_plain_encoder(source: str) -> "tuple[nn.Module, Tokenizer]":
    """Do the same as `load_encoder`, without Transformers where that is possible."""
    directory = _directory(source)
    if directory.is_file():
        return read_q4_encoder(directory)
    full_config = partial(_bare_encoder_config, directory)
    encoder = read_encoder(directory, full_config)
    if encoder is not None:
        with suppress(Exception):  # which is raised again below, with a message
            tokenizer = _read_tokenizer(directory, encoder.config, full_config)
            if len(tokenizer) <= encoder.config.vocab_size:
                return encoder, tokenizer
    return load_encoder(source)


def _source(base: BaseEncoder) -> str:
    """What `load_encoder` takes for a base encoder: the package, or else its name on the hub."""
    if base.hub_source is not None and not base.is_installed:
        return base.hub_source
    return _package_source(base)


def _package_source(base: BaseEncoder) -> str:
    return f"{PACKAGE_PREFIX}{base.package}/{base.directory or base.file}"


def _empty_encoder(
    config: CheckpointConfig, directory: Path, shapes: Shapes
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Make the encoder of a whole checkpoint, without its weights, and load the tokenizer."""
    try:
        encoder_config = _encoder_config(config)
        expected = skeleton(lambda: BertSum(_build(encoder_config), config.model))
        check_shapes(directory / CONFIG_FILE, config.model_dump(), expected, shapes)
        encoder = _build(encoder_config)  # only now with memory for its numbers
        tokenizer = _load_tokenizer(directory, encoder_config)
    except ModelError:
        raise
    except Exception as error:  # Transformers has no error of its own for what is damaged
        raise ModelError(
            f"{directory}: Transformers cannot build its encoder or tokenizer: {error}"
        ) from error
    return encoder, tokenizer


def _empty_plain_encoder(
    config: CheckpointConfig, directory: Path, shapes: Shapes
) -> "tuple[nn.Module, Tokenizer]":
    """Do the same as `_empty_encoder`, without Transformers where that is possible."""
    encoder_config = read_bert_config(config.encoder or {})
    if encoder_config is not None:
        expected = skeleton(lambda: BertSum(BertEncoder(encoder_config), config.model))
        check_shapes(directory / CONFIG_FILE, config.model_dump(), expected, shapes)
        full_config = partial(_encoder_config, config)
        with suppress(Exception):  # which is raised again below, with a message
            tokenizer = _read_tokenizer(directory, encoder_config, full_config)
            return empty_encoder(encoder_config, full_config), tokenizer
    return _empty_encoder(config, directory, shapes)


def _read_tokenizer(
    directory: Path, config: BertConfig, full_config: "Callable[[], PreTrainedConfig]"
) -> "Tokenizer":
    """Do the same as `_load_tokenizer`, without Transformers where that is possible."""
    plain = None
    if config.model_type in ("bert", "electra"):  # others have tokenizers of other kinds
        plain = read_tokenizer(directory, lambda: _load_tokenizer(directory, full_config()))
    return _load_tokenizer(directory, full_config()) if plain is None else plain


def _build(config: "PreTrainedConfig") -> "PreTrainedModel":
    """Make an encoder with random weights, on the device that is current."""
    from transformers import AutoModel

    from_config: Callable[..., PreTrainedModel] = AutoModel.from_config  # which has no types itself
    return from_config(
        config,
        attn_implementation=_attention(config),
        dtype=torch.float32,
        trust_remote_code=False,
    )


def _heads(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Weights, or their shapes, of all that is not the encoder."""
    return {name: value for name, value in weights.items() if not name.startswith("encoder.")}


def _bare_shapes(directory: Path) -> Shapes:
    """Shapes of the weights of an encoder that is not part of a checkpoint.

    Raises ModelError where Transformers would read other files, or a second model.
    """
    paths = sorted(directory.glob("*.safetensors"))
    names = {path.name for path in paths}
    # large models are in several files, and an index names the file of each weight
    for index in directory.glob("*.index.json"):
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if not named <= names:
            first_names = ", ".join(sorted(map(str, named))[:3])
            raise ModelError(f"{index} names files that are not beside it: {first_names}")
    if (directory / "adapter_config.json").exists():
        raise ModelError(
            f"{directory} holds an adapter (adapter_config.json); merge it into its encoder first"
        )
    return file_shapes(paths)


def _attention(config: "PreTrainedConfig") -> str:
    """The implementation of attention: SDPA where Transformers has it for the encoder.

    It is always given to Transformers, because a configuration may name code on a hub there.
    """
    from transformers import AutoModel

    architecture = AutoModel._model_mapping[type(config)]
    # An encoder that some other package has registered may lack the private name.
    return "sdpa" if getattr(architecture, "_supports_sdpa", False) else "eager"


def _load_tokenizer(directory: Path, config: "PreTrainedConfig") -> "PreTrainedTokenizerBase":
    """Raises OSError where there is no vocabulary: Transformers would make an empty one up."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        directory, config=config, local_files_only=True, trust_remote_code=False
    )
    names = sorted({"tokenizer.json", *tokenizer.vocab_files_names.values()})
    if not any((directory / name).is_file() for name in names):
        raise OSError(f"the tokenizer's vocabulary is missing; it is in one of {', '.join(names)}")
    return tokenizer


def _write(
    directory: Path, config: CheckpointConfig, weights: dict[str, Tensor], card: str
) -> None:
    if (directory / FAMILY_FILE).exists():  # which would be read, and not this checkpoint
        raise ModelError(f"{directory} holds a family of checkpoints; give another directory")
    weights_path = directory / WEIGHTS_FILE
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, weights_path)
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    # The configuration comes last: a directory without one is not a checkpoint.
    values = config.model_dump(exclude_none=True) | {"weights_sha256": sha256_of(weights_path)}
    text = json.dumps(values, indent=2, ensure_ascii=False)
    (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
