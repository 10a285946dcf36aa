"""Losses as sums and counts. The caller adds them over batches and workers and divides once, by the global count."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor

IGNORE = -1  # label of a sentence or document that is not labelled


@dataclass(frozen=True, slots=True)
class LossSum:
    """`total`: the summed loss, a scalar in nats; `count`: how many labelled items it is the sum of."""

    total: Tensor
    count: int


def summary_loss(sentence_logits: Tensor, sentence_labels: Tensor) -> LossSum:
    """Binary cross-entropy of [S] logits against [S] labels in [0, 1] (soft labels allowed); IGNORE is left out."""
    known = sentence_labels >= 0
    logits, labels = sentence_logits[known], sentence_labels[known].float()
    return LossSum(F.binary_cross_entropy_with_logits(logits, labels, reduction="sum"), int(known.sum()))


def candidate_loss(expected: Sequence[Tensor], rouge: Sequence[Tensor]) -> LossSum:
    """Squared error of what is expected of each document's [N] candidates, less what they have in common.

    A mean over candidates, summed over documents: which of them is better matters, and not how good all are.
    """
    errors = [((a - a.mean()) - (b - b.mean())).square().mean() for a, b in zip(expected, rouge, strict=True)]
    return LossSum(torch.stack(errors).sum(), len(errors))


def class_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> LossSum:
    """Cross-entropy of [N, C] logits against [N] class indices; IGNORE is left out. N documents, or tokens."""
    known = labels >= 0
    total = F.cross_entropy(logits[known], labels[known], reduction="sum", label_smoothing=label_smoothing)
    return LossSum(total, int(known.sum()))
