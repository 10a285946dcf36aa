"""Names of output columns: a prefix and new names, so that an input may have columns of any name."""

import pyarrow as pa
import pytest
from helpers.tiny import text

from bertsum.checkpoints.outputs import with_outputs
from bertsum.config import NamesConfig, SummarizerConfig
from bertsum.config_base import hashed_values, load_config
from bertsum.errors import ConfigError, InputError
from bertsum.inference.summarizer import Summarizer
from bertsum.job_config import JobConfig
from bertsum.runs.records import Job
from bertsum.schema import PREDICTION_SCHEMA

TAKEN = pa.table(
    {
        "summary": ["mine", "mine too"],
        "STATUS": [1, 2],
        "document": [text(5), text(3)],
    }
)


def make(directory, **config) -> Summarizer:
    values = {"dtype": "float32"} | config
    return Summarizer(directory, SummarizerConfig.model_validate(values), device="cpu")


def test_a_table_with_columns_of_the_same_names(checkpoint):
    """Values are those of the usual names; what passes through stays as it is."""
    expected = make(checkpoint)(TAKEN.select(["document"]))
    renamed = {"prefix": "ai_", "rename": {"summary": "abstract", "num_tokens": "Tokens"}}
    result = make(checkpoint, output=renamed)(TAKEN)
    names = [f"ai_{name}" for name in PREDICTION_SCHEMA.names]
    names[names.index("ai_summary")] = "abstract"
    names[names.index("ai_num_tokens")] = "Tokens"
    assert result.column_names == ["summary", "STATUS", *names]
    assert result.select(["summary", "STATUS"]).equals(TAKEN.drop(["document"]))
    assert result.select(names).rename_columns(PREDICTION_SCHEMA.names).equals(expected)
    assert result.schema.field("ai_status").nullable is False
    given_up = make(checkpoint, output=renamed).give_up(TAKEN, "no time")
    assert given_up.schema == result.schema
    assert given_up["ai_error"].to_pylist() == ["no time"] * 2


@pytest.mark.parametrize(
    ("output", "clashes"),
    [
        ({}, r"\['summary', 'STATUS'\]"),
        ({"rename": {"status": "state"}}, r"\['summary'\]"),
        ({"prefix": "x_", "rename": {"error": "Summary"}}, r"\['summary'\]"),
    ],
)
def test_the_error_that_remains_says_both_ways_out(checkpoint, output, clashes):
    with pytest.raises(InputError, match=f"{clashes}.*keep_columns.*output.prefix.*output.rename"):
        make(checkpoint, output=output)(TAKEN)


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("output.rename={sumary: x}", ["output.rename", "no output column 'sumary'", "'summary'"]),
        ("output.rename={summary: ''}", ["output.rename", "'' cannot be the name"]),
        ('output.rename={summary: "a\\nb"}', ["output.rename", "cannot be the name"]),
        ("output.rename={summary: ' abstract'}", ["output.rename", "begins or ends with a space"]),
        ("output.prefix=' '", ["output.prefix", "begins or ends with a space"]),
        ('output.prefix="\\0"', ["output.prefix", "cannot be the name"]),
        ("output.rename=[summary]", ["output.rename"]),
        ("summarizer.output.prefix=x", ["summarizer.output", "no such key"]),
    ],
)
def test_names_that_cannot_be_are_refused_with_the_configuration(setting, parts):
    with pytest.raises(ConfigError) as caught:
        load_config(JobConfig, None, [setting])
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"rename": {"summary": "status"}}, "'summary' and 'status' the same name, 'status'"),
        ({"rename": {"summary": "x", "error": "X"}}, "'summary' and 'error' the same name, 'X'"),
        ({"prefix": "a_", "rename": {"summary": "A_Error"}}, "'summary' and 'error' the same"),
        ({"rename": {"summary_spans": "where"}}, "'summary_spans', which is not written"),
    ],
)
def test_names_that_do_not_fit_are_refused_before_any_document(checkpoint, output, message):
    config = SummarizerConfig.model_validate({"output": output})
    with pytest.raises(ConfigError, match=message):
        with_outputs(config, checkpoint)
    with pytest.raises(ConfigError, match=message):
        make(checkpoint, output=output)


def test_a_column_that_is_not_written_leaves_its_name_free(checkpoint):
    names = {"rename": {"summary": "summary_spans"}}
    assert "summary_spans" in make(checkpoint, output=names)(TAKEN.select([2])).column_names
    with pytest.raises(ConfigError, match="the same name"):
        make(checkpoint, output=names, outputs=["spans"])


def test_names_of_a_job_are_part_of_its_fingerprint_and_the_usual_ones_are_not():
    def fingerprint(*settings: str) -> str:
        return Job("m", "d", load_config(JobConfig, None, settings).named_summarizer).fingerprint

    assert "output" not in hashed_values(SummarizerConfig())
    assert fingerprint() == fingerprint("output.table=delta") == fingerprint("output.prefix=''")
    names = ("output.prefix=a", "output.prefix=b", "output.rename={summary: a}")
    assert len({fingerprint(), *map(fingerprint, names)}) == 4
    order = ("output.rename={summary: a, error: b}", "output.rename={error: b, summary: a}")
    assert len(set(map(fingerprint, order))) == 1


def test_names_of_a_column():
    names = NamesConfig(prefix="p_", rename={"summary": "s"})
    assert (names.name_of("summary"), names.name_of("status")) == ("s", "p_status")
