"""Encoders made without Transformers against Transformers' own: the same weights, names and hidden states."""

import pytest
import torch
import transformers
from helpers import tiny

from bertsum.model.attention.packed import can_pack, encode_packed
from bertsum.model.bert_encoder import BertConfig, BertEncoder, read_bert_config

KINDS = pytest.mark.parametrize("kind", ["bert", "electra", "roberta", "xlm-roberta", "camembert"])
LENGTHS = [1, 5, 5, 40, 64]


def reference(kind, **changes):
    """An encoder of Transformers, without its pooler, and its configuration as values."""
    if kind == "camembert":  # which is RoBERTa's architecture under another name
        changes = {"type_vocab_size": 1, "pad_token_id": 1, "max_position_embeddings": 66} | changes
    encoder = tiny.encoder(kind, **changes)
    encoder.pooler = None
    values = encoder.config.to_diff_dict() | {"model_type": kind}
    return encoder, values


@KINDS
@pytest.mark.parametrize("changes", [{}, {"hidden_act": "relu", "layer_norm_eps": 1e-3}])
@torch.inference_mode()
def test_hidden_states_are_those_of_transformers(kind, changes):
    encoder, values = reference(kind, **changes)
    plain = BertEncoder(read_bert_config(values)).eval()
    weights = encoder.state_dict()
    assert {name: weight.shape for name, weight in plain.state_dict().items()} == {
        name: weight.shape for name, weight in weights.items()
    }
    plain.load_state_dict(weights)
    assert can_pack(plain)
    ids = torch.randint(5, 400, (sum(LENGTHS),), generator=torch.Generator().manual_seed(3))
    segments = torch.arange(len(ids)) % values["type_vocab_size"]
    expected = []
    for window, types in zip(ids.split(LENGTHS), segments.split(LENGTHS), strict=True):
        states = encoder(window[None], token_type_ids=types[None], output_hidden_states=True)
        expected.append(torch.stack(states.hidden_states)[:, 0])
    last, kept = encode_packed(plain, ids, segments, LENGTHS, layers=[1])
    tolerance = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(last, torch.cat(expected, 1)[-1], **tolerance)
    torch.testing.assert_close(kept[0], torch.cat(expected, 1)[1], **tolerance)


@KINDS
def test_what_a_configuration_leaves_out_is_as_in_transformers(kind):
    expected = transformers.AutoConfig.for_model(kind)
    config = read_bert_config({"model_type": kind})
    left_out = {"embedding_size", "position_embedding_type"} - expected.to_dict().keys()
    for name in BertConfig.model_fields.keys() - left_out:
        assert getattr(config, name) == getattr(expected, name), name


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "distilbert"},
        {"model_type": ["bert"]},
        {"model_type": None},
        {"hidden_act": "gelu_new"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"add_cross_attention": True},
        {"quantization_config": {}},
        {"auto_map": {"AutoModel": "evil.M"}},
        {"hidden_size": "32"},
        {"hidden_size": -1},
        {"hidden_size": 30},  # not of 4 heads
        {"num_hidden_layers": None},
        {"num_hidden_layers": True},
        {"pad_token_id": 400},
        {"pad_token_id": -1},
        {"embedding_size": 16},  # which only ELECTRA has
        {"layer_norm_eps": "1e-12"},
    ],
)
def test_what_is_not_known_is_left_to_transformers(changes):
    _, values = reference("bert")
    assert read_bert_config(values) is not None
    assert read_bert_config(values | changes) is None
