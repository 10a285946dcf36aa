"""What a document costs the host: CPU time by stage, of this checkout and perhaps of another one.

    python tests/benchmarks/host.py FILE.parquet [--before CHECKOUT] [--documents 512] [--rounds 5]

Each checkout has a process of its own with the shipped model on the CPU, and they take turns. With
`--before` the whole output tables are compared, too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

STAGES = ("read", "prepare", "make_batch", "finish", "output")


def work(file: str, documents: int, output: str) -> None:
    """Answer each line of stdin with the CPU seconds of the stages, as JSON."""
    from bertsum.inference.arrow import output_table, read_documents
    from bertsum.inference.summarizer import Summarizer
    from bertsum.model.batches import group_documents, make_batch

    summarizer = Summarizer(device="cpu")
    table = pq.read_table(file, columns=[summarizer.config.text_column]).slice(0, documents)
    pq.write_table(summarizer(table), output)
    rows = read_documents(table, summarizer.config)
    prepared = summarizer.prepare(rows)
    scores = summarizer.forward(prepared)
    encoded = [document for document in prepared.encoded if document is not None]
    print("ready", flush=True)
    for _ in sys.stdin:
        times = [time.process_time()]
        read_documents(table, summarizer.config)
        times.append(time.process_time())
        summarizer.prepare(rows)
        times.append(time.process_time())
        for group in group_documents(encoded, summarizer.max_batch_tokens):
            make_batch(encoded, group)
        times.append(time.process_time())
        predictions = summarizer.finish(prepared, scores)
        times.append(time.process_time())
        output_table(table, predictions, summarizer.config)
        times.append(time.process_time())
        seconds = [times[i + 1] - times[i] for i in range(len(STAGES))]
        print(json.dumps([1e6 * value / len(rows) for value in seconds]), flush=True)


def main() -> None:
    """Measure and print a table: microseconds a document, medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--before", type=Path, help="another checkout, to compare with")
    parser.add_argument("--documents", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.file, options.documents, options.worker)
        return
    checkouts = {"now": Path(__file__).parents[2]}
    if options.before:
        checkouts = {"before": options.before, **checkouts}
    with TemporaryDirectory() as folder:
        workers = {}
        for name, checkout in checkouts.items():
            command = [sys.executable, __file__, options.file, "--worker", f"{folder}/{name}"]
            workers[name] = subprocess.Popen(
                [*command, "--documents", str(options.documents)],
                env=os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            _answer(workers[name])
        rounds: dict[str, list[list[float]]] = {name: [] for name in workers}
        for _ in range(options.rounds + 1):  # the first one is not counted
            for name, worker in workers.items():
                worker.stdin.write("\n")
                worker.stdin.flush()
                rounds[name].append(json.loads(_answer(worker)))
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
        tables = [pq.read_table(f"{folder}/{name}") for name in workers]
    _print(rounds, tables)


def _answer(worker: subprocess.Popen) -> str:
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"{' '.join(worker.args)} ended with {worker.wait()}")
    return line


def _print(rounds: dict[str, list[list[float]]], tables: list[pa.Table]) -> None:
    columns = {}
    for name, values in rounds.items():
        columns[name] = [median(stage) for stage in zip(*values[1:], strict=True)]
        columns[name].append(sum(columns[name]))
    print(f"{'µs of CPU a document':<24}" + "".join(f"{name:>10}" for name in columns))
    for row, stage in enumerate([*STAGES, "together"]):
        print(f"{stage:<24}" + "".join(f"{values[row]:>10.1f}" for values in columns.values()))
    if "before" in columns:
        print(f"{'now / before':<24}{columns['now'][-1] / columns['before'][-1]:>10.2f}")
        same = tables[0].equals(tables[1])
        print(f"{tables[0].num_rows} rows {'are the same' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
