"""A plan of a directory of files, and all their rows, without Ray."""

from functools import partial
from pathlib import Path

import pyarrow as pa

from bertsum.config import SummarizerConfig
from bertsum.errors import InputError
from bertsum.runs.columns import check_documents
from bertsum.runs.input import list_input, stream_rows
from bertsum.runs.plan import Plan, Terms, make_plan
from bertsum.runs.records import Job
from bertsum.runs.units import Limits
from bertsum.storage.folder import Folder

LIMITS = Limits(1000, 2**28)


def plan(source: Path, output: Path, config: SummarizerConfig | None = None) -> Plan:
    config = config or SummarizerConfig()
    job = Job("model", "digest", config)
    check = partial(check_documents, config=config)
    terms = Terms(limits=LIMITS, check=check)
    return make_plan(list_input(str(source)), Folder(str(output)), job, terms)


def read(source: Path, made: Plan) -> list[pa.Table]:
    root = Folder(str(source), InputError)
    return [
        table.select(["id"])
        for unit in made.units.values()
        for part in unit.slices
        for table in stream_rows(root, part.file, part.start, part.stop, ["id", "document"])
    ]
