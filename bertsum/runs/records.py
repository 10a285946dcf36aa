"""OUTPUT: what its files say about themselves, and the records beside them in `_bertsum/`.

    <partition>/<stem>-<first row>-<fingerprint>.parquet
                              results; the footer's key `bertsum` says of what
    _bertsum/plan.json        the units of the run, written before work begins
    _bertsum/times.json       when units were made; see `bertsum.runs.times`
    _bertsum/failures.json    what a run could not do; gone once a later run did it
    _bertsum/manifest.json    files, rows, bytes, checksums, statuses: once every unit exists
    _SUCCESS                  last of all; taken away before new work begins

Each partition's directory has a manifest and a _SUCCESS of its own, with names relative to it. A
run that is narrowed to partitions writes only those, and has its plan and failures there. Names
that start with `_` or `.` are no results for any reader of Parquet directories.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsum import __version__
from bertsum.checks.profile import Profile
from bertsum.config_base import Config
from bertsum.errors import OutputError
from bertsum.runs.partitions import inside, partition_of
from bertsum.runs.units import Unit, job_fingerprint, unit_name
from bertsum.schema import Status
from bertsum.storage.folder import Folder, mask

PLAN = "_bertsum/plan.json"
FAILURES = "_bertsum/failures.json"
MANIFEST = "_bertsum/manifest.json"
SUCCESS = "_SUCCESS"
FOOTER_KEY = b"bertsum"
_OUR_NAME = re.compile(r".+-\d{9,}-[0-9a-f]{16}\.parquet")
_ROW_GROUP_ROWS = 5000
_THREADS = 16  # a footer or record is a small read, so it is latency that threads hide


@dataclass(frozen=True, slots=True)
class Job:
    """What decides the rows beside the input: the model and the hashed configuration.

    `then`: the second stage, which reads the rows of this one; the rows of a result are of both.
    """

    model_id: str
    model_digest: str
    config: Config
    then: "Job | None" = None

    @property
    def fingerprint(self) -> str:
        digest = self.model_digest
        if self.then is not None:
            digest += self.then.fingerprint
        return job_fingerprint(digest, self.config)

    def to_json(self) -> dict[str, Any]:
        record = {
            "fingerprint": self.fingerprint,
            "model": {"id": mask(self.model_id), "digest": self.model_digest},
            "config": self.config.model_dump(mode="json"),
            "version": __version__,
        }
        # without a second stage the footers of earlier versions have no such key, nor has this one
        return record if self.then is None else record | {"then": self.then.to_json()}


@dataclass(frozen=True, slots=True)
class Counts:
    """What is in an output file: rows, their tokens, and the rows of its input by status.

    `statuses` counts the rows that were left out, too.
    """

    rows: int
    tokens: int
    statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedColumns:
    """Names of the columns of results that `Counts` are made of.

    `then_status`: of the second stage. It counts for a row whose first stage is `ok`.
    """

    status: str = "status"
    tokens: str = "num_tokens"
    then_status: str | None = None


COUNTED_COLUMNS = CountedColumns()


@dataclass(frozen=True, slots=True)
class OutputFile:
    """An output file that exists: fingerprint and model of its job, and which input it holds."""

    name: str
    unit: Unit
    job: str
    model_id: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One finished output file, as the manifest lists it.

    `profile`: what its rows are like, where the replica that made it was asked.
    """

    name: str
    bytes: int
    sha256: str
    counts: Counts
    profile: Profile | None = None


