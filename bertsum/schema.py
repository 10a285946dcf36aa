"""What flows through the library, and the only place with column names.

A `Document` goes in, a `Prediction` comes out; `predictions_to_table` is the border to Arrow.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

import pyarrow as pa
import pyarrow.types as pt

TEXT_COLUMN = "document"


class Status(StrEnum):
    """What became of a row: the table of statuses in jobs/docs/summarize.md says when and why."""

    OK = "ok"
    EMPTY = "empty"
    NOT_TEXT = "not_text"
    UNKNOWN_LANGUAGE = "unknown_language"
    ERROR = "error"


class OutputGroup(StrEnum):
    """Columns that are written together: what `summarizer.outputs` chooses among."""

    SUMMARY = "summary"
    SENTIMENT = "sentiment"
    LANGUAGE = "language"
    SPANS = "spans"
    SENTENCES = "sentences"
    EMBEDDING = "embedding"
    TOPIC = "topic"
    KEYWORDS = "keywords"
    ASPECTS = "aspects"
    TARGETS = "targets"
    QUERY = "query"


class QueryStatus(StrEnum):
    """What became of the query of a row: jobs/docs/query.md says when and why."""

    OK = "ok"
    EMPTY = "empty"
    UNKNOWN = "unknown"


DEFAULT_OUTPUTS = (OutputGroup.SUMMARY, OutputGroup.SENTIMENT)
"""The groups that are always written; their columns are in PREDICTION_SCHEMA."""

NEGATIVE, POSITIVE, MIXED = "negative", "positive", "mixed"
"""Sentiments that `summarizer.mixed` deals with; other labels are the model's own."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text to read.

    - `text`: None for a null.
    - `problem`: why a value could not be read as text.
    - `targets`: names to which the sentiment is asked, beside those of the configuration.
    - `query`: what it is asked, in place of the configuration's query. It counts where the
      configuration has `query` or `query_column`.
    """

    text: str | None
    language: str | None = None
    problem: str | None = None
    targets: tuple[str, ...] = ()
    query: str | None = None


class TextSpan(TypedDict):
    """A part of the text: `text[start : start + length]`, in Unicode code points."""

    start: int
    length: int


class SentenceReading(TextSpan):
    """What the model says of one sentence.

    `sentiment` and its scores, one a label, are None without a head for them.
    """

    score: float
    sentiment: str | None
    sentiment_scores: Mapping[str, float] | None


class Keyword(TypedDict):
    """A phrase that stands for a document, as the document writes it, and its score in [0, 1]."""

    text: str
    score: float


class Aspect(TextSpan):
    """Words that an opinion is about, as the document writes them, and its sentiment."""

    text: str
    sentiment: str
    score: float


class Target(TypedDict):
    """A name, the sentiment towards it, and where the document mentions it.

    No mentions: sentences only resemble the name.
    """

    target: str
    sentiment: str
    sentiment_scores: Mapping[str, float]
    mentions: Sequence[TextSpan]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One output row.

    Scores are probabilities in [0, 1]. Indices count the document's sentences from 0. The language
    is None where the text has none, and where nobody asked for it.
    """

    status: Status
    summary: str | None = None
    summary_sentences: Sequence[int] | None = None
    summary_scores: Sequence[float] | None = None
    sentiment: str | None = None
    sentiment_scores: Mapping[str, float] | None = None
    error: str | None = None
    num_sentences: int = 0
    num_tokens: int = 0
    truncated: bool = False
    language: str | None = None
    summary_spans: Sequence[TextSpan] | None = None
    sentences: Sequence[SentenceReading] | None = None
    embedding: Sequence[float] | None = None
    topic: str | None = None
    topic_scores: Mapping[str, float] | None = None
    keywords: Sequence[Keyword] | None = None
    aspects: Sequence[Aspect] | None = None
    targets: Sequence[Target] | None = None
    query_scores: Sequence[float] | None = None
    query_spans: Sequence[TextSpan] | None = None
    query_status: QueryStatus | None = None


PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("summary", pa.string()),
        pa.field("summary_sentences", pa.list_(pa.int32())),
        pa.field("summary_scores", pa.list_(pa.float32())),
        pa.field("sentiment", pa.string()),
        pa.field("sentiment_scores", pa.map_(pa.string(), pa.float32())),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("num_sentences", pa.int32(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
    ]
)
"""The columns that are always written."""

_SPAN_FIELDS = [
    pa.field("start", pa.int32(), nullable=False),
    pa.field("length", pa.int32(), nullable=False),
]
_SENTENCE_FIELDS = [
    *_SPAN_FIELDS,
    pa.field("score", pa.float32(), nullable=False),
    pa.field("sentiment", pa.string()),
    pa.field("sentiment_scores", pa.map_(pa.string(), pa.float32())),
]
_KEYWORD_FIELDS = [
    pa.field("text", pa.string(), nullable=False),
    pa.field("score", pa.float32(), nullable=False),
]
_ASPECT_FIELDS = [
    pa.field("text", pa.string(), nullable=False),
    *_SPAN_FIELDS,
    pa.field("sentiment", pa.string(), nullable=False),
    pa.field("score", pa.float32(), nullable=False),
]
_TARGET_FIELDS = [
    pa.field("target", pa.string(), nullable=False),
    pa.field("sentiment", pa.string(), nullable=False),
    pa.field("sentiment_scores", pa.map_(pa.string(), pa.float32()), nullable=False),
    pa.field("mentions", pa.list_(pa.struct(_SPAN_FIELDS)), nullable=False),
]
_OPTIONAL_FIELDS: Mapping[OutputGroup, Sequence[pa.Field]] = {
    OutputGroup.LANGUAGE: [pa.field("language", pa.string())],
    OutputGroup.SPANS: [pa.field("summary_spans", pa.list_(pa.struct(_SPAN_FIELDS)))],
    OutputGroup.SENTENCES: [pa.field("sentences", pa.list_(pa.struct(_SENTENCE_FIELDS)))],
    OutputGroup.EMBEDDING: [pa.field("embedding", pa.list_(pa.float32()))],
    OutputGroup.TOPIC: [
        pa.field("topic", pa.string()),
        pa.field("topic_scores", pa.map_(pa.string(), pa.float32())),
    ],
    OutputGroup.KEYWORDS: [pa.field("keywords", pa.list_(pa.struct(_KEYWORD_FIELDS)))],
    OutputGroup.ASPECTS: [pa.field("aspects", pa.list_(pa.struct(_ASPECT_FIELDS)))],
    OutputGroup.TARGETS: [pa.field("targets", pa.list_(pa.struct(_TARGET_FIELDS)))],
    OutputGroup.QUERY: [
        pa.field("query_scores", pa.list_(pa.float32())),
        pa.field("query_spans", pa.list_(pa.struct(_SPAN_FIELDS))),
        pa.field("query_status", pa.string()),
    ],
}
"""Columns of each group that is written where it is chosen; they follow PREDICTION_SCHEMA."""


def prediction_schema(
    outputs: Collection[OutputGroup] | None, embedding_size: int | None = None
) -> pa.Schema:
    """Columns of predictions: those that are always written, then those of the chosen groups.

    - `outputs`: None stands for DEFAULT_OUTPUTS.
    - `embedding_size`: features of an embedding, which are float16 then; None: a list of any length
      of float32, since Iceberg and Delta have neither lists of one length nor float16.
    """
    fields = list(PREDICTION_SCHEMA)
    for group, group_fields in _OPTIONAL_FIELDS.items():
        if group in (outputs or ()):
            fields += group_fields
    schema = pa.schema(fields)
    if embedding_size is not None and OutputGroup.EMBEDDING in (outputs or ()):
        column = pa.field("embedding", pa.list_(pa.float16(), embedding_size))
        schema = schema.set(schema.get_field_index("embedding"), column)
    return schema


