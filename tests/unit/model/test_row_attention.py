"""Attention in rows against that of each sequence alone, and what training makes of it."""

import random

import pytest
import torch
from helpers import tiny
from torch import Tensor

from bertsum.model.attention import packed
from bertsum.model.attention.packed import encode_packed
from bertsum.model.attention.rows import Rows, attend_in_rows, fill_rows

HEADS, SIZE = 3, 8
LENGTHS = [
    [5],
    [1, 1, 127, 128],
    sorted(random.Random(0).choices(range(1, 129), k=60)),
    [3, 30, 129, 400],
]


@pytest.mark.parametrize("lengths", LENGTHS, ids=len)
def test_each_token_has_a_place_beside_its_own_sequence(lengths: list[int]) -> None:
    rows = Rows.of(lengths)
    count, _, length, _ = rows.mask.shape
    assert length % 64 == 0
    assert lengths[-1] <= length < max(128, lengths[-1] + 64) + 1
    assert len(set(rows.places.tolist())) == sum(lengths)
    for places in torch.split(rows.places, lengths):
        row, columns = places // length, places % length
        assert len(set(row.tolist())) == 1
        assert columns.tolist() == list(range(int(columns[0]), int(columns[0]) + len(columns)))
        seen = rows.mask[row[0], 0, columns] == 0  # [tokens, L]
        assert seen.sum() == len(places) ** 2
        assert seen[:, columns].all()
    assert not rows.mask.isinf().all(-1).any()  # not even an empty place sees nothing
    values = torch.arange(1, 1 + sum(lengths))
    spread = rows.spread(values)
    assert len(spread) == count * length
    assert torch.equal(spread[rows.places], values)
    assert spread.sum() == values.sum()


def test_rows_are_as_full_as_they_can_be() -> None:
    assert fill_rows([1, 2, 2, 3, 4, 6], 6) == [[5], [4, 2], [3, 1, 0]]
    lengths = sorted(random.Random(1).choices(range(3, 129), k=400))
    assert len(fill_rows(lengths, 128)) < 1.03 * sum(lengths) / 128 + 1


@pytest.mark.parametrize("size", [1.0, 40.0, 1e4])
@pytest.mark.parametrize("lengths", LENGTHS, ids=len)
def test_attention_and_gradients_are_those_of_each_sequence(
    lengths: list[int], size: float
) -> None:
    """Also where exponentials of the scores overflow: bfloat16 rounds such scores by dozens."""
    generator = torch.Generator().manual_seed(2)
    rows = Rows.of(lengths)
    num_places = rows.mask.shape[0] * rows.mask.shape[2]

    def random_rows(scale: float = 1.0) -> Tensor:
        values = torch.randn(num_places, HEADS * SIZE, generator=generator) * scale
        return values.to(torch.bfloat16).requires_grad_()

    inputs = (random_rows(size), random_rows(), random_rows())
    weight = random_rows().detach()
    found = attend_in_rows(inputs, rows, HEADS)[rows.places]
    found_gradients = torch.autograd.grad((found * weight[rows.places]).sum(), inputs)

    exact = [rows_.detach().double().requires_grad_() for rows_ in inputs]
    attended = []
    for places in torch.split(rows.places, lengths):
        query, key, value = (
            part[places].view(len(places), HEADS, SIZE).transpose(0, 1) for part in exact
        )
        weights = torch.softmax(query @ key.transpose(1, 2) / SIZE**0.5, -1)
        attended.append((weights @ value).transpose(0, 1).flatten(1))
    expected = torch.cat(attended)
    expected_gradients = torch.autograd.grad((expected * weight[rows.places].double()).sum(), exact)
    tolerance = {1.0: 0.02, 40.0: 0.1, 1e4: 0.2}[size]
    assert (found - expected).norm() < tolerance * expected.norm()
    for gradient, exact_gradient in zip(found_gradients, expected_gradients, strict=True):
        assert gradient.isfinite().all()
        if size == 1:  # else the softmax is nearly a choice, whose gradient is rounding
            difference = (gradient[rows.places] - exact_gradient[rows.places]).norm()
            assert difference <= 0.03 * exact_gradient.norm() + 1e-2


def learned(
    kind: str,
    is_recomputed: bool,
    *,
    is_half: bool = True,
    training: bool = True,
    **changes: object,
) -> dict[str, Tensor]:
    """Hidden states of two layers, and the gradients of all weights, by name."""
    encoder = tiny.encoder(kind, **changes).train(training)
    if is_recomputed:
        encoder.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
    lengths = sorted(random.Random(3).choices(range(2, 60), k=20))
    ids = torch.randint(4, 300, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        last, kept = encode_packed(encoder, ids, torch.zeros_like(ids), lengths, layers=(0, 1))
        weights = torch.linspace(-1, 1, last.numel()).view(last.shape)
        sum((states.float() * weights).sum() for states in (last, *kept)).backward()
    found = {"last": last.detach(), "first": kept[0].detach(), "second": kept[1].detach()}
    for name, weight in encoder.named_parameters():
        if weight.grad is not None:
            found[name] = weight.grad
    return found


@pytest.mark.parametrize("is_recomputed", [False, True])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_an_encoder_learns_in_rows_as_in_blocks(
    monkeypatch: pytest.MonkeyPatch, kind: str, is_recomputed: bool
) -> None:
    made = []
    monkeypatch.setattr(packed, "attend_in_rows", lambda *a: made.append(a) or attend_in_rows(*a))
    found = learned(kind, is_recomputed)
    assert made
    made.clear()
    exact = learned(kind, is_recomputed, is_half=False)
    monkeypatch.setattr(packed, "_learns_in_rows", lambda *_: False)
    in_blocks = learned(kind, is_recomputed)
    assert not made
    assert found.keys() == exact.keys() == in_blocks.keys()
    for part in ("last", "first", "second", "encoder.layer.0", "encoder.layer.1", "embeddings"):
        names = [name for name in exact if name.startswith(part)]
        values, of_rows, of_blocks = (
            torch.cat([results[name].flatten().float() for name in names])
            for results in (exact, found, in_blocks)
        )
        # scores are rounded before their exponentials, as in inference
        assert (of_rows - values).norm() < 2 * (of_blocks - values).norm() + 1e-3 * values.norm()


@pytest.mark.parametrize(("longest", "is_in_rows"), [(256, True), (257, False)])
def test_long_sequences_are_left_to_sdpa(
    monkeypatch: pytest.MonkeyPatch, longest: int, is_in_rows: bool
) -> None:
    made = []
    monkeypatch.setattr(packed, "attend_in_rows", lambda *a: made.append(a) or attend_in_rows(*a))
    encoder = tiny.encoder(max_position_embeddings=300)
    ids = torch.ones(longest + 3, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        encode_packed(encoder, ids, torch.zeros_like(ids), [3, longest])
    assert bool(made) == is_in_rows


@pytest.mark.parametrize("changes", [{"training": False}, {"attention_probs_dropout_prob": 0.1}])
def test_dropout_decides_while_it_drops(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    made = []
    monkeypatch.setattr(packed, "attend_in_rows", lambda *a: made.append(a) or attend_in_rows(*a))
    learned("bert", False, **({"attention_probs_dropout_prob": 0.1} | changes))
    assert bool(made) == ("training" in changes)
