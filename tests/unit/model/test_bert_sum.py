"""The model against Transformers' and torch's own modules, and against itself alone and in a batch."""

import copy
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from helpers import tiny
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import nn
from torch.nn.utils import rnn

from bertsum.errors import ModelError
from bertsum.inference.reader import document_encoder
from bertsum.model import bert_sum as model_module
from bertsum.model.attention.packed import packed_attention
from bertsum.model.batches import make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.model.cpu_linear import reorder_weights
from bertsum.model.heads import (
    SentenceLayer,
    SummarizationLayers,
    run_lstm,
    sinusoidal_positions,
)
from bertsum.text.surface_features import NUM_SURFACE_FEATURES

# Sums in another order: float32 has 7 digits, bfloat16 has 3. Sentence logits here have a size of about 1.
FLOAT32_TOLERANCE = 1e-5
BFLOAT16_TOLERANCE = 3e-2

TEXTS = [
    tiny.text(1, 3),
    tiny.text(12, 7, first=5),  # several windows
    f"{tiny.text(2)} {tiny.sentence(*range(90))} {tiny.text(2, first=9)}",  # a sentence of two windows
    tiny.text(4, 5, first=20),
    tiny.text(4, 6, first=11),
    f"The cat.\n\n{chr(0x301)}\n\nThe dog.",  # a sentence without tokens
]
NO_SURFACE = torch.empty(0)  # for layers that take none
KINDS = pytest.mark.parametrize("kind", tiny.ENCODER_TOKENIZERS)
HEADS = list(product(["linear", "lstm", "transformer"], ["attention", "mean", "lstm"]))


def documents_for(model: BertSum, kind: str = "bert", texts=TEXTS):
    tokenizer = tiny.ENCODER_TOKENIZERS[kind]()
    return document_encoder(model, tokenizer).encode(texts, [None] * len(texts), 64)


def batch_of(documents, places=None):
    return make_batch(documents, range(len(documents)) if places is None else places)


def by_document(batch, values):
    """Place in the list of documents -> the document's part of [S, ...] values."""
    return dict(zip(batch.documents, torch.split(values, batch.num_sentences), strict=True))


def reference_layers(encoder, batch, takes_segments: bool):
    """All hidden states: each window alone through the encoder's own forward."""
    windows = []
    for ids, types in zip(
        torch.split(batch.input_ids, batch.window_lengths),
        torch.split(batch.token_type_ids, batch.window_lengths),
        strict=True,
    ):
        segments = {"token_type_ids": types[None]} if takes_segments else {}
        output = encoder(
            ids[None],
            attention_mask=torch.ones_like(ids)[None],
            output_hidden_states=True,
            **segments,
        )
        windows.append(torch.stack(output.hidden_states)[:, 0])
    return torch.cat(windows, 1)


def reference_token_vectors(encoder, batch, takes_segments: bool):
    return reference_layers(encoder, batch, takes_segments)[-1]


@KINDS
@torch.inference_mode()
def test_token_vectors_are_those_of_the_encoder(kind):
    model = tiny.model(kind)
    batch = batch_of(documents_for(model, kind))
    assert len(set(batch.window_lengths)) > 3
    takes_segments = kind in ("bert", "electra")
    assert bool(batch.token_type_ids.any()) == takes_segments
    expected = reference_token_vectors(model.encoder, batch, takes_segments)
    torch.testing.assert_close(model.token_vectors(batch), expected, rtol=0, atol=FLOAT32_TOLERANCE)


@KINDS
@torch.inference_mode()
def test_padded_groups_give_the_same_token_vectors(kind, monkeypatch):
    model = tiny.model(kind)
    batch = batch_of(documents_for(model, kind))
    expected = model.token_vectors(batch)
    model.is_packed = False
    for max_padding, group_tokens in [(0.125, 4096), (0.9, 4096), (0, 4096), (0.9, 70), (0.9, 1)]:
        monkeypatch.setattr(model_module, "_MAX_PADDING", max_padding)
        monkeypatch.setattr(model_module, "_CPU_GROUP_TOKENS", group_tokens)
        torch.testing.assert_close(
            model.token_vectors(batch), expected, rtol=0, atol=FLOAT32_TOLERANCE
        )


