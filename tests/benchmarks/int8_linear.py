"""Linear layers that multiply whole numbers of 8 bits, as CPUs with VNNI do fast.

Nothing of the product uses them.

With x = low + step q for a token, and whole numbers V with W = scale V for each output,

    W x + b = step scale (V q) + low (sum of W) + b

Each token has its own range. Each input is divided by a factor that its weights are multiplied
with, so that inputs and weights are about equally far from even (SmoothQuant, Xiao et al. 2023).
Weights and inputs are a byte each, or two, as a recipe says; a second byte takes another product.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bertsum.model.attention.packed import encode_packed

# Tokens that show how large each input is. With random ones hidden states came about as near to
# float32's as with texts.
_WINDOWS, _WINDOW_TOKENS = 16, 64
_ROWS = 4096  # of a product, as bert_sum.py cuts them, for which the order of weights is best
_LEAST = 1e-20  # of a range: a token of zeros must not be divided by 0
_NO_ZERO_POINT, _NO_SCALE = 0, 1.0
_SIGN_BIT = 128


@dataclass(frozen=True)
class Recipe:
    """Which layers have two bytes for a weight, and for an input.

    A layer that narrows is the second one of a feed-forward network. Its inputs come from GELU,
    which makes a few of them far larger than the rest.
    """

    smooth: bool = True
    wide_weights: bool = False
    wide_narrowing: bool = False  # inputs and weights of layers that narrow
    wide_inputs: bool = False


RECIPES = {
    "int8, not smoothed": Recipe(smooth=False),
    "int8": Recipe(),
    "int8, FFN output of 2 bytes": Recipe(wide_narrowing=True),
    "int8, weights of 2 bytes": Recipe(wide_narrowing=True, wide_weights=True),
    "int8, all of 2 bytes": Recipe(wide_narrowing=True, wide_weights=True, wide_inputs=True),
}


class Int8Linear(nn.Module):
    """The numbers of the layer that it was made from, but for rounding."""

    def __init__(self, linear: nn.Linear, sizes: Tensor, recipe: Recipe) -> None:
        """`sizes`: [in] root mean square of each input."""
        super().__init__()
        narrows = linear.in_features > linear.out_features
        self.bias, weight = linear.bias.detach(), linear.weight.detach()
        self._inverses: Tensor | None = None
        if recipe.smooth:
            factors = sizes / weight.square().mean(0).sqrt().clamp(min=_LEAST)
            factors = factors.sqrt().clamp(min=_LEAST)
            self._inverses, weight = 1 / factors, weight * factors  # [in], [out, in]
        self._scale = weight.abs().amax(1).clamp(min=_LEAST) / 127  # [out]
        whole = weight / self._scale[:, None]
        high = whole.round()
        self._high, kept = _prepack(high), high
        self._zero_points = torch.zeros(len(high), dtype=torch.int32)
        self._low: Tensor | None = None
        if recipe.wide_weights or (narrows and recipe.wide_narrowing):
            # what rounding has left, at most half a step, in steps that are 254 times smaller
            low = ((whole - high) * 254).round()
            self._low, self._low_scale, kept = _prepack(low), self._scale / 254, high + low / 254
        self._sums = (kept * self._scale[:, None]).sum(1)  # [out]
        self._has_wide_inputs = recipe.wide_inputs or (narrows and recipe.wide_narrowing)

    def forward(self, values: Tensor) -> Tensor:
        """[N, in] -> [N, out] float32."""
        values = values.clone() if self._inverses is None else values * self._inverses
        # two passes, since `aminmax` along rows takes ten times as long
        low = values.amin(1, keepdim=True).clamp_(max=0)
        high = values.amax(1, keepdim=True).clamp_(min=0)
        steps = 65535.0 if self._has_wide_inputs else 255.0
        step = (high - low).div_(steps).clamp_(min=_LEAST)
        inverse = 1 / step
        # Signed numbers, since torch is three times slower at making unsigned ones; the other sign
        # bit makes them begin at 0: -128 becomes 0, and 127 becomes 255.
        values.mul_(inverse).sub_((steps + 1) / 2 + low * inverse).round_()
        if self._has_wide_inputs:
            parts = values.to(torch.int16).view(torch.uint8).view(*values.shape, 2)
            whole, unit = parts[:, :, 1].contiguous().bitwise_xor_(_SIGN_BIT), 256.0
            products = self._multiply(whole, unit)
            # the product of the two small parts would change nothing
            self._add(products, parts[:, :, 0].contiguous(), 1.0, self._high, self._scale)
        else:
            whole, unit = values.to(torch.int8).view(torch.uint8).bitwise_xor_(_SIGN_BIT), 1.0
            products = self._multiply(whole, unit)
        if self._low is not None:
            self._add(products, whole, unit, self._low, self._low_scale)
        return products.mul_(step).addcmul_(low, self._sums).add_(self.bias)

    def _multiply(self, whole: Tensor, unit: float) -> Tensor:
        """[N, in] uint8, in steps of `unit` -> [N, out] float32, by the weights' large part."""
        output: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(whole, unit, _NO_ZERO_POINT, self._high, self._scale, self._zero_points, None),
            *(_NO_SCALE, _NO_ZERO_POINT, torch.float32, "none", [], ""),
        )
        return output

    def _add(
        self, products: Tensor, whole: Tensor, unit: float, weight: Tensor, scale: Tensor
    ) -> None:
        """Add another product to `products`, in the same pass."""
        torch.ops.onednn.qlinear_pointwise.binary(
            *(whole, unit, _NO_ZERO_POINT, weight, scale, self._zero_points, products, None),
            *(_NO_SCALE, _NO_ZERO_POINT, torch.float32, _NO_SCALE, _NO_ZERO_POINT, "sum", 1.0),
            *("none", [], ""),
        )


def to_int8(encoder: Any, recipe: Recipe) -> None:
    """Replace the linear layers of a float32 encoder of BERT's family."""
    linears = {name: m for name, m in encoder.named_modules() if type(m) is nn.Linear}
    sizes = _input_sizes(encoder, linears)
    for name, linear in linears.items():
        parent, _, child = name.rpartition(".")
        setattr(encoder.get_submodule(parent), child, Int8Linear(linear, sizes[name], recipe))


def _input_sizes(encoder: Any, linears: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    """[in] root mean square of each input of each layer, where random tokens are encoded."""
    sizes: dict[str, Tensor] = {}

    def keep(name: str, _: nn.Module, inputs: tuple[Tensor]) -> None:
        sizes[name] = inputs[0].square().mean(0).sqrt()

    hooks = [m.register_forward_pre_hook(partial(keep, name)) for name, m in linears.items()]
    generator = torch.Generator().manual_seed(0)
    num_words = len(encoder.embeddings.word_embeddings.weight)
    tokens = torch.randint(0, num_words, (_WINDOWS * _WINDOW_TOKENS,), generator=generator)
    with torch.inference_mode():
        encode_packed(encoder, tokens, torch.zeros_like(tokens), [_WINDOW_TOKENS] * _WINDOWS)
    for hook in hooks:
        hook.remove()
    return sizes


def _prepack(whole: Tensor) -> Tensor:
    """Bring [out, in] whole numbers into the order that the products want."""
    rows = [_ROWS, whole.shape[1]]
    packed: Tensor = torch.ops.onednn.qlinear_prepack(whole.to(torch.int8), rows)
    return packed
