"""Checkpoints come back as they were, and a damaged or hostile one is refused with its name."""

import json
import pickle
import shutil
import socket

import pytest
import torch
import transformers
from helpers import tiny
from safetensors.torch import load_file, save_file

import bertsum
from bertsum.checkpoints.checkpoint import (
    check_base,
    load_checkpoint,
    load_encoder,
    load_tokenizer,
    make_delta,
    read_base,
    save_checkpoint,
    save_delta,
)
from bertsum.checkpoints.config import BaseEncoder, model_digest, read_config
from bertsum.errors import ModelError
from bertsum.inference.reader import document_encoder
from bertsum.model.batches import make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.model.temperature import TemperatureByLength
from bertsum.training.adapters import merge_adapter
from bertsum.training.config import TrainingConfig
from bertsum.training.loop import build_model

TEXTS = [tiny.text(3), tiny.text(15, 7, first=9), "Die Größe: 猫 дом."]
KINDS = pytest.mark.parametrize("kind", tiny.ENCODER_TOKENIZERS)


@torch.inference_mode()
def logits(model, tokenizer, texts=TEXTS):
    documents = document_encoder(model, tokenizer).encode(texts, [None] * len(texts), 64)
    found = model(make_batch(documents, range(len(documents))))
    return torch.cat([found.sentence_logits, found.sentiment_logits.flatten()])


def save(directory, model, tokenizer=None):
    save_checkpoint(
        directory, model, tokenizer or tiny.wordpiece(), "# Card\n", version=bertsum.__version__
    )
    return directory


