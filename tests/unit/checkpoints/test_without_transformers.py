"""What is read without Transformers is what Transformers reads; all else is left to it."""

import json
import shutil

import pytest
import torch
from helpers import e5s1, tiny
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer

import bertsum
from bertsum.checkpoints.checkpoint import (
    load_checkpoint,
    load_encoder,
    load_for_inference,
    make_delta,
    save_checkpoint,
    save_delta,
)
from bertsum.checkpoints.config import package_encoder
from bertsum.checkpoints.locate import DEFAULT_MODEL
from bertsum.checkpoints.without_transformers import read_encoder, read_tokenizer
from bertsum.errors import ModelError
from bertsum.inference.reader import document_encoder
from bertsum.model.bert_encoder import BertEncoder
from bertsum.model.bert_sum import BertSum
from bertsum.text.plain_tokenizer import PlainTokenizer, digest_of, set_up

KINDS = pytest.mark.parametrize("kind", tiny.ENCODER_TOKENIZERS)
FAMILY = {"bert", "electra", "roberta", "xlm-roberta"}
TEXTS = [tiny.text(3), tiny.text(15, 7, first=9), "Die Größe: 猫 дом [SEP] </s> [MASK]."]


def bert_tokenizer(**changes):
    """BERT's own, with its special tokens."""
    vocabulary = tiny.wordpiece().get_vocab()
    vocabulary["[MASK]"] = len(vocabulary)
    return BertTokenizer(vocab=vocabulary, **changes)


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def save(directory, model, tokenizer):
    save_checkpoint(directory, model, tokenizer, "", version=bertsum.__version__)


def assert_equal_models(directory, tmp_path):
    """Both ways to load a checkpoint give the same weights and ids, and are saved as the same bytes."""
    expected, expected_tokenizer = load_checkpoint(directory)
    model, tokenizer = load_for_inference(directory)
    assert not model.training
    weights = model.state_dict()
    assert weights.keys() == expected.state_dict().keys()
    for name, weight in expected.state_dict().items():
        assert weights[name].dtype == torch.float32
        assert torch.equal(weights[name], weight), name
    expected_encoder = document_encoder(expected, expected_tokenizer)
    encoder = document_encoder(model, tokenizer)
    assert encoder.tokenizer_digest == expected_encoder.tokenizer_digest
    assert encoder.max_window_tokens == expected_encoder.max_window_tokens
    languages = [None] * len(TEXTS)
    for document, other in zip(
        encoder.encode(TEXTS, languages, 9),
        expected_encoder.encode(TEXTS, languages, 9),
        strict=True,
    ):
        assert document.input_ids.tolist() == other.input_ids.tolist()
        assert document.is_unknown_language == other.is_unknown_language
    save(tmp_path / "expected", expected, expected_tokenizer)
    if isinstance(tokenizer, PlainTokenizer):
        tokenizer = tokenizer.to_transformers()
    save(tmp_path / "saved", model, tokenizer)
    assert files_of(tmp_path / "saved") == files_of(tmp_path / "expected")
    return model, tokenizer


@KINDS
def test_a_whole_checkpoint_is_the_same_in_both_ways(kind, tmp_path):
    save(tmp_path / "model", tiny.model(kind), tiny.ENCODER_TOKENIZERS[kind]())
    model, _ = assert_equal_models(tmp_path / "model", tmp_path)
    assert isinstance(model.encoder, BertEncoder) == (kind in FAMILY)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_delta_is_the_same_in_both_ways(dtype, tmp_path, monkeypatch):
    package = tmp_path / "site" / "tiny_bert"
    encoder, tokenizer = tiny.encoder(position_embedding_type="absolute"), bert_tokenizer()
    tiny.save(package / "model", encoder.to(dtype), tokenizer)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    base = package_encoder("package:tiny_bert/model")
    tiny.save_moved(tmp_path / "delta", base, rank=2, scale=0.1)
    model, _ = assert_equal_models(tmp_path / "delta", tmp_path)
    assert isinstance(model.encoder, BertEncoder)
    assert isinstance(load_for_inference(tmp_path / "delta")[1], PlainTokenizer)
    # the weights are a copy: another file under the name changes nothing
    before = model.encoder.embeddings.word_embeddings.weight.clone()
    (package / "model" / "model.safetensors").write_bytes(b"")
    assert torch.equal(model.encoder.embeddings.word_embeddings.weight, before)


