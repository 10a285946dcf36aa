"""Tiny sequence-to-sequence models, made once; not to be written to."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import tiny_seq2seq

from bertsum.generation.config import GenerateConfig
from bertsum.generation.seq2seq import Seq2Seq, load_seq2seq

T5_TASKS = {
    "summarization": {"prefix": "summarize: ", "num_beams": 2, "max_length": 30},
    "translation_en_to_de": {"prefix": "translate English to German: ", "num_beams": 3},
}


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from the kind of a model to its directory."""

    @cache
    def make(kind: str) -> Path:
        directory = tmp_path_factory.mktemp(kind)
        if kind == "nllb":
            return tiny_seq2seq.save_nllb(directory)
        if kind == "mbart":
            return tiny_seq2seq.save_mbart(directory)
        if kind == "marian":
            return tiny_seq2seq.save(directory, kind, extra=(">>deu<<", ">>fra<<"))
        if kind == "t5":
            return tiny_seq2seq.save(directory, kind, task_specific_params=T5_TASKS)
        return tiny_seq2seq.save(directory, kind)

    return make


@pytest.fixture
def load(model_of: Callable[[str], Path]) -> Callable[..., Seq2Seq]:
    """A function that loads a kind of model in float64, in which no batch changes a token."""

    def make(kind: str, config: GenerateConfig) -> Seq2Seq:
        seq2seq = load_seq2seq(model_of(kind), config, torch.device("cpu"))
        seq2seq.model.double()
        return seq2seq

    return make
