"""Attention and BERT-family encoders over packed sequences: all tokens in one [T, H] tensor, no
padding.

Linear layers, norms and activations do not know where one sequence ends; only attention does. On a
CPU each run of sequences of equal length is one [n, L] block; `rows` has what learns there, and
`gpu` what a GPU computes. Packing as in ByteTransformer (Zhai et al. 2023). Nothing here waits for
a device.

Shapes: N packed rows (tokens or sentences), n sequences of length L in a run, H hidden size, A
heads, D = H / A, P rows of a prefix.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bertsum.errors import ModelError
from bertsum.model.attention.gpu import as_autocast, attend_on_gpu
from bertsum.model.attention.rows import (
    LEAST_TOTAL,
    LONGEST_IN_ROWS,
    MOST_TOTAL,
    Rows,
    attend_in_rows,
)
from bertsum.model.cpu_linear import ReorderedLinear
from bertsum.model.transfer import to_device
from bertsum.text.ragged import offsets

QueryKeyValue = tuple[Tensor, Tensor, Tensor]  # [N, H] each

# Encoders whose modules have BERT's names and order of operations, so that their weights can be
# used as they are.
_BERT_FAMILY = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})
_COMPILED = "finish_compiled"  # attribute of a layer
_FUSED_WEIGHT, _FUSED_BIAS = "query_key_value_weight", "query_key_value_bias"
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class EncoderConfig(Protocol):
    """What is read of the configuration of a Transformers encoder."""

    model_type: str
    hidden_act: str
    hidden_size: int
    num_attention_heads: int
    num_hidden_layers: int


class Encoder(Protocol):
    """An encoder of Transformers, or one that peft wraps."""

    config: EncoderConfig


class _Embeddings(Protocol):
    word_embeddings: nn.Module
    position_embeddings: nn.Embedding
    token_type_embeddings: nn.Module
    LayerNorm: nn.Module
    dropout: nn.Module


class _SelfAttention(Protocol):
    query: nn.Module
    key: nn.Module
    value: nn.Module
    dropout: nn.Dropout

    def register_buffer(self, name: str, tensor: Tensor, persistent: bool) -> None: ...


class _Output(Protocol):
    """What ends the attention of a layer, and what ends the layer."""

    dense: nn.Module
    dropout: nn.Module
    LayerNorm: nn.Module


class _Attention(Protocol):
    self: _SelfAttention
    output: _Output


class _Intermediate(Protocol):
    dense: nn.Module


class _Layer(Protocol):
    attention: _Attention
    intermediate: _Intermediate
    output: _Output
    training: bool
    gradient_checkpointing: bool


class _Layers(Protocol):
    layer: Sequence[_Layer]


class _BertModel(Protocol):
    """The modules of the BERT family, by their names."""

    embeddings: _Embeddings
    encoder: _Layers
    training: bool


def runs(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(first row, n, L) of each run of equal lengths, in order.

    lengths [2, 2, 5] -> (0, 2, 2), (4, 1, 5)
    """
    first = 0
    for length, members in groupby(lengths):
        count = len(list(members))
        yield first, count, length
        first += count * length


