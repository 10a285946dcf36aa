"""The counts of each file of results, kept beside them, so that a file is read once.

    OUTPUT/_bertsum/trends/<digest>.counts     one for each choice of columns

It holds the SHA-256 of what follows, then an Arrow file, so that a damaged one is never believed.
A file's counts are found by its name and the SHA-256 of its bytes. What was counted is part of the
digest, so that another choice has another state. Readers of OUTPUT pass over `_bertsum`, and its
suffix is none that `**/*.parquet` finds.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from bertsum.errors import ConfigError, OutputError
from bertsum.reports.result import Result, ResultFile
from bertsum.runs.partitions import partition_of
from bertsum.storage.folder import Folder
from bertsum.trends.config import TrendsConfig
from bertsum.trends.counts import COUNTS, add_counts, count_file
from bertsum.trends.series import ALL_ROWS

STATE = "_bertsum/trends"
_FORMAT = 2  # another number where the same choice gives other counts
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_THREADS = 4
_STATE = pa.schema([pa.field("file", pa.string()), pa.field("sha256", pa.string()), *COUNTS])


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Counts of all published files of a result.

    - `counts`: COUNTS, with a day
    - `num_read`, `num_kept`: files that were read now, and those whose counts were kept
    - `num_unpublished`: partitions that are left out, since they are not complete
    - `without_day`: rows
    - `problem`: why the state could not be kept, or None
    - `damaged`: the state that was damaged, and was made again from all files, or None
    """

    counts: pa.Table
    num_read: int
    num_kept: int
    num_unpublished: int
    without_day: int
    problem: str | None
    damaged: str | None = None


def count_result(result: Result, config: TrendsConfig, *, keep_state: bool = True) -> Counted:
    """Count what is published; files whose counts are kept are not read again.

    Raises ConfigError where nothing is published, where rows are no summaries, or no file has one of the columns, and
    InputError for a damaged file.
    """
    if result.rows.kind != "summaries":
        raise ConfigError(f"{result.output} holds {result.rows.kind}; trends are of summaries")
    is_whole = "" in result.published
    files = [f for f in result.files if is_whole or partition_of(f.name) in result.published]
    if not files:
        raise ConfigError(
            f"{result.output} has no complete partition yet; `bertsum status` says what is missing"
        )
    name = f"{STATE}/{_digest(result, config)}.counts"
    state_before = read_state(result.output, name) if keep_state else _STATE.empty_table()
    before = _STATE.empty_table() if state_before is None else state_before
    # counts of files that OUTPUT has with the same bytes
    wanted = pa.array([f"{file.sha256 or ''} {file.name}" for file in files], pa.string())
    having = pc.binary_join_element_wise(before["sha256"], before["file"], " ")
    kept = before.filter(pc.is_in(having, value_set=wanted))
    known = set(kept["file"].unique().to_pylist())
    new = [file for file in files if file.name not in known]
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(lambda file: _count(result, file, config), new))
    state = pa.concat_tables([kept, *tables])
    problem = None
    if keep_state and (new or kept.num_rows < before.num_rows):
        problem = write_state(result.output, name, state)
    counts = add_counts(state.select(COUNTS.names))
    _check_columns(counts, config, result.output)
    is_all = pc.equal(counts["column"], ALL_ROWS.column)
    without_day = counts.filter(pc.and_(is_all, pc.is_null(counts["day"])))["rows"]
    all_partitions = {partition_of(file.name) for file in result.files}
    return Counted(
        counts=counts.filter(pc.is_valid(counts["day"])),
        num_read=len(new),
        num_kept=len(known),
        num_unpublished=len(all_partitions - {partition_of(file.name) for file in files}),
        without_day=pc.sum(without_day).as_py() or 0,
        problem=problem,
        damaged=f"{result.output}/{name}" if state_before is None else None,
    )


def _digest(result: Result, config: TrendsConfig) -> str:
    """Of what is counted."""
    # the names of columns in files follow from the configuration of the run
    names = result.config.output.model_dump(mode="json")
    choice = [_FORMAT, config.time, config.time_zone, config.by, names]
    return hashlib.sha256(json.dumps(choice, sort_keys=True).encode()).hexdigest()[:16]


def read_state(output: Folder, name: str) -> pa.Table | None:
    """The state, an empty one where there is none, and None for a damaged one."""
    if output.info(name) is None:
        return _STATE.empty_table()
    data = output.read_bytes(name)
    if hashlib.sha256(data[_CHECKSUM_BYTES:]).digest() != data[:_CHECKSUM_BYTES]:
        return None
    with pa.ipc.open_file(pa.py_buffer(data)[_CHECKSUM_BYTES:]) as reader:
        return reader.read_all().cast(_STATE)


def write_state(output: Folder, name: str, state: pa.Table) -> str | None:
    """Keep the state. Returns why that is not possible: it only makes the next look slower."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, _STATE, options=options) as writer:
        writer.write_table(state)
    data = sink.getvalue().to_pybytes()
    try:
        output.write_replace(name, hashlib.sha256(data).digest() + data)
    except OutputError as error:
        return str(error)
    return None


def _count(result: Result, file: ResultFile, config: TrendsConfig) -> pa.Table:
    counts = count_file(result, file.name, config)
    columns = [
        pa.repeat(pa.scalar(file.name, pa.string()), counts.num_rows),
        pa.repeat(pa.scalar(file.sha256 or "", pa.string()), counts.num_rows),
    ]
    return pa.Table.from_arrays([*columns, *counts.columns], schema=_STATE)


def _check_columns(counts: pa.Table, config: TrendsConfig, output: Folder) -> None:
    """Raise ConfigError for a chosen column that groups no row; those of the default may."""
    if "by" not in config.model_fields_set:
        return
    having = set(counts["column"].unique().to_pylist())
    if missing := [name for name in config.by if name not in having]:
        raise ConfigError(
            f"--by {missing[0]!r}: no row of {output} has a value in such a column or key of "
            "partitions"
        )
