"""What the matrix of `model.embedding_layers` learns from pairs of texts.

Ridge regression (`embedding`) leads vectors back to those of the encoder before training, as far as
a matrix can. Where it cannot, pairs say which part of the rest matters: a query shall be nearer to
its text than to the texts of other pairs (InfoNCE: van den Oord et al. 2018, equation 4, with the
other pairs of a batch as negatives), and all texts shall stay near the vectors they are led to.
Kept is the mean of the matrices before and after.

Shapes: N texts, E features of a text, H features of its embedding, P pairs, B of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

_STEPS = 200
_LEARNING_RATE = 0.8  # of the size of a weight, as root mean square
_TEXTS, _PAIRS = 1024, 512  # of a step: texts, and pairs of each set
_DROPOUT = 0.3  # of features: there are fewer pairs than weights
_SCALE = 20.0  # of cosines, as logits
_PAIR_WEIGHT = 0.01  # of a set of pairs whose own weight is 1
# of the mean variance, added to that of each direction: rare ones must not become large
_FLOOR = 1e-3
Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A set of pairs, as indices of texts: `queries` [P] and `texts` [P]."""

    queries: Indices
    texts: Indices
    weight: float = 1.0  # of its loss

    def select(self, is_kept: npt.NDArray[np.bool_]) -> "Pairs":
        """Those of a mask [P]."""
        return replace(self, queries=self.queries[is_kept], texts=self.texts[is_kept])


def learn_from_pairs(
    x: Matrix, y: Matrix, first: tuple[Matrix, Matrix], pairs: Sequence[Pairs], *, seed: int
) -> tuple[Matrix, Matrix]:
    """Learn the weight [H, E] and bias [H] of x @ weight.T + bias.

    - `x` [N, E]: features of all texts.
    - `y` [N, H]: the vectors, of length 1, that their embeddings shall stay near.
    - `first`: the weight and bias to go on from.

    The same arguments give the same numbers on one machine.
    """
    weight, bias = first
    generator = torch.Generator().manual_seed(seed)
    # Features of unit variance that do not correlate: one learning rate then fits all directions.
    mean = x.mean(0)
    centred = x - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(x))
    sizes = np.sqrt(variances.clip(0) + _FLOOR * variances.mean())
    features = torch.from_numpy((centred @ (directions / sizes)).astype(np.float32))
    wanted = torch.from_numpy(y.astype(np.float32))
    learned = torch.from_numpy(((directions * sizes).T @ weight.T).astype(np.float32))  # [E, H]
    shift = torch.from_numpy((mean @ weight.T + bias).astype(np.float32))
    learned.requires_grad_()
    shift.requires_grad_()
    rate = _LEARNING_RATE * learned.detach().square().mean().sqrt().item()
    optimizer = torch.optim.Adam([learned, shift], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)

    def draw(count: int, number: int) -> Tensor:
        return torch.randint(count, (min(count, number),), generator=generator)

    def embed(indices: Tensor) -> Tensor:
        """[B] -> [B, H] of length 1, with dropout."""
        kept = torch.rand((len(indices), features.shape[1]), generator=generator) >= _DROPOUT
        values = features[indices] * kept / (1 - _DROPOUT)
        return functional.normalize(values @ learned + shift, dim=1)

    for _ in range(_STEPS):
        texts = draw(len(features), _TEXTS)
        loss = 1 - (embed(texts) * wanted[texts]).sum(1).mean()
        for part in pairs:
            drawn = draw(len(part.queries), _PAIRS).numpy()
            queries = torch.from_numpy(part.queries[drawn])
            answers = torch.from_numpy(part.texts[drawn])
            pair_loss = _pair_loss(embed(queries), embed(answers), queries, answers)
            loss = loss + _PAIR_WEIGHT * part.weight * pair_loss
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    matrix = (directions / sizes) @ learned.detach().double().numpy()  # [E, H]
    return _mean_of_maps(first, (matrix.T, shift.detach().double().numpy() - mean @ matrix), x)


def _mean_of_maps(
    first: tuple[Matrix, Matrix], second: tuple[Matrix, Matrix], x: Matrix
) -> tuple[Matrix, Matrix]:
    """The mean of two weights and of two biases, each scaled to vectors of length 1 in the mean.

    Half way between what was fitted and what pairs have taught, most of what pairs bring is there,
    and what they cost elsewhere is not (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    models").
    """
    halves = []
    for weight, bias in (first, second):
        length = np.linalg.norm(x @ weight.T + bias, axis=1).mean()
        halves.append((weight / (2 * length), bias / (2 * length)))
    return halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]


def _pair_loss(queries: Tensor, texts: Tensor, query_ids: Tensor, text_ids: Tensor) -> Tensor:
    """Cross-entropy of the right text for each query, and of the right query for each text.

    `queries` and `texts` [B, H]; the ids [B] say which of them are the same text: the same answer
    of another question is no wrong answer.
    """
    logits = queries @ texts.T * _SCALE
    is_same = (text_ids[:, None] == text_ids) | (query_ids[:, None] == query_ids)
    is_same.fill_diagonal_(False)
    logits = logits.masked_fill(is_same, -torch.inf)
    right = torch.arange(len(logits))
    return functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)


def index_pairs(
    texts: Sequence[str], pairs: Sequence[Sequence[tuple[str, ...]]]
) -> tuple[list[str], list[Pairs]]:
    """Give each distinct text of both an index, in order: the texts, and the pairs as indices."""
    index_of: dict[str, int] = {}
    for text in texts:
        index_of.setdefault(text, len(index_of))
    sets = []
    for part in pairs:
        rows = [[index_of.setdefault(text, len(index_of)) for text in row] for row in part]
        indices = np.array(rows, np.int64).reshape(-1, 2)
        sets.append(Pairs(queries=indices[:, 0], texts=indices[:, 1]))
    return list(index_of), sets


def recalls(vectors: Matrix, sets: Sequence[Pairs]) -> list[float]:
    """Of each set the share of queries to whose vector that of their text is nearest.

    By the cosine, among the texts of the set. `vectors` [N, H], of any length.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    shares = []
    for part in sets:
        texts = np.unique(part.texts)
        nearest = texts[(unit[part.queries] @ unit[texts].T).argmax(1)]
        shares.append(float((nearest == part.texts).mean()))
    return shares
