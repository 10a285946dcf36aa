"""One optimizer step over batches and workers, the schedule of its rates, and the average of weights."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bertsum.model.bert_sum import BertSum, Logits
from bertsum.model.losses import candidate_loss, class_loss, summary_loss
from bertsum.training.config import TrainingConfig
from bertsum.training.data import LabelledBatch, labelled_candidates
from bertsum.training.distributed import sum_over_workers, world_size

CLASS_HEADS = ("sentiment", "topic", "token_sentiment")
LOSSES = ("summary", *CLASS_HEADS, "candidate")  # in the order of the sums of `LossModule`
DIVERGED_ADVICE = (
    "; the same steps would end so again, so lower encoder_learning_rate and head_learning_rate"
)


class LossModule(nn.Module):
    """Batch -> the summed loss of each head, in one `forward`, as DistributedDataParallel wants it."""

    def __init__(self, model: BertSum, config: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.dtype = config.dtype
        self.label_smoothing = config.label_smoothing

    def forward(self, batch: LabelledBatch | None) -> Tensor:
        """[losses] sums; None, the batch of a worker that has no rows of this step, gives zeros."""
        if batch is None:
            used = torch.stack(
                [weight.sum() for weight in self.parameters() if weight.requires_grad]
            )
            return 0 * used.sum() * used.new_ones(len(LOSSES))
        logits = forward_batch(self.model, batch, self.dtype)
        total = summary_loss(logits.sentence_logits.float(), batch.sentence_labels).total
        smoothing = {"sentiment": self.label_smoothing}
        classes = [
            (name, getattr(logits, f"{name}_logits"), batch.class_labels[name])
            for name in CLASS_HEADS
        ]
        losses = [
            class_loss(values.float(), labels, smoothing.get(name, 0.0)).total
            if values is not None
            else torch.zeros_like(total)
            for name, values, labels in classes
        ]
        return torch.stack([total, *losses, self._candidates(logits, batch)])

    def _candidates(self, logits: Logits, batch: LabelledBatch) -> Tensor:
        """The summed loss of the network that ranks candidates. The scores that it reads do not learn from it."""
        ranker = self.model.candidates
        if ranker is None:
            return logits.sentence_logits.new_zeros(())
        scores = logits.sentence_logits.detach().float().sigmoid().cpu().numpy()
        candidates = labelled_candidates(batch, scores, ranker.vocabulary_size)
        device = logits.sentence_logits.device
        expected = [ranker(torch.from_numpy(features).to(device)) for features, _ in candidates]
        rouge = [torch.from_numpy(values).to(device) for _, values in candidates]
        unused = torch.stack(
            [weight.sum() for weight in ranker.parameters()]
        )  # of a batch without summaries
        return candidate_loss(expected, rouge).total if candidates else 0 * unused.sum()


def forward_batch(model: BertSum, batch: LabelledBatch, dtype: str) -> Logits:
    """Logits of a batch, in `dtype` where that is safe; from its sentence vectors where it carries them."""
    with torch.autocast(
        batch.batch.input_ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"
    ):
        if batch.vectors is not None:
            return model.heads(batch.vectors, batch.batch)
        logits: Logits = model(batch.batch)
        return logits


def distribute(module: LossModule) -> nn.Module:
    """The module, its gradients averaged over workers where there are several.

    A worker may have no label of a head, or no row at all: parameters that it did not use count as zero.
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
) -> dict[str, Any]:
    """One optimizer step. Each loss is a sum over all batches of all workers, divided once by the count over all.

    `module`: of `distribute`; every worker must call it, with as many batches as it has. `penalize`: adds to the
    gradient what is no loss of labels. Where the gradient is not
    finite nothing is updated, and `skipped` says so. Raises FloatingPointError, on all workers, before anything
    changes, when the loss is not a number.
    """
    device = next(module.parameters()).device
    counts = sum_over_workers(_count_labels(micro_batches, device)).clamp(min=1)
    weights = torch.tensor([getattr(config, f"{name}_weight") for name in LOSSES], device=device)
    factors = (
        weights / counts * world_size()
    )  # DistributedDataParallel divides by the number of workers
    sums = torch.zeros(len(LOSSES), device=device)
    optimizer.zero_grad(set_to_none=True)
    batches: Sequence[LabelledBatch | None] = micro_batches or [None]
    for number, batch in enumerate(batches, 1):
        is_distributed = isinstance(module, DistributedDataParallel)
        with module.no_sync() if is_distributed and number < len(batches) else nullcontext():  # type: ignore[operator]
            losses = module(batch)
            torch.autograd.backward((losses * factors).sum())
        sums += losses.detach()
    means = (sum_over_workers(sums) / counts).tolist()
    if not all(math.isfinite(value) for value in means):
        named = zip(LOSSES, means, strict=True)
        wrong = [name for name, value in named if not math.isfinite(value)]
        raise FloatingPointError(f"the loss of {', '.join(wrong)} is not a number{DIVERGED_ADVICE}")
    if penalize is not None:
        penalize()
    norm = float(
        nn.utils.clip_grad_norm_(
            [p for p in module.parameters() if p.requires_grad], config.clip_norm
        )
    )
    if math.isfinite(norm):
        optimizer.step()
    losses_by_name = {f"{name}_loss": value for name, value in zip(LOSSES, means, strict=True)}
    return {**losses_by_name, "gradient_norm": norm} | (
        {} if math.isfinite(norm) else {"skipped": True}
    )


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam or AdamW with one rate for the encoder and one for the heads; no decay of biases and norms."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            groups.setdefault(
                (name.startswith(("encoder.", "prefix")), weight.dim() > 1), []
            ).append(weight)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(
        [
            {
                "params": weights,
                "is_encoder": is_encoder,
                "lr": config.encoder_learning_rate if is_encoder else config.head_learning_rate,
                "weight_decay": config.weight_decay if is_matrix else 0.0,
            }
            for (is_encoder, is_matrix), weights in groups.items()
        ]
    )


