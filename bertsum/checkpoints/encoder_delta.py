"""A model as the difference to an encoder that it was trained from: what a delta checkpoint holds.

The heads as they are, and for each weight of the encoder that differs a low-rank product or, for a vector, the
difference itself, all in half precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bertsum.checkpoints.config import WEIGHTS_FILE, BaseEncoder
from bertsum.checkpoints.size_checks import Shapes
from bertsum.errors import ModelError

_ENCODER = "encoder."
_LEFT, _RIGHT, _DIFFERENCE = ".delta_left", ".delta_right", ".delta"


@dataclass(frozen=True, slots=True)
class Delta:
    """`weights` is what the file holds, `merged` what comes of it at load time: all weights of the model, float32."""

    base: BaseEncoder
    weights: dict[str, Tensor]
    merged: dict[str, Tensor]
    lost: float


def delta_of(model: Mapping[str, Tensor], encoder: Mapping[str, Tensor], base: BaseEncoder, rank: int) -> Delta:
    """The delta at `rank` between the weights of a model and those of the base encoder.

    `encoder`: weights of the same shapes, by the same names without `encoder.`; it may have more, which no model reads.

    `lost`: the largest relative error that the rank costs a weight (Frobenius norm of what is lost over that of the
    difference): 0 up to rounding when the weights were trained as a low-rank delta.
    """
    weights: dict[str, Tensor] = {}
    originals: dict[str, Tensor] = {}
    worst = 0.0
    for name, tensor in model.items():
        if not name.startswith(_ENCODER):
            weights[name] = tensor.detach().cpu().half()
            continue
        original = originals[name] = encoder[name.removeprefix(_ENCODER)]
        difference = tensor.detach().cpu().float() - original
        if not difference.any():
            continue
        if difference.dim() == 2:
            left, right, loss = _factor(difference, rank)
            worst = max(worst, loss)
            weights[name + _LEFT], weights[name + _RIGHT] = left.half(), right.half()
        else:
            weights[name + _DIFFERENCE] = difference.half()
    return Delta(base, weights, apply_delta(originals, weights), worst)


def apply_delta(encoder: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights of the model, float32: the base encoder's with the delta added, and the heads.

    `encoder`: by the names that they have in the model. Raises ModelError for a weight that does not fit.
    """
    merged = dict(encoder)
    for name, tensor in weights.items():
        target = name.removesuffix(_LEFT).removesuffix(_RIGHT).removesuffix(_DIFFERENCE)
        try:
            if name.endswith(_LEFT):
                merged[target] = _add(merged[target], tensor.float() @ weights[target + _RIGHT].float())
            elif name.endswith(_DIFFERENCE):
                merged[target] = _add(merged[target], tensor.float())
            elif name.endswith(_RIGHT):
                _ = weights[target + _LEFT]  # which adds the product of both
            else:
                merged[name] = tensor.float()
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"{WEIGHTS_FILE}: {name} does not fit the base encoder: {error}") from error
    return merged


def rank_of(shapes: Shapes) -> int:
    """The rank of a delta, from the shapes of its weights."""
    return max((shape[1] for name, shape in shapes.items() if name.endswith(_LEFT) and len(shape) == 2), default=0)


def _add(weight: Tensor, difference: Tensor) -> Tensor:
    if weight.shape != difference.shape:  # else a single number would be added to all
        raise RuntimeError(f"{tuple(difference.shape)}, expected {tuple(weight.shape)}")
    return weight + difference


def _factor(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Best rank-r product for a matrix (Eckart & Young 1936), and the relative error that it leaves."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = int((values[:rank] > 1e-6 * values[0]).sum())
    root = values[:kept].sqrt()
    lost = float(values[kept:].square().sum().sqrt() / values.square().sum().sqrt())
    return left[:, :kept] * root, root[:, None] * right[:kept], lost
