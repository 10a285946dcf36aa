"""Columns of a labelled set: which there must be, of which types, and their values in Python.

The same for training, `bertsum prepare` and `bertsum evaluate`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from bertsum.labels.config import LabelsConfig
from bertsum.runs.columns import column_problem, columns_text
from bertsum.schema import is_list, is_text, is_texts

_NUMBERS = (pt.is_boolean, pt.is_integer, pt.is_floating)


def label_columns(labels: LabelsConfig) -> list[str]:
    """Columns that hold labels."""
    names: list[str] = []
    for key in _ALLOWED:
        # the text and its language are what is labelled
        # evaluating has columns that training has not, and the other way round
        name = None if key in ("text_column", "language_column") else getattr(labels, key, None)
        if name:
            names.append(name)
    return names


def labels_problem(schema: pa.Schema, labels: LabelsConfig, kept: Iterable[str] = ()) -> str | None:
    """Why labelled rows cannot be read of a file with `schema`, or None.

    A column may be missing, or of another type. `kept`: columns that pass through, of any type.
    """
    for key, (accepts, allowed) in _ALLOWED.items():
        name = getattr(labels, key, None)  # configurations of training lack some
        if name and (problem := column_problem(schema, key, name, accepts, allowed)):
            return problem
    if missing := [name for name in kept if name not in schema.names]:
        return (
            f"there is no column {missing[0]!r} (keep_columns names it); the file has "
            f"{columns_text(schema)}"
        )
    return None


def summaries_problem(schema: pa.Schema, key: str, names: Iterable[str]) -> str | None:
    """The same for other columns with summaries."""
    for name in names:
        if problem := column_problem(schema, key, name, *_ALLOWED["summary_column"]):
            return problem
    return None


def label_rows(
    table: pa.Table, names: Iterable[str], summaries: Iterable[str | None]
) -> list[dict[str, Any]]:
    """Values of the named columns, row by row.

    Those of the columns in `summaries` get one sentence a line. What is not UTF-8 is None: a row
    trains, and is measured by, the labels that can be read.
    """
    columns = {name: python_values(table[name]) for name in dict.fromkeys(names)}
    for name in columns.keys() & set(summaries):
        columns[name] = [_lines(value) for value in columns[name]]
    rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def python_values(column: pa.ChunkedArray) -> list[Any]:
    """One value a row; None for a null, and for one that is not UTF-8."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        # one value spoils the whole list: read each alone
        values = []
        for scalar in column:
            try:
                values.append(scalar.as_py())
            except UnicodeDecodeError:
                values.append(None)
    return values


def _lines(value: str | Sequence[str | None] | None) -> str | None:
    """A summary as it is, or of a list of sentences, one a line; None if it is blank."""
    if value is not None and not isinstance(value, str):
        # a line break within a sentence would make two of it
        lines = [" ".join(sentence.split()) for sentence in value if sentence]
        value = "\n".join(filter(None, lines))
    return value if value and value.strip() else None


def _is_numbers(data_type: pa.DataType) -> bool:
    item = data_type.value_type if is_list(data_type) else data_type
    # an empty list, or a column without any value, has the type null
    return pt.is_null(item) or (is_list(data_type) and _is_number(item))


def _has_texts(data_type: pa.DataType) -> bool:
    """Lists of strings, or of structs, of which training takes the field with the text."""
    return is_texts(data_type) or (is_list(data_type) and pt.is_struct(data_type.value_type))


def _is_class(data_type: pa.DataType) -> bool:
    item = data_type.value_type if pt.is_dictionary(data_type) else data_type
    return is_text(item) or _is_number(item)


def _is_number(data_type: pa.DataType) -> bool:
    return any(accepts(data_type) for accepts in _NUMBERS)


_TEXT = (is_text, "a string column")
_TEXTS = (is_texts, "a column of lists of strings")
_CLASS = (_is_class, "a column of strings, numbers or booleans")
_ALLOWED: Mapping[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "text_column": _TEXT,
    "language_column": _TEXT,  # which training has not
    "summary_column": (
        lambda kind: is_text(kind) or is_texts(kind),
        "a column of strings, or of lists of strings",
    ),
    "sentiment_column": _CLASS,
    "sentences_column": _TEXTS,
    "sentence_labels_column": (_is_numbers, "a column of lists of numbers or booleans"),
    "aspect_sentiments_column": _TEXTS,
    "topic_column": _CLASS,
    "tokens_column": _TEXTS,
    "token_sentiments_column": _TEXTS,
    "entities_column": _TEXTS,
    "entity_sentiments_column": _TEXTS,
    "query_column": _TEXT,
    "summary_query_column": _TEXT,
    "same_column": _CLASS,
    "negatives_column": (_has_texts, "a column of lists of strings, or of matches"),
    "pair_weight_column": (_is_number, "a column of numbers"),
}
