"""Attention over packed sequences on a GPU, by few kernels.

The host needs about as long to start a kernel as a GPU needs for the attention of a whole batch, so
that a kernel for each length of sequences would leave the GPU waiting. FlashAttention takes all
sequences at once. Where it does not run, sequences of similar length are padded, and each such
group is one kernel.

Shapes: N packed rows (tokens or sentences), n sequences, L rows of the longest in a group, H hidden
size, A heads, D = H / A, P rows of a prefix, M = N + n * P keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor

from bertsum.model.transfer import to_device
from bertsum.text.ragged import bounds, offsets, run_numbers

# Kernels read 16 bytes at a time: rows of a mask and features of a head come in such multiples.
_MASK_MULTIPLE, _HEAD_MULTIPLE = 16, 8
_MOST_FEATURES = 256  # of a head that FlashAttention takes


@dataclass(frozen=True, slots=True)
class _Group:
    """n sequences of similar length, padded to `num_queries` and `num_keys` rows each."""

    size: int  # n
    num_queries: int
    num_keys: int
    mask: Tensor | None  # [n, 1, 1, keys]: -inf for padding; None where there is none


@dataclass(frozen=True, slots=True)
class _Padding:
    """Where packed rows stand when their sequences are padded, group after group."""

    groups: list[_Group]
    query_rows: Tensor  # [N] int64
    key_rows: Tensor  # [M] int64


def attend_on_gpu(
    query_key_value: tuple[Tensor, Tensor, Tensor],
    lengths: Sequence[int],
    num_heads: int,
    *,
    dropout: float = 0.0,
    prefix: Tensor | None = None,
) -> Tensor:
    """Softmax attention inside each sequence -> [N, H]; see `attention.packed_attention`.

    It runs on every device, so that it can be compared.
    """
    query, key, value = (as_autocast(rows) for rows in query_key_value)
    prefix_size = 0
    if prefix is not None:
        prefix_size = prefix.shape[1]
        key, value = _with_prefix(key, value, prefix, lengths)
    hidden_size = query.shape[1]
    head_size = hidden_size // num_heads
    scale = head_size**-0.5
    heads = [rows.view(len(rows), num_heads, head_size) for rows in (query, key, value)]
    if missing := -head_size % _HEAD_MULTIPLE:  # features of 0 change no product
        heads = [F.pad(rows, (0, missing)) for rows in heads]
    learns = torch.is_grad_enabled() and any(rows.requires_grad for rows in heads)
    padded_size, drops = heads[0].shape[2], dropout > 0
    can_flash = _flash_takes(padded_size, query.dtype, query.device, learns=learns, drops=drops)
    attend = _attend_by_flash if can_flash else _attend_padded
    attended = attend(heads, lengths, prefix_size=prefix_size, dropout=dropout, scale=scale)
    return attended[:, :, :head_size].reshape(len(query), hidden_size)


def as_autocast(rows: Tensor) -> Tensor:
    """Rows in the format that autocast gives products and SDPA.

    Autocast itself would make a copy for each product that reads them.
    """
    kind = rows.device.type
    if torch.is_autocast_enabled(kind):
        return rows.to(torch.get_autocast_dtype(kind))
    return rows


def _with_prefix(
    key: Tensor, value: Tensor, prefix: Tensor, lengths: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """[N, H] keys and values, [2, P, H] prefix -> [M, H] each: the prefix before each sequence."""
    rows = torch.cat([key, value], dim=1)
    first = prefix.to(rows.dtype).transpose(0, 1).flatten(1)  # [P, 2 H]
    prefix_rows, own_rows = _rows_with_prefix(tuple(lengths), len(first), rows.device)
    joined = rows.new_empty(len(prefix_rows) + len(own_rows), rows.shape[1])
    joined.index_copy_(0, prefix_rows, first.repeat(len(lengths), 1))
    joined.index_copy_(0, own_rows, rows)
    new_key, new_value = joined.chunk(2, dim=1)
    return new_key, new_value


def _attend_by_flash(
    heads: Sequence[Tensor],
    lengths: Sequence[int],
    *,
    prefix_size: int,
    dropout: float,
    scale: float,
) -> Tensor:
    """[N, A, D] queries, [M, A, D] keys and values -> [N, A, D], by one kernel.

    The operation behind `torch.nn.attention.varlen`, which takes no dropout, and costs the host
    more. `torch.nested` calls it so.
    """
    query, key, value = heads
    starts = _row_bounds(tuple(lengths), 0, query.device)
    key_starts = _row_bounds(tuple(lengths), prefix_size, query.device)
    longest = max(lengths)
    attended: Tensor = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        starts,
        key_starts,
        longest,
        longest + prefix_size,
        dropout,
        False,  # is_causal
        False,  # return_debug_mask
        scale=scale,
    )[0]
    return attended


@lru_cache(maxsize=64)
def _flash_takes(
    head_size: int, dtype: torch.dtype, device: torch.device, *, learns: bool, drops: bool
) -> bool:
    """Whether FlashAttention takes heads of this size on this GPU, also backwards if it `learns`.

    It is tried once, by a small call.
    """
    is_half = dtype in (torch.bfloat16, torch.float16)
    if device.type != "cuda" or not is_half or head_size > _MOST_FEATURES:
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    rows = torch.zeros(8, 1, head_size, dtype=dtype, device=device)
    starts = _row_bounds((len(rows),), 0, device)
    sequences = (starts, starts, len(rows), len(rows), 0.1 if drops else 0.0, False)
    flash = torch.ops.aten
    try:
        with torch.no_grad():
            result = flash._flash_attention_forward(rows, rows, rows, *sequences, False)
            if learns:
                saved = (rows, rows, rows, result[0], result[1])  # the result, its sums
                flash._flash_attention_backward(rows, *saved, *sequences, *result[2:4])
    except torch.OutOfMemoryError:  # which says nothing of the kernel
        raise
    except Exception:  # of a build of PyTorch without it, or without this GPU
        return False
    return True


def _attend_padded(
    heads: Sequence[Tensor],
    lengths: Sequence[int],
    *,
    prefix_size: int,
    dropout: float,
    scale: float,
) -> Tensor:
    """[N, A, D] queries, [M, A, D] keys and values -> [N, A, D], by one kernel for each group."""
    query, key, value = heads
    padding = _padding(tuple(lengths), prefix_size, query.dtype, query.device)
    num_queries = [group.size * group.num_queries for group in padding.groups]
    num_keys = [group.size * group.num_keys for group in padding.groups]
    padded_query = _pad(query, padding.query_rows, sum(num_queries))
    padded_pair = _pad(torch.stack([key, value], 1), padding.key_rows, sum(num_keys))
    parts = zip(
        padding.groups,
        torch.split(padded_query, num_queries),
        torch.split(padded_pair, num_keys),
        strict=True,
    )
    attended = []
    for group, group_query, pair in parts:
        group_key, group_value = pair.view(group.size, group.num_keys, 2, *pair.shape[2:]).unbind(2)
        result = F.scaled_dot_product_attention(  # [n, A, L, D]
            group_query.view(group.size, group.num_queries, *query.shape[1:]).transpose(1, 2),
            group_key.transpose(1, 2),
            group_value.transpose(1, 2),
            attn_mask=group.mask,
            dropout_p=dropout,
            scale=scale,
        )
        attended.append(result.transpose(1, 2).flatten(0, 1))
    joined = torch.cat(attended) if len(attended) > 1 else attended[0]
    return joined.index_select(0, padding.query_rows)


def _pad(rows: Tensor, padded_rows: Tensor, size: int) -> Tensor:
    """[m, ...] -> [size, ...]: rows at the indices [m], 0 elsewhere."""
    return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, padded_rows, rows)


def _group_sizes(lengths: Sequence[int]) -> list[int]:
    """How many sequences, in order, make each group: none is below half of the group's longest.

    Those up to 16 rows go together: [1, 9, 16, 17, 30, 34, 35] -> [3, 3, 1]
    """
    sizes: list[int] = []
    shortest = longest = 0
    for length in lengths:
        shortest, longest = min(shortest, length), max(longest, length)
        if not sizes or longest > max(_MASK_MULTIPLE, 2 * shortest):
            sizes.append(0)
            shortest = longest = length
        sizes[-1] += 1
    return sizes


@lru_cache(maxsize=8)
def _padding(
    lengths: tuple[int, ...], prefix_size: int, dtype: torch.dtype, device: torch.device
) -> _Padding:
    """Cached, since all layers of an encoder ask for the same."""
    groups = []
    rest = lengths
    for size in _group_sizes(lengths):
        members, rest = rest[:size], rest[size:]
        num_queries, num_keys = max(members), max(members) + prefix_size
        mask = None
        if min(members) < num_queries:
            num_keys += -num_keys % _MASK_MULTIPLE
            is_padding = np.arange(num_keys) >= np.array(members)[:, None] + prefix_size
            values = np.where(is_padding, -np.inf, 0.0)[:, None, None, :]
            mask = _made_once(values, dtype, device)
        groups.append(_Group(size, num_queries, num_keys, mask))
    sizes = [group.size for group in groups]
    # where each sequence begins when those of its group are padded
    query_starts = bounds(np.repeat([group.num_queries for group in groups], sizes))
    key_starts = bounds(np.repeat([group.num_keys for group in groups], sizes))
    key_lengths = [length + prefix_size for length in lengths]
    query_rows = query_starts[run_numbers(lengths)] + offsets(lengths)
    key_rows = key_starts[run_numbers(key_lengths)] + offsets(key_lengths)
    return _Padding(
        groups,
        _made_once(query_rows, torch.int64, device),
        _made_once(key_rows, torch.int64, device),
    )


@lru_cache(maxsize=8)
def _row_bounds(lengths: tuple[int, ...], prefix_size: int, device: torch.device) -> Tensor:
    """[n + 1] int32: first row of each sequence with its prefix, and the end."""
    counts = [length + prefix_size for length in lengths]
    return _made_once(bounds(counts), torch.int32, device)


@lru_cache(maxsize=8)
def _rows_with_prefix(
    lengths: tuple[int, ...], prefix_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """[n * P] and [N] int64: which of M rows are of the prefix, and which of the sequences."""
    counts = [length + prefix_size for length in lengths]
    is_prefix = offsets(counts) < prefix_size
    prefix_rows = _made_once(np.flatnonzero(is_prefix), torch.int64, device)
    return prefix_rows, _made_once(np.flatnonzero(~is_prefix), torch.int64, device)


def _made_once(values: npt.NDArray[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Copy to the device what later calls read, too."""
    # of inference mode, which a first call may be in, gradients could not use it
    with torch.inference_mode(False):
        return to_device(torch.from_numpy(values).to(dtype), device)
