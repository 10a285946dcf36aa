"""What differs on a GPU: one attention kernel for all windows, and a host that does not wait."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from helpers import tiny

from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.config import SummarizerConfig
from bertsum.inference.reader import document_encoder
from bertsum.inference.summarizer import Summarizer
from bertsum.model.attention.packed import packed_attention
from bertsum.model.batches import group_documents, make_batch
from bertsum.model.bert_sum import BertSum

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TEXTS = [tiny.text(1 + i % 9, 3 + i % 5, first=i) for i in range(40)]


@pytest.fixture
def checkpoint(tmp_path):
    save_checkpoint(tmp_path, tiny.model(), tiny.wordpiece(), "", version="0.0.0")
    return tmp_path


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)], ids=str
)
@pytest.mark.parametrize(("heads", "size"), [(2, 32), (12, 32), (12, 26), (8, 39), (2, 264)])
@torch.inference_mode()
def test_attention_is_that_of_each_sequence_alone(dtype, tolerance, heads, size):
    torch.manual_seed(1)
    lengths = [1, 3, 3, 64, 127, 128, 512]
    query, key, value = (
        torch.randn(sum(lengths), heads * size, device="cuda", dtype=dtype) for _ in range(3)
    )
    found = torch.split(packed_attention((query, key, value), lengths, heads), lengths)
    parts = zip(*(torch.split(t.double(), lengths) for t in (query, key, value)), strict=True)
    for rows, (q, k, v) in zip(found, parts, strict=True):
        q, k, v = (t.view(len(t), heads, size).transpose(0, 1) for t in (q, k, v))
        expected = (
            (torch.softmax(q @ k.transpose(1, 2) / size**0.5, -1) @ v).transpose(0, 1).flatten(1)
        )
        assert (rows - expected).norm() < tolerance * expected.norm()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.03)], ids=str
)
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
@torch.inference_mode()
def test_token_vectors_are_those_of_transformers(kind, dtype, tolerance):
    model = tiny.model(kind)
    documents = document_encoder(model, tiny.ENCODER_TOKENIZERS[kind]()).encode(
        TEXTS, [None] * len(TEXTS), 64
    )
    batch = make_batch(documents, range(len(documents)))
    expected = reference(model, batch, has_segments=kind != "roberta")
    model.to("cuda").encoder.to(dtype)
    found = model.token_vectors(batch.to(torch.device("cuda"))).float().cpu()
    assert (found - expected).norm() < tolerance * expected.norm()


def reference(model: BertSum, batch, has_segments: bool):
    """Each window alone through the encoder's own forward, on the CPU in float32."""
    vectors = []
    windows = (
        torch.split(t, batch.window_lengths) for t in (batch.input_ids, batch.token_type_ids)
    )
    for ids, types in zip(*windows, strict=True):
        segments = {"token_type_ids": types[None]} if has_segments else {}
        mask = torch.ones_like(ids)[None]
        vectors.append(
            model.encoder(ids[None], attention_mask=mask, **segments).last_hidden_state[0]
        )
    return torch.cat(vectors)


def test_predictions_are_those_of_the_cpu(checkpoint):
    here = Summarizer(checkpoint, SummarizerConfig(dtype="float32"), device="cpu")(TEXTS)
    there = Summarizer(
        checkpoint, SummarizerConfig(dtype="float32"), device="cuda", max_batch_tokens=256
    )(TEXTS)
    half = Summarizer(checkpoint, device="cuda", max_batch_tokens=256)(TEXTS)
    for a, b, c in zip(here, there, half, strict=True):
        assert b.summary_sentences == a.summary_sentences
        assert b.sentiment_scores == pytest.approx(a.sentiment_scores, abs=1e-3)
        assert c.sentiment_scores == pytest.approx(a.sentiment_scores, abs=0.02)


def test_the_same_batch_has_the_same_bits_each_time(checkpoint):
    summarizer = Summarizer(checkpoint, device="cuda")
    documents = summarizer.encoder.encode(TEXTS * 10, [None] * 10 * len(TEXTS), 64)
    group = range(len(documents))
    (reader,) = summarizer.readers.values()
    first = reader.start_batch(documents, group).results()
    for _ in range(5):
        again = reader.start_batch(documents, group).results()
        for index, scores in first.items():
            assert (scores.sentence_scores == again[index].sentence_scores).all()
            assert (scores.sentiment_scores == again[index].sentiment_scores).all()


def test_the_host_never_waits_while_it_gives_work_to_the_device(checkpoint):
    summarizer = Summarizer(checkpoint, device="cuda", max_batch_tokens=256)
    documents = summarizer.encoder.encode(TEXTS, [None] * len(TEXTS), 64)
    groups = group_documents(documents, 256)
    expected = [
        summarizer.readers[""].start_batch(documents, group).results() for group in groups
    ]  # also warms the kernels up
    with waiting_is_an_error():
        running = [summarizer.readers[""].start_batch(documents, group) for group in groups]
    for batch, scores in zip(running, expected, strict=True):
        for place, found in batch.results().items():
            assert found.sentence_scores == pytest.approx(scores[place].sentence_scores, abs=0.02)


@contextmanager
def waiting_is_an_error():
    """Let torch raise an error where the host waits; it warns that this mode is young."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode")
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_batch_that_finds_no_memory_is_halved(checkpoint):
    summarizer = Summarizer(checkpoint, device="cuda")
    expected = summarizer(TEXTS)
    forward = summarizer.model.forward

    def small(batch, **options):
        if len(batch.documents) > 3:
            torch.empty(2**50, dtype=torch.uint8, device="cuda")
        return forward(batch, **options)

    summarizer.model.forward = small
    for found, wanted in zip(summarizer(TEXTS), expected, strict=True):
        assert found.status == wanted.status == "ok"
        assert found.sentiment_scores == pytest.approx(wanted.sentiment_scores, abs=0.02)
