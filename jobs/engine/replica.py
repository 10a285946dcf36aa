"""The actor that makes units: two at a time, one of them computed."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from threading import Lock

import pyarrow as pa

from bertsum.errors import DeviceError, InputError, RowError
from bertsum.runs.units import Unit
from bertsum.storage.folder import describe, mask
from jobs.engine.monitor import ActorHandle
from jobs.engine.monitor_link import MonitorLink, UnitInWork
from jobs.engine.reports import UnitReport
from jobs.engine.unit_maker import ReplicaSpec, UnitMaker
from jobs.observability.metrics import ReplicaMetrics

_TRY_SECONDS = 0.05  # between two tries to get the device


class Replica:
    """Ray Data calls it with one unit and takes one report. An error in a unit is in its report.

    It creates the unit's output file. In the first of two pools it hands the unit's rows on instead,
    and in the second it reads these in place of INPUT.

    Ray calls it from two threads, so that the device has work at the border of two units: while one
    unit is computed, the other one is read and prepared, or written. An isolated unit has the
    process for itself, so that only the rows that were marked as running can end the process.
    """

    def __init__(self, spec: ReplicaSpec, monitor: ActorHandle) -> None:
        self._metrics = ReplicaMetrics(spec.output_uri)
        self._link = MonitorLink(monitor, self._metrics, spec.pool, counts=not spec.hands_on)
        self._maker = UnitMaker(spec, self._link)
        self._spec = spec
        self._device = Lock()  # of the unit that is computed
        # Of the unit that is prepared or written meanwhile. No thread waits for `_device` while it
        # holds this lock, so the two cannot block each other.
        self._host = Lock()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Make the units of a batch.

        - `batch`: columns `name` and `unit` (JSON); in the second of two pools also what the first
          returned.

        Returns the column `report` (JSON); in the first of two pools also those of `batch`, and
        `rows`, which is null where the unit goes no further.
        """
        reports: list[str] = []
        handed_on: list[bytes | None] = []
        for index in range(batch.num_rows):
            entry = {name: batch[name][index] for name in batch.column_names}
            unit = Unit.from_json(json.loads(entry["unit"].as_py()))
            work = UnitInWork(name=entry["name"].as_py(), unit=unit)
            first = None
            if "rows" in entry:
                first = UnitReport.from_json(entry["report"].as_py())
                work.rows = entry["rows"].as_buffer()  # no copy
            reports.append(self._answer(work, first).to_json())
            handed_on.append(work.results)
        if not self._spec.hands_on:
            return pa.table({"report": reports})
        columns = {"report": pa.array(reports), "rows": pa.array(handed_on, pa.large_binary())}
        return pa.table({"name": batch["name"], "unit": batch["unit"], **columns})

    def _answer(self, work: UnitInWork, first: UnitReport | None) -> UnitReport:
        """Make a unit. `first`: the report of the first pool, if this is the second."""
        if first is not None and not first.is_handed_on:
            return first  # the unit was there, or has failed
        report = self._report(work)
        if self._spec.hands_on:
            self._link.park(work.name)  # whatever has come of it, it waits for the next pool
        if report.error is not None:
            self._metrics.count_error(report.error_type or "refused")
        elif report.record is not None and report.created:
            # a file that was there counts in no metric
            statuses = report.record.counts.statuses
            self._metrics.count_unit(statuses, report.seconds, report.wall_seconds)
        return report if first is None else replace(report, first=first.time)

    def _report(self, work: UnitInWork) -> UnitReport:
        try:
            return self._make(work)
        except RowError as error:
            # it counts from the first row of its table; the rows before that one are done
            path, row = work.unit.locate(work.documents + error.row)
            text = f"{mask(path)}, row {row} (from 0): {error.reason}"
            return self._failed(work, text, InputError)
        except DeviceError as error:
            # nothing that needs the device would work in this process any more; or others have its
            # memory, and this process gives back what it has
            message = f"bertsum: {mask(str(error))}; this process ends, Ray starts another"
            print(message, file=sys.stderr, flush=True)
            os._exit(1)
        except Exception as error:
            return self._failed(work, mask(str(error)) or describe(error), type(error))

    def _failed(self, work: UnitInWork, text: str, kind: type[Exception]) -> UnitReport:
        return self._refused(work, text, kind.__name__)

    def _refused(self, work: UnitInWork, text: str, kind: str | None = None) -> UnitReport:
        """A report of why there is no result. Of two pools it names the one that says so."""
        error = f"{self._spec.pool}: {text}" if self._spec.pool else text
        replica = self._link.replica
        return UnitReport(name=work.name, replica=replica, error=error, error_type=kind)

    def _make(self, work: UnitInWork) -> UnitReport:
        """Make the unit, if it is not there and may be made.

        Ray restarts a process that died and gives it the same unit again, without end. The advice
        sets a limit; see `jobs.engine.suspects`.
        """
        opened = self._acquire_device(work)
        try:
            # asked first, so that the start is counted even if the process dies right after it
            advice = self._link.start_unit(work.name)
            existing = self._maker.find_existing(work)
            if existing is not None:
                return existing
            if advice.refusal:
                return self._refused(work, advice.refusal)
            if advice.is_isolated:
                # both locks: another unit in this process could end it, and this one be blamed
                with self._host:
                    return self._maker.end(work, self._maker.compute(work, advice))
            tables = self._maker.compute(work, advice, opened)
        finally:
            self._device.release()
        # the device is free: the next unit is computed while this one is written
        with self._host:
            return self._maker.end(work, tables)

    def _acquire_device(self, work: UnitInWork) -> Iterator[pa.Table] | None:
        """Wait until no other unit is computed here, and prepare this one meanwhile if it may be.

        Returns its results if they were opened. The unit that has the device is watched for
        silence, and so is this one as long as it prepares.
        """
        opened, was_asked = None, False
        while not self._device.acquire(timeout=_TRY_SECONDS):
            # loading the model is part of the first unit, which has the device
            if self._maker.is_loaded and not was_asked:
                was_asked = True
                with self._host:
                    if self._link.prepare_ahead(work.name):
                        opened = self._maker.open_results(work)
                        self._link.park(work.name)
        return opened