def encode(
    tables: Sequence[pa.Table],
    schema: pa.Schema,
    unit: Unit,
    job: Job,
    *,
    counted: CountedColumns = COUNTED_COLUMNS,
) -> tuple[pa.Buffer, Counts]:
    """A whole Parquet file in memory. Equal rows give equal bytes: it holds no time and no path.

    The tables have the columns of `counted`. A `schema` without the status takes in only the rows
    that are `ok`.
    """
    has_status = counted.status in schema.names
    if tables:
        table = pa.concat_tables(tables)
    else:
        columns = schema if has_status else schema.append(pa.field(counted.status, pa.string()))
        table = columns.empty_table()
    status = table[counted.status]
    is_ok = pc.equal(status, Status.OK.value)
    if counted.then_status is not None:
        status = pc.if_else(is_ok, table[counted.then_status], status)
    statuses: dict[str, int] = {}
    for entry in pc.value_counts(status).to_pylist():
        statuses[entry["values"]] = entry["counts"]
    if not has_status:
        table = table.filter(is_ok).select(schema.names)
    counts = Counts(table.num_rows, pc.sum(table[counted.tokens]).as_py() or 0, statuses)
    starts = range(0, table.num_rows, _ROW_GROUP_ROWS)
    pieces = (table.slice(start, _ROW_GROUP_ROWS) for start in starts)
    return write_file(pieces, schema, unit, job, counts), counts


