"""What a family of checkpoints costs beside its English member alone: time of English rows, and memory.

    python tests/benchmarks/family.py ../shared/data/documents/news_2000.parquet --rows 200

The family is the shipped one, unless `--family` names another. The two take turns in one process,
after one run of each that is not counted. Time is that of all threads on their cores, so that what
else runs on the machine hardly counts. Memory is that of a fresh process which loads one of them
and reads ten rows.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psutil
import pyarrow.parquet as pq
import torch

from bertsum import Summarizer
from bertsum.checkpoints.family import read_family
from bertsum.checkpoints.locate import resolve
from bertsum.config import SummarizerConfig


def memory(model: str, dtype: str) -> float:
    """GB of a process that has loaded a model and read ten rows."""
    command = [sys.executable, __file__, "--memory-of", model, "--dtype", dtype]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory(model: str, dtype: str) -> None:
    """In the fresh process: its resident memory, in GB."""
    summarizer = Summarizer(model, SummarizerConfig(dtype=dtype), device="cpu")
    summarizer(["The trains were late again. Nobody said why."] * 5)
    summarizer(["Die Züge hatten wieder Verspätung. Niemand sagte, warum."] * 5)
    print(psutil.Process().memory_info().rss / 1e9)


def main() -> None:
    """Print the rates, their ratio, and the memory of both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("documents", nargs="?", type=Path, help="Parquet file of English documents")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--family", help="a family; its member `english` is what it is compared with"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "auto"])
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print_memory(options.memory_of, options.dtype)
        return
    directory = resolve(options.family)
    family = read_family(directory)
    assert family is not None, f"{options.family} is no family"
    alone = str(directory / family.member_for("en"))
    config = SummarizerConfig(dtype=options.dtype)
    table = pq.read_table(options.documents).slice(0, options.rows).combine_chunks()
    seconds: dict[str, list[float]] = {"member alone": [], "family": []}
    summarizers = {"member alone": Summarizer(alone, config, device="cpu")}
    summarizers["family"] = Summarizer(str(directory), config, device="cpu")
    for repetition in range(options.repetitions + 1):
        # in turn first and second, so that what else runs on the machine weighs on both
        for name in sorted(seconds, reverse=bool(repetition % 2)):
            start = time.process_time()
            result = summarizers[name](table)
            seconds[name].append(time.process_time() - start)
    languages = result["language"].value_counts() if "language" in result.column_names else ""
    print(f"{table.num_rows} rows, {torch.get_num_threads()} threads, {options.dtype}")
    for name, times in seconds.items():
        rate = table.num_rows / median(times[1:])
        print(f"{name:14} {rate:8.2f} documents a core second")
    ratios = [
        a / b for a, b in zip(seconds["member alone"][1:], seconds["family"][1:], strict=True)
    ]
    shown = ", ".join(f"{ratio:.3f}" for ratio in sorted(ratios))
    print(f"ratio          {median(ratios):8.3f} (of each repetition: {shown})")
    print(f"languages      {languages}")
    both = {"member alone": alone, "family": str(directory)}
    used = {name: memory(model, options.dtype) for name, model in both.items()}
    difference = used["family"] - used["member alone"]
    print(
        f"memory         {used['member alone']:.2f} GB, {used['family']:.2f} GB: +{difference:.2f}"
    )


if __name__ == "__main__":
    main()
