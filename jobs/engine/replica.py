"""The actor that holds one replica of the work and makes output files: two units at a time, one of them computed."""

import json
import os
import sys
from collections.abc import Iterator
from threading import Lock
from typing import Any

import pyarrow as pa

from bertsum.errors import DeviceError, InputError, RowError
from bertsum.runs.units import Unit
from bertsum.storage.folder import describe, mask
from jobs.engine.monitor_link import MonitorLink, UnitInWork
from jobs.engine.reports import UnitReport
from jobs.engine.unit_maker import Task, UnitMaker

_TRY_SECONDS = 0.05  # between two looks whether another unit has begun that this one can be prepared beside


class Replica:
    """Ray Data calls it with one unit and takes one report; whatever goes wrong in a unit is in the report.

    Ray calls it from two threads, so that the device has work at the border of two units: while one unit is computed,
    the other one is read and prepared, or written. An isolated unit has the process for itself, so that the process
    dies of nothing but the rows that were marked as running.
    """

    def __init__(self, task: Task, monitor: Any) -> None:
        self._link = MonitorLink(monitor)
        self._maker = UnitMaker(task, self._link)
        self._device = Lock()  # of the unit that is computed
        self._host = Lock()  # of the unit that is prepared or written meanwhile; never taken before `_device`

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        reports = []
        for name, text in zip(*batch.values(), strict=True):
            work = UnitInWork(str(name), Unit.from_json(json.loads(text)))
            reports.append(self._report(work).to_json())
        return {"report": reports}

    def _report(self, work: UnitInWork) -> UnitReport:
        try:
            return self._make(work)
        except RowError as error:
            path, row = work.unit.locate(work.documents + error.row)
            text = f"{mask(path)}, row {row} (from 0): {error.reason}"
            return self._failed(work, text, InputError)
        except DeviceError as error:
            print(f"bertsum: {mask(str(error))}; this process ends, Ray starts another", file=sys.stderr, flush=True)
            os._exit(1)  # nothing that needs the device would work in this process any more
        except Exception as error:
            return self._failed(work, mask(str(error)) or describe(error), type(error))

    def _failed(self, work: UnitInWork, text: str, kind: type[Exception]) -> UnitReport:
        return UnitReport(work.name, self._link.replica, error=text, error_type=kind.__name__)

    def _make(self, work: UnitInWork) -> UnitReport:
        """Ray restarts a dead process and gives it the same unit again, without end; see `jobs.engine.suspects`."""
        opened = self._acquire_device(work)
        try:
            advice = self._link.start_unit(work.name)
            existing = self._maker.find_existing(work)  # a zombie, or a second driver, may have been faster
            if existing is not None:
                return existing
            if advice.refusal:
                return UnitReport(work.name, self._link.replica, error=advice.refusal)
            if advice.is_isolated:
                with self._host:
                    return self._maker.write(work, self._maker.compute(work, advice))
            tables = self._maker.compute(work, advice, opened)
        finally:
            self._device.release()
        with self._host:
            return self._maker.write(work, tables)

    def _acquire_device(self, work: UnitInWork) -> Iterator[pa.Table] | None:
        """Wait until no other unit is computed here. Its results, if they were opened meanwhile.

        The unit that has the device is watched for silence, and so is this one as long as it prepares.
        """
        opened, was_asked = None, False
        while not self._device.acquire(timeout=_TRY_SECONDS):
            if self._maker.is_loaded and not was_asked:
                was_asked = True
                with self._host:
                    opened = self._prepare_ahead(work)
        return opened

    def _prepare_ahead(self, work: UnitInWork) -> Iterator[pa.Table] | None:
        if not self._link.prepare_ahead(work.name):
            return None
        opened = self._maker.open_results(work)
        self._link.park(work.name)
        return opened
