"""A model as the difference to an encoder that it was trained from: what a delta checkpoint holds.

That is the heads, and for each weight of the encoder that differs a low-rank product or, for a
vector, the difference itself. Matrices are of whole numbers, a byte each, that a scale of their row
or, in a left factor, of their column is to be multiplied by. At the same size a factor has twice
the rank that half precision would leave it, which loses less. All else is in half precision. The
matrix of the embedding is of whole numbers by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from bertsum.checkpoints.config import WEIGHTS_FILE, BaseEncoder
from bertsum.checkpoints.size_checks import Shapes
from bertsum.errors import ModelError

Value = TypeVar("Value")
_ENCODER = "encoder."
_EMBEDDING_WEIGHT = "embedding.weight"
MAX_WHOLE_WEIGHT = 127  # of a matrix in bytes
_LEFT, _RIGHT, _DIFFERENCE = ".delta_left", ".delta_right", ".delta"
_SCALE = ".scale"
_SMALL = 4096  # numbers: a matrix of fewer is in half precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The difference of a model to its base encoder.

    `weights`: what the file holds.
    `merged`: what comes of it at load time: all weights of the model, float32.
    `lost`: the largest relative error that the rank costs a weight: Frobenius norm of what is lost
        over that of the difference. 0 when the weights were trained as a low-rank delta. Rounding
        costs about 0.01 besides.
    """

    base: BaseEncoder
    weights: dict[str, Tensor]
    merged: dict[str, Tensor]
    lost: float


def delta_of(
    model: Mapping[str, Tensor],
    encoder: Mapping[str, Tensor],
    base: BaseEncoder,
    rank: int,
    *,
    encoder_delta: Mapping[str, Tensor] | None = None,
) -> Delta:
    """Compute the delta at `rank` between the weights of a model and those of the base encoder.

    `model`: all weights of the model.
    `encoder`: weights of the same shapes, by the same names without `encoder.`. It may have more,
        which no model reads.
    `encoder_delta`: what the encoder is known to differ by, as the file of a delta holds it. It is
        taken as it is: computed anew it would be rounded once more.
    """
    weights = dict(encoder_delta or {})
    originals: dict[str, Tensor] = {}
    worst = 0.0
    for name, tensor in model.items():
        if not name.startswith(_ENCODER):
            head = tensor.detach().cpu()
            whole = head.to(torch.int8)
            is_whole = name == _EMBEDDING_WEIGHT and torch.equal(whole.float(), head)
            weights |= {name: whole} if is_whole else _rounded(name, head)
            continue
        original = originals[name] = encoder[name.removeprefix(_ENCODER)]
        if encoder_delta is not None:
            continue
        difference = tensor.detach().cpu().float() - original
        if not difference.any():  # of a frozen weight nothing is written
            continue
        if difference.dim() == 2:
            left, right, loss = _factor(difference, rank)
            worst = max(worst, loss)
            weights |= _rounded(name + _LEFT, left, dim=0) | _rounded(name + _RIGHT, right)
        else:
            weights[name + _DIFFERENCE] = difference.half()
    merged = apply_delta(originals, weights)
    return Delta(base=base, weights=weights, merged=merged, lost=worst)


def apply_delta(encoder: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add a delta to the weights of the base encoder; return all weights of the model, float32.

    `encoder`: weights of the base encoder, by the names that they have in the model.
    `weights`: what the file of the delta holds.

    Raises ModelError for a weight that does not fit.
    """
    merged = dict(encoder)
    numbers = _numbers(weights)
    for name, tensor in numbers.items():
        # `encoder.x.weight.delta_left` and `..._right` are for `encoder.x.weight`
        target = name.removesuffix(_LEFT).removesuffix(_RIGHT).removesuffix(_DIFFERENCE)
        try:
            if name.endswith(_LEFT):  # [out, rank] @ [rank, in]
                product = tensor @ numbers[target + _RIGHT]
                merged[target] = _add(merged[target], product)
            elif name.endswith(_DIFFERENCE):
                merged[target] = _add(merged[target], tensor)
            elif name.endswith(_RIGHT):
                _ = numbers[target + _LEFT]  # which adds the product of both
            else:
                merged[name] = tensor
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"{WEIGHTS_FILE}: {name} does not fit the base encoder: {error}"
            ) from error
    return merged


def encoder_part(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the file of a delta holds of the encoder."""
    return {name: weight for name, weight in weights.items() if name.startswith(_ENCODER)}


def rank_of(shapes: Shapes) -> int:
    """The largest rank of a weight of a delta, from the shapes of its weights."""
    rank = 0
    for name, shape in shapes.items():
        if name.endswith(_LEFT) and len(shape) == 2:  # [out, rank]
            rank = max(rank, shape[1])
    return rank


def _rounded(name: str, weight: Tensor, dim: int = 1) -> dict[str, Tensor]:
    """What the file holds of a weight; a matrix has a scale for each row, for each column with 0.

    A matrix that was rounded before is not changed again.
    """
    if weight.dim() != 2 or weight.numel() < _SMALL:
        return {name: weight.half()}
    largest = weight.float().abs().amax(dim, keepdim=True)
    # Few digits, so that 127 times the scale is exact, and gives the same scale again.
    mantissa, exponent = torch.frexp(largest / MAX_WHOLE_WEIGHT)
    scale = torch.ldexp((mantissa * 2048).ceil() / 2048, exponent)
    scale = torch.where(scale > 0, scale, 1)
    return {name: (weight.float() / scale).round().to(torch.int8), name + _SCALE: scale}


def without_scales(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Weights of a file, or their shapes, without the scales of its matrices."""
    return {
        name: value
        for name, value in weights.items()
        if not (name.endswith(_SCALE) and name.removesuffix(_SCALE) in weights)
    }


def _numbers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a file as float32, matrices times their scales.

    Raises ModelError for a scale that does not fit its matrix.
    """
    numbers = {}
    for name, tensor in without_scales(weights).items():
        numbers[name] = tensor.float()
        scale = weights.get(name + _SCALE)
        if scale is None:
            continue
        if tensor.dim() != 2 or scale.shape not in ((len(tensor), 1), (1, tensor.shape[1])):
            raise ModelError(
                f"{WEIGHTS_FILE}: {name}{_SCALE} is of shape {tuple(scale.shape)}, and its matrix "
                f"of {tuple(tensor.shape)}"
            )
        numbers[name] *= scale.float()
    return numbers


def _add(weight: Tensor, difference: Tensor) -> Tensor:
    if weight.shape != difference.shape:  # else a single number would be added to all
        raise RuntimeError(f"{tuple(difference.shape)}, expected {tuple(weight.shape)}")
    return weight + difference


def _factor(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """[out, in] -> [out, r], [r, in], and the relative error of their product, with r <= rank.

    The largest singular values make the best product of a rank (Eckart & Young 1936).
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = int((values[:rank] > 1e-6 * values[0]).sum())  # smaller ones are rounding errors
    # Half of each value goes to each side, so that neither is too small for half precision.
    root = values[:kept].sqrt()
    # The Frobenius norm of a matrix is that of its singular values.
    lost = float(values[kept:].square().sum().sqrt() / values.square().sum().sqrt())
    return left[:, :kept] * root, root[:, None] * right[:kept], lost
