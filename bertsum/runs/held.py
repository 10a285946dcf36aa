"""What is held back from readers, and what somebody has let through.

A partition that must not be published leaves a record, `held.json`. It is the manifest that waits,
with what was found and with what a later commit must know. It counts only as long as its files hold
exactly the rows that the partition is to have, so what is left of a killed run does no harm.

    hold       held.json is written                     the same command finds it and holds again
    approve    approved.json names what was found       the next commit of these rows publishes
    published  manifest, table, _SUCCESS, then approved.json and held.json go

An approval is of one held.json: its digest is that of the files and of what was found in them. A
run that holds other rows, or finds something else in them, writes another held.json, which nobody
has approved.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bertsum.config import SummarizerConfig
from bertsum.config_base import validated
from bertsum.output_config import NamedOutputConfig
from bertsum.runs.checking import Checked
from bertsum.runs.input import InputFile
from bertsum.runs.partitions import ALL, Scope, inside, partition_of
from bertsum.runs.plan import Plan
from bertsum.runs.records import (
    FileRecord,
    Job,
    Known,
    OutputFile,
    manifest_json,
    read_json,
    write_json,
)
from bertsum.storage.folder import Folder

HELD = "_bertsum/held.json"
APPROVED = "_bertsum/approved.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A group whose results are complete, and which is not published.

    - `group`: its name, "" for a run over everything
    - `checked`: by partition
    - `files`: its whole result, with `records` by name
    - `approval`: the digest of what somebody let through; None: nobody has
    """

    group: str
    job: Job
    input_uri: str
    checked: Mapping[str, Checked]
    files: Mapping[str, OutputFile]
    records: Mapping[str, FileRecord]
    record: Mapping[str, Any]
    approval: str | None = None

    @property
    def digest(self) -> str:
        """Of what an approval is given to: the files, and what was found in them."""
        files = [[entry["name"], entry["sha256"]] for entry in self.record["files"]]
        findings = {name: entry["findings"] for name, entry in self.record["checked"].items()}
        seen = [self.job.fingerprint, files, findings]
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()

    @property
    def is_approved(self) -> bool:
        # an earlier version said so in the record itself
        return bool(self.record.get("approved")) or self.approval == self.digest

    @property
    def output_config(self) -> NamedOutputConfig:
        """How the run that made it publishes."""
        return NamedOutputConfig.model_validate(self.record["output"])

    def holds(self, files: Iterable[OutputFile]) -> bool:
        """Whether these files hold the same rows of the same jobs, however they are cut."""
        return _rows_of(self.files.values()) == _rows_of(files)

    def plan(self) -> Plan:
        """All of it, as a plan of which nothing is missing."""
        fingerprint = self.job.fingerprint
        units = {}
        retained = {}
        for name, file in self.files.items():
            if file.job == fingerprint:
                units[name] = file.unit
            else:
                retained[name] = file
        resting = self.record.get("superseded", {})
        return Plan(
            units=units,
            done=frozenset(units),
            superseded=[],
            problems={},
            num_files=0,
            limit=None,
            retained=retained,
            published=frozenset(self.record["published"]),
            scope=Scope.exactly([self.group]) if self.group else ALL,
            resting={inside(self.group, name): since for name, since in resting.items()},
            expired=frozenset(self.record["expired"]),
            schemas=[],
            # superseded files, too: whoever lets it through wants these rows in their place
            repeated=frozenset(self.record["leaving"]),
        )


def _rows_of(files: Iterable[OutputFile]) -> dict[tuple[str, InputFile], list[tuple[int, int]]]:
    """Ranges of rows of each input file and job, those that follow each other put together."""
    ranges: dict[tuple[str, InputFile], list[tuple[int, int]]] = {}
    for file in files:
        for part in file.unit.slices:
            ranges.setdefault((file.job, part.file), []).append((part.start, part.stop))
    for key, pieces in ranges.items():
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(pieces):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], stop)
            else:
                merged.append((start, stop))
        ranges[key] = merged
    return ranges


def read_held(output: Folder, group: str) -> Held | None:
    """The record of a held group, or None. It may be of rows that are no longer planned.

    Raises OutputError for a damaged record, and ConfigError for one of a later version.
    """
    record = read_json(output, inside(group, HELD))
    if record is None:
        return None
    known = Known()
    known.add(record, group)
    job = record["job"]
    config = validated(SummarizerConfig, job["config"], f"{output}/{inside(group, HELD)}")
    return Held(
        group=group,
        job=Job(job["model"]["id"], job["model"]["digest"], config),
        input_uri=record["input"],
        checked={
            partition: Checked.from_json(entry) for partition, entry in record["checked"].items()
        },
        files=known.files,
        records=known.records,
        record=record,
        approval=(read_json(output, inside(group, APPROVED)) or {}).get("digest"),
    )


def write_held(
    output: Folder,
    plan: Plan,
    *,
    job: Job,
    input_uri: str,
    records: Mapping[str, FileRecord],
    checked: Mapping[str, Checked],
    config: NamedOutputConfig,
) -> None:
    """Record that the group of a plan is held; the plan is of that group alone."""
    (group,) = plan.groups
    files = [(file, records[name]) for name, file in plan.files(job).items()]
    record = manifest_json(job, input_uri, group, files, plan.resting)
    record |= {
        "checked": {partition: entry.to_json() for partition, entry in checked.items()},
        "published": sorted((plan.published & plan.partitions) - set(plan.open_partitions)),
        "leaving": sorted({*plan.superseded_names, *plan.repeated}),
        "expired": sorted(plan.expired),
        "output": config.model_dump(mode="json"),
    }
    write_json(output, inside(group, HELD), record)


def approve(output: Folder, held: Held) -> None:
    """Let a held group through: every commit of its rows publishes it, as long as it is held so."""
    write_json(output, inside(held.group, APPROVED), {"digest": held.digest})


def approved_parts(
    output: Folder, files: Iterable[OutputFile], partitions: Iterable[str]
) -> frozenset[str]:
    """Those of these partitions whose rows somebody let through by themselves.

    `files`: of a run over everything, in which they are a part of the one group.
    """
    of_partition: dict[str, list[OutputFile]] = {}
    for file in files:
        of_partition.setdefault(partition_of(file.name), []).append(file)
    approved: set[str] = set()
    for partition in partitions:
        held = read_held(output, partition) if partition else None
        if held and held.is_approved and held.holds(of_partition.get(partition, ())):
            approved.add(partition)
    return frozenset(approved)
