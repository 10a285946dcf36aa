"""Beam search and draws in batches, beside those of Transformers on one text at a time."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bertsum.errors import ConfigError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.decoding import Decoder, _Draws, draws, make_settings, padded_groups
from bertsum.generation.seq2seq import Seq2Seq, load_seq2seq

KINDS = ["bart", "pegasus", "t5", "marian", "nllb", "mbart"]
TEXTS = [tiny.text(1 + i % 4, length=5, first=i) for i in range(6)]
DECODING = {"max_tokens": 12, "num_beams": 3, "min_tokens": 3, "length_penalty": 0.6}


def ids_of(seq2seq: Seq2Seq) -> list[list[int]]:
    return [seq2seq.tokenizer(text)["input_ids"] for text in TEXTS]


def alone(seq2seq: Seq2Seq, ids: list[int], language: str | None) -> list[int]:
    """What Transformers writes from one text, as its pages call it; special tokens taken out."""
    told = {"no_repeat_ngram_size": 3}
    if language is not None:
        told = {"forced_bos_token_id": seq2seq.tokenizer.convert_tokens_to_ids(language)}
    output = seq2seq.model.generate(
        input_ids=torch.tensor([ids]),
        num_beams=DECODING["num_beams"],
        max_new_tokens=DECODING["max_tokens"],
        min_new_tokens=DECODING["min_tokens"],
        length_penalty=DECODING["length_penalty"],
        **told,
    )
    written = output[0, 1:].tolist()
    end = seq2seq.model.generation_config.eos_token_id
    if end in written:
        written = written[: written.index(end)]
    return [token for token in written if token not in seq2seq.tokenizer.all_special_ids]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_what_transformers_writes_from_each_text(
    kind: str, load: Callable[..., Seq2Seq]
) -> None:
    language = {"nllb": "deu_Latn", "mbart": "de_DE"}.get(kind)
    config = GenerateConfig(decoding=DECODING, translate_to=language)
    seq2seq = load(kind, config)
    decoder = Decoder(seq2seq, config)
    inputs = ids_of(seq2seq)
    results = decoder.write(inputs)
    for ids, result in zip(inputs, results, strict=True):
        assert result.ids == alone(seq2seq, ids, language)
    assert len({tuple(result.ids) for result in results}) > 1 or kind in ("nllb", "mbart")


def test_keys_of_the_input_stay_where_they_are_and_no_bit_changes(
    load: Callable[..., Seq2Seq],
) -> None:
    config = GenerateConfig(decoding=DECODING)
    seq2seq = load("bart", config)
    seq2seq.model.float()
    decoder = Decoder(seq2seq, config)
    inputs = [ids[:7] for ids in ids_of(seq2seq)]
    output = seq2seq.model.generate(
        input_ids=torch.tensor(inputs), generation_config=decoder.settings
    )
    expected = [decoder._without_special(row) for row in output[:, 1:].tolist()]
    assert decoder.write(inputs) == expected


def test_no_trigram_stands_twice(load: Callable[..., Seq2Seq]) -> None:
    for ngrams, repeats in ((None, False), (0, True)):
        config = GenerateConfig(decoding={"max_tokens": 40, "no_repeated_ngrams": ngrams})
        decoder = Decoder(seq2seq := load("pegasus", config), config)
        found = False
        for result in decoder.write(ids_of(seq2seq)):
            trigrams = list(zip(result.ids, result.ids[1:], result.ids[2:], strict=False))
            found |= len(set(trigrams)) < len(trigrams)
        assert found == repeats


def test_lengths(load: Callable[..., Seq2Seq]) -> None:
    for shortest, longest in ((9, 9), (2, 5)):
        config = GenerateConfig(decoding={"min_tokens": shortest, "max_tokens": longest})
        decoder = Decoder(seq2seq := load("bart", config), config)
        for result in decoder.write(ids_of(seq2seq)):
            # the last of the longest is the token that ends a text, which this model is made to write
            assert shortest - 1 <= len(result.ids) < longest
            assert result.is_ended == (len(result.ids) < longest - 1)


def test_settings_are_those_of_the_configuration_then_the_model_then_defaults(
    load: Callable[..., Seq2Seq],
) -> None:
    def settings(kind: str, **values: object):
        config = GenerateConfig(**values)
        return make_settings(load(kind, config), config)

    given = settings("t5")  # of the task in its configuration
    assert (given.num_beams, given.max_new_tokens, given.no_repeat_ngram_size) == (2, 29, 3)
    translation = settings("t5", translate_to="de")
    assert (translation.num_beams, translation.max_new_tokens) == (3, 256)
    assert not translation.no_repeat_ngram_size
    own = settings("t5", decoding={"num_beams": 5, "max_tokens": 7, "length_penalty": 2.0})
    assert (own.num_beams, own.max_new_tokens, own.length_penalty) == (5, 7, 2.0)
    default = settings("bart")
    assert (default.num_beams, default.max_new_tokens) == (4, 63)  # its positions but one
    assert settings("bart", decoding={"sampling": True}).num_beams == 1


def test_a_model_whose_files_ask_for_another_search(
    model_of: Callable[[str], Path], load: Callable[..., Seq2Seq], tmp_path: Path
) -> None:
    config = GenerateConfig(decoding=DECODING)
    seq2seq = load("bart", config)
    expected = Decoder(seq2seq, config).write(ids_of(seq2seq))
    asked = {
        "num_return_sequences": 2,
        "return_dict_in_generate": True,
        "use_cache": False,
        "max_time": 1e-9,  # seconds
        "stop_strings": ["e"],
        "num_beam_groups": 3,
        "diversity_penalty": 0.5,
        "guidance_scale": 2.0,
        "do_sample": True,
    }
    directory = shutil.copytree(model_of("bart"), tmp_path / "asks")
    path = directory / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | asked))
    asking = load_seq2seq(directory, config, torch.device("cpu"))
    asking.model.double()
    assert Decoder(asking, config).write(ids_of(asking)) == expected


def test_lengths_that_no_text_has(load: Callable[..., Seq2Seq]) -> None:
    with pytest.raises(ValidationError, match="min_tokens 9 is above max_tokens 8"):
        GenerateConfig(decoding={"min_tokens": 9, "max_tokens": 8})
    config = GenerateConfig(decoding={"min_tokens": 64})  # the model has 64 positions
    with pytest.raises(ConfigError, match=r"min_tokens=64 is more than the model writes: 63"):
        make_settings(load("bart", config), config)


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 3000))
def test_batches_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    groups = padded_groups(lengths, new_tokens=5, num_beams=2, max_batch_tokens=budget)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    flat = [lengths[index] for group in groups for index in group]
    assert flat == sorted(lengths, reverse=True)
    for group in groups:
        padded = max(lengths[index] for index in group) + 5
        assert len(group) == 1 or len(group) * padded * 2 <= budget


def test_draws_have_the_probabilities_of_the_tokens() -> None:
    probabilities = torch.tensor([0.2, 0.0, 0.5, 0.3])
    numbers = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1, None]
    chosen = _Draws(numbers)(torch.zeros(1000, 1), probabilities.log().expand(1000, 4))
    assert torch.isfinite(chosen).sum(1).eq(1).all()
    counts = torch.bincount(chosen.argmax(1), minlength=4).tolist()
    np.testing.assert_allclose(counts, [200, 0, 500, 300], atol=1)


def test_draws_follow_from_the_text_and_the_seed() -> None:
    first = draws([1, 2], 0, 1000)
    assert (first == draws([1, 2], 0, 1000)).all()
    assert not (first == draws([1, 3], 0, 1000)).any()
    assert not (first == draws([1, 2], 1, 1000)).any()
    assert abs(first.mean() - 0.5) < 0.04  # four standard deviations


def test_a_text_is_drawn_as_in_any_other_batch(load: Callable[..., Seq2Seq]) -> None:
    decoding = {"sampling": True, "max_tokens": 12, "temperature": 1.5, "top_k": 40, "top_p": 0.95}
    config = GenerateConfig(decoding=decoding)
    decoder = Decoder(seq2seq := load("bart", config), config)
    inputs = ids_of(seq2seq)
    together = decoder.write(inputs)
    assert together == [decoder.write([ids])[0] for ids in inputs]
    other = GenerateConfig(decoding=decoding | {"seed": 1})
    assert Decoder(seq2seq, other).write(inputs) != together


def test_one_likely_token_is_always_drawn(load: Callable[..., Seq2Seq]) -> None:
    """Sampling among one token is a search without beams."""
    greedy = GenerateConfig(decoding={"num_beams": 1, "max_tokens": 12})
    drawn = GenerateConfig(decoding={"sampling": True, "top_k": 1, "max_tokens": 12})
    seq2seq = load("bart", greedy)
    inputs = ids_of(seq2seq)
    assert Decoder(seq2seq, drawn).write(inputs) == Decoder(seq2seq, greedy).write(inputs)


def test_each_step_is_a_sign_of_life(load: Callable[..., Seq2Seq]) -> None:
    config = GenerateConfig(decoding={"min_tokens": 9, "max_tokens": 9})
    decoder = Decoder(seq2seq := load("bart", config), config)
    steps: list[int] = []
    decoder.on_token(lambda: steps.append(1))
    decoder.write(ids_of(seq2seq))
    assert len(steps) == 9
