"""What one replica does with these documents on the machine where this runs, and what holds it up.

The engine's rate is measured between two measurements of the machine's own rate of matrix products,
so that what else runs on the machine weighs on both.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from bertsum.errors import InputError
from bertsum.inference.gpu_sharing import product_operations
from bertsum.job_config import JobConfig
from bertsum.storage.folder import configure
from jobs.engine.work import take_device

if TYPE_CHECKING:
    import torch

    from bertsum.inference.device_batches import Scores
    from bertsum.inference.reader import Reader
    from bertsum.inference.summarizer import Prepared, Summarizer
    from bertsum.model.attention.packed import EncoderConfig
    from bertsum.schema import Document, Prediction
    from bertsum.text.encoder import EncodedDocument

Result = TypeVar("Result")

_STAGES = ("prepare", "make_batch", "forward", "finish", "output")

_PRODUCT_ROWS = {"cpu": 4096, "cuda": 16384}  # of a product: what the engine multiplies at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rates a second. Tokens are real ones: special tokens in, padding out."""

    device: str
    dtype: str
    threads: int
    cpus: int  # of the machine
    documents: int
    tokens_per_document: float
    matrix_flops: float  # floating-point operations of products of the encoder's shapes
    engine_tokens: float
    engine_documents: float
    engine_share: float  # of `matrix_flops`, counting the operations that real tokens need
    prepare_documents_per_core: float
    end_to_end_documents: float  # Arrow rows in, Arrow rows out
    cpu_seconds: Mapping[str, float]  # of a document in each stage, all threads together
    bottleneck: str


def measure_model(
    model: str | None,
    config: JobConfig,
    tables: Sequence[pa.Table],
    repetitions: int,
    num_gpus: float | None,
    num_threads: int | None = None,
) -> Measured:
    """Load the model and measure it.

    On a cluster this runs where a replica would, with as many threads. Raises InputError, see
    `measure`.
    """
    import torch  # takes seconds, as the next one

    from bertsum.inference.summarizer import Summarizer

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    configure(config.storage_options)
    summarizer = Summarizer(
        model,
        config.named_summarizer,
        device=take_device(num_gpus),
        max_batch_tokens=config.max_batch_tokens,
    )
    return measure(summarizer, tables, repetitions)


def device_name(device: "torch.device") -> str | None:
    """Return the name of a GPU, None for a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return None if device.type == "cpu" else str(device)


def measure(summarizer: "Summarizer", tables: Sequence[pa.Table], repetitions: int) -> Measured:
    """Medians over interleaved repetitions, after one that is not counted.

    Raises InputError where no document has text in a language of the model.
    """
    import torch

    from bertsum.inference.arrow import read_documents

    documents: list[Document] = []
    for table in tables:
        documents += read_documents(table, summarizer.config)
    prepared = summarizer.prepare(documents)
    encoded = [document for document in prepared.encoded if document is not None]
    if not encoded:
        raise InputError("no document of the sample is text in a language of the model")
    tokens = sum(len(document.input_ids) for document in encoded)
    operations, config = _operations(summarizer, encoded)
    products, shares, engines, stages, walls = [], [], [], [], []
    for _ in range(repetitions + 1):  # the first one allocates and compiles
        before = _product_rate(summarizer, config)
        engine, forward, scores = _timed(lambda: summarizer.forward(prepared))
        product = (before + _product_rate(summarizer, config)) / 2
        products.append(product)
        engines.append(engine)
        shares.append(operations / engine / product)
        host = _time_host(summarizer, tables, documents, prepared=prepared, scores=scores)
        # which makes the batches, too
        host["forward"] = max(0.0, forward - host["make_batch"])
        stages.append(host)
        walls.append(_timed(lambda: list(summarizer.stream(tables)))[0])
    engine, wall = median(engines[1:]), median(walls[1:])
    cpu_seconds = {
        name: median(repetition[name] for repetition in stages[1:]) / len(documents)
        for name in _STAGES
    }
    host_seconds = len(documents) * (sum(cpu_seconds.values()) - cpu_seconds["forward"])
    return Measured(
        device=device_name(summarizer.device) or "CPU",
        dtype=str(summarizer.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        cpus=os.cpu_count() or 1,
        documents=len(documents),
        tokens_per_document=tokens / len(encoded),
        matrix_flops=median(products[1:]),
        engine_tokens=tokens / engine,
        engine_documents=len(encoded) / engine,
        engine_share=median(shares[1:]),
        prepare_documents_per_core=1 / cpu_seconds["prepare"],
        end_to_end_documents=len(documents) / wall,
        cpu_seconds=cpu_seconds,
        bottleneck=_bottleneck(host_seconds, engine, summarizer.device.type != "cpu"),
    )


def _time_host(
    summarizer: "Summarizer",
    tables: Sequence[pa.Table],
    documents: "Sequence[Document]",
    *,
    prepared: "Prepared",
    scores: "Sequence[Scores | None]",
) -> dict[str, float]:
    """CPU seconds of what a core does for these documents beside the model, by stage."""
    _, prepare, _ = _timed(lambda: summarizer.prepare(documents))
    _, make_batch, _ = _timed(lambda: _make_batches(summarizer, prepared))
    _, finish, predictions = _timed(partial(summarizer.finish, prepared, scores))
    _, output, _ = _timed(partial(_make_rows, summarizer, tables, predictions))
    return {"prepare": prepare, "make_batch": make_batch, "finish": finish, "output": output}


def _bottleneck(host: float, engine: float, on_gpu: bool) -> str:
    """From seconds for the same documents: of one core beside the model, and of the engine."""
    if not on_gpu:
        share = host / (host + engine)
        return f"the CPU, which spends {share:.0%} of the time on what is not the model"
    if host > engine:
        return (
            f"the host: {host / engine:.1f} replicas a GPU (resources.num_gpus) would keep it busy"
        )
    return "the GPU"


def _timed(step: Callable[[], Result]) -> tuple[float, float, Result]:
    """Seconds, CPU seconds of all threads, and the result."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = step()  # ends with a copy to the host, so that a GPU has done its work
    return time.perf_counter() - start, time.process_time() - cpu_start, result


