"""The training loop. Runs in one process, or in several that `torch.distributed` joins."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from bertsum.errors import ModelError, OutputError
from bertsum.model.attention.packed import runs_of_tokens
from bertsum.model.batches import group_by_length, make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.model_config import ModelConfig
from bertsum.training.adapters import RankSchedule, add_adapter
from bertsum.training.config import TrainingConfig
from bertsum.training.distributed import gather, rank
from bertsum.training.examples import Example, ExampleFile, token_counts
from bertsum.training.optimization import (
    DIVERGED_ADVICE,
    LossModule,
    SummedLosses,
    WeightAverage,
    autocast,
    distribute,
    make_optimizer,
    set_learning_rates,
    train_step,
)
from bertsum.training.results.log import Report, shown
from bertsum.training.state import (
    LogLine,
    RunState,
    StateStore,
    VectorStore,
    collect,
    documents_digest,
    restore,
    restore_weights,
    trained_weights,
    weights_digest,
)
from bertsum.training.steps import Step, StepPlan
from bertsum.training.validation import (
    LabelledSource,
    Measures,
    check_metric,
    read_metric,
    validate,
)

Log = Callable[[LogLine], None]


class Objective(Protocol):
    """What the steps of a run learn, and how it is measured on the way."""

    @property
    def model(self) -> nn.Module:
        """Whose weights learn; `encoder.` begins the names of the encoder's."""
        ...

    def loss_module(self) -> SummedLosses:
        """What a step sums up."""
        ...

    def validate(self, sources: Iterable[LabelledSource]) -> dict[str, Measures]:
        """Measures by source, the same on every worker; every worker must call it."""
        ...

    def check_metric(self, sources: Iterable[LabelledSource], names: Sequence[str]) -> None:
        """Raise ConfigError where `validate` would not give these measures."""
        ...


@dataclass(frozen=True, slots=True)
class SentenceObjective:
    """The heads of BERTSUM learn."""

    model: BertSum
    config: TrainingConfig

    def loss_module(self) -> SummedLosses:
        """The losses of all heads."""
        return LossModule(self.model, self.config)

    def validate(self, sources: Iterable[LabelledSource]) -> dict[str, Measures]:
        """See `validation.validate`."""
        return validate(self.model, sources, self.config.max_validation_rows, self.config.dtype)

    def check_metric(self, sources: Iterable[LabelledSource], names: Sequence[str]) -> None:
        """See `validation.check_metric`."""
        rows, dtype = self.config.max_validation_rows, self.config.dtype
        check_metric(self.model, sources, rows, dtype, names)


_VECTORS_BATCH_TOKENS = 8192
# Of one file of vectors: what a kill can cost, and what is in memory at once. With 384 features and
# 25 tokens a sentence that is 16 MB.
_VECTORS_FILE_TOKENS = 2**18
_MAX_SKIPPED_STEPS = 20  # in a row; a run whose gradient overflows that often learns nothing


def build_model(encoder: nn.Module, config: TrainingConfig) -> BertSum:
    """New heads on an encoder that learns."""
    model = BertSum(encoder, config.model)
    open_encoder(model, config)
    return model


def renew_heads(model: BertSum, config: TrainingConfig) -> BertSum:
    """Make a model on the same encoder, shaped as it was but for the keys that `config.model` has.

    The heads in `new_heads` get new weights; the others keep theirs. Raises ModelError where one of
    the others does not fit `config.model`.
    """
    given = config.model.model_dump(exclude_unset=True)
    shape = ModelConfig.model_validate(model.config.model_dump() | given)
    renewed = BertSum(model.encoder, shape)
    new_parts = {"encoder", *config.new_heads}  # the encoder is the same module already
    if model.prefix is None:
        new_parts.add("prefix")
    kept, expected = _weights_without(model, new_parts), _weights_without(renewed, new_parts)
    differing = kept.keys() ^ expected.keys()
    for name in kept.keys() & expected.keys():
        if kept[name].shape != expected[name].shape:
            differing.add(name)
    if differing:
        heads = ", ".join(sorted({_part(name) for name in differing}))
        raise ModelError(
            f"start_from has {heads} of another shape than `model` asks for: add to new_heads"
        )
    renewed.load_state_dict(kept, strict=False)
    for head, temperature in model.temperatures.items():
        if head not in config.new_heads:
            renewed.temperatures[head] = temperature
    renewed.query_weights = model.query_weights
    return renewed


def _part(name: str) -> str:
    """The part of the model that a weight belongs to: `encoder.layer.0.weight` to `encoder`."""
    return name.partition(".")[0]


def _weights_without(model: BertSum, parts: Set[str]) -> dict[str, Tensor]:
    weights = {}
    for name, weight in model.state_dict().items():
        if _part(name) not in parts:
            weights[name] = weight
    return weights


