"""The way of a GPU, by real numbers on the CPU: attention and heads are those of each sequence alone."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers import tiny
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from bertsum.model.attention import gpu
from bertsum.model.attention.gpu import attend_on_gpu
from bertsum.model.attention.packed import _finish_layer, fuse_products, packed_attention
from bertsum.model.batches import make_batch
from bertsum.model.bert_sum import _attention_mask
from bertsum.model.heads import DocumentHead

# Ascending as windows are, of groups with and without padding; and in another order.
LENGTHS = [[5], [1, 2, 2, 16, 17, 40, 40], [40, 3, 64, 64, 1], [33, 33, 33]]


def gradients(result: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Of a sum in which no two numbers weigh the same."""
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    return [result, *torch.autograd.grad((result * weights).sum(), inputs)]


def flash(query: Tensor, key: Tensor, value: Tensor, *sequences: object, scale: float) -> tuple:
    """What FlashAttention computes, by its definition, for each sequence in turn."""
    starts, key_starts, longest, longest_key, dropout, is_causal, _ = sequences
    assert (dropout, is_causal, query.shape[2] % 8) == (0.0, False, 0)
    assert starts.dtype == key_starts.dtype == torch.int32
    assert (longest, longest_key) == (int(starts.diff().max()), int(key_starts.diff().max()))
    attended = []
    for index in range(len(starts) - 1):
        q = query[starts[index] : starts[index + 1]]
        k, v = (rows[key_starts[index] : key_starts[index + 1]] for rows in (key, value))
        weights = (torch.einsum("qhd,khd->hqk", q, k) * scale).softmax(2)
        attended.append(torch.einsum("hqk,khd->qhd", weights, v))
    return (torch.cat(attended),)


@pytest.fixture(params=["padded", "flash"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "flash":
        monkeypatch.setattr(gpu, "_flash_takes", lambda *_, **__: True)
        monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", flash)
    yield request.param


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("prefix_size", [0, 3])
@pytest.mark.parametrize("head_size", [8, 13])
def test_attention_and_its_gradients_are_those_of_the_cpu(
    way: str, lengths: list[int], prefix_size: int, head_size: int
) -> None:
    torch.manual_seed(4)
    options = {"dtype": torch.float64, "requires_grad": True}
    rows = [torch.randn(sum(lengths), 2 * head_size, **options) for _ in range(3)]
    prefix, inputs = None, rows
    if prefix_size:
        prefix = torch.randn(2, prefix_size, 2 * head_size, **options)
        inputs = [*rows, prefix]
    expected = gradients(packed_attention(tuple(rows), lengths, 2, prefix=prefix), inputs)
    found = gradients(attend_on_gpu(tuple(rows), lengths, 2, prefix=prefix), inputs)
    for values, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(values, wanted, rtol=1e-10, atol=1e-12)


def test_dropout_takes_whole_weights_and_keeps_their_mean() -> None:
    torch.manual_seed(5)
    lengths = [2, 3] * 2000
    query, key = torch.zeros(2, sum(lengths), 8).unbind()
    value = torch.ones(sum(lengths), 8)
    attended = attend_on_gpu((query, key, value), lengths, 1, dropout=0.25)
    # of two equal weights 0, 1 or 2 are kept, each as 1 / (1 - 0.25)
    of_two = torch.split(attended, lengths)[0::2]
    kept = torch.cat(of_two)[:, 0] * 2 * 0.75
    torch.testing.assert_close(kept, kept.round())
    assert set(kept.round().tolist()) == {0.0, 1.0, 2.0}
    assert attended.mean().item() == pytest.approx(1, abs=0.02)


def test_what_inference_has_made_serves_training() -> None:
    rows = torch.randn(3, 8, requires_grad=True)
    with torch.inference_mode():
        attend_on_gpu((rows, rows, rows), [1, 2], 1)
    attend_on_gpu((rows, rows, rows), [1, 2], 1).sum().backward()
    assert rows.grad is not None


def test_sequences_of_similar_length_are_a_group() -> None:
    assert gpu._group_sizes([1, 9, 16, 17, 30, 34, 35]) == [3, 3, 1]
    assert gpu._group_sizes([200, 120, 90]) == [2, 1]
    assert gpu._group_sizes([]) == []


@pytest.mark.parametrize("counts", [[3], [1, 1, 2, 5, 5, 9], [4, 2, 7, 2]], ids=str)
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_documents_at_once_are_those_of_each(counts: list[int], pooling: str) -> None:
    torch.manual_seed(3)
    config = tiny.model_config(sentiment_pooling=pooling)
    head = DocumentHead(32, config, 3).double().eval()
    vectors = (20 * torch.randn(sum(counts), 32, dtype=torch.float64)).requires_grad_()
    inputs = [vectors]
    if head.attention is not None:
        torch.nn.init.normal_(head.attention.in_proj_bias)  # zeros at first
        inputs += [head.query, *head.attention.parameters()]
    each = torch.cat([head._pool(part[None]) for part in torch.split(vectors, counts)])
    found = gradients(head._pool_at_once(vectors, counts), inputs)
    for values, wanted in zip(found, gradients(each, inputs), strict=True):
        torch.testing.assert_close(values, wanted, rtol=1e-9, atol=1e-10)


@torch.inference_mode()
def test_one_product_for_queries_keys_and_values_changes_no_weight() -> None:
    model = tiny.model()
    texts = [tiny.text(3, 4), tiny.text(5, 7, first=9)]
    batch = make_batch(tiny.encode(*texts), [0, 1])
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    expected = model.token_vectors(batch)
    fuse_products(model.encoder)
    found = model.token_vectors(batch)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    model.encoder.encoder.layer[0].attention.self.key.weight.mul_(2)  # the same memory
    assert (model.token_vectors(batch) - expected).norm() > 1e-2 * expected.norm()


@torch.inference_mode()
def test_a_mask_of_scores_is_one_of_tokens() -> None:
    encoder = tiny.encoder("distilbert")
    ids = torch.arange(10, 22).view(2, 6)
    is_token = np.array([[True] * 6, [True] * 4 + [False] * 2])
    mask = _attention_mask(is_token, torch.float32, torch.device("cpu"))
    expected, found = (
        encoder(ids, attention_mask=given).last_hidden_state[torch.from_numpy(is_token)]
        for given in (torch.from_numpy(is_token.astype(np.int64)), mask)
    )
    torch.testing.assert_close(found, expected)


@torch.inference_mode()
def test_layers_compile_to_one_graph_of_any_number_of_tokens() -> None:
    """By the first half of torch.compile, which needs no compiler of kernels."""
    encoder = tiny.encoder(num_hidden_layers=9)  # torch gives up after 8 graphs of one function
    counter = CompileCounter()
    finish = torch.compile(_finish_layer, dynamic=True, fullgraph=True, backend=counter)
    for num_tokens in (8, 100, 37):
        for layer in encoder.encoder.layer:
            rows = torch.randn(num_tokens, 32)
            assert torch.equal(
                finish(layer, rows, rows, "gelu"), _finish_layer(layer, rows, rows, "gelu")
            )
    assert counter.frame_count == 1