@pytest.mark.parametrize(
    ("kind", "changes", "is_packed"),
    [
        ("bert", {}, True),
        ("bert", {"hidden_act": "relu"}, True),
        ("bert", {"hidden_act": "gelu_new"}, False),
        ("roberta", {}, True),
        ("electra", {}, True),
        ("electra", {"embedding_size": 32}, True),
        ("distilbert", {}, False),
    ],
)
@torch.inference_mode()
def test_only_encoders_that_it_can_compute_are_packed(kind, changes, is_packed):
    model = BertSum(tiny.encoder(kind, **changes), tiny.model_config()).eval()
    assert model.is_packed == is_packed
    batch = batch_of(documents_for(model, kind))
    expected = reference_token_vectors(model.encoder, batch, kind in ("bert", "electra"))
    torch.testing.assert_close(model.token_vectors(batch), expected, rtol=0, atol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
@torch.inference_mode()
def test_reordered_weights_give_the_token_vectors_of_the_encoder(kind):
    model = tiny.model(kind)
    batch = batch_of(documents_for(model, kind))
    expected = reference_token_vectors(model.encoder, batch, kind != "roberta")
    model.encoder.to(torch.bfloat16)
    reorder_weights(model.encoder)
    weights = model.encoder.state_dict()
    assert weights.keys() == tiny.encoder(kind).state_dict().keys() - {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }
    found = model.token_vectors(batch).float()
    assert (found - expected).norm() < 0.02 * expected.norm()  # ten roundings to 8 binary digits


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="a CPU without bfloat16"
)
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@torch.inference_mode()
def test_a_reordered_layer_is_the_layer(activation):
    layers = nn.Sequential(nn.Linear(48, 80), nn.Linear(80, 7, bias=False)).to(torch.bfloat16)
    plain = copy.deepcopy(layers)
    reorder_weights(layers)
    values = torch.randn(33, 48, dtype=torch.bfloat16)
    then = {"none": nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU()}[activation]
    inner = layers[0](values, activation)
    torch.testing.assert_close(inner, then(plain[0](values)), rtol=0.01, atol=0.01)
    torch.testing.assert_close(layers[1](inner), plain[1](inner), rtol=0.01, atol=0.01)
    residual = torch.randn(33, 80, dtype=torch.bfloat16)
    torch.testing.assert_close(
        layers[0].plus(values, residual), plain[0](values) + residual, rtol=0.01, atol=0.01
    )


@pytest.mark.parametrize("size", [1.0, 40.0, 1e4])
@torch.inference_mode()
def test_attention_in_bfloat16_on_a_cpu_holds_scores_of_any_size(size):
    torch.manual_seed(2)
    lengths = [1, 3, 3, 64, 127]
    query, key, value = (torch.randn(sum(lengths), 64).to(torch.bfloat16) for _ in range(3))
    found = packed_attention((query * size, key, value), lengths, 2)
    start = 0
    for length in lengths:
        q, k, v = (
            t[start : start + length].view(length, 2, 32).transpose(0, 1).double()
            for t in (query, key, value)
        )
        expected = torch.softmax((q * size) @ k.transpose(1, 2) / 32**0.5, -1) @ v
        found_here = found[start : start + length].view(length, 2, 32).transpose(0, 1).double()
        assert (found_here - expected).norm() < (0.02 if size == 1 else 0.1) * expected.norm()
        start += length


def test_packed_gradients_are_those_of_the_encoder():
    model = tiny.model()
    batch = batch_of(documents_for(model))

    def gradients(vectors):
        model.zero_grad()
        vectors.square().sum().backward()
        return {name: weight.grad.clone() for name, weight in model.encoder.named_parameters()}

    expected = gradients(reference_token_vectors(model.encoder, batch, True))
    for name, gradient in gradients(model.token_vectors(batch)).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-3, msg=name)


