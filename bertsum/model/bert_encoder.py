"""The weights of an encoder of BERT's family, under the names that Transformers gives them.

`encode_packed` runs them. Transformers' own classes do the same and are what training uses, but
their modules take seconds to import.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, ValidationError
from torch import nn

from bertsum.config_base import Config

Size = Annotated[StrictInt, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1, strict=True)]

# What a setting is where the configuration leaves it out. Those of BERT, and where others differ.
_DEFAULTS: dict[str, dict[str, object]] = {
    "bert": {},
    "roberta": {"vocab_size": 50265, "pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "camembert": {"pad_token_id": 1},
    "electra": {
        "embedding_size": 128,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    },
}
# Settings of training, of other heads, and records of where the encoder comes from: they change no
# hidden state.
_IGNORED = frozenset(
    (
        *("_name_or_path", "architectures", "bos_token_id", "classifier_dropout", "directionality"),
        *("dtype", "eos_token_id", "gradient_checkpointing", "id2label", "initializer_range"),
        *("label2id", "output_past", "pooler_fc_size", "pooler_num_attention_heads"),
        *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "summary_activation"),
        *("summary_last_dropout", "summary_type", "summary_use_proj", "tie_word_embeddings"),
        *("torch_dtype", "transformers_version", "use_cache"),
    )
)


class BertConfig(Config):
    """What is read of the configuration of an encoder. No other key may change what it computes."""

    model_type: Literal["bert", "roberta", "xlm-roberta", "camembert", "electra"]
    vocab_size: Size = 30522
    embedding_size: Size | None = None  # None: the hidden size
    hidden_size: Size = 768
    num_hidden_layers: Size = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: Literal["gelu", "relu"] = "gelu"
    hidden_dropout_prob: Share = 0.1
    attention_probs_dropout_prob: Share = 0.1
    max_position_embeddings: Size = 512
    type_vocab_size: Size = 2
    layer_norm_eps: float = Field(1e-12, gt=0, strict=True)
    pad_token_id: StrictInt | None = Field(0, ge=0)
    position_embedding_type: Literal["absolute"] | None = None
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False


def read_bert_config(values: Mapping[str, Any]) -> BertConfig | None:
    """Read the configuration of an encoder.

    None for one of another family, with a key that is not known here, or with a wrong value:
    Transformers may know what to do, or says what is wrong.
    """
    given = {key: value for key, value in values.items() if key not in _IGNORED}
    defaults = _DEFAULTS.get(str(values.get("model_type")), {})
    try:
        config = BertConfig.model_validate(defaults | given)
    except ValidationError:
        return None
    has_padding = config.pad_token_id is None or config.pad_token_id < config.vocab_size
    is_electra = config.model_type == "electra"
    fits = config.hidden_size % config.num_attention_heads == 0
    if fits and has_padding and (config.embedding_size is None or is_electra):
        return config
    return None


class BertEncoder(nn.Module):
    """Embeddings and layers. `encode_packed` computes with them; there is no pooler.

    `full_config`: makes the configuration of Transformers, which a checkpoint is saved with.
    """

    def __init__(self, config: BertConfig, full_config: Callable[[], Any] | None = None):
        super().__init__()
        self.config, self.full_config = config, full_config
        width = config.embedding_size or config.hidden_size
        # RoBERTa and its kin count positions from the padding id on, as `encode_packed` reads here.
        counts_from_zero = config.model_type in ("bert", "electra")
        self.embeddings = _module(
            word_embeddings=nn.Embedding(config.vocab_size, width, config.pad_token_id),
            position_embeddings=nn.Embedding(
                config.max_position_embeddings,
                width,
                None if counts_from_zero else config.pad_token_id,
            ),
            token_type_embeddings=nn.Embedding(config.type_vocab_size, width),
            LayerNorm=nn.LayerNorm(width, eps=config.layer_norm_eps),
            dropout=nn.Dropout(config.hidden_dropout_prob),
        )
        if width != config.hidden_size:
            self.embeddings_project = nn.Linear(width, config.hidden_size)
        layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.encoder = _module(layer=layers)


class _Layer(nn.Module):
    """Attention, and the feed-forward network."""

    gradient_checkpointing = False

    def __init__(self, config: BertConfig):
        super().__init__()
        size, inner_size = config.hidden_size, config.intermediate_size
        attention = {name: nn.Linear(size, size) for name in ("query", "key", "value")}
        attention_dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.attention = _module(
            self=_module(dropout=attention_dropout, **attention), output=_output(size, config)
        )
        self.intermediate = _module(dense=nn.Linear(size, inner_size))
        self.output = _output(inner_size, config)


def _output(width: int, config: BertConfig) -> nn.Module:
    """What ends the attention of a layer, and what ends the layer."""
    return _module(
        dense=nn.Linear(width, config.hidden_size),
        LayerNorm=nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps),
        dropout=nn.Dropout(config.hidden_dropout_prob),
    )


def _module(**children: nn.Module) -> nn.Module:
    """A module that only holds others, by their names."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module