def write_file(
    row_groups: Iterable[pa.Table], schema: pa.Schema, unit: Unit, job: Job, counts: Counts
) -> pa.Buffer:
    """A whole Parquet file in memory, with the footer that says what it is."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in row_groups:
            writer.write_table(table, row_group_size=table.num_rows)
        # sorted, so that equal rows give equal bytes
        record = {"job": job.to_json(), "unit": unit.to_json(), **asdict(counts)}
        writer.add_key_value_metadata({FOOTER_KEY.decode(): json.dumps(record, sort_keys=True)})
    return sink.getvalue()


def read_record(output: Folder, name: str) -> tuple[OutputFile, Counts] | None:
    """What the footer says, or None when the file is not one of ours, or damaged."""
    try:
        with output.open(name) as stream:
            record = json.loads((pq.read_metadata(stream).metadata or {})[FOOTER_KEY])
        unit, job = Unit.from_json(record["unit"]), record["job"]
        file = OutputFile(name, unit, job["fingerprint"], job["model"]["id"])
        return file, Counts(record["rows"], record["tokens"], record["statuses"])
    # whatever a damaged footer, or one of another program with our key, makes of these lines
    except (KeyError, TypeError, ValueError, IndexError, pa.ArrowException):
        return None


@dataclass(frozen=True, slots=True)
class Known:
    """What the records say of files, by name, whether they exist or not.

    `resting`: superseded files that stay for readers of a table's earlier snapshots, with the Unix
    time since when.
    """

    files: dict[str, OutputFile] = field(default_factory=dict)
    records: dict[str, FileRecord] = field(default_factory=dict)
    resting: dict[str, float] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any] | None, directory: str) -> None:
        """Take in the plan or manifest of a directory, if it has one."""
        if record is None:
            return
        for name, since in record.get("superseded", {}).items():
            self.resting[inside(directory, name)] = since
        for entry in record["files"]:
            # a file that was kept of another job says which; see `manifest_json`
            job = entry.get("job") or record["job"]
            unit = Unit.from_json(entry["unit"])
            # entries have names relative to their directory; the whole one follows from the unit
            name = unit_name(unit, job["fingerprint"])
            self.files[name] = OutputFile(name, unit, job["fingerprint"], job["model"]["id"])
            if "sha256" in entry:  # in a manifest, not in a plan
                counts = Counts(entry["rows"], entry["tokens"], entry["statuses"])
                self.records[name] = FileRecord(name, entry["bytes"], entry["sha256"], counts)


def read_known(output: Folder, names: Iterable[str], whole: bool) -> Known:
    """What the records know of `names`.

    `whole`: read the records at the top of OUTPUT, too, which a run over all partitions writes.
    """
    known = Known()
    if whole:
        known.add(read_json(output, PLAN), "")
        known.add(read_json(output, MANIFEST), "")
    unknown = [name for name in names if name not in known.records]
    directories = sorted({partition_of(name) for name in unknown} - {""})

    def read(directory: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        plan = read_json(output, inside(directory, PLAN))
        return plan, read_json(output, inside(directory, MANIFEST))

    with ThreadPoolExecutor(_THREADS) as pool:
        for directory, records in zip(directories, pool.map(read, directories), strict=True):
            for record in records:  # the manifest last: what it says of a file wins
                known.add(record, directory)
    return known


def existing_files(output: Folder, names: Iterable[str], known: Known) -> list[OutputFile]:
    """Whose the files are. The records know most of them; the others' footers are read.

    Raises OutputError when there is a file that is not ours: nothing is written beside somebody
    else's data.
    """
    files: list[OutputFile] = []
    others: list[str] = []
    for name in names:
        if name in known.files:
            files.append(known.files[name])
        else:
            others.append(name)

    def read(name: str) -> tuple[OutputFile, Counts] | None:
        # another name is not even opened: the file may be big, and somebody else's
        is_ours = _OUR_NAME.fullmatch(name.rpartition("/")[2]) is not None
        return read_record(output, name) if is_ours else None

    foreign: list[str] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, record in zip(others, pool.map(read, others), strict=True):
            if record is None:
                foreign.append(name)
            else:
                files.append(record[0])
    if foreign:
        shown = ", ".join(map(mask, foreign[:5])) + (" ..." if len(foreign) > 5 else "")
        raise OutputError(
            f"OUTPUT {output} holds {len(foreign)} file(s) that bertsum did not write, or that are "
            f"damaged: {shown}; choose an empty directory, or remove them"
        )
    return files


def read_json(output: Folder, name: str) -> dict[str, Any] | None:
    """A record of `_bertsum/`, or None when there is none."""
    if output.info(name) is None:
        return None
    try:
        record = json.loads(output.read_bytes(name))
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
    except ValueError as error:
        damage = f"{output}/{name} is damaged ({error}); remove it, it is made again"
        raise OutputError(damage) from error
    return record


def write_json(output: Folder, name: str, record: Mapping[str, Any]) -> None:
    """Write a record of `_bertsum/`, atomically."""
    output.write_replace(name, json.dumps(record, indent=1, sort_keys=False).encode("ascii"))


def read_back(output: Folder, names: Sequence[str]) -> list[FileRecord]:
    """Records of files that an earlier run made, which was killed: no report of them is left.

    Raises OutputError for a file that is gone or damaged.
    """

    def read(name: str) -> FileRecord:
        info, record = output.info(name), read_record(output, name)
        if info is None or record is None:
            raise OutputError(f"{output}/{mask(name)} vanished or was damaged after it was written")
        _, counts = record
        return FileRecord(name, info.size, output.sha256(name), counts)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(read, names))


def add_counts(parts: Iterable[Counts]) -> Counts:
    """Their sum; statuses in the order of their first appearance."""
    rows = tokens = 0
    statuses: Counter[str] = Counter()
    for counts in parts:
        rows, tokens = rows + counts.rows, tokens + counts.tokens
        statuses.update(counts.statuses)
    return Counts(rows, tokens, dict(statuses))


def manifest_json(
    job: Job,
    source: str,
    directory: str,
    files: Sequence[tuple[OutputFile, FileRecord]],
    resting: Mapping[str, float],
) -> dict[str, Any]:
    """The manifest of a directory: totals, then the files in the order of the input.

    - `source`: INPUT, as the user named it
    - `files`: of the directory, with their records
    - `resting`: superseded files that stay for a while, see `Known`

    A file that is kept of another job, since its input is gone, says which.
    """
    entries: list[dict[str, Any]] = []
    for file, record in files:
        entry: dict[str, Any] = {
            "name": record.name.removeprefix(inside(directory, "")),
            "bytes": record.bytes,
            "sha256": record.sha256,
            **asdict(record.counts),
            "unit": file.unit.to_json(),
        }
        if file.job != job.fingerprint:
            entry["job"] = {"fingerprint": file.job, "model": {"id": file.model_id}}
        entries.append(entry)
    manifest: dict[str, Any] = {
        "input": mask(source),
        "job": job.to_json(),
        **asdict(add_counts(record.counts for _, record in files)),
        "bytes": sum(record.bytes for _, record in files),
        "files": entries,
    }
    if resting:
        relative = {name.removeprefix(inside(directory, "")): resting[name] for name in resting}
        manifest["superseded"] = relative
    return manifest
