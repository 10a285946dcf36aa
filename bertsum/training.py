"""The training loop: optimizer, schedule, one step, validation. Runs in one process; a caller may distribute it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertsum import metrics
from bertsum.batching import group_documents, make_batch
from bertsum.config import ModelConfig
from bertsum.errors import InputError
from bertsum.loss import LossSum, sentiment_loss, summary_loss
from bertsum.model import BertSum, Logits
from bertsum.rouge import mean_rouge
from bertsum.training_config import SourceConfig, TrainingConfig
from bertsum.training_data import Example, LabelledBatch, epoch_batches, labelled_batch

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """A source with its examples; both lists may be empty."""

    config: SourceConfig
    train: Sequence[Example]
    validation: Sequence[Example]


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


def build_model(encoder: Any, config: TrainingConfig) -> BertSum:
    """New heads on an encoder that learns."""
    model = BertSum(encoder, config.model)
    open_encoder(model, config)
    return model


def open_encoder(model: BertSum, config: TrainingConfig) -> None:
    """Let the encoder learn, in place: whole or, with `lora_rank`, by low-rank deltas (Hu et al. 2021)."""
    _set_dropout(model.encoder, config.encoder_dropout)
    if config.lora_rank:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules="all-linear")
        model.encoder = get_peft_model(model.encoder, lora)


def freeze(model: BertSum, trained: str) -> None:
    """Let only the heads, or only the summarization layers, learn, in place."""
    for name, weight in model.named_parameters():
        is_other_head = trained == "summarization" and not name.startswith("summarization.")
        weight.requires_grad_(not (name.startswith("encoder.") or is_other_head))


@torch.no_grad()
def compute_vectors(model: BertSum, examples: Sequence[Example], dtype: str) -> list[Example]:
    """The examples with their sentence vectors, for a run in which the encoder does not learn."""
    model.eval()
    results = list(examples)
    for group in group_documents([example.document for example in examples], 8192):
        batch = make_batch([example.document for example in examples], group)
        with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            vectors = torch.split(model.sentence_vectors(batch), batch.num_sentences)
        for place, part in zip(batch.documents, vectors, strict=True):
            results[place] = replace(examples[place], vectors=part.clone())
    return results


def merge_encoder(model: BertSum) -> None:
    """Fold low-rank deltas into the encoder's own weights, in place."""
    if hasattr(model.encoder, "merge_and_unload"):
        model.encoder = model.encoder.merge_and_unload()


def train(model: BertSum, sources: Sequence[LabelledSource], config: TrainingConfig, log: Log) -> None:
    """Train in place. With `average_share` the result is the mean of the weights of the last steps.

    `log` gets a dict a step (loss, rate, tokens/s) and one each `validate_every_steps`. Raises FloatingPointError when
    the loss is not a number, and InputError when there are no rows.
    """
    num_steps = _count_steps(sources, config)
    optimizer = make_optimizer(model, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, num_steps, config))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    average = WeightAverage()
    start = time.monotonic()
    num_tokens = 0
    for step, batch in enumerate(_batches(sources, config, num_steps), 1):
        model.train()
        losses = train_step(model, [batch], optimizer, config)
        schedule.step()
        num_tokens += len(batch.batch.input_ids)
        if step > (1 - config.average_share) * num_steps:
            average.add(trained)
        rate = num_tokens / (time.monotonic() - start)
        log({"step": step, "num_steps": num_steps, "tokens_per_second": round(rate), **losses})
        if step % config.validate_every_steps == 0 and step < num_steps:
            log({"step": step, **validate(model, sources, config.max_validation_rows, config.dtype)})
    average.copy_to(trained)


def train_step(
    model: BertSum, micro_batches: Sequence[LabelledBatch], optimizer: torch.optim.Optimizer, config: TrainingConfig
) -> dict[str, float]:
    """One optimizer step over some batches; each loss is a sum, divided once by the count over all of them."""
    counts = [
        max(1, sum(int((batch.sentence_labels >= 0).sum()) for batch in micro_batches)),
        max(1, sum(int((batch.sentiment_labels >= 0).sum()) for batch in micro_batches)),
    ]
    weights = [config.summary_weight, config.sentiment_weight]
    sums = [0.0, 0.0]
    optimizer.zero_grad(set_to_none=True)
    for batch in micro_batches:
        losses = _losses(model, batch, config)
        total = sum(w * loss.total / n for w, loss, n in zip(weights, losses, counts, strict=True))
        torch.autograd.backward(torch.as_tensor(total))
        sums = [value + float(loss.total.detach()) for value, loss in zip(sums, losses, strict=True)]
    if not all(math.isfinite(value) for value in sums):
        raise FloatingPointError(f"the loss is not a number: summary {sums[0]}, sentiment {sums[1]}")
    norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], config.clip_norm)
    optimizer.step()
    return {"summary_loss": sums[0] / counts[0], "sentiment_loss": sums[1] / counts[1], "gradient_norm": float(norm)}


