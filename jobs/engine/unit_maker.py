"""Makes one unit: reads its rows, computes them, writes its output file."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import pyarrow as pa

from bertsum.errors import InputError
from bertsum.inference.stream import Stream
from bertsum.runs.concurrent_runs import create_unit, find_holder
from bertsum.runs.input import read_schema, stream_rows
from bertsum.runs.records import FileRecord, Job, encode, read_back
from bertsum.storage.folder import Folder, configure
from jobs.engine.isolation import compute_isolated
from jobs.engine.monitor_link import MonitorLink, UnitInWork
from jobs.engine.reports import STAGES, UnitReport
from jobs.engine.suspects import Advice
from jobs.engine.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every replica of a run must know.

    - `exclusive`: whether OUTPUT can create exclusively.
    - `outdated`: of a table, whose files may be put together: the names that the plan gives up.
    """

    input_uri: str
    output_uri: str
    job: Job
    work: Work
    num_threads: int
    exclusive: bool = True
    outdated: frozenset[str] | None = None
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


class UnitMaker:
    """Has the stream (a model, a tokenizer), which is loaded with the first unit: an error then has its report."""

    def __init__(self, task: Task, link: MonitorLink) -> None:
        configure(task.storage_options)
        self._task, self._link = task, link
        self._input = Folder(task.input_uri, InputError)
        self._output = Folder(task.output_uri, exclusive=task.exclusive)
        self._stream: Stream | None = None
        self._computed: UnitInWork | None = None
        self._reported_seconds: Mapping[str, float] = {}  # of the stream's stages, what reports have already

    @property
    def is_loaded(self) -> bool:
        return self._stream is not None

    def find_existing(self, work: UnitInWork) -> UnitReport | None:
        """The report of a unit whose rows are in OUTPUT already: somebody else was faster."""
        if self._output.info(work.name) is not None:
            return UnitReport(work.name, self._link.replica, read_back(self._output, [work.name])[0])
        task = self._task
        holder = find_holder(self._output, work.name, work.unit, job=task.job, outdated=task.outdated)
        return None if holder is None else UnitReport(work.name, self._link.replica, holder)

    def open_results(self, work: UnitInWork) -> Iterator[pa.Table]:
        """Results of the unit, whose first documents are read and prepared before this returns."""
        return self._load().stream(self._read(work), partial(self._link.send, work, "forward"))

    def compute(self, work: UnitInWork, advice: Advice, opened: Iterator[pa.Table] | None = None) -> list[pa.Table]:
        """All results of the unit. `opened`: what `open_results` gave, if it was called before."""
        stream = self._load()
        self._computed = work
        work.begun, work.begun_at = time.perf_counter(), time.time()
        self._link.send(work, "forward")
        if advice.is_isolated:
            results = compute_isolated(
                stream,
                self._read(work),
                advice,
                mark_running=partial(self._link.mark_running, work.name),
                on_progress=partial(self._link.send, work, "forward"),
            )
        else:
            results = opened or self.open_results(work)
        tables = list(results)
        # What was prepared for the next unit meanwhile counts as this one's.
        totals = dict(stream.stage_seconds)
        for stage, total in totals.items():
            work.seconds[stage] = total - self._reported_seconds.get(stage, 0.0)
        self._reported_seconds = totals
        return tables

    def write(self, work: UnitInWork, tables: list[pa.Table]) -> UnitReport:
        """Create the output file of the results, unless somebody was faster, and report."""
        self._link.send(work, "write")
        start = time.perf_counter()
        schema = read_schema(self._input, work.unit.slices[0].path)
        data, counts = encode(tables, self._task.work.output_schema(schema), work.unit, self._task.job)
        task = self._task
        created, record = create_unit(
            self._output, work.name, work.unit, job=task.job, data=memoryview(data), outdated=task.outdated
        )
        if record is None and created:
            record = FileRecord(work.name, data.size, sha256(data).hexdigest(), counts)
        elif record is None:
            record = read_back(self._output, [work.name])[0]
        work.seconds["write"] = time.perf_counter() - start
        return UnitReport(
            work.name,
            self._link.replica,
            record,
            created,
            seconds={stage: work.seconds.get(stage, 0.0) for stage in STAGES},
            begun=work.begun_at,
            wall_seconds=time.perf_counter() - work.begun,
            tokens=work.tokens,
        )

    def _read(self, work: UnitInWork) -> Iterator[pa.Table]:
        for part in work.unit.slices:
            columns = self._task.work.columns(read_schema(self._input, part.path))
            rows = stream_rows(self._input, part.file, part.start, part.stop, columns)
            while True:
                start = time.perf_counter()
                table = next(rows, None)
                seconds = time.perf_counter() - start
                work.seconds["read"] = work.seconds.get("read", 0.0) + seconds
                if table is None:
                    break
                yield table

    def _load(self) -> Stream:
        if self._stream is None:
            self._stream = self._task.work.load(self._task.num_threads)
            self._stream.on_batch(self._send_sign_of_life)
        return self._stream

    def _send_sign_of_life(self) -> None:
        if self._computed is not None:
            self._link.send(self._computed, "forward")