@torch.inference_mode()
def test_low_rank_layers_are_part_of_a_packed_encoder():
    base = tiny.encoder()
    wrapped = get_peft_model(
        base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    ).eval()
    model = BertSum(wrapped, tiny.model_config()).eval()
    batch = batch_of(documents_for(model))
    with wrapped.disable_adapter():
        without = model.token_vectors(batch)
    expected = reference_token_vectors(wrapped, batch, True)
    assert (expected - without).abs().max() > 0.1
    torch.testing.assert_close(model.token_vectors(batch), expected, rtol=0, atol=FLOAT32_TOLERANCE)


@pytest.mark.filterwarnings(
    "ignore:`past_key_values` is deprecated:FutureWarning"
)  # of peft's own call
@torch.inference_mode()
def test_a_prefix_is_that_of_peft():
    """peft counts a prefix as positions before the window's, and passes no segments on; else both compute the same."""
    model = BertSum(tiny.encoder(), tiny.model_config(prefix_tokens=5, segments=False)).eval()
    model.prefix.normal_()
    batch = batch_of(documents_for(model))
    reference = get_peft_model(
        tiny.encoder(), PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=5)
    )
    rows = model.prefix.permute(2, 0, 1, 3).flatten(1)  # [P, layers * 2 * H]
    reference.prompt_encoder["default"].embedding.weight.copy_(rows)
    expected = []
    assert not batch.token_type_ids.any()
    for input_ids in torch.split(batch.input_ids[None], batch.window_lengths, dim=1):
        places = torch.arange(input_ids.shape[1])[None] - 5
        mask = torch.ones_like(input_ids)
        found = reference.eval()(input_ids=input_ids, attention_mask=mask, position_ids=places)
        expected.append(found.last_hidden_state[0])
    found = model.token_vectors(batch)
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=FLOAT32_TOLERANCE)
    model.prefix = None
    assert (model.token_vectors(batch) - found).abs().max() > 0.1


@torch.inference_mode()
def test_a_prefix_in_bfloat16_is_near_float32():
    """Another way through the attention on a CPU."""
    torch.manual_seed(3)
    lengths = [3, 3, 8, 11]
    query, key, value = (torch.randn(sum(lengths), 32) for _ in range(3))
    prefix = torch.randn(2, 5, 32)
    expected = packed_attention((query, key, value), lengths, 4, prefix=prefix)
    halves = (query.bfloat16(), key.bfloat16(), value.bfloat16())
    found = packed_attention(halves, lengths, 4, prefix=prefix).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    assert (packed_attention((query, key, value), lengths, 4) - expected).abs().max() > 0.5


def test_a_prefix_needs_an_encoder_that_is_packed():
    with pytest.raises(ModelError, match="needs an encoder of BERT's family, not distilbert"):
        tiny.model("distilbert", prefix_tokens=2)


def test_dropout_of_the_encoder_works_in_training_only():
    model = BertSum(
        tiny.encoder(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3), tiny.model_config()
    )
    batch = batch_of(documents_for(model))
    model.train()
    assert not torch.equal(model.token_vectors(batch), model.token_vectors(batch))
    model.eval()
    assert torch.equal(model.token_vectors(batch), model.token_vectors(batch))


@KINDS
@pytest.mark.parametrize("lead", [None, 7])
@pytest.mark.parametrize("group_tokens", [4096, 40])
@torch.inference_mode()
def test_features_of_the_embedding_are_means_of_layers(kind, group_tokens, lead, monkeypatch):
    monkeypatch.setattr(model_module, "_CPU_GROUP_TOKENS", group_tokens)
    model = tiny.model(kind, embedding_layers=(0, 2), embedding_lead_tokens=lead)
    documents = documents_for(model, kind)
    batch = batch_of(documents)
    layers = reference_layers(model.encoder, batch, kind in ("bert", "electra"))[[0, 2]]
    features = model.embedding_features(batch)
    first_sentence = 0
    for row, num_sentences in enumerate(batch.num_sentences):
        sentences = batch.token_sentences - first_sentence
        weights = []
        for sentence in sentences.tolist():
            is_read = 0 <= sentence < num_sentences
            before = ((sentences >= 0) & (sentences < sentence)).sum().item()
            weights.append(is_read * (1 if lead is None else 1 / (1 + before / lead)))
        expected = np.average(layers.numpy(), axis=1, weights=weights).flatten()
        expected = torch.from_numpy(expected).float()
        torch.testing.assert_close(features[row], expected, rtol=0, atol=FLOAT32_TOLERANCE)
        first_sentence += num_sentences


