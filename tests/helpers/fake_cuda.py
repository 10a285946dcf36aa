"""CUDA tensors on a machine without a GPU: they have a shape, a type and a device, and no content.

So the branch for CUDA runs as far as it is Python, and each operation is seen: tensors of two
devices in one, what the host would wait for, and how many kernels a device would be given. What
needs content, such as reading a score, cannot run.
"""

import ctypes
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bertsum.inference import reader, summarizer
from bertsum.model.attention import gpu
from bertsum.model.bert_sum import BertSum

# What a build of torch for CPUs lacks, and indexing and copies ask for. They have no devices, so
# that the gradients of other tests get no thread for them.
_GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace {
template <c10::DeviceType kind>
struct Guard final : c10::impl::NoOpDeviceGuardImpl<kind> {
  c10::DeviceIndex deviceCount() const noexcept override { return 0; }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard<c10::DeviceType::CUDA>)
C10_REGISTER_GUARD_IMPL(MPS, Guard<c10::DeviceType::MPS>)
C10_REGISTER_GUARD_IMPL(XPU, Guard<c10::DeviceType::XPU>)
}
"""
# They give the host a number, or a tensor whose size depends on content.
_WAITS = """
    _local_scalar_dense nonzero masked_select bincount unique _unique2 unique_consecutive equal
    is_nonzero repeat_interleave
"""
# They give the device no kernel: views, memory, and what stays on the host.
_NO_KERNELS = """
    view _unsafe_view reshape expand permute transpose t unsqueeze squeeze slice select split
    split_with_sizes chunk unbind detach alias lift_fresh as_strided empty empty_like
    empty_strided new_empty new_empty_strided _reshape_alias unfold narrow device
