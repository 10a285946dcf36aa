"""Arrow columns -> documents, and which of them hold no text that a model can read."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from bertsum.errors import InputError
from bertsum.schema import Document, Prediction, Status

# Of the tokens of words. The English vocabulary of the shipped model knows a third of the characters of Chinese text:
# in 4,500 Chinese documents the share was 0.33 to 1.0, in 3,800 English ones at most 0.2 (tweets with emoji).
MAX_UNKNOWN_SHARE = 0.25
_MAX_CONTROL_SHARE = 0.1  # of the characters: above it a value is binary data, not text

_LETTER = re.compile(r"[^\W\d_]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def read_texts(table: pa.Table, name: str) -> list[Document]:
    """Python strings of a column; bytes that are not UTF-8 become a document with a `problem`, not an exception."""
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_null(column.type):
        return [Document(None)] * len(column)
    if column.type not in (pa.string(), pa.large_string(), pa.string_view()):
        raise InputError(f"the column {name!r} holds {column.type}; strings are expected")
    try:
        return [Document(text) for text in column.to_pylist()]
    except UnicodeDecodeError:
        values = pc.cast(column, pa.large_binary()).to_pylist()
        return [Document(None) if value is None else _decode(value) for value in values]


def _decode(value: bytes) -> Document:
    try:
        return Document(value.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Document("", problem=f"not UTF-8: {error.reason} at byte {error.start}")


def unreadable(document: Document) -> Prediction | None:
    """The prediction of a document that no model should see, or None."""
    text = document.text
    if document.problem is not None:
        return Prediction(Status.NOT_TEXT, error=document.problem)
    if text is None or not text.strip():
        return Prediction(Status.EMPTY)
    surrogate = None if text.isascii() else _SURROGATE.search(text)
    if surrogate:
        return Prediction(Status.NOT_TEXT, error=f"a lone surrogate at character {surrogate.start()}")
    if not _LETTER.search(text):
        return Prediction(Status.NOT_TEXT, error="no letter of any script")
    num_control = len(_CONTROL.findall(text))
    if num_control > _MAX_CONTROL_SHARE * len(text):
        return Prediction(Status.NOT_TEXT, error=f"{num_control} of {len(text)} characters are control characters")
    return None
