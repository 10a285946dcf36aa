"""Which input files have the columns that the job needs, checked from footers before any work."""

from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa

from bertsum.config import SummarizerConfig
from bertsum.errors import InputError
from bertsum.runs.input import Shard
from bertsum.schema import (
    is_binary,
    is_text,
    is_texts,
    other_names,
    output_fields,
    same_names,
)
from bertsum.storage.folder import mask

Check = Callable[[Shard], str | None]
"""Why a file cannot be used, or None; raises InputError for what the user must decide."""


def check_shards(shards: Sequence[Shard], check: Check, others_are_good: bool) -> dict[str, str]:
    """The reason for each file that lacks a usable column, by path.

    Raises InputError when no file is usable. `others_are_good`: there are usable ones beside these.
    """
    problems: dict[str, str] = {}
    for shard in shards:
        reason = check(shard)
        if reason is not None:
            problems[shard.file.path] = reason
    # one bad file is reported and left out; if all are bad, it is the configuration that is wrong
    if problems and len(problems) == len(shards) and not others_are_good:
        path, reason = next(iter(problems.items()))
        more = f" (and {len(problems) - 1} more files are like it)" if len(problems) > 1 else ""
        raise InputError(f"{mask(path)}: {reason}{more}")
    return problems


def check_documents(shard: Shard, config: SummarizerConfig) -> str | None:
    """Why a file has no documents to summarize, or None.

    Raises InputError for any clash of names: that is for the user to decide, not for the job to
    work around.
    """
    reason = _problem(shard.schema, config) or encryption_problem(
        shard, needed_columns(shard.schema, config)
    )
    if reason is None:
        _refuse_clashes(shard, config)
    return reason


def needed_columns(schema: pa.Schema, config: SummarizerConfig) -> list[str]:
    """Columns to read of a file, in its order: the text, what is known of it, and what passes."""
    kept = set(schema.names) if config.keep_columns is None else set(config.keep_columns)
    named = {config.text_column, config.language_column, config.targets_column}
    wanted = kept | ((named | {config.query_column}) - {None})
    return [name for name in schema.names if name in wanted]


def output_schema(schema: pa.Schema, config: SummarizerConfig) -> pa.Schema:
    """Schema of the output of a file with `schema`."""
    return pa.schema(
        output_fields(schema, config.text_column, config.keep_columns, config.predicted)
    )


def encryption_problem(shard: Shard, names: Sequence[str]) -> str | None:
    """Why a file of which these columns are needed cannot be used, or None."""
    for name in names:
        if name in shard.encrypted:
            return (
                f"column {name!r} is encrypted, and bertsum has no keys; write the file without "
                "encryption, or, if the column is not needed, leave it out with keep_columns"
            )
    return None


def column_problem(
    schema: pa.Schema,
    key: str,
    name: str,
    accepts: Callable[[pa.DataType], bool] = is_text,
    allowed: str = "a string column",
) -> str | None:
    """Why the column that the configuration's `key` names cannot be used, or None."""
    if name not in schema.names:
        return f"there is no column {name!r} ({key} names it); the file has {columns_text(schema)}"
    data_type = schema.types[schema.names.index(name)]
    if accepts(data_type):
        return None
    return (
        f"column {name!r} is {data_type}, but {key} must name {allowed}; the file has "
        f"{columns_text(schema)}"
    )


def columns_text(schema: pa.Schema) -> str:
    """Names and types, for a message."""
    return ", ".join(f"{field.name}: {field.type}" for field in schema) or "no columns"


def _problem(schema: pa.Schema, config: SummarizerConfig) -> str | None:
    if config.text_format == "text":
        problem = column_problem(schema, "text_column", config.text_column)
        types = dict(zip(schema.names, schema.types, strict=True))
        # a column of bytes often holds text: say which setting reads it
        if problem and is_binary(types.get(config.text_column, pa.null())):
            problem += "; summarizer.text_format=binary reads bytes that are UTF-8 text"
    else:
        problem = column_problem(
            schema,
            "text_column",
            config.text_column,
            accepts=lambda data_type: is_text(data_type) or is_binary(data_type),
            allowed="a column of strings or bytes",
        )
    if problem is None and config.language_column:
        problem = column_problem(schema, "language_column", config.language_column)
    if problem is None and config.targets_column:
        problem = column_problem(
            schema,
            "targets_column",
            config.targets_column,
            is_texts,
            "a column of lists of strings",
        )
    if problem is None and config.query_column is not None:
        problem = column_problem(schema, "query_column", config.query_column)
    if problem is not None:
        return problem
    # Arrow allows several columns of one name, but then a name no longer says which is meant
    for name, count in Counter(schema.names).items():
        if count > 1:
            return f"it has several columns of the name {name!r}"
    missing = [name for name in config.keep_columns or () if name not in schema.names]
    if missing:
        return f"keep_columns names {missing}; the file has {columns_text(schema)}"
    return None


def _refuse_clashes(shard: Shard, config: SummarizerConfig) -> None:
    path = mask(shard.file.path)
    try:
        names = output_schema(shard.schema, config).names
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    keys: list[str] = []  # of the directories like `dt=2026-11-20`
    for part in shard.file.partition.split("/"):
        key, separator, _ = part.partition("=")
        if separator:
            keys.append(key)
    for index, key in enumerate(keys):
        # readers of partitioned directories make a column of each key, beside those of the file
        if same_names([key], config.predicted.names):
            raise InputError(
                f"{path}: partition key {key!r} has the name of an output column (most readers "
                f"ignore case); rename the directory, {other_names([key], config.predicted)}"
            )
        if columns := same_names(names, [key]):
            raise InputError(
                f"{path}: the partition key {key!r} is also a column of the file, {columns[0]!r}, "
                "so readers of OUTPUT would find it twice; leave the column out with --set "
                "'summarizer.keep_columns=[...]'"
            )
        if earlier := same_names(keys[:index], [key]):
            raise InputError(
                f"{path}: the partition keys {earlier[0]!r} and {key!r} have the same name (most "
                "readers ignore case); rename a directory"
            )
