"""From a plan to its commit: the same steps for every command.

    prepare           what must not be replaced is refused; the table is made ready
    publish_ready     groups of which every unit is there are committed; that needs no Ray
    make              the plans of the other groups are written, and their missing units are made
        add           a unit is there; with its last unit, a partition is committed
        split         a unit became several, since one of its files is damaged
    publish_ready     a run over everything is committed when Ray is gone
    refuse_failures   what could not be done is an error

A group is what is published together: one partition, or all of them where a run is not narrowed to
partitions (see `bertsum.runs.plan.Plan`). The steps of a commit are in `bertsum.runs.commit`. What
happens while another run is at work is in `bertsum.runs.concurrent_runs`.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from bertsum.errors import BertsumError, HeldError, IncompleteError
from bertsum.runs.commit import Committer, Failure, is_finished, record_failures
from bertsum.runs.concurrent_runs import settle
from bertsum.runs.input import read_schema
from bertsum.runs.plan import Plan, refuse_superseded
from bertsum.runs.records import Counts, FileRecord, add_counts
from bertsum.runs.times import TimesWriter
from bertsum.runs.units import Unit
from bertsum.storage.folder import Folder, mask
from jobs.engine.reports import UnitReport
from jobs.engine.run import Run, start_replicas
from jobs.engine.run_report import say_held, say_retained, show_incomplete
from jobs.observability.lineage import Datasets, recorded
from jobs.terminal.console import console
from jobs.terminal.progress import Display

if TYPE_CHECKING:
    from jobs.engine.waves import Replicas

_MOST_FAILURES = 20  # that are shown in the terminal; all are in failures.json

Show = Callable[[Folder, Plan, Counts, Sequence[UnitReport], float], None]


def complete(run: Run, plan: Plan, show: Show) -> None:
    """Bring OUTPUT to what is planned, and show the result; say so where nothing was left to do.

    Raises IncompleteError when some of it could not be done.
    """
    if is_finished(run.output, plan):
        where = "" if plan.scope.is_all else f" in {', '.join(plan.scope.patterns[:3])}"
        console.print(
            f"nothing to do: {run.output} holds all {plan.num_rows:,} rows of this input, model "
            f"and configuration{where}",
            soft_wrap=True,
        )
        return
    prepare(run, plan)
    start = time.monotonic()
    publisher = publish(run, plan)
    reports, seconds = list(publisher.reports.values()), time.monotonic() - start
    if publisher.failures or publisher.held:
        show_incomplete(plan, reports, seconds)  # before the error, which is the last on the screen
    publisher.refuse_failures()
    show(run.output, publisher.plan, publisher.counts, reports, seconds)


def prepare(run: Run, plan: Plan) -> None:
    """Before any work: nothing is replaced that must not be, and the table takes what will come.

    Raises OutputError for results of another model or input, InputError for columns that the table
    cannot take, and see `Run.check_models`.
    """
    if plan.missing:
        run.check_models()
    if plan.retained:
        console.print(say_retained(plan), soft_wrap=True)
    if run.config.on_existing == "resume":
        refuse_superseded(plan.superseded, run.output)
    if run.lake is not None and plan.limit is None and plan.open_partitions:
        schemas = [run.work.output_schema(schema) for schema in plan.schemas]
        if not schemas:  # nothing is left to read of INPUT: a file that is there has the columns
            for name in plan.files(run.job):
                if name in plan.done or name in plan.retained:
                    schemas = [read_schema(run.output, name)]
                    break
        run.lake.prepare(schemas, sorted(plan.partitions))


def publish(run: Run, plan: Plan) -> "Publisher":
    """Make what is missing and publish every group of the plan; what failed is in the Publisher."""
    publisher = Publisher(run, plan)
    with lineage_of(publisher):
        publisher.publish_ready()  # it needs no Ray, whose start takes seconds
        if publisher.waiting:
            with start_replicas(run, plan) as replicas:
                publisher.make(publisher.waiting, replicas)
        publisher.publish_ready()
    return publisher


@contextmanager
def lineage_of(publisher: "Publisher") -> Iterator[None]:
    """Send OpenLineage events of what is done inside, if the configuration asks for them.

    Raises ConfigError, see `jobs.observability.lineage`.
    """
    run, schemas = publisher.run, publisher.plan.schemas
    datasets = Datasets(
        # SummarizeWork and SummarizeThenWork -> summarize
        command=type(run.work).__name__.removesuffix("Work").removesuffix("Then").lower(),
        input_uri=run.input_uri,
        output_uri=run.output.uri,
        read_columns=run.work.columns(schemas[0]) if schemas else (),
        input_schema=schemas[0] if schemas else None,
        output_schema=run.work.output_schema(schemas[0]) if schemas else None,
    )
    with recorded(datasets, run.config.openlineage, console.print) as ending:
        yield
        ending.rows = publisher.counts.rows
        failure = publisher.failure()
        ending.error = None if failure is None else str(failure)


class Publisher:
    """Knows which units each group still misses, and commits it when none is missing.

    - `run`: what the command line decides
    - `plan`: with the units that took the place of others
    - `waiting`: groups that are not begun, since units are missing
    - `published`: rows of each group that is committed
    - `failures`: what could not be done, by group; it holds up no other group
    - `held`: what was found in a group that is complete and held back, by group
    - `warnings`: what was found in a partition that is published, by partition
    - `reports`: of the units that this run made, or found to be there when their turn came, by name
    - `rows_done`: of units whose files are there
    """

    def __init__(self, run: Run, plan: Plan) -> None:
        self.plan = plan
        self.waiting = sorted({plan.group_of(name) for name in plan.missing})
        self.published: dict[str, Counts] = {}
        self.failures: dict[str, list[Failure]] = {}
        self.held: dict[str, HeldError] = {}
        self.warnings: dict[str, str] = {}
        self.reports: dict[str, UnitReport] = {}
        self.rows_done = plan.num_rows_done
        self.committer = Committer(
            output=run.output,
            job=run.job,
            input_uri=run.input_uri,
            limits=run.limits,
            max_error_fraction=run.config.max_error_fraction,
            lake=run.lake,
            checks=run.checks,
        )
        self.run = run
        self._missing: dict[str, set[str]] = {}  # names of units, of the groups that are begun
        self._records: dict[str, FileRecord] = {}
        self._times = TimesWriter(run.output)
        self._is_exclusive = True  # else a file may be a later writer's, and is read back

    @property
    def counts(self) -> Counts:
        """Counts of all that is published."""
        return add_counts(self.published.values())

    @property
    def rows_made(self) -> int:
        """Rows of the files that this run made."""
        created = [name for name, report in self.reports.items() if report.created]
        return sum(self._records[name].counts.rows for name in created)

    def publish_ready(self) -> None:
        """Begin the groups that wait for nothing, and commit every group that is complete."""
        later = {*self.waiting, *self._missing}  # groups that miss units, or are begun already
        self._begin([group for group in self.plan.groups if group not in later])
        self._commit_complete(list(self._missing))

    def make(self, groups: Sequence[str], replicas: "Replicas") -> None:
        """Begin these groups and make their missing units, one group after the other."""
        from jobs.engine.waves import run_waves

        self._is_exclusive = replicas.spec.exclusive
        # units are made in the order of their groups, so that the first groups are complete early
        rank = {group: index for index, group in enumerate(groups)}
        self.waiting = [group for group in self.waiting if group not in rank]
        self._begin(groups)
        missing = self.plan.part(groups).missing.items()
        units = dict(sorted(missing, key=lambda item: rank[self.plan.group_of(item[0])]))
        with Display(self.plan.num_rows, self.rows_done, console) as display:
            try:
                outcome = run_waves(units, replicas, display, self)
            finally:  # of an interrupted run, too
                self._write_times(groups)
        self._fail(outcome.failures)
        self.rows_done += outcome.tally.documents

    def add(self, report: UnitReport) -> None:
        """The file of a unit is there."""
        group = self.plan.group_of(report.name)
        # Ray Data may make a unit twice, where it took its replica for lost
        if report.record is not None and report.name not in self.reports:
            self.reports[report.name], self._records[report.name] = report, report.record
            self._missing[group].discard(report.name)
            if report.created:
                self._times.add(group, report.name, report.time)
        if group:  # the commit of everything takes long, and needs no replica: Ray is let go first
            self._commit_complete([group])

    def split(self, parts: Mapping[str, Mapping[str, Unit]]) -> None:
        """Smaller units took the place of others, which are the keys."""
        self.plan = self.plan.with_parts(parts)
        for name, units in parts.items():
            missing = self._missing[self.plan.group_of(name)]
            missing.discard(name)
            missing.update(units)
        self.committer.begin(self.plan.part({self.plan.group_of(name) for name in parts}))

    def commit(self, group: str) -> Counts:
        """Commit a group of which every unit is there; see `Committer.commit`."""
        plan, records = self.plan.part([group]), self._records if self._is_exclusive else {}
        commit = partial(self.committer.commit, reported=records)
        is_table = self.run.lake is not None and plan.limit is None
        return settle(commit, plan, self.run.replan, is_table)

    def refuse_failures(self) -> None:
        """Raise the `failure`, if there is one."""
        if failure := self.failure():
            raise failure

    def failure(self) -> BertsumError | None:
        """What went wrong, in some 20 lines, and what to do; None where all was done.

        IncompleteError for what could not be done; HeldError where all was, and groups are held.
        """
        failures = list(chain.from_iterable(self.failures.values()))
        if not failures:
            return HeldError(say_held(self.held, self.run.output)) if self.held else None
        lines = [f"{len(failures)} part(s) of the input could not be done:"]
        for failure in failures[:_MOST_FAILURES]:
            files = ", ".join(mask(path) for path in failure.files[:3])
            lines.append(f"  {files}: {failure.reason}")
        if len(failures) > _MOST_FAILURES:
            lines.append(f"  ... and {len(failures) - _MOST_FAILURES} more")
        lines.append(
            f"everything else is in {self.run.output}; mend these and run the same command "
            f"again (`bertsum status {self.run.output}`)"
        )
        return IncompleteError("\n".join(lines))

    def _begin(self, groups: Collection[str]) -> None:
        """Take _SUCCESS away and write what is planned; files that cannot be used are failures."""
        if groups:
            part = self.plan.part(groups)
            self.committer.begin(part)
            self._missing |= {group: set() for group in groups}
            for name in part.missing:
                self._missing[part.group_of(name)].add(name)
            problems = part.problems.items()
            self._fail([Failure([path], reason, attempts=0) for path, reason in problems])

    def _commit_complete(self, groups: Collection[str]) -> None:
        """Commit those of the groups of which nothing is missing, failed or committed already."""
        for group in groups:
            is_over = group in self.failures or group in self.published or group in self.held
            if self._missing[group] or is_over:
                continue
            self._write_times([group])
            try:
                self.published[group] = self.commit(group)
            except HeldError as error:
                self.held[group] = error
                console.print(f"held {error}", soft_wrap=True)
            except BertsumError as error:
                if not group:
                    raise
                # the other partitions have nothing to do with it
                self._fail([Failure([f"{group}/"], str(error), attempts=1)])
            else:
                # what was found in partitions that are published nevertheless
                warnings = self.run.checks.warnings if self.run.checks else {}
                for partition in sorted(warnings.keys() - self.warnings.keys()):
                    reason = self.warnings[partition] = warnings[partition]
                    console.print(f"warning: {partition or 'all rows'}: {reason}", soft_wrap=True)
                if group:
                    rows = self.published[group].rows
                    console.print(f"published {group}: {rows:,} rows", soft_wrap=True)

    def _write_times(self, groups: Sequence[str]) -> None:
        """Write the times of the units of these groups that are not written yet.

        Nothing depends on them: what cannot be written neither ends the run, nor holds up a commit.
        """
        for group in groups:
            with suppress(BertsumError):
                self._times.flush(group, self.plan.part([group]).expected)

    def _fail(self, failures: Sequence[Failure]) -> None:
        """Record what could not be done in the directory of its group, which stays incomplete.

        Each call writes all failures of the group: the file is replaced.
        """
        new: dict[str, list[Failure]] = {}
        for failure in failures:
            new.setdefault(self.plan.group_of(failure.files[0]), []).append(failure)
        for group, of_group in new.items():
            self.failures.setdefault(group, []).extend(of_group)
            record_failures(self.run.output, self.failures[group], group)
