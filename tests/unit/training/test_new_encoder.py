"""A new encoder over characters is one that training and checkpoints take."""

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny

from bertsum.checkpoints.checkpoint import load_encoder
from bertsum.config_base import load_config
from bertsum.errors import ConfigError, InputError
from bertsum.text.encoder import DocumentEncoder
from bertsum.training.config import NewEncoderConfig
from bertsum.training.new_encoder import count_characters, make_encoder

SIZES = NewEncoderConfig(
    max_vocabulary=12, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32,
    max_position_embeddings=64,
)  # fmt: skip


def test_each_character_is_a_token(tmp_path: Path) -> None:
    make_encoder(tmp_path, ["很好吃。很好！ Ａb", "很 贵"], SIZES, seed=0)
    encoder, tokenizer = load_encoder(str(tmp_path))
    assert encoder.config.vocab_size == len(tokenizer) == 12
    documents = DocumentEncoder(tokenizer, tiny.model_config(), num_segments=2, max_positions=64)
    (document,) = documents.encode(["很好 吃。a"], ["zh"], 4)
    tokens = tokenizer.convert_ids_to_tokens(document.input_ids.tolist())
    assert [token for token in tokens if token not in ("[CLS]", "[SEP]")] == [
        "很",
        "好",
        "吃",
        "。",
        "a",
    ]
    (unknown,) = documents.encode(["火车"], ["zh"], 4)
    assert unknown.is_unknown_language
    (with_emoji,) = documents.encode(["很好👍👍"], ["zh"], 4)
    assert not with_emoji.is_unknown_language


def test_the_most_frequent_characters_make_the_vocabulary(tmp_path: Path) -> None:
    counts = count_characters(["aab", "B\u3000c"])
    assert counts == {"a": 2, "b": 2, "c": 1}
    make_encoder(tmp_path, ["aab", "Bc"], SIZES.model_copy(update={"max_vocabulary": 6}), seed=0)
    assert load_encoder(str(tmp_path))[1].convert_ids_to_tokens([4, 5]) == ["a", "b"]


def test_a_seed_gives_the_same_weights(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_encoder(tmp_path / name, ["很好"], SIZES, seed)
        weights.append(
            load_encoder(str(tmp_path / name))[0].embeddings.word_embeddings.weight.detach().numpy()
        )
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()


def test_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text"):
        make_encoder(tmp_path, [" "], SIZES, seed=0)


def test_heads_that_do_not_share_the_features_are_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_size=32 is no multiple of num_attention_heads=5"):
        load_config(NewEncoderConfig, None, ["hidden_size=32", "num_attention_heads=5"])
