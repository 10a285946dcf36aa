"""`bertsum benchmark INPUT`: what this machine does with these documents, what holds it up, and what a corpus costs.

Rates are of one replica in this process, without Ray. The engine's rate is measured between two measurements of the
machine's own rate of matrix products, so that what else runs on the machine weighs on both.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pyarrow as pa

from bertsum.columns import check_documents, needed_columns
from bertsum.config import JobConfig, load_config
from bertsum.errors import ConfigError, InputError
from bertsum.shards import Input, Shard, list_input, read_footers, stream_rows
from jobs.guard import guard

if TYPE_CHECKING:
    from bertsum.encoding import EncodedDocument
    from bertsum.predictor import Summarizer

_SAMPLE_FILES = 8
_PRODUCT_ROWS = {"cpu": 4096, "cuda": 16384}  # of a product: what the engine multiplies at once


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates a second. Tokens are real ones: special tokens in, padding out."""

    device: str
    dtype: str
    threads: int
    documents: int
    tokens_per_document: float
    matrix_flops: float  # floating-point operations of products of the encoder's shapes
    engine_tokens: float
    engine_documents: float
    engine_share: float  # of `matrix_flops`, counting the operations that real tokens need
    prepare_documents_per_core: float
    end_to_end_documents: float  # Arrow rows in, Arrow rows out
    bottleneck: str


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 failed, 2 the command or the configuration is wrong."""
    arguments = parser().parse_args(argv)
    return guard(lambda: benchmark(arguments))


def benchmark(arguments: argparse.Namespace) -> int:
    """The command behind its options."""
    if arguments.documents < 1 or arguments.repetitions < 1:
        raise ConfigError("--documents and --repetitions must be at least 1")
    text_column = [f"summarizer.text_column={arguments.text_column}"] if arguments.text_column else []
    config = load_config(JobConfig, arguments.config, [*arguments.set, *text_column])
    source = list_input(arguments.input)
    shards, problems = read_footers(source, source.files)
    usable = [shard for shard in shards if check_documents(shard, config.summarizer) is None and shard.num_rows]
    if not usable:
        raise InputError(f"no file of {arguments.input} has documents: {next(iter(problems.values()), 'no rows')}")
    from bertsum.predictor import Summarizer  # torch takes seconds: only once the options are known to be right

    summarizer = Summarizer(arguments.model, config.summarizer, max_batch_tokens=config.max_batch_tokens)
    tables = list(_sample(source, usable, arguments.documents, config))
    measured = measure(summarizer, tables, arguments.repetitions)
    corpus = arguments.corpus or sum(shard.num_rows for shard in usable)
    hours = corpus / measured.end_to_end_documents / 3600
    cost = None if arguments.price is None else hours * arguments.price
    found = asdict(measured) | {"corpus_documents": corpus, "replica_hours": hours, "cost": cost}
    print(json.dumps(found, indent=1) if arguments.json else _text(measured, corpus, hours, cost))
    return 0


def measure(summarizer: "Summarizer", tables: Sequence[pa.Table], repetitions: int) -> Measured:
    """Medians over interleaved repetitions, after one that is not counted. Raises InputError without any text."""
    import torch

    from bertsum.documents import read_documents

    documents = [document for table in tables for document in read_documents(table, summarizer.config)]
    prepared = summarizer.prepare(documents)
    encoded = [document for document in prepared.encoded if document is not None]
    if not encoded:
        raise InputError("no document of the sample is text in a language of the model")
    tokens = sum(len(document.input_ids) for document in encoded)
    operations = _operations(summarizer, encoded)
    products, shares, engines, cores, walls = [], [], [], [], []
    for _ in range(repetitions + 1):
        before = _product_rate(summarizer)
        engine = _seconds(lambda: summarizer.forward(prepared))
        product = (before + _product_rate(summarizer)) / 2
        products.append(product)
        engines.append(engine)
        shares.append(operations / engine / product)
        start = time.process_time()
        summarizer.prepare(documents)
        cores.append(time.process_time() - start)
        walls.append(_seconds(lambda: list(summarizer.stream(tables))))
    engine, core, wall = (median(values[1:]) for values in (engines, cores, walls))
    on_gpu = summarizer.device.type == "cuda"
    return Measured(
        device=torch.cuda.get_device_name() if on_gpu else "CPU",
        dtype=str(summarizer.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        documents=len(documents),
        tokens_per_document=tokens / len(encoded),
        matrix_flops=median(products[1:]),
        engine_tokens=tokens / engine,
        engine_documents=len(encoded) / engine,
        engine_share=median(shares[1:]),
        prepare_documents_per_core=len(documents) / core,
        end_to_end_documents=len(documents) / wall,
        bottleneck=_bottleneck(core, engine, on_gpu),
    )


def _bottleneck(prepare: float, engine: float, on_gpu: bool) -> str:
    """From seconds for the same documents. One thread prepares while the device computes."""
    if not on_gpu:
        return f"the CPU, which spends {prepare / (prepare + engine):.0%} of the time on preparing"
    if prepare > engine:
        return f"preparing: {prepare / engine:.1f} replicas a GPU (resources.num_gpus) would keep it busy"
    return "the GPU"


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()  # ends with a copy to the host, so that a GPU has done its work
    return time.perf_counter() - start


def _operations(summarizer: "Summarizer", documents: Sequence["EncodedDocument"]) -> float:
    """Multiplications and additions that the encoder needs for these tokens, attention included, padding not."""
    config = summarizer.model.encoder.config
    hidden, layers = int(config.hidden_size), int(getattr(config, "num_hidden_layers", 6))
    inner = int(getattr(config, "intermediate_size", 4 * hidden))
    tokens = float(sum(document.window_lengths.sum() for document in documents))
    pairs = float(sum((document.window_lengths.astype("int64") ** 2).sum() for document in documents))
    return 2 * layers * (tokens * (4 * hidden**2 + 2 * hidden * inner) + 2 * pairs * hidden)


def _product_rate(summarizer: "Summarizer") -> float:
    """Operations a second of products of the encoder's shapes, in its number format."""
    import torch

    config = summarizer.model.encoder.config
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", 4 * hidden))
    device, rows = summarizer.device, _PRODUCT_ROWS.get(summarizer.device.type, 4096)
    shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    factors = [
        (
            torch.randn(rows, k, device=device, dtype=summarizer.dtype),
            torch.randn(n, k, device=device, dtype=summarizer.dtype),
        )
        for k, n in shapes
    ]
    repetitions = 2 if device.type == "cpu" else 50
    with torch.inference_mode():
        for values, weight in factors:
            torch.nn.functional.linear(values, weight)
        start = time.perf_counter()
        for _ in range(repetitions):
            for values, weight in factors:
                last = torch.nn.functional.linear(values, weight)
        last[0, 0].item()
    seconds = time.perf_counter() - start
    return repetitions * sum(2 * rows * k * n for k, n in shapes) / seconds


