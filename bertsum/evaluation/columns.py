"""Columns of an evaluation: what it reads of labelled rows, and the measures that it writes."""

import pyarrow as pa

from bertsum.errors import InputError
from bertsum.evaluation.config import EvaluationConfig
from bertsum.labels.columns import label_columns, labels_problem, summaries_problem
from bertsum.runs.columns import encryption_problem
from bertsum.runs.input import Shard
from bertsum.schema import same_names
from bertsum.storage.folder import mask

_ROUGE = pa.struct(
    [
        pa.field("system", pa.string()),
        *(pa.field(name, pa.float64()) for name in ("rouge_1", "rouge_2", "rouge_lsum")),
    ]
)
_BY_LABEL = pa.map_(pa.string(), pa.float32())
_SCORES = pa.list_(pa.struct([("model", pa.string()), ("scores", _BY_LABEL)]))
_TAGS = pa.list_(pa.struct([("model", pa.string()), ("tags", pa.list_(pa.string()))]))
_TARGETS = pa.list_(pa.struct([("model", pa.string()), ("scores", pa.list_(_BY_LABEL))]))
MEASURES = pa.schema(
    [
        pa.field("status", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("num_sentences", pa.int32(), nullable=False),
        pa.field("rouge", pa.list_(_ROUGE)),
        pa.field("expected_sentiment", pa.string()),
        pa.field("sentiment", _SCORES),
        pa.field("expected_topic", pa.string()),
        pa.field("topic", _SCORES),
        pa.field("expected_words", pa.list_(pa.string())),
        pa.field("words", _TAGS),
    ]
)
"""Columns of the result beside those that are kept.

`status` and the numbers of tokens and sentences are those of the first model. `words` has a label
for each of `expected_words`, which are the words that stand in the text; `O` where a model has not
read a word, or where none of its tokens begins with the word.
"""
TARGET_MEASURES = (
    pa.field("expected_targets", pa.list_(pa.string())),
    pa.field("targets", _TARGETS),
)
"""Further columns where entities are labelled.

`targets` has the scores towards each of `expected_targets`, null where the text does not mention it.
"""
SUMMARY_MEASURES = (
    pa.field(
        "model_summaries",
        pa.list_(
            pa.struct(
                [
                    ("model", pa.string()),
                    ("spans", pa.list_(pa.struct([("start", pa.int32()), ("length", pa.int32())]))),
                ]
            )
        ),
    ),
)
"""A further column where summaries are measured: where each model's sentences stand in the text.

In code points. Files hold no text, so that OUTPUT has none but that of the worst examples.
"""
RETRIEVAL_MEASURES = (
    pa.field("document_digest", pa.string()),
    pa.field("is_same", pa.bool_()),
    pa.field("query_terms", pa.list_(pa.string())),
    pa.field("document_terms", pa.list_(pa.string())),
    pa.field(
        "retrieval",
        pa.list_(
            pa.struct(
                [
                    ("model", pa.string()),
                    ("member", pa.string()),
                    ("query", pa.list_(pa.float32())),
                    ("document", pa.list_(pa.float32())),
                ]
            )
        ),
    ),
)
"""Further columns where each row has a query: its embedding and that of the document.

Equal documents have one digest. BM25 compares the terms. `member`: of a family, what has read both.
"""


def measures(config: EvaluationConfig) -> pa.Schema:
    """Columns of a result beside those that are kept."""
    fields = list(MEASURES)
    if config.summary_column:
        fields += SUMMARY_MEASURES
    if config.entities_column:
        fields += TARGET_MEASURES
    if config.query_column:
        fields += RETRIEVAL_MEASURES
    return pa.schema(fields)


def result_schema(schema: pa.Schema, config: EvaluationConfig) -> pa.Schema:
    """Columns of a result whose input has `schema`."""
    return pa.schema([*map(schema.field, config.keep_columns), *measures(config)])


def needed_columns(config: EvaluationConfig) -> list[str]:
    """Columns to read, each once."""
    names = [config.text_column, *label_columns(config)]
    names += [*config.system_columns, *config.keep_columns]
    if config.language_column:
        names.append(config.language_column)
    # each once and in this order, which a set would lose
    return list(dict.fromkeys(names))


def check_measurable(shard: Shard, config: EvaluationConfig) -> str | None:
    """Why a file cannot be measured, or None. Raises InputError for a clash of names."""
    problem = (
        labels_problem(shard.schema, config, config.keep_columns)
        or summaries_problem(shard.schema, "system_columns", config.system_columns)
        or encryption_problem(shard, needed_columns(config))
    )
    if problem:
        return problem
    if clashes := same_names(config.keep_columns, measures(config).names):
        raise InputError(
            f"{mask(shard.file.path)}: keep_columns {clashes} have the names of result columns "
            "(most readers ignore case); leave them out"
        )
    return None
