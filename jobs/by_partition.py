"""A run that is narrowed to partitions: each is published as soon as its last unit is there."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bertsum.commit import Failure, begin, record_failures
from bertsum.errors import BertsumError
from bertsum.output import Counts, FileRecord, add_counts
from bertsum.plan import Plan, with_units
from bertsum.scope import partition_of
from bertsum.units import Unit
from jobs.progress import Display
from jobs.reports import UnitReport
from jobs.run import Run, replicas
from jobs.tables import console


@dataclass
class Result:
    """What a run did: the rows of each partition that it published, its reports, and what it could not do."""

    published: dict[str, Counts] = field(default_factory=dict)
    reports: list[UnitReport] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        return add_counts(self.published.values())


def publish(run: Run, plan: Plan) -> Result:
    """Publish every partition of the plan that is not published yet, and make what is missing for it."""
    publisher = Publisher(run, plan)
    waiting = sorted({unit.partition for unit in plan.missing.values()})
    publisher.begin(sorted(set(plan.open_partitions) - set(waiting)))
    if waiting:
        from jobs.waves import run_waves

        limits = run.config.max_unit_attempts, run.config.replica_timeout_seconds
        display = Display(plan.num_rows, plan.num_rows_done, console)
        with replicas(run, plan) as (task, shape), display:
            publisher.exclusive = task.exclusive
            publisher.begin(waiting)  # not before there are replicas: it takes _SUCCESS away
            units = publisher.missing(waiting)
            outcome = run_waves(units, task, shape, *limits, display, publisher.split, publisher.add)
        publisher.fail(outcome.failures)
    return publisher.result


class Publisher:
    """Knows what each partition still waits for."""

    def __init__(self, run: Run, plan: Plan) -> None:
        self._run, self._plan = run, plan
        self._waits: dict[str, set[str]] = {}
        self._records: dict[str, FileRecord] = {}
        self.result = Result()
        self.exclusive = True  # else a file may be a later writer's by now, and is read back for its record

    def begin(self, partitions: Collection[str]) -> None:
        """Start on these partitions; those with all units there are published at once."""
        if not partitions:
            return
        part = self._plan.only(partitions)
        begin(self._run.output, part, self._run.job, self._run.source_uri, self._run.limits)
        for place in partitions:
            self._waits[place] = set()
        for name in part.missing:
            self._waits[partition_of(name)].add(name)
        self.fail([Failure([path], reason, attempts=0) for path, reason in part.problems.items()])
        for place in partitions:
            self._publish_if_complete(place)

    def missing(self, partitions: Sequence[str]) -> dict[str, Unit]:
        """Units to do, partition after partition in the given order."""
        units: dict[str, dict[str, Unit]] = defaultdict(dict)
        for name, unit in self._plan.missing.items():
            if name not in self._records:
                units[unit.partition][name] = unit
        return {name: unit for place in partitions for name, unit in units[place].items()}

    def add(self, report: UnitReport) -> None:
        """A unit is done."""
        if report.record is None:
            return
        self.result.reports.append(report)
        self._records[report.name] = report.record
        place = partition_of(report.name)
        self._waits[place].discard(report.name)
        self._publish_if_complete(place)

    def split(self, units: Mapping[str, Unit]) -> None:
        """These are the units to do of the partitions at work; some replace others."""
        others = {name: unit for name, unit in self._plan.missing.items() if unit.partition not in self._waits}
        earlier = {name: unit for name, unit in self._plan.missing.items() if name in self._records}
        self._plan = with_units(self._plan, others | earlier | dict(units))
        changed = {unit.partition for name, unit in units.items() if name not in self._records}
        for place in changed:
            self._waits[place] = {n for n, unit in units.items() if unit.partition == place} - self._records.keys()
        begin(self._run.output, self._plan.only(changed), self._run.job, self._run.source_uri, self._run.limits)

    def fail(self, failures: Sequence[Failure]) -> None:
        """Record what could not be done, each partition in its place; the partition is not published."""
        by_place: dict[str, list[Failure]] = defaultdict(list)
        for failure in failures:
            by_place[partition_of(failure.files[0])].append(failure)
        for place, group in by_place.items():
            record_failures(self._run.output, group, place)
            self._waits[place].update(failure.unit or failure.files[0] for failure in group)
        self.result.failures += failures

    def _publish_if_complete(self, place: str) -> None:
        if self._waits[place] or place in self.result.published:
            return
        records = self._records if self.exclusive else {}
        try:
            counts = self._run.finish(self._plan.only({place}), records)
        except BertsumError as error:  # the other partitions have nothing to do with it
            self.fail([Failure([f"{place}/"], str(error), attempts=1)])
            return
        self.result.published[place] = counts
        console.print(f"published {place}: {counts.rows:,} rows", soft_wrap=True)
