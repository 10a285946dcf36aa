"""Linear layers whose weights lie in memory as the CPU's products in bfloat16 want them.

`torch.nn.functional.linear` brings the weights into that order at each call, and adds the bias and GELU in passes of
their own. oneDNN, which computes it, can do without: 1.17 times the documents a second of the whole encoder (MiniLM-L6,
Zen 5). These are the operators that `torch.compile` uses, but it would need a C++ compiler on each node.
"""

from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 4096  # of a product, as model.py cuts them; the order of weights is chosen for about so many


class ReorderedLinear(nn.Linear):
    """The same numbers as the layer that it was made from, for inference. Its weights must not change afterwards."""

    def __init__(self, linear: nn.Linear):
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias  # the same names: checkpoints can be saved
        self._reordered = _operators()._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def forward(self, input: Tensor, activation: str = "none") -> Tensor:
        """[..., in] -> [..., out]. `activation`: none, relu or gelu."""
        algorithm = "none" if activation == "gelu" else ""  # of GELU: the exact one
        found: Tensor = _operators()._linear_pointwise(input, self._reordered, self.bias, activation, [], algorithm)
        return found

    def plus(self, input: Tensor, other: Tensor) -> Tensor:
        """The output with `other`, [..., out], added to it in the same pass."""
        found: Tensor = _operators()._linear_pointwise.binary(input, other, self._reordered, self.bias, "add")
        return found


def reorder_weights(module: nn.Module) -> None:
    """Put a ReorderedLinear in place of each linear layer, where the CPU and this build of torch can."""
    if not (hasattr(_operators(), "_linear_pointwise") and _operators()._is_mkldnn_bf16_supported()):
        return
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16:
                setattr(parent, name, ReorderedLinear(child))


def _operators() -> Any:
    return torch.ops.mkldnn