def edit_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A copy of the shared checkpoint that a test may damage."""
    return shutil.copytree(checkpoint, tmp_path / "copy")


# Whole checkpoints


@KINDS
def test_a_whole_checkpoint_comes_back_exactly(kind, tmp_path):
    model, tokenizer = tiny.model(kind), tiny.ENCODER_TOKENIZERS[kind]()
    loaded, loaded_tokenizer = load_checkpoint(save(tmp_path / "new" / "model", model, tokenizer))
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(logits(loaded, loaded_tokenizer), logits(model, tokenizer))
    assert loaded_tokenizer.cls_token_id == tokenizer.cls_token_id


@pytest.mark.parametrize(
    "changes",
    [
        {"summarization_layers": "lstm", "sentiment_pooling": "lstm", "dropout": 0.3},
        {
            "summarization_layers": "linear",
            "sentiment_pooling": "mean",
            "pooling": "cls",
            "segments": False,
        },
        {"sentiment_labels": ("schlecht", "好"), "position_scale": 0.25},
    ],
)
def test_every_head_comes_back(changes, tmp_path):
    model = tiny.model(**changes)
    loaded, tokenizer = load_checkpoint(save(tmp_path, model))
    assert loaded.config == model.config
    assert torch.equal(logits(loaded, tokenizer), logits(model, tiny.wordpiece()))


@pytest.mark.parametrize("kind", ["whole", "delta"])
def test_temperatures_come_back(kind, base, tmp_path):
    encoder, tokenizer = load_encoder("package:tiny_base/model")
    model = BertSum(encoder, tiny.model_config())
    temperatures = {"sentiment": TemperatureByLength(short=1.25, long=0.5), "topic": 2.0}
    model.temperatures = temperatures
    if kind == "whole":
        save(tmp_path, model, tokenizer)
    else:
        save_as_delta(tmp_path, model, base, 1)
    assert load_checkpoint(tmp_path)[0].temperatures == temperatures


def test_a_checkpoint_without_temperatures_has_none(copy):
    values = json.loads((copy / "config.json").read_text())
    assert values.pop("temperatures") == {}
    (copy / "config.json").write_text(json.dumps(values))  # as earlier versions wrote it
    assert load_checkpoint(copy)[0].temperatures == {}


@pytest.mark.parametrize(
    "temperatures",
    [
        {"sentiment": 0},
        {"topic": 1e9},
        {"summary": 1.5},
        {"sentiment": "hot"},
        {"sentiment": {"short": 1.0}},
        {"sentiment": {"short": 1.0, "long": -1.0}},
    ],
)
def test_a_temperature_that_is_none_is_refused(temperatures, copy):
    with pytest.raises(ModelError, match=r"config\.json.*temperatures"):
        load_checkpoint(edit_config(copy, temperatures=temperatures))


def test_settings_of_the_encoder_come_back(tmp_path):
    changes = {
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-3,
        "hidden_dropout_prob": 0.2,
        "pad_token_id": None,
    }
    model = BertSum(tiny.encoder(**changes), tiny.model_config()).eval()
    loaded, tokenizer = load_checkpoint(save(tmp_path, model))
    assert {name: getattr(loaded.encoder.config, name) for name in changes} == changes
    assert torch.equal(logits(loaded, tokenizer), logits(model, tiny.wordpiece()))


def test_a_model_in_half_precision_is_saved_so_and_loaded_in_full(tmp_path):
    model = tiny.model()
    model.encoder.to(torch.bfloat16)
    model.encoder.config.dtype = torch.bfloat16  # as Transformers sets it for a model loaded so
    save(tmp_path, model)
    assert (
        load_file(tmp_path / "model.safetensors")["encoder.embeddings.LayerNorm.weight"].dtype
        == torch.bfloat16
    )
    loaded, _ = load_checkpoint(tmp_path)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}


def test_a_checkpoint_has_no_pickle_and_a_card(checkpoint):
    names = {path.name for path in checkpoint.iterdir()}
    assert names >= {
        "config.json",
        "model.safetensors",
        "model_card.md",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert (checkpoint / "model_card.md").read_text() == "# A card\n"


def test_loading_warns_of_nothing_and_needs_no_network(checkpoint, monkeypatch, capfd):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    load_checkpoint(checkpoint)
    assert capfd.readouterr() == ("", "")


# Deltas


def change(model, how):
    torch.manual_seed(9)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if how(name, weight):
                rank = (
                    torch.randn(weight.shape[0], 2) @ torch.randn(2, weight.shape[-1])
                    if weight.dim() == 2
                    else 0.3
                )
                weight.add_(0.1 * rank)


def save_as_delta(directory, model, base, rank):
    delta = make_delta(model, base, rank)
    save_delta(directory, model, delta, "# Card\n", version=bertsum.__version__)
    return delta.lost


def test_a_delta_comes_back_within_half_precision(base, tmp_path):
    encoder, tokenizer = load_encoder("package:tiny_base/model")
    model = BertSum(encoder, tiny.model_config()).eval()
    change(
        model,
        lambda name, _: ".query." in name or "LayerNorm.bias" in name or "word_embeddings" in name,
    )
    lost = save_as_delta(tmp_path / "delta", model, base, 2)
    assert lost < 1e-5
    loaded, loaded_tokenizer = load_checkpoint(tmp_path / "delta")
    for name, weight in loaded.state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name], rtol=2e-3, atol=2e-3, msg=name)
    expected = logits(model, tokenizer)
    torch.testing.assert_close(logits(loaded, loaded_tokenizer), expected, rtol=0, atol=2e-2)
    names = load_file(tmp_path / "delta" / "model.safetensors").keys()
    assert not [name for name in names if ".key." in name]  # what did not change is not stored
    assert {path.name for path in (tmp_path / "delta").iterdir()} == {
        "config.json",
        "model.safetensors",
        "model_card.md",
    }


def test_a_delta_tells_what_its_rank_loses(base, tmp_path):
    encoder, _ = load_encoder("package:tiny_base/model")
    model = BertSum(encoder, tiny.model_config())
    change(model, lambda name, _: ".query.weight" in name)
    assert 0.1 < save_as_delta(tmp_path, model, base, 1) < 1


def test_what_a_delta_says_it_will_be_is_what_is_loaded(base, tmp_path):
    """Also at a rank that loses much: what is measured before it is saved is what users get."""
    encoder, _ = load_encoder("package:tiny_base/model")
    model = BertSum(encoder, tiny.model_config())
    change(model, lambda name, _: ".query." in name or "LayerNorm.bias" in name)
    delta = make_delta(model, base, 1)
    save_delta(tmp_path, model, delta, "", version=bertsum.__version__)
    loaded, _ = load_checkpoint(tmp_path)
    assert delta.merged.keys() == loaded.state_dict().keys()
    assert all(
        torch.equal(weight, delta.merged[name]) for name, weight in loaded.state_dict().items()
    )
    assert read_base(tmp_path) == (base, 1)


def test_a_model_of_another_shape_is_no_delta(base, tmp_path):
    model = BertSum(tiny.encoder(hidden_size=64), tiny.model_config())
    with pytest.raises(
        ModelError, match=r"as a difference to the encoder in .*: its embeddings.* is .*64\)"
    ):
        check_base(model, base)
    save_checkpoint(tmp_path, model, tiny.wordpiece(), "", version=bertsum.__version__)
    assert read_base(tmp_path) == (None, 0)


def test_a_delta_of_an_unchanged_encoder_holds_heads_only(base, tmp_path):
    encoder, _ = load_encoder("package:tiny_base/model")
    model = BertSum(encoder, tiny.model_config())
    assert save_as_delta(tmp_path, model, base, 4) == 0
    assert not [
        name for name in load_file(tmp_path / "model.safetensors") if name.startswith("encoder.")
    ]
    loaded, _ = load_checkpoint(tmp_path)
    for name, weight in encoder.state_dict().items():
        assert torch.equal(loaded.encoder.state_dict()[name], weight)


def test_a_delta_of_low_rank_training_reproduces_its_logits(base, tmp_path):
    encoder, tokenizer = load_encoder("package:tiny_base/model")
    config = TrainingConfig.model_validate(
        {
            "encoder": "package:tiny_base/model",
            "model": tiny.model_config().model_dump(),
            "lora_rank": 4,
            "sources": [{"name": "x", "sentiment": "positive"}],
        }
    )
    model = build_model(encoder, config)
    optimizer = torch.optim.SGD(
        [weight for weight in model.parameters() if weight.requires_grad], lr=0.05
    )
    documents = document_encoder(model, tokenizer).encode(TEXTS, [None] * 3, 64)
    for _ in range(5):
        optimizer.zero_grad()
        model.train()(make_batch(documents, range(3))).sentence_logits.square().mean().backward()
        optimizer.step()
    trained = logits(model.eval(), tokenizer)
    merge_adapter(model)
    torch.testing.assert_close(logits(model, tokenizer), trained, rtol=0, atol=1e-4)
    assert save_as_delta(tmp_path, model, base, 4) < 1e-3
    loaded, _ = load_checkpoint(tmp_path)
    untrained, _ = load_encoder("package:tiny_base/model")
    difference = loaded.encoder.encoder.layer[0].attention.self.query.weight - (
        untrained.encoder.layer[0].attention.self.query.weight
    )
    assert difference.abs().max() > 1e-3  # the encoder did train
    torch.testing.assert_close(logits(loaded, tokenizer), trained, rtol=0, atol=1e-2)


def test_a_delta_on_another_encoder_is_refused(base, tmp_path):
    encoder, _ = load_encoder("package:tiny_base/model")
    model = BertSum(encoder, tiny.model_config())
    save_as_delta(tmp_path / "delta", model, base, 4)
    change(encoder, lambda name, _: "word_embeddings" in name)
    encoder.save_pretrained(base.path)
    with pytest.raises(ModelError, match=f"this delta was trained on {base.sha256[:12]}"):
        load_checkpoint(tmp_path / "delta")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("encoder.embeddings.LayerNorm.bias.delta", torch.zeros(1)),  # would be broadcast
        ("encoder.embeddings.LayerNorm.bias.delta", torch.zeros(31)),
        ("encoder.nowhere.delta", torch.zeros(32)),
        ("encoder.nowhere", torch.zeros(32)),
        ("summarization.nowhere", torch.zeros(32)),
        (
            "encoder.encoder.layer.0.attention.self.query.weight.delta_left",
            torch.zeros(32, 2),
        ),  # no right side
        (
            "encoder.encoder.layer.0.attention.self.query.weight.delta_right",
            torch.zeros(2, 32),
        ),  # no left side
    ],
)
def test_a_delta_that_does_not_fit_is_refused(name, tensor, base, tmp_path):
    encoder, _ = load_encoder("package:tiny_base/model")
    save_as_delta(tmp_path, BertSum(encoder, tiny.model_config()), base, 4)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {name: tensor}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=name.rpartition(".delta")[0] or name):
        load_checkpoint(tmp_path)


def test_a_missing_package_is_named(base, tmp_path):
    missing = BaseEncoder(package="no_such_package", directory="model", sha256="0" * 64)
    with pytest.raises(ModelError, match="no_such_package, which is not installed"):
        _ = missing.path
    with pytest.raises(ModelError, match="no_such_package"):
        load_encoder("package:no_such_package/model")
    with pytest.raises(ModelError, match="nowhere"):
        load_encoder("package:tiny_base/nowhere")


@pytest.mark.parametrize(
    "name", ["package:", "package:a.b/model", "package:tiny_base/../model", "package:a/b/c"]
)
def test_a_package_name_that_is_none_is_an_error(name):
    with pytest.raises(ModelError, match=name):
        load_encoder(name)


# Damaged and hostile


def test_wrong_weights_are_listed(copy):
    weights = load_file(copy / "model.safetensors")
    weights["summarization.scorer.weight"] = torch.zeros(2, 32)
    weights["extra"] = torch.zeros(1)
    del weights["sentiment.classifier.bias"]
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        load_checkpoint(copy)
    for part in (
        "3 weights",
        "summarization.scorer.weight: (2, 32), expected (1, 32)",
        "extra: (1,), expected None",
        "sentiment.classifier.bias: None, expected (3,)",
        str(copy),
    ):
        assert part in str(caught.value)


def test_a_configuration_that_does_not_fit_the_weights_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["model"]["sentiment_labels"] = ["negative", "positive"]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match=r"sentiment\.classifier\.weight: \(3, 32\), expected \(2, 32\)"
    ):
        load_checkpoint(copy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(name, copy):
    (copy / name).unlink()
    if name == "tokenizer.json":
        (copy / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=str(copy)):
        load_checkpoint(copy)


class _Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


@pytest.mark.parametrize(
    "content", [pickle.dumps({"a": _Bomb()}), b"", b"\xff" * 100], ids=["pickle", "empty", "noise"]
)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"]
)
def test_a_file_that_is_something_else_is_refused(name, content, copy):
    (copy / name).write_bytes(content)
    with pytest.raises(ModelError, match=str(copy)):
        load_checkpoint(copy)


def test_a_pickle_beside_is_not_read_in_place_of_safetensors(copy):
    (copy / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "training_state.pt", "model.bin"):
        (copy / name).write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(ModelError, match="pickles are never read"):
        load_checkpoint(copy)


def test_a_truncated_weights_file_is_refused(copy):
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_checkpoint(copy)


def test_a_bare_encoder_is_refused_with_the_reason(tmp_path):
    tiny.save(tmp_path, tiny.encoder(), tiny.wordpiece())
    with pytest.raises(ModelError, match="bare encoder"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "{}", '"x"', "{", '{"bertsum_version": 1}', '{"bertsum_version": "1"}'],
)
def test_a_configuration_that_is_none_is_refused(content, copy):
    (copy / "config.json").write_text(content)
    with pytest.raises(ModelError, match=str(copy)):
        read_config(copy)


@pytest.mark.parametrize(
    "base_encoder",
    [
        {"package": "../../tmp", "directory": "model", "sha256": "0" * 64},
        {"package": "os.path", "directory": "model", "sha256": "0" * 64},
        {"package": "tiny_base", "directory": "../..", "sha256": "0" * 64},
        {"package": "tiny_base", "directory": "/etc", "sha256": "0" * 64},
        {"package": "tiny_base\n", "directory": "model", "sha256": "0" * 64},
        {"package": "", "directory": "model", "sha256": "0" * 64},
        {"package": "tiny_base", "directory": "model", "sha256": "1"},
        {"package": "tiny_base", "directory": "model", "sha256": "0" * 64, "revision": "main"},
        {"package": "__main__", "directory": "model", "sha256": "0" * 64},
        {"package": "sys", "directory": "model", "sha256": "0" * 64},
        {"package": "json", "directory": "model", "sha256": "0" * 64},
    ],
)
def test_a_hostile_base_encoder_is_refused(base_encoder, copy, base):
    config = json.loads((copy / "config.json").read_text())
    del config["encoder"]
    (copy / "config.json").write_text(json.dumps(config | {"base_encoder": base_encoder}))
    with pytest.raises(ModelError):
        load_checkpoint(copy)


def test_a_configuration_with_both_encoders_or_none_is_refused(copy, base):
    edit_config(copy, base_encoder=base.model_dump())
    with pytest.raises(ModelError, match="one of encoder and base_encoder"):
        load_checkpoint(copy)
    edit_config(copy, base_encoder=None, encoder=None)
    with pytest.raises(ModelError, match="one of encoder and base_encoder"):
        load_checkpoint(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "many"},
        {"hidden_size": -1},
        {"num_hidden_layers": None},
        {"hidden_act": "no_such_activation"},
        {"num_attention_heads": 5},
        {"model_type": "no-such-model"},
        {"model_type": None},
        {"model_type": ["bert"]},
        {"pad_token_id": 10**9},
    ],
)
def test_a_damaged_encoder_configuration_is_an_error_of_ours(changes, copy):
    encoder = json.loads((copy / "config.json").read_text())["encoder"]
    edit_config(copy, encoder=encoder | changes)
    with pytest.raises(ModelError, match=str(copy)):
        load_checkpoint(copy)


AUTO_MAP = {
    "auto_map": {
        "AutoConfig": "evil.C",
        "AutoModel": "evil.M",
        "AutoTokenizer": ["evil.T", "evil.T"],
    }
}
ATTENTION = {"attn_implementation": "someone/kernel", "_attn_implementation": "someone/kernel"}


def edit_json(path, changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def evil(monkeypatch, tmp_path):
    """A function that puts code into a directory; fails when that code has run."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    code = f"open({str(tmp_path / 'executed')!r}, 'w')\n"
    code += "from transformers import BertConfig as C, BertModel as M, BertTokenizer as T\n"
    yield lambda directory: (directory / "evil.py").write_text(code)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("part", ["encoder", "tokenizer"])