def test_a_delta_on_a_file_of_4_bits_is_the_same_in_both_ways(tmp_path, monkeypatch):
    package = tmp_path / "site" / "tiny_q4"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "weights.bin").write_bytes(e5s1.build())
    monkeypatch.syspath_prepend(str(package.parent))
    base = package_encoder("package:tiny_q4/weights.bin")
    encoder, _ = load_encoder("package:tiny_q4/weights.bin")
    model = BertSum(encoder, tiny.model_config(max_window_tokens=16))
    with torch.no_grad():
        encoder.encoder.layer[0].attention.self.query.weight += 0.1 * torch.ones(1, 1)
    delta = make_delta(model, base, 1)
    save_delta(tmp_path / "delta", model, delta, "", version=bertsum.__version__)
    loaded, _ = assert_equal_models(tmp_path / "delta", tmp_path)
    assert isinstance(loaded.encoder, BertEncoder)
    assert isinstance(load_for_inference(tmp_path / "delta")[1], PlainTokenizer)


@pytest.mark.parametrize("member", ["english", "multilingual"])
def test_the_shipped_model_is_read_without_transformers(member):
    model, tokenizer = load_for_inference(DEFAULT_MODEL / member)
    assert isinstance(model.encoder, BertEncoder)
    assert isinstance(tokenizer, PlainTokenizer)
    encoder = document_encoder(model, tokenizer)
    backend = tokenizer.make().backend_tokenizer
    assert (
        tokenizer.to_transformers().backend_tokenizer.to_str()
        == tokenizer.backend_tokenizer.to_str()
    )
    set_up(backend)
    assert encoder.tokenizer_digest == digest_of(backend)


