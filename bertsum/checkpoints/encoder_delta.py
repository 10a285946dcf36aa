"""A model as the difference to an encoder that it was trained from: what a delta checkpoint holds.

That is the heads as they are, and for each weight of the encoder that differs a low-rank product
or, for a vector, the difference itself, all in half precision. The matrix of the embedding is of
whole numbers, in a byte each.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bertsum.checkpoints.config import WEIGHTS_FILE, BaseEncoder
from bertsum.checkpoints.size_checks import Shapes
from bertsum.errors import ModelError

_ENCODER = "encoder."
_EMBEDDING_WEIGHT = "embedding.weight"
MAX_WHOLE_WEIGHT = 127  # of a matrix in bytes
_LEFT, _RIGHT, _DIFFERENCE = ".delta_left", ".delta_right", ".delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The difference of a model to its base encoder.

    `weights`: what the file holds.
    `merged`: what comes of it at load time: all weights of the model, float32.
    `lost`: the largest relative error that the rank costs a weight: Frobenius norm of what is lost
        over that of the difference. 0 up to rounding when the weights were trained as a low-rank
        delta.
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
            weights[name] = whole if is_whole else head.half()
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
            weights[name + _LEFT], weights[name + _RIGHT] = left.half(), right.half()
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
    for name, tensor in weights.items():
        # `encoder.x.weight.delta_left` and `..._right` are for `encoder.x.weight`
        target = name.removesuffix(_LEFT).removesuffix(_RIGHT).removesuffix(_DIFFERENCE)
        try:
            if name.endswith(_LEFT):  # [out, rank] @ [rank, in]
                product = tensor.float() @ weights[target + _RIGHT].float()
                merged[target] = _add(merged[target], product)
            elif name.endswith(_DIFFERENCE):
                merged[target] = _add(merged[target], tensor.float())
            elif name.endswith(_RIGHT):
                _ = weights[target + _LEFT]  # which adds the product of both
            else:
                merged[name] = tensor.float()
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