def test_a_layer_that_the_encoder_lacks_is_refused():
    with pytest.raises(
        ModelError, match=r"embedding_layers=\[1, 3\], but the encoder has 2 layers"
    ):
        tiny.model(embedding_layers=(1, 3))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@torch.inference_mode()
def test_sentence_vectors_are_means_over_the_pieces_of_a_sentence(pooling):
    model = tiny.model(pooling=pooling)
    documents = documents_for(model)
    batch = batch_of(documents)
    vectors = by_document(batch, model.sentence_vectors(batch))
    for place, document in enumerate(documents):
        alone = batch_of([document])
        windows = torch.split(
            torch.from_numpy(document.input_ids), document.window_lengths.tolist()
        )
        types = torch.split(
            torch.from_numpy(document.token_type_ids), document.window_lengths.tolist()
        )
        hidden = torch.cat(
            [
                model.encoder(ids[None].long(), token_type_ids=t[None].long()).last_hidden_state[0]
                for ids, t in zip(windows, types, strict=True)
            ]
        )
        sentences = torch.from_numpy(document.token_sentences)
        if pooling == "cls":
            hidden, sentences = hidden[document.cls_positions], sentences[document.cls_positions]
        expected = torch.stack(
            [hidden[sentences == s].mean(0) for s in range(document.num_read_sentences)]
        )
        torch.testing.assert_close(vectors[place], expected, rtol=0, atol=FLOAT32_TOLERANCE)
        torch.testing.assert_close(
            model.sentence_vectors(alone), expected, rtol=0, atol=FLOAT32_TOLERANCE
        )


def outputs(model, documents, places):
    """Place -> (sentence logits, sentiment logits) of one batch."""
    batch = batch_of(documents, places)
    logits = model(batch)
    assert logits.sentence_logits.shape == (sum(batch.num_sentences),)
    assert logits.sentiment_logits.shape == (len(places), 3)
    sentences = by_document(batch, logits.sentence_logits)
    return {
        place: (sentences[place], logits.sentiment_logits[row])
        for row, place in enumerate(batch.documents)
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("layers", "pooling"), HEADS)
@torch.inference_mode()
def test_a_document_alone_is_as_in_any_batch(layers, pooling, dtype):
    model = tiny.model(summarization_layers=layers, sentiment_pooling=pooling)
    model.encoder.to(dtype)
    documents = documents_for(model)
    tolerance = FLOAT32_TOLERANCE if dtype == torch.float32 else BFLOAT16_TOLERANCE
    alone = {place: outputs(model, documents, [place])[place] for place in range(len(documents))}
    assert max(a.abs().max() for a, _ in alone.values()) > 0.1
    for places in [range(6), [5, 0, 3, 1], [3, 4], [4, 3], [2, 0]]:
        for place, (sentences, sentiment) in outputs(model, documents, places).items():
            torch.testing.assert_close(sentences, alone[place][0], rtol=0, atol=tolerance)
            torch.testing.assert_close(sentiment, alone[place][1], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("layers", "pooling"), HEADS)
@torch.inference_mode()
def test_a_document_repeated_in_a_batch_gives_equal_rows(layers, pooling):
    model = tiny.model(summarization_layers=layers, sentiment_pooling=pooling)
    documents = [documents_for(model)[1]] * 3
    batch = batch_of(documents)
    logits = model(batch)
    first, *others = torch.split(logits.sentence_logits, batch.num_sentences)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=FLOAT32_TOLERANCE)


@torch.inference_mode()
def test_without_labels_there_is_no_sentiment():
    model = tiny.model(sentiment_labels=())
    assert model(batch_of(documents_for(model))).sentiment_logits is None
    assert not any(name.startswith("sentiment") for name in model.state_dict())


