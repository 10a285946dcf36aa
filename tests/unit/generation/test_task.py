"""How each kind of model is told what to write, and what is said where it cannot."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bertsum.errors import ConfigError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.seq2seq import load_task
from bertsum.generation.task import source_language


def test_t5_reads_the_prefix_of_its_configuration(model_of: Callable[[str], Path]) -> None:
    assert load_task(model_of("t5"), GenerateConfig()).prefix == "summarize: "
    german = load_task(model_of("t5"), GenerateConfig(translate_to="de"))
    assert german.prefix == "translate English to German: "
    assert german.settings == {"num_beams": 3}
    own = GenerateConfig(translate_to="fr", prefix="auf Französisch: ")
    assert load_task(model_of("t5"), own).prefix == "auf Französisch: "
    with pytest.raises(ConfigError, match="the model translates en to de, and not en"):
        load_task(model_of("t5"), GenerateConfig(translate_to="fr"))
    with pytest.raises(ConfigError, match="en to de, and not fr"):
        load_task(model_of("t5"), GenerateConfig(translate_to="de", language="fr"))


def test_marian_reads_a_token(model_of: Callable[[str], Path]) -> None:
    assert load_task(model_of("marian"), GenerateConfig(translate_to="de")).prefix == ">>deu<< "
    assert load_task(model_of("marian"), GenerateConfig(translate_to="fra")).prefix == ">>fra<< "
    with pytest.raises(ConfigError, match="does not know this language; it knows 2: deu, fra"):
        load_task(model_of("marian"), GenerateConfig(translate_to="ru"))


@pytest.mark.parametrize(("kind", "name"), [("nllb", "deu_Latn"), ("mbart", "de_DE")])
def test_nllb_and_mbart_write_a_token_first(
    kind: str, name: str, model_of: Callable[[str], Path]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_of(kind))
    task = load_task(model_of(kind), GenerateConfig(translate_to="de"))
    assert task.first_token == tokenizer.convert_tokens_to_ids(name)
    assert load_task(model_of(kind), GenerateConfig(translate_to=name)) == task
    assert source_language(task, "de-AT") == name
    assert source_language(task, "tlh") is None
    with pytest.raises(ConfigError, match=r"--translate-to tlh: .* it knows \d+"):
        load_task(model_of(kind), GenerateConfig(translate_to="tlh"))


def test_a_language_in_two_scripts_must_be_named(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="knows it as zho_Hans, zho_Hant; give one of them"):
        load_task(model_of("nllb"), GenerateConfig(translate_to="zh"))
    assert load_task(model_of("nllb"), GenerateConfig(translate_to="zho_Hant")).first_token


def test_a_text_is_read_in_the_script_of_its_tag(model_of: Callable[[str], Path]) -> None:
    task = load_task(model_of("nllb"), GenerateConfig(translate_to="de"))
    for tag in ("zho_Hant", "zh-Hant", "ZH_hant", "cmn-Hant"):
        assert source_language(task, tag) == "zho_Hant"
    for tag in ("zh", "zh-CN", "zho", "zh-Hans"):
        assert source_language(task, tag) == "zho_Hans"


def test_mbart_of_one_pair_starts_from_the_token(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(model_of("mbart"), tmp_path / "model")
    german = load_task(model_of("mbart"), GenerateConfig(translate_to="de")).first_token
    path = tmp_path / "model/config.json"
    values = json.loads(path.read_text()) | {"decoder_start_token_id": german}
    path.write_text(json.dumps(values))
    task = load_task(tmp_path / "model", GenerateConfig(translate_to="de"))
    assert (task.first_token, task.start_token) == (None, german)


def test_a_model_of_one_pair(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(model_of("pegasus"), tmp_path / "model")
    path = tmp_path / "model/tokenizer_config.json"
    languages = {"source_lang": "eng", "target_lang": "deu"}
    path.write_text(json.dumps(json.loads(path.read_text()) | languages))
    assert load_task(tmp_path / "model", GenerateConfig(translate_to="de")).prefix == ""
    with pytest.raises(ConfigError, match="the model translates to de alone"):
        load_task(tmp_path / "model", GenerateConfig(translate_to="fr"))


def test_a_model_that_says_nothing_of_languages(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="name no language that it translates to"):
        load_task(model_of("bart"), GenerateConfig(translate_to="de"))
    task = load_task(model_of("bart"), GenerateConfig(translate_to="de", prefix=""))
    assert (task.prefix, task.first_token) == ("", None)


def test_a_language_is_a_code() -> None:
    with pytest.raises(ValueError, match="is no code of a language"):
        GenerateConfig(translate_to="in German")
