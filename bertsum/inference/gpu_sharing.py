"""How many processes keep a GPU busy?

A process prepares and finishes documents on about one core, since Python runs one thread at a time.
Its time and the GPU's both grow with the tokens of a document, so that the length cancels out:

    processes = host seconds of a token / GPU seconds of a token
    GPU seconds of a token = operations of a token / operations a second of the GPU

For example, MiniLM-L6 needs 21 million operations a token. An H200 makes 445e12 of them a second,
which are 0.05 us a token; the host needs 0.5 us, and so ten processes would be needed.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from bertsum.checkpoints.config import CONFIG_FILE, read_config
from bertsum.checkpoints.family import member_directories

# Of a token of news, on one core: see "On a GPU" in jobs/docs/benchmark.md.
_HOST_SECONDS = 0.5e-6
# Of the peak: what packed encoders of this size are expected to reach. Nothing has been measured.
_ENGINE_SHARE = 0.45
# Each process has a copy of the model and half a gigabyte of CUDA's own; more were never tried.
_MOST_PROCESSES = 8
# Operations a second of dense products in half precision, by Ray's names of the types (NVIDIA's
# data sheets). What is not here is taken for slow: one process feeds it.
_PEAK = {
    "T4": 65e12,
    "A10G": 70e12,
    "L4": 121e12,
    "V100": 125e12,
    "A100": 312e12,
    "L40S": 362e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
}


def processes_per_gpu(gpu_type: str, num_cores: float, token_operations: float) -> int:
    """How many processes to start for one GPU: at least 1, at most one a core, and at most 8.

    - `gpu_type`: as Ray calls it, such as A100
    - `num_cores`: of the host, for this GPU
    - `token_operations`: of the encoder, see `token_operations`
    """
    peak = _PEAK.get(gpu_type)
    if peak is None:
        return 1
    gpu_seconds = token_operations / (peak * _ENGINE_SHARE)
    wanted = math.ceil(_HOST_SECONDS / gpu_seconds)
    return max(1, min(wanted, int(num_cores), _MOST_PROCESSES))


def token_operations(directory: Path) -> float | None:
    """Operations of a checkpoint's encoder for one token, without those of attention.

    Of a family: of the member that needs fewest, since that one wants most of the host. None where
    the sizes stand in no configuration that is at hand. Raises ModelError for what is no model.
    """
    known = []
    for member in member_directories(directory).values():
        sizes = _encoder_values(member)
        try:
            hidden, layers = int(sizes["hidden_size"]), int(sizes["num_hidden_layers"])
            known.append(product_operations(hidden, layers, int(sizes["intermediate_size"])))
        except (KeyError, TypeError, ValueError):  # an encoder with other names for its sizes
            continue
    return min(known, default=None)


def product_operations(hidden: int, layers: int, inner: int) -> float:
    """Operations of an encoder's linear layers for one token; a product and its sum are two.

    Query, key, value and output have hidden x hidden weights, the two of the feed-forward network
    hidden x inner.
    """
    return 2.0 * layers * (4 * hidden**2 + 2 * hidden * inner)


def _encoder_values(directory: Path) -> Mapping[str, int]:
    """The encoder's configuration as it is saved; empty where only its weights hold the sizes."""
    config = read_config(directory)
    if config.encoder is not None:
        return config.encoder
    base = config.base_encoder
    if base is None or not base.is_installed or base.file is not None:
        return {}
    try:
        values = json.loads((base.path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading the model will say what is wrong
        return {}
    return values if isinstance(values, dict) else {}
