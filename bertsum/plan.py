"""The plan of a run: what INPUT asks for, minus what OUTPUT has.

Results that exist are kept, however an earlier run cut its units: same model and configuration, input unchanged. The
rows that they leave are cut into new units. So a growing INPUT costs only what is new, `--limit` leaves nothing that a
full run would have to redo, and a killed run goes on with the units that it had planned.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from bertsum.columns import Check, check_shards
from bertsum.errors import OutputError
from bertsum.output import PLAN, Job, OutputFile, existing_files, read_json
from bertsum.shards import Input, InputFile, Shard, read_footers
from bertsum.storage import Folder, mask
from bertsum.units import Coverage, Limits, Unit, cut, first_rows, unit_name


@dataclass(frozen=True, slots=True)
class Superseded:
    """An output file that is not part of the plan, and why."""

    file: OutputFile
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`units` by name, in the order of the input; `done` are the names that exist; `problems` the unusable files."""

    units: Mapping[str, Unit]
    done: frozenset[str]
    superseded: Sequence[Superseded]
    problems: Mapping[str, str]
    num_files: int
    limit: int | None  # None also when the limit covers everything

    @property
    def missing(self) -> dict[str, Unit]:
        return {name: unit for name, unit in self.units.items() if name not in self.done}

    @property
    def num_rows(self) -> int:
        return sum(unit.num_rows for unit in self.units.values())

    @property
    def num_rows_done(self) -> int:
        return sum(unit.num_rows for name, unit in self.units.items() if name in self.done)


def make_plan(source: Input, output: Folder, job: Job, limits: Limits, check: Check, limit: int | None = None) -> Plan:
    """What to do, where `check` tells which files have what the job needs.

    Raises InputError when no file of INPUT is usable, and OutputError when OUTPUT holds foreign files.
    """
    present = output.list_names()
    covered = Coverage()
    kept, superseded = _sort_out(existing_files(output, present), source.files, job, covered)
    earlier = _earlier_units(output, source.files, job, limits, covered)
    shards, problems = read_footers(source, [file for file in source.files if not covered.is_complete(file.path)])
    problems |= check_shards(shards, check, others_are_good=bool(kept or earlier))
    usable = {shard.file.path: shard for shard in shards if shard.file.path not in problems}
    units = [*kept, *earlier, *_cut_runs(source.files, usable, covered, limits)]
    named = {unit_name(unit, job.fingerprint): unit for unit in sorted(units, key=lambda unit: unit.order)}
    done = frozenset(name for name in named if name in present)
    wanted = named if limit is None else _limited(named, done, limit, job)
    whole = wanted.keys() == named.keys()
    return Plan(wanted, done, superseded, problems, len(source.files), None if whole else limit)


def plan_json(plan: Plan, job: Job, source: str, limits: Limits) -> dict[str, object]:
    """The record `_bertsum/plan.json`, from which the next run goes on and `status` reports."""
    return {
        "input": mask(source),
        "job": job.to_json(),
        "limits": [limits.num_rows, limits.num_bytes],
        "limit": plan.limit,
        "problems": {mask(path): reason for path, reason in plan.problems.items()},
        "files": [{"name": name, "rows": unit.num_rows, "unit": unit.to_json()} for name, unit in plan.units.items()],
    }


def refuse_superseded(superseded: Sequence[Superseded], output: Folder) -> None:
    """Raise OutputError that says what was found and how to replace it."""
    if not superseded:
        return
    by_reason: dict[str, list[str]] = {}
    for entry in superseded:
        by_reason.setdefault(entry.reason, []).append(entry.file.name)
    found = "; ".join(f"{len(names)} file(s) {reason} ({mask(names[0])})" for reason, names in by_reason.items())
    raise OutputError(
        f"OUTPUT {output} holds results that do not belong to this run: {found}. `--on-existing replace` makes the new "
        "results and then removes these; or choose another OUTPUT"
    )


def _sort_out(
    existing: Iterable[OutputFile], files: Iterable[InputFile], job: Job, covered: Coverage
) -> tuple[list[Unit], list[Superseded]]:
    """Units whose results are kept (they go into `covered`), and the files that are superseded."""
    current = {file.path: file for file in files}
    kept: list[Unit] = []
    superseded: list[Superseded] = []
    for file in sorted(existing, key=lambda file: (file.unit.order, file.name)):
        reason = _why_superseded(file, current, job)
        if reason is None and covered.add(file.unit):
            kept.append(file.unit)
        else:
            superseded.append(Superseded(file, reason or "with rows that other files hold too"))
    return kept, superseded


def _why_superseded(file: OutputFile, current: Mapping[str, InputFile], job: Job) -> str | None:
    if file.job != job.fingerprint:
        same_name = file.model_id == mask(job.model_id)
        return f"of model {file.model_id}" + (" with other content or another configuration" if same_name else "")
    if any(part.path not in current for part in file.unit.slices):
        return "of input that is gone"
    if any(part.file != current[part.path] for part in file.unit.slices):
        return "of input that has changed"
    return None


def _earlier_units(
    output: Folder, files: Iterable[InputFile], job: Job, limits: Limits, covered: Coverage
) -> list[Unit]:
    """Units that an unfinished run planned and did not do; two drivers on one OUTPUT then work on the same names."""
    record = read_json(output, PLAN)
    if record is None or record["limit"] is not None or record["limits"] != [limits.num_rows, limits.num_bytes]:
        return []
    if record["job"]["fingerprint"] != job.fingerprint:
        return []
    current = {file.path: file for file in files}
    units = [Unit.from_json(entry["unit"]) for entry in record["files"]]
    alive = [unit for unit in units if all(current.get(part.path) == part.file for part in unit.slices)]
    return [unit for unit in alive if covered.add(unit)]


def _cut_runs(files: Iterable[InputFile], usable: Mapping[str, Shard], covered: Coverage, limits: Limits) -> list[Unit]:
    """Only files that follow each other go together, so that a unit never reaches over rows of another one."""
    units: list[Unit] = []
    for is_open, run in groupby(files, key=lambda file: file.path in usable):
        if is_open:
            units += cut([usable[file.path] for file in run], covered, limits)
    return units


def _limited(named: Mapping[str, Unit], done: Collection[str], limit: int, job: Job) -> dict[str, Unit]:
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
