"""Which columns a match reads and writes, and whether the files of QUERIES have them."""

from functools import partial

import pyarrow as pa
import pyarrow.types as pt

from bertsum.errors import InputError
from bertsum.matching.config import MatchConfig
from bertsum.runs.columns import check_documents, column_problem
from bertsum.runs.input import Shard
from bertsum.schema import is_list, is_text, same_names
from bertsum.storage.folder import mask

_MADE = [
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("num_tokens", pa.int32(), nullable=False),
]
MADE_COLUMNS = ["matches", *(field.name for field in _MADE)]
"""Columns of a row of matches, behind those that pass through."""


def match_fields(schema: pa.Schema, config: MatchConfig) -> list[pa.Field]:
    """Fields of one match, for candidates of a file with `schema`."""
    return [
        pa.field("id", schema.field(config.id_column).type),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        *(pa.field(name, schema.field(name).type) for name in config.candidate_columns),
    ]


def row_schema(schema: pa.Schema, candidates: pa.Schema, config: MatchConfig) -> pa.Schema:
    """Columns of the matches of a file with `schema`; `candidates`: of a file of them."""
    matches = pa.field("matches", pa.list_(pa.struct(match_fields(candidates, config))))
    kept = [schema.field(name) for name in kept_columns(schema, config)]
    return pa.schema([*kept, matches, *_MADE])


def kept_columns(schema: pa.Schema, config: MatchConfig) -> list[str]:
    """Names of the columns that pass through."""
    if config.user_column is not None:
        return list(dict.fromkeys([config.user_column, *config.equal_columns]))
    if config.keep_columns is not None:
        return list(config.keep_columns)
    return [name for name in schema.names if name != config.text_column]


def check_queries(shard: Shard, candidates: pa.Schema, config: MatchConfig) -> str | None:
    """Why a file of QUERIES cannot be matched, or None; `candidates`: schema of a file of them.

    Raises InputError for a clash of names, which the user must decide.
    """
    if problem := check_documents(shard, config.query_encoder()):
        return problem
    check_names(shard.file.path, shard.schema, config)
    return query_problem(shard.schema, candidates, config)


def check_names(path: str, schema: pa.Schema, config: MatchConfig) -> None:
    """Raise InputError where columns that pass through have the names of made ones.

    `path`: of the file with `schema`.
    """
    if clashes := same_names(kept_columns(schema, config), MADE_COLUMNS):
        advice = "choose others with --set match.keep_columns=[...]"
        if config.user_column is not None:
            advice = "match.user_column and match.equal_columns need other ones"
        raise InputError(
            f"{mask(path)}: columns {clashes} have the names of columns of the result; {advice}"
        )


def query_problem(schema: pa.Schema, candidates: pa.Schema, config: MatchConfig) -> str | None:
    """Why columns of QUERIES cannot be compared with those of candidates, or None."""
    expected: list[tuple[str, str, str]] = []  # key, column, and what its values must be
    for name in config.equal_columns:
        expected.append(("match.equal_columns", name, _kind(candidates.field(name).type)))
    if config.user_column is not None:
        expected.append(("match.user_column", config.user_column, "strings or whole numbers"))
    if config.weight_column is not None:
        expected.append(("match.weight_column", config.weight_column, "numbers"))
    if config.time_column is not None:
        expected.append(("match.time_column", config.time_column, "dates or times"))
    for key, name, kind in expected:
        problem = column_problem(schema, key, name, partial(_is_kind, kind), f"a column of {kind}")
        if problem:
            return problem
    if config.seen_column is not None:
        kind = _kind(candidates.field(config.id_column).type)
        return column_problem(
            schema,
            "match.seen_column",
            config.seen_column,
            lambda found: _is_kind(kind, found.value_type if is_list(found) else found),
            f"a column of {kind} or of lists of it, as the id of the candidates is",
        )
    return None


def check_candidates(schema: pa.Schema, config: MatchConfig) -> str | None:
    """Why candidates with `schema` cannot be matched, or None."""
    for key, names in (
        ("match.id_column", (config.id_column,)),
        ("match.candidate_columns", config.candidate_columns),
        ("match.equal_columns", config.equal_columns),
    ):
        for name in names:
            if problem := column_problem(schema, key, name, lambda _: True):
                return problem
    return None


def _is_kind(kind: str, data_type: pa.DataType) -> bool:
    """Whether values of this type are what a message calls `kind`."""
    if kind == "strings or whole numbers":
        return is_text(data_type) or bool(pt.is_integer(data_type))
    if kind == "numbers":
        return bool(pt.is_integer(data_type) or pt.is_floating(data_type))
    if kind == "dates or times":
        return bool(pt.is_date(data_type) or pt.is_timestamp(data_type))
    return _kind(data_type) == kind


def _kind(data_type: pa.DataType) -> str:
    """What can be equal: strings to strings, whole numbers to whole numbers."""
    if is_text(data_type):
        return "strings"
    return "whole numbers" if pt.is_integer(data_type) else str(data_type)
