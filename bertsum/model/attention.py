"""Attention and BERT-family encoders over packed sequences: all tokens in one [T, H] tensor, no padding.

Linear layers, norms and activations do not know where one sequence ends; only attention does. On a GPU one kernel of
FlashAttention takes all sequences; elsewhere each run of sequences of equal length is one [n, L] block. Packing as in
ByteTransformer (Zhai et al. 2023). Nothing here waits for a device.

Shapes: N packed rows (tokens or sentences), n sequences of length L in a run, H hidden size, A heads, D = H / A, P
rows of a prefix.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bertsum.model.cpu_linear import ReorderedLinear
from bertsum.text.ragged import bounds, offsets

# Encoders whose modules have BERT's names and order of operations, so that their weights can be used in place.
_BERT_FAMILY = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})
_LEAST_TOTAL, _MOST_TOTAL = 1e-20, 1e20  # of a row of exponentials: what is lost to underflow is below 1e-17 of it
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


def runs(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(first row, n, L) of each run of equal lengths, in order."""
    first = 0
    for length, members in groupby(lengths):
        count = sum(1 for _ in members)
        yield first, count, length
        first += count * length


def runs_of_tokens(lengths: Sequence[int], most: int) -> list[list[int]]:
    """The lengths in runs of at most `most` tokens together; a longer sequence is a run of its own."""
    groups: list[list[int]] = []
    room = 0
    for length in lengths:
        if length > room or not groups:
            groups.append([])
            room = most
        groups[-1].append(length)
        room -= length
    return groups


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    num_heads: int,
    dropout: float = 0.0,
    prefix: Tensor | None = None,
) -> Tensor:
    """Softmax attention inside each sequence: three [N, H] and the sequences' lengths -> [N, H].

    Equal to scaled dot-product attention (Vaswani et al. 2017) on each sequence alone. Sort sequences by length: where
    no kernel takes them all, each run of equal ones is one call. `prefix`: [2, P, H] keys and values that all see
    beside their sequence.
    """
    if _has_varlen(query) and prefix is None and not query.requires_grad and not dropout:
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = (t.reshape(len(t), num_heads, -1) for t in (query, key, value))
        starts, most = _bounds(tuple(lengths), query.device), max(lengths)
        return varlen_attn(q, k, v, starts, starts, most, most).reshape(len(q), -1)  # type: ignore[union-attr]
    shapes = [(count, length) for _, count, length in runs(lengths)]
    ahead = (None, None) if prefix is None else prefix
    parts = [
        _blocks(rows, shapes, num_heads, one) for rows, one in zip((query, key, value), (None, *ahead), strict=True)
    ]
    learns = query.requires_grad or (prefix is not None and prefix.requires_grad)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and not (learns or dropout):
        result = query.new_empty(query.shape)
        for q, k, v, out in zip(*parts, _blocks(result, shapes, num_heads), strict=True):
            _attend_by_products(q, k, v, out)
        return result
    attended = [F.scaled_dot_product_attention(q, k, v, dropout_p=dropout) for q, k, v in zip(*parts, strict=True)]
    return torch.cat([block.transpose(1, 2).flatten(0, 1).flatten(1) for block in attended])


def _blocks(
    rows: Tensor, shapes: Sequence[tuple[int, int]], num_heads: int, prefix: Tensor | None = None
) -> Iterator[Tensor]:
    """[N, H] -> [n, A, L, D] of each run, views, or [n, A, P + L, D] with a prefix [P, H] before each sequence."""
    parts = torch.split(rows, [count * length for count, length in shapes])
    for (count, length), part in zip(shapes, parts, strict=True):
        block = part.view(count, length, num_heads, -1).transpose(1, 2)
        yield block if prefix is None else _prepend(prefix, block)


def _prepend(prefix: Tensor, rows: Tensor) -> Tensor:
    """[P, H] before each of [n, A, L, D] -> [n, A, P + L, D]."""
    count, num_heads = rows.shape[:2]
    own = prefix.to(rows.dtype).view(len(prefix), num_heads, -1).transpose(0, 1)  # [A, P, D]
    return torch.cat([own.expand(count, -1, -1, -1), rows], dim=2)


def _attend_by_products(query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """Attention of [n, A, L, D] into `out` by two matrix products around exponentials that no maximum was taken off.

    Keys and values may have a prefix, [n, A, P + L, D].
    Two to four times as fast on a CPU as PyTorch's SDPA in bfloat16 with heads of 32, whose products are small, and
    than a softmax, which is slow where L is no multiple of the vector length. bfloat16 has float32's range, so that
    scores within +-46 are safe; where there are others, SDPA computes the block.
    """
    q, k, v = (t.flatten(0, 1) for t in (query, key, value))  # copies
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=q.shape[2] ** -0.5)
    weights = scores.exp_()
    totals = weights.sum(2, keepdim=True)
    least, most = torch.aminmax(totals)
    if least > _LEAST_TOTAL and most < _MOST_TOTAL:
        torch.div(torch.bmm(weights, v).view(out.shape), totals.view(*out.shape[:3], 1), out=out)
    else:  # also where one is NaN
        out.copy_(F.scaled_dot_product_attention(query, key, value))


