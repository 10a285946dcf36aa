"""The border to Arrow: a user's table -> documents, and predictions -> a table of the output.

Also which documents hold no text that a model can read.
"""

import json
import reprlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsum.config import SummarizerConfig
from bertsum.errors import InputError
from bertsum.schema import (
    Document,
    Prediction,
    Status,
    is_binary,
    is_texts,
    output_fields,
    predictions_to_table,
)
from bertsum.text.letterless import has_letter, says_something

_MAX_CONTROL_SHARE = 0.1  # of the characters: above it a value is binary data, not text

# all of ASCII but tab, line feed, vertical tab, form feed and carriage return
_CONTROL_BYTES = bytes([*range(0x09), *range(0x0E, 0x20), 0x7F])
_NON_CHARACTERS = ("\ufffe", "\uffff")


def read_documents(table: pa.Table, config: SummarizerConfig) -> list[Document]:
    """One document a row.

    Raises InputError for a table without the columns that the configuration names.
    """
    optional = list(filter(None, [config.language_column, config.targets_column]))
    if config.query_column is not None:
        optional.append(config.query_column)
    for name in [config.text_column, *optional]:
        if name not in table.column_names:
            columns = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
            raise InputError(f"there is no column {name!r}; the table has {columns}")
    # a name must say which column is meant, and a result must not hide a column of the input
    for name, count in Counter(table.column_names).items():
        if count > 1:
            raise InputError(f"the table has several columns of the name {name!r}")
    try:
        output_fields(table.schema, config.text_column, config.keep_columns, config.predicted)
    except ValueError as error:
        raise InputError(str(error)) from error
    column = table[config.text_column]
    if config.text_format != "text" and is_binary(column.type):
        documents = _decode_column(column)
    else:
        documents = read_texts(table, config.text_column)
    if config.text_path is not None:
        keys = config.text_path.split(".")
        documents = [_text_in_json(document, keys) for document in documents]
    if config.language_column:
        languages = read_texts(table, config.language_column)
        for index, language in enumerate(languages):
            document = documents[index]
            documents[index] = Document(document.text, language.text, document.problem)
    if config.targets_column:
        names = table[config.targets_column]
        if not is_texts(names.type):
            raise InputError(
                f"the column {config.targets_column!r} holds {names.type}; lists of strings are "
                "expected"
            )
        for index, (document, row) in enumerate(zip(documents, names.to_pylist(), strict=True)):
            # a null list, and a null or an empty name in a list, ask for nothing
            documents[index] = replace(document, targets=tuple(filter(None, row or ())))
    if config.query_column is not None:
        for index, query in enumerate(read_texts(table, config.query_column)):
            documents[index] = replace(documents[index], query=query.text)
    return documents


def output_table(
    table: pa.Table, predictions: Sequence[Prediction], config: SummarizerConfig
) -> pa.Table:
    """The kept columns of `table`, then those of the predictions, a row a row."""
    # kept columns first, then those of the predictions
    fields = output_fields(table.schema, config.text_column, config.keep_columns, config.predicted)
    result = predictions_to_table(predictions, config.outputs, config.embedding_size)
    kept = [table[field.name] for field in fields[: len(fields) - result.num_columns]]
    return pa.Table.from_arrays([*kept, *result.columns], schema=pa.schema(fields))


def _text_in_json(document: Document, keys: Sequence[str]) -> Document:
    """The string to which `keys` lead in a JSON document; none for a missing key or null."""
    if not document.text or not document.text.strip():
        return document
    try:
        value = json.loads(document.text)
    except (ValueError, RecursionError) as error:
        return Document("", problem=f"not JSON: {error}")
    # With the keys a and b, `{"a": {"b": "text"}}` gives "text", and `{"a": null}` no text.
    for depth, key in enumerate(keys):
        if value is None:
            break
        if not isinstance(value, dict):
            path = ".".join(keys[:depth])
            kind = type(value).__name__
            return Document(
                "", problem=f"not JSON with {'.'.join(keys)}: {path or 'it'} is a {kind}"
            )
        value = value.get(key)
    if value is None or isinstance(value, str):
        return Document(value)
    return Document("", problem=f"{'.'.join(keys)} is a {type(value).__name__}, not a string")


