"""The actor that holds one replica of the work (a model, a tokenizer) and makes output files, one unit at a time."""

import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa
import ray

from bertsum.errors import InputError
from bertsum.output import FileRecord, Job, encode, read_back
from bertsum.shards import read_schema, stream_rows
from bertsum.storage import Folder, describe, mask
from bertsum.units import Unit
from jobs.reports import STAGES, UnitReport
from jobs.work import Stream, Work

_MOST_STARTS = 2  # of a unit in one wave
_MONITOR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Task:
    """What every replica of a run must know."""

    input_uri: str
    output_uri: str
    job: Job
    work: Work
    num_threads: int


class Replica:
    """Ray Data calls it with one unit and takes one report; whatever goes wrong in a unit is in the report."""

    def __init__(self, task: Task, monitor: Any) -> None:
        self._task = task
        self._monitor = monitor
        self._id = f"{socket.gethostname()}:{os.getpid()}"
        self._input = Folder(task.input_uri, InputError)
        self._output = Folder(task.output_uri)
        self._stream: Stream | None = None

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
        loaded = self._load()
        begun, begun_at = time.perf_counter(), time.time()
        before = dict(loaded.stage_seconds)
        self._tell(name, "forward", 0, 0)
        tables = list(
            loaded.stream(
                self._read(unit, seconds), lambda documents, tokens: self._tell(name, "forward", documents, tokens)
            )
        )
        for stage, total in loaded.stage_seconds.items():
            seconds[stage] = total - before.get(stage, 0.0)
        self._tell(name, "write", 0, 0)
        start = time.perf_counter()
        record, created = self._write(name, unit, tables)
        seconds["write"] = time.perf_counter() - start
        stages = {stage: seconds.get(stage, 0.0) for stage in STAGES}
        return UnitReport(name, self._id, record, created, stages, begun_at, time.perf_counter() - begun)

    def _write(self, name: str, unit: Unit, tables: list[pa.Table]) -> tuple[FileRecord, bool]:
        schema = self._task.work.output_schema(read_schema(self._input, unit.slices[0].path))
        data, counts = encode(tables, schema, unit, self._task.job)
        if self._output.create_exclusive(name, memoryview(data)):
            return FileRecord(name, data.size, sha256(data).hexdigest(), counts), True
        return read_back(self._output, [name])[0], False

    def _read(self, unit: Unit, seconds: dict[str, float]) -> Iterator[pa.Table]:
        for part in unit.slices:
            columns = self._task.work.columns(read_schema(self._input, part.path))
            rows = stream_rows(self._input, part.file, part.start, part.stop, columns)
            while True:
                start = time.perf_counter()
                table = next(rows, None)
                seconds["read"] += time.perf_counter() - start
                if table is None:
                    break
                yield table

    def _load(self) -> Stream:
        """At the first unit: an error then has a report to go into."""
        if self._stream is None:
            self._stream = self._task.work.load(self._task.num_threads)
        return self._stream

    def _tell(self, name: str, stage: str, documents: int, tokens: int) -> None:
        self._monitor.update.remote(self._id, name, stage, documents, tokens)
