"""The pair of a labelled row: its query, the documents that do not answer it, and its weight."""

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from bertsum.errors import InputError
from bertsum.schema import is_list, is_text
from bertsum.training.start.source_config import SourceConfig

Row = Mapping[str, Any]  # values of a Parquet row by column, as Arrow gives them to Python


def pairs_problem(schema: pa.Schema, source: SourceConfig) -> str | None:
    """Why negatives cannot be read of a file with `schema`, or None.

    Its columns are known to be there, and to be lists of strings or of structs.
    """
    if source.negatives_column is None:
        return None
    data_type = schema.field(source.negatives_column).type
    if not is_list(data_type) or not pt.is_struct(data_type.value_type):
        return None
    fields = {field.name: field.type for field in data_type.value_type}
    if is_text(fields.get(source.text_column, pa.binary())):
        return None
    return (
        f"column {source.negatives_column!r} (negatives_column) has structs with the fields "
        f"{list(fields)}, and no text in {source.text_column!r} as the candidates have it: let "
        f"`bertsum match` write it (match.candidate_columns=[{source.text_column}])"
    )


def pair_texts(row: Row, source: SourceConfig) -> list[str]:
    """The query, then its negatives; nothing for a row without a query.

    The row's own document is no negative, whoever says so.
    """
    query = row[source.query_column] if source.query_column else None
    if not query or not query.strip():
        return []
    negatives: dict[str, None] = {}  # each once, in order
    for negative in (row[source.negatives_column] if source.negatives_column else None) or ():
        text = negative[source.text_column] if isinstance(negative, dict) else negative
        if text and text.strip() and text != row[source.text_column]:
            negatives[text] = None
    return [query, *list(negatives)[: source.max_negatives]]


def pair_weight(row: Row, source: SourceConfig) -> float:
    """The weight of the row's pair, 0 for a row without one.

    Raises InputError for one below 0, or infinite.
    """
    if source.pair_weight_column is None:
        return 1.0
    weight = row[source.pair_weight_column]
    if weight is None or math.isnan(weight):
        return 0.0
    if not 0 <= weight < math.inf:
        raise InputError(
            f"the column {source.pair_weight_column!r} (pair_weight_column) holds {weight}; finite "
            "numbers of at least 0 are expected"
        )
    return float(weight)
