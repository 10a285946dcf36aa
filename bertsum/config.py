"""The summarizer's keys: what a row of results holds, and what its columns are called."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import pyarrow as pa
from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from bertsum.config_base import Config
from bertsum.errors import ConfigError
from bertsum.schema import DEFAULT_OUTPUTS, TEXT_COLUMN, OutputGroup, fold, prediction_schema


def check_language(language: str | None) -> str | None:
    """The language as it is. Raises ValueError where it is no code, which nobody would heed."""
    if language and not re.fullmatch(r"\s*[A-Za-z]{2,3}\s*([-_].*)?", language):
        raise ValueError(
            f"a language is a code of ISO 639, like en, de or zh-TW, and not {language!r}"
        )
    return language


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
        "letters that the document does not mention, such as 0.31; default: mentions alone",
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

    _language_is_a_code = field_validator("language", mode="after")(check_language)

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