@torch.inference_mode()
def test_sentences_of_all_windows_see_each_other():
    """The last sentence of a long document moves the score of the first, through the summarization layers alone."""
    model = tiny.model()
    texts = [tiny.text(20), tiny.text(19) + " Great awful news!"]
    first, second = documents_for(model, texts=texts)
    assert len(first.window_lengths) > 2
    a, b = (model(batch_of([document])) for document in (first, second))
    assert torch.allclose(a.sentence_vectors[0], b.sentence_vectors[0], atol=FLOAT32_TOLERANCE)
    assert (a.sentence_logits[0] - b.sentence_logits[0]).abs() > 1e-4


def head(scale: float, **changes) -> SummarizationLayers:
    torch.manual_seed(1)
    return SummarizationLayers(32, tiny.model_config(position_scale=scale, **changes)).eval()


@pytest.mark.parametrize("layers", ["linear", "lstm", "transformer"])
@torch.inference_mode()
def test_surface_features_are_added_to_the_vectors(layers):
    torch.manual_seed(2)
    scorer = SummarizationLayers(
        32, tiny.model_config(summarization_layers=layers, surface_features=True)
    ).eval()
    plain = SummarizationLayers(
        32, tiny.model_config(summarization_layers=layers, surface_features=False)
    ).eval()
    plain.load_state_dict(scorer.state_dict(), strict=False)
    vectors, surface = torch.randn(6, 32), torch.randn(6, NUM_SURFACE_FEATURES)
    moved = vectors + surface @ scorer.surface.weight.T + scorer.surface.bias
    torch.testing.assert_close(
        scorer(vectors, surface, [2, 4]), plain(moved, NO_SURFACE, [2, 4]), rtol=0, atol=1e-5
    )


@torch.inference_mode()
def test_a_word_that_another_window_repeats_moves_a_score_through_the_surface_features():
    """The vectors stay the same, since no window changes but the last."""
    model = tiny.model(summarization_layers="linear", surface_features=True)
    first, second = documents_for(
        model, texts=[tiny.text(20) + f" {word}." for word in ("Zebra", "The cat")]
    )
    a, b = (model(batch_of([document])) for document in (first, second))
    assert torch.allclose(a.sentence_vectors[0], b.sentence_vectors[0], atol=FLOAT32_TOLERANCE)
    assert (first.surface[0] != second.surface[0]).any()
    assert (a.sentence_logits[0] - b.sentence_logits[0]).abs() > 1e-5


@torch.inference_mode()
def test_without_positions_the_transformer_head_is_permutation_equivariant():
    vectors, order = torch.randn(9, 32), torch.randperm(9)
    assert not torch.equal(order, torch.arange(9))
    shuffled = vectors[order]
    without, with_positions = head(0.0), head(1.0)
    torch.testing.assert_close(
        without(vectors, NO_SURFACE, [9])[order],
        without(shuffled, NO_SURFACE, [9]),
        rtol=0,
        atol=1e-5,
    )
    assert (
        with_positions(vectors, NO_SURFACE, [9])[order] - with_positions(shuffled, NO_SURFACE, [9])
    ).abs().max() > 1e-2


@torch.inference_mode()
def test_positions_start_anew_in_each_document():
    vectors = torch.randn(4, 32)
    alone = head(1.0)(vectors, NO_SURFACE, [4])
    torch.testing.assert_close(
        head(1.0)(torch.cat([torch.randn(3, 32), vectors]), NO_SURFACE, [3, 4])[3:],
        alone,
        rtol=0,
        atol=1e-5,
    )


def test_sinusoidal_positions_are_those_of_the_paper():
    table = sinusoidal_positions(torch.arange(50), 32)
    for position, i in product([0, 1, 7, 49], range(16)):
        angle = position / 10000 ** (2 * i / 32)
        assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
        assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    assert sinusoidal_positions(torch.arange(3), 7).shape == (3, 7)