def open_encoder(model: BertSum, config: TrainingConfig) -> None:
    """Let the encoder learn, in place: whole, or by what an adapter adds to it."""
    for module in model.encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = config.encoder_dropout
        elif "dropout_prob" in vars(module):  # the attention of Transformers holds a number
            vars(module)["dropout_prob"] = config.encoder_dropout
    if config.gradient_checkpointing:
        # the reentrant kind needs inputs with a gradient, which token ids have not
        model.encoder.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
    add_adapter(model, config)
    if config.learns_matrix and model.embedding is not None:
        model.embedding.requires_grad_(True)


def freeze(model: BertSum, trained: str) -> None:
    """Let only the heads, or only the head that `trained` names, learn, in place."""
    for name, weight in model.named_parameters():
        # the matrix of the embedding is fitted, not learned
        is_fixed = name.startswith(("encoder.", "prefix", "embedding."))
        is_chosen = trained in ("heads", _part(name))
        weight.requires_grad_(is_chosen and not is_fixed)


def compute_vectors(
    model: BertSum,
    examples: Sequence[Example],
    dtype: str,
    store: VectorStore,
    report: Report = lambda line: None,
) -> ExampleFile:
    """The examples with their sentence vectors, for a run in which the encoder does not learn.

    Vectors in `store` are read; others are computed, and written to it.
    """
    encoder_digest = _encoder_digest(model, dtype)

    def completed() -> Iterator[Example]:
        stop = 0
        files = runs_of_tokens(token_counts(examples).tolist(), _VECTORS_FILE_TOKENS)
        for lengths in shown(files, len(examples), "sentence vectors", report):
            start, stop = stop, stop + len(lengths)
            chunk = [examples[index] for index in range(start, stop)]
            digest = documents_digest(encoder_digest, [example.document for example in chunk])
            counts = [example.document.num_read_sentences for example in chunk]
            vectors = store.read(digest, counts, model.encoder.config.hidden_size)
            if vectors is None:
                vectors = _sentence_vectors(model, chunk, dtype)
                store.write(digest, vectors)
            for example, document_vectors in zip(chunk, vectors, strict=True):
                yield replace(example, vectors=document_vectors)

    return ExampleFile.write(completed())


def _encoder_digest(model: BertSum, dtype: str) -> bytes:
    """Digest of all that makes sentence vectors of tokens."""
    weights = model.state_dict()
    read = {name: weights[name] for name in weights if name.startswith(("encoder.", "prefix"))}
    return weights_digest(f"{model.config.pooling} {dtype}", read)


