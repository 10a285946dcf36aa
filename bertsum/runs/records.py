"""OUTPUT: what its files say about themselves, and the records beside them in `_bertsum/`.

    <partition>/<stem>-<first row>-<fingerprint>.parquet   results; the footer's key `bertsum` says of what
    _bertsum/plan.json        the units of the run, written before work begins
    _bertsum/failures.json    what a run could not do; gone once a later run did it
    _bertsum/manifest.json    files, rows, bytes, checksums, statuses: written when every unit exists
    _SUCCESS                  last of all; taken away before new work begins

Each partition's directory has a manifest and a _SUCCESS of its own, with names relative to it; a run that is narrowed
to partitions writes only those, and has its plan and failures there. Names that start with `_` or `.` are no results
for any reader of Parquet directories.
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
from bertsum.config import Config
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
_THREADS = 16


@dataclass(frozen=True, slots=True)
class Job:
    """What beside the input decides the rows: the model, and the part of the configuration that changes rows."""

    model_id: str
    model_digest: str
    config: Config

    @property
    def fingerprint(self) -> str:
        return job_fingerprint(self.model_digest, self.config)

    def to_json(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "model": {"id": mask(self.model_id), "digest": self.model_digest},
            "config": self.config.model_dump(mode="json"),
            "version": __version__,
        }


@dataclass(frozen=True, slots=True)
class Counts:
    """What is in an output file: rows, their tokens, and the rows of its input by status, those left out too."""

    rows: int
    tokens: int
    statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OutputFile:
    """An output file that exists: whose it is (fingerprint and model of its job) and which input it holds."""

    name: str
    unit: Unit
    job: str
    model_id: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One finished output file, as the manifest lists it."""

    name: str
    bytes: int
    sha256: str
    counts: Counts


def encode(
    tables: Sequence[pa.Table], schema: pa.Schema, unit: Unit, job: Job
) -> tuple[pa.Buffer, Counts]:
    """A whole Parquet file in memory. Equal rows give equal bytes: nothing of time or place goes in.

    The tables have columns `status` and `num_tokens`. A `schema` without `status` takes in only the rows that are `ok`.
    """
    table = pa.concat_tables(tables) if tables else _with_status(schema).empty_table()
    statuses = {
        entry["values"]: entry["counts"] for entry in pc.value_counts(table["status"]).to_pylist()
    }
    if "status" not in schema.names:
        table = table.filter(pc.equal(table["status"], Status.OK.value)).select(schema.names)
    counts = Counts(table.num_rows, pc.sum(table["num_tokens"]).as_py() or 0, statuses)
    pieces = (
        table.slice(start, _ROW_GROUP_ROWS) for start in range(0, table.num_rows, _ROW_GROUP_ROWS)
    )
    return write_file(pieces, schema, unit, job, counts), counts