"""


@cache
def _load_guard() -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler, to build a device guard for CUDA")
    torch_dir = Path(torch.__file__).parent
    with TemporaryDirectory() as folder:
        source, library = Path(folder, "guard.cpp"), Path(folder, "guard.so")
        source.write_text(_GUARD)
        command = [compiler, "-shared", "-fPIC", "-std=c++20", f"-I{torch_dir / 'include'}"]
        command += [str(source), f"-L{torch_dir / 'lib'}", "-lc10", "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"no device guard for CUDA could be built: {done.stderr[-500:]}")
        ctypes.CDLL(str(library))


@dataclass
class Record(TorchDispatchMode):
    """What ran since `clear`: operations on the device by name, and what is wrong with them."""

    operations: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    pinned: set[int] = field(default_factory=set)
    kept: list[Tensor] = field(default_factory=list)  # so that no `id` is given twice
    streams: list[torch.device] = field(default_factory=list)  # on which events were recorded

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def kernels(self) -> int:
        return sum(self.operations.values())

    def clear(self) -> None:
        self.operations.clear()
        self.problems.clear()

    def pin(self, values: Tensor) -> Tensor:
        self.pinned.add(id(values))
        self.kept.append(values)
        return values

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # inference mode shows operations before they fall into those that a device computes
        if func.namespace == "aten" and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        name = func._schema.name.split("::")[1]
        base = name.removesuffix("_")
        if base in ("copy", "_to_copy"):
            self._check_copy(base, args, kwargs)
        # a number, as a tensor without dimensions, may be the host's
        elif len({value.device for value in given if value.dim()}) > 1:
            self.problems.append(f"{name} of tensors on two devices")
        if name in _WAITS.split() and any(value.is_cuda for value in given):
            self.problems.append(f"the host waits: {name}")
        if name == "_flash_attention_forward" and (
            given[0].shape[2] % 8 or given[0].shape[2] > 256
        ):
            self.problems.append(f"FlashAttention takes no heads of {given[0].shape[2]}")
        # numbers of ones are exact in any order
        if base == "index_add" and args[3].is_cuda and args[3].dim() > 1:
            self.problems.append("index_add adds in the order of chance")
        result = func(*args, **kwargs)
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        if base not in _NO_KERNELS.split() and any(value.is_cuda for value in (*given, *made)):
            self.operations[name] += 1
        return result

    def _check_copy(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note a copy between host and device for which the host waits."""
        target, source = (args[0].device, args[1]) if name == "copy" else (None, args[0])
        target = target or kwargs.get("device") or source.device
        kinds = {source.device.type, torch.device(target).type}
        if "cuda" not in kinds or len(kinds) == 1:  # of other devices the host waits anyway
            return
        host = source if not source.is_cuda else args[0]
        in_order = args[2:3] == (True,) or kwargs.get("non_blocking")
        if not in_order or id(host) not in self.pinned:
            self.problems.append(f"the host waits for a copy to {target} of {tuple(source.shape)}")


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int]) -> Iterator[Record]:
    """Make "cuda" a device whose tensors are fake, and record; so are those of "mps" and "xpu".

    `capabilities`: compute capability of each GPU; by default one GPU of 9.0.
    """
    capabilities = capabilities or ((9, 0),)
    _load_guard()
    record = Record()
    empty, from_numpy = torch.empty, torch.from_numpy

    def pinned_empty(*sizes: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        values = empty(*sizes, **options)
        return record.pin(values) if pin_memory else values

    class Event:
        def record(self, stream: Any = None) -> None:
            record.streams.append(stream or torch.device("cuda:0"))

    def capability(device: str | torch.device = "cuda") -> tuple[int, int]:
        return capabilities[torch.device(device).index or 0]

    total = 80 * 2**30  # bytes, of which all are free
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (total, total))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
    # of the current device, which is the first
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capability() >= (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(torch.cuda, "current_stream", torch.device)  # which stands for its stream
    # a device that is named is tried by reading from it
    monkeypatch.setattr(summarizer, "choose_device", lambda device: torch.device(device or "cuda"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", pinned_empty)
    # fake from the start, so that it is the same object all the way
    monkeypatch.setattr(torch, "from_numpy", lambda values: without_content(from_numpy(values)))
    monkeypatch.setattr(Tensor, "pin_memory", lambda values: record.pin(values))
    monkeypatch.setattr(nn.Module, "_apply", _replace_weights)
    monkeypatch.setattr(nn.LSTM, "forward", _run_lstm)
    attend = F.scaled_dot_product_attention

    def attend_by_one_kernel(*args: Any, **options: Any) -> Tensor:
        is_on_gpu = args[0].device.type != "cpu"
        return _attend(*args, **options) if is_on_gpu else attend(*args, **options)

    # it would ask the device for the way to take
    monkeypatch.setattr(F, "scaled_dot_product_attention", attend_by_one_kernel)
    # as where there is a GPU
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    load = reader.load_for_inference

    def load_fake(directory: Path) -> tuple[BertSum, Any]:
        with unset_fake_temporarily():  # reading a file cannot be faked
            model, tokenizer = load(directory)
        return model._apply(without_content), tokenizer

    monkeypatch.setattr(reader, "load_for_inference", load_fake)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), record:
            yield record
    finally:
        # tensors of this mode, and what this GPU can do
        for cached in ("_flash_takes", "_padding", "_row_bounds", "_rows_with_prefix"):
            getattr(gpu, cached).cache_clear()


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: object,
) -> Tensor:
    """The kernel of SDPA that takes every mask."""
    given = [query, key, value, attn_mask]
    if torch.is_autocast_enabled("cuda"):
        given = [None if part is None else part.to(torch.bfloat16) for part in given]
    shape = (*query.shape[:-1], key.shape[-2])
    mask = None if given[3] is None else given[3].expand(shape)
    options = (mask, True, dropout_p, is_causal)
    attended: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        *given[:3], *options, scale=scale
    )[0]
    return attended


def without_content(values: Tensor) -> Tensor:
    return torch.empty(values.shape, dtype=values.dtype)


def _run_lstm(
    lstm: nn.LSTM, packed: PackedSequence
) -> tuple[PackedSequence, tuple[Tensor, Tensor]]:
    """Shapes of the results: the host's numbers of documents have no content here, either."""
    documents = packed.sorted_indices
    assert documents is not None
    state = packed.data.new_empty(2 * lstm.num_layers, len(documents), lstm.hidden_size)
    output = packed._replace(data=packed.data.new_empty(len(packed.data), 2 * lstm.hidden_size))
    return output, (state, state)


def _replace_weights(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """What `nn.Module._apply` does; it swaps tensors, which fake ones refuse."""
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            changed = nn.Parameter(change(weight.detach()), requires_grad=weight.requires_grad)
            setattr(module, name, changed)
        for name, values in list(module.named_buffers(recurse=False)):
            setattr(module, name, change(values))
    return model