def set_learning_rates(
    optimizer: torch.optim.Optimizer, step: int, num_steps: int, config: TrainingConfig
) -> None:
    """The rates of step `step`, counted from 0. A function of the step alone, so that it needs no saving."""
    for group in optimizer.param_groups:
        is_encoder = group["is_encoder"]
        peak = config.encoder_learning_rate if is_encoder else config.head_learning_rate
        share = (
            config.warmup_share
            if is_encoder or config.head_warmup_share is None
            else config.head_warmup_share
        )
        group["lr"] = peak * learning_rate_factor(step, num_steps, config.schedule, share)


def learning_rate_factor(step: int, num_steps: int, schedule: str, warmup_share: float) -> float:
    """Linear warm-up to 1, which one step has; then linear to 0 after the last step, or as the schedule says.

    noam: falls with the inverse square root of the step (Vaswani et al. 2017, section 5.3), 1 at its peak.
    """
    warmup = max(1, round(warmup_share * num_steps))
    rising = (step + 1) / warmup
    if schedule == "linear":
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
            mean.lerp_(weight, 1 / self.count)

    @torch.no_grad()
    def copy_to(self, weights: Sequence[Tensor]) -> None:
        """Set the weights to the mean; leaves them alone when nothing was added."""
        for mean, weight in zip(self.means, weights, strict=False):
            weight.copy_(mean)


def _count_labels(batches: Iterable[LabelledBatch], device: torch.device) -> Tensor:
    """[losses] labelled items of all batches."""
    counts = torch.zeros(len(LOSSES), device=device)
    for batch in batches:
        all_labels = [batch.sentence_labels, *(batch.class_labels[name] for name in CLASS_HEADS)]
        num_summaries = sum(bool(example.summary) for example in batch.examples)
        counts += torch.stack(
            [*((labels >= 0).sum() for labels in all_labels), counts.new_tensor(num_summaries)]
        )
    return counts
