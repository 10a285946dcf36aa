"""How long a run would take, from a few rows measured here and now."""

import time
from dataclasses import dataclass

import pyarrow as pa

from bertsum.job_config import JobConfig
from bertsum.runs.columns import needed_columns
from bertsum.runs.input import Input, read_schema, stream_rows
from bertsum.runs.plan import Plan
from jobs.engine.work import take_device
from jobs.measuring.rates import device_name
from jobs.terminal.progress import format_seconds

CAVEAT = (
    "The start of nodes, of Ray and of replicas comes on top. A small sample: expect a factor of "
    "two"
)
THEN_CAVEAT = (
    "This is the time of the summaries alone: what --then writes from them, which takes longer, is "
    "not measured"
)
_SAMPLE_UNITS = 6
_SAMPLE_ROWS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one replica does here, as measured on `rows` rows of the input."""

    documents_per_second: float
    rows: int
    device: str

    def __str__(self) -> str:
        rate = f"{self.documents_per_second:,.1f} documents/s"
        return f"{rate}, measured on {self.rows} rows of this input"


def estimate(plan: Plan, source: Input, model: str | None, config: JobConfig) -> str:
    """One sentence that says what was measured and on what."""
    rows_left = plan.num_rows - plan.num_rows_done
    if not rows_left:
        return "estimated time: nothing is left to do"
    rate = measure(plan, source, model, config)
    duration = format_seconds(rows_left / rate.documents_per_second)
    return (
        f"estimated time: {duration} for one replica on {rate.device}: {rate}; replicas share the "
        f"time. {CAVEAT}"
    )


def measure(plan: Plan, source: Input, model: str | None, config: JobConfig) -> Rate:
    """Load the model in this process, without Ray, and run a sample of what is missing."""
    import torch  # takes seconds, as the next one

    from bertsum.inference.summarizer import Summarizer

    summarizer = Summarizer(
        model,
        config.named_summarizer,
        device=take_device(config.resources.num_gpus),
        max_batch_tokens=config.max_batch_tokens,
    )
    tables: list[pa.Table] = []
    units = [unit for unit in plan.missing.values() if unit.num_rows]
    # Of 20 units every third, the first six: 0, 3, 6, 9, 12, 15.
    chosen = units[:: max(1, len(units) // _SAMPLE_UNITS)][:_SAMPLE_UNITS]
    for unit in chosen:
        # A unit may begin with slices of empty files.
        part = next(part for part in unit.slices if part.stop > part.start)
        columns = needed_columns(read_schema(source.root, part.path), summarizer.config)
        # Of six units 8 rows each, of one unit 48.
        stop = min(part.stop, part.start + _SAMPLE_ROWS // len(chosen))
        tables += stream_rows(source.root, part.file, part.start, stop, columns)
    list(summarizer.stream([tables[0].slice(0, 2)]))  # the first call allocates and compiles
    start = time.perf_counter()
    rows = sum(table.num_rows for table in summarizer.stream(tables))
    seconds = time.perf_counter() - start
    on_cpu = f"this machine's CPU, {torch.get_num_threads()} threads"
    device = device_name(summarizer.device) or on_cpu
    return Rate(documents_per_second=rows / seconds, rows=rows, device=device)
