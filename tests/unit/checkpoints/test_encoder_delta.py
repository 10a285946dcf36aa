"""Matrices of a delta in bytes: what rounding costs, that it happens once, and wrong scales."""

import pytest
import torch
from torch import Tensor

from bertsum.checkpoints.config import BaseEncoder
from bertsum.checkpoints.encoder_delta import Delta, apply_delta, delta_of, without_scales
from bertsum.errors import ModelError

BASE = BaseEncoder(package="one", file="model.bin", hub_name=None, sha256="0" * 64)
SIZE, RANK = 128, 40  # so that factors are no small matrices
HEAD, WEIGHT = "summarization.layer.weight", "encoder.layer.weight"


def weights(rank: int = RANK) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A model, and the encoder from which it differs by a matrix of a rank."""
    generator = torch.Generator().manual_seed(0)

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator)

    encoder = {"layer.weight": random(SIZE, SIZE), "layer.bias": random(SIZE)}
    # of unlike sizes, as the singular values of what was learned
    difference = 1e-3 * (random(SIZE, rank) * torch.logspace(0, -2, rank)) @ random(rank, SIZE)
    model = {
        WEIGHT: encoder["layer.weight"] + difference,
        "encoder.layer.bias": encoder["layer.bias"] + 0.1,
        HEAD: random(SIZE, SIZE) * torch.logspace(-3, 3, SIZE)[:, None],
        "summarization.layer.bias": random(SIZE),
        "sentiment.classifier.weight": random(3, SIZE),
    }
    return model, encoder


def delta(model: dict[str, Tensor], encoder: dict[str, Tensor], rank: int = RANK) -> Delta:
    return delta_of(model, encoder, BASE, rank)


def num_bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def test_rounding_costs_about_one_percent_of_what_was_learned():
    model, encoder = weights()
    found = delta(model, encoder)
    assert found.lost < 1e-4
    learned = model[WEIGHT] - encoder["layer.weight"]
    error = found.merged[WEIGHT] - model[WEIGHT]
    assert 1e-3 < error.norm() / learned.norm() < 0.02
    # each row of a head within half a step of its own scale, however small the row is
    step = model[HEAD].abs().amax(1, keepdim=True) / 127
    assert ((found.merged[HEAD] - model[HEAD]).abs() <= 0.502 * step).all()
    for name in ("encoder.layer.bias", "summarization.layer.bias", "sentiment.classifier.weight"):
        torch.testing.assert_close(found.merged[name], model[name], rtol=1e-3, atol=1e-3)


def test_at_the_same_size_a_delta_has_twice_the_rank_and_loses_less():
    model, encoder = weights(2 * RANK)
    found = delta(model, encoder, 2 * RANK)
    factors = {name: tensor for name, tensor in found.weights.items() if WEIGHT in name}
    in_half_precision = 2 * RANK * (SIZE + SIZE)
    assert num_bytes(factors) < 1.05 * in_half_precision
    learned = model[WEIGHT] - encoder["layer.weight"]
    error = (found.merged[WEIGHT] - model[WEIGHT]).norm() / learned.norm()
    assert error < delta(model, encoder, RANK).lost


def test_what_was_rounded_is_not_rounded_again():
    model, encoder = weights()
    first = delta(model, encoder)
    merged = first.merged
    known = {name: tensor for name, tensor in first.weights.items() if name.startswith("encoder.")}
    second = delta_of(merged, encoder, BASE, RANK, encoder_delta=known)
    assert second.weights.keys() == first.weights.keys()
    assert all(torch.equal(second.weights[name], first.weights[name]) for name in first.weights)
    assert all(torch.equal(second.merged[name], merged[name]) for name in merged)


def test_a_row_of_zeros_stays_one():
    model, encoder = weights()
    model[HEAD][5] = 0
    assert not delta(model, encoder).merged[HEAD][5].any()


def test_a_wrong_scale_is_named():
    model, encoder = weights()
    named = {f"encoder.{name}": weight for name, weight in encoder.items()}
    held = delta(model, encoder).weights
    assert without_scales(held).keys() | {f"{HEAD}.scale"} <= held.keys()
    for wrong in (torch.ones(SIZE), torch.ones(SIZE, SIZE), torch.ones(SIZE + 1, 1)):
        with pytest.raises(ModelError, match=rf"{HEAD}\.scale is of shape"):
            apply_delta(named, held | {f"{HEAD}.scale": wrong})
    # the scale of no matrix is a weight that no model has, which is told where it is loaded
    lone = apply_delta(named, {"summarization.other.scale": torch.ones(3)})
    assert "summarization.other.scale" in lone
