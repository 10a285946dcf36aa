"""The actor that holds one replica of the model and makes output files, one unit at a time."""

import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from bertsum.columns import needed_columns, output_schema
from bertsum.errors import InputError, ModelError
from bertsum.output import FileRecord, Job, encode, read_back
from bertsum.shards import read_schema, stream_rows
from bertsum.storage import Folder, describe, mask
from bertsum.units import Unit
from jobs.reports import STAGES, UnitReport

if TYPE_CHECKING:
    from bertsum.predictor import Summarizer

_MOST_STARTS = 2  # of a unit in one wave
_MONITOR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Task:
    """What every replica of a run must know."""

    input_uri: str
    output_uri: str
    model: str | None
    job: Job
    max_batch_tokens: int
    num_threads: int


class Replica:
    """Ray Data calls it with one unit and takes one report; whatever goes wrong in a unit is in the report."""

    def __init__(self, task: Task, monitor: Any) -> None:
        self._task = task
        self._monitor = monitor
        self._id = f"{socket.gethostname()}:{os.getpid()}"
        self._input = Folder(task.input_uri, InputError)
        self._output = Folder(task.output_uri)
        self._summarizer: Summarizer | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        units = [(str(name), Unit.from_json(json.loads(text))) for name, text in zip(*batch.values(), strict=True)]
        return {"report": [self._report(name, unit).to_json() for name, unit in units]}

    def _report(self, name: str, unit: Unit) -> UnitReport:
        try:
            # a zombie, or a second driver, may have been faster
            return self._existing(name) or self._refuse_killer(name) or self._make(name, unit)
        except Exception as error:
            text = mask(str(error)) or describe(error)
            return UnitReport(name, self._id, error=text, error_type=type(error).__name__)

    def _existing(self, name: str) -> UnitReport | None:
        if self._output.info(name) is None:
            return None
        return UnitReport(name, self._id, read_back(self._output, [name])[0])

    def _refuse_killer(self, name: str) -> UnitReport | None:
        """Ray restarts a dead process and gives it the same unit again, without end; so the starts are counted."""
        starts = ray.get(self._monitor.begin.remote(self._id, name), timeout=_MONITOR_SECONDS)
        if starts <= _MOST_STARTS:
            return None
        reason = (
            f"the replica's process died {starts - 1} times on this unit (killed, out of memory, or a native crash)"
        )
        return UnitReport(name, self._id, error=reason)

    def _make(self, name: str, unit: Unit) -> UnitReport:
        seconds: dict[str, float] = defaultdict(float)
        summarizer = self._load()
        begun, begun_at = time.perf_counter(), time.time()
        before = dict(summarizer.stage_seconds)
        self._tell(name, "forward", 0, 0)
        tables = list(
            summarizer.stream(
                self._read(unit, seconds), lambda documents, tokens: self._tell(name, "forward", documents, tokens)
            )
        )
        for stage, total in summarizer.stage_seconds.items():
            seconds[stage] = total - before.get(stage, 0.0)
        self._tell(name, "write", 0, 0)
        start = time.perf_counter()
        record, created = self._write(name, unit, tables)
        seconds["write"] = time.perf_counter() - start
        stages = {stage: seconds.get(stage, 0.0) for stage in STAGES}
        return UnitReport(name, self._id, record, created, stages, begun_at, time.perf_counter() - begun)

    def _write(self, name: str, unit: Unit, tables: list[pa.Table]) -> tuple[FileRecord, bool]:
        config = self._task.job.config
        schema = output_schema(read_schema(self._input, unit.slices[0].path), config)
        data, counts = encode(tables, schema, unit, self._task.job)
        if self._output.create_exclusive(name, memoryview(data)):
            return FileRecord(name, data.size, sha256(data).hexdigest(), counts), True
        return read_back(self._output, [name])[0], False

    def _read(self, unit: Unit, seconds: dict[str, float]) -> Iterator[pa.Table]:
        for part in unit.slices:
            columns = needed_columns(read_schema(self._input, part.path), self._task.job.config)
            rows = stream_rows(self._input, part.file, part.start, part.stop, columns)
            while True:
                start = time.perf_counter()
                table = next(rows, None)
                seconds["read"] += time.perf_counter() - start
                if table is None:
                    break
                yield table

    def _load(self) -> "Summarizer":
        """The model, loaded at the first unit: an error then has a report to go into."""
        if self._summarizer is None:
            _set_threads(self._task.num_threads)
            from bertsum.checkpoint import model_digest
            from bertsum.model_source import resolve
            from bertsum.predictor import Summarizer

            task = self._task
            found = model_digest(resolve(task.model))
            if found != task.job.model_digest:
                raise ModelError(
                    f"model {mask(task.job.model_id)} on node {socket.gethostname()} has digest {found[:12]}, but the "
                    f"driver's has {task.job.model_digest[:12]}: all nodes must see the same model"
                )
            self._summarizer = Summarizer(task.model, task.job.config, max_batch_tokens=task.max_batch_tokens)
        return self._summarizer

    def _tell(self, name: str, stage: str, documents: int, tokens: int) -> None:
        self._monitor.update.remote(self._id, name, stage, documents, tokens)


def _set_threads(num_threads: int) -> None:
    """Before torch is imported: its pools, and those of the tokenizer, take their size from the environment then."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[variable] = str(num_threads)
    import torch

    torch.set_num_threads(num_threads)
    pa.set_cpu_count(num_threads)
