"""The plan of a run: what INPUT asks for, minus what OUTPUT has.

Results of the same model and configuration whose input is unchanged are kept, however an earlier
run cut its units. The rows that they leave are cut into new units. So a growing INPUT costs only
what is new, `--limit` leaves nothing that a full run would have to redo, and a killed run goes on
with the units that it had planned.

Input that is gone is no reason to lose results: where a whole partition was deleted (retention),
they are retained. Where a file vanished from a partition that is still there, the partition was
rewritten, and they are superseded.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeVar

import pyarrow as pa

from bertsum.errors import OutputError
from bertsum.output_config import OutputConfig
from bertsum.runs.columns import Check, check_shards
from bertsum.runs.input import Input, InputFile, Shard, read_footers
from bertsum.runs.partitions import Scope, inside, partition_of, select_partitions
from bertsum.runs.records import (
    PLAN,
    SUCCESS,
    Job,
    OutputFile,
    existing_files,
    read_json,
    read_known,
)
from bertsum.runs.units import Coverage, Limits, Unit, cut, first_rows, unit_name
from bertsum.storage.folder import Folder, mask

_DAY_SECONDS = 86400
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Superseded:
    """An output file that is not part of the plan, and why."""

    file: OutputFile
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a plan keeps to.

    - `limits`: the size of a unit
    - `check`: which files have what the job needs
    - `rules`: what becomes of old results
    - `limit`: a try-out of so many rows; None is all of them
    """

    limits: Limits
    check: Check
    rules: OutputConfig = field(default_factory=OutputConfig)
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to do, and what it finds in OUTPUT.

    - `units`: by name, in the order of the input
    - `done`: names of the units whose files exist
    - `superseded`: files that are not part of the plan
    - `problems`: the unusable files of INPUT, and why
    - `num_files`: of INPUT
    - `limit`: rows of a try-out; None also when the limit covers everything
    - `retained`: results whose input is gone, by name
    - `published`: the partitions whose records are complete
    - `scope`: the partitions that the run is about
    - `resting`: files that left a table, with the Unix time since when
    - `expired`: those of them that need not stay any longer
    - `schemas`: of the input files to read
    - `repeated`: files of which other ones hold all rows

    What is published together is a group: one partition, named like it. A run that is not narrowed
    to partitions has one group, named "", of all partitions.
    """

    units: Mapping[str, Unit]
    done: frozenset[str]
    superseded: Sequence[Superseded]
    problems: Mapping[str, str]
    num_files: int
    limit: int | None
    retained: Mapping[str, OutputFile]
    published: frozenset[str]
    scope: Scope
    resting: Mapping[str, float]
    expired: frozenset[str]
    schemas: Sequence[pa.Schema]
    repeated: frozenset[str]

    @property
    def missing(self) -> dict[str, Unit]:
        """Units whose files do not exist, by name."""
        return {name: unit for name, unit in self.units.items() if name not in self.done}

    @property
    def num_rows(self) -> int:
        return sum(unit.num_rows for unit in self.units.values())

    @property
    def num_rows_done(self) -> int:
        return sum(unit.num_rows for name, unit in self.units.items() if name in self.done)

    @property
    def superseded_names(self) -> list[str]:
        """Names of the files that are superseded."""
        return [entry.file.name for entry in self.superseded]

    @property
    def changing_partitions(self) -> set[str]:
        """Partitions in which something is missing, wrong or superseded."""
        gone = [*self.expired, *self.repeated, *self.superseded_names]
        return set(map(partition_of, [*self.missing, *gone, *self.problems]))

    @property
    def open_partitions(self) -> list[str]:
        """Partitions whose records must be written: they change, or were never published."""
        return sorted(self.changing_partitions | (self.partitions - self.published))

    @property
    def groups(self) -> list[str]:
        """Names of the groups to publish; that of a run over everything is always among them."""
        return [""] if self.scope.is_all else self.open_partitions

    @property
    def record_directories(self) -> list[str]:
        """Directories whose manifest and _SUCCESS must be written, the top one of OUTPUT last."""
        return sorted({*self.open_partitions, *self.groups}, reverse=True)

    @property
    def partitions(self) -> set[str]:
        """Those that hold or will hold results."""
        return set(map(partition_of, self.expected))

    @property
    def outdated(self) -> set[str]:
        """Files in OUTPUT that are no part of the result: other files hold their rows, or will."""
        return {*self.resting, *self.expired, *self.repeated, *self.superseded_names}

    def files(self, job: Job) -> dict[str, OutputFile]:
        """The whole result by name, in the order of the input."""
        files: list[OutputFile] = []
        fingerprint, model_id = job.fingerprint, mask(job.model_id)
        for name, unit in self.units.items():
            if name not in self.retained:
                files.append(OutputFile(name, unit, fingerprint, model_id))
        files += self.retained.values()
        # two files of equal order (one of 0 rows, say) are kept apart by their names
        files.sort(key=lambda file: (file.unit.order, file.name))
        return {file.name: file for file in files}

    @property
    def expected(self) -> set[str]:
        """Names of all files of the result."""
        return {*self.units, *self.retained}

    def group_of(self, name: str) -> str:
        """Group of a file of INPUT or OUTPUT."""
        return "" if self.scope.is_all else partition_of(name)

    def part(self, groups: Collection[str]) -> "Plan":
        """The plan of these groups alone."""
        return self if self.scope.is_all else self.only(groups)

    def with_parts(self, parts: Mapping[str, Mapping[str, Unit]]) -> "Plan":
        """The plan with missing units in parts.

        `parts`: by the name of the unit, the smaller ones that it becomes, by their names.
        """
        units = dict(self.units)
        for name in parts:
            units.pop(name, None)
        for smaller in parts.values():
            units |= smaller
        return replace(self, units=dict(sorted(units.items(), key=lambda item: item[1].order)))

    def only(self, partitions: Collection[str]) -> "Plan":
        """The part of these partitions, as a plan of its own."""
        partitions = frozenset(partitions)

        def chosen(by_name: Mapping[str, _Value]) -> dict[str, _Value]:
            return select_partitions(by_name, partitions)

        superseded: list[Superseded] = []
        for entry in self.superseded:
            if partition_of(entry.file.name) in partitions:
                superseded.append(entry)
        return replace(
            self,
            units=chosen(self.units),
            superseded=superseded,
            problems=chosen(self.problems),
            retained=chosen(self.retained),
            scope=Scope.exactly(partitions),
            resting=chosen(self.resting),
            expired=frozenset(chosen(dict.fromkeys(self.expired))),
            repeated=frozenset(chosen(dict.fromkeys(self.repeated))),
        )


def make_plan(source: Input, output: Folder, job: Job, terms: Terms) -> Plan:
    """What to do.

    Raises InputError when no file of INPUT is usable, and OutputError when OUTPUT holds foreign
    files.
    """
    listed = source.scope.list_names(output, also=SUCCESS)
    present = {name for name in listed if name.rpartition("/")[2] != SUCCESS}
    published = frozenset(map(partition_of, listed.keys() - present))
    known = read_known(output, present, source.scope.is_all)
    retained, candidates = _split_retained(
        existing_files(output, present, known), source.files, known.resting, terms.rules
    )
    # Three sources of units, in turn; each takes only rows that the ones before leave uncovered:
    # results that exist, units that an unfinished run planned, and new ones.
    covered = Coverage()
    kept, old = _sort_out(candidates, source.files, job, covered)
    superseded, repeated, resting = _split_superseded(old, known.resting, job, covered)
    resting, expired = _rest(resting, terms.rules)
    earlier = _earlier_units(output, source, job, terms.limits, covered)
    # footers cost a request each; a file whose rows are all there needs none
    incomplete = [file for file in source.files if not covered.is_complete(file.path)]
    shards, problems = read_footers(source, incomplete)
    problems |= check_shards(shards, terms.check, others_are_good=bool(kept or earlier))
    usable = {shard.file.path: shard for shard in shards if shard.file.path not in problems}
    units = [*kept, *earlier, *_cut_runs(source.files, usable, covered, terms.limits)]
    units.sort(key=lambda unit: unit.order)
    # A name is a digest of what the unit holds, so that a file of that name is its result.
    named = {unit_name(unit, job.fingerprint): unit for unit in units}
    done = frozenset(named.keys() & present)
    # a limit never cuts what exists, so that a try-out after a full run changes nothing
    wanted = named if terms.limit is None else _limited(named, done, terms.limit, job)
    return Plan(
        units=wanted,
        done=done,
        superseded=superseded,
        problems=problems,
        num_files=len(source.files),
        # a limit that cuts nothing off is none: the result is whole, and may be published
        limit=None if wanted.keys() == named.keys() else terms.limit,
        retained=retained,
        published=published,
        scope=source.scope,
        resting=resting,
        expired=expired,
        schemas=[shard.schema for shard in usable.values()],
        repeated=repeated,
    )


def plan_json(
    plan: Plan, job: Job, *, input_uri: str, limits: Limits, directory: str
) -> dict[str, object]:
    """The record `plan.json` of a directory; the next run goes on from it, `status` reads it."""
    files = []
    for name, unit in plan.units.items():
        relative_name = name.removeprefix(inside(directory, ""))
        files.append({"name": relative_name, "rows": unit.num_rows, "unit": unit.to_json()})
    return {
        "input": mask(input_uri),
        "job": job.to_json(),
        # by which the next run knows whether it would cut units in the same way
        "limits": [limits.num_rows, limits.num_bytes],
        "limit": plan.limit,
        "problems": {mask(path): reason for path, reason in plan.problems.items()},
        "files": files,
    }


def refuse_superseded(superseded: Sequence[Superseded], output: Folder) -> None:
    """Raise OutputError that says what was found and how to replace it."""
    if not superseded:
        return
    by_reason: dict[str, list[str]] = {}
    for entry in superseded:
        by_reason.setdefault(entry.reason, []).append(entry.file.name)
    reasons = []
    for reason, names in by_reason.items():
        reasons.append(f"{len(names)} file(s) {reason} ({mask(names[0])})")
    raise OutputError(
        f"OUTPUT {output} holds results that do not belong to this run: {'; '.join(reasons)}. "
        "`--on-existing replace` makes the new results and then removes these; or choose another "
        "OUTPUT"
    )


def _split_retained(
    existing: Iterable[OutputFile],
    files: Iterable[InputFile],
    resting: Collection[str],
    rules: OutputConfig,
) -> tuple[dict[str, OutputFile], list[OutputFile]]:
    """The results that are retained although their input is gone, by name, and all others."""
    paths: set[str] = set()
    partitions: set[str] = set()
    for file in files:
        paths.add(file.path)
        partitions.add(file.partition)
    retained: dict[str, OutputFile] = {}
    others: list[OutputFile] = []
    for result in existing:
        # small files go together in a unit: as long as one of them is there, it is not gone
        is_gone = all(part.path not in paths for part in result.unit.slices)
        is_partition_gone = result.unit.partition not in partitions
        is_kept = rules.vanished_input == "keep_files" or (
            rules.vanished_input == "keep_partitions" and is_partition_gone
        )
        if is_gone and is_kept and result.name not in resting:
            retained[result.name] = result
        else:
            others.append(result)
    return retained, others


def _split_superseded(
    old: Iterable[Superseded], resting: Mapping[str, float], job: Job, covered: Coverage
) -> tuple[list[Superseded], frozenset[str], dict[str, float]]:
    """Of files that are no part of the plan: superseded, repeated, and resting ones (see Plan)."""
    superseded: list[Superseded] = []
    repeated: set[str] = set()
    still_resting: dict[str, float] = {}
    for entry in old:
        name = entry.file.name
        if name in resting:
            still_resting[name] = resting[name]
        elif entry.file.job == job.fingerprint and covered.holds(entry.file.unit):
            repeated.add(name)  # removed without asking: no row is lost
        else:
            superseded.append(entry)
    return superseded, frozenset(repeated), still_resting


def _rest(
    resting: Mapping[str, float], rules: OutputConfig
) -> tuple[dict[str, float], frozenset[str]]:
    """Files that readers of an earlier snapshot may still need, and those whose time is over."""
    # without a table there are no snapshots, so nobody may still read them
    days = 0 if rules.table == "parquet" else rules.keep_days
    latest = time.time() - days * _DAY_SECONDS
    still: dict[str, float] = {}
    for name, since in resting.items():
        if since > latest:
            still[name] = since
    return still, frozenset(resting.keys() - still.keys())


def _sort_out(
    existing: Iterable[OutputFile], files: Iterable[InputFile], job: Job, covered: Coverage
) -> tuple[list[Unit], list[Superseded]]:
    """Units whose results are kept (they go into `covered`), and the files that are superseded."""
    current = {file.path: file for file in files}
    kept: list[Unit] = []
    superseded: list[Superseded] = []

    def order(file: OutputFile) -> tuple[object, ...]:
        # of files that begin with the same row the one with most: it was put together of others
        return file.unit.order, -file.unit.num_rows, file.name

    for file in sorted(existing, key=order):
        reason = _why_superseded(file, current, job)
        if reason is None and covered.add(file.unit):
            kept.append(file.unit)
        else:
            superseded.append(Superseded(file, reason or "with rows that other files hold too"))
    return kept, superseded


def _why_superseded(file: OutputFile, current: Mapping[str, InputFile], job: Job) -> str | None:
    """Why a result is not one of this job on INPUT as it is, or None."""
    if file.job != job.fingerprint:
        model = f"of model {file.model_id}"
        if file.model_id == mask(job.model_id):
            # the same path may hold another checkpoint today
            model += " with other content or another configuration"
        return model
    if any(part.path not in current for part in file.unit.slices):
        return "of input that is gone from a directory that is still there"
    if any(part.file != current[part.path] for part in file.unit.slices):
        return "of input that has changed"
    return None


def _earlier_units(
    output: Folder, source: Input, job: Job, limits: Limits, covered: Coverage
) -> list[Unit]:
    """Units that an unfinished run planned and did not do; they go into `covered`.

    So two drivers on one OUTPUT work on the same names.
    """
    current = {file.path: file for file in source.files}
    directories: set[str] = set()
    if source.scope.is_all:
        directories.add("")  # one plan at the top is of all partitions
    for file in source.files:
        if not source.scope.is_all and not covered.is_complete(file.path):
            directories.add(file.partition)
    units: list[Unit] = []
    for directory in sorted(directories):
        record = read_json(output, inside(directory, PLAN))
        # a try-out cuts its last unit short, and other limits cut elsewhere
        is_usable = (
            record is not None
            and record["limit"] is None
            and record["limits"] == [limits.num_rows, limits.num_bytes]
            and record["job"]["fingerprint"] == job.fingerprint
        )
        for entry in record["files"] if record is not None and is_usable else ():
            unit = Unit.from_json(entry["unit"])
            # a unit of a file that has changed since then is planned anew
            is_current = all(current.get(part.path) == part.file for part in unit.slices)
            if is_current and covered.add(unit):
                units.append(unit)
    return units


def _cut_runs(
    files: Iterable[InputFile], usable: Mapping[str, Shard], covered: Coverage, limits: Limits
) -> list[Unit]:
    """New units of the usable files.

    Only files that follow each other go together, so that no unit reaches over rows of another one.
    """
    units: list[Unit] = []
    # of files a, b, c with b done already: a is cut alone, then c
    for is_open, run in groupby(files, key=lambda file: file.path in usable):
        if is_open:
            units += cut([usable[file.path] for file in run], covered, limits)
    return units


def _limited(
    named: Mapping[str, Unit], done: Collection[str], limit: int, job: Job
) -> dict[str, Unit]:
    """What is done, and what is missing of the first `limit` rows; the last unit is cut short."""
    wanted: dict[str, Unit] = {}
    for name, unit in named.items():
        if name in done:
            wanted[name] = unit
        elif limit > 0:
            part = first_rows(unit, limit)
            wanted[unit_name(part, job.fingerprint)] = part
        limit -= unit.num_rows  # what is done counts, too
    return wanted
