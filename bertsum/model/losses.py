"""Losses as sums.

The caller adds them over batches and workers and divides once, by the global count of labels: a
mean of means would weigh the documents of a small batch more. The host waits for no device here.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor

from bertsum.model.transfer import to_device
from bertsum.text.ragged import run_numbers

IGNORE = -1  # label of a sentence or document that is not labelled


def summary_loss(sentence_logits: Tensor, sentence_labels: Tensor) -> Tensor:
    """[] summed binary cross-entropy, in nats, of [S] logits against [S] labels in [0, 1].

    Sentences labelled IGNORE are left out. Labels may be soft.
    """
    labels = sentence_labels.float().clamp(min=0)  # an unknown one is any number, and left out
    losses = F.binary_cross_entropy_with_logits(sentence_logits, labels, reduction="none")
    return losses.where(sentence_labels >= 0, 0).sum()


def candidate_loss(expected: Tensor, rouge: Tensor, counts: Sequence[int]) -> Tensor:
    """[] squared error of what is expected of candidates: a mean over those of a document, summed.

    Of both sides the mean over the document's candidates is subtracted first: which of them is
    better matters, and not how good all are.

    `expected`, `rouge`: [N] of all candidates, document after document.
    `counts`: candidates of each document.
    """
    device = expected.device
    documents = to_device(torch.from_numpy(run_numbers(counts)), device)  # [N]
    sizes = to_device(torch.tensor(counts, dtype=torch.float32), device)
    difference = expected - rouge
    means = torch.zeros_like(sizes).index_add(0, documents, difference) / sizes
    errors = (difference - means[documents]).square()
    return (errors / sizes[documents]).sum()


def pair_loss(
    queries: Tensor,
    candidates: Tensor,
    right: Tensor,
    is_left_out: Tensor,
    weights: Tensor,
    temperature: float,
) -> Tensor:
    """[] weighted sum of the cross-entropy, in nats, of each query's right candidate among all.

    InfoNCE (van den Oord et al. 2018, equation 4) of cosines.

    - `queries`: [P, H], and `candidates`: [C, H], of length 1.
    - `right`: [P] index of each query's candidate.
    - `is_left_out`: [P, C] candidates that are no wrong answers to the query.
    - `weights`: [P].
    - `temperature`: cosines are divided by it.
    """
    logits = (queries @ candidates.T / temperature).masked_fill(is_left_out, -torch.inf)
    return (weights * F.cross_entropy(logits, right, reduction="none")).sum()


def held_loss(vectors: Tensor, held: Tensor) -> Tensor:
    """[] sum of 1 - cosine of [B, H] vectors and those to hold, all of length 1.

    Rows of zeros have none to hold.
    """
    return (held.any(1).float() - (vectors * held).sum(1)).sum()


def class_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """[] summed cross-entropy, in nats, of [N, C] logits against [N] class indices.

    N are documents or tokens. Those labelled IGNORE are left out.
    """
    return F.cross_entropy(
        logits, labels, ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing
    )
