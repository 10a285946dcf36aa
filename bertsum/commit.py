"""The protocol of a run over OUTPUT, in the order in which it must happen.

    begin    _SUCCESS goes, the plan is written
    ...      units appear, each whole (bertsum.storage.create_exclusive)
    finish   OUTPUT holds exactly what was planned -> manifest -> superseded files go -> _SUCCESS

Killed between any two of these steps, the same command goes on from what exists: units are never made twice, and
whoever reads by the manifest sees the old result until the new manifest replaces it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bertsum.errors import IncompleteError, OutputError
from bertsum.output import (
    FAILURES,
    MANIFEST,
    PLAN,
    SUCCESS,
    Counts,
    FileRecord,
    Job,
    manifest_json,
    manifest_records,
    read_back,
    read_json,
    totals,
    write_json,
)
from bertsum.plan import Plan, Superseded, plan_json
from bertsum.schema import Status
from bertsum.storage import Folder, mask
from bertsum.units import Limits


@dataclass(frozen=True, slots=True)
class Failure:
    """Work that a run could not do: the input files, why, and how often it was tried."""

    files: Sequence[str]
    reason: str
    attempts: int
    unit: str | None = None  # None: the file could not even be planned


def is_finished(output: Folder, plan: Plan) -> bool:
    """Whether nothing at all is left to do, not even the records at the end."""
    if plan.missing or plan.superseded or plan.problems:
        return False
    if plan.limit is not None:
        return True
    manifest = read_json(output, MANIFEST)
    listed = {entry["name"] for entry in manifest["files"]} if manifest else set()
    return output.info(SUCCESS) is not None and listed == plan.units.keys()


def begin(output: Folder, plan: Plan, job: Job, source: str, limits: Limits) -> None:
    """Say that the result is not complete any more, then what the run is going to do."""
    output.remove(SUCCESS)
    write_json(output, PLAN, plan_json(plan, job, source, limits))


def record_failures(output: Folder, failures: Sequence[Failure]) -> None:
    """Write what could not be done, for `status` and for whoever mends it."""
    entries = [asdict(failure) | {"files": [mask(path) for path in failure.files]} for failure in failures]
    write_json(output, FAILURES, {"failures": entries})


def finish(
    output: Folder, plan: Plan, job: Job, source: str, reports: Mapping[str, FileRecord], max_error_fraction: float
) -> Counts:
    """Records and clean-up after the last unit; returns the totals of OUTPUT.

    `reports` are of this run. A try-out (`plan.limit`) ends without manifest and _SUCCESS: it is not the result.
    """
    _check_listing(output, plan.units, plan.superseded)
    records = _all_records(output, plan.units, reports)
    counts = totals(records)
    _check_errors(counts, max_error_fraction)
    if plan.limit is not None:
        return counts
    files = list(zip(plan.units.values(), records, strict=True))
    write_json(output, MANIFEST, manifest_json(job, source, files))
    for entry in plan.superseded:
        output.remove(entry.file.name)
    output.remove(FAILURES)
    output.sweep_temporary()
    output.write_replace(SUCCESS, b"")
    return counts


def _check_listing(output: Folder, planned: Iterable[str], superseded: Iterable[Superseded]) -> None:
    expected, present = set(planned), set(output.list_names()) - {entry.file.name for entry in superseded}
    if missing := sorted(expected - present):
        raise OutputError(f"{len(missing)} file(s) vanished from OUTPUT {output} during the run: {mask(missing[0])}")
    if others := sorted(present - expected):
        raise OutputError(
            f"{len(others)} file(s) appeared in OUTPUT {output} that this run did not plan, like {mask(others[0])}: is "
            "another run at work there? Run the command again when it has ended"
        )


def _all_records(output: Folder, names: Iterable[str], reports: Mapping[str, FileRecord]) -> list[FileRecord]:
    known = manifest_records(output) | dict(reports)
    unknown = [name for name in names if name not in known]
    known |= {record.name: record for record in read_back(output, unknown)}
    return [known[name] for name in names]


def _check_errors(counts: Counts, max_error_fraction: float) -> None:
    errors = counts.statuses.get(Status.ERROR, 0)
    if counts.rows and errors / counts.rows > max_error_fraction:
        raise IncompleteError(
            f"{errors} of {counts.rows} rows have status `error`, more than max_error_fraction={max_error_fraction} "
            "allows; the column `error` says why. The results stay; there is no manifest and no _SUCCESS"
        )
