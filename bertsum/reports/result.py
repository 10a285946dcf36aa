"""What OUTPUT holds at this moment, by its records: complete files, and what is missing.

A published partition is what its manifest lists. Of one that is not published, only the files that
are there and that its plan names are complete; files of an earlier model beside them are no part of
the result.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError, OutputError
from bertsum.reports.kinds import Rows, rows_of
from bertsum.runs.partitions import inside, partition_of
from bertsum.runs.records import (
    FAILURES,
    MANIFEST,
    PLAN,
    SUCCESS,
    Counts,
    Known,
    OutputFile,
    read_json,
    read_record,
)
from bertsum.runs.times import UnitTime, read_times
from bertsum.storage.folder import Folder, mask

_THREADS = 16  # a record or footer is a small read, so it is latency that threads hide


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """A complete file of results.

    - `written`: Unix time of its last write, where the filesystem tells it.
    - `made`: how it was made, where the job has recorded it.
    - `sha256`: of its bytes; None until a manifest lists it.
    """

    file: OutputFile
    counts: Counts
    written: float | None
    made: UnitTime | None
    sha256: str | None

    @property
    def name(self) -> str:
        return self.file.name


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedWork:
    """What a run could not do: input files, why, and how often it was tried."""

    files: Sequence[str]
    reason: str
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """The complete files of OUTPUT, and what its records say of the run.

    - `input_uri`: INPUT as the records name it, without credentials.
    - `job`: the record of the job that made the newest partition, or all of them.
    - `rows`: what its rows hold.
    - `published`: partitions that readers may take for complete.
    - `missing_units`, `missing_rows`: planned, and not there.
    - `limit`: the rows of a try-out; None: all.
    - `begun`: Unix time when the plan was written, where it is known.
    """

    output: Folder
    input_uri: str
    job: Mapping[str, Any]
    rows: Rows
    files: Sequence[ResultFile]
    published: frozenset[str]
    missing_units: int
    missing_rows: int
    limit: int | None
    failures: Sequence[FailedWork]
    begun: float | None

    @property
    def is_complete(self) -> bool:
        """Whether nothing that was begun is left to do."""
        partitions = {partition_of(entry.name) for entry in self.files}
        is_published = "" in self.published or partitions <= self.published
        return is_published and not self.missing_units and not self.failures

    @property
    def config(self) -> SummarizerConfig:
        """How the texts of INPUT are read; of summaries, all that decides a row."""
        return self.rows.config

    @cached_property
    def first_rows(self) -> list[int]:
        """Number of rows before each file, and before the end: one more than there are files."""
        return list(accumulate((entry.counts.rows for entry in self.files), initial=0))

    @property
    def num_rows(self) -> int:
        return self.first_rows[-1]


def read_result(output: Folder) -> Result:
    """The result that OUTPUT holds.

    Raises ConfigError where it holds none that a page shows, or one of a later version, and
    OutputError for a damaged record.
    """
    listed = output.list_names(also=SUCCESS)
    present = {name for name in listed if name.rpartition("/")[2] != SUCCESS}
    published = frozenset(map(partition_of, listed.keys() - present))
    records = _read_records(output, published)
    if not records.jobs:
        raise ConfigError(
            f"there is no run in {output}: it has no {PLAN}. `report` reads the OUTPUT of "
            "summarize, nightly, backfill, generate and match, also where that is an Iceberg or Delta table; a "
            f"table without OUTPUT's directory _bertsum has too little to tell"
        )
    job = records.jobs[-1]
    rows = rows_of(job["config"], f"the records of {output}")
    if rows is None:
        raise ConfigError(
            f"{output} holds no rows that a page shows: `report` reads the OUTPUT of summarize, "
            "nightly, backfill, generate and match"
        )
    wanted: dict[str, OutputFile] = {}
    missing_units = missing_rows = 0
    for name, file in records.known.files.items():
        if name in present:
            wanted[name] = file
        elif name not in records.known.resting:
            missing_units += 1
            missing_rows += file.unit.num_rows
    ordered = sorted(wanted.values(), key=lambda file: (file.unit.order, file.name))
    return Result(
        output=output,
        input_uri=str(records.input_uri),
        job=job,
        rows=rows,
        files=_with_counts(output, ordered, records.known),
        published=published,
        missing_units=missing_units,
        missing_rows=missing_rows,
        limit=records.limit,
        failures=_read_failures(output, records.directories, present),
        begun=output.modified(PLAN),
    )


@dataclass(slots=True)
class _Records:
    """What the manifests and plans say; `directories` are those that may have failures."""

    known: Known
    jobs: list[Mapping[str, Any]]
    directories: list[str]
    input_uri: str = ""
    limit: int | None = None

    def add(self, record: dict[str, Any], directory: str) -> None:
        self.known.add(record, directory)
        self.jobs.append(record["job"])
        self.input_uri = record["input"]


def _read_records(output: Folder, published: frozenset[str]) -> _Records:
    records = _Records(Known(), [], [])
    if "" in published and (manifest := read_json(output, MANIFEST)):
        # the manifest of a complete run lists the files of all partitions
        records.add(manifest, "")
        return records
    plan = read_json(output, PLAN)
    records.directories.append("")
    if plan is not None:
        # of partitions that were published since, their manifests say what they hold
        files = [e for e in plan["files"] if partition_of(e["name"]) not in published]
        records.add({**plan, "files": files}, "")
        records.limit = plan["limit"]
    ending = f"/{PLAN}"
    planned = [name for name in output.list_names(also=PLAN) if name.endswith(ending)]
    begun = sorted({name.removesuffix(ending) for name in planned} - published)
    records.directories += begun
    names = [inside(directory, MANIFEST) for directory in sorted(published)]
    names += [inside(directory, PLAN) for directory in begun]
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, record in zip(
            names, pool.map(lambda n: read_json(output, n), names), strict=True
        ):
            if record is not None:
                directory = name.removesuffix(MANIFEST).removesuffix(PLAN).rstrip("/")
                records.add(record, directory)
    return records


def _with_counts(output: Folder, files: Sequence[OutputFile], known: Known) -> list[ResultFile]:
    """What is in each file: by a manifest, else by the footer."""
    times = output.write_times()
    made = read_times(output, [""])
    partitions = {partition_of(file.name) for file in files if file.name not in made}
    made |= read_times(output, sorted(partitions - {""}))

    def read(file: OutputFile) -> Counts:
        if file.name in known.records:
            return known.records[file.name].counts
        record = read_record(output, file.name)
        if record is None:
            raise OutputError(
                f"{output}/{mask(file.name)} is damaged: its footer is not of bertsum"
            )
        return record[1]

    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            ResultFile(
                file=file,
                counts=counts,
                written=times.get(file.name),
                made=made.get(file.name),
                sha256=known.records[file.name].sha256 if file.name in known.records else None,
            )
            for file, counts in zip(files, pool.map(read, files), strict=True)
        ]


def _read_failures(
    output: Folder, directories: Sequence[str], present: set[str]
) -> list[FailedWork]:
    failures: list[FailedWork] = []
    for directory in directories:
        record = read_json(output, inside(directory, FAILURES)) or {"failures": []}
        for entry in record["failures"]:
            # a failure of an earlier attempt is past once the unit's file is there
            if not entry["unit"] or inside(directory, entry["unit"]) not in present:
                failures.append(
                    FailedWork(
                        files=[mask(path) for path in entry["files"]],
                        reason=mask(entry["reason"]),
                        attempts=entry["attempts"],
                    )
                )
    return failures