def read_sequence(values: Any) -> list[Document]:
    """One document a value of a list, numpy array, pandas Series or Arrow array of strings.

    They stay in order. None, NaN and what pandas has for a missing value are missing texts. Raises
    InputError for anything else.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _read_column(values, f"the {type(values).__name__}")
    shape = getattr(values, "shape", None)  # of numpy's arrays, and of pandas' and polars' columns
    is_sequence = isinstance(values, Sequence) if shape is None else len(shape) == 1
    if not is_sequence or isinstance(values, str | bytes | bytearray | memoryview):
        kind = type(values).__name__
        if shape is not None:
            kind += f" of shape {tuple(shape)}"
        raise InputError(
            "a str, a list or another sequence of str or None (also a numpy array, a pandas Series "
            f"or an Arrow array), or a pyarrow.Table is expected, not {kind}{_advice(values)}"
        )
    documents = []
    for index, value in enumerate(values):
        if not isinstance(value, str) and not _is_missing(value):
            shown = f"{type(value).__name__}, {reprlib.repr(value)}"
            raise InputError(
                f"document {index} is a {shown}; a str or None is expected{_advice(value)}"
            )
        documents.append(Document(value if isinstance(value, str) else None))
    return documents


def _advice(value: object) -> str:
    return "; Summarizer.predict takes a list of Documents" if isinstance(value, Document) else ""


def _is_missing(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, float | np.floating | np.datetime64):
        return bool(value != value)  # NaN and NaT
    pandas = sys.modules.get("pandas")  # without it there are no such values
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)


def read_texts(table: pa.Table, name: str) -> list[Document]:
    """One document for each string of a column.

    Bytes that are not UTF-8 become a document with a `problem`, not an exception.
    """
    return _read_column(table[name], f"the column {name!r}")


def _read_column(column: pa.Array | pa.ChunkedArray, where: str) -> list[Document]:
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if isinstance(column.type, pa.JsonType):
        column = pc.cast(column, column.type.storage_type)
    if pa.types.is_null(column.type):
        return [Document(None)] * len(column)
    if column.type not in (pa.string(), pa.large_string(), pa.string_view()):
        raise InputError(f"{where} holds {column.type}; strings are expected")
    try:
        return [Document(text) for text in column.to_pylist()]
    except UnicodeDecodeError:
        # some value is no UTF-8: decode each alone, to know which
        return _decode_column(column)


def _decode_column(column: pa.Array | pa.ChunkedArray) -> list[Document]:
    documents = []
    for value in pc.cast(column, pa.large_binary()).to_pylist():
        try:
            document = Document(None if value is None else value.decode("utf-8"))
        except UnicodeDecodeError as error:
            problem = f"not UTF-8: {error.reason} at byte {error.start}"
            document = Document("", problem=problem)
        documents.append(document)
    return documents


def unreadable(document: Document) -> Prediction | None:
    """The prediction of a document that no model should see, or None."""
    text = document.text
    if document.problem is not None:
        return Prediction(Status.NOT_TEXT, error=document.problem)
    if text is None or not text.strip():
        return Prediction(Status.EMPTY)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        return Prediction(Status.NOT_TEXT, error=f"a lone surrogate at character {error.start}")
    if not has_letter(text) and not says_something(text):
        return Prediction(Status.NOT_TEXT, error="no letter of any script, nor an emoji or rating")
    # In UTF-8 each control character is one byte that is part of no other character. So they can be
    # counted in C: "a\x00b" has 3 bytes, 2 without them.
    num_control = len(data) - len(data.translate(None, _CONTROL_BYTES))
    num_control += sum(map(text.count, _NON_CHARACTERS))
    if num_control > _MAX_CONTROL_SHARE * len(text):
        problem = f"{num_control} of {len(text)} characters are control characters"
        return Prediction(Status.NOT_TEXT, error=problem)
    return None
