"""Can this host feed a GPU? Documents/s beside a stand-in device, by number of replicas.

    python tests/benchmarks/standin_gpu.py ../shared/data/documents/news_2000.parquet --device-us 51,260

The stand-in computes nothing. A batch keeps it busy for as long as a GPU would be (`--device-us` a
document), one batch after the other, over all replicas of the GPU; launching a batch costs the host
`--launch-us` of work a document, as a GPU's kernels do. All else is what the product does: the
replicas are processes that stream Arrow tables, with the shipped model's tokenizer, sentence
splitter and ranker. The scores are random, so summaries are too.

The ceiling is one document every `--device-us`. A row says how much of it the replicas reach, and
how many documents/s that is for a core that they keep busy, from which follow other numbers of
cores.
"""

import argparse
import datetime
import multiprocessing
import os
import platform
import time
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

START_SECONDS = 300  # the most that the replicas may need to load the model and to warm up


@dataclass(frozen=True, slots=True)
class Standin:
    """A device that is busy until `free_at`, a time of the monotonic clock; replicas share it."""

    free_at: "Synchronized[float]"
    device_seconds: float  # of a document
    launch_seconds: float

    def launch(self, num_documents: int) -> float:
        """Queue a batch behind all others; returns when it will be done."""
        until = time.thread_time() + num_documents * self.launch_seconds
        while time.thread_time() < until:
            pass
        with self.free_at:
            start = max(time.monotonic(), self.free_at.value)
            self.free_at.value = start + num_documents * self.device_seconds
            return self.free_at.value


@dataclass(frozen=True, slots=True)
class Done:
    """What a torch.cuda.Event is to a batch of the stand-in."""

    at: float

    def record(self) -> None:
        """Do nothing: the time is known since the batch was queued."""

    def synchronize(self) -> None:
        """Wait until the batch is done."""
        time.sleep(max(0.0, self.at - time.monotonic()))


def replica(
    table: pa.Table,
    standin: Standin,
    barrier: "multiprocessing.synchronize.Barrier",
    results: object,
) -> None:
    """Stream the table once to warm up and once when all are ready; put (seconds, CPU seconds)."""
    import torch

    from bertsum import Summarizer
    from bertsum.inference import reader as reader_module
    from bertsum.inference.device_batches import Running
    from bertsum.model.batches import Batch
    from bertsum.model.bert_sum import Logits

    torch.set_num_threads(1)
    summarizer = Summarizer(device="cpu")
    summarizer._pools_ahead = 1  # as on a GPU
    random = torch.Generator().manual_seed(0)

    def forward(batch: Batch, **_: object) -> Logits:
        num_sentences = sum(batch.num_sentences)
        labels = len(
            summarizer.readers[next(iter(summarizer.readers))].model.config.sentiment_labels
        )
        return Logits(
            sentence_logits=torch.randn(num_sentences, generator=random),
            sentiment_logits=torch.randn(len(batch.documents), labels, generator=random),
            sentence_vectors=torch.empty(0),
        )

    class Queued(Running):
        """A batch that is done when the stand-in has come to it."""

        @classmethod
        def of(cls, batch: Batch, logits: Logits, *more: object) -> Running:
            running = super().of(batch, logits, *more)
            running.done = Done(standin.launch(len(batch.documents)))
            return running

    reader_module.Running = Queued
    for reader in summarizer.readers.values():
        reader.model.forward = forward
    list(summarizer.stream([table.slice(0, 600)]))
    barrier.wait(START_SECONDS)
    start, cpu_start = time.monotonic(), time.process_time()
    tables = list(summarizer.stream([table]))
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    statuses = set(pa.concat_tables(tables)["status"].to_pylist())
    assert statuses == {"ok"}, statuses  # a document that fails takes no time
    results.put((seconds, cpu_seconds))


def measure(
    table: pa.Table, replicas: int, device_us: float, launch_us: float
) -> tuple[float, float]:
    """Documents/s of all replicas, and CPU seconds of a document."""
    context = multiprocessing.get_context("spawn")
    standin = Standin(context.Value("d", 0.0), device_us / 1e6, launch_us / 1e6)
    barrier, results = context.Barrier(replicas), context.Queue()
    processes = [
        context.Process(target=replica, args=(table, standin, barrier, results), daemon=True)
        for _ in range(replicas)
    ]
    for process in processes:
        process.start()
    reports = [results.get(timeout=START_SECONDS * 2) for _ in processes]
    for process in processes:
        process.join()
    slowest = max(seconds for seconds, _ in reports)
    cpu = sum(cpu_seconds for _, cpu_seconds in reports)
    num_documents = replicas * len(table)
    return num_documents / slowest, cpu / num_documents


def main() -> None:
    """Print a row for each device and number of replicas."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("input", type=Path)
    options.add_argument(
        "--device-us", default="51,260", help="of a document: H200 with MiniLM-L6, BERT-base"
    )
    options.add_argument("--launch-us", type=float, default=70, help="of a document")
    options.add_argument("--replicas", default="1,2,4")
    options.add_argument("--documents", type=int, default=2000)
    arguments = options.parse_args()
    table = pq.read_table(arguments.input, columns=["document"])
    copies = -(-arguments.documents // len(table))
    table = pa.concat_tables([table] * copies).slice(0, arguments.documents)
    cpu = platform.processor() or platform.machine()
    print(f"{datetime.date.today()}, {cpu}, {os.cpu_count()} cores; {len(table)} documents each")
    print("us a document  ceiling/s  replicas  documents/s  of ceiling  host us a document")
    for device_us in map(float, arguments.device_us.split(",")):
        for replicas in map(int, arguments.replicas.split(",")):
            rate, seconds = measure(table, replicas, device_us, arguments.launch_us)
            ceiling = 1e6 / device_us
            print(
                f"{device_us:13.0f} {ceiling:10,.0f} {replicas:9} {rate:12,.0f} "
                f"{rate / ceiling:11.2f} {seconds * 1e6:19.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
