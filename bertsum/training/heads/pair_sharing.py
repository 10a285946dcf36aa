"""The loss of pairs over all batches of a step, on all workers.

Each query is compared with the candidates of the whole step, though no device has all of them at
once. First the vectors of all texts are computed without gradients, and from them the loss and its
gradient by each vector. Then each batch goes through the encoder once more, and passes the gradient
by its vectors on to the weights (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size
under Memory Limited Setup"). So neither the number of workers nor max_micro_batch_tokens changes
what is learned.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bertsum.model.losses import pair_loss
from bertsum.training.data import LabelledBatch
from bertsum.training.distributed import gather, rank
from bertsum.training.heads.pair_texts import PairTexts, join_pairs


@dataclass(frozen=True, slots=True)
class SharedPairs:
    """This worker's batches with the gradients by their vectors, and the loss over all workers."""

    batches: list[LabelledBatch]
    loss: Tensor  # [] a weighted sum


def contrast_loss(vectors: Tensor, pairs: PairTexts, temperature: float) -> Tensor:
    """[] the loss of pairs of [B, H] texts; see `pair_loss`."""
    contrast = pairs.contrast().to(vectors.device)
    return pair_loss(
        vectors[contrast.queries],
        vectors[contrast.candidates],
        right=contrast.right,
        is_left_out=contrast.is_left_out,
        weights=contrast.weights,
        temperature=temperature,
    )


def share_pairs(
    batches: Sequence[LabelledBatch],
    embed: Callable[[LabelledBatch], Tensor],
    temperature: float,
    device: torch.device,
) -> SharedPairs:
    """Give each batch the gradients of the loss over the pairs of all workers.

    Some worker must have a pair, and every worker must call it.

    - `embed`: [B, H] vectors of a batch's texts, of length 1.
    """
    own: list[tuple[PairTexts, Tensor]] = []
    for batch in batches:
        if batch.pairs is not None:
            with torch.no_grad(), same_random_numbers(device):
                own.append((batch.pairs, embed(batch).float().cpu()))
    of_workers = gather(own)
    parts = [part for worker in of_workers for part in worker]
    vectors = torch.cat([part_vectors for _, part_vectors in parts]).to(device).requires_grad_()
    loss = contrast_loss(vectors, join_pairs([pairs for pairs, _ in parts]), temperature)
    (gradient,) = torch.autograd.grad(loss, vectors)
    sizes = [len(part_vectors) for _, part_vectors in parts]
    gradients = iter(torch.split(gradient, sizes))
    for _ in range(sum(map(len, of_workers[: rank()]))):
        next(gradients)  # of the workers before this one
    shared = []
    for batch in batches:
        own_gradient = None if batch.pairs is None else next(gradients)
        shared.append(replace(batch, vector_gradients=own_gradient))
    return SharedPairs(shared, loss.detach())


def same_random_numbers(device: torch.device) -> AbstractContextManager[None]:
    """Leave the random numbers as they are: dropout is the same each time that a batch is read."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])