def is_text(data_type: pa.DataType) -> bool:
    """Types that the text column may have; a column of nulls only has no type of its own."""
    if pt.is_dictionary(data_type):
        data_type = data_type.value_type
    if isinstance(data_type, pa.JsonType):  # as DuckDB writes a column of JSON
        data_type = data_type.storage_type
    return any(
        accepts(data_type)
        for accepts in (pt.is_string, pt.is_large_string, pt.is_string_view, pt.is_null)
    )


def is_texts(data_type: pa.DataType) -> bool:
    """Types of a column of lists of strings, which may be all null."""
    return pt.is_null(data_type) or (is_list(data_type) and is_text(data_type.value_type))


def is_list(data_type: pa.DataType) -> bool:
    """Whether values of this type are lists, in any of Arrow's layouts."""
    is_variable = pt.is_list(data_type) or pt.is_large_list(data_type)
    is_view = pt.is_list_view(data_type) or pt.is_large_list_view(data_type)
    return bool(is_variable or is_view or pt.is_fixed_size_list(data_type))


def is_binary(data_type: pa.DataType) -> bool:
    """Whether values of this type are bytes."""
    is_variable = pt.is_binary(data_type) or pt.is_large_binary(data_type)
    return bool(is_variable or pt.is_binary_view(data_type) or pt.is_fixed_size_binary(data_type))


def fold(name: str) -> str:
    """A column's name as readers compare it: DuckDB, Spark, Trino, Athena and Delta ignore case."""
    return name.casefold()


def same_names(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Those of `names` that readers cannot tell from one of `others`."""
    folded = {fold(other) for other in others}
    return [name for name in names if fold(name) in folded]


def other_names(clashes: Sequence[str], predicted: pa.Schema) -> str:
    """What a user can do where output columns have the names `clashes` of other columns."""
    always_written = predicted.names[: len(PREDICTION_SCHEMA)]
    choice = "leave that group out of summarizer.outputs ([] leaves out all), "
    if same_names(clashes, always_written):
        choice = ""
    return (
        f"{choice}or give output columns other names: all of them with output.prefix "
        "(`bertsum_`), single ones with output.rename (`{summary: abstract}`)"
    )


def predictions_to_table(
    predictions: Sequence[Prediction],
    outputs: Collection[OutputGroup] | None = None,
    embedding_size: int | None = None,
) -> pa.Table:
    """Arrow table with `prediction_schema(...)`, one row a prediction, in the given order."""
    schema = prediction_schema(outputs, embedding_size)
    columns = []
    for field in schema:
        # fields of Prediction and of the schema have the same names
        values = [getattr(prediction, field.name) for prediction in predictions]
        if pa.types.is_map(field.type):  # Arrow takes a map as its pairs
            values = [None if value is None else list(value.items()) for value in values]
        columns.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def output_fields(
    input_schema: pa.Schema,
    text_column: str,
    keep_columns: Sequence[str] | None,
    predicted: pa.Schema,
) -> list[pa.Field]:
    """Fields of an output file: the input columns that pass through, then those of predictions.

    `predicted`: see `prediction_schema`; columns may have other names.

    Raises ValueError when a kept column is not in the input, or has the name of an output column,
    in upper or lower case.
    """
    # None keeps all; () keeps none, so the two must not be mixed up
    names = list(keep_columns or ())
    if keep_columns is None:
        names = [name for name in input_schema.names if name != text_column]
    missing = [name for name in names if name not in input_schema.names]
    if missing:
        raise ValueError(f"keep_columns names {missing}, but the input has {input_schema.names}")
    if clashes := same_names(names, predicted.names):
        raise ValueError(
            f"input columns {clashes} have the names of output columns (most readers ignore case); "
            f"leave them out with keep_columns, {other_names(clashes, predicted)}"
        )
    return [input_schema.field(name) for name in names] + list(predicted)
