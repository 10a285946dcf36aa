"""Which columns `generate` reads and writes, and whether the files of INPUT have them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from bertsum.errors import InputError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.faithfulness import Faithfulness
from bertsum.runs.columns import column_problem, columns_text, encryption_problem
from bertsum.runs.input import Shard
from bertsum.schema import Status, same_names
from bertsum.storage.folder import mask

# Behind the column of the text itself; their names begin with its name.
_FIELDS = [
    pa.field("source", pa.string()),
    pa.field("ending", pa.string()),
    pa.field("word_share", pa.float32()),
    pa.field("number_share", pa.float32()),
    pa.field("name_share", pa.float32()),
    pa.field("new_facts", pa.list_(pa.string())),
    pa.field("has_new_facts", pa.bool_()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("num_tokens", pa.int32(), nullable=False),
    pa.field("document_tokens", pa.int32()),
    pa.field("new_tokens", pa.int32(), nullable=False),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One output row.

    - `source`: what the model has read, see `bertsum.generation.sources`.
    - `ending`: see `bertsum.generation.endings`.
    - `num_tokens`, `new_tokens`: that the model has read and written.
    - `document_tokens`: of the whole document; None where nobody has counted them.
    """

    status: Status
    text: str | None = None
    source: str | None = None
    ending: str | None = None
    faithfulness: Faithfulness | None = None
    error: str | None = None
    num_tokens: int = 0
    document_tokens: int | None = None
    new_tokens: int = 0


def name_of(column: str, config: GenerateConfig) -> str:
    """The name of an output column: `abstract_status` of `status`."""
    return f"{config.output_column}_{column}"


def made_fields(config: GenerateConfig) -> list[pa.Field]:
    """The columns behind those that pass through."""
    fields = [pa.field(config.output_column, pa.string())]
    return fields + [field.with_name(name_of(field.name, config)) for field in _FIELDS]


def kept_columns(schema: pa.Schema, config: GenerateConfig) -> list[str]:
    """Names of the columns that pass through, in the order of the input."""
    kept = set(schema.names) if config.keep_columns is None else set(config.keep_columns)
    if config.keep_text:
        kept.add(config.text_column)
    elif config.keep_columns is None:
        kept.discard(config.text_column)
    return [name for name in schema.names if name in kept]


def read_columns(schema: pa.Schema, config: GenerateConfig) -> list[str]:
    """Names of the columns to read of a file, in its order."""
    optional = (config.summary_column, config.language_column, config.document_tokens_column)
    wanted = {*kept_columns(schema, config), config.text_column, *optional}
    return [name for name in schema.names if name in wanted]


def row_schema(schema: pa.Schema, config: GenerateConfig) -> pa.Schema:
    """Columns of the output of a file with `schema`."""
    kept = [schema.field(name) for name in kept_columns(schema, config)]
    return pa.schema([*kept, *made_fields(config)])


def rows_to_table(table: pa.Table, rows: Sequence[Written], config: GenerateConfig) -> pa.Table:
    """The kept columns of `table`, then those of `rows`, a row a row."""
    values: dict[str, list[object]] = {"text": [row.text for row in rows]}
    of_faithfulness = {"word_share", "number_share", "name_share", "new_facts", "has_new_facts"}
    for field in _FIELDS:
        found: list[object] = []
        for row in rows:
            holder = row.faithfulness if field.name in of_faithfulness else row
            found.append(None if holder is None else getattr(holder, field.name))
        values[field.name] = found
    fields = made_fields(config)
    columns = [table[name] for name in kept_columns(table.schema, config)]
    for field, column in zip(fields, values.values(), strict=True):
        columns.append(pa.array(column, field.type))
    return pa.Table.from_arrays(columns, schema=row_schema(table.schema, config))


def check_texts(
    shard: Shard, config: GenerateConfig, keep_key: str = "generate.keep_columns"
) -> str | None:
    """Why a file has no texts to write from, or None.

    `keep_key`: of the configuration, which narrows the columns that pass through.

    Raises InputError for a clash of names, which the user must decide.
    """
    schema = shard.schema
    if problem := _problem(schema, config):
        return problem
    if problem := encryption_problem(shard, read_columns(schema, config)):
        return problem
    made = [field.name for field in made_fields(config)]
    path = mask(shard.file.path)
    if clashes := same_names(kept_columns(schema, config), made):
        raise InputError(
            f"{path}: columns {clashes} have the names of columns of the result; choose others "
            f"with --set {keep_key}=[...]"
        )
    keys = [part.partition("=")[0] for part in shard.file.partition.split("/") if "=" in part]
    if clashes := same_names(keys, made):
        raise InputError(
            f"{path}: the partition keys {clashes} have the names of columns of the result; rename "
            "the directories"
        )
    return None


def _problem(schema: pa.Schema, config: GenerateConfig) -> str | None:
    """Why columns that the configuration names cannot be used, or None."""
    for key, name in (
        ("generate.text_column", config.text_column),
        ("generate.summary_column", config.summary_column),
        ("generate.language_column", config.language_column),
    ):
        if name is not None and (problem := column_problem(schema, key, name)):
            return problem
    for name in schema.names:
        if schema.names.count(name) > 1:
            return f"it has several columns of the name {name!r}"
    missing = [name for name in config.keep_columns or () if name not in schema.names]
    if missing:
        return f"keep_columns names {missing}; the file has {columns_text(schema)}"
    if config.document_tokens_column is None:
        return None
    return column_problem(
        schema,
        "generate.document_tokens_column",
        config.document_tokens_column,
        lambda data_type: bool(pt.is_integer(data_type)),
        "a column of whole numbers",
    )
