"""How fast the nearest candidates are found, beside faiss's IndexFlatIP, on random vectors.

    python tests/benchmarks/matching.py --candidates 1000000 --queries 1000 --rounds 3

The two take turns, and the ratio of each round counts: other work on the machine then hits both.
Seconds of the CPU are those of all threads.
Without the package `faiss-cpu` numpy's product with `argpartition` stands in for it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bertsum.matching.candidates import BLOCK_ROWS
from bertsum.matching.top_k import Block, Queries, top_k

TOP_K = 5


def main() -> None:
    options = argparse.ArgumentParser()
    for name, default in (
        ("candidates", 1_000_000),
        ("queries", 1000),
        ("features", 384),
        ("rounds", 3),
        ("threads", 2),
    ):
        options.add_argument(f"--{name}", type=int, default=default)
    values = options.parse_args()
    torch.set_num_threads(values.threads)
    random = np.random.default_rng(0)
    candidates = unit_vectors(random, values.candidates, values.features)
    wanted = unit_vectors(random, values.queries, values.features)
    rival_name, search = rival(candidates, wanted, values.threads)
    no_groups = np.zeros(len(candidates), np.int32)
    blocks = []
    for start in range(0, len(candidates), BLOCK_ROWS):
        piece = slice(start, start + BLOCK_ROWS)
        blocks.append(Block(start, candidates[piece], no_groups[piece]))
    nothing = [np.zeros(0, np.int64)] * len(wanted)
    queries = Queries(wanted, np.zeros(len(wanted), np.int32), nothing)
    ratios: dict[str, list[float]] = {"clock": [], "CPU": []}
    for _ in range(values.rounds):
        ours, nearest = timed(lambda: top_k(queries, blocks, TOP_K, device=torch.device("cpu")))
        theirs, indices = timed(search)
        agreement = float((np.asarray(indices) == nearest.indices).mean())
        for kind, seconds, rival_seconds in zip(ratios, ours, theirs, strict=True):
            ratios[kind].append(rival_seconds / seconds)
            print(
                f"{kind}: bertsum {seconds:.2f} s, {rival_name} {rival_seconds:.2f} s, "
                f"{rival_seconds / seconds:.2f} times its speed"
            )
        print(f"{agreement:.2%} of the candidates at the same rank", flush=True)
    for kind, values_of_kind in ratios.items():
        print(f"{kind}, median: {statistics.median(values_of_kind):.2f} times {rival_name}")


def unit_vectors(random: np.random.Generator, count: int, num_features: int) -> np.ndarray:
    """[count, H] float16 vectors of length 1."""
    vectors = np.empty((count, num_features), np.float16)
    for start in range(0, count, BLOCK_ROWS):
        piece = vectors[start : start + BLOCK_ROWS]
        values = random.standard_normal(piece.shape, np.float32)
        piece[:] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return vectors


def rival(
    candidates: np.ndarray, wanted: np.ndarray, threads: int
) -> tuple[str, Callable[[], np.ndarray]]:
    """Name, and a search for the [Q, TOP_K] nearest among float32 vectors in memory."""
    in_float32, queries = candidates.astype(np.float32), wanted.astype(np.float32)
    try:
        import faiss
    except ImportError:

        def search() -> np.ndarray:
            scores = queries @ in_float32.T
            best = np.argpartition(-scores, TOP_K, axis=1)[:, :TOP_K]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            return np.take_along_axis(best, order, 1)

        return "numpy", search
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(candidates.shape[1])
    index.add(in_float32)
    return "faiss", lambda: index.search(queries, TOP_K)[1]


def timed(call: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Seconds by the clock and of the CPU, and the result."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = call()
    return (time.perf_counter() - clock, time.process_time() - cpu), result


if __name__ == "__main__":
    main()
