"""The branch for CUDA on fake tensors: one device, a host that does not wait, and few kernels."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import tiny
from helpers.fake_cuda import Record, fake_cuda
from torch._subclasses.fake_tensor import DataDependentOutputException
from transformers import DistilBertModel

import bertsum
from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.config import SummarizerConfig
from bertsum.errors import ModelError
from bertsum.inference.arguments import choose_batch_tokens
from bertsum.inference.device_batches import Running
from bertsum.inference.summarizer import Summarizer
from bertsum.model.attention.packed import packed_attention
from bertsum.model.batches import group_documents, make_batch

TEXTS = [tiny.text(1 + i % 9, 3 + i % 5, first=i) for i in range(40)]
TAGS = ("O", "positive", "negative", "neutral")
ALL_OUTPUTS = {"outputs": ("sentences", "embedding")}


def save(directory: Path, kind: str = "bert", **heads: object) -> Path:
    tokenizer = tiny.ENCODER_TOKENIZERS[kind]()
    save_checkpoint(
        directory, tiny.model(kind, **heads), tokenizer, "", version=bertsum.__version__
    )
    return directory


def start(
    directory: Path, record: Record, device: str = "cuda", **config: object
) -> tuple[Summarizer, Running]:
    """A Summarizer that has given all texts to the device; the record is of this batch alone."""
    settings = SummarizerConfig.model_validate(config)
    summarizer = Summarizer(directory, settings, device=device)
    documents = summarizer.encoder.encode(TEXTS, [None] * len(TEXTS), 64)
    (group,) = group_documents(documents, summarizer.max_batch_tokens)
    (reader,) = summarizer.readers.values()
    reader.start_batch(documents, group)  # what is asked of a device once is no batch's
    record.clear()
    return summarizer, reader.start_batch(documents, group)


# Heads, configuration, and kernels of a batch with an encoder of two layers and documents of 9
# different numbers of sentences.
HEADS: list[tuple[dict[str, object], dict[str, object], int]] = [
    ({}, {}, 125),
    ({}, ALL_OUTPUTS, 170),
    ({"pooling": "cls", "summarization_layers": "linear", "sentiment_pooling": "mean"}, {}, 65),
    ({"surface_features": True, "rank_candidates": True, "topic_labels": ("a", "b")}, {}, 150),
    ({"token_sentiment_labels": TAGS, "embedding_layers": (0, 1, 2)}, ALL_OUTPUTS, 185),
    ({"summarization_layers": "lstm"}, {}, 85),
    ({"summarization_layers": "linear", "sentiment_pooling": "lstm"}, {}, 65),
    ({"prefix_tokens": 4}, {}, 140),
]


@pytest.mark.parametrize(("heads", "config", "most_kernels"), HEADS, ids=str)
def test_a_batch_of_any_heads_is_on_one_device_and_the_host_does_not_wait(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    heads: dict[str, object],
    config: dict[str, object],
    most_kernels: int,
) -> None:
    save(tmp_path, **heads)
    with fake_cuda(monkeypatch) as record:
        start(tmp_path, record, **config)
    assert record.problems == []
    assert record.kernels <= most_kernels, record.operations


def test_a_temperature_by_length_does_not_make_the_host_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_length = {"sentiment": {"short": 1.0, "long": 0.5}, "topic": {"short": 1.0, "long": 0.5}}
    save(tmp_path, topic_labels=("a", "b"))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"temperatures": by_length}))
    with fake_cuda(monkeypatch) as record:
        start(tmp_path, record, **ALL_OUTPUTS)
    assert record.problems == []
    assert record.kernels <= 260, record.operations


@pytest.mark.parametrize(
    ("kind", "most_kernels"),
    # the last two compute their own way, in groups of windows of about equal length
    [
        ("roberta", 130),
        ("xlm-roberta", 130),
        ("electra", 130),
        ("distilbert", 530),
        ("mpnet", 1320),
    ],
)
def test_so_is_a_batch_of_other_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, most_kernels: int
) -> None:
    save(tmp_path, kind)
    with fake_cuda(monkeypatch) as record:
        start(tmp_path, record)
    assert record.problems == []
    assert record.kernels <= most_kernels, record.operations


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_scores_come_from_other_gpus_to_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    save(tmp_path)
    with fake_cuda(monkeypatch) as record:
        summarizer, running = start(tmp_path, record, device)
        batch = make_batch(summarizer.encoder.encode(TEXTS, [None] * len(TEXTS), 64), [0])
        assert batch.to(summarizer.device).input_ids.device.type == device
    assert (summarizer.dtype, record.problems) == (torch.float32, [])
    for scores in (running.sentence_scores, running.sentiment_scores):
        assert scores is not None
        assert scores.device.type == "cpu"  # numpy takes no others


def test_distilbert_is_asked_for_no_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers would ask the device, but for a mask of [windows, 1, tokens, tokens]."""
    save(tmp_path, "distilbert")
    masks = []
    forward = DistilBertModel.forward

    def watched(*args: object, attention_mask: torch.Tensor, **options: object) -> object:
        masks.append(attention_mask)
        return forward(*args, attention_mask=attention_mask, **options)

    monkeypatch.setattr(DistilBertModel, "forward", watched)
    with fake_cuda(monkeypatch) as record:
        start(tmp_path, record)
    assert {(mask.dim(), mask.dtype) for mask in masks} == {(4, torch.bfloat16)}


