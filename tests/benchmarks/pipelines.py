"""The same from Parquet to Parquet on Ray: bertsum's job, and the pipeline that people write with Ray Data.

Both get documents from one file, run one replica on all cores, and are timed from the moment at which their model is
loaded until the command is through.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from rivals import HuggingFace

from bertsum.runs.plan import Plan
from bertsum.runs.records import Counts
from bertsum.storage.folder import Folder
from jobs.engine.publisher import complete
from jobs.engine.reports import UnitReport
from jobs.options import DocumentOptions
from jobs.summarize import look_up, read_config

_BATCH_ROWS = 256


def job_seconds(source: Path, output: Path) -> float:
    """`bertsum summarize`, in the Ray that this process has."""
    begun: list[float] = []

    def show(
        folder: Folder, plan: Plan, counts: Counts, reports: Sequence[UnitReport], seconds: float
    ) -> None:
        begun.append(min(report.begun for report in reports))

    options = DocumentOptions(input=str(source), output=str(output))
    run = look_up(options, read_config(options))
    complete(run, run.plan(), show)
    return time.time() - begun[0]


class Actor:
    """Hugging Face in bfloat16 with windows sorted by length, as the actor of a Ray Data pipeline."""

    def __init__(self, num_threads: int, loaded: str):
        torch.set_num_threads(num_threads)
        self._system = HuggingFace(torch.bfloat16, sort=True)
        Path(loaded).write_text(str(time.time()))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {"vector": np.asarray(self._system.run(batch["document"].tolist()))}


def ray_data_seconds(source: Path, output: Path) -> float:
    """`read_parquet -> map_batches -> write_parquet`.

    The actor asks for one CPU and computes on all: with all of them, its pool would leave none for reading.
    """
    loaded = output.parent / f"{output.name}.loaded"
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    threads = int(ray.cluster_resources()["CPU"])
    ray.data.read_parquet(str(source)).map_batches(
        Actor,
        fn_constructor_args=(threads, str(loaded)),
        batch_size=_BATCH_ROWS,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
    ).write_parquet(str(output))
    return time.time() - float(loaded.read_text())
