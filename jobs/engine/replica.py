"""The actor that makes output files: two units at a time, one of them computed."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
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

    Ray calls it from two threads, so that the device has work at the border of two units: while one
    unit is computed, the other one is read and prepared, or written. An isolated unit has the
    process for itself, so that only the rows that were marked as running can end the process.
    """

    def __init__(self, spec: ReplicaSpec, monitor: ActorHandle) -> None:
        self._metrics = ReplicaMetrics(spec.output_uri)
        self._link = MonitorLink(monitor, self._metrics)
        self._maker = UnitMaker(spec, self._link)
        self._device = Lock()  # of the unit that is computed
        # Of the unit that is prepared or written meanwhile. No thread waits for `_device` while it
        # holds this lock, so the two cannot block each other.
        self._host = Lock()

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Make the units of a batch.

        `batch`: columns `name` and `unit` (JSON). Returns the column `report` (JSON).
        """
        reports = []
        for name, unit in zip(batch["name"], batch["unit"], strict=True):
            work = UnitInWork(name=str(name), unit=Unit.from_json(json.loads(unit)))
            report = self._report(work)
            if report.record is None:
                self._metrics.count_error(report.error_type or "refused")
            elif report.created:  # a file that was there counts in no metric
                statuses = report.record.counts.statuses
                self._metrics.count_unit(statuses, report.seconds, report.wall_seconds)
            reports.append(report.to_json())
        return {"report": reports}

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
        replica = self._link.replica
        return UnitReport(name=work.name, replica=replica, error=text, error_type=kind.__name__)

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
                replica = self._link.replica
                return UnitReport(name=work.name, replica=replica, error=advice.refusal)
            if advice.is_isolated:
                # both locks: another unit in this process could end it, and this one be blamed
                with self._host:
                    return self._maker.write(work, self._maker.compute(work, advice))
            tables = self._maker.compute(work, advice, opened)
        finally:
            self._device.release()
        # the device is free: the next unit is computed while this one is written
        with self._host:
            return self._maker.write(work, tables)

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