@pytest.mark.parametrize(
    ("memory", "dtype", "expected"),
    # MiniLM-L6 in bfloat16: 384 * 16 * 2 bytes * 65,536 tokens = 0.75 GiB
    [(6.5, "bfloat16", 65536), (5.5, "bfloat16", 16384), (11, "float32", 16384)],
)
def test_a_gpu_with_the_memory_gets_more_tokens_a_batch(
    monkeypatch: pytest.MonkeyPatch, memory: float, dtype: str, expected: int
) -> None:
    # 13 GiB of it, or less, and half of that may be used
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, int(2 * memory * 2**30)))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 0.5)
    number_format = getattr(torch, dtype)
    assert choose_batch_tokens(torch.device("cuda"), number_format, 384) == expected
    assert choose_batch_tokens(torch.device("cpu"), number_format, 384) == 16384


def test_a_number_of_tokens_that_is_given_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path)
    with fake_cuda(monkeypatch):
        assert Summarizer(tmp_path, device="cuda").max_batch_tokens == 65536
        assert Summarizer(tmp_path, device="cuda", max_batch_tokens=99).max_batch_tokens == 99
    assert Summarizer(tmp_path, device="cpu").max_batch_tokens == 16384


def test_what_follows_attention_is_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path)
    calls = []

    def compile_function(function: Callable[..., object], **options: object) -> object:
        assert options == {"dynamic": True, "fullgraph": True}

        def compiled(*args: object) -> object:
            calls.append(args)
            return function(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_function)
    with fake_cuda(monkeypatch) as record:
        start(tmp_path, record, compile=True)
    assert record.problems == []
    assert len(calls) == 1 + 2 * 2  # a try, and two batches through two layers


def test_where_nothing_can_be_compiled_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Triton is missing")

    config = SummarizerConfig(compile=True)
    save(tmp_path)
    with pytest.raises(ModelError, match="compile needs a GPU with CUDA, and the device is cpu"):
        Summarizer(tmp_path, config, device="cpu")
    monkeypatch.setattr(torch, "compile", lambda *_, **__: refuse)
    with (
        fake_cuda(monkeypatch),
        pytest.raises(
            ModelError, match=r"fails on cuda .RuntimeError: Triton is missing.; compile"
        ),
    ):
        Summarizer(tmp_path, config, device="cuda")
    save(tmp_path / "distilbert", "distilbert")
    with pytest.raises(ModelError, match="needs an encoder of BERT's family, not distilbert"):
        Summarizer(tmp_path / "distilbert", config, device="cpu")


def test_what_the_record_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cuda(monkeypatch) as record:
        here, there = torch.zeros(3), torch.zeros(3, device="cuda")
        with pytest.raises(RuntimeError, match="at least two devices"):
            here + there
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        there.cpu()
        there.copy_(here, non_blocking=True)
    assert record.problems == [
        "add of tensors on two devices",
        "the host waits: _local_scalar_dense",
        "the host waits for a copy to cpu of (3,)",
        "the host waits for a copy to cuda:0 of (3,)",
    ]


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ((6, 1), torch.float32),  # P4, P40: float16 is slow
        ((7, 0), torch.float16),  # V100
        ((7, 5), torch.float16),  # T4
        ((8, 0), torch.bfloat16),  # A100
    ],
)
def test_auto_is_the_fast_format_of_the_gpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    save(tmp_path)
    with fake_cuda(monkeypatch, capability) as record:
        summarizer, running = start(tmp_path, record)
    assert summarizer.dtype == dtype
    assert record.problems == []
    # float16 has a smaller range, so that it is watched
    assert (running.is_finite is not None) == (dtype == torch.float16)


def test_on_a_second_gpu_all_that_is_asked_is_asked_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event tells when scores are there, so it must be behind the copies on their device."""
    save(tmp_path)
    with fake_cuda(monkeypatch, (7, 5), (9, 0)) as record:
        summarizer, _ = start(tmp_path, record, "cuda:1")
        first, _ = start(tmp_path, record, "cuda:0")
    assert record.problems == []
    assert record.streams == [torch.device("cuda:1")] * 2 + [torch.device("cuda:0")] * 2
    assert (summarizer.dtype, first.dtype) == (torch.bfloat16, torch.float16)


@pytest.mark.parametrize(
    ("num_heads", "size", "is_one_kernel"),
    [(12, 32, True), (1, 256, True), (12, 26, True), (8, 39, True), (2, 264, False)],
)
def test_flash_attention_gets_the_heads_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, num_heads: int, size: int, is_one_kernel: bool
) -> None:
    with fake_cuda(monkeypatch) as record:
        rows = torch.zeros(40, num_heads * size, device="cuda", dtype=torch.bfloat16)
        result = packed_attention((rows, rows, rows), [10, 30], num_heads)
        assert result.shape == rows.shape
    assert record.problems == []
    assert (record.operations["_flash_attention_forward"] > 0) == is_one_kernel


def test_where_flash_attention_does_not_run_another_way_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A build of PyTorch without its kernels for this GPU says so when it is called."""
    calls = []

    def refuse(*_: object) -> None:
        calls.append(1)
        raise RuntimeError("FlashAttention was not built for this GPU")

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", refuse)
    with fake_cuda(monkeypatch) as record:
        rows = torch.zeros(40, 64, device="cuda", dtype=torch.bfloat16)
        for _ in range(2):
            assert packed_attention((rows, rows, rows), [10, 30], 2).shape == (40, 64)
    assert record.problems == []
    assert len(calls) == 1  # it is asked once