@torch.no_grad()
def _sentence_vectors(model: BertSum, examples: Sequence[Example], dtype: str) -> list[Tensor]:
    """[S, H] of each example, on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    vectors = [torch.zeros(0)] * len(examples)
    for indices in group_by_length(token_counts(examples).tolist(), _VECTORS_BATCH_TOKENS):
        documents = [examples[index].document for index in indices]
        batch = make_batch(documents, range(len(documents))).to(device)
        with autocast(device, dtype):
            # [sum of S, H] -> [S, H] of each document, in the order of the batch
            parts = torch.split(model.sentence_vectors(batch).cpu(), batch.num_sentences)
        for row, document_vectors in zip(batch.documents, parts, strict=True):
            vectors[indices[row]] = document_vectors
    return vectors


def train(
    model: BertSum,
    sources: Sequence[LabelledSource],
    config: TrainingConfig,
    log: Log,
    store: StateStore | None = None,
    before_save: Callable[[], None] = lambda: None,
) -> None:
    """Train the heads of BERTSUM in place; see `take_steps`."""
    take_steps(SentenceObjective(model, config), sources, config, log, store, before_save)


def take_steps(
    objective: Objective,
    sources: Sequence[LabelledSource],
    config: TrainingConfig,
    log: Log,
    store: StateStore | None = None,
    before_save: Callable[[], None] = lambda: None,
) -> None:
    """Train in place, from the newest checkpoint in `store` on.

    Afterwards the model has the weights to keep: the last ones or, with `average_share`, the mean
    of those of the last steps. With `best_metric`, which needs a `store`, they are the best of
    these and of those that were measured on the way. Every worker must call it.

    - `sources`: with this worker's part of the rows.
    - `log`: on the first worker, gets a dict for each step (losses, tokens/s) and for each
      validation.
    - `before_save`: is called on the first worker before each checkpoint, for what must never be
      older than one.

    Raises FloatingPointError when the loss is not a number, InputError when there are no rows,
    ConfigError for a `best_metric` that the rows do not give, and OutputError when the checkpoint
    is of other rows or of another model.
    """
    if config.best_metric and store is None:
        raise ValueError("best_metric needs a store that keeps the best weights")
    _Run(objective, sources, config, log, store, before_save).run()


class _Run:
    """What changes from step to step, and where it is kept."""

    def __init__(
        self,
        objective: Objective,
        sources: Sequence[LabelledSource],
        config: TrainingConfig,
        log: Log,
        store: StateStore | None,
        before_save: Callable[[], None],
    ) -> None:
        model = objective.model
        self.objective, self.model = objective, model
        self.sources, self.config = sources, config
        self.log, self.store, self.before_save = log, store, before_save
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, config)
        self.average = WeightAverage()
        self.plan = StepPlan([(source.config.weight, source.train) for source in sources], config)
        self.ranks = RankSchedule.of(model, config, self.plan.num_steps)
        self.state = RunState(plan_digest=self.plan.digest)
        self.trained = list(trained_weights(model).values())
        self.first_weights: list[Tensor] = []
        if config.repeats > 1:
            self.first_weights = [weight.detach().clone() for weight in self.trained]
        self._resume()
        # after the weights are restored: it copies those of the first worker to the others
        self.module = distribute(objective.loss_module())
        self.step_seconds, self.num_tokens = 0.0, 0
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
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

    def run(self) -> None:
        """Do the steps that are left, and choose the weights to keep."""
        config = self.config
        if config.best_metric:
            self.objective.check_metric(self.sources, config.best_metric)
        steps = self.plan.steps(self.state.step)
        while self.state.step < self.plan.num_steps:
            if config.patience and self.state.validations_without_gain >= config.patience:
                break
            self._do_step(next(steps))
            is_last = self.state.step == self.plan.num_steps
            seconds = time.monotonic() - self.saved_at
            # after the last step all rows are measured, by the caller
            if self.state.step % config.validate_every_steps == 0 and not is_last:
                self._validate()
            elif is_last or seconds >= 60 * config.checkpoint_every_minutes:
                self._save()
        self._choose_weights()

    def _do_step(self, step: Step) -> None:
        start = time.monotonic()
        number = self.state.step
        step_of_repeat = number % self.plan.steps_a_repeat
        if number and not step_of_repeat:
            # Each repeat starts from the first weights: only weights that start together can be
            # averaged (Wortsman et al. 2022, "Model soups").
            self.optimizer.state.clear()
            with torch.no_grad():
                for weight, first in zip(self.trained, self.first_weights, strict=True):
                    weight.copy_(first)
        # Random numbers of dropout are a function of the step and the worker, so that a run can
        # resume at any step: the seed has bits for 2^32 steps and 4096 workers.
        torch.manual_seed(((self.config.seed << 32) + number) * 4096 + rank())
        self.model.train()
        for part in self.model.children():  # what does not learn computes as it will in use
            part.train(any(weight.requires_grad for weight in part.parameters()))
        set_learning_rates(self.optimizer, step_of_repeat, self.plan.steps_a_repeat, self.config)
        batches = [batch.to(self.device) for batch in step.batches]
        penalize = self.ranks.add_penalty if self.ranks else None
        losses = train_step(self.module, batches, self.optimizer, self.config, penalize)
        self.state.step = number + 1
        if "skipped" in losses:
            self.state.skipped_steps += 1
            if self.state.skipped_steps == _MAX_SKIPPED_STEPS:
                raise FloatingPointError(
                    f"the gradient was not finite in {_MAX_SKIPPED_STEPS} steps in a row"
                    f"{DIVERGED_ADVICE}"
                )
        else:
            self.state.skipped_steps = 0
            if self.ranks:
                self.ranks.allocate(self.state.step)
        if step_of_repeat + 1 > (1 - self.config.average_share) * self.plan.steps_a_repeat:
            self.average.add(self.trained)
        self.step_seconds += time.monotonic() - start
        self.num_tokens += step.num_tokens
        tokens_per_second = round(self.num_tokens / self.step_seconds)
        progress = {"step": self.state.step, "num_steps": self.plan.num_steps}
        self._log({**progress, "tokens_per_second": tokens_per_second, **losses})

    def _validate(self) -> None:
        score = self._score()
        if self.config.best_metric:
            best = self.state.best_score
            if score is not None and (best is None or score > best):
                self.state.best_score, self.state.best_step = score, self.state.step
                self.state.validations_without_gain = 0
            else:
                self.state.validations_without_gain += 1
        self.state.score = score
        self._save()
        self.state.score = None  # the steps to come have none yet

    def _score(self) -> float | None:
        """Log the measures of the weights as they are, and return their `best_metric`.

        None without a `best_metric`, and where it is not a number.
        """
        results = self.objective.validate(self.sources)
        line: LogLine = {"step": self.state.step, "validation": results}
        score = None
        if self.config.best_metric:
            score = read_metric(results, self.config.best_metric)
            if not math.isfinite(score):
                score = None  # no weights are better or worse than it
            else:
                line["score"] = score
        self._log(line)
        return score

    def _choose_weights(self) -> None:
        """Take the average of weights, if there is one; or the best of the run, if better."""
        self.average.copy_to(self.trained)
        if self.config.best_metric:
            last, best = self._score(), self.state.best_score
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
            if self.ranks:
                tensors |= self.ranks.tensors()
            self.store.save(self.state, tensors)

    def _log(self, line: LogLine) -> None:
        if rank() == 0:
            self.log(line)
