"""What is loaded, and what is refused with a reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import tiny
from safetensors.torch import load_file, save_file

from bertsum.errors import ConfigError, ModelError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.seq2seq import load_seq2seq, load_task

CPU = torch.device("cpu")


@pytest.fixture
def copy(model_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_of("bart"), tmp_path / "model"))


def change(directory: Path, **values: object) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return directory


@pytest.mark.parametrize(
    ("kind", "tokens"), [("bart", 64), ("pegasus", 64), ("t5", 512), ("marian", 64), ("nllb", 64)]
)
def test_the_longest_input(kind: str, tokens: int, model_of: Callable[[str], Path]) -> None:
    seq2seq = load_seq2seq(model_of(kind), GenerateConfig(dtype="float32"), CPU)
    assert seq2seq.max_input_tokens == tokens
    assert seq2seq.max_output_tokens == (None if kind == "t5" else tokens - 1)
    assert seq2seq.model.dtype is torch.float32
    assert not seq2seq.model.training


def test_more_tokens_than_positions_are_refused(model_of: Callable[[str], Path]) -> None:
    for values, message in (
        ({"max_input_tokens": 65}, "max_input_tokens=65 is more than the model has positions: 64"),
        ({"decoding": {"max_tokens": 64}}, "max_tokens=64 is more than the model can write: 63"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_task(model_of("bart"), GenerateConfig.model_validate(values))
    config = GenerateConfig(max_input_tokens=2000)  # T5 counts distances, not positions
    assert load_seq2seq(model_of("t5"), config, CPU).max_input_tokens == 2000


def test_a_prefix_that_leaves_no_room_is_refused(model_of: Callable[[str], Path]) -> None:
    config = GenerateConfig(max_input_tokens=8, prefix="the cat " * 4)
    with pytest.raises(ConfigError, match=r"takes 10 of the 8 tokens .* no room for a text"):
        load_task(model_of("bart"), config)


def test_pickles_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    for load in (load_task, lambda path, config: load_seq2seq(path, config, CPU)):
        with pytest.raises(ModelError, match=r"no weights as \*.safetensors; pickles"):
            load(copy, GenerateConfig())


def test_missing_weights_are_named(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.decoder.layers.1.fc1.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks 1 weights: model\.decoder\.layers\.1\.fc1\.weight"
    ):
        load_seq2seq(copy, GenerateConfig(), CPU)


def test_a_hostile_configuration_takes_no_memory(copy: Path) -> None:
    with pytest.raises(ModelError, match="encoder_layers=1000000000 is too much"):
        load_task(change(copy, encoder_layers=10**9), GenerateConfig())
    with pytest.raises(ModelError, match=r"asks for \d+ numbers.*decoder_ffn_dim=1000000"):
        load_task(change(copy, encoder_layers=2, decoder_ffn_dim=10**6), GenerateConfig())


def test_remote_code_never_runs(copy: Path) -> None:
    (copy / "evil.py").write_text("raise SystemExit('this ran')\n")
    change(copy, model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(ModelError, match="no sequence-to-sequence model that Transformers"):
        load_task(copy, GenerateConfig())


def test_a_model_that_only_reads_is_refused(tmp_path: Path) -> None:
    tiny.save(tmp_path / "bert", tiny.encoder(), tiny.wordpiece())
    with pytest.raises(ModelError, match="is a bert model, which is none that reads a text and"):
        load_task(tmp_path / "bert", GenerateConfig())


def test_no_directory_of_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights"):
        load_task(tmp_path, GenerateConfig())