def runs_of_tokens(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Group the lengths, in order, with at most `capacity` tokens a group.

    A longer sequence is a group of its own.
    """
    groups: list[list[int]] = []
    room = 0
    for length in lengths:
        if length > room or not groups:
            groups.append([])
            room = capacity
        groups[-1].append(length)
        room -= length
    return groups


def packed_attention(
    query_key_value: QueryKeyValue,
    lengths: Sequence[int],
    num_heads: int,
    *,
    dropout: float = 0.0,
    prefix: Tensor | None = None,
) -> Tensor:
    """Softmax attention inside each sequence -> [N, H].

    Equal to scaled dot-product attention (Vaswani et al. 2017) on each sequence alone.

    `query_key_value`: [N, H] each.
    `lengths`: of the sequences. Sort sequences by length: on a CPU each run of equal ones is one
        call, and on a GPU similar ones are padded together where no kernel takes them all.
    `dropout`: share of the attention weights that are set to 0.
    `prefix`: [2, P, H] keys and values that all rows see beside their sequence.
    """
    query, key, value = query_key_value
    if query.device.type != "cpu":
        return attend_on_gpu(query_key_value, lengths, num_heads, dropout=dropout, prefix=prefix)
    shapes = [(count, length) for _, count, length in runs(lengths)]
    key_prefix, value_prefix = (None, None) if prefix is None else prefix
    blocks = zip(
        _blocks(query, shapes, num_heads),
        _blocks(key, shapes, num_heads, key_prefix),
        _blocks(value, shapes, num_heads, value_prefix),
        strict=True,
    )
    learns = query.requires_grad or (prefix is not None and prefix.requires_grad)
    if query.dtype == torch.bfloat16 and not learns and not dropout:
        result = query.new_empty(query.shape)
        for (q, k, v), out in zip(blocks, _blocks(result, shapes, num_heads), strict=True):
            _attend_by_products(q, k, v, out)
        return result
    attended = []
    for q, k, v in blocks:
        block = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # [n, A, L, D]
        attended.append(block.transpose(1, 2).flatten(0, 1).flatten(1))  # [n * L, H]
    return torch.cat(attended)


def _blocks(
    rows: Tensor, shapes: Sequence[tuple[int, int]], num_heads: int, prefix: Tensor | None = None
) -> Iterator[Tensor]:
    """[N, H] -> views [n, A, L, D], one for each run of n sequences of length L in `shapes`.

    With a prefix, [P, H], copies [n, A, P + L, D]: it comes before each sequence.
    """
    parts = torch.split(rows, [count * length for count, length in shapes])
    for (count, length), part in zip(shapes, parts, strict=True):
        block = part.view(count, length, num_heads, -1).transpose(1, 2)
        if prefix is not None:
            heads = prefix.to(rows.dtype).view(len(prefix), num_heads, -1).transpose(0, 1)
            block = torch.cat([heads.expand(count, -1, -1, -1), block], dim=2)  # [A, P, D] in each
        yield block


def _attend_by_products(query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """Attention of [n, A, L, D] into `out`, by two matrix products with exponentials between them.

    Keys and values may have a prefix, [n, A, P + L, D].

    On a CPU this is two to four times as fast as PyTorch's SDPA in bfloat16 with heads of 32, whose
    products are small, and as a softmax, which is slow where L is no multiple of the vector length.
    A softmax takes the maximum off each row so that no exponential overflows. bfloat16 has
    float32's range, so that scores within +-46 need none of that (e^46 = 1e20); a block with others
    is computed by SDPA.
    """
    q, k, v = (rows.flatten(0, 1) for rows in (query, key, value))  # [n * A, L, D], copies
    # Scores q k' / sqrt(D) (`beta=0`: nothing is added), and their exponentials in the same memory.
    scale = q.shape[2] ** -0.5
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
    weights = scores.exp_()
    totals = weights.sum(2, keepdim=True)  # [n * A, L, 1]
    least, most = torch.aminmax(totals)
    if least > LEAST_TOTAL and most < MOST_TOTAL:
        # Dividing L x D results is less work than dividing L x L weights.
        weighted = torch.bmm(weights, v).view(out.shape)
        torch.div(weighted, totals.view(*out.shape[:3], 1), out=out)
    else:  # also where a total is NaN
        out.copy_(F.scaled_dot_product_attention(query, key, value))


def positions(lengths: Sequence[int], device: torch.device) -> Tensor:
    """[N] index of each row in its sequence."""
    return to_device(torch.from_numpy(offsets(lengths)), device)


def can_pack(encoder: Encoder) -> bool:
    """Whether `encode_packed` computes what this Transformers encoder computes."""
    config = encoder.config
    return (
        config.model_type in _BERT_FAMILY
        and config.hidden_act in _ACTIVATIONS
        # Settings that some versions of Transformers have, and some configurations of a version.
        and getattr(config, "position_embedding_type", None) in (None, "absolute")
        and not getattr(config, "is_decoder", False)
    )


def encode_packed(
    encoder: Encoder,
    input_ids: Tensor,
    token_type_ids: Tensor,
    lengths: Sequence[int],
    *,
    prefix: Tensor | None = None,
    layers: Sequence[int] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Encode windows with the encoder's own weights.

    Returns [T, H] last hidden states, and those of `layers`.

    `encoder`: of the BERT family. If `peft` wraps it, its replaced layers are called as they are.
    `input_ids`, `token_type_ids`: [T] of all windows, one after the other.
    `lengths`: of the windows, ascending.
    `prefix`: [layers, 2, P, H] keys and values that all tokens see; it has no position, and windows
        begin at 0 as without it.
    `layers`: ascending; 0 is the input of the first layer, 1 its output.
    """
    model: _BertModel = encoder  # type: ignore[assignment]  # as `can_pack` has found
    if hasattr(encoder, "get_base_model"):  # peft may not be installed, so it cannot be asked
        model = encoder.get_base_model()
    window_positions = positions(lengths, input_ids.device)
    rows: Rows | None = None
    if _learns_in_rows(model, input_ids.device, prefix) and lengths[-1] <= LONGEST_IN_ROWS:
        rows = Rows.of(lengths)
        input_ids, token_type_ids, window_positions = map(
            rows.spread, (input_ids, token_type_ids, window_positions)
        )
    hidden = _embed(model, input_ids, token_type_ids, window_positions)
    kept = [hidden] if 0 in layers else []
    for index, layer in enumerate(model.encoder.layer):
        layer_prefix = None if prefix is None else prefix[index]
        arguments = (layer, hidden, rows or lengths, encoder.config, layer_prefix)
        if layer.gradient_checkpointing and model.training and torch.is_grad_enabled():
            hidden = checkpoint(_run_layer, *arguments, use_reentrant=False)
        else:
            hidden = _run_layer(*arguments)
        if index + 1 in layers:
            kept.append(hidden)
    if rows is not None:
        hidden, kept = hidden[rows.places], [states[rows.places] for states in kept]
    return hidden, kept


def _learns_in_rows(model: _BertModel, device: torch.device, prefix: Tensor | None) -> bool:
    """Whether short sequences lie in rows."""
    if device.type != "cpu" or prefix is not None or not torch.is_grad_enabled():
        return False
    has_dropout = model.training and model.encoder.layer[0].attention.self.dropout.p > 0
    is_half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return is_half and not has_dropout


def _embed(
    model: _BertModel, input_ids: Tensor, token_type_ids: Tensor, window_positions: Tensor
) -> Tensor:
    """[T] -> [T, H]: the sum of three embeddings, normed."""
    embeddings = model.embeddings
    table = embeddings.position_embeddings
    # RoBERTa counts positions from the padding id on.
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    embedded = embeddings.word_embeddings(input_ids) + table(window_positions + first)
    embedded = embedded + embeddings.token_type_embeddings(token_type_ids)
    normed: Tensor = embeddings.dropout(embeddings.LayerNorm(embedded))
    # Only ELECTRA has it: its embeddings may be smaller than its hidden states.
    project: nn.Module | None = getattr(model, "embeddings_project", None)
    if project is not None:
        normed = project(normed)
    return normed


def _run_layer(
    layer: _Layer,
    hidden: Tensor,
    sequences: Sequence[int] | Rows,
    config: EncoderConfig,
    prefix: Tensor | None,
) -> Tensor:
    """[T, H] -> [T, H]: attention, then the feed-forward network, each added to what it reads."""
    attention = layer.attention.self
    query_key_value = _query_key_value(attention, as_autocast(hidden))
    if isinstance(sequences, Rows):
        attended = attend_in_rows(query_key_value, sequences, config.num_attention_heads)
    else:
        attended = packed_attention(
            query_key_value,
            sequences,
            config.num_attention_heads,
            dropout=attention.dropout.p if layer.training else 0.0,
            prefix=prefix,
        )
    finish: Callable[[_Layer, Tensor, Tensor, str], Tensor]
    finish = getattr(layer, _COMPILED, _finish_layer)
    return finish(layer, attended, hidden, config.hidden_act)


def _finish_layer(layer: _Layer, attended: Tensor, hidden: Tensor, activation: str) -> Tensor:
    """[T, H] -> [T, H]: what follows the attention of a layer."""
    hidden = _add_and_norm(layer.attention.output, attended, hidden)
    dense = layer.intermediate.dense
    if isinstance(dense, ReorderedLinear):  # which applies the activation in the same pass
        inner = dense(hidden, activation)
    else:
        inner = _ACTIVATIONS[activation](dense(as_autocast(hidden)))
    return _add_and_norm(layer.output, inner, hidden)


def compile_layers(encoder: Encoder, device: torch.device) -> None:
    """Let torch.compile fuse what follows the attention of each layer, in place, for inference.

    Compiles it for any number of tokens, which may take a minute. Raises ModelError where that is
    impossible.
    """
    model: _BertModel = encoder  # type: ignore[assignment]  # as `can_pack` has found
    if device.type != "cuda":
        raise ModelError(f"compile needs a GPU with CUDA, and the device is {device}")
    finish = torch.compile(_finish_layer, dynamic=True, fullgraph=True)
    rows = model.embeddings.position_embeddings.weight.new_zeros(64, encoder.config.hidden_size)
    try:
        with torch.inference_mode():
            finish(model.encoder.layer[0], rows, rows, encoder.config.hidden_act)
    except Exception as error:  # as of Triton that is missing, which has none that is of one kind
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"torch.compile fails on {device} ({type(error).__name__}: {text}); compile=false "
            "computes the same without it"
        ) from error
    for layer in model.encoder.layer:
        setattr(layer, _COMPILED, finish)