def _has_varlen(values: Tensor) -> bool:
    """FlashAttention takes half precision, on GPUs from Ampere (8.0) on."""
    is_half = values.dtype in (torch.bfloat16, torch.float16)
    return is_half and values.is_cuda and torch.cuda.get_device_capability(values.device) >= (8, 0)


@lru_cache(maxsize=8)
def _bounds(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """[n + 1] int32 first row of each sequence, and the end. Cached: all layers of an encoder ask for the same."""
    return to_device(torch.from_numpy(bounds(lengths)).int(), device)


def positions(lengths: Sequence[int], device: torch.device) -> Tensor:
    """[N] place of each row in its sequence, from 0."""
    return to_device(torch.from_numpy(offsets(lengths)), device)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy that the host does not wait for, where `device` is a GPU."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def can_pack(encoder: Any) -> bool:
    """Whether `encode_packed` computes what this Transformers encoder computes."""
    config = encoder.config
    return (
        config.model_type in _BERT_FAMILY
        and config.hidden_act in _ACTIVATIONS
        and getattr(config, "position_embedding_type", None) in (None, "absolute")
        and not getattr(config, "is_decoder", False)
    )


def encode_packed(
    encoder: Any, input_ids: Tensor, token_type_ids: Tensor, lengths: Sequence[int], prefix: Tensor | None = None
) -> Tensor:
    """[T] ids of windows one after the other -> [T, H] last hidden states, with the encoder's own weights.

    `encoder` may be wrapped by `peft`: its replaced layers are called as they stand. `prefix`: [layers, 2, P, H] keys
    and values that all tokens see; it has no position, and windows begin at 0 as without it.
    """
    config = encoder.config
    base = encoder.get_base_model() if hasattr(encoder, "get_base_model") else encoder
    hidden = _embed(base, input_ids, token_type_ids, lengths)
    for number, layer in enumerate(base.encoder.layer):
        own = None if prefix is None else prefix[number]
        if layer.gradient_checkpointing and base.training and torch.is_grad_enabled():
            hidden = checkpoint(_run_layer, layer, hidden, lengths, config, own, use_reentrant=False)
        else:
            hidden = _run_layer(layer, hidden, lengths, config, own)
    return hidden


def _run_layer(layer: Any, hidden: Tensor, lengths: Sequence[int], config: Any, prefix: Tensor | None = None) -> Tensor:
    attention = layer.attention.self
    attended = packed_attention(
        attention.query(hidden),
        attention.key(hidden),
        attention.value(hidden),
        lengths,
        config.num_attention_heads,
        attention.dropout.p if layer.training else 0.0,
        prefix,
    )
    hidden = _add_and_norm(layer.attention.output, attended, hidden)
    return _add_and_norm(layer.output, _activate(layer.intermediate.dense, hidden, config.hidden_act), hidden)


def _activate(dense: Any, hidden: Tensor, activation: str) -> Tensor:
    if isinstance(dense, ReorderedLinear):
        return dense(hidden, activation)  # type: ignore[no-any-return]
    return _ACTIVATIONS[activation](dense(hidden))


def _embed(base: Any, input_ids: Tensor, token_type_ids: Tensor, lengths: Sequence[int]) -> Tensor:
    embeddings = base.embeddings
    places = embeddings.position_embeddings
    first = 0 if places.padding_idx is None else places.padding_idx + 1  # RoBERTa counts from the padding id on
    embedded = embeddings.word_embeddings(input_ids) + places(positions(lengths, input_ids.device) + first)
    embedded = embedded + embeddings.token_type_embeddings(token_type_ids)
    embedded = embeddings.dropout(embeddings.LayerNorm(embedded))
    project: nn.Module | None = getattr(base, "embeddings_project", None)  # ELECTRA's small embeddings
    return embedded if project is None else project(embedded)  # type: ignore[no-any-return]


def _add_and_norm(output: Any, inner: Tensor, residual: Tensor) -> Tensor:
    if isinstance(output.dense, ReorderedLinear):
        return output.LayerNorm(output.dense.plus(inner, residual))  # type: ignore[no-any-return]
    return output.LayerNorm(output.dropout(output.dense(inner)) + residual)  # type: ignore[no-any-return]
