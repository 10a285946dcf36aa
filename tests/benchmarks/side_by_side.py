"""bertsum beside what people use instead: the same documents and encoder weights, in one run.

pip install 'bertsum[benchmarks]'
python tests/benchmarks/side_by_side.py DOCUMENTS.parquet [--documents N] [--systems engine,b,c] [--json FILE]

Repetitions are interleaved (each system once, then each again), so that what else runs on the machine weighs on all.
A ratio is the median over repetitions of bertsum's rate by the rival's in the same repetition: for a to f of the engine
in this process, for g of the job; for the job itself its own rate by the engine's.
"""

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rivals import BertExtractiveSummarizer, HuggingFace, PreSumm, SentenceTransformers, Sumy

from bertsum import Summarizer

Timer = Callable[[], float]
"""Seconds for all documents, without loading anything."""

_NAMES = {
    "engine": "bertsum in this process (text to summaries and sentiment)",
    "job": "bertsum summarize (Parquet to Parquet, with Ray)",
    "a": "PreSumm's way: fp32, padded batches, only the first 512 tokens",
    "b": "Hugging Face, fp32, windows padded to 512; encoder only",
    "c": "Hugging Face, bf16, windows of 512 sorted by length; encoder only",
    "c128": "the same with windows of 128",
    "d": "sentence-transformers, encode of the sentences",
    "e": "bert-extractive-summarizer",
    "f1": "sumy TextRank (no encoder, one core)",
    "f2": "sumy LexRank (no encoder, one core)",
    "g": "Ray Data: read_parquet, map_batches of c, write_parquet",
}
_PIPELINES = ("job", "g")


def in_process(key: str, texts: Sequence[str]) -> Timer:
    """Loads the system. Raises ImportError where its package is missing."""
    loaders: Mapping[str, Callable[[], Any]] = {
        "a": PreSumm,
        "b": partial(HuggingFace, torch.float32, sort=False),
        "c": partial(HuggingFace, torch.bfloat16, sort=True),
        "c128": partial(HuggingFace, torch.bfloat16, sort=True, window=128),
        "d": SentenceTransformers,
        "e": BertExtractiveSummarizer,
        "f1": partial(Sumy, "textrank"),
        "f2": partial(Sumy, "lexrank"),
    }
    if key == "engine":
        summarizer = Summarizer(device="cpu")
        return lambda: _seconds(lambda: summarizer(list(texts)))
    system = loaders[key]()
    return lambda: _seconds(lambda: system.run(texts))


def on_ray(key: str, texts: Sequence[str], folder: Path) -> Timer:
    """Needs a Ray that has started."""
    from pipelines import job_seconds, ray_data_seconds

    source = folder / "input.parquet"
    pq.write_table(pa.table({"document": list(texts)}), source)
    step = job_seconds if key == "job" else ray_data_seconds
    return lambda: step(source, Path(tempfile.mkdtemp(dir=folder)) / "output")


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def load(
    keys: Sequence[str], texts: Sequence[str], folder: Path, stack: ExitStack
) -> dict[str, Timer]:
    """The systems that are installed."""
    timers: dict[str, Timer] = {}
    if set(keys) & set(_PIPELINES):
        from jobs.engine.cluster import connected

        # Ray starts workers with 15, so that on a machine that is in use they would stand behind this process
        os.environ |= {"RAY_worker_niceness": "0"}

        stack.enter_context(connected("local"))
    for key in keys:
        try:
            timers[key] = (
                on_ray(key, texts, folder) if key in _PIPELINES else in_process(key, texts)
            )
        except ImportError as error:
            print(f"{key} is left out: {error}. pip install 'bertsum[benchmarks]'")
    return timers


def compare(
    timers: Mapping[str, Timer], num_documents: int, repetitions: int
) -> dict[str, dict[str, Any]]:
    """Documents/s by system and repetition, after one repetition that is not counted."""
    rates: dict[str, list[float]] = {key: [] for key in timers}
    for repetition in range(repetitions + 1):
        for key, timer in timers.items():
            rate = num_documents / timer()
            if repetition:
                rates[key].append(rate)
            print(f"repetition {repetition}: {key} {rate:.2f} documents/s", flush=True)
    return {
        key: {
            "name": _NAMES[key],
            "documents_per_s": values,
            "median": median(values),
            "ratio": _ratio(key, rates),
        }
        for key, values in rates.items()
    }


def _ratio(key: str, rates: Mapping[str, Sequence[float]]) -> float | None:
    """bertsum's rate by this one's; of the job by the engine's."""
    above, below = {"job": ("job", "engine"), "g": ("job", "g")}.get(key, ("engine", key))
    if above not in rates or below not in rates:
        return None
    return median(ours / theirs for ours, theirs in zip(rates[above], rates[below], strict=True))


def machine() -> dict[str, object]:
    """What the figures belong to."""
    models = [
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "date": date.today().isoformat(),
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("input", type=Path, help="Parquet file with a column `document`")
    options.add_argument("--documents", type=int, default=96)
    options.add_argument("--repetitions", type=int, default=3)
    options.add_argument("--systems", default=",".join(_NAMES), help=f"any of {', '.join(_NAMES)}")
    options.add_argument("--json", type=Path)
    arguments = options.parse_args()
    # Ray's workers, which import nothing from the directory of a script, find `pipelines` by it
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    warnings.simplefilter("ignore")
    torch.set_num_threads(os.cpu_count() or 1)
    texts = pq.read_table(arguments.input, columns=["document"])["document"].to_pylist()
    texts = texts[:: max(1, len(texts) // arguments.documents)][: arguments.documents]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        timers = load(arguments.systems.split(","), texts, Path(folder), stack)
        systems = compare(timers, len(texts), arguments.repetitions)
    found = {
        "machine": machine(),
        "documents": len(texts),
        "repetitions": arguments.repetitions,
        "systems": systems,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    print(f"\n{found['machine']}, {len(texts)} documents, medians of {arguments.repetitions}")
    for key, system in systems.items():
        ratio = "" if system["ratio"] is None else f"{system['ratio']:6.2f}"
        print(f"{key:>7}  {system['name']:<66} {system['median']:8.2f} documents/s {ratio:>7}")


if __name__ == "__main__":
    main()
