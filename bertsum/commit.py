"""The protocol of a run over OUTPUT, in the order in which it must happen.

    begin    _SUCCESS goes, the plan is written
    ...      units appear, each whole (bertsum.storage.create_exclusive)
    finish   OUTPUT holds exactly what was planned -> manifests -> superseded files go -> _SUCCESS

A run over the whole of INPUT does it once, for all partitions at the end. A run that is narrowed to partitions does it
for each partition by itself, as soon as its last unit is there; so old days stay complete while new ones are made.

Killed between any two of these steps, the same command goes on from what exists: units are never made twice, and
whoever reads by the manifest sees the old result until the new manifest replaces it.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from bertsum.compaction import compact
from bertsum.errors import IncompleteError, OutputError
from bertsum.lake import Lake
from bertsum.output import (
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
from bertsum.plan import Plan, plan_json
from bertsum.schema import Status
from bertsum.scope import inside, partition_of
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
    if plan.missing or plan.superseded or plan.repeated or plan.problems or plan.expired:
        return False
    if plan.limit is not None:
        return True
    if plan.open_partitions or not plan.scope.is_all:
        return not plan.open_partitions
    manifest = read_json(output, MANIFEST)
    listed = {entry["name"] for entry in manifest["files"]} if manifest else set()
    return output.info(SUCCESS) is not None and listed == {*plan.units, *plan.retained}


def begin(output: Folder, plan: Plan, job: Job, source: str, limits: Limits) -> None:
    """Say that the result is not complete any more, then what the run is going to do."""
    output.remove(SUCCESS)
    for place in plan.open_partitions:
        if place in plan.published:
            output.remove(inside(place, SUCCESS))
        if not plan.scope.is_all:
            part = plan.only({place})
            write_json(output, inside(place, PLAN), plan_json(part, job, source, limits, place))
    if plan.scope.is_all:
        write_json(output, PLAN, plan_json(plan, job, source, limits))


def record_failures(output: Folder, failures: Sequence[Failure], place: str = "") -> None:
    """Write what could not be done, for `status` and for whoever mends it."""
    entries = [asdict(failure) | {"files": [mask(path) for path in failure.files]} for failure in failures]
    write_json(output, inside(place, FAILURES), {"failures": entries})


def finish(
    output: Folder,
    plan: Plan,
    job: Job,
    source: str,
    reports: Mapping[str, FileRecord],
    max_error_fraction: float,
    lake: Lake | None = None,
) -> Counts:
    """Records and clean-up after the last unit; returns the totals of the plan's files.

    `reports` are of this run; one whose file has another name than its unit says that another run put the unit together
    with others. A try-out (`plan.limit`) ends without manifest and _SUCCESS: it is not the result. The
    small files of a table (`lake`) are put together first. What leaves the table stays for a while: a query that is at
    work reads the snapshot from before.

    Raises OutputError when OUTPUT holds something else than planned. Of a table that may be because another run did the
    same work and put the files together: a new plan then says what is left to do.
    """
    listed = _list(output, plan)
    records = _all_records(output, plan, plan.files(job), reports)
    counts = add_counts(record.counts for record in records.values())
    _check_errors(counts, max_error_fraction)
    places = sorted({*plan.open_partitions, *([""] if plan.scope.is_all else [])}, reverse=True)
    if lake and plan.limit is None:
        _withdraw(output, plan.open_partitions and places)  # another run's _SUCCESS, older than what is made now
        plan, records = compact(output, plan, job, records, lake.file_bytes)
        _look_again(output, plan, places)
    else:
        _refuse_others(output, plan, listed)
    if plan.limit is not None:
        return counts
    files = plan.files(job)
    superseded = [*(entry.file.name for entry in plan.superseded), *sorted(plan.repeated)]
    resting = dict(plan.resting) | (dict.fromkeys(lake.holds(superseded), time.time()) if lake else {})
    for place in places:
        _write_manifest(output, place, [(file, records[name]) for name, file in files.items()], resting, job, source)
    if lake:
        lake.publish(
            records, plan.open_partitions, {"bertsum.job": job.fingerprint, "bertsum.model": mask(job.model_id)}
        )
    if superseded and not plan.scope.is_all:
        output.remove(MANIFEST)  # the one of an earlier run over everything lists files that go now
    for name in [*plan.expired, *(name for name in superseded if name not in resting)]:
        output.remove(name)
    if lake:
        _look_again(output, plan, places)
    for place in places:
        _close(output, place, {partition_of(name) for name in files})
    return counts


def _write_manifest(
    output: Folder,
    place: str,
    files: Sequence[tuple[OutputFile, FileRecord]],
    resting: Mapping[str, float],
    job: Job,
    source: str,
) -> None:
    chosen = [entry for entry in files if place in ("", partition_of(entry[0].name))]
    rests = {name: since for name, since in resting.items() if place in ("", partition_of(name))}
    if chosen or rests or not place:
        write_json(output, inside(place, MANIFEST), manifest_json(job, source, place, chosen, rests))
    else:
        output.remove(inside(place, MANIFEST))


def _close(output: Folder, place: str, partitions: Collection[str]) -> None:
    """What comes after the manifest of a directory; a partition that has no file any more has no _SUCCESS either."""
    output.remove(inside(place, FAILURES))
    output.sweep_temporary(place)
    if not place or place in partitions:
        output.write_replace(inside(place, SUCCESS), b"")


def _list(output: Folder, plan: Plan) -> set[str]:
    """The results that are there, in the directories that the plan is about. Raises OutputError when one is missing."""
    places = {partition_of(name) for name in _expected(plan) | plan.outdated}
    names = plan.scope.list_names(output)
    listed = {name for name in names if plan.scope.is_all or partition_of(name) in places}
    if missing := sorted(_expected(plan) - listed):
        raise OutputError(f"{len(missing)} file(s) vanished from OUTPUT {output} during the run: {mask(missing[0])}")
    return listed


def _refuse_others(output: Folder, plan: Plan, listed: set[str]) -> None:
    if others := sorted(listed - _expected(plan) - plan.outdated):
        raise OutputError(
            f"{len(others)} file(s) appeared in OUTPUT {output} that this run did not plan, like {mask(others[0])}: is "
            "another run at work there? Run the command again when it has ended"
        )


def _look_again(output: Folder, plan: Plan, places: Collection[str]) -> None:
    """Two runs may cut or put together differently: whichever made its files later sees the other's here.

    Nothing then stands for complete before a run has brought the two together.
    """
    try:
        _refuse_others(output, plan, _list(output, plan))
    except OutputError:
        _withdraw(output, places)
        raise


def _withdraw(output: Folder, places: Collection[str]) -> None:
    for place in places:
        output.remove(inside(place, SUCCESS))


def _expected(plan: Plan) -> set[str]:
    return {*plan.units, *plan.retained}


def _all_records(
    output: Folder, plan: Plan, names: Collection[str], reports: Mapping[str, FileRecord]
) -> dict[str, FileRecord]:
    known = {name: record for name, record in reports.items() if record.name == name}
    if unreported := [name for name in names if name not in known]:
        known = read_known(output, unreported, plan.scope.is_all).records | known
    known |= {record.name: record for record in read_back(output, [name for name in names if name not in known])}
    return {name: known[name] for name in names}


def _check_errors(counts: Counts, max_error_fraction: float) -> None:
    errors = counts.statuses.get(Status.ERROR, 0)
    if counts.rows and errors / counts.rows > max_error_fraction:
        raise IncompleteError(
            f"{errors} of {counts.rows} rows have status `error`, more than max_error_fraction={max_error_fraction} "
            "allows; the column `error` says why. The results stay; there is no manifest and no _SUCCESS"
        )