def write_file(
    row_groups: Iterable[pa.Table], schema: pa.Schema, unit: Unit, job: Job, counts: Counts
) -> pa.Buffer:
    """A whole Parquet file in memory, with the footer that says what it is."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in row_groups:
            writer.write_table(table, row_group_size=table.num_rows)
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
    except (KeyError, TypeError, ValueError, IndexError, pa.ArrowException):
        return None


@dataclass(frozen=True, slots=True)
class Known:
    """What the records say of files, by name, whether they exist or not.

    `resting` are superseded files that stay for readers of a table's earlier snapshots, with the Unix time since when.
    """

    files: dict[str, OutputFile] = field(default_factory=dict)
    records: dict[str, FileRecord] = field(default_factory=dict)
    resting: dict[str, float] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any] | None, place: str) -> None:
        """Take in a plan or manifest of the directory `place`."""
        superseded = (record or {}).get("superseded", {})
        self.resting.update({inside(place, name): since for name, since in superseded.items()})
        for entry in record["files"] if record else ():
            job = entry.get("job") or record["job"]  # type: ignore[index]
            unit = Unit.from_json(entry["unit"])
            name = unit_name(unit, job["fingerprint"])
            self.files[name] = OutputFile(name, unit, job["fingerprint"], job["model"]["id"])
            if "sha256" in entry:
                counts = Counts(entry["rows"], entry["tokens"], entry["statuses"])
                self.records[name] = FileRecord(name, entry["bytes"], entry["sha256"], counts)


def read_known(output: Folder, names: Iterable[str], whole: bool) -> Known:
    """What the records know of `names`; those at the top are read only by a run over the whole of OUTPUT."""
    known = Known()
    if whole:
        known.add(read_json(output, PLAN), "")
        known.add(read_json(output, MANIFEST), "")
    places = sorted({partition_of(name) for name in names if name not in known.records} - {""})
    with ThreadPoolExecutor(_THREADS) as pool:
        for place, records in zip(
            places, pool.map(lambda place: _records_in(output, place), places), strict=True
        ):
            for record in records:
                known.add(record, place)
    return known


def _records_in(output: Folder, place: str) -> list[dict[str, Any] | None]:
    return [read_json(output, inside(place, name)) for name in (PLAN, MANIFEST)]


def existing_files(output: Folder, names: Iterable[str], known: Known) -> list[OutputFile]:
    """Whose the files are. The records know most of them; the others' footers are read.

    Raises OutputError when there is a file that is not ours: nothing is written beside somebody else's data.
    """
    names = list(names)
    files = [known.files[name] for name in names if name in known.files]
    others = [name for name in names if name not in known.files]
    with ThreadPoolExecutor(_THREADS) as pool:
        records = list(
            pool.map(lambda name: read_record(output, name) if _is_ours(name) else None, others)
        )
    foreign = [name for name, record in zip(others, records, strict=True) if record is None]
    if foreign:
        shown = ", ".join(mask(name) for name in foreign[:5]) + (" ..." if len(foreign) > 5 else "")
        raise OutputError(
            f"OUTPUT {output} holds {len(foreign)} file(s) that bertsum did not write, or that are damaged: {shown}; "
            "choose an empty directory, or remove them"
        )
    return files + [record[0] for record in records if record is not None]


def read_json(output: Folder, name: str) -> dict[str, Any] | None:
    """A record of `_bertsum/`, or None when there is none."""
    if output.info(name) is None:
        return None
    try:
        record = json.loads(output.read_bytes(name))
    except ValueError as error:
        raise OutputError(
            f"{output}/{name} is damaged ({error}); remove it, it is made again"
        ) from error
    if not isinstance(record, dict):
        raise OutputError(
            f"{output}/{name} is damaged (not a JSON object); remove it, it is made again"
        )
    return record


def write_json(output: Folder, name: str, record: Mapping[str, Any]) -> None:
    """Write a record of `_bertsum/`, atomically."""
    output.write_replace(name, json.dumps(record, indent=1, sort_keys=False).encode("ascii"))


def read_back(output: Folder, names: Sequence[str]) -> list[FileRecord]:
    """Records of files whose reports nobody has any more: an earlier run made them and was killed."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda name: _read_back(output, name), names))


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
    place: str,
    files: Sequence[tuple[OutputFile, FileRecord]],
    resting: Mapping[str, float],
) -> dict[str, Any]:
    """The manifest of the directory `place`: totals, then the files in the order of the input.

    A file that is kept of another job (its input is gone) says which; `resting` see `Known`.
    """
    records = [record for _, record in files]
    return {
        "input": mask(source),
        "job": job.to_json(),
        **asdict(add_counts(record.counts for record in records)),
        "bytes": sum(record.bytes for record in records),
        "files": [_entry(file, record, place) | _job_of(file, job) for file, record in files],
    } | (
        {"superseded": {_within(place, name): since for name, since in resting.items()}}
        if resting
        else {}
    )


def _within(place: str, name: str) -> str:
    return name.removeprefix(inside(place, ""))


def _entry(file: OutputFile, record: FileRecord, place: str) -> dict[str, Any]:
    facts = {"name": _within(place, record.name), "bytes": record.bytes, "sha256": record.sha256}
    return facts | asdict(record.counts) | {"unit": file.unit.to_json()}


def _job_of(file: OutputFile, job: Job) -> dict[str, Any]:
    if file.job == job.fingerprint:
        return {}
    return {"job": {"fingerprint": file.job, "model": {"id": file.model_id}}}


def _with_status(schema: pa.Schema) -> pa.Schema:
    return schema if "status" in schema.names else schema.append(pa.field("status", pa.string()))


def _is_ours(name: str) -> bool:
    return _OUR_NAME.fullmatch(name.rpartition("/")[2]) is not None


def _read_back(output: Folder, name: str) -> FileRecord:
    info, found = output.info(name), read_record(output, name)
    if info is None or found is None:
        raise OutputError(f"{output}/{mask(name)} vanished or was damaged after it was written")
    return FileRecord(name, info.size, output.sha256(name), found[1])
