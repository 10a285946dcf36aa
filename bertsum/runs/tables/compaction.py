"""Small files of a table put together, so that a query opens few.

Units are small, since a unit is what a kill costs; files of a table should be big. So before a
partition is committed, small files that follow each other become one; no row is computed again.
That file is the result of the unit which their units make together, and has its name. So for a
plan, a manifest or a table it is a file as any other, and those that it was made of repeat its
rows. Whoever puts the same files together makes the same file.

The small files go once the manifest of their partition lists the big one. What that means for
another run that is at work there see `bertsum.runs.concurrent_runs`.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.runs.input import read_schema, reading
from bertsum.runs.partitions import partition_of
from bertsum.runs.plan import Plan
from bertsum.runs.records import (
    FOOTER_KEY,
    FileRecord,
    Job,
    add_counts,
    read_back,
    write_file,
)
from bertsum.runs.units import Unit, joined, unit_name
from bertsum.storage.folder import Folder

_SMALL = 4  # a file is small when it is this many times smaller than files should be
_ROW_GROUP_ROWS = 100_000
_THREADS = 16  # small files are latency, not work


def compact(
    output: Folder,
    plan: Plan,
    *,
    job: Job,
    records: Mapping[str, FileRecord],
    file_bytes: int,
) -> tuple[Plan, dict[str, FileRecord]]:
    """The plan and its records after small files of open partitions were put together.

    `file_bytes`: about the size of the files that come of them, at most.
    """
    units, records, repeated = dict(plan.units), dict(records), set(plan.repeated)
    for names in _alike(output, _groups(plan, records, file_bytes)):
        unit = joined([units[name] for name in names])
        name = unit_name(unit, job.fingerprint)
        # another run may have put the same files together already
        if output.info(name) is None:
            record = _put_together(output, name, job, unit, [records[small] for small in names])
        else:
            record = read_back(output, [name])[0]
        # from here on the plan is as if the big unit had been planned and done from the start
        for small in names:
            del units[small], records[small]
        units[name], records[name] = unit, record
        repeated.update(names)
    ordered = dict(sorted(units.items(), key=lambda item: item[1].order))
    done = plan.done - repeated | (ordered.keys() - plan.units.keys())
    return replace(plan, units=ordered, done=done, repeated=frozenset(repeated)), records


def _groups(plan: Plan, records: Mapping[str, FileRecord], file_bytes: int) -> Iterator[list[str]]:
    """Names of small files that follow each other in a partition, as many as make one file."""
    is_open = set(plan.open_partitions)
    for partition, names in groupby(plan.units, key=partition_of):
        together: list[str] = []
        for name in names if partition in is_open else ():
            is_small = records[name].bytes * _SMALL < file_bytes
            size = sum(records[other].bytes for other in together) + records[name].bytes
            if together and (not is_small or size > file_bytes):
                yield together
                together = []
            # a big file ends the group: files go together only if no row lies between them
            if is_small:
                together.append(name)
        yield together


def _alike(output: Folder, groups: Iterator[list[str]]) -> Iterator[list[str]]:
    """The groups, cut where the columns change; those of one file are left out."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for group in groups:
            read = pool.map(lambda name: read_schema(output, name), group)
            schemas = dict(zip(group, read, strict=True))
            for _, names in groupby(group, key=lambda name: schemas[name].remove_metadata()):
                if len(alike := list(names)) > 1:
                    yield alike


def _put_together(
    output: Folder, name: str, job: Job, unit: Unit, small: Sequence[FileRecord]
) -> FileRecord:
    counts = add_counts(record.counts for record in small)
    schema = read_schema(output, small[0].name)
    metadata = dict(schema.metadata or {})
    metadata.pop(FOOTER_KEY, None)  # of the small file; the big one gets its own
    schema = schema.with_metadata(metadata or None)
    data = write_file(_tables(output, small), schema, unit, job, counts)
    # another run may have been faster, and its bytes are the record's
    if not output.create_exclusive(name, memoryview(data)):
        return read_back(output, [name])[0]
    return FileRecord(name, data.size, sha256(data).hexdigest(), counts)


def _tables(output: Folder, small: Sequence[FileRecord]) -> Iterator[pa.Table]:
    """Their rows in pieces of a row group; _THREADS files are read at once."""

    def read(record: FileRecord) -> pa.Table:
        with reading(output, record.name), output.open(record.name) as stream:
            return pq.ParquetFile(stream, page_checksum_verification=True).read(use_threads=False)

    waiting: list[pa.Table] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(small), _THREADS):
            waiting += pool.map(read, small[start : start + _THREADS])
            if sum(table.num_rows for table in waiting) >= _ROW_GROUP_ROWS:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
