"""The actor that holds one replica of the work (a model, a tokenizer) and makes output files, one unit at a time."""

import json
import os
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import pyarrow as pa
import ray

from bertsum.compaction import create_unit, find_holder
from bertsum.errors import BertsumError, DeviceError, InputError, RowError
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
_LOOK_SECONDS = 0.05
_TELL_SECONDS = 0.5  # a message takes a quarter of a millisecond of whoever sends it, and as long of the monitor


@dataclass(frozen=True, slots=True)
class Task:
    """What every replica of a run must know."""

    input_uri: str
    output_uri: str
    job: Job
    work: Work
    num_threads: int
    exclusive: bool = True  # whether OUTPUT can create exclusively
    outdated: frozenset[str] | None = None  # of a table, whose files may be put together: names that the plan gives up
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Making:
    """One unit from its call to its report."""

    name: str
    unit: Unit
    ahead: Iterator[pa.Table] | None = None  # its results, when the first documents were prepared before its turn
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # by stage
    documents: int = 0  # that are done
    tokens: int = 0  # read
    stage: str = ""
    told_at: float = 0.0  # by time.monotonic
    untold: tuple[int, int] = (0, 0)  # documents and tokens
    begun: float = 0.0  # by time.perf_counter
    begun_at: float = 0.0  # Unix time


