"""The actor that holds one replica of the work (a model, a tokenizer) and makes output files, one unit at a time."""

import json
import os
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import pyarrow as pa
import ray

from bertsum.errors import BertsumError, DeviceError, InputError
from bertsum.output import FileRecord, Job, encode, read_back
from bertsum.shards import read_schema, stream_rows
from bertsum.storage import Folder, configure, describe, mask
from bertsum.units import Unit
from jobs.reports import STAGES, UnitReport
from jobs.suspects import Advice
from jobs.work import Work

_MONITOR_SECONDS = 60.0
_KILLER = "the process that computed this document died each time (a native crash, no memory, or no progress)"
_SMALLEST_BATCH = 512  # tokens


@dataclass(frozen=True, slots=True)
class Task:
    """What every replica of a run must know."""

    input_uri: str
    output_uri: str
    job: Job
    work: Work
    num_threads: int
    exclusive: bool = True  # whether OUTPUT can create exclusively
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


class Replica:
    """Ray Data calls it with one unit and takes one report; whatever goes wrong in a unit is in the report."""

    def __init__(self, task: Task, monitor: Any) -> None:
        self._task = task
        self._monitor = monitor
        self._id = f"{socket.gethostname()}:{os.getpid()}"
        configure(task.storage_options)
        self._input = Folder(task.input_uri, InputError)
        self._output = Folder(task.output_uri, exclusive=task.exclusive)
        self._stream: Any = None  # a Stream
        self._unit, self._tokens = "", 0  # in work, and read of it

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        units = [(str(name), Unit.from_json(json.loads(text))) for name, text in zip(*batch.values(), strict=True)]
        return {"report": [self._report(name, unit).to_json() for name, unit in units]}

    def _report(self, name: str, unit: Unit) -> UnitReport:
        try:
            return self._begin(name, unit)
        except DeviceError as error:
            print(f"bertsum: {mask(str(error))}; this process ends, Ray starts another", file=sys.stderr, flush=True)
            os._exit(1)  # nothing that needs the device would work in this process any more
        except Exception as error:
            text = mask(str(error)) or describe(error)
            return UnitReport(name, self._id, error=text, error_type=type(error).__name__)

    def _existing(self, name: str) -> UnitReport | None:
        if self._output.info(name) is None:
            return None
        return UnitReport(name, self._id, read_back(self._output, [name])[0])

    def _begin(self, name: str, unit: Unit) -> UnitReport:
        """Ray restarts a dead process and gives it the same unit again, without end; see `jobs.suspects`."""
        handle = ray.get_runtime_context().current_actor
        advice: Advice = ray.get(self._monitor.begin.remote(self._id, name, handle), timeout=_MONITOR_SECONDS)
        existing = self._existing(name)  # a zombie, or a second driver, may have been faster
        if existing is None and advice.refusal:
            return UnitReport(name, self._id, error=advice.refusal)
        return existing or self._make(name, unit, advice)

    def _make(self, name: str, unit: Unit, advice: Advice) -> UnitReport:
        seconds: dict[str, float] = defaultdict(float)
        self._unit, self._tokens = name, 0
        loaded = self._load()
        begun, begun_at = time.perf_counter(), time.time()
        before = dict(loaded.stage_seconds)
        self._tell(name, "forward", 0, 0)
        rows = self._read(unit, seconds)
        if advice.is_careful:
            tables = list(self._carefully(loaded, name, rows, advice))
        else:
            tables = list(loaded.stream(rows, partial(self._tell, name, "forward")))
        for stage, total in loaded.stage_seconds.items():
            seconds[stage] = total - before.get(stage, 0.0)
        self._tell(name, "write", 0, 0)
        start = time.perf_counter()
        record, created = self._write(name, unit, tables)
        seconds["write"] = time.perf_counter() - start
        stages = {stage: seconds.get(stage, 0.0) for stage in STAGES}
        seconds_in_all = time.perf_counter() - begun
        return UnitReport(name, self._id, record, created, stages, begun_at, seconds_in_all, self._tokens)

    def _carefully(self, loaded: Any, name: str, rows: Iterable[pa.Table], advice: Advice) -> Iterator[pa.Table]:
        """Piece by piece, announced before it is computed. The same batches, and bits, unless there are suspects."""
        whole_budget = getattr(loaded, "max_batch_tokens", 0)
        loaded.max_batch_tokens = max(_SMALLEST_BATCH, whole_budget >> max(0, advice.starts - 2))
        try:
            yield from self._announced(loaded, name, rows, advice)
        finally:
            loaded.max_batch_tokens = whole_budget
        ray.get(self._monitor.announce.remote(name, 0, 0), timeout=_MONITOR_SECONDS)

    def _announced(self, loaded: Any, name: str, rows: Iterable[pa.Table], advice: Advice) -> Iterator[pa.Table]:
        position = 0
        for table in rows:
            for start, stop, is_killer in advice.pieces(position, position + table.num_rows):
                piece = table.slice(start - position, stop - start)
                if is_killer and not hasattr(loaded, "give_up"):
                    raise BertsumError(f"row {start} of the unit: {_KILLER}")
                if is_killer:
                    yield loaded.give_up(piece, _KILLER)
                else:
                    ray.get(self._monitor.announce.remote(name, start, stop), timeout=_MONITOR_SECONDS)
                    yield from loaded.stream([piece], partial(self._tell, name, "forward"))
            position += table.num_rows

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

    def _load(self) -> Any:
        """At the first unit: an error then has a report to go into."""
        if self._stream is None:
            self._stream = self._task.work.load(self._task.num_threads)
            if hasattr(self._stream, "model"):
                # a sign of life after each batch: documents are counted pool by pool, which may take minutes
                self._stream.model.register_forward_hook(lambda *_: self._tell(self._unit, "forward", 0, 0))
        return self._stream

    def _tell(self, name: str, stage: str, documents: int, tokens: int) -> None:
        self._tokens += tokens
        self._monitor.update.remote(self._id, name, stage, documents, tokens)