def test_code_in_a_checkpoint_never_runs(part, copy, evil):
    evil(copy)
    if part == "encoder":
        encoder = json.loads((copy / "config.json").read_text())["encoder"]
        edit_config(copy, encoder=encoder | AUTO_MAP | ATTENTION)
    else:
        edit_json(copy / "tokenizer_config.json", AUTO_MAP | {"tokenizer_class": "T"})
    try:
        model, _ = load_checkpoint(copy)
    except ModelError:
        return  # refusing it is as good
    assert type(model.encoder).__module__.startswith("transformers.models.bert")
    assert model.encoder.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_in_a_bare_encoder_never_runs(name, tmp_path, evil):
    directory = tiny.save(tmp_path / "bare", tiny.encoder(), tiny.wordpiece())
    evil(directory)
    edit_json(
        directory / name,
        AUTO_MAP | (ATTENTION if name == "config.json" else {"tokenizer_class": "T"}),
    )
    try:
        encoder, _ = load_encoder(str(directory))
    except ModelError:
        return
    assert encoder.config._attn_implementation == "sdpa"


def test_weights_that_were_changed_after_they_were_saved_are_refused(copy):
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # in a number, not in names and shapes
    path.write_bytes(data)
    with pytest.raises(ModelError, match="it was changed"):
        load_checkpoint(copy)
    edit_config(copy, weights_sha256=None)  # an older checkpoint has no digest
    load_checkpoint(copy)