# Tokenizers


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True},
        {"tokenize_chinese_chars": False},
        {"model_max_length": 64},
    ],
)
def test_a_tokenizer_of_bert_is_that_of_transformers(changes, tmp_path):
    bert_tokenizer(**changes).save_pretrained(tmp_path)
    expected = BertTokenizer.from_pretrained(tmp_path)
    tokenizer = read_tokenizer(tmp_path, lambda: expected)
    backends = [tokenizer.backend_tokenizer, expected.backend_tokenizer]
    for backend in backends:
        set_up(backend)
    assert digest_of(backends[0]) == digest_of(backends[1])
    assert len(tokenizer) == len(expected)
    for name in ("cls_token_id", "sep_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(tokenizer, name) == getattr(expected, name)


def edit_json(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "changes",
    [
        {"do_lower_case": False},  # but its file says true
        {"tokenizer_class": "TokenizersBackend"},
        {"tokenizer_class": None},
        {"cls_token": "[SEP]"},
        {"additional_special_tokens": ["the"]},
        {"added_tokens_decoder": {"5": {"content": "the", "special": False}}},
        {"auto_map": {"AutoTokenizer": ["evil.T", None]}},
        {"never_split": ["the"]},
        {"split_special_tokens": True},
    ],
)
def test_another_setting_of_a_tokenizer_is_left_to_transformers(changes, tmp_path):
    bert_tokenizer().save_pretrained(tmp_path)
    assert read_tokenizer(tmp_path, bert_tokenizer) is not None
    edit_json(tmp_path / "tokenizer_config.json", lambda values: values.update(changes))
    assert read_tokenizer(tmp_path, bert_tokenizer) is None


def add_token(values):
    values["added_tokens"].append(values["added_tokens"][0] | {"id": 7, "content": "the"})


@pytest.mark.parametrize(
    "change",
    [
        add_token,
        lambda values: values["added_tokens"].pop(),
        lambda values: values["added_tokens"][0].update(normalized=True),
        lambda values: values["normalizer"].update(clean_text=False),
        lambda values: values.update(normalizer=None),
        lambda values: values.update(pre_tokenizer={"type": "Whitespace"}),
        lambda values: values.update(post_processor=None),
        lambda values: values["model"].update(max_input_chars_per_word=5),
        lambda values: values["model"].update(continuing_subword_prefix="@@"),
        lambda values: values["model"].pop("type"),
        lambda values: values["model"]["vocab"].pop("[CLS]"),
        lambda values: values.update(model=[]),
        lambda values: values.clear(),
    ],
)
def test_another_rule_of_a_tokenizer_is_left_to_transformers(change, tmp_path):
    bert_tokenizer().save_pretrained(tmp_path)
    edit_json(tmp_path / "tokenizer.json", change)
    assert read_tokenizer(tmp_path, bert_tokenizer) is None


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json"])
def test_files_of_older_versions_are_read_too(name, tmp_path):
    bert_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text('{"cls_token": "[CLS]"}')
    assert read_tokenizer(tmp_path, bert_tokenizer) is not None
    (tmp_path / name).write_text('{"cls_token": "the"}')
    assert read_tokenizer(tmp_path, bert_tokenizer) is None


# Damaged and hostile


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
        ("adapter_config.json", b"{}"),
        ("model.safetensors.index.json", b"{}"),
        ("other.safetensors", b""),
    ],
)
def test_a_damaged_bare_encoder_is_left_to_transformers(name, content, tmp_path):
    tiny.save(tmp_path, tiny.encoder(), bert_tokenizer())
    assert read_encoder(tmp_path, dict) is not None
    (tmp_path / name).write_bytes(content)
    assert read_encoder(tmp_path, dict) is None


def test_a_bare_encoder_with_other_weights_is_left_to_transformers(tmp_path):
    tiny.save(tmp_path, tiny.encoder(), bert_tokenizer())
    weights = load_file(tmp_path / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    for others in ({}, {name: torch.zeros(32)}, {f"bert.{name}": weights[name]}):
        kept = {key: weight for key, weight in weights.items() if key != name}
        save_file(kept | others, tmp_path / "model.safetensors", metadata={"format": "pt"})
        assert read_encoder(tmp_path, dict) is None


@pytest.mark.parametrize("size", [10**6, 10**9, 10**30])
@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"]
)
def test_a_bare_encoder_that_asks_for_too_much_is_left_to_transformers(key, size, tmp_path):
    tiny.save(tmp_path, tiny.encoder(), bert_tokenizer())
    edit_json(tmp_path / "config.json", lambda values: values.update({key: size}))
    assert read_encoder(tmp_path, dict) is None


def said_by(load, directory):
    with pytest.raises(ModelError) as caught:
        load(directory)
    return str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "many"},
        {"hidden_size": 64},
        {"hidden_size": 10**9},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 10**9},
        {"vocab_size": 10**6},
        {"hidden_act": "no_such_activation"},
        {"model_type": "no-such-model"},
        {"backbone": "evil/x"},
    ],
)
def test_a_damaged_configuration_is_refused_with_the_same_words(changes, checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    edit_json(copy / "config.json", lambda values: values["encoder"].update(changes))
    assert said_by(load_for_inference, copy) == said_by(load_checkpoint, copy)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"{}"])
def test_a_damaged_file_is_refused_with_the_same_words(name, content, tmp_path):
    save(tmp_path, tiny.model(), bert_tokenizer())
    (tmp_path / name).write_bytes(content)
    if (name, content) == ("tokenizer_config.json", b"{}"):
        load_checkpoint(tmp_path)
        load_for_inference(tmp_path)
        return
    assert said_by(load_for_inference, tmp_path) == said_by(load_checkpoint, tmp_path)
