"""Copies from the host to a device."""

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy to `device`; the host does not wait for a GPU with CUDA."""
    if device.type != "cuda":
        return values.to(device)
    # a copy from other memory would wait
    return values.pin_memory().to(device, non_blocking=True)