@pytest.mark.parametrize("nested", [False, True])
def test_an_encoder_that_would_fetch_a_second_model_is_refused(nested, copy, tmp_path, monkeypatch):
    backbone = {
        "model_type": "detr",
        "use_timm_backbone": False,
        "backbone": "evil/x",
        "use_pretrained_backbone": True,
    }
    encoder = (
        {"model_type": "encoder-decoder", "encoder": backbone, "decoder": backbone}
        if nested
        else backbone
    )
    edit_config(copy, encoder=encoder)
    bare = tiny.save(tmp_path / "bare", tiny.encoder(), tiny.wordpiece())
    (bare / "config.json").write_text(json.dumps(encoder))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("went to the network"))
    for load, source in (
        (load_checkpoint, copy),
        (load_tokenizer, str(copy)),
        (load_encoder, str(bare)),
        (load_tokenizer, str(bare)),
    ):
        with pytest.raises(ModelError, match="names another model to load"):
            load(source)


def test_an_unknown_key_of_a_checkpoint_is_refused(copy):
    edit_config(copy, **AUTO_MAP)
    with pytest.raises(ModelError, match="auto_map"):
        load_checkpoint(copy)


# Bare encoders, as training reads them


@KINDS
def test_a_bare_encoder_is_read(kind, tmp_path):
    encoder = tiny.encoder(kind)
    loaded, _ = load_encoder(
        str(tiny.save(tmp_path, encoder.to(torch.bfloat16), tiny.ENCODER_TOKENIZERS[kind]()))
    )
    assert type(loaded) is type(encoder)
    for name, weight in loaded.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, encoder.state_dict()[name].float())


