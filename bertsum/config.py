"""The keys of the library and of `bertsum summarize`; `config_base` reads and checks them."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import pyarrow as pa
from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from bertsum.config_base import Config
from bertsum.errors import ConfigError
from bertsum.schema import DEFAULT_OUTPUTS, TEXT_COLUMN, OutputGroup, fold, prediction_schema


class ModelConfig(Config):
    """Architecture of a BERTSUM model; saved in the checkpoint's `config.json`."""

    pooling: Literal["cls", "mean"] = Field(
        "mean",
        description="sentence vector: its [CLS] token's vector, or the mean of its tokens' vectors",
    )
    segments: bool = Field(
        True, description="alternate token_type_ids 0/1 by sentence, where the encoder has two"
    )
    max_window_tokens: int = Field(
        512, ge=16, description="longest window, in tokens, special tokens included"
    )
    prefix_tokens: int = Field(
        0,
        ge=0,
        description="prefix tuning: learned keys and values in each layer of the encoder; 0: none",
    )
    summarization_layers: Literal["linear", "lstm", "transformer"] = Field(
        "transformer",
        description="layers between sentences, before the linear layer that scores each sentence",
    )
    num_summarization_layers: int = Field(
        2, ge=1, description="number of inter-sentence layers (unused by linear)"
    )
    num_heads: int = Field(
        8, ge=1, description="attention heads of the inter-sentence layers and the summary vector"
    )
    feed_forward_size: int = Field(
        2048, ge=1, description="inner size of the inter-sentence layers, in features"
    )
    position_scale: float = Field(
        1.0, ge=0, description="factor on the sinusoidal sentence positions"
    )
    surface_features: bool = Field(
        False,
        description="give the summarization layers each sentence's position, length and repetition",
    )
    rank_candidates: bool = Field(
        False,
        description="choose among whole summaries by a network that predicts their ROUGE, "
        "instead of sentence by sentence",
    )
    fewer_sentences: int = Field(
        0,
        ge=0,
        le=3,
        description="compare summaries with up to so many sentences below the budget too "
        "(rank_candidates)",
    )
    candidate_text_features: bool = Field(
        False,
        description="compare summaries also by their numbers, names and quotations, and by first "
        "words such as He or But (rank_candidates)",
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="share of features dropped in the heads during training"
    )
    sentiment_pooling: Literal["attention", "mean", "lstm"] = Field(
        "attention",
        description="document vector of the sentiment: attention over sentences, mean, or LSTM",
    )
    sentiment_labels: tuple[str, ...] = Field(
        ("negative", "neutral", "positive"),
        description="sentiments, in the order of the model's outputs; empty: no sentiment",
    )
    topic_labels: tuple[str, ...] = Field(
        (), description="topics, in the order of the model's outputs; empty: no topic"
    )
    token_sentiment_labels: tuple[str, ...] = Field(
        (),
        description="sentiments of single words (O, positive, ...); empty: none",
    )

    embedding_layers: tuple[int, ...] = Field(
        (),
        description="layers of the encoder (0: the embeddings of words) whose means over a "
        "document's tokens become its embedding, by a matrix that is fitted at the end of "
        "training; empty: the mean of the last layer is the embedding",
    )

    @field_validator("embedding_layers")
    @classmethod
    def _layers_ascend(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or min(value, default=0) < 0:
            raise ValueError(f"numbers of layers ascend from 0 on, and are not {list(value)}")
        return value

    @field_validator("sentiment_labels", "topic_labels", "token_sentiment_labels", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: Any) -> Any:
        """Take [0, 1] for names; of [no, yes] YAML makes booleans, and the text is lost."""
        if not isinstance(value, list | tuple):
            return value
        for name in value:
            if name is None or isinstance(name, bool):
                raise ValueError(
                    f"a class is named {name}: YAML reads null, ~, yes, no, on, off, true and "
                    "false as no text; put the name in quotes, as the data has it"
                )
        return tuple(str(name) if isinstance(name, int | float) else name for name in value)

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        for name in ("sentiment_labels", "topic_labels", "token_sentiment_labels"):
            labels = getattr(self, name)
            # A head with one class has nothing to decide: its softmax is always 1.
            if len(set(labels)) != len(labels) or len(labels) == 1:
                raise ValueError(f"{name} must be at least two different names, or none: {labels}")
        return self


class QueryWeights(Config):
    """How importance and query make the score of a sentence; in the checkpoint's `config.json`.

    The logit of a sentence is that of its importance, and these. The defaults, for a checkpoint of
    which they were not fitted, were chosen on training rows of bbc_news, scitldr and cnn_dailymail.
    """

    nearness: float = Field(8.0, description="factor of the cosine of sentence and query")
    words: float = Field(0.25, description="factor of BM25 of the query's words in the sentence")
    usual_cosine: float = Field(
        0.2,
        description="a cosine halfway between those of sentences to queries of their own documents "
        "and of others: a sentence without the query's words then keeps its importance",
    )


class SelectionConfig(Config):
    """How many of the best sentences make the summary."""

    unit: Literal["sentences", "characters", "tokens", "share"] = Field(
        "sentences",
        description="what `size` counts; share: part of the document's sentences, at least one",
    )
    size: float = Field(3, gt=0, description="the budget, in `unit`; never exceeded")
    trigram_blocking: bool | None = Field(
        None,
        description="skip a sentence that shares three consecutive words (characters in Chinese, "
        "Japanese and Thai) with a chosen one; default: yes, unless the model compares whole "
        "summaries, which it does where `unit` is sentences or share",
    )
    exact_size: bool = Field(
        False,
        description="take as many sentences as the budget allows, also where a model that "
        "compares whole summaries finds one with fewer better",
    )
    cut: Literal["none", "clause", "word"] = Field(
        "none",
        description="what becomes of the best sentence where it is longer than a budget of "
        "characters or tokens. none: it is passed over; clause, word: the summary is its "
        "beginning, up to the end of a clause or word, and an ellipsis",
    )
    most_sentences: int | None = Field(
        None,
        ge=1,
        description="most sentences within a budget of characters or tokens; default: as many as "
        "fit",
    )
    added_fields: ClassVar[frozenset[str]] = frozenset({"exact_size", "cut", "most_sentences"})

    @property
    def counts_sentences(self) -> bool:
        """Whether the budget is a number of sentences, or a share of them."""
        return self.unit in ("sentences", "share")

    @model_validator(mode="after")
    def _size_fits_unit(self) -> Self:
        if self.unit == "share" and self.size > 1:
            raise ValueError(
                f"selection.size is a share, so it must lie in (0, 1], not {self.size}"
            )
        if self.unit != "share" and self.size != int(self.size):
            raise ValueError(
                f"selection.size counts {self.unit}, so it must be a whole number, not {self.size}"
            )
        if self.cut != "none" and self.counts_sentences:
            raise ValueError(
                f"selection.cut={self.cut} cuts a sentence to a number of characters or tokens, so "
                f"selection.unit must be characters or tokens, not {self.unit}"
            )
        if self.most_sentences is not None and self.counts_sentences:
            raise ValueError(
                "selection.most_sentences limits a budget of characters or tokens, so "
                f"selection.unit must be one of them, not {self.unit}"
            )
        return self


class NamesConfig(Config):
    """What output columns are called."""

    prefix: str = Field(
        "", description="what the names of output columns begin with, like `bertsum_`"
    )
    rename: dict[str, str] = Field(
        {},
        description="output column -> its name, which then gets no prefix: `{summary: abstract}`",
    )

    @field_validator("prefix", mode="after")
    @classmethod
    def _prefix_is_text(cls, prefix: str) -> str:
        _check_name(f"{prefix}summary")
        return prefix

    @field_validator("rename", mode="after")
    @classmethod
    def _columns_are_known(cls, rename: dict[str, str]) -> dict[str, str]:
        columns = prediction_schema(tuple(OutputGroup)).names
        for column, name in rename.items():
            if column not in columns:
                raise ValueError(f"there is no output column {column!r}; there are {columns}")
            _check_name(name)
        return rename

    def name_of(self, column: str) -> str:
        """The name of an output column."""
        return self.rename.get(column, self.prefix + column)


def _repeated(names: Sequence[str]) -> str | None:
    """The first name that stands twice."""
    return next((name for name in names if names.count(name) > 1), None)


def _check_name(name: str) -> None:
    """Raise ValueError for what cannot be the name of a column in a file."""
    if not name or name != name.strip() or not name.isprintable():
        raise ValueError(
            f"{name!r} cannot be the name of a column: it is empty, begins or ends with a space, "
            "or has a character that cannot be printed"
        )


def _names_without_description(value: Any) -> Any:
    """Take [economy, sport] for {economy: "", sport: ""}; null is no description, too."""
    if isinstance(value, list | tuple):
        # `- sport: games` in YAML is a mapping in a list, which cannot be the key of another
        if not all(isinstance(name, str) for name in value):
            raise ValueError(
                "topics must be a list of names, like [sport, business], or one mapping with a "
                "line on each, like {sport: games and players, business: companies}"
            )
        if repeated := _repeated(value):
            raise ValueError(f"topics names {repeated!r} twice")
        value = dict.fromkeys(value, "")
    if not isinstance(value, dict):
        return value
    return {name: "" if text is None else text for name, text in value.items()}


def _topics_differ(topics: dict[str, str]) -> dict[str, str]:
    # with one topic there is nothing to decide: its softmax is always 1
    if len(topics) == 1 or not all(name.strip() for name in topics):
        raise ValueError(f"topics must be at least two names, or none: {list(topics)}")
    return topics


Topics = Annotated[
    dict[str, str], BeforeValidator(_names_without_description), AfterValidator(_topics_differ)
]
"""Names of topics, each with a line that says what it means, or an empty one."""


class RowConfig(Config):
    """Everything beside the model that changes what a row of output holds."""

    text_column: str = Field(TEXT_COLUMN, description="input column with the text of the document")
    keep_columns: tuple[str, ...] | None = Field(
        None, description="input columns that pass through; default: all but the text"
    )
    language: str | None = Field(
        None, description="ISO 639-1 code of all documents; default: detected, or from the script"
    )
    language_column: str | None = Field(
        None, description="input column with the ISO 639-1 code of each document"
    )
    selection: SelectionConfig = SelectionConfig()
    max_windows: int = Field(
        256, ge=1, description="windows read of one document; what lies beyond sets `truncated`"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number format of the encoder; auto: bfloat16 where the device has it "
        "natively, float16 on GPUs that have only that (V100, T4)",
    )
    text_format: Literal["text", "binary", "json"] = Field(
        "text",
        description="what the text column holds: strings; UTF-8 bytes; or JSON, in which "
        "`text_path` leads to the text",
    )
    text_path: str | None = Field(
        None,
        description="keys to the text in a JSON document, joined by dots, like `payload.body`",
    )
    outputs: tuple[OutputGroup, ...] | None = Field(
        None,
        description="groups of columns to write, beside summary and sentiment, which always are; "
        "default: what the model gives, which is the language for a family of checkpoints",
    )

    embedding_type: Literal["float16", "float32"] | None = Field(
        None,
        description="type of `embedding`: fixed_size_list<float16>, or list<float32>; default: "
        "float16, and float32 where output.table is iceberg or delta, which have no float16",
    )
    embedding_size: int | None = Field(
        None, ge=1, description="features of a float16 `embedding`; default: the model's"
    )
    topics: Topics = Field(
        {},
        description="topics to tell apart without training: a list of names, or names with a line "
        "of description each; default: those of the model's own head",
    )
    keywords: int = Field(8, ge=1, description="most phrases in `keywords`")
    mixed: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="sentiment `mixed` where at least this share of a document's sentences is "
        "expected to be positive, and this share negative, such as 0.25; default: never",
    )
    targets: tuple[str, ...] = Field(
        (), description="names to which `targets` tells the sentiment, like [Apple, price, service]"
    )
    targets_column: str | None = Field(
        None, description="input column with a list of such names for each document"
    )
    target_resemblance: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="cosine from which on a sentence counts for a name of `targets` in small "
        "letters that the document does not mention, such as 0.34; default: mentions alone",
    )
    query: str | None = Field(
        None,
        description="what is asked of every document: its summary has the sentences that are "
        "important and answer this; default: the generic summary",
    )
    query_column: str | None = Field(
        None, description="input column with such a query for each document"
    )
    query_weight: float = Field(
        1.0,
        gt=0,
        description="how much a query counts beside importance; above 1 for what answers it, also "
        "where the document says it by the way",
    )

    compile: bool = Field(
        False,
        description="let torch.compile fuse the parts of the encoder's layers between attention, "
        "which takes a minute at the start of each process; for GPUs of NVIDIA or AMD, encoders of "
        "BERT's family and machines with Triton, else an error",
    )

    added_fields: ClassVar[frozenset[str]] = frozenset(
        {
            "compile",
            "text_format",
            "text_path",
            "outputs",
            "embedding_type",
            "embedding_size",
            "topics",
            "keywords",
            "mixed",
            "targets",
            "targets_column",
            "target_resemblance",
            "query",
            "query_column",
            "query_weight",
        }
    )

    @field_validator("targets", "keep_columns", mode="after")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # a table with two columns of one name is a file that most readers refuse
        if repeated := _repeated(names or ()):
            raise ValueError(f"{repeated!r} is named twice")
        return names

    @field_validator("targets", mode="after")
    @classmethod
    def _targets_have_letters(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for name in targets:
            if not re.search(r"\w", name):
                raise ValueError(f"a target must have a letter or a digit, and {name!r} has none")
        return targets

    @field_validator("language", mode="after")
    @classmethod
    def _language_is_a_code(cls, language: str | None) -> str | None:
        # Of a family, every tag that no member lists goes to the member for all other languages, so
        # `English` would be read by a model that is worse at English.
        if language and not re.fullmatch(r"\s*[A-Za-z]{2,3}\s*([-_].*)?", language):
            raise ValueError(
                f"a language is a code of ISO 639, like en, de or zh-TW, and not {language!r}"
            )
        return language

    @model_validator(mode="after")
    def _has_what_to_resemble(self) -> Self:
        if self.target_resemblance is not None and not self.targets:
            raise ValueError("target_resemblance compares sentences with targets: name them")
        return self

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if self.query is not None and self.query_column is not None:
            raise ValueError(
                "query is asked of every document, and query_column of each its own: give one"
            )
        if self.query is not None and not re.search(r"\w", self.query):
            raise ValueError(f"a query must have a letter or a digit, and {self.query!r} has none")
        return self

    @field_validator("outputs", mode="after")
    @classmethod
    def _outputs_in_order(
        cls, groups: tuple[OutputGroup, ...] | None
    ) -> tuple[OutputGroup, ...] | None:
        """One order and no repetition, so that equal columns have one fingerprint."""
        if groups is None:
            return None
        return tuple(group for group in OutputGroup if group in (*DEFAULT_OUTPUTS, *groups))

    @model_validator(mode="after")
    def _path_fits_format(self) -> Self:
        if (self.text_format == "json") != bool(self.text_path):
            raise ValueError(
                "text_path says where in a JSON document the text is: give it with text_format "
                f"json, and only then (text_format is {self.text_format}, "
                f"text_path is {self.text_path})"
            )
        return self


class SummarizerConfig(RowConfig):
    """The same, and what the columns of a table of results are called."""

    output: NamesConfig = NamesConfig()

    added_fields: ClassVar[frozenset[str]] = RowConfig.added_fields | {"output"}

    @property
    def predicted(self) -> pa.Schema:
        """Columns of predictions, as a table of results has them."""
        schema = prediction_schema(self.outputs, self.embedding_size)
        return pa.schema([field.with_name(self.output.name_of(field.name)) for field in schema])

    def check_names(self) -> None:
        """Raise ConfigError for a renamed column that is not written, and for equal names.

        Which columns are written is known once a model has said which groups it writes.
        """
        columns = prediction_schema(self.outputs).names
        for column in self.output.rename:
            if column not in columns:
                raise ConfigError(
                    f"output.rename names {column!r}, which is not written: choose its group with "
                    f"summarizer.outputs; written are {columns}"
                )
        seen: dict[str, str] = {}
        for column in columns:
            name = self.output.name_of(column)
            if (other := seen.setdefault(fold(name), column)) != column:
                raise ConfigError(
                    f"output.prefix and output.rename give {other!r} and {column!r} the same name, "
                    f"{name!r} (most readers ignore case)"
                )


class ResourcesConfig(Config):
    """What the job asks of the cluster."""

    replicas: int | None = Field(
        None, ge=1, description="model replicas; default: as many as the cluster holds"
    )
    num_cpus: float | None = Field(
        None,
        gt=0,
        description="CPU cores a replica; default: all cores of the smallest node, at most 4",
    )
    num_gpus: float | None = Field(
        None,
        ge=0,
        description="GPUs a replica, also a fraction; default: 0 where the cluster has no GPUs; 1 "
        "if `replicas` is given; else the part of one that a replica keeps busy",
    )
    min_replicas: int | None = Field(
        None,
        ge=1,
        description="replicas that must run before work begins; others join later; default: all",
    )
    accelerator_type: str | None = Field(
        None,
        description="Ray's name of the GPU type (A10G, H100, ...), where a cluster has several",
    )
    timeout_seconds: float = Field(
        20,
        gt=0,
        description="how long to wait for resources; raise it on a cluster that scales from zero",
    )

    @model_validator(mode="after")
    def _shares_can_be_given(self) -> Self:
        # Ray counts in ten-thousandths, and gives a replica either a part of one GPU or whole ones
        for name in ("num_cpus", "num_gpus"):
            value = getattr(self, name)
            if value and value < 0.001:
                raise ValueError(f"{name} must be at least 0.001, not {value}")
        if self.num_gpus is not None and self.num_gpus > 1 and self.num_gpus % 1:
            raise ValueError(
                f"num_gpus must be a whole number where it is above 1, not {self.num_gpus}"
            )
        return self

    @model_validator(mode="after")
    def _fewer_to_begin(self) -> Self:
        if self.min_replicas is not None and (
            self.replicas is None or self.min_replicas > self.replicas
        ):
            raise ValueError(
                f"min_replicas must be at most replicas ({self.replicas}), not {self.min_replicas}"
            )
        return self


class OutputConfig(Config):
    """What becomes of results beside being written."""

    table: Literal["parquet", "iceberg", "delta"] = Field(
        "parquet",
        description="parquet: files and manifests only; otherwise also a table of this format",
    )
    table_name: str = Field(
        "bertsum.summaries", description="NAMESPACE.TABLE in the Iceberg catalog"
    )
    catalog: str | None = Field(
        None,
        description="Iceberg catalog, by its name in the pyiceberg configuration; default: an "
        "SQLite file in OUTPUT/_iceberg",
    )
    keep_days: float = Field(
        7,
        ge=0,
        description="days to keep files that left the table, for readers of earlier snapshots",
    )
    file_bytes: int = Field(
        256 * 2**20,
        ge=0,
        description="size of a table's files; files below a quarter are merged; 0: never merge",
    )

    vanished_input: Literal["keep_partitions", "keep_files", "drop"] = Field(
        "keep_partitions",
        description="results whose input is gone. keep_partitions: keep them where the input's "
        "whole partition is gone, like old days that were deleted; keep_files: keep each; drop: "
        "treat them like results of changed input",
    )


STATISTICS = (
    *("rows", "error", "empty", "not_text", "unknown_language", "truncated", "markup"),
    *("tokens", "sentences", "characters", "letters", "position", "scores", "confidence"),
)
"""What `output.checks` looks at, beside `sentiment.LABEL` and `language.CODE`."""


class ChecksConfig(Config):
    """What is looked at in a partition of results before readers see it."""

    action: Literal["none", "warn", "hold"] = Field(
        "none",
        description="where a partition of results is unlike those before it or breaks a limit. "
        "warn: say so and publish it; hold: leave it unpublished until `bertsum publish`; none: "
        "look at nothing",
    )
    history_days: int = Field(
        42, ge=7, description="days before a partition's own with which it is compared"
    )
    min_history: int = Field(
        14,
        ge=5,
        description="published days of the same model that a comparison needs; with fewer, only "
        "`limits` and `same_model` hold",
    )
    false_holds: float = Field(
        0.001, gt=0, lt=1, description="chance that the comparison holds an ordinary partition"
    )
    limits: dict[str, tuple[float | None, float | None]] = Field(
        {},
        description="least and most of a statistic, null for none, over the ones that hold "
        "without: `{rows: [100, null], sentiment.negative: [0.02, 0.6]}`",
    )
    same_model: bool = Field(
        True,
        description="find fault with a model that is not the last published day's; not where "
        "on_existing is replace",
    )

    @field_validator("limits", mode="after")
    @classmethod
    def _limits_can_be_kept(
        cls, limits: dict[str, tuple[float | None, float | None]]
    ) -> dict[str, tuple[float | None, float | None]]:
        for name, (least, most) in limits.items():
            family, separator, label = name.partition(".")
            is_label = family in ("sentiment", "language") and separator and label
            if name not in STATISTICS and not is_label:
                raise ValueError(
                    f"there is no statistic {name!r}; there are {', '.join(STATISTICS)}, "
                    "sentiment.LABEL and language.CODE"
                )
            if least is not None and most is not None and least > most:
                raise ValueError(f"nothing lies in the limits of {name}, {least} to {most}")
        return limits


def _action_alone(value: Any) -> Any:
    """Take `checks: hold` for `checks: {action: hold}`."""
    return {"action": value} if isinstance(value, str) else value


class NamedOutputConfig(OutputConfig, NamesConfig):
    """What becomes of summaries beside being written, and what their columns are called."""

    checks: Annotated[ChecksConfig, BeforeValidator(_action_alone)] = ChecksConfig()


class DaysConfig(Config):
    """How INPUT is partitioned by day, for `nightly` and `backfill`."""

    partition: str = Field(
        "dt=%Y-%m-%d",
        description="a day's directory in INPUT, in strftime codes: `year=%Y/month=%m/day=%d`",
    )
    time_zone: str = Field(
        "UTC", description="IANA name of the zone whose yesterday `nightly` means"
    )


BatchTokens = Annotated[int, Field(ge=1)] | Literal["auto"]
BATCH_TOKENS = (
    "most tokens of one batch on the device. auto: 16,384, and 65,536 on a GPU of NVIDIA or AMD of "
    "whose memory they would take at most an eighth"
)


class RunConfig(Config):
    """How a job runs; nothing here changes what a row holds."""

    resources: ResourcesConfig = ResourcesConfig()
    output: OutputConfig = OutputConfig()
    rows_per_unit: int = Field(
        1000, ge=1, description="most rows of one unit of work, which is one output file"
    )
    max_unit_bytes: int = Field(
        256 * 2**20, ge=1, description="most uncompressed input bytes of one unit"
    )
    max_error_fraction: float = Field(
        0.01, ge=0, le=1, description="share of rows with status `error` above which the job fails"
    )
    max_unit_attempts: int = Field(
        3, ge=1, description="tries of a unit before it counts as failed"
    )
    replica_timeout_seconds: float = Field(
        900,
        gt=0,
        description="replace a replica without progress for so long, and try its unit again",
    )
    storage_options: dict[str, dict[str, Any]] = Field(
        {},
        description="options of fsspec's filesystems by protocol, like {s3: {endpoint_url: ...}}",
        repr=False,
    )
    openlineage: str | None = Field(
        None,
        description="server (http://host:5000) or local file for OpenLineage events; default: "
        "OpenLineage's own variables, else none",
        repr=False,
    )
    on_existing: Literal["resume", "replace"] = Field(
        "resume",
        description="if OUTPUT holds results of another model or configuration. resume: end with "
        "an error; replace: make new ones, then remove these",
    )


class JobConfig(RunConfig):
    """`bertsum summarize`: the summarizer's configuration, and how the job runs.

    Only `named_summarizer` changes what a file of results holds.
    """

    summarizer: RowConfig = RowConfig()
    output: NamedOutputConfig = NamedOutputConfig()
    max_batch_tokens: BatchTokens = Field("auto", description=BATCH_TOKENS)
    days: DaysConfig = DaysConfig()

    @property
    def named_summarizer(self) -> SummarizerConfig:
        """What rows hold, with the names of their columns."""
        names = self.output.model_dump(include=set(NamesConfig.model_fields))
        return SummarizerConfig.model_validate(self.summarizer.model_dump() | {"output": names})
