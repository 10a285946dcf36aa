"""The result for SQL: views with flat columns, and what dbt wants to know of a source.

Columns that are maps or lists are of no use to tools that know neither. A view has a column for each
label of a map, and for each list of records there is a view with a row for each of them. The SQL is
that of DuckDB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
import yaml

from bertsum.errors import ConfigError
from bertsum.reports.results import Results
from bertsum.runs.input import reading
from bertsum.runs.partitions import partition_of
from bertsum.schema import (
    MIXED,
    PREDICTION_SCHEMA,
    OutputGroup,
    QueryStatus,
    Status,
    is_list,
    prediction_schema,
    same_names,
)

DESCRIPTIONS = {
    "summary": "Unchanged sentences of the document, in its order; null where there is no text.",
    "summary_sentences": "Indices of the chosen sentences in the document, from 0.",
    "summary_scores": "Probabilities of the chosen sentences.",
    "sentiment": "Likeliest label, or null.",
    "sentiment_scores": "Probability of each label.",
    "status": "What became of the row: ok, empty, not_text, unknown_language or error.",
    "error": "Null, or what went wrong with this row.",
    "num_sentences": "Sentences of the whole document.",
    "num_tokens": "Tokens of the whole document.",
    "truncated": "Whether the end of the document was too far away to be read.",
    "language": "Code of the language, or null.",
    "summary_spans": "Where the chosen sentences stand in the document, in code points.",
    "sentences": "Each sentence: where it stands, its probability and its sentiment.",
    "embedding": "Vector of the document, of length 1.",
    "topic": "Likeliest topic, or null.",
    "topic_scores": "Probability of each topic.",
    "keywords": "Phrases that stand for the document, with their scores.",
    "aspects": "Words that an opinion is about, where they stand, and their sentiment.",
    "targets": "Names, the sentiment towards each, and where the document mentions it.",
    "query_scores": "Importance and query together, of each sentence of the summary, from 0 to 1.",
    "query_spans": "Where words of the query stand in the summary's sentences, in code points.",
    "query_status": "What became of the query: ok, empty or unknown; null where the model did not read.",
}
"""Of each column that the job writes, by its name in the schema."""

FILE, ROW = "bertsum_file", "bertsum_row"
"""Which row of which file a row of a view is of; together they are the key of a document."""

_ROW_NUMBER = "file_row_number"  # as DuckDB calls it, which lets nobody choose

_SQL_TYPES = {
    "string": "VARCHAR",
    "large_string": "VARCHAR",
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "halffloat": "FLOAT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "date32[day]": "DATE",
    "binary": "BLOB",
}
_FRESH_DAYS = (2, 4)  # a day's partition is late, and too late


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A query: SELECT `columns` FROM the source, or from its rows with one list unfolded."""

    name: str
    description: str
    columns: Sequence[str]
    unfolded: str | None = None

    def sql(self, source: str) -> str:
        """The query. `source`: what stands behind FROM, with all columns of the result."""
        if self.unfolded is not None:
            column = _quote(self.unfolded)
            source = (
                f"(SELECT *, unnest({column}) AS element,\n"
                f"        generate_subscripts({column}, 1) - 1 AS element_index\n"
                f"      FROM {source})"
            )
        return "SELECT\n    " + ",\n    ".join(self.columns) + f"\nFROM {source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What SQL needs to know of a result.

    - `name`: of the source, made of OUTPUT's name.
    - `patterns`: of the paths of its files; none is of a hidden directory.
    - `fields`: the columns.
    - `labels`: those that occur in each column of maps, or of labels.
    - `day`: the partition key that is a date, if there is one.
    """

    name: str
    patterns: Sequence[str]
    fields: pa.Schema
    written: Mapping[str, str]
    labels: Mapping[str, Sequence[str]]
    day: str | None

    @property
    def source(self) -> str:
        """The rows, as DuckDB reads them from the files."""
        patterns = ", ".join(map(_literal, self.patterns))
        return (
            f"read_parquet([{patterns}], hive_partitioning = true, union_by_name = true, "
            f"filename = '{FILE}', {_ROW_NUMBER} = true)"
        )


def read_catalog(results: Results) -> Catalog:
    """Look up columns, labels and partitions of a result.

    Raises ConfigError for a column of a name that the views need.
    """
    for column in same_names(results.dataset.schema.names, [FILE, _ROW_NUMBER]):
        raise ConfigError(
            f"the result has a column {column!r}, and views need this name for themselves: leave it "
            "out by summarizer.keep_columns, or rename it in INPUT"
        )
    records = results.records
    config = records.config
    if records.rows.kind != "summaries":
        raise ConfigError(f"{records.output} holds {records.rows.kind}; views are of summaries")
    root = records.output.uri
    partitions = sorted({partition_of(entry.name) for entry in records.files})
    shapes: dict[str, None] = {}
    days: dict[str, bool] = {}  # by partition key: whether each of its values is a date
    for partition in partitions:
        parts = [part.partition("=") for part in partition.split("/")]
        shape = "/".join(f"{key}=*" if equals else key for key, equals, _ in parts if key)
        shapes[f"{root}/{shape}/*.parquet" if shape else f"{root}/*.parquet"] = None
        for key, equals, value in parts:
            if equals:
                days[key] = days.get(key, True) and _is_date(value)
    written = {config.output.name_of(c): c for c in prediction_schema(tuple(OutputGroup)).names}
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in root.rpartition("/")[2])
    labels = _read_labels(results, written)
    if config.mixed is not None and "sentiment" in labels:
        labels["sentiment"] = [*labels["sentiment"], MIXED]
    return Catalog(
        name=name.lower() or "bertsum",
        patterns=list(shapes),
        fields=results.dataset.schema,
        written=written,
        labels=labels,
        day=next((key for key, is_day in days.items() if is_day), None),
    )


def make_views(catalog: Catalog) -> list[View]:
    """A view with a row for each document, and one for each column of records."""
    taken = {name.casefold() for name in catalog.fields.names}
    keys = [FILE, f"{_ROW_NUMBER} AS {ROW}"]
    if "id" in taken:
        keys.append(_quote("id"))
    flat, views = keys[:2], []
    for field in catalog.fields:
        column = catalog.written.get(field.name, field.name)
        flat += _flat_columns(field, _quote(field.name), catalog.labels.get(column, ()))
        if is_list(field.type) and pt.is_struct(field.type.value_type):
            columns = [*keys, "element_index"]
            for part in field.type.value_type:
                labels = catalog.labels.get("sentiment_scores", ())
                columns += _flat_columns(part, f"element.{_quote(part.name)}", labels)
            views.append(
                View(
                    name=f"{catalog.name}_{column}",
                    description=f"A row for each entry: {_description(catalog, field.name)}",
                    columns=columns,
                    unfolded=field.name,
                )
            )
    description = "A row for each document, with plain columns alone."
    return [View(name=f"{catalog.name}_flat", description=description, columns=flat), *views]


def views_sql(catalog: Catalog) -> str:
    """All views as statements for DuckDB."""
    statements = [f"-- Views of {' and '.join(map(_comment, catalog.patterns))}, for DuckDB\n"]
    for view in make_views(catalog):
        sql = view.sql(catalog.source)
        statements.append(
            f"-- {_comment(view.description)}\nCREATE OR REPLACE VIEW {_quote(view.name)} AS\n{sql};\n"
        )
    return "\n".join(statements)


def dbt_files(catalog: Catalog) -> dict[str, str]:
    """`sources.yml` and the views as models of dbt, by name. They need dbt 1.10 and dbt-duckdb."""
    source = f"{{{{ source('bertsum', {_literal(catalog.name)}) }}}}"
    files = {"sources.yml": _sources_yml(catalog)}
    for view in make_views(catalog):
        # the source is put in last: texts of the data must not be taken for templates
        sql = _without_templates(view.sql("\0")).replace("\0", source)
        files[f"{view.name}.sql"] = f"-- {_without_templates(_comment(view.description))}\n{sql}\n"
    return files


def _sources_yml(catalog: Catalog) -> str:
    table: dict[str, Any] = {
        "name": catalog.name,
        "description": "Summaries and sentiment of documents, a row for each of them.",
        "meta": {"external_location": _without_templates(catalog.source)},
    }
    warn, fail = ({"count": count, "period": "day"} for count in _FRESH_DAYS)
    # without partitions by day, the time of the last publication
    published = f"{catalog.patterns[0].partition('*')[0].rpartition('/')[0]}/_SUCCESS"
    loaded_at: dict[str, str] = {
        "loaded_at_query": f"select max(last_modified) from read_blob({_literal(published)})"
    }
    if catalog.day is not None:
        loaded_at = {"loaded_at_field": f"cast({_quote(catalog.day)} as timestamp)"}
    table["config"] = {"freshness": {"warn_after": warn, "error_after": fail}, **loaded_at}
    table["columns"] = [_column(catalog, field) for field in catalog.fields]
    sources = [{"name": "bertsum", "tables": [table]}]
    text: str = yaml.safe_dump(
        {"version": 2, "sources": sources}, sort_keys=False, allow_unicode=True, width=100
    )
    return text


def _column(catalog: Catalog, field: pa.Field) -> dict[str, Any]:
    column = catalog.written.get(field.name)
    entry: dict[str, Any] = {
        "name": field.name,
        "description": _without_templates(_description(catalog, field.name)),
        "data_type": _sql_type(field.type),
    }
    tests: list[Any] = []
    if column in PREDICTION_SCHEMA.names and not PREDICTION_SCHEMA.field(column).nullable:
        tests.append("not_null")
    values: Sequence[str] = catalog.labels.get(column or "", ())
    if column == "status":
        values = [status.value for status in Status]
    if column == "query_status":
        values = [status.value for status in QueryStatus]
    if values and not pt.is_map(field.type):
        # dbt puts each value between quotes as it is
        escaped = [_without_templates(value.replace("'", "''")) for value in values]
        tests.append({"accepted_values": {"arguments": {"values": escaped}}})
    if tests:
        entry["data_tests"] = tests
    return entry


def _description(catalog: Catalog, name: str) -> str:
    column = catalog.written.get(name)
    return "A column of the input." if column is None else DESCRIPTIONS[column]


def _flat_columns(field: pa.Field, column: str, labels: Sequence[str]) -> list[str]:
    """Expressions for a column: itself, one a label, its values as text, or how many there are."""
    if pt.is_map(field.type):
        return [f"{column}[{_literal(la)}] AS {_quote(f'{field.name}_{la}')}" for la in labels]
    if is_list(field.type):
        if pt.is_nested(field.type.value_type):
            return [f"len({column}) AS {_quote(f'{field.name}_count')}"]
        if field.name == "embedding":  # hundreds of numbers, which no table tool wants
            return []
        return [f"array_to_string({column}, ',') AS {_quote(field.name)}"]
    if pt.is_nested(field.type):
        return [f"CAST(to_json({column}) AS VARCHAR) AS {_quote(field.name)}"]
    return [f"{column} AS {_quote(field.name)}"]


def _read_labels(results: Results, written: Mapping[str, str]) -> dict[str, list[str]]:
    """Labels of each column of maps, and of the column that has the likeliest one of them.

    They are those of the models, of which one row tells all.
    """
    labels: dict[str, list[str]] = {}
    schema = results.dataset.schema
    maps = {field.name for field in schema if pt.is_map(field.type)}
    names = {c: name for name, c in written.items() if name in maps}
    wanted = {entry.file.job: set(names) for entry in results.records.files}
    for entry in results.records.files:
        missing = wanted[entry.file.job]
        if not missing:
            continue
        output = results.records.output
        with reading(output, entry.name), output.open(entry.name) as stream:
            parquet = pq.ParquetFile(stream)
            missing &= {c for c in names if names[c] in parquet.schema_arrow.names}
            for batch in parquet.iter_batches(1000, columns=[names[c] for c in missing]):
                for column in sorted(missing):
                    found = next((row for row in batch[names[column]] if row.is_valid), None)
                    if found is not None:
                        known = labels.setdefault(column, [])
                        known += [key for key, _ in found.as_py() if key not in known]
                        missing.discard(column)
                if not missing:
                    break
    for column in list(labels):
        labels[column.removesuffix("_scores")] = labels[column]
    return labels


def _sql_type(data_type: pa.DataType) -> str:
    """DuckDB's name of a type."""
    if pt.is_dictionary(data_type):
        return _sql_type(data_type.value_type)
    if pt.is_map(data_type):
        return f"MAP({_sql_type(data_type.key_type)}, {_sql_type(data_type.item_type)})"
    if pt.is_struct(data_type):
        parts = ", ".join(f"{_quote(part.name)} {_sql_type(part.type)}" for part in data_type)
        return f"STRUCT({parts})"
    if pt.is_fixed_size_list(data_type):
        return f"{_sql_type(data_type.value_type)}[{data_type.list_size}]"
    if is_list(data_type):
        return f"{_sql_type(data_type.value_type)}[]"
    if pt.is_timestamp(data_type):
        return "TIMESTAMP WITH TIME ZONE" if data_type.tz else "TIMESTAMP"
    return _SQL_TYPES.get(str(data_type), str(data_type).upper())


def _is_date(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _comment(text: str) -> str:
    """Text on one line, so that the comment ends with it."""
    return " ".join(text.split())


def _without_templates(text: str) -> str:
    """Text that dbt's templates give back as it is: `{{` would begin an expression."""
    return text.replace("{", "{{ '{' }}")
