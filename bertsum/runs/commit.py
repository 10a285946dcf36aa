"""The protocol of a run over OUTPUT, in the order in which it must happen.

    begin    _SUCCESS goes, the plan is written
    ...      units appear, each whole (bertsum.storage.folder.create_exclusive)
    commit   OUTPUT holds exactly what was planned
             its rows are looked at (bertsum.runs.checking); what is wrong is held
             -> manifests -> the table -> superseded files go -> _SUCCESS

A run over the whole of INPUT does it once, for all partitions at the end. A run that is narrowed to
partitions does it for each of them, as soon as its last unit is there; so old days stay complete
while new ones are made.

Killed between any two of these steps, the same command goes on from what exists: units are never
made twice, and whoever reads by the manifest sees the old result until a new manifest replaces it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from bertsum.errors import HeldError, IncompleteError, OutputError
from bertsum.runs.checking import Checked, Checks
from bertsum.runs.concurrent_runs import check_listing, list_results, refuse_unplanned, withdraw
from bertsum.runs.held import APPROVED, HELD, Held, approved_parts, read_held, write_held
from bertsum.runs.history import CHECKS
from bertsum.runs.partitions import inside, partition_of, select_partitions
from bertsum.runs.plan import Plan, plan_json
from bertsum.runs.records import (
    FAILURES,
    MANIFEST,
    PLAN,
    SUCCESS,
    Counts,
    FileRecord,
    Job,
    OutputFile,
    add_counts,
    manifest_json,
    read_back,
    read_json,
    read_known,
    write_json,
)
from bertsum.runs.tables.compaction import compact
from bertsum.runs.tables.table import Lake
from bertsum.runs.units import Limits
from bertsum.schema import Status
from bertsum.storage.folder import Folder, mask


@dataclass(frozen=True, slots=True)
class Failure:
    """Work that a run could not do: the input files, why, and how often it was tried."""

    files: Sequence[str]
    reason: str
    attempts: int
    unit: str | None = None  # None: the file could not even be planned


def is_finished(output: Folder, plan: Plan) -> bool:
    """Whether nothing at all is left to do, not even the records at the end."""
    is_open = bool(plan.open_partitions if plan.limit is None else plan.changing_partitions)
    if not is_open and plan.limit is None and plan.scope.is_all:
        # each partition is complete; the records at the top may be of before it was made anew
        manifest = read_json(output, MANIFEST)
        listed = {entry["name"] for entry in manifest["files"]} if manifest else set()
        is_open = output.info(SUCCESS) is None or listed != plan.expected
    return not is_open


def record_failures(output: Folder, failures: Sequence[Failure], directory: str = "") -> None:
    """Write what could not be done, for `status` and for whoever mends it.

    Units are named as in the plan of the directory.
    """
    entries = [asdict(failure) for failure in failures]
    for entry, failure in zip(entries, failures, strict=True):
        entry["files"] = list(map(mask, failure.files))
        if failure.unit is not None:
            entry["unit"] = failure.unit.removeprefix(inside(directory, ""))
    write_json(output, inside(directory, FAILURES), {"failures": entries})


@dataclass(frozen=True, slots=True, kw_only=True)
class Committer:
    """Takes plans through the protocol; each is of one group, or of some that are begun together.

    - `limits`: of the units, which go into the plan's record
    - `max_error_fraction`: more rows with status `error` than this share are no result
    - `lake`: the table that OUTPUT is, if it is one
    - `checks`: what is looked at before anything is published, if anything
    - `approved`: what somebody has let through, and nothing else may be published
    """

    output: Folder
    job: Job
    input_uri: str
    limits: Limits
    max_error_fraction: float
    lake: Lake | None = None
    checks: Checks | None = None
    approved: Held | None = None

    def begin(self, plan: Plan) -> None:
        """Say that the result is not complete any more, then what the run is going to do."""
        self.output.remove(SUCCESS)
        for group in plan.groups:
            part = plan.part([group])
            # the others have no _SUCCESS, and a request to remove one would be for nothing
            withdraw(self.output, sorted(plan.published.intersection(part.open_partitions)))
            uri, limits = self.input_uri, self.limits
            record = plan_json(part, self.job, input_uri=uri, limits=limits, directory=group)
            write_json(self.output, inside(group, PLAN), record)

    def commit(self, plan: Plan, reported: Mapping[str, FileRecord]) -> Counts:
        """Make the plan's files the result, after the last unit; returns their totals.

        `reported` are records of this run. One that names another file than its unit says that
        another run put the unit together with others. The small files of a table are put together
        first. A try-out (`plan.limit`) ends without manifest and _SUCCESS: it is not the result.

        Raises IncompleteError for too many rows with an error, HeldError for a result that is held,
        and OutputError where OUTPUT holds something else than planned; see
        `bertsum.runs.concurrent_runs.settle` for a table.
        """
        names = list_results(self.output, plan)
        held = self._read_held(plan)
        records = self._all_records(plan, {**held.records, **reported} if held else reported)
        counts = add_counts(record.counts for record in records.values())
        # before anything is published: the results stay for a look at their column `error`
        errors = counts.statuses.get(Status.ERROR, 0)
        if counts.rows and errors / counts.rows > self.max_error_fraction:
            raise IncompleteError(
                f"{errors} of {counts.rows} rows have status `error`, more than "
                f"max_error_fraction={self.max_error_fraction} allows; the column `error` says why"
                ". The results stay; there is no manifest and no _SUCCESS"
            )
        if self.lake is None or plan.limit is not None:
            refuse_unplanned(self.output, plan, names)
        checked = self._check(plan, records, held)
        if self.lake is not None and plan.limit is None:
            if plan.open_partitions:  # the _SUCCESS of another run is older than what is made now
                withdraw(self.output, plan.record_directories)
            size = self.lake.file_bytes
            # one commit of the table then has the big files alone: no query sees this run's small
            # ones
            plan, records = compact(
                self.output, plan, job=self.job, records=records, file_bytes=size
            )
            check_listing(self.output, plan)
        if plan.limit is None:
            self._publish(plan, records, checked)
        return counts

    def _read_held(self, plan: Plan) -> Held | None:
        """What a run before found out about the same rows, which it held."""
        # another run may have published all of it meanwhile
        if self.checks is None or plan.limit is not None or not plan.groups:
            return None
        held = read_held(self.output, plan.groups[0])
        return held if held and held.holds(plan.files(self.job).values()) else None

    def _check(
        self, plan: Plan, records: Mapping[str, FileRecord], held: Held | None
    ) -> dict[str, Checked]:
        """Look at the partitions that are to be published.

        Raises HeldError, once that is recorded, where something is wrong and nobody has let it
        through, and OutputError where another run holds something else than was let through.
        """
        if self.approved and (held is None or held.digest != self.approved.digest):
            raise OutputError(
                f"{self.output}/{self.approved.group} was held anew with other rows or other "
                "findings, which nobody has let through: look at them (`bertsum status`), and "
                "publish again"
            )
        if self.checks is None or plan.limit is not None:
            return {}
        known = held.checked if held else {}
        if held and held.is_approved:
            return {name: replace(entry, approved=True) for name, entry in known.items()}
        checked = self.checks.check(self.output, plan, self.job, records, known)
        wrong = [name for name, entry in checked.items() if entry.findings]
        if plan.groups == [""]:  # a partition may have been held, and let through, by itself
            files = plan.files(self.job).values()
            for name in approved_parts(self.output, files, wrong):
                checked[name] = replace(checked[name], approved=True)
                wrong.remove(name)
        if not wrong or self.checks.rules.action == "warn":
            return checked
        if checked != known:
            write_held(
                self.output,
                plan,
                job=self.job,
                input_uri=self.input_uri,
                records=records,
                checked=checked,
                config=self.checks.output,
            )
        # of an earlier attempt: the group is complete now
        self.output.remove(inside(plan.groups[0], FAILURES))
        raise HeldError(
            "\n".join(f"{name or 'all rows'}: {checked[name].reason}" for name in wrong)
        )

    def _publish(
        self, plan: Plan, records: Mapping[str, FileRecord], checked: Mapping[str, Checked]
    ) -> None:
        """Manifests, table, removal, _SUCCESS.

        What leaves a table stays for a while: a query at work reads the snapshot from before.
        """
        superseded = [*plan.superseded_names, *sorted(plan.repeated)]
        leaving = self.lake.holds(superseded) if self.lake else ()
        resting = {**plan.resting, **dict.fromkeys(leaving, time.time())}
        files = [(file, records[name]) for name, file in plan.files(self.job).items()]
        for directory in plan.record_directories:
            self._write_manifest(directory, files, resting, checked.get(directory))
        if self.lake:
            note = {"bertsum.job": self.job.fingerprint, "bertsum.model": mask(self.job.model_id)}
            self.lake.publish(records, plan.open_partitions, note)
        if superseded and not plan.scope.is_all:
            self.output.remove(MANIFEST)  # of a run over everything: it lists files that go now
        # after the manifest and the table, which name no file that goes now
        for name in [*plan.expired, *superseded]:
            if name not in resting:
                self.output.remove(name)
        if self.lake:
            check_listing(self.output, plan)
        partitions = {partition_of(file.name) for file, _ in files}
        for directory in plan.record_directories:
            self.output.remove(inside(directory, FAILURES))
            self.output.sweep_temporary(directory)
            if directory in ("", *partitions):  # a partition without files has no _SUCCESS either
                self.output.write_replace(inside(directory, SUCCESS), b"")
            # last: until then they say that somebody has let the result through
            if self.checks is not None:
                self.output.remove(inside(directory, APPROVED))
            self.output.remove(inside(directory, HELD))

    def _all_records(self, plan: Plan, reported: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
        """By name, in the plan's order: of this run, else of the manifests, else read back."""
        names = list(plan.files(self.job))
        known: dict[str, FileRecord] = {}
        unreported: list[str] = []
        for name in names:
            record = reported.get(name)
            # a record of another file: there the unit's rows lie together with others
            if record is not None and record.name == name:
                known[name] = record
            else:
                unreported.append(name)
        if unreported:
            known = read_known(self.output, unreported, plan.scope.is_all).records | known
        for record in read_back(self.output, [name for name in names if name not in known]):
            known[record.name] = record
        return {name: known[name] for name in names}

    def _write_manifest(
        self,
        directory: str,
        files: Sequence[tuple[OutputFile, FileRecord]],
        resting: Mapping[str, float],
        checked: Checked | None = None,
    ) -> None:
        if directory:  # the manifest at the top, "", lists the files of all partitions
            files = [entry for entry in files if partition_of(entry[0].name) == directory]
            resting = select_partitions(resting, {directory})
        if files or resting or not directory:
            record = manifest_json(self.job, self.input_uri, directory, files, resting)
            if checked is not None:
                record[CHECKS] = checked.to_json()
            write_json(self.output, inside(directory, MANIFEST), record)
        else:
            self.output.remove(inside(directory, MANIFEST))
