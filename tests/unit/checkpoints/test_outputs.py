"""Groups of columns, resolved for a model before any work and without torch."""

import subprocess
import sys

import pytest
from helpers.waiting import LIMIT_SECONDS

from bertsum.checkpoints.outputs import with_outputs
from bertsum.config import SummarizerConfig
from bertsum.config_base import hashed_values
from bertsum.errors import ConfigError, ModelError
from bertsum.schema import prediction_schema


def resolve(directory, *, in_table=False, **values):
    return with_outputs(SummarizerConfig.model_validate(values), directory, in_table=in_table)


def test_equal_outputs_have_one_fingerprint(checkpoint, family):
    def fingerprint(directory, outputs):
        return hashed_values(resolve(directory, outputs=outputs))

    default = fingerprint(checkpoint, None)
    assert not {"outputs", "mixed"} & default.keys()
    assert (
        fingerprint(checkpoint, []) == fingerprint(checkpoint, ["sentiment", "summary"]) == default
    )
    assert fingerprint(checkpoint, ["language"]) != default
    assert fingerprint(family, None) == fingerprint(family, ["language", "language", "summary"])
    assert fingerprint(family, None)["outputs"] == ["summary", "sentiment", "language"]
    assert fingerprint(family, [])["outputs"] == ["summary", "sentiment"]


def test_the_size_of_an_embedding_is_that_of_the_weights(checkpoint, family):
    for directory in (checkpoint, family):
        config = resolve(directory, outputs=["embedding"])
        assert (config.embedding_type, config.embedding_size) == ("float16", 32)
        assert with_outputs(config, directory) == config  # a replica resolves it once more
        column = prediction_schema(config.outputs, config.embedding_size).field("embedding")
        assert str(column.type) == "fixed_size_list<item: halffloat>[32]"


def test_a_table_has_lists_of_float32(checkpoint):
    config = resolve(checkpoint, in_table=True, outputs=["embedding"])
    assert (config.embedding_type, config.embedding_size) == ("float32", None)
    assert with_outputs(config, checkpoint) == config
    with pytest.raises(ConfigError, match="have no float16"):
        resolve(checkpoint, in_table=True, outputs=["embedding"], embedding_type="float16")


def test_topics_are_names_or_names_with_a_description():
    names = SummarizerConfig.model_validate({"topics": ["economy", "sport"]})
    described = SummarizerConfig.model_validate({"topics": {"economy": None, "sport": ""}})
    assert names == described


def test_weights_that_are_none_are_named(checkpoint, tmp_path):
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        resolve(tmp_path, outputs=["embedding"])


def test_no_torch_is_needed(checkpoint):
    code = (
        "import sys; from pathlib import Path; from bertsum.config import SummarizerConfig; "
        "from bertsum.checkpoints.outputs import with_outputs; "
        "config = SummarizerConfig(outputs=('embedding', 'keywords')); "
        f"with_outputs(config, Path({str(checkpoint)!r})); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT_SECONDS)