def _query_key_value(attention: _SelfAttention, hidden: Tensor) -> QueryKeyValue:
    weight: Tensor | None = getattr(attention, _FUSED_WEIGHT, None)
    if weight is None:
        return attention.query(hidden), attention.key(hidden), attention.value(hidden)
    query, key, value = F.linear(hidden, weight, getattr(attention, _FUSED_BIAS)).chunk(3, dim=1)
    return query, key, value


def fuse_products(encoder: Encoder) -> None:
    """Let one product make the queries, keys and values of a layer, in place, for inference.

    The three modules keep their weights, which are parts of the new one: a checkpoint is the same.
    """
    model: _BertModel = encoder  # type: ignore[assignment]  # as `can_pack` has found
    for layer in model.encoder.layer:
        attention = layer.attention.self
        modules = [attention.query, attention.key, attention.value]
        linear = [module for module in modules if type(module) is nn.Linear]
        if len(linear) < len(modules):
            continue
        for kind, name in (("weight", _FUSED_WEIGHT), ("bias", _FUSED_BIAS)):
            values = torch.cat([getattr(module, kind).detach() for module in linear])
            for module, part in zip(linear, values.chunk(len(linear)), strict=True):
                setattr(module, kind, nn.Parameter(part, requires_grad=False))
            attention.register_buffer(name, values, persistent=False)


def _add_and_norm(output: _Output, inner: Tensor, residual: Tensor) -> Tensor:
    if isinstance(output.dense, ReorderedLinear):  # for inference, where dropout does nothing
        total = output.dense.plus(inner, residual)
    else:
        total = output.dropout(output.dense(inner)) + residual
    normed: Tensor = output.LayerNorm(total)
    return normed
