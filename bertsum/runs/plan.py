"""The plan of a run: what INPUT asks for, minus what OUTPUT has.

Results that exist are kept, however an earlier run cut its units: same model and configuration, input unchanged. The
rows that they leave are cut into new units. So a growing INPUT costs only what is new, `--limit` leaves nothing that a
full run would have to redo, and a killed run goes on with the units that it had planned.

Input that is gone is no reason to lose results: where a whole partition was deleted (retention), they are retained.
Where a file vanished from a partition that is still there, the partition was rewritten, and they are superseded.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import pyarrow as pa

from bertsum.config import OutputConfig
from bertsum.errors import OutputError
from bertsum.runs.columns import Check, check_shards
from bertsum.runs.input import Input, InputFile, Shard, read_footers
from bertsum.runs.partitions import Scope, inside, partition_of
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

    What is published together is a group: one partition, named like it. A run that is not narrowed to
    partitions has one group, named "", of all partitions.
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
        return {name: unit for name, unit in self.units.items() if name not in self.done}

    @property
    def num_rows(self) -> int:
        return sum(unit.num_rows for unit in self.units.values())

    @property
    def num_rows_done(self) -> int:
        return sum(unit.num_rows for name, unit in self.units.items() if name in self.done)

    @property
    def changing_partitions(self) -> set[str]:
        """Partitions in which something is missing, wrong or superseded."""
        superseded = [entry.file.name for entry in self.superseded]
        names = [*self.missing, *self.expired, *self.repeated, *superseded, *self.problems]
        return {partition_of(name) for name in names}

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
        return {partition_of(name) for name in (*self.units, *self.retained)}

    @property
    def outdated(self) -> set[str]:
        """Files in OUTPUT that are no part of the result; whatever they hold is in others, or made anew."""
        return {
            *self.resting,
            *self.expired,
            *self.repeated,
            *(entry.file.name for entry in self.superseded),
        }

    def files(self, job: Job) -> dict[str, OutputFile]:
        """The whole result by name, in the order of the input."""
        own = {
            name: OutputFile(name, unit, job.fingerprint, mask(job.model_id))
            for name, unit in self.units.items()
        }
        both = sorted(
            (own | dict(self.retained)).items(), key=lambda item: (item[1].unit.order, item[0])
        )
        return dict(both)

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
        """The plan with smaller units, by name, in place of some that are missing, which are named by the keys."""
        units = {name: unit for name, unit in self.units.items() if name not in parts}
        for smaller in parts.values():
            units |= smaller
        return replace(self, units=dict(sorted(units.items(), key=lambda item: item[1].order)))

    def only(self, partitions: Collection[str]) -> "Plan":
        """The part of these partitions, as a plan of its own."""
        return replace(
            self,
            units={name: unit for name, unit in self.units.items() if unit.partition in partitions},
            superseded=[
                entry for entry in self.superseded if partition_of(entry.file.name) in partitions
            ],
            problems={
                path: reason
                for path, reason in self.problems.items()
                if partition_of(path) in partitions
            },
            retained={
                name: file
                for name, file in self.retained.items()
                if partition_of(name) in partitions
            },
            scope=Scope.exactly(partitions),
            resting={
                name: since
                for name, since in self.resting.items()
                if partition_of(name) in partitions
            },
            expired=frozenset(name for name in self.expired if partition_of(name) in partitions),
            repeated=frozenset(name for name in self.repeated if partition_of(name) in partitions),
        )


def make_plan(source: Input, output: Folder, job: Job, terms: Terms) -> Plan:
    """What to do.

    Raises InputError when no file of INPUT is usable, and OutputError when OUTPUT holds foreign files.
    """
    rules, limits, limit = terms.rules, terms.limits, terms.limit
    listed = source.scope.list_names(output, also=SUCCESS)
    present = {name for name in listed if name.rpartition("/")[2] != SUCCESS}
    known = read_known(output, present, source.scope.is_all)
    existing = existing_files(output, present, known)
    is_retained = _retention(source.files, rules)
    retained = {f.name: f for f in existing if f.name not in known.resting and is_retained(f.unit)}
    covered = Coverage()
    kept, old = _sort_out(
        [f for f in existing if f.name not in retained], source.files, job, covered
    )
    resting, expired = _rest(old, known.resting, rules)
    superseded = [entry for entry in old if entry.file.name not in known.resting]
    repeated = frozenset(
        e.file.name
        for e in superseded
        if e.file.job == job.fingerprint and covered.holds(e.file.unit)
    )
    earlier = _earlier_units(output, source, job, limits, covered)
    shards, problems = read_footers(
        source, [file for file in source.files if not covered.is_complete(file.path)]
    )
    problems |= check_shards(shards, terms.check, others_are_good=bool(kept or earlier))
    usable = {shard.file.path: shard for shard in shards if shard.file.path not in problems}
    units = [*kept, *earlier, *_cut_runs(source.files, usable, covered, limits)]
    named = {
        unit_name(unit, job.fingerprint): unit
        for unit in sorted(units, key=lambda unit: unit.order)
    }
    done = frozenset(name for name in named if name in present)
    wanted = named if limit is None else _limited(named, done, limit, job)
    limit = None if wanted.keys() == named.keys() else limit
    published = frozenset(partition_of(name) for name in listed.keys() - present)
    return Plan(
        units=wanted,
        done=done,
        superseded=[entry for entry in superseded if entry.file.name not in repeated],
        problems=problems,
        num_files=len(source.files),
        limit=limit,
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
    """The record `plan.json` of a directory, from which the next run goes on and `status` reports."""
    return {
        "input": mask(input_uri),
        "job": job.to_json(),
        "limits": [limits.num_rows, limits.num_bytes],
        "limit": plan.limit,
        "problems": {mask(path): reason for path, reason in plan.problems.items()},
        "files": [
            {
                "name": name.removeprefix(inside(directory, "")),
                "rows": unit.num_rows,
                "unit": unit.to_json(),
            }
            for name, unit in plan.units.items()
        ],
    }


def refuse_superseded(superseded: Sequence[Superseded], output: Folder) -> None:
    """Raise OutputError that says what was found and how to replace it."""
    if not superseded:
        return
    by_reason: dict[str, list[str]] = {}
    for entry in superseded:
        by_reason.setdefault(entry.reason, []).append(entry.file.name)
    found = "; ".join(
        f"{len(names)} file(s) {reason} ({mask(names[0])})" for reason, names in by_reason.items()
    )
    raise OutputError(
        f"OUTPUT {output} holds results that do not belong to this run: {found}. `--on-existing replace` makes the new "
        "results and then removes these; or choose another OUTPUT"
    )


def _retention(files: Iterable[InputFile], rules: OutputConfig) -> Callable[[Unit], bool]:
    """Whether the result of a unit is retained although its input is gone."""
    paths = {file.path for file in files}
    partitions = {file.partition for file in files}

    def is_retained(unit: Unit) -> bool:
        gone = not any(part.path in paths for part in unit.slices)
        if rules.vanished_input == "keep_partitions":
            return gone and unit.partition not in partitions
        return gone and rules.vanished_input == "keep_files"

    return is_retained


def _rest(
    superseded: Sequence[Superseded], resting: Mapping[str, float], rules: OutputConfig
) -> tuple[dict[str, float], frozenset[str]]:
    """Files that readers of an earlier snapshot may still need, and those whose time is over."""
    since = {e.file.name: resting[e.file.name] for e in superseded if e.file.name in resting}
    days = 0 if rules.table == "parquet" else rules.keep_days
    expired = frozenset(
        name for name, begun in since.items() if begun + days * 86400 <= time.time()
    )
    return {name: begun for name, begun in since.items() if name not in expired}, expired


def _sort_out(
    existing: Iterable[OutputFile], files: Iterable[InputFile], job: Job, covered: Coverage
) -> tuple[list[Unit], list[Superseded]]:
    """Units whose results are kept (they go into `covered`), and the files that are superseded."""
    current = {file.path: file for file in files}
    kept: list[Unit] = []
    superseded: list[Superseded] = []
    # of files that begin with the same row the one with most: it was put together of others
    for file in sorted(
        existing, key=lambda file: (file.unit.order, -file.unit.num_rows, file.name)
    ):
        reason = _why_superseded(file, current, job)
        if reason is None and covered.add(file.unit):
            kept.append(file.unit)
        else:
            superseded.append(Superseded(file, reason or "with rows that other files hold too"))
    return kept, superseded


def _why_superseded(file: OutputFile, current: Mapping[str, InputFile], job: Job) -> str | None:
    if file.job != job.fingerprint:
        same_name = file.model_id == mask(job.model_id)
        return f"of model {file.model_id}" + (
            " with other content or another configuration" if same_name else ""
        )
    if any(part.path not in current for part in file.unit.slices):
        return "of input that is gone from a directory that is still there"
    if any(part.file != current[part.path] for part in file.unit.slices):
        return "of input that has changed"
    return None


def _earlier_units(
    output: Folder, source: Input, job: Job, limits: Limits, covered: Coverage
) -> list[Unit]:
    """Units that an unfinished run planned and did not do; two drivers on one OUTPUT then work on the same names."""
    current = {file.path: file for file in source.files}
    open_places = {file.partition for file in source.files if not covered.is_complete(file.path)}
    units: list[Unit] = []
    for place in [""] if source.scope.is_all else sorted(open_places):
        record = read_json(output, inside(place, PLAN))
        if (
            record is None
            or record["limit"] is not None
            or record["limits"] != [limits.num_rows, limits.num_bytes]
        ):
            continue
        if record["job"]["fingerprint"] == job.fingerprint:
            planned = [Unit.from_json(entry["unit"]) for entry in record["files"]]
            units += [
                unit
                for unit in planned
                if all(current.get(part.path) == part.file for part in unit.slices)
            ]
    return [unit for unit in units if covered.add(unit)]


def _cut_runs(
    files: Iterable[InputFile], usable: Mapping[str, Shard], covered: Coverage, limits: Limits
) -> list[Unit]:
    """Only files that follow each other go together, so that a unit never reaches over rows of another one."""
    units: list[Unit] = []
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
        limit -= unit.num_rows
    return wanted