def test_a_bare_encoder_with_missing_weights_is_refused(tmp_path):
    """Transformers would fill them with random numbers."""
    tiny.save(tmp_path, tiny.encoder(), tiny.wordpiece())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        load_encoder(str(tmp_path))


def test_a_model_with_a_decoder_is_no_encoder(tmp_path):
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    t5 = transformers.T5Model(transformers.T5Config(vocab_size=400, **sizes))
    tiny.save(tmp_path, t5, tiny.wordpiece())
    with pytest.raises(ModelError, match="t5 has a decoder, too; allowed are BERT-like encoders"):
        load_encoder(str(tmp_path))


def test_a_checkpoint_is_no_bare_encoder(checkpoint):
    with pytest.raises(ModelError, match=r"a checkpoint of bertsum.*start_from"):
        load_encoder(str(checkpoint))


def test_a_bare_encoder_without_a_pooler_is_read(tmp_path):
    tiny.save(tmp_path, tiny.encoder(), tiny.wordpiece())
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load_encoder(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize(
    "content",
    [None, b"", b"\xff" * 100, pickle.dumps(_Bomb())],
    ids=["none", "empty", "noise", "pickle"],
)
def test_a_damaged_bare_encoder_is_refused(name, content, tmp_path):
    tiny.save(tmp_path, tiny.encoder(), tiny.wordpiece())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == "tokenizer.json":
        (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_encoder(str(tmp_path))


# Digests


def test_a_digest_is_of_the_content(copy, checkpoint, tmp_path):
    assert model_digest(copy) == model_digest(checkpoint)
    elsewhere = shutil.copytree(copy, tmp_path / "elsewhere")
    (elsewhere / "training_log.jsonl").write_text("{}")
    (elsewhere / "model_card.md").write_text("another card")
    (elsewhere / "validation.json").write_text("{}")
    (elsewhere / "validation_report.json").write_text("{}")
    (elsewhere / "worst_examples.json").write_text("[]")
    (elsewhere / "report.html").write_text("<html>")
    (elsewhere / "training_config.json").write_text("{}")
    assert model_digest(elsewhere) == model_digest(checkpoint)


def test_a_digest_changes_with_a_weight_a_setting_and_the_tokenizer(copy, checkpoint):
    digests = {model_digest(checkpoint)}
    weights = load_file(copy / "model.safetensors")
    weights["sentiment.classifier.bias"][0] += 1e-6
    save_file(weights, copy / "model.safetensors")
    digests.add(model_digest(copy))
    edit_config(copy, bertsum_version="0.0.1")
    digests.add(model_digest(copy))
    edit_config(copy, temperatures={"sentiment": 1.5})
    digests.add(model_digest(copy))
    (copy / "tokenizer.json").write_text(
        (copy / "tokenizer.json").read_text().replace("##a", "##ä")
    )
    digests.add(model_digest(copy))
    assert len(digests) == 5


def test_a_digest_of_a_delta_covers_its_base(base, tmp_path):
    encoder, _ = load_encoder("package:tiny_base/model")
    save_as_delta(tmp_path, BertSum(encoder, tiny.model_config()), base, 4)
    before = model_digest(tmp_path)
    edit_config(tmp_path, base_encoder=base.model_dump() | {"sha256": "1" * 64})
    assert model_digest(tmp_path) != before


def test_a_digest_of_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        model_digest(tmp_path)
