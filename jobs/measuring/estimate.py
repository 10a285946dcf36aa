"""How long a run would take, from a few rows measured here and now."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from bertsum.config import JobConfig
from bertsum.runs.columns import needed_columns
from bertsum.runs.input import Input, read_schema, stream_rows
from bertsum.runs.plan import Plan
from jobs.terminal.progress import format_seconds

CAVEAT = "The start of nodes, of Ray and of replicas comes on top. A small sample: expect a factor of two"
_SAMPLE_UNITS = 6
_SAMPLE_ROWS = 48


@dataclass(frozen=True, slots=True)
class Rate:
    """What one replica does here, as measured on `rows` rows of the input."""

    documents_per_second: float
    rows: int
    device: str

    def __str__(self) -> str:
        return f"{self.documents_per_second:,.1f} documents/s, measured on {self.rows} rows of this input"


def estimate(plan: Plan, source: Input, model: str | None, config: JobConfig) -> str:
    """One sentence that says what was measured and on what."""
    rows_left = plan.num_rows - plan.num_rows_done
    if not rows_left:
        return "estimated time: nothing is left to do"
    rate = measure(plan, source, model, config)
    return (
        f"estimated time: {format_seconds(rows_left / rate.documents_per_second)} for one replica on {rate.device}: "
        f"{rate}; replicas share the time. {CAVEAT}"
    )


def measure(plan: Plan, source: Input, model: str | None, config: JobConfig) -> Rate:
    """Loads the model in this process, no Ray, and runs a sample of what is missing."""
    import torch

    from bertsum.inference.summarizer import Summarizer

    summarizer = Summarizer(model, config.summarizer, max_batch_tokens=config.max_batch_tokens)
    tables = list(_sample(plan, source, config))
    list(summarizer.stream([tables[0].slice(0, 2)]))  # the first call allocates and compiles
    start = time.perf_counter()
    rows = sum(table.num_rows for table in summarizer.stream(tables))
    seconds = time.perf_counter() - start
    device = torch.cuda.get_device_name() if summarizer.device.type == "cuda" else (
        f"this machine's CPU, {torch.get_num_threads()} threads"
    )  # fmt: skip
    return Rate(rows / seconds, rows, device)


def _sample(plan: Plan, source: Input, config: JobConfig) -> Iterator[pa.Table]:
    """Some rows each of units spread over what is missing."""
    units = [unit for unit in plan.missing.values() if unit.num_rows]
    chosen = units[:: max(1, len(units) // _SAMPLE_UNITS)][:_SAMPLE_UNITS]
    for unit in chosen:
        part = next(part for part in unit.slices if part.stop > part.start)
        columns = needed_columns(read_schema(source.root, part.path), config.summarizer)
        stop = min(part.stop, part.start + _SAMPLE_ROWS // len(chosen))
        yield from stream_rows(source.root, part.file, part.start, stop, columns)