def make_optimizer(model: BertSum, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW with one rate for the encoder and one for the heads; no decay of biases and norms."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            groups.setdefault((name.startswith("encoder."), weight.dim() > 1), []).append(weight)
    return torch.optim.AdamW(
        [
            {
                "params": weights,
                "lr": config.encoder_learning_rate if is_encoder else config.head_learning_rate,
                "weight_decay": config.weight_decay if is_matrix else 0.0,
            }
            for (is_encoder, is_matrix), weights in groups.items()
        ]
    )


def learning_rate_factor(step: int, num_steps: int, config: TrainingConfig) -> float:
    """Linear warm-up to 1, then linear to 0 at the last step."""
    warmup = max(1, round(config.warmup_share * num_steps))
    return min((step + 1) / warmup, max(0.0, (num_steps - step) / max(1, num_steps - warmup)))


def validate(
    model: BertSum, sources: Iterable[LabelledSource], max_rows: int | None, dtype: str
) -> dict[str, dict[str, Any]]:
    """Measures of each source with validation rows, by name; see the README for what they are."""
    results = {}
    for source in sources:
        examples = source.validation[:max_rows]
        if examples:
            results[source.config.name] = measure(model, examples, source.config, dtype)
    return results


def measure(model: BertSum, examples: Sequence[Example], source: SourceConfig, dtype: str) -> dict[str, Any]:
    """Measures of a model on labelled examples: ROUGE beside the lead's and the oracle's, sentiment, and spread."""
    scores, sentiments, vectors = predict_examples(model, examples, dtype)
    result: dict[str, Any] = {"rows": len(examples)}
    kept = [index for index, example in enumerate(examples) if example.summary]
    if kept:
        documents = [examples[index].document for index in kept]
        summaries = [examples[index].summary or "" for index in kept]
        size = source.num_summary_sentences
        ours = metrics.summary_rouge(documents, [scores[index] for index in kept], summaries, size)
        lead = metrics.lead_rouge(documents, summaries, size)
        gain, interval = metrics.mean_difference(ours, lead)
        result |= {
            "rouge": asdict(mean_rouge(ours)),
            "lead": asdict(mean_rouge(lead)),
            "oracle": asdict(mean_rouge(metrics.oracle_rouge(documents, summaries, size))),
            "rouge_1_over_lead": gain,
            "rouge_1_over_lead_95": interval,
            "spread": asdict(metrics.spread(vectors, scores)),
        }
    expected = np.array([example.sentiment_label for example in examples])
    if sentiments is not None and (expected >= 0).any():
        result["sentiment"] = _measure_sentiment(sentiments[expected >= 0], expected[expected >= 0], model.config)
    return result


@torch.no_grad()
def predict_examples(
    model: BertSum, examples: Sequence[Example], dtype: str
) -> tuple[list[np.ndarray], np.ndarray | None, list[np.ndarray]]:
    """Sentence scores [S] and vectors [S, H] of each document, and sentiment logits [B, C], in the examples' order."""
    model.eval()
    scores: list[np.ndarray] = [np.zeros(0)] * len(examples)
    vectors = list(scores)
    sentiments: list[np.ndarray] = list(scores)
    for group in group_documents([example.document for example in examples], 8192):
        labelled = labelled_batch([examples[place] for place in group])
        batch = labelled.batch
        logits = _forward(model, labelled, dtype)
        parts = torch.split(logits.sentence_logits.float().sigmoid(), batch.num_sentences)
        vector_parts = torch.split(logits.sentence_vectors, batch.num_sentences)
        for index, place in enumerate(group[document] for document in batch.documents):
            scores[place], vectors[place] = parts[index].numpy(), vector_parts[index].numpy()
            if logits.sentiment_logits is not None:
                sentiments[place] = logits.sentiment_logits[index].float().numpy()
    return scores, np.stack(sentiments) if model.sentiment is not None else None, vectors


def _measure_sentiment(logits: np.ndarray, expected: np.ndarray, config: ModelConfig) -> dict[str, Any]:
    """A report over all labels, and the accuracy when only labels that occur may be answered (two-class sets)."""
    report = asdict(metrics.classification_report(logits.argmax(1), expected, config.sentiment_labels))
    present = np.unique(expected)
    restricted = present[logits[:, present].argmax(1)]
    return {**report, "accuracy_among_present_labels": float((restricted == expected).mean())}


def _losses(model: BertSum, batch: LabelledBatch, config: TrainingConfig) -> list[LossSum]:
    logits = _forward(model, batch, config.dtype)
    losses = [summary_loss(logits.sentence_logits.float(), batch.sentence_labels)]
    if logits.sentiment_logits is None:
        return [*losses, LossSum(torch.zeros(()), 0)]
    return [
        *losses,
        sentiment_loss(logits.sentiment_logits.float(), batch.sentiment_labels, config.label_smoothing),
    ]


def _forward(model: BertSum, batch: LabelledBatch, dtype: str) -> Logits:
    with torch.autocast(batch.batch.input_ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        if batch.vectors is not None:
            return model.heads(batch.vectors, batch.batch)
        logits: Logits = model(batch.batch)
        return logits


def _batches(sources: Sequence[LabelledSource], config: TrainingConfig, num_steps: int) -> Iterator[LabelledBatch]:
    parts = [(source.config.weight, source.train) for source in sources]
    step = epoch = 0
    while step < num_steps:
        first_step = step
        for batch in epoch_batches(parts, config.max_batch_tokens, config.seed + epoch):
            if step == num_steps:
                return
            step += 1
            yield batch
        if step == first_step:
            raise InputError("the sources have no rows to train on")
        epoch += 1


def _count_steps(sources: Sequence[LabelledSource], config: TrainingConfig) -> int:
    """Steps of the run, from the tokens of one epoch; batches are cut at documents, so the count is near."""
    tokens = sum(
        source.config.weight * sum(len(example.document.input_ids) for example in source.train) for source in sources
    )
    return max(1, round(config.epochs * tokens / config.max_batch_tokens))


def _set_dropout(encoder: nn.Module, rate: float) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif hasattr(module, "dropout_prob"):
            module.__dict__["dropout_prob"] = rate
