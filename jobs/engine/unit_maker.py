"""Makes one unit: reads its rows, computes them, writes its output file."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import pyarrow as pa

from bertsum.checks.profile import make_profile
from bertsum.config import NamesConfig
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
class ReplicaSpec:
    """What every replica of a run must know.

    - `num_gpus`: of each replica, maybe a share of one.
    - `pool`: of two pools, what this one is called in messages; empty: it is the only one.
    - `hands_on`: this is the first of two pools, and its results go to the second.
    - `exclusive`: whether OUTPUT can create a file exclusively.
    - `profiled`: names of the columns that profiles of units are made of; None: nobody wants them.
    - `outdated`: of a table, whose files may be put together: the names that the plan gives up.
    - `storage_options`: of each protocol; may hold secrets, and is not shown.
    """

    input_uri: str
    output_uri: str
    job: Job
    work: Work
    num_threads: int
    num_gpus: float
    pool: str = ""
    hands_on: bool = False
    exclusive: bool = True
    profiled: NamesConfig | None = None
    outdated: frozenset[str] | None = None
    storage_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict, repr=False)


class UnitMaker:
    """Has the stream (a model, a tokenizer) of a replica.

    The stream is loaded with the first unit: an error of it then goes into that unit's report.
    """

    def __init__(self, spec: ReplicaSpec, link: MonitorLink) -> None:
        configure(spec.storage_options)
        self._spec, self._link = spec, link
        self._input = Folder(spec.input_uri, InputError)
        self._output = Folder(spec.output_uri, exclusive=spec.exclusive)
        self._stream: Stream | None = None
        self._computed: UnitInWork | None = None
        # of the stream's stages, which count from its start: the part that earlier reports have
        self._reported_seconds: Mapping[str, float] = {}

    @property
    def is_loaded(self) -> bool:
        return self._stream is not None

    def find_existing(self, work: UnitInWork) -> UnitReport | None:
        """Return the report of a unit whose rows are in OUTPUT already: another run was faster."""
        record: FileRecord | None
        if self._output.info(work.name) is not None:
            (record,) = read_back(self._output, [work.name])
        else:
            job, outdated = self._spec.job, self._spec.outdated
            record = find_holder(self._output, work.name, work.unit, job=job, outdated=outdated)
        if record is None:
            return None
        return UnitReport(name=work.name, replica=self._link.replica, record=record)

    def open_results(self, work: UnitInWork) -> Iterator[pa.Table]:
        """Return results of the unit. Its first documents are read and prepared when it returns."""
        return self._load().stream(self._read(work), partial(self._link.send, work, "forward"))

    def compute(
        self, work: UnitInWork, advice: Advice, opened: Iterator[pa.Table] | None = None
    ) -> list[pa.Table]:
        """Return all results of the unit.

        - `advice`: whether it is computed isolated, and which rows alone.
        - `opened`: what `open_results` returned, if it was called before.
        """
        stream = self._load()
        self._computed = work  # the stream's sign of life is for this unit
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
        # The difference to the report before is this unit's. It has what was prepared for the next
        # unit meanwhile, so that the sum over all units is right.
        totals = dict(stream.stage_seconds)
        for stage, total in totals.items():
            work.seconds[stage] = total - self._reported_seconds.get(stage, 0.0)
        self._reported_seconds = totals
        return tables

    def end(self, work: UnitInWork, tables: list[pa.Table]) -> UnitReport:
        """Hand the results on, or write them, and report."""
        return self._hand_on(work, tables) if self._spec.hands_on else self._write(work, tables)

    def _hand_on(self, work: UnitInWork, tables: list[pa.Table]) -> UnitReport:
        """Put the results into `work`, for the next pool."""
        empty = self._output_schema(work).empty_table()
        work.results = to_ipc(pa.concat_tables(tables or [empty]))
        return UnitReport(
            name=work.name,
            replica=self._link.replica,
            begun=work.begun_at,
            wall_seconds=time.perf_counter() - work.begun,
            tokens=work.tokens,
        )

    def _output_schema(self, work: UnitInWork) -> pa.Schema:
        # the files of a unit have one schema
        schema = read_schema(self._input, work.unit.slices[0].path)
        return self._spec.work.output_schema(schema)

    def _write(self, work: UnitInWork, tables: list[pa.Table]) -> UnitReport:
        """Create the output file of the results, unless another run was faster, and report."""
        self._link.send(work, "write")
        start = time.perf_counter()
        spec = self._spec
        schema = self._output_schema(work)
        data, counts = encode(tables, schema, work.unit, spec.job, counted=spec.work.counted)
        created, record = create_unit(
            self._output,
            work.name,
            work.unit,
            job=spec.job,
            data=memoryview(data),
            outdated=spec.outdated,
        )
        if record is None and created:
            names = spec.profiled
            profile = None if names is None else make_profile(tables, names)
            digest = sha256(data).hexdigest()
            record = FileRecord(work.name, data.size, digest, counts, profile)
        elif record is None:  # another run has made the file
            (record,) = read_back(self._output, [work.name])
        work.seconds["write"] = time.perf_counter() - start
        return UnitReport(
            name=work.name,
            replica=self._link.replica,
            record=record,
            created=created,
            seconds={stage: work.seconds.get(stage, 0.0) for stage in STAGES},
            begun=work.begun_at,
            wall_seconds=time.perf_counter() - work.begun,
            tokens=work.tokens,
        )

    def _read(self, work: UnitInWork) -> Iterator[pa.Table]:
        """Yield the unit's rows, and add the seconds that reading takes."""
        if work.rows is not None:  # what the first pool has made of them
            yield from_ipc(work.rows)
            return
        for part in work.unit.slices:
            columns = self._spec.work.columns(read_schema(self._input, part.path))
            rows = stream_rows(self._input, part.file, part.start, part.stop, columns)
            while True:
                # a `for` would also count the time in which the reader of these rows computes
                start = time.perf_counter()
                table = next(rows, None)
                seconds = time.perf_counter() - start
                work.seconds["read"] = work.seconds.get("read", 0.0) + seconds
                if table is None:
                    break
                yield table

    def _load(self) -> Stream:
        if self._stream is None:

            def send_sign_of_life() -> None:
                # none is computed yet while the first documents are prepared
                if self._computed is not None:
                    self._link.send(self._computed, "forward")

            self._stream = self._spec.work.load(self._spec.num_threads, self._spec.num_gpus)
            self._stream.on_batch(send_sign_of_life)
        return self._stream


def to_ipc(table: pa.Table) -> bytes:
    """A table as bytes, in Arrow's stream format."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_ipc(data: pa.Buffer) -> pa.Table:
    """The table that `to_ipc` was given."""
    with pa.ipc.open_stream(data) as reader:
        table: pa.Table = reader.read_all()
    return table
