"""Configuration of a training run: where labelled rows lie, what is trained on them, and how."""

import math
import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from bertsum.config import Config, ModelConfig, ResourcesConfig
from bertsum.labels.config import LabelsConfig
from bertsum.training.tracking import Tracker


class SourceConfig(LabelsConfig):
    """One labelled set. Each row trains the heads that it has a label for."""

    name: str = Field(description="as it is called in measures and in the model card")
    train_uri: str | None = Field(
        None, description="Parquet, or shards of bertsum prepare, with the rows to train on"
    )
    validation_uri: str | None = Field(
        None, description="the same with rows to measure on; never trained on"
    )
    removed_pattern: str | None = Field(
        None,
        description="regular expression; what it matches is taken out of each document, like a publisher's mark that "
        "the model should not lean on",
    )
    excerpt_sentences: int | None = Field(
        None,
        ge=1,
        description="take 1 to this many consecutive sentences of each document in place of the whole",
    )
    max_documents: int | None = Field(
        None, ge=1, description="rows used, drawn at random with the run's seed"
    )
    weight: float = Field(1.0, gt=0, description="passes over the source in one epoch")
    max_windows: int = Field(8, ge=1, description="windows read of one document in training")

    @field_validator("removed_pattern")
    @classmethod
    def _can_be_compiled(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value


class WorkersConfig(ResourcesConfig):
    """What a run asks of the cluster. Workers share each batch, so their number does not change what is learned."""

    replicas: int | None = Field(
        1,
        ge=1,
        description="workers, each with its replica of the model; null: as many as the cluster holds",
    )


class NewEncoderConfig(Config):
    """Size of a BERT encoder that begins with random weights, and of its vocabulary of characters."""

    max_vocabulary: int = Field(
        8000, ge=5, description="characters, the most frequent ones of the training texts"
    )
    hidden_size: int = Field(256, ge=1, description="features of a token")
    num_hidden_layers: int = Field(4, ge=1, description="Transformer layers")
    num_attention_heads: int = Field(8, ge=1, description="heads of each; they divide hidden_size")
    intermediate_size: int = Field(1024, ge=1, description="inner features of each layer")
    max_position_embeddings: int = Field(512, ge=16, description="longest window, in tokens")


class TrainingConfig(Config):
    """A run: sources -> checkpoint."""

    data_root: str = Field(
        ".", description="directory or URI that the sources' relative URIs start from"
    )
    encoder: str = Field(
        description="`package:NAME`, a directory, a URI, a hub name, or `new` for `new_encoder`"
    )
    new_encoder: NewEncoderConfig = Field(
        NewEncoderConfig(), description="with `encoder: new`, in OUTPUT/encoder"
    )
    model: ModelConfig = Field(ModelConfig(), description="the heads")
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    start_from: str | None = Field(
        None,
        description="checkpoint to begin with, whose `model` counts; bertsum-default: the shipped one",
    )
    new_heads: tuple[
        Literal["summarization", "sentiment", "topic", "token_sentiment", "candidates"], ...
    ] = Field(
        (),
        description="with start_from: heads that begin anew; then `model` here counts, and the others must fit it",
    )
    trained: Literal["all", "heads", "summarization", "candidates"] = Field(
        "all",
        description="what learns; without the encoder its sentence vectors are computed once, and steps are fast",
    )
    lora_rank: int | None = Field(
        None, ge=1, description="train the encoder as deltas of this rank, by `adapter`"
    )
    adapter: Literal["lora", "dora", "loha", "lokr", "adalora", "prefix"] = Field(
        "lora",
        description="kind of the deltas with lora_rank, which are merged into the weights at the end; prefix, without "
        "lora_rank: only the model.prefix_tokens and the heads learn",
    )
    saved_rank: int | None = Field(
        None,
        ge=1,
        description="save the encoder as a difference of this rank to the package's; default: what loses nothing",
    )
    lora_alpha: int = Field(32, gt=0, description="factor of the deltas, divided by their rank")
    encoder_dropout: float = Field(
        0.1, ge=0, lt=1, description="its random numbers cost a CPU 3/4 of its speed"
    )
    gradient_checkpointing: bool = Field(
        False,
        description="keep only the layers' inputs and compute the rest again: less memory, a third more work",
    )
    optimizer: Literal["adamw", "adam"] = Field(
        "adamw", description="adamw: weight decay apart from the gradient; adam: as part of it"
    )
    encoder_learning_rate: float = Field(2e-5, ge=0, description="at the peak of the schedule")
    head_learning_rate: float = Field(5e-4, gt=0, description="at the peak of the schedule")
    weight_decay: float = Field(0.01, ge=0, description="of matrices; biases and norms have none")
    schedule: Literal["linear", "noam", "constant"] = Field(
        "linear", description="after the warm-up: linear to 0, with 1/sqrt(step), or constant"
    )
    warmup_share: float = Field(
        0.1, ge=0, le=1, description="share of the steps in which the rate rises"
    )
    head_warmup_share: float | None = Field(
        None, ge=0, le=1, description="the same for the heads; default: warmup_share"
    )
    epochs: float = Field(
        2, gt=0, description="passes over the sources, each as often as its weight says"
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        description="optimizer steps of the run, or of each repeat, in place of `epochs`",
    )
    max_batch_tokens: int = Field(
        4096, ge=64, description="tokens of one optimizer step, of all workers together"
    )
    max_micro_batch_tokens: int | None = Field(
        None,
        ge=64,
        description="tokens at once on a device; gradients of several are added up (default: all at once)",
    )
    summary_weight: float = Field(
        1.0, ge=0, description="factor of the summary loss, which is a mean over sentences"
    )
    sentiment_weight: float = Field(
        1.0, ge=0, description="factor of the sentiment loss, a mean over documents"
    )
    topic_weight: float = Field(
        1.0, ge=0, description="factor of the topic loss, a mean over documents"
    )
    token_sentiment_weight: float = Field(
        1.0, ge=0, description="factor of the loss of words, a mean over words"
    )
    candidate_weight: float = Field(
        1.0, ge=0, description="factor of the loss of model.rank_candidates, a mean over documents"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the sentiment labels")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    average_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps, at the end of the run, over which weights are averaged",
    )
    repeats: int = Field(
        1,
        ge=1,
        description="times that the steps are done, each from the first weights and with the rows in another order; "
        "the average of weights is over all",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="number format of products (autocast)"
    )
    notes: str = Field(
        "", description="Markdown for the model card: what the model is for, its limits"
    )
    seed: int = Field(0, ge=0, description="of new weights, the order of rows, and dropout")
    validate_every_steps: int = Field(
        500, ge=1, description="steps between two measures on validation rows"
    )
    max_validation_rows: int | None = Field(
        500,
        ge=1,
        description="of each source, during the run: drawn at random, the same ones each time; the end uses all",
    )
    best_metric: tuple[str, ...] = Field(
        (),
        description="measures like `cnn_dailymail.rouge.rouge_1`, whose mean picks the weights to keep; higher is "
        "better, but for names that end in `loss`; ROUGE counts in percent, shares from 0 to 1. Default: the last "
        "weights",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="end the run after this many validations without a better best_metric",
    )
    checkpoint_every_minutes: float = Field(10, ge=0, description="what a kill can cost")
    kept_checkpoints: int = Field(
        2,
        ge=1,
        description="the newest, from which the run goes on, and beside it the best (or next newest) ones",
    )
    tracking: tuple[Tracker, ...] = Field(
        (),
        description="where losses and measures go beside the log: tensorboard, wandb, mlflow (extras)",
    )
    resources: WorkersConfig = WorkersConfig()
    max_worker_failures: int = Field(
        3, ge=0, description="times that the workers start again after one has died"
    )

    @property
    def first_rank(self) -> int:
        """Rank that adalora begins with: half as much again as it ends with (12 and 8 in Zhang et al. 2023)."""
        return math.ceil(1.5 * (self.lora_rank or 1))

    @property
    def learned_rank(self) -> int | None:
        """Rank of what training adds to the encoder; None: any, as loha, lokr and dora have, and an encoder that learns
        whole."""
        if self.trained != "all":
            return 0
        return {
            "lora": self.lora_rank,
            "adalora": self.lora_rank and self.first_rank,
            "prefix": 0,
        }.get(self.adapter)

    @model_validator(mode="after")
    def _adapter_has_its_size(self) -> Self:
        if self.adapter == "prefix" and (
            self.lora_rank or not self.model.prefix_tokens or self.trained != "all"
        ):
            raise ValueError(
                "adapter: prefix needs model.prefix_tokens and trained: all, and has no lora_rank"
            )
        if self.lora_rank and self.trained != "all":
            raise ValueError(
                f"lora_rank is of an encoder that learns, and with trained={self.trained} it does not"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"sources: each needs a name of its own; more than one is called {', '.join(twice)}"
            )
        return self

    @model_validator(mode="after")
    def _tokens_are_computed(self) -> Self:
        if self.trained != "all" and self.model.token_sentiment_labels:
            raise ValueError(
                f"the head over tokens cannot learn with trained={self.trained}, which keeps sentences only"
            )
        return self

    @model_validator(mode="after")
    def _candidates_are_ranked(self) -> Self:
        if self.trained == "candidates" and not self.model.rank_candidates:
            raise ValueError("trained: candidates needs model.rank_candidates")
        if self.trained == "candidates" and not self.start_from:
            raise ValueError(
                "trained: candidates needs start_from: it ranks by the scores of trained layers"
            )
        return self

    @model_validator(mode="after")
    def _repeats_come_together(self) -> Self:
        if self.repeats > 1 and not self.average_share:
            raise ValueError(
                "repeats needs average_share: without an average only the last of them would count"
            )
        if self.repeats > 1 and self.patience:
            raise ValueError(
                "repeats and patience do not go together: patience would end the first of them"
            )
        if self.repeats > 1 and self.lora_rank and self.adapter == "adalora":
            raise ValueError(
                "repeats and adapter=adalora do not go together: each repeat would end with other ranks"
            )
        return self

    @model_validator(mode="after")
    def _best_can_be_kept(self) -> Self:
        if self.patience and not self.best_metric:
            raise ValueError("patience needs best_metric: which measure has to become better?")
        if self.best_metric and self.kept_checkpoints < 2:
            raise ValueError(
                "best_metric needs kept_checkpoints of at least 2: the newest and the best"
            )
        names = [source.name for source in self.sources if source.validation_uri]
        for metric in self.best_metric:
            if not any(metric.startswith(f"{name}.") for name in names):  # whose name may have dots
                raise ValueError(
                    f"best_metric {metric}: it starts with a source that has validation rows: {names}"
                )
        return self