def _make_batches(summarizer: "Summarizer", prepared: "Prepared") -> None:
    from bertsum.model.batches import group_documents, make_batch

    for _, _, encoded in summarizer.documents_by_reader(prepared):
        for group in group_documents(encoded, summarizer.max_batch_tokens):
            make_batch(encoded, group)


def _make_rows(
    summarizer: "Summarizer", tables: Sequence[pa.Table], predictions: "Sequence[Prediction]"
) -> None:
    from bertsum.inference.arrow import output_table

    start = 0
    for table in tables:
        stop = start + table.num_rows
        output_table(table, predictions[start:stop], summarizer.config)
        start = stop


def _operations(
    summarizer: "Summarizer", documents: Sequence["EncodedDocument"]
) -> "tuple[float, EncoderConfig]":
    """Multiplications and additions that the encoders need for these tokens, without padding.

    And the configuration of the encoder that needs most of them, which is the only one of a
    checkpoint.
    """
    by_reader: dict[Reader, float] = defaultdict(float)
    for document in documents:
        reader = summarizer.router.reader_for(document.language)
        config = reader.model.encoder.config
        hidden, layers = int(config.hidden_size), int(getattr(config, "num_hidden_layers", 6))
        inner = int(getattr(config, "intermediate_size", 4 * hidden))
        lengths = document.window_lengths.astype("float64")  # [W], tokens of each window
        products = lengths.sum() * product_operations(hidden, layers, inner)
        # Every token attends to all of its window. For a pair of tokens: its score, and its part
        # in the weighted sum, of `hidden` products and sums each.
        attention = 2 * layers * 2 * (lengths**2).sum() * hidden
        by_reader[reader] += float(products + attention)
    busiest = max(by_reader, key=by_reader.__getitem__)
    return sum(by_reader.values()), busiest.model.encoder.config


def _product_rate(summarizer: "Summarizer", config: "EncoderConfig") -> float:
    """Operations a second of products of an encoder's shapes, in its number format."""
    import torch

    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", 4 * hidden))
    device, rows = summarizer.device, _PRODUCT_ROWS.get(summarizer.device.type, 4096)
    shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    factors = []
    for k, n in shapes:
        values = torch.randn(rows, k, device=device, dtype=summarizer.dtype)  # [rows, k]
        weight = torch.randn(n, k, device=device, dtype=summarizer.dtype)  # [n, k]
        factors.append((values, weight))
    repetitions = 2 if device.type == "cpu" else 50
    with torch.inference_mode():
        for values, weight in factors:  # not counted: the first product of a shape is slow
            torch.nn.functional.linear(values, weight)
        start = time.perf_counter()
        for _ in range(repetitions):
            for values, weight in factors:
                last = torch.nn.functional.linear(values, weight)
        last[0, 0].item()  # waits until a GPU has done them all
    seconds = time.perf_counter() - start
    return repetitions * sum(2 * rows * k * n for k, n in shapes) / seconds
