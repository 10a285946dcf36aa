"""An optimizer step over batches and workers, the schedule of its rates, the average of weights."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bertsum.inference.arguments import choose_dtype
from bertsum.model.bert_sum import BertSum, Logits
from bertsum.model.losses import candidate_loss, class_loss, held_loss, summary_loss
from bertsum.model.transfer import to_device
from bertsum.model_config import ModelConfig
from bertsum.training.adapters import HalfFactors
from bertsum.training.config import TrainingConfig
from bertsum.training.data import LabelledBatch, labelled_candidates
from bertsum.training.distributed import rank, sum_over_workers, world_size
from bertsum.training.heads.pair_sharing import (
    SharedPairs,
    contrast_loss,
    same_random_numbers,
    share_pairs,
)
from bertsum.training.heads.pair_texts import PairTexts
from bertsum.training.summaries import schedule

CLASS_HEADS = ("sentiment", "topic", "token_sentiment")
# in the order of the sums of `LossModule`
LOSSES = ("summary", *CLASS_HEADS, "candidate", "pair", "held")
DIVERGED_ADVICE = (
    "; the same steps would end so again, so lower encoder_learning_rate and head_learning_rate, "
    "or with a decoder the rates below it"
)


def head_labels(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Labels of each of CLASS_HEADS; empty for a head that the model does not have."""
    return {
        "sentiment": config.sentiment_labels,
        "topic": config.topic_labels,
        "token_sentiment": config.token_sentiment_labels,
    }


def head_logits(logits: Logits) -> dict[str, Tensor | None]:
    """Logits of each of CLASS_HEADS; None for a head that the model does not have."""
    return {
        "sentiment": logits.sentiment_logits,
        "topic": logits.topic_logits,
        "token_sentiment": logits.token_sentiment_logits,
    }


class SummedLosses(nn.Module, ABC):
    """Batch -> summed losses, of which each is divided once, by the count over all batches.

    All in one `forward`, as DistributedDataParallel needs it. `names`: of the losses, in order.
    """

    names: Sequence[str]

    @abstractmethod
    def forward(self, batch: LabelledBatch | None) -> Tensor:
        """[losses] sums. None, the batch of a worker without rows in this step, gives zeros."""

    @abstractmethod
    def count_labels(self, batches: Iterable[LabelledBatch], device: torch.device) -> Tensor:
        """[losses] labelled items of all batches."""

    @abstractmethod
    def loss_weights(self, device: torch.device) -> Tensor:
        """[losses] factors of the losses."""

    def zeros(self) -> Tensor:
        """[losses] zeros that depend on every weight, so that its gradient is 0 and not missing.

        The other workers wait for this worker's gradients.
        """
        sums = [weight.sum() for weight in self.parameters() if weight.requires_grad]
        total = torch.stack(sums).sum()
        return 0 * total * total.new_ones(len(self.names))


