"""The training loop. Runs in one process, or in several that `torch.distributed` joins."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from bertsum.errors import ModelError, OutputError
from bertsum.model.batches import group_by_length, make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.training.adapters import RankSchedule, add_adapter
from bertsum.training.config import TrainingConfig
from bertsum.training.distributed import gather, rank
from bertsum.training.examples import Example, ExampleFile, token_counts
from bertsum.training.optimization import (
    DIVERGED_ADVICE,
    LossModule,
    WeightAverage,
    distribute,
    make_optimizer,
    set_learning_rates,
    train_step,
)
from bertsum.training.state import (
    RunState,
    StateStore,
    collect,
    restore,
    restore_weights,
    trained_weights,
)
from bertsum.training.steps import Plan, Step
from bertsum.training.validation import LabelledSource, check_metric, read_metric, validate

Log = Callable[[dict[str, Any]], None]

_VECTORS_BATCH_TOKENS = 8192
_MAX_SKIPPED_STEPS = 20  # in a row; a run whose gradient overflows that often learns nothing


def build_model(encoder: Any, config: TrainingConfig) -> BertSum:
    """New heads on an encoder that learns."""
    model = BertSum(encoder, config.model)
    open_encoder(model, config)
    return model


def renew_heads(model: BertSum, config: TrainingConfig) -> BertSum:
    """A model shaped by `config.model` on the same encoder: `new_heads` begin anew, the others are taken over.

    Raises ModelError where one that is taken over does not fit `config.model`.
    """
    renewed = BertSum(model.encoder, config.model)
    began = ("encoder", *config.new_heads, *(["prefix"] if model.prefix is None else []))
    old, new = (
        {
            name: weight
            for name, weight in m.state_dict().items()
            if name.partition(".")[0] not in began
        }
        for m in (model, renewed)
    )
    differ = {name for name in old.keys() | new.keys() if name not in old or name not in new}
    differ |= {name for name in old.keys() & new.keys() if old[name].shape != new[name].shape}
    if differ:
        heads = sorted({name.partition(".")[0] for name in differ})
        raise ModelError(
            f"start_from has {', '.join(heads)} of another shape than `model` asks for: add to new_heads"
        )
    renewed.load_state_dict(old, strict=False)
    return renewed


def open_encoder(model: BertSum, config: TrainingConfig) -> None:
    """Let the encoder learn, in place: whole, or by what an adapter adds to it."""
    _set_dropout(model.encoder, config.encoder_dropout)
    if config.gradient_checkpointing:
        model.encoder.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
    add_adapter(model, config)


def freeze(model: BertSum, trained: str) -> None:
    """Let only the heads, or only the one that `trained` names, learn, in place."""
    for name, weight in model.named_parameters():
        is_other_head = trained != "heads" and name.partition(".")[0] != trained
        weight.requires_grad_(not (name.startswith(("encoder.", "prefix")) or is_other_head))


def compute_vectors(model: BertSum, examples: Sequence[Example], dtype: str) -> ExampleFile:
    """The examples with their sentence vectors, for a run in which the encoder does not learn."""
    groups = group_by_length(token_counts(examples).tolist(), _VECTORS_BATCH_TOKENS)
    found = ExampleFile.write(
        example
        for group in groups
        for example in _with_vectors(model, [examples[place] for place in group], dtype)
    )
    return found.select(
        np.argsort(np.array([place for group in groups for place in group], np.int64))
    )


@torch.no_grad()
def _with_vectors(model: BertSum, examples: Sequence[Example], dtype: str) -> list[Example]:
    model.eval()
    batch = make_batch([example.document for example in examples], range(len(examples)))
    batch = batch.to(next(model.parameters()).device)
    with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        vectors = torch.split(model.sentence_vectors(batch), batch.num_sentences)
    found = dict(zip(batch.documents, vectors, strict=True))
    return [replace(example, vectors=found[place].cpu()) for place, example in enumerate(examples)]


def train(
    model: BertSum,
    sources: Sequence[LabelledSource],
    config: TrainingConfig,
    log: Log,
    store: StateStore | None = None,
    before_save: Callable[[], None] = lambda: None,
) -> None:
    """Train in place, from the newest checkpoint in `store` on; afterwards the model has the weights to keep.

    These are the last ones or, with `average_share`, the mean of those of the last steps; with `best_metric` the best
    of these and of those that were measured on the way, which needs a `store`. Every worker must call it, with its
    part of the rows. `log` gets a dict a step on the first worker (losses, tokens/s), and one for each validation;
    `before_save` is called there before each checkpoint, for what must never be older than one.

    Raises FloatingPointError when the loss is not a number, InputError when there are no rows, ConfigError for a
    `best_metric` that the rows do not give, and OutputError when the checkpoint is of other rows or of another model.
    """
    if config.best_metric and store is None:
        raise ValueError("best_metric needs a store that keeps the best weights")
    _Run(model, sources, config, log, store, before_save).go()


class _Run:
    """What changes from step to step, and where it is kept."""

    def __init__(
        self,
        model: BertSum,
        sources: Sequence[LabelledSource],
        config: TrainingConfig,
        log: Log,
        store: StateStore | None,
        before_save: Callable[[], None],
    ) -> None:
        self.model, self.sources, self.config, self.log, self.store = (
            model,
            sources,
            config,
            log,
            store,
        )
        self.before_save = before_save
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, config)
        self.average = WeightAverage()
        self.plan = Plan([(source.config.weight, source.train) for source in sources], config)
        self.ranks = RankSchedule.of(model, config, self.plan.num_steps)
        self.state = RunState(plan_digest=self.plan.digest)
        self.trained = list(trained_weights(model).values())
        self.first_weights = (
            [weight.detach().clone() for weight in self.trained] if config.repeats > 1 else []
        )
        self._go_on()
        self.module = distribute(LossModule(model, config))
        self.step_seconds, self.num_tokens = 0.0, 0
        self.saved_at = time.monotonic()

    def go(self) -> None:
        if self.config.best_metric:
            limits = self.config.max_validation_rows, self.config.dtype
            check_metric(self.model, self.sources, *limits, self.config.best_metric)
        steps = self.plan.steps(self.state.step)
        while self.state.step < self.plan.num_steps and not self._is_out_of_patience():
            self._step(next(steps))
            is_last = self.state.step == self.plan.num_steps
            if self.state.step % self.config.validate_every_steps == 0 and not is_last:
                self._validate()
            elif (
                is_last
                or time.monotonic() - self.saved_at >= 60 * self.config.checkpoint_every_minutes
            ):
                self._save()
        self._choose_weights()

    def _go_on(self) -> None:
        """Take up the newest checkpoint, the first worker's choice for all."""
        state = gather(self.store.latest() if self.store else None)[0]
        if self.store is None or state is None:
            return
        if state.plan_digest != self.plan.digest:
            raise OutputError(
                "the sources have other rows than when the run began; train into an empty OUTPUT"
            )
        self.state = state
        self.average.count = state.averaged_steps
        tensors = self.store.read_tensors(state.step)
        restore(tensors, self.model, self.optimizer, self.average)
        if self.ranks:
            self.ranks.load(tensors)

    def _step(self, step: Step) -> None:
        start = time.monotonic()
        number = self.state.step
        # random numbers of dropout are a function of the step and the worker, so that a run can go on at any step
        torch.manual_seed(((self.config.seed << 32) + number) * 4096 + rank())
        self.model.train()
        for part in self.model.children():  # what does not learn computes as it will in use
            part.train(any(weight.requires_grad for weight in part.parameters()))
        place = number % self.plan.steps_a_repeat
        if number and not place:
            self._begin_again()
        set_learning_rates(self.optimizer, place, self.plan.steps_a_repeat, self.config)
        batches = [batch.to(self.device) for batch in step.batches]
        penalize = self.ranks.add_penalty if self.ranks else None
        losses = train_step(self.module, batches, self.optimizer, self.config, penalize)
        self.state.step = number + 1
        if self.ranks and "skipped" not in losses:
            self.ranks.allocate(self.state.step)
        self.state.skipped_steps = self.state.skipped_steps + 1 if "skipped" in losses else 0
        if self.state.skipped_steps == _MAX_SKIPPED_STEPS:
            raise FloatingPointError(
                f"the gradient was not finite in {_MAX_SKIPPED_STEPS} steps in a row{DIVERGED_ADVICE}"
            )
        if place + 1 > (1 - self.config.average_share) * self.plan.steps_a_repeat:
            self.average.add(self.trained)
        self.step_seconds += time.monotonic() - start
        self.num_tokens += step.num_tokens
        progress = {"step": self.state.step, "num_steps": self.plan.num_steps}
        self._log(
            {**progress, "tokens_per_second": round(self.num_tokens / self.step_seconds), **losses}
        )

    @torch.no_grad()
    def _begin_again(self) -> None:
        """The next repeat, from the first weights: only what begins together can be averaged (Wortsman et al. 2022,
        "Model soups").
        """
        self.optimizer.state.clear()
        for weight, first in zip(self.trained, self.first_weights, strict=True):
            weight.copy_(first)

    def _validate(self) -> None:
        score = self._measure()
        if self.config.best_metric:
            best = self.state.best_score
            is_better = score is not None and (best is None or score > best)
            self.state.validations_without_gain = (
                0 if is_better else self.state.validations_without_gain + 1
            )
            if is_better:
                self.state.best_score, self.state.best_step = score, self.state.step
        self.state.score = score
        self._save()
        self.state.score = None  # of the steps to come

    def _measure(self) -> float | None:
        """Log the measures of the weights as they are, and return what `best_metric` makes of them.

        None without a `best_metric`, and where it is not a number.
        """
        results = validate(
            self.model, self.sources, self.config.max_validation_rows, self.config.dtype
        )
        score = read_metric(results, self.config.best_metric) if self.config.best_metric else None
        if score is not None and not math.isfinite(score):
            score = None  # no weights are better or worse than it
        self._log(
            {"step": self.state.step, "validation": results}
            | ({} if score is None else {"score": score})
        )
        return score

    def _is_out_of_patience(self) -> bool:
        patience = self.config.patience
        return patience is not None and self.state.validations_without_gain >= patience

    def _choose_weights(self) -> None:
        """The average of weights, if there is one; or the best weights of the run, if they are better than these."""
        self.average.copy_to(self.trained)
        if self.config.best_metric:
            last, best = self._measure(), self.state.best_score
            has_better = best is not None and (last is None or best > last)
            if self.store and self.state.best_step and has_better:
                restore_weights(self.store.read_tensors(self.state.best_step), self.model)
                self._log({"step": self.state.step, "chosen_step": self.state.best_step})
        if not all(weight.isfinite().all() for weight in self.trained):
            raise FloatingPointError(
                f"the weights are not numbers after step {self.state.step}{DIVERGED_ADVICE}"
            )

    def _save(self) -> None:
        self.saved_at = time.monotonic()
        self.state.averaged_steps = self.average.count
        if self.store and rank() == 0:
            self.before_save()
            tensors = collect(self.model, self.optimizer, self.average)
            self.store.save(self.state, tensors | (self.ranks.tensors() if self.ranks else {}))

    def _log(self, values: dict[str, Any]) -> None:
        if rank() == 0:
            self.log(values)


def _set_dropout(encoder: nn.Module, rate: float) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif hasattr(module, "dropout_prob"):
            module.__dict__["dropout_prob"] = rate