def _sample(source: Input, shards: Sequence[Shard], rows: int, config: JobConfig) -> Iterator[pa.Table]:
    """The first rows of some files that lie evenly over INPUT."""
    chosen = shards[:: max(1, len(shards) // _SAMPLE_FILES)][:_SAMPLE_FILES]
    for place, shard in enumerate(chosen):
        most = -(-rows // (len(chosen) - place))
        columns = needed_columns(shard.schema, config.summarizer)
        for table in stream_rows(source.root, shard.file, 0, min(most, shard.num_rows), columns):
            rows -= table.num_rows
            yield table
        if rows <= 0:
            return


def _text(found: Measured, corpus: int, hours: float, cost: float | None) -> str:
    device = found.device + (f", {found.threads} threads" if found.device == "CPU" else f", {os.cpu_count()} CPU cores")
    rows = [
        ("measured on", f"{device}, {found.dtype}; {found.documents:,} documents"),
        ("a document", f"{found.tokens_per_document:,.0f} tokens"),
        ("matrix products", f"{found.matrix_flops / 1e12:,.3f} TFLOP/s of the encoder's shapes"),
        ("engine", f"{found.engine_documents:,.1f} documents/s, {found.engine_tokens:,.0f} tokens/s"),
        ("  of the products' rate", f"{found.engine_share:.2f}"),
        ("preparing", f"{found.prepare_documents_per_core:,.0f} documents/s a core"),
        ("end to end", f"{found.end_to_end_documents:,.1f} documents/s (one replica, without Ray)"),
        ("bottleneck", found.bottleneck),
        (f"{corpus:,} documents", f"{hours:,.2f} hours of one replica" + ("" if cost is None else f", {cost:,.2f}")),
    ]
    return "\n".join(f"{name:<24}{value}" for name, value in rows)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum benchmark",
        description="How fast this machine summarizes the documents of INPUT, and what it costs.",
    )
    add = options.add_argument
    add("input", metavar="INPUT", help="Parquet file, directory or glob; local or s3://, gs://, ...")
    add("--model", metavar="M", help="checkpoint: directory, URI or hub name (default: the shipped one)")
    add("--config", metavar="FILE", type=Path, help="YAML file with configuration values")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="one configuration value; repeatable")
    add("--text-column", metavar="NAME", help="column with the text (default: document)")
    add("--documents", metavar="N", type=int, default=256, help="rows of the sample (default: 256)")
    add("--repetitions", metavar="N", type=int, default=3, help="counted repetitions (default: 3)")
    add("--corpus", metavar="N", type=int, help="documents to estimate for (default: the rows of INPUT)")
    add("--price", metavar="P", type=float, help="price of one replica's machine an hour, in any currency")
    add("--json", action="store_true", help="the same for machines")
    return options


if __name__ == "__main__":
    sys.exit(main())