class LossModule(SummedLosses):
    """Batch -> the summed loss of each head of BERTSUM."""

    names = LOSSES

    def __init__(self, model: BertSum, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.dtype = config.dtype
        self._factors = HalfFactors(model)
        self.label_smoothing = config.label_smoothing
        self.pair_temperature = config.pair_temperature

    def forward(self, batch: LabelledBatch | None) -> Tensor:
        """[losses] sums. None, the batch of a worker without rows in this step, gives zeros."""
        if batch is None:
            return self.zeros()
        device = batch.batch.input_ids.device
        is_half = choose_dtype(self.dtype, device) == torch.bfloat16
        with self._factors.cast() if is_half and batch.vectors is None else nullcontext():
            logits = forward_batch(self.model, batch, self.dtype)
        total = summary_loss(logits.sentence_logits.float(), batch.sentence_labels)
        losses, nothing = [total], torch.zeros_like(total)
        for head, values in head_logits(logits).items():
            smoothing = self.label_smoothing if head == "sentiment" else 0.0
            if values is None:
                losses.append(nothing)
            else:
                labels = batch.class_labels[head]
                losses.append(class_loss(values.float(), labels, smoothing))
        losses.append(self._candidate_loss(logits, batch))
        of_pairs, of_held = nothing, nothing
        if logits.document_vectors is not None:
            vectors = logits.document_vectors.float()
            if batch.pairs is not None:
                of_pairs = self._pair_loss(vectors, batch, batch.pairs)
            if batch.held_vectors is not None:
                of_held = held_loss(vectors, batch.held_vectors)
        return torch.stack([*losses, of_pairs, of_held])

    def _pair_loss(self, vectors: Tensor, batch: LabelledBatch, pairs: PairTexts) -> Tensor:
        """The summed loss of pairs, from [B, H] vectors.

        Where a step has pairs in several batches, it is another number of the same gradient
        (`heads/pair_sharing`).
        """
        if batch.vector_gradients is not None:
            return (vectors * batch.vector_gradients).sum()
        return contrast_loss(vectors, pairs, self.pair_temperature)

    def _candidate_loss(self, logits: Logits, batch: LabelledBatch) -> Tensor:
        """The summed loss of the network that ranks candidates.

        The sentence scores that it reads do not learn from it.
        """
        ranker = self.model.candidates
        if ranker is None:
            return logits.sentence_logits.new_zeros(())
        scores = logits.sentence_logits.detach().float().sigmoid().cpu().numpy()
        device = logits.sentence_logits.device
        labelled = labelled_candidates(batch, scores, ranker)
        if not labelled:  # a batch without summaries: zero gradients, as in `zeros`
            return 0 * torch.stack([weight.sum() for weight in ranker.parameters()]).sum()
        features = torch.from_numpy(np.concatenate([features for features, _ in labelled]))
        rouge = torch.from_numpy(np.concatenate([values for _, values in labelled]))
        counts = [len(values) for _, values in labelled]
        expected = ranker(to_device(features, device))
        return candidate_loss(expected, to_device(rouge, device), counts)

    def count_labels(self, batches: Iterable[LabelledBatch], device: torch.device) -> Tensor:
        """[losses] labelled items of all batches: of pairs their weights."""
        counts = torch.zeros(len(LOSSES), device=device)
        for batch in batches:
            labels = [batch.sentence_labels, *map(batch.class_labels.__getitem__, CLASS_HEADS)]
            summaries = counts.new_tensor(sum(bool(example.summary) for example in batch.examples))
            pairs = counts.new_tensor(0.0 if batch.pairs is None else batch.pairs.weights.sum())
            held = counts.new_zeros(())
            if batch.held_vectors is not None:
                held = batch.held_vectors.any(1).sum()
            # IGNORE, the label of what has none, is below zero
            known = [(values >= 0).sum() for values in labels]
            counts += torch.stack([*known, summaries, pairs, held])
        return counts

    def loss_weights(self, device: torch.device) -> Tensor:
        """[losses] factors of the losses, of the configuration."""
        config = self.config
        by_name: Mapping[str, float] = {
            "summary": config.summary_weight,
            "sentiment": config.sentiment_weight,
            "topic": config.topic_weight,
            "token_sentiment": config.token_sentiment_weight,
            "candidate": config.candidate_weight,
            "pair": config.pair_weight,
            "held": config.hold_weight,
        }
        return torch.tensor([by_name[name] for name in LOSSES], device=device)


def forward_batch(model: BertSum, batch: LabelledBatch, dtype: str) -> Logits:
    """Logits of a batch, in `dtype` where that is safe.

    A batch that carries its sentence vectors goes through the heads only.
    """
    with autocast(batch.batch.input_ids.device, dtype):
        if batch.vectors is not None:
            return model.heads(batch.vectors, batch.batch)
        are_compared = batch.pairs is not None or batch.held_vectors is not None
        logits: Logits = model(batch.batch, token_sentiments=True, document_vectors=are_compared)
        return logits


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    """Make matrix products be computed in `dtype` as long as the context is open."""
    is_half = choose_dtype(dtype, device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=is_half)


def distribute(module: SummedLosses) -> nn.Module:
    """The module, its gradients averaged over workers where there are several.

    A worker may have no label of a head, or no row at all: weights that it did not use count as
    having a gradient of zero.
    """
    if world_size() == 1:
        return module
    return DistributedDataParallel(module, find_unused_parameters=True)


def train_step(
    module: nn.Module,
    micro_batches: Sequence[LabelledBatch],
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    penalize: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Do one optimizer step. Returns the mean losses and the norm of the gradient, by name.

    Each loss is a sum over all batches of all workers, divided once by the count over all.

    - `module`: what `distribute` gives. Every worker must call it, with as many batches as it has.
    - `penalize`: adds to the gradient what is no loss of labels.

    Where the gradient is not finite no weight changes, and the result has `skipped`. Raises
    FloatingPointError, on all workers, when the loss is not a number; nothing has changed then.
    """
    device = next(module.parameters()).device
    losses_of = _bare(module)
    counts = sum_over_workers(losses_of.count_labels(micro_batches, device))
    shared: SharedPairs | None = None
    if _are_shared(micro_batches, counts, config):
        shared = _share_pairs(module, micro_batches, device, config)
    counts = counts.where(counts > 0, 1)
    # DistributedDataParallel divides gradients by the number of workers, which this takes back.
    factors = losses_of.loss_weights(device) / counts * world_size()
    sums = torch.zeros(len(losses_of.names), device=device)
    optimizer.zero_grad(set_to_none=True)
    # A worker without rows takes part with None, since the others wait for its gradients.
    batches: Sequence[LabelledBatch | None] = (shared.batches if shared else micro_batches) or [
        None
    ]
    for number, batch in enumerate(batches, 1):
        with ExitStack() as contexts:
            # Workers exchange gradients with the last batch only, once for all.
            if isinstance(module, DistributedDataParallel) and number < len(batches):
                contexts.enter_context(module.no_sync())
            if shared:
                contexts.enter_context(same_random_numbers(device))
            losses = module(batch)
            torch.autograd.backward((losses * factors).sum())
        sums += losses.detach()
    if shared:
        sums[LOSSES.index("pair")] = shared.loss if rank() == 0 else 0.0
    means = dict(zip(losses_of.names, (sum_over_workers(sums) / counts).tolist(), strict=True))
    wrong = [name for name, mean in means.items() if not math.isfinite(mean)]
    if wrong:
        raise FloatingPointError(f"the loss of {', '.join(wrong)} is not a number{DIVERGED_ADVICE}")
    if penalize is not None:
        penalize()
    learning = [weight for weight in module.parameters() if weight.requires_grad]
    norm = float(nn.utils.clip_grad_norm_(learning, config.clip_norm))
    result = {f"{name}_loss": mean for name, mean in means.items()}
    result["gradient_norm"] = norm
    if math.isfinite(norm):
        optimizer.step()
    else:
        result["skipped"] = True
    return result


def _bare(module: nn.Module) -> SummedLosses:
    """What `distribute` was given."""
    bare = module.module if isinstance(module, DistributedDataParallel) else module
    if not isinstance(bare, SummedLosses):
        raise TypeError(f"{type(bare).__name__} sums no losses")
    return bare


def _are_shared(batches: Sequence[LabelledBatch], counts: Tensor, config: TrainingConfig) -> bool:
    """Whether a step has pairs, perhaps in several batches; the same on all workers."""
    has_several = len(batches) > 1 or world_size() > 1
    return config.learns_pairs and has_several and bool(counts[LOSSES.index("pair")])


def _share_pairs(
    module: nn.Module,
    batches: Sequence[LabelledBatch],
    device: torch.device,
    config: TrainingConfig,
) -> SharedPairs:
    bare = _bare(module)  # DistributedDataParallel would wait for gradients
    if not isinstance(bare, LossModule):
        raise TypeError(f"{type(bare).__name__} is no LossModule")
    model = bare.model

    def embed(batch: LabelledBatch) -> Tensor:
        vectors = forward_batch(model, batch, config.dtype).document_vectors
        if vectors is None:
            raise ValueError("a batch without pairs has no vectors to compare")
        return vectors

    return share_pairs(batches, embed, config.pair_temperature, device)


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam or AdamW, with one rate for the encoder and one for the heads.

    Biases and norms, which are vectors, do not decay. With a decoder, see `summaries/schedule`.
    """
    if config.decoder is not None:
        return schedule.make_optimizer(model)
    weights_of: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            is_encoder = name.startswith(("encoder.", "prefix"))
            weights_of.setdefault((is_encoder, weight.dim() > 1), []).append(weight)
    groups = []
    for (is_encoder, is_matrix), weights in weights_of.items():
        group = {
            "params": weights,
            "is_encoder": is_encoder,
            "lr": config.encoder_learning_rate if is_encoder else config.head_learning_rate,
            "weight_decay": config.weight_decay if is_matrix else 0.0,
        }
        groups.append(group)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups)


def set_learning_rates(
    optimizer: torch.optim.Optimizer, step: int, num_steps: int, config: TrainingConfig
) -> None:
    """Set the rates of step `step` of `num_steps`, counted from 0.

    They are a function of the step alone, so that a checkpoint need not hold them.
    """
    if config.decoder is not None:
        schedule.set_rates(optimizer, step, config.decoder)
        return
    head_share = config.head_warmup_share
    if head_share is None:
        head_share = config.warmup_share
    for group in optimizer.param_groups:
        peak, share = config.head_learning_rate, head_share
        if group["is_encoder"]:
            peak, share = config.encoder_learning_rate, config.warmup_share
        group["lr"] = peak * learning_rate_factor(step, num_steps, config.schedule, share)


def learning_rate_factor(step: int, num_steps: int, schedule: str, warmup_share: float) -> float:
    """Share of the peak rate at step `step` of `num_steps`, counted from 0.

    It rises linearly to 1, which a single step has. After that:

    - linear: it falls linearly, to 0 after the last step.
    - noam: it falls with the inverse square root of the step (Vaswani et al. 2017, section 5.3).
    - constant: it stays.
    """
    warmup = max(1, round(warmup_share * num_steps))
    rising = (step + 1) / warmup
    if schedule == "linear":
        # With 10 steps and 2 of warm-up: 1/2, 1, 8/9, 7/9, ... 1/9.
        return min(rising, max(0.0, (num_steps - step) / (num_steps - warmup + 1)))
    return min(rising, (warmup / (step + 1)) ** 0.5 if schedule == "noam" else 1.0)


class WeightAverage:
    """Running mean of weights over steps (Izmailov et al. 2018)."""

    def __init__(self) -> None:
        self.count = 0
        self.means: list[Tensor] = []

    @torch.no_grad()
    def add(self, weights: Sequence[Tensor]) -> None:
        """Take the weights of one more step into the mean."""
        self.count += 1
        if not self.means:
            self.means = [weight.clone() for weight in weights]
        for mean, weight in zip(self.means, weights, strict=True):
            # mean of n values = mean of n - 1 of them + (value n - that mean) / n
            mean.lerp_(weight, 1 / self.count)

    @torch.no_grad()
    def copy_to(self, weights: Sequence[Tensor]) -> None:
        """Set the weights to the mean; leaves them alone when nothing was added."""
        for mean, weight in zip(self.means, weights, strict=False):
            weight.copy_(mean)