def test_sentence_layer_is_torchs_pre_norm_encoder_layer():
    torch.manual_seed(3)
    layer = SentenceLayer(32, tiny.model_config()).eval()
    reference = nn.TransformerEncoderLayer(
        32, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True
    ).eval()
    for norm in (layer.attention_norm, layer.feed_forward_norm):
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    reference.self_attn.in_proj_weight.data = layer.query_key_value.weight.data
    reference.self_attn.in_proj_bias.data = layer.query_key_value.bias.data
    reference.self_attn.out_proj.load_state_dict(layer.attention_output.state_dict())
    reference.linear1.load_state_dict(layer.feed_forward[0].state_dict())
    reference.linear2.load_state_dict(layer.feed_forward[3].state_dict())
    reference.norm1.load_state_dict(layer.attention_norm.state_dict())
    reference.norm2.load_state_dict(layer.feed_forward_norm.state_dict())
    vectors = torch.randn(12, 32)
    expected = torch.cat([reference(part[None])[0] for part in torch.split(vectors, [2, 3, 7])])
    torch.testing.assert_close(layer(vectors, [2, 3, 7]), expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_sentiment_is_attention_of_the_learned_query():
    torch.manual_seed(4)
    module = model_module.DocumentHead(32, tiny.model_config(), 3).eval()
    vectors, lengths = torch.randn(8, 32), [1, 3, 4]
    query_w, key_w, value_w = module.attention.in_proj_weight.chunk(3)
    query_b, key_b, value_b = torch.randn(3, 32)
    module.attention.in_proj_bias.data = torch.cat([query_b, key_b, value_b])
    expected = []
    for part in torch.split(vectors, lengths):
        query = (query_w @ module.query[0, 0] + query_b).view(4, 8)
        key, value = (
            (part @ key_w.T + key_b).view(-1, 4, 8),
            (part @ value_w.T + value_b).view(-1, 4, 8),
        )
        weights = (torch.einsum("hd,shd->hs", query, key) / math.sqrt(8)).softmax(1)
        pooled = module.attention.out_proj(torch.einsum("hs,shd->hd", weights, value).flatten())
        expected.append(module.classifier(pooled))
    torch.testing.assert_close(module(vectors, lengths), torch.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("counts", [[3], [1, 1, 2, 5, 5, 9], [4, 2, 7, 2]])
@torch.inference_mode()
def test_documents_are_packed_for_an_lstm_as_torch_packs_them(counts):
    torch.manual_seed(3)
    lstm, vectors = nn.LSTM(8, 4, 2, bidirectional=True), torch.randn(sum(counts), 8)
    packed = rnn.pack_sequence(list(torch.split(vectors, counts)), enforce_sorted=False)
    output, (state, _) = lstm(packed)
    found, last = run_lstm(lstm, vectors, counts)
    assert torch.equal(found, torch.cat(rnn.unpack_sequence(output)))
    assert torch.equal(last, torch.cat([state[-2], state[-1]], dim=1))


@torch.inference_mode()
def test_lstm_heads_are_torchs_lstm_on_each_document():
    torch.manual_seed(5)
    config = tiny.model_config(summarization_layers="lstm", sentiment_pooling="lstm")
    scorer, sentiment = (
        SummarizationLayers(32, config).eval(),
        model_module.DocumentHead(32, config, 3).eval(),
    )
    vectors, lengths = torch.randn(8, 32), [1, 3, 4]
    parts = torch.split(vectors, lengths)
    scores = [
        scorer.scorer(scorer.norm(scorer.lstm(part[None])[0][0])).squeeze(1) for part in parts
    ]
    torch.testing.assert_close(
        scorer(vectors, NO_SURFACE, lengths), torch.cat(scores), rtol=0, atol=1e-5
    )
    output = [sentiment.lstm(part[None])[0][0] for part in parts]
    last = torch.stack(
        [torch.cat([states[-1, :16], states[0, 16:]]) for states in output]
    )  # forward, backward
    torch.testing.assert_close(
        sentiment(vectors, lengths), sentiment.classifier(last), rtol=0, atol=1e-5
    )


@torch.inference_mode()
def test_mean_pooling_and_linear_layers():
    torch.manual_seed(6)
    config = tiny.model_config(summarization_layers="linear", sentiment_pooling="mean")
    scorer, sentiment = (
        SummarizationLayers(32, config).eval(),
        model_module.DocumentHead(32, config, 3).eval(),
    )
    vectors, lengths = torch.randn(5, 32), [2, 3]
    torch.testing.assert_close(scorer(vectors, NO_SURFACE, lengths), scorer.scorer(vectors)[:, 0])
    expected = torch.stack(
        [sentiment.classifier(part.mean(0)) for part in torch.split(vectors, lengths)]
    )
    torch.testing.assert_close(sentiment(vectors, lengths), expected)


@pytest.mark.parametrize(("layers", "pooling"), HEADS)
def test_heads_train_under_bfloat16_autocast(layers, pooling):
    model = tiny.model(summarization_layers=layers, sentiment_pooling=pooling).train()
    batch = batch_of(documents_for(model))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch)
    (
        logits.sentence_logits.float().sum() + logits.sentiment_logits.float().square().sum()
    ).backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(
        ModelError, match="num_heads=5 does not divide the encoder's hidden size 32"
    ):
        BertSum(tiny.encoder(), tiny.model_config(num_heads=5))
    odd = tiny.encoder(hidden_size=33, num_attention_heads=3)
    with pytest.raises(ModelError, match="must be even, not 33"):
        BertSum(odd, tiny.model_config(num_heads=3, summarization_layers="lstm"))


@KINDS
def test_windows_are_as_long_as_the_encoder_has_positions(kind):
    """A window of all positions goes through; one token more would not."""
    model = tiny.model(kind, max_window_tokens=512)
    encoder = document_encoder(model, tiny.ENCODER_TOKENIZERS[kind]())
    assert encoder.max_window_tokens == tiny.NUM_POSITIONS
    (document,) = encoder.encode([tiny.text(1, 100)], [None], 64)
    assert document.window_lengths.max() == tiny.NUM_POSITIONS
    with torch.inference_mode():
        assert model(batch_of([document])).sentence_logits.isfinite().all()


def test_a_copy_of_a_model_is_independent():
    model = tiny.model()
    other = copy.deepcopy(model)
    other.encoder.embeddings.word_embeddings.weight.data.zero_()
    batch = batch_of(documents_for(model))
    assert not torch.equal(model.token_vectors(batch), other.token_vectors(batch))


@KINDS
@pytest.mark.parametrize("layers", [(), (0, 2)])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@torch.inference_mode()
def test_a_query_rides_along_and_changes_no_other_score(kind, layers, pooling):
    model = tiny.model(kind, embedding_layers=layers, pooling=pooling)
    if model.embedding is not None:
        torch.nn.init.normal_(model.embedding.weight)
    documents = documents_for(model, kind)
    query, other = documents_for(model, kind, ["The big dog", "Market prices"])
    asking = [replace(document, query=query) for document in documents[:2]] + documents[2:]
    plain = model(batch_of(documents), document_vectors=True)
    vector = model(batch_of([query]), document_vectors=True).document_vectors[0]
    common = model(batch_of([other]), document_vectors=True).document_vectors[0]
    batch = batch_of(asking)
    asked = model(batch, document_vectors=True, query_cosines=True, common_query=common)

    tolerance = {"rtol": 0, "atol": FLOAT32_TOLERANCE}
    for name in ("sentence_logits", "sentiment_logits", "sentence_vectors", "document_vectors"):
        torch.testing.assert_close(getattr(asked, name), getattr(plain, name), **tolerance)
    cosines = by_document(batch, asked.query_cosines)
    compared = model(
        batch_of(documents), document_vectors=True, compared=torch.stack([vector, common])
    )
    expected = by_document(batch_of(documents), compared.sentence_cosines)
    for place in range(len(documents)):
        column = 0 if place < 2 else 1
        torch.testing.assert_close(cosines[place], expected[place][:, column], **tolerance)
    without = model(batch, document_vectors=True, query_cosines=True)
    assert not by_document(batch, without.query_cosines)[3].any()
