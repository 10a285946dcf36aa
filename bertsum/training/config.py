"""Configuration of a training run: where labelled rows lie, what is trained on them, and how."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from bertsum.config_base import Config
from bertsum.job_config import ResourcesConfig
from bertsum.model_config import ModelConfig
from bertsum.training.heads.config import EmbeddingConfig, QueryFitConfig
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.summaries.config import DecoderConfig
from bertsum.training.tracking import Tracker

# What a run with a decoder has no use for: other parts that learn, and rates of their own.
_NOT_WITH_DECODER = (
    *("new_heads", "trained", "embedding", "query", "vectors_uri"),
    *("lora_rank", "adapter", "saved_rank", "optimizer", "encoder_learning_rate"),
    *("head_learning_rate", "weight_decay", "schedule", "warmup_share", "head_warmup_share"),
    *("summary_weight", "sentiment_weight", "topic_weight", "token_sentiment_weight"),
    *("candidate_weight", "pair_weight", "hold_weight", "hold_to", "hold_prefix"),
    *("pair_temperature", "label_smoothing"),
)
_OTHER_LABELS = (
    *("sentence_labels_column", "sentiment_column", "sentiment", "aspect_sentiments_column"),
    *("topic_column", "tokens_column", "entities_column", "query_column", "hold_vectors"),
)


class WorkersConfig(ResourcesConfig):
    """What a run asks of the cluster.

    Workers share each batch, so their number does not change what is learned.
    """

    replicas: int | None = Field(
        1,
        ge=1,
        description="number of workers, each with its replica of the model; null: as many as the "
        "cluster holds",
    )


class NewEncoderConfig(Config):
    """Size of a BERT encoder that starts with random weights, and of its vocabulary."""

    max_vocabulary: int = Field(
        8000,
        ge=5,
        description="size of the vocabulary: the most frequent characters of the training texts",
    )
    hidden_size: int = Field(256, ge=1, description="features of each token")
    num_hidden_layers: int = Field(4, ge=1, description="Transformer layers")
    num_attention_heads: int = Field(
        8, ge=1, description="attention heads of each layer; hidden_size is a multiple of it"
    )
    intermediate_size: int = Field(
        1024, ge=1, description="inner features of each layer's feed-forward network"
    )
    max_position_embeddings: int = Field(512, ge=16, description="tokens of the longest window")

    @model_validator(mode="after")
    def _heads_share_the_features(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is no multiple of "
                f"num_attention_heads={self.num_attention_heads}"
            )
        return self


class TrainingConfig(Config):
    """A run: sources -> checkpoint."""

    # Names and defaults stay: an OUTPUT has them in its record of the run.

    data_root: str = Field(
        ".", description="directory or URI that relative URIs of the sources start from"
    )
    encoder: str = Field(
        description="`package:NAME`, a directory, a URI, a hub name, or `new` for `new_encoder`"
    )
    new_encoder: NewEncoderConfig = Field(
        NewEncoderConfig(),
        description="size of the encoder that `encoder: new` makes in OUTPUT/encoder",
    )
    model: ModelConfig = Field(ModelConfig(), description="the model's heads")
    decoder: DecoderConfig | None = Field(
        None,
        description="learn to write summaries (BertSumAbs): the encoder, or that of `start_from` "
        "(BertSumExtAbs), with a new decoder; the checkpoint is for `bertsum generate`",
    )
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    start_from: str | None = Field(
        None,
        description="checkpoint to start from; its `model` replaces the one here; "
        "bertsum-default/english and bertsum-default/multilingual are the shipped ones",
    )
    new_heads: tuple[
        Literal[
            "summarization", "sentiment", "topic", "token_sentiment", "candidates", "embedding"
        ],
        ...,
    ] = Field(
        (),
        description="with start_from: heads that start with new weights; then the keys of `model` "
        "that are given here count, and the other heads must fit them",
    )
    trained: Literal[
        "all", "heads", "summarization", "sentiment", "topic", "candidates", "embedding", "query"
    ] = Field(
        "all",
        description="parts of the model that learn; unless it is all, sentence vectors are "
        "computed only once, and steps are fast; embedding, query: no steps at all, only its matrix "
        "is fitted, or what a query weighs",
    )
    embedding: EmbeddingConfig | None = Field(
        None,
        description="fit the matrix of model.embedding_layers at the end of the run, so that "
        "document vectors agree with those of `encoder` as it was before training",
    )
    query: QueryFitConfig | None = Field(
        None, description="fit at the end of the run what importance and a query weigh"
    )
    vectors_uri: str | None = Field(
        None,
        description="directory that keeps these sentence vectors, and those to hold, for other runs "
        "with the same encoder and rows; default: OUTPUT/vectors, emptied at the end",
    )
    lora_rank: int | None = Field(
        None,
        ge=1,
        description="train the encoder through low-rank deltas of this rank, of the kind that "
        "`adapter` names; default: train all its weights",
    )
    adapter: Literal["lora", "dora", "loha", "lokr", "adalora", "prefix"] = Field(
        "lora",
        description="kind of the deltas with lora_rank, which are merged into the weights at the "
        "end; prefix, without lora_rank: only the model.prefix_tokens and the heads "
        "learn",
    )
    saved_rank: int | None = Field(
        None,
        ge=1,
        description="save the encoder as a difference of this rank to the package's encoder; "
        "default: the rank that loses nothing",
    )
    lora_alpha: int = Field(
        32,
        gt=0,
        description="scale of the deltas: they are multiplied by it, divided by their rank",
    )
    encoder_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="dropout in the encoder; on a CPU its random numbers cost 3/4 of the speed",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="keep only the inputs of each layer and compute the rest again: less memory, a "
        "third more work",
    )
    optimizer: Literal["adamw", "adam"] = Field(
        "adamw",
        description="adamw: weight decay apart from the gradient; adam: weight decay as part of it",
    )
    encoder_learning_rate: float = Field(
        2e-5, ge=0, description="learning rate of the encoder at the peak of the schedule"
    )
    head_learning_rate: float = Field(
        5e-4, gt=0, description="learning rate of the heads at the peak of the schedule"
    )
    weight_decay: float = Field(
        0.01, ge=0, description="weight decay of matrices; biases and norms have none"
    )
    schedule: Literal["linear", "noam", "constant"] = Field(
        "linear",
        description="learning rate after the warm-up: falls linearly to 0, falls with 1/sqrt(step) "
        "(noam), or stays constant",
    )
    warmup_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the steps, at the start, in which the learning rate rises",
    )
    head_warmup_share: float | None = Field(
        None, ge=0, le=1, description="warmup_share of the heads; default: warmup_share"
    )
    epochs: float = Field(
        2,
        gt=0,
        description="epochs: in each, every source is passed over as often as its weight says",
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        description="optimizer steps of the run (of each repeat), in place of `epochs`",
    )
    max_batch_tokens: int = Field(
        4096, ge=64, description="tokens of one optimizer step, at most, over all workers"
    )
    max_micro_batch_tokens: int | None = Field(
        None,
        ge=64,
        description="tokens on a device at once, at most; a step adds up the gradients of several "
        "such batches; default: all at once",
    )
    summary_weight: float = Field(
        1.0, ge=0, description="factor of the summary loss, a mean over sentences"
    )
    sentiment_weight: float = Field(
        1.0, ge=0, description="factor of the sentiment loss, a mean over documents"
    )
    topic_weight: float = Field(
        1.0, ge=0, description="factor of the topic loss, a mean over documents"
    )
    token_sentiment_weight: float = Field(
        1.0, ge=0, description="factor of the loss of the head for words, a mean over words"
    )
    candidate_weight: float = Field(
        1.0,
        ge=0,
        description="factor of the loss of the candidate ranker (model.rank_candidates), a mean "
        "over documents",
    )
    pair_weight: float = Field(
        1.0, ge=0, description="factor of the loss of pairs (query_column), a mean over pairs"
    )
    hold_weight: float = Field(
        1.0,
        ge=0,
        description="factor of the loss of held vectors (hold_vectors): 1 - cosine to the vector "
        "of hold_to, a mean over texts",
    )
    hold_to: Literal["start", "encoder"] = Field(
        "start",
        description="whose vectors are held: those of the model as the run finds it, or of "
        "`encoder`, before any training; to these the matrix of model.embedding_layers learns to "
        "lead, too",
    )
    hold_prefix: str = Field(
        "",
        description="with hold_to: encoder, what its authors put before a text: `query: ` for E5",
    )
    pair_temperature: float = Field(
        0.05, gt=0, description="cosines are divided by it before the softmax of the loss of pairs"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="label smoothing of the sentiment loss"
    )
    clip_norm: float = Field(
        1.0,
        gt=0,
        description="largest norm of the gradient; a longer gradient is scaled down to it",
    )
    average_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps, at the end, whose weights are averaged; 0: no average",
    )
    repeats: int = Field(
        1,
        ge=1,
        description="times that the steps are done, each from the first weights and with the rows "
        "in another order; the average of weights is over all",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number format of matrix products (autocast); auto: bfloat16 where all workers' "
        "devices have it natively; a run that began with another format keeps it",
    )
    notes: str = Field(
        "", description="Markdown for the model card, such as what the model is for, and its limits"
    )
    seed: int = Field(
        0, ge=0, description="seed of new weights, of the order of rows, and of dropout"
    )
    validate_every_steps: int = Field(500, ge=1, description="steps between two validations")
    max_validation_rows: int | None = Field(
        500,
        ge=1,
        description="validation rows of each source during the run, drawn at random and the same "
        "ones each time; at the end all are used",
    )
    best_metric: tuple[str, ...] = Field(
        (),
        description="measures like `cnn_dailymail.rouge.rouge_1`, whose mean picks the weights to "
        "keep; higher is better, but for names that end in `loss`; ROUGE counts in "
        "percent, shares from 0 to 1. Default: the last weights",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="end the run after this many validations in a row without a better "
        "best_metric; default: never",
    )
    checkpoint_every_minutes: float = Field(
        10, ge=0, description="minutes between two checkpoints: as much work as a kill can cost"
    )
    kept_checkpoints: int = Field(
        2,
        ge=1,
        description="checkpoints to keep: the newest, from which a run resumes, and the best (or "
        "next newest) ones",
    )
    tracking: tuple[Tracker, ...] = Field(
        (),
        description="trackers that get losses and measures beside the log: tensorboard, wandb, "
        "mlflow (extras)",
    )
    worst_examples: int = Field(
        10,
        ge=0,
        description="validation rows of each source and head that the report shows, with their "
        "texts, since the model is furthest off there; 0 where no text may lie beside the "
        "checkpoint",
    )
    resources: WorkersConfig = WorkersConfig()
    max_worker_failures: int = Field(
        3, ge=0, description="times that all workers are started again after a worker has died"
    )

    @property
    def learns_pairs(self) -> bool:
        """Whether the encoder learns from pairs of a query and a document."""
        return any(source.learns_pairs for source in self.sources)

    @property
    def holds_vectors(self) -> bool:
        """Whether vectors of training rows are held."""
        return any(source.hold_vectors and source.train_uri for source in self.sources)

    @property
    def learns_matrix(self) -> bool:
        """Whether the embedding's matrix learns in steps, beside the encoder."""
        return self.holds_vectors and self.hold_to == "encoder"

    @property
    def begins_matrix(self) -> bool:
        """Whether the embedding's matrix, where there is one, is new and not that of a start."""
        return self.start_from is None or "embedding" in self.new_heads

    @property
    def keeps_matrix(self) -> bool:
        """Whether pairs go on from the embedding's matrix of `start_from`, whose encoder stays."""
        stays = self.trained == "embedding" and not self.begins_matrix
        return stays and self.embedding is not None and bool(self.embedding.pairs)

    @property
    def has_steps(self) -> bool:
        """Whether anything is learned, and not only fitted at the end."""
        return self.trained not in ("embedding", "query")

    @property
    def first_rank(self) -> int:
        """Rank that adalora starts with.

        It is half as much again as that which it ends with (12 and 8 in Zhang et al. 2023).
        """
        # 8 -> 12, 3 -> 5: ranks are whole
        return math.ceil(1.5 * (self.lora_rank or 1))

    @property
    def learned_rank(self) -> int | None:
        """Rank of what training adds to the encoder.

        None: it has no bound, as with loha, lokr and dora, and where all weights learn.
        """
        # the encoder stays as it is: there is no difference to save
        if self.trained != "all" or self.adapter == "prefix":
            return 0
        if self.adapter == "adalora" and self.lora_rank:
            return self.first_rank
        # loha multiplies low-rank matrices element by element, lokr makes a Kronecker product of
        # them, and dora scales the whole weight: what they add may have any rank
        return self.lora_rank if self.adapter == "lora" else None

    @model_validator(mode="after")
    def _decoder_learns_from_summaries(self) -> Self:
        if self.decoder is None:
            return self
        for name in _NOT_WITH_DECODER:
            value, allowed = getattr(self, name), type(self).model_fields[name].default
            if value != allowed:
                raise ValueError(
                    f"{name}={value!r} and decoder do not go together: a run with a decoder trains "
                    "the whole encoder and the decoder by the rates below `decoder`, from "
                    f"summaries alone; leave {name} out"
                )
        for source in self.sources:
            # of `model` no head is there, and each row has one reference at most
            others = sorted(name for name in _OTHER_LABELS if getattr(source, name))
            if others or source.summary_column is None:
                problem = f"{', '.join(others)} given" if others else "no summary_column"
                raise ValueError(
                    f"decoder: rows teach it by their summaries alone, and source {source.name} "
                    f"has {problem}; allowed labels: summary_column"
                )
        return self

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
                "lora_rank is of an encoder that learns, and with "
                f"trained={self.trained} it does not"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        # measures and the model card know a source by its name alone
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"sources: each needs a name of its own; more than one is called {', '.join(twice)}"
            )
        return self

    @model_validator(mode="after")
    def _tokens_are_computed(self) -> Self:
        # sentence vectors are computed once and kept; of tokens there are many times as many
        is_kept = self.trained not in ("all", "heads") and "token_sentiment" not in self.new_heads
        if self.trained != "all" and self.model.token_sentiment_labels and not is_kept:
            raise ValueError(
                f"the head over tokens cannot learn with trained={self.trained}, "
                "which keeps sentences only"
            )
        return self

    @model_validator(mode="after")
    def _pairs_reach_the_encoder(self) -> Self:
        if self.trained != "all" and (self.learns_pairs or self.holds_vectors):
            raise ValueError(
                "query_column and hold_vectors are for an encoder that learns (trained: all); with "
                "embedding.pairs the matrix of the embedding alone learns from pairs"
            )
        if self.embedding is not None and self.learns_pairs:
            raise ValueError(
                "embedding fits the matrix to the vectors from before the run, which would undo "
                "what the encoder learns from query_column: give one of the two"
            )
        return self

    @model_validator(mode="after")
    def _held_to_what_there_is(self) -> Self:
        if self.hold_to == "encoder" and (not self.holds_vectors or self.encoder == "new"):
            raise ValueError(
                "hold_to: encoder needs a source with hold_vectors and train_uri, and an encoder "
                "that has learned; `new` has random weights"
            )
        if self.hold_prefix and self.hold_to == "start":
            raise ValueError("hold_prefix belongs to hold_to: encoder")
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
    def _embedding_is_fitted(self) -> Self:
        is_new = bool(self.model.embedding_layers) and self.begins_matrix
        is_missed = is_new and not self.learns_matrix
        if self.embedding is None and (is_missed or self.trained == "embedding"):
            raise ValueError(
                "model.embedding_layers need a matrix, fitted on texts: give them with "
                "embedding.texts"
            )
        has_none = not self.model.embedding_layers and self.start_from is None
        if self.embedding is not None and has_none:
            raise ValueError("embedding fits a matrix on model.embedding_layers, which is empty")
        if self.embedding is not None and self.encoder == "new":
            raise ValueError(
                "embedding needs an encoder that has learned; `new` has random weights"
            )
        return self

    @model_validator(mode="after")
    def _query_is_fitted(self) -> Self:
        if self.trained == "query" and (self.query is None or self.start_from is None):
            raise ValueError("trained: query needs start_from, and pairs to fit on (query.pairs)")
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
        # weights of other shapes have no mean
        if self.repeats > 1 and self.lora_rank and self.adapter == "adalora":
            raise ValueError(
                "repeats and adapter=adalora do not go together: each repeat would end with other "
                "ranks"
            )
        return self

    @model_validator(mode="after")
    def _best_can_be_kept(self) -> Self:
        if self.patience and not self.best_metric:
            raise ValueError("patience needs best_metric: which measure has to become better?")
        # a run resumes from the newest, which need not be the best
        if self.best_metric and self.kept_checkpoints < 2:
            raise ValueError(
                "best_metric needs kept_checkpoints of at least 2: the newest and the best"
            )
        names = [source.name for source in self.sources if source.validation_uri]
        for metric in self.best_metric:
            if not any(metric.startswith(f"{name}.") for name in names):  # whose name may have dots
                raise ValueError(
                    f"best_metric {metric}: it starts with a source that has validation rows: "
                    f"{names}"
                )
        return self