class Replica:
    """Ray Data calls it with one unit and takes one report; whatever goes wrong in a unit is in the report.

    It is called from two threads, so that the device has work at the border of two units: one unit is computed, while
    the other is read and prepared, or written. A unit that is made carefully has the process for itself: what ends it
    must be what was announced.
    """

    def __init__(self, task: Task, monitor: Any) -> None:
        self._task = task
        self._monitor = monitor
        self._id = f"{socket.gethostname()}:{os.getpid()}"
        configure(task.storage_options)
        self._input = Folder(task.input_uri, InputError)
        self._output = Folder(task.output_uri, exclusive=task.exclusive)
        self._stream: Any = None  # a Stream
        self._computed: _Making | None = None
        self._counted: Mapping[str, float] = {}  # of the stream's seconds, those that are in a report
        self._turn = threading.Lock()  # of the unit that is computed
        self._beside = threading.Lock()  # of the one that is prepared or written meanwhile; never taken before `_turn`

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        units = [(str(name), Unit.from_json(json.loads(text))) for name, text in zip(*batch.values(), strict=True)]
        return {"report": [self._report(name, unit).to_json() for name, unit in units]}

    def _report(self, name: str, unit: Unit) -> UnitReport:
        making = _Making(name, unit)
        try:
            return self._begin(making)
        except RowError as error:
            path, row = unit.locate(making.documents + error.row)
            text = f"{mask(path)}, row {row} (from 0): {error.reason}"
            return UnitReport(name, self._id, error=text, error_type=InputError.__name__)
        except DeviceError as error:
            print(f"bertsum: {mask(str(error))}; this process ends, Ray starts another", file=sys.stderr, flush=True)
            os._exit(1)  # nothing that needs the device would work in this process any more
        except Exception as error:
            text = mask(str(error)) or describe(error)
            return UnitReport(name, self._id, error=text, error_type=type(error).__name__)

    def _existing(self, name: str, unit: Unit) -> UnitReport | None:
        if self._output.info(name) is not None:
            return UnitReport(name, self._id, read_back(self._output, [name])[0])
        outdated = self._task.outdated
        holder = None if outdated is None else find_holder(self._output, name, unit, self._task.job, outdated)
        return None if holder is None else UnitReport(name, self._id, holder)

    def _begin(self, making: _Making) -> UnitReport:
        """Ray restarts a dead process and gives it the same unit again, without end; see `jobs.suspects`."""
        self._take_turn(making)
        try:
            advice: Advice = self._ask("begin", self._id, making.name, ray.get_runtime_context().current_actor)
            existing = self._existing(making.name, making.unit)  # a zombie, or a second driver, may have been faster
            if existing is None and advice.refusal:
                return UnitReport(making.name, self._id, error=advice.refusal)
            if existing is not None:
                return existing
            if advice.is_careful:
                with self._beside:
                    return self._write(making, self._make(making, advice))
            tables = self._make(making, advice)
        finally:
            self._turn.release()
        with self._beside:
            return self._write(making, tables)

    def _take_turn(self, making: _Making) -> None:
        """Wait until no other unit is computed here, and prepare the first documents meanwhile.

        Whoever has the turn is watched, and so is this as long as it prepares: it ends.
        """
        has_looked = False
        while not self._turn.acquire(timeout=_LOOK_SECONDS):
            if self._stream is not None and not has_looked:
                has_looked = True
                with self._beside:
                    self._look_ahead(making)

    def _look_ahead(self, making: _Making) -> None:
        if self._ask("look_ahead", self._id, making.name, ray.get_runtime_context().current_actor):
            making.ahead = self._start(self._stream, making)
            self._monitor.wait.remote(making.name)

    def _start(self, loaded: Any, making: _Making) -> Iterator[pa.Table]:
        tables: Iterator[pa.Table] = loaded.stream(self._read(making), partial(self._tell, making, "forward"))
        return tables

    def _make(self, making: _Making, advice: Advice) -> list[pa.Table]:
        self._computed = making
        loaded = self._load()
        making.begun, making.begun_at = time.perf_counter(), time.time()
        self._tell(making, "forward", 0, 0)
        if advice.is_careful:
            tables = list(self._carefully(loaded, making, self._read(making), advice))
        else:
            tables = list(making.ahead or self._start(loaded, making))
        totals = dict(loaded.stage_seconds)  # what was prepared for the next unit counts as this one's
        making.seconds |= {stage: total - self._counted.get(stage, 0.0) for stage, total in totals.items()}
        self._counted = totals
        return tables

    def _carefully(self, loaded: Any, making: _Making, rows: Iterable[pa.Table], advice: Advice) -> Iterator[pa.Table]:
        """Piece by piece, announced before it is computed. The same batches, and bits, unless there are suspects."""
        whole_budget = getattr(loaded, "max_batch_tokens", 0)
        loaded.max_batch_tokens = max(_SMALLEST_BATCH, whole_budget >> max(0, advice.starts - 2))
        try:
            yield from self._announced(loaded, making, rows, advice)
        finally:
            loaded.max_batch_tokens = whole_budget
        self._ask("announce", making.name, 0, 0)

    def _announced(self, loaded: Any, making: _Making, rows: Iterable[pa.Table], advice: Advice) -> Iterator[pa.Table]:
        position = 0
        for table in rows:
            for start, stop, is_killer in advice.pieces(position, position + table.num_rows):
                piece = table.slice(start - position, stop - start)
                if is_killer and not hasattr(loaded, "give_up"):
                    raise BertsumError(f"row {start} of the unit: {_KILLER}")
                if is_killer:
                    yield loaded.give_up(piece, _KILLER)
                else:
                    self._ask("announce", making.name, start, stop)
                    yield from loaded.stream([piece], partial(self._tell, making, "forward"))
            position += table.num_rows

    def _write(self, making: _Making, tables: list[pa.Table]) -> UnitReport:
        name, unit = making.name, making.unit
        self._tell(making, "write", 0, 0)
        start = time.perf_counter()
        schema = self._task.work.output_schema(read_schema(self._input, unit.slices[0].path))
        data, counts = encode(tables, schema, unit, self._task.job)
        created, holder = self._create(making, memoryview(data))
        record = holder or FileRecord(name, data.size, sha256(data).hexdigest(), counts)
        if not created and holder is None:
            record = read_back(self._output, [name])[0]
        making.seconds["write"] = time.perf_counter() - start
        stages = {stage: making.seconds.get(stage, 0.0) for stage in STAGES}
        seconds_in_all = time.perf_counter() - making.begun
        return UnitReport(name, self._id, record, created, stages, making.begun_at, seconds_in_all, making.tokens)

    def _create(self, making: _Making, data: memoryview) -> tuple[bool, FileRecord | None]:
        outdated = self._task.outdated
        if outdated is None:
            return self._output.create_exclusive(making.name, data), None
        return create_unit(self._output, making.name, making.unit, self._task.job, data, outdated)

    def _read(self, making: _Making) -> Iterator[pa.Table]:
        for part in making.unit.slices:
            columns = self._task.work.columns(read_schema(self._input, part.path))
            rows = stream_rows(self._input, part.file, part.start, part.stop, columns)
            while True:
                start = time.perf_counter()
                table = next(rows, None)
                making.seconds["read"] += time.perf_counter() - start
                if table is None:
                    break
                yield table

    def _load(self) -> Any:
        """At the first unit: an error then has a report to go into."""
        if self._stream is None:
            self._stream = self._task.work.load(self._task.num_threads)
            if hasattr(self._stream, "model"):
                # a sign of life after each batch: documents are counted pool by pool, which may take minutes
                self._stream.model.register_forward_hook(lambda *_: self._tell(self._computed, "forward", 0, 0))
        return self._stream

    def _tell(self, making: _Making | None, stage: str, documents: int, tokens: int) -> None:
        """Of a stage at once that it begins, then from time to time: short batches come by the hundred a second."""
        if making is None:
            return
        making.documents += documents
        making.tokens += tokens
        making.untold = making.untold[0] + documents, making.untold[1] + tokens
        now = time.monotonic()
        if stage == making.stage and now - making.told_at < _TELL_SECONDS:
            return
        handle = ray.get_runtime_context().current_actor
        self._monitor.update.remote(self._id, making.name, stage, *making.untold, handle)
        making.stage, making.told_at, making.untold = stage, now, (0, 0)

    def _ask(self, method: str, *values: Any) -> Any:
        return ray.get(getattr(self._monitor, method).remote(*values), timeout=_MONITOR_SECONDS)
