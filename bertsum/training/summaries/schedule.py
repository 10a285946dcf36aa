"""Two Adams in one: encoder and decoder, each with a warm-up of its own.

Liu & Lapata 2019, section 3.3: the encoder has learned before, so that its rate rises slowly and
stays small while the decoder, which begins at random, has not settled.
"""

import torch
from torch import Tensor, nn

from bertsum.training.summaries.config import DecoderConfig

_BETAS = (0.9, 0.999)
_EPSILON = 1e-9  # of the authors' code; the paper does not name it


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Adam with a group of the encoder's weights and one of all others; without weight decay.

    Adam treats each weight alone, so that groups with rates of their own are two Adams.
    """
    encoder: list[Tensor] = []
    others: list[Tensor] = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            (encoder if name.startswith("encoder.") else others).append(weight)
    groups = [
        {"params": encoder, "is_encoder": True},
        {"params": others, "is_encoder": False},
    ]
    # the rates are set before each step
    return torch.optim.Adam(groups, lr=0.0, betas=_BETAS, eps=_EPSILON)


def set_rates(optimizer: torch.optim.Optimizer, step: int, config: DecoderConfig) -> None:
    """Set the rates of step `step`, counted from 0."""
    for group in optimizer.param_groups:
        if group["is_encoder"]:
            rate, warmup_steps = config.encoder_rate, config.encoder_warmup_steps
        else:
            rate, warmup_steps = config.decoder_rate, config.decoder_warmup_steps
        group["lr"] = learning_rate(step + 1, rate, warmup_steps)


def learning_rate(step: int, rate: float, warmup_steps: int) -> float:
    """Equations 6 and 7 of the paper, for step `step`, counted from 1."""
    return float(rate * min(step**-0.5, step * warmup_steps**-1.5))
