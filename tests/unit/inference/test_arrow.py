"""Texts of a table in each format that the configuration names."""

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsum.config import SummarizerConfig
from bertsum.config_base import load_config
from bertsum.errors import ConfigError
from bertsum.inference.arrow import read_documents
from bertsum.job_config import JobConfig
from bertsum.runs.columns import check_documents
from bertsum.runs.input import InputFile, Shard
from bertsum.schema import Document

BINARY = SummarizerConfig(text_format="binary")
JSON = SummarizerConfig(text_format="json", text_path="payload.body")


def shard(data_type: pa.DataType) -> Shard:
    return Shard(InputFile("a.parquet", 1, "1"), pa.schema([("document", data_type)]), ())


@pytest.mark.parametrize(
    "data_type", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3)]
)
def test_bytes_that_are_utf_8(data_type: pa.DataType) -> None:
    values = ["ßa".encode(), b"\xff\xfe\xfd", None]
    documents = read_documents(pa.table({"document": pa.array(values, data_type)}), BINARY)
    assert documents[0] == Document("ßa")
    assert documents[1].problem is not None and documents[1].problem.startswith("not UTF-8")
    assert documents[2] == Document(None)


def test_binary_columns_need_the_setting_and_say_so() -> None:
    problem = check_documents(shard(pa.binary()), SummarizerConfig())
    assert problem is not None and "summarizer.text_format=binary reads bytes" in problem
    for config in (BINARY, JSON):
        for data_type in (pa.binary(), pa.string(), pa.large_string()):
            assert check_documents(shard(data_type), config) is None
        problem = check_documents(shard(pa.int64()), config)
        assert problem is not None and "must name a column of strings or bytes" in problem


@pytest.mark.parametrize("data_type", [pa.string(), pa.binary()])
def test_the_text_in_a_json_document(data_type: pa.DataType) -> None:
    values = [
        json.dumps({"payload": {"body": "Grüße. 🌍", "n": 1}}),
        json.dumps({"payload": {"body": None}}),
        json.dumps({"payload": {}}),
        json.dumps({"payload": None}),
        None,
        " ",
    ]
    documents = read_documents(pa.table({"document": pa.array(values, data_type)}), JSON)
    assert [document.text for document in documents] == ["Grüße. 🌍", None, None, None, None, " "]
    assert all(document.problem is None for document in documents)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{no", "not JSON: Expecting property name"),
        ("[" * 100_000, "not JSON: maximum recursion"),
        ('{"payload": [1]}', "not JSON with payload.body: payload is a list"),
        ("7", "not JSON with payload.body: it is a int"),
        ('{"payload": {"body": 7}}', "payload.body is a int, not a string"),
    ],
)
def test_a_document_without_the_text_has_a_problem(value: str, problem: str) -> None:
    (document,) = read_documents(pa.table({"document": [value]}), JSON)
    assert document.problem is not None
    assert document.problem.startswith(problem)


@pytest.mark.parametrize("setting", ["text_format=json", "text_path=a.b", "text_format=xml"])
def test_a_format_and_a_path_that_do_not_go_together(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"text_(path|format)"):
        load_config(JobConfig, overrides=[f"summarizer.{setting}"])


def test_a_column_of_the_type_json(tmp_path: Path) -> None:
    """As DuckDB writes it: its footer alone says string, and what is read of the file says JSON."""
    path = tmp_path / "a.parquet"
    duckdb.sql(f"COPY (SELECT '{{\"body\": \"One.\"}}'::JSON AS document) TO '{path}'")
    table = pq.read_table(path)
    assert table.schema.types == [pa.json_()]
    config = SummarizerConfig(text_format="json", text_path="body")
    shard = Shard(InputFile("a.parquet", 1, "1"), table.schema, ())
    assert check_documents(shard, config) is None
    assert read_documents(table, config) == [Document("One.")]
    (document,) = read_documents(table, SummarizerConfig())
    assert document.text is not None
    assert json.loads(document.text) == {"body": "One."}
