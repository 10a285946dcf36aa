"""Which groups of columns a model can give, known from its configuration: needs no torch."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bertsum.checkpoints.config import WEIGHTS_FILE, read_config
from bertsum.checkpoints.family import member_directories, read_family
from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError, ModelError
from bertsum.model_config import ModelConfig
from bertsum.schema import DEFAULT_OUTPUTS, MIXED, NEGATIVE, POSITIVE, OutputGroup
from bertsum.text.phrases.tags import OUTSIDE

_SIZED_WEIGHT = "summarization.scorer.weight"  # [1, H], which every model has


def with_outputs(
    config: SummarizerConfig, directory: Path, *, in_table: bool = False
) -> SummarizerConfig:
    """Copy a configuration with the groups of columns that this model is to write.

    Without `outputs` a family writes the language, too. A query brings its columns. What one
    checkpoint writes by default is left out, so that a configuration has one fingerprint however it
    is written.

    `in_table`: whether the rows become a table, whose format has no float16.

    Raises ConfigError for a group that the model cannot give, which names those that it can, for
    `mixed` with sentiments that it does not fit, and for names of columns, see
    `SummarizerConfig.check_names`.
    """
    outputs = config.outputs
    is_family = read_family(directory) is not None
    if is_family:
        outputs = outputs or (*DEFAULT_OUTPUTS, OutputGroup.LANGUAGE)
    asks = config.query is not None or config.query_column is not None
    if asks:
        outputs = (*(outputs or DEFAULT_OUTPUTS), OutputGroup.QUERY)
    elif outputs == DEFAULT_OUTPUTS and not is_family:
        outputs = None
    values = config.model_dump() | {"outputs": outputs}
    chosen = outputs or ()
    needs_nothing = {*DEFAULT_OUTPUTS, OutputGroup.LANGUAGE, OutputGroup.SPANS}
    if asks:
        needs_nothing.add(OutputGroup.QUERY)
    if config.mixed is not None or not needs_nothing.issuperset(chosen):
        members = member_directories(directory)
        models = {name: read_config(path).model for name, path in members.items()}
        _check_groups(config, chosen, models)
        if config.target_resemblance is not None and len(models) > 1:
            raise ConfigError(
                f"summarizer.target_resemblance={config.target_resemblance} is a cosine, and those "
                f"of the members {', '.join(models)} differ: give one of them as the model"
            )
        if OutputGroup.EMBEDDING in chosen:
            values |= _embedding_values(config, members, in_table=in_table)
    if config.topics and OutputGroup.TOPIC not in chosen:
        raise ConfigError(
            f"summarizer.topics names {', '.join(config.topics)}, but no topic is written: add "
            "topic to summarizer.outputs"
        )
    if (config.targets or config.targets_column) and OutputGroup.TARGETS not in chosen:
        raise ConfigError(
            "summarizer.targets or summarizer.targets_column is given, but no target is written: "
            "add targets to summarizer.outputs"
        )
    config = SummarizerConfig.model_validate(values)
    config.check_names()
    return config


def gives_aspects(model: ModelConfig) -> bool:
    """Whether a model tells the words that an opinion is about from others."""
    return OUTSIDE in model.token_sentiment_labels


def _check_groups(
    config: SummarizerConfig,
    chosen: tuple[OutputGroup, ...],
    models: Mapping[str, ModelConfig],
) -> None:
    """Raise ConfigError for a chosen group, or `mixed`, that a member cannot give."""
    reasons: dict[OutputGroup, str] = {}
    if config.query is None and config.query_column is None:
        reasons[OutputGroup.QUERY] = (
            "no query is given; give one with summarizer.query or summarizer.query_column"
        )
    without = [name for name, model in models.items() if not model.topic_labels]
    if without and not config.topics:
        member = f"its member {without[0]!r}" if without[0] else "the model"
        reasons[OutputGroup.TOPIC] = (
            f"{member} has no head for topics; name topics with summarizer.topics, which needs no "
            "training"
        )
    if not any(map(gives_aspects, models.values())):
        holder = "no member of the model has a" if len(models) > 1 else "the model has no"
        reasons[OutputGroup.ASPECTS] = f"{holder} head for words with the label O"
    if not any(model.sentiment_labels for model in models.values()):
        reasons[OutputGroup.TARGETS] = "the model has no head for sentiment"
    elif not (config.targets or config.targets_column):
        reasons[OutputGroup.TARGETS] = (
            "no target is named; name them with summarizer.targets or summarizer.targets_column"
        )
    for group in chosen:
        if group in reasons:
            possible = ", ".join(other for other in OutputGroup if other not in reasons)
            raise ConfigError(
                f"summarizer.outputs asks for {group}, but {reasons[group]}. Without that the "
                f"model gives: {possible}"
            )
    for name, model in models.items() if config.mixed is not None else ():
        labels = model.sentiment_labels
        if not {POSITIVE, NEGATIVE} <= set(labels) or MIXED in labels:
            member = f"its member {name!r}" if name else "the model"
            raise ConfigError(
                f"summarizer.mixed={config.mixed} needs the sentiments {POSITIVE} and {NEGATIVE}, "
                f"and none that is called {MIXED}; {member} has {', '.join(labels) or 'none'}"
            )


def _embedding_values(
    config: SummarizerConfig, members: Mapping[str, Path], *, in_table: bool
) -> dict[str, object]:
    """Type and size of the embedding, as the configuration holds them."""
    sizes = {name: _hidden_size(path) for name, path in members.items()}
    if len(set(sizes.values())) > 1:
        given = ", ".join(f"{size} of {name}" for name, size in sizes.items())
        raise ConfigError(
            "summarizer.outputs asks for embedding, but the members of the family have vectors of "
            f"different lengths ({given}), which fit into no column together. Use one of the "
            "members, or leave embedding out"
        )
    kind = config.embedding_type or ("float32" if in_table else "float16")
    if in_table and kind == "float16":
        raise ConfigError(
            "summarizer.embedding_type=float16 cannot be written to a table: Iceberg and Delta "
            "have no float16. Use float32, or output.table=parquet"
        )
    size = next(iter(sizes.values()))
    if config.embedding_size not in (None, size):
        raise ConfigError(
            f"summarizer.embedding_size={config.embedding_size}, but the model has {size} "
            "features; leave it out"
        )
    return {"embedding_type": kind, "embedding_size": size if kind == "float16" else None}


def _hidden_size(directory: Path) -> int:
    """Features of the vectors of a checkpoint, from the header of its weights."""
    path = directory / WEIGHTS_FILE
    try:
        with safe_open(path, "numpy") as file:
            _, size = file.get_slice(_SIZED_WEIGHT).get_shape()
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{path} is missing or holds no bertsum model: {error}") from error
    return int(size)
