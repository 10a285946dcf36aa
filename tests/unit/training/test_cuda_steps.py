"""A training batch on fake CUDA tensors: few kernels, one device, and a host that does not wait."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.fake_cuda import Record, fake_cuda, without_content
from helpers.rows import training_config

from bertsum.training.adapters import half_products
from bertsum.training.data import labelled_batch
from bertsum.training.examples import Example
from bertsum.training.loop import build_model
from bertsum.training.optimization import LossModule

# Layers and heads as in all-MiniLM-L6-v2; widths change no number of kernels.
SHAPE = {
    "hidden_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 192,
    "max_position_embeddings": 512,
}
DROPOUT = {"encoder_dropout": 0.1, "model": {"dropout": 0.1}}
FLASH, PADDED = "_flash_attention_forward", "_scaled_dot_product_efficient_attention"


def examples() -> list[Example]:
    """32 documents of 16 numbers of sentences, in windows of about as many lengths up to 512."""
    texts = [tiny.text(1 + 7 * i % 16, 3 + 4 * (i % 9), first=i) for i in range(32)]
    made = []
    encoder = tiny.document_encoder(max_positions=512, max_window_tokens=512)
    for index, document in enumerate(encoder.encode(texts, [None] * len(texts), 64)):
        labels = np.zeros(document.num_read_sentences, np.float32)
        made.append(Example(document, labels, sentiment_label=index % 3 - 1, summary=None))
    return made


def forward(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str, **values: object
) -> Record:
    """What the forward pass and the losses of one batch give the device."""
    config = training_config(dtype=dtype, **values)
    model = build_model(tiny.encoder(**SHAPE), config)
    batch = labelled_batch(examples())
    with fake_cuda(monkeypatch, capability) as record:
        model._apply(without_content).to("cuda").train()
        module = LossModule(model, config)
        is_half = config.lora_rank is not None and dtype == "bfloat16"
        with half_products(model) if is_half else nullcontext():
            module(batch.to(torch.device("cuda")))  # what is asked of a device once is no batch's
            record.clear()
            assert module(batch.to(torch.device("cuda"))).requires_grad
    return record


@pytest.mark.parametrize(
    ("values", "most_kernels"),
    [
        ({}, 300),
        (DROPOUT, 300),
        ({"lora_rank": 8}, 330),
        ({"lora_rank": 8, **DROPOUT}, 330),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("capability", "dtype", "kernel"),
    [((9, 0), "bfloat16", FLASH), ((7, 5), "float32", PADDED)],
    ids=str,
)
def test_a_batch_needs_few_kernels(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    dtype: str,
    kernel: str,
    values: dict[str, object],
    most_kernels: int,
) -> None:
    record = forward(monkeypatch, capability, dtype, **values)
    assert record.problems == []
    assert record.operations[kernel] > 0
    assert record.kernels <= most_kernels, record.operations


@pytest.mark.parametrize("values", [{}, {"lora_rank": 8}], ids=str)
def test_an_encoder_of_twelve_layers_needs_few_kernels(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, object]
) -> None:
    monkeypatch.setitem(SHAPE, "num_hidden_layers", 12)
    record = forward(monkeypatch, (9, 0), "bfloat16", **values)
    assert record.problems == []
    assert record.kernels <= 450, record.operations
