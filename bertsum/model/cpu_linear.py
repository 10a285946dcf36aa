"""Linear layers whose weights are in memory in the order that the CPU's products in bfloat16 want.

`torch.nn.functional.linear` brings the weights into that order at each call, and adds the bias and
GELU in passes of their own. oneDNN, which computes it, can do without: 1.17 times the documents a
second of the whole encoder (MiniLM-L6, Zen 5). These are the operators that `torch.compile` uses,
but it would need a C++ compiler on each node.
"""

import torch
from torch import Tensor, nn

_ROWS = 4096  # of a product, as bert_sum.py cuts them; the order is best for about so many
_mkldnn = torch.ops.mkldnn  # private operators, as in torch 2.13


class ReorderedLinear(nn.Linear):
    """The same numbers as the layer that it was made from, for inference.

    Its weights must not change afterwards.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        # By the same names as in the original, so that checkpoints can be saved.
        self.weight, self.bias = linear.weight, linear.bias
        self._reordered = _mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def forward(self, input: Tensor, activation: str = "none") -> Tensor:
        """[..., in] -> [..., out]. `activation`: none, relu or gelu."""
        algorithm = "none" if activation == "gelu" else ""  # of GELU: the exact one, not tanh's
        output: Tensor = _mkldnn._linear_pointwise(
            input, self._reordered, self.bias, activation, [], algorithm
        )
        return output

    def plus(self, input: Tensor, other: Tensor) -> Tensor:
        """[..., in], [..., out] -> the output with `other` added to it in the same pass."""
        output: Tensor = _mkldnn._linear_pointwise.binary(
            input, other, self._reordered, self.bias, "add"
        )
        return output


def reorder_weights(module: nn.Module) -> None:
    """Replace each linear layer by a ReorderedLinear, where the CPU and this build of torch can."""
    # A build of torch without oneDNN lacks the operators.
    if not (hasattr(_mkldnn, "_linear_pointwise") and _mkldnn._is_mkldnn_bf16_supported()):
        return
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16:
                setattr(parent, name, ReorderedLinear(child))
