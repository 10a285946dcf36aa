"""What a Summarizer is asked for, checked: its arguments, its device, and its number format."""

import os

import torch

from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError, ModelError
from bertsum.inference.device_batches import one_line

_BATCH_TOKENS, _MANY_BATCH_TOKENS = 16384, 65536


def check_arguments(model: object, config: object, max_batch_tokens: object) -> None:
    """Raise ModelError or ConfigError for an argument of another type, or a number below 1.

    `max_batch_tokens` may be "auto", see `choose_batch_tokens`.
    """
    if not isinstance(model, str | os.PathLike | None):
        raise ModelError(f"model must be a str, a Path or None, not a {type(model).__name__}")
    if not isinstance(config, SummarizerConfig | None):
        kind = type(config).__name__
        raise ConfigError(f"config must be a bertsum.config.SummarizerConfig or None, not a {kind}")
    # True is an int in Python, but nobody means a batch of one token by it
    is_number = isinstance(max_batch_tokens, int) and max_batch_tokens >= 1
    is_valid = is_number or max_batch_tokens == "auto"
    if isinstance(max_batch_tokens, bool) or not is_valid:
        raise ConfigError(
            "max_batch_tokens must be a whole number of at least 1, or auto, not "
            f"{max_batch_tokens!r}"
        )


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device that is asked for; by default the first GPU (CUDA, Intel, Apple), else the CPU.

    Raises ModelError for a device that cannot be used.
    """
    kinds = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.mps}
    available = [kind for kind, module in kinds.items() if module.is_available()]
    if device is None:
        return torch.device((*available, "cpu")[0])
    try:
        chosen = torch.device(device)
        # fails where there is no such device, and on one without free memory
        torch.zeros(1, device=chosen).tolist()
    except Exception as error:  # each kind of device has its own
        devices = ["cpu", *map("cuda:{}".format, range(torch.cuda.device_count()))]
        devices += [kind for kind in available if kind != "cuda"]
        raise ModelError(
            f"device {device!r} cannot be used ({one_line(error)}); there is: {', '.join(devices)}"
        ) from error
    return chosen


def choose_batch_tokens(device: torch.device, dtype: torch.dtype, hidden_size: int) -> int:
    """Tokens of a batch that keep the device busy.

    A GPU with CUDA is given many where it has the memory, since the host starts the same kernels
    for a batch of any size. They are at most an eighth of what this process may use: the rest is
    for weights, batches in waiting, and other encoders of a family.

    `hidden_size`: features of a token, of the largest encoder.
    """
    if device.type != "cuda":
        return _BATCH_TOKENS
    memory = torch.cuda.mem_get_info(device)[1]
    memory = int(memory * torch.cuda.get_per_process_memory_fraction(device))
    # Most is alive in the feed-forward network: its input, its residual, and four times as much
    # before and after the activation, which are 10 numbers a feature. 16 leave room for the sums
    # of the heads. BERT-base in bfloat16: 768 * 16 * 2 bytes * 65,536 tokens = 1.6 GB.
    needed = hidden_size * 16 * dtype.itemsize * _MANY_BATCH_TOKENS
    return _MANY_BATCH_TOKENS if needed <= memory / 8 else _BATCH_TOKENS


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of the encoder.

    `auto`: bfloat16 where it is native to the device, float16 on GPUs with fast products in that
    format alone (Volta and Turing, such as V100 and T4), else float32.
    """
    if name == "auto":
        # where a device only emulates bfloat16, float32 is faster, and more exact
        if device.type == "cuda":
            # as `torch.cuda.is_bf16_supported`, which can only be asked of the current device
            capability = torch.cuda.get_device_capability(device)
            is_native = capability >= (8, 0) or torch.version.hip is not None
            if not is_native and capability >= (7, 0):
                return torch.float16  # whose smaller range `Running.results` watches
        elif device.type == "cpu":
            # Whether the CPU has instructions for products in bfloat16, and oneDNN, which computes
            # the products, may use them: ONEDNN_MAX_CPU_ISA forbids it instructions, for instance
            # to compute as a CPU does that has none.
            cpu = torch.cpu
            is_built_in = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
            is_native = is_built_in and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        else:
            is_native = False
        name = "bfloat16" if is_native else "float32"
    return torch.float32 if name == "float32" else torch.bfloat16
