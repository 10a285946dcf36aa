"""Losses as sums and counts.

The caller adds them over batches and workers and divides once, by the global count: a mean of means
would weigh the documents of a small batch more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor

IGNORE = -1  # label of a sentence or document that is not labelled


@dataclass(frozen=True, slots=True)
class LossSum:
    """`total`: the summed loss, a scalar in nats. `count`: the number of labelled items in it."""

    total: Tensor
    count: int


def summary_loss(sentence_logits: Tensor, sentence_labels: Tensor) -> LossSum:
    """Binary cross-entropy of [S] logits against [S] labels in [0, 1], soft ones too.

    Sentences labelled IGNORE are left out.
    """
    known = sentence_labels >= 0
    logits, labels = sentence_logits[known], sentence_labels[known].float()
    total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return LossSum(total, int(known.sum()))


def candidate_loss(expected: Sequence[Tensor], rouge: Sequence[Tensor]) -> LossSum:
    """Squared error of what is expected of each document's [N] candidates.

    A mean over candidates, summed over documents. Of both sides the mean over the document's
    candidates is subtracted first: which of them is better matters, and not how good all are.
    """
    errors = []
    for expected_values, values in zip(expected, rouge, strict=True):
        difference = (expected_values - expected_values.mean()) - (values - values.mean())
        errors.append(difference.square().mean())
    return LossSum(torch.stack(errors).sum(), len(errors))


def class_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> LossSum:
    """Cross-entropy of [N, C] logits against [N] class indices, N documents or tokens.

    Those labelled IGNORE are left out.
    """
    known = labels >= 0
    total = F.cross_entropy(
        logits[known], labels[known], reduction="sum", label_smoothing=label_smoothing
    )
    return LossSum(total, int(known.sum()))
