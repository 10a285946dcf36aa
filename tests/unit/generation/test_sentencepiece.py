"""Marian and M2M100 with tokenizers of their own classes, which the extra `generate` installs a package for."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from helpers import tiny, tiny_seq2seq

from bertsum.errors import ConfigError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.generator import Generator
from bertsum.generation.seq2seq import load_seq2seq, load_task

sentencepiece = pytest.importorskip("sentencepiece")
pytest.importorskip("sacremoses")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of SentencePiece that has learned from the words of `tiny`."""
    directory = tmp_path_factory.mktemp("pieces")
    (directory / "texts.txt").write_text("\n".join(tiny.text(3, first=i) for i in range(60)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(directory / "texts.txt"),
        model_prefix=str(directory / "pieces"),
        vocab_size=80,
        minloglevel=2,
    )
    return directory / "pieces.model"


def vocabulary(pieces: Path, *extra: str) -> dict[str, int]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    known = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = [*special, *extra, *(token for token in known if token not in special)]
    return {token: index for index, token in enumerate(tokens)}


def marian(directory: Path, pieces: Path, extra: tuple[str, ...], **languages: str) -> Path:
    path = directory / "vocab.json"
    path.write_text(json.dumps(vocabulary(pieces, *extra)))
    tokenizer = transformers.MarianTokenizer(
        source_spm=str(pieces), target_spm=str(pieces), vocab=str(path), **languages
    )
    return tiny_seq2seq._save(directory / "model", "marian", tokenizer, {})


def run(directory: Path, **values: object) -> list[dict[str, object]]:
    config = GenerateConfig.model_validate({"decoding": {"max_tokens": 12}} | values)
    seq2seq = load_seq2seq(directory, config, torch.device("cpu"))

    def load() -> None:
        raise AssertionError("no text is too long")

    table = pa.table({"document": [tiny.text(1), tiny.text(2)]})
    return pa.concat_tables(Generator(seq2seq, config, load).stream([table])).to_pylist()


def test_marian_of_one_pair(pieces: Path, tmp_path: Path) -> None:
    model = marian(tmp_path, pieces, (), source_lang="eng", target_lang="deu")
    assert load_task(model, GenerateConfig(translate_to="de")).prefix == ""
    with pytest.raises(ConfigError, match="translates to de alone"):
        load_task(model, GenerateConfig(translate_to="fr"))
    rows = run(model, translate_to="de")
    assert [row["summary_de_status"] for row in rows] == ["ok", "ok"]
    assert "▁" not in str(rows[0]["summary_de"])


def test_marian_of_several_languages(pieces: Path, tmp_path: Path) -> None:
    model = marian(tmp_path, pieces, (">>deu<<", ">>fra<<"))
    task = load_task(model, GenerateConfig(translate_to="de"))
    assert task.prefix == ">>deu<< "
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    ids = tokenizer(task.prefix + tiny.text(1))["input_ids"]
    assert ids[0] == tokenizer.convert_tokens_to_ids(">>deu<<")
    assert run(model, translate_to="fr")[0]["summary_fr_status"] == "ok"


def test_m2m100(pieces: Path, tmp_path: Path) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(vocabulary(pieces)))
    tokenizer = transformers.M2M100Tokenizer(vocab_file=str(path), spm_file=str(pieces))
    model = tiny_seq2seq._save(tmp_path / "model", "m2m_100", tokenizer, {"vocab_size": 200})
    task = load_task(model, GenerateConfig(translate_to="de"))
    assert task.first_token == tokenizer.get_lang_id("de")
    assert task.languages["en"] == "en"
    rows = run(model, translate_to="de", language="en")
    assert [row["summary_de_status"] for row in rows] == ["ok", "ok"]
    assert not any(str(row["summary_de"]).startswith("__de__") for row in rows)
