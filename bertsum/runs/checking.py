"""Whether the partitions of a group may be published, by what their rows are like.

A partition that must not be published leaves a record, `held.json`. It is the manifest that waits,
with what was found and with what a later commit must know. It counts only as long as its files hold
exactly the rows that the partition is to have, so what is left of a killed run does no harm.

    hold       held.json is written                     the same command finds it and holds again
    approve    held.json says `approved`                the next commit of these rows publishes
    published  manifest, table, _SUCCESS, then held.json goes
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bertsum.checks.judge import Finding, ProfiledDay, judge
from bertsum.checks.profile import Profile
from bertsum.config import NamesConfig, SummarizerConfig
from bertsum.config_base import validated
from bertsum.output_config import ChecksConfig, NamedOutputConfig
from bertsum.runs.history import read_history, read_profiles, series_of, sum_profiles
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

_MOST_REASONS = 5  # of a partition that are shown in a message; all are in the record


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A partition that was looked at: what its rows are like, and what is wrong with it.

    `approved`: somebody let it through, whatever was found.
    """

    profile: Profile
    findings: Sequence[Finding] = ()
    approved: bool = False

    @property
    def reason(self) -> str:
        """What was found, in one line."""
        reasons = [finding.reason for finding in self.findings[:_MOST_REASONS]]
        if (others := len(self.findings) - _MOST_REASONS) > 0:
            reasons.append(f"and {others} more")
        return "; ".join(reasons)

    def to_json(self) -> dict[str, Any]:
        """The entry of a manifest."""
        return {
            "profile": self.profile.to_json(),
            "findings": [asdict(finding) for finding in self.findings],
            "approved": self.approved,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Checked":
        return cls(
            profile=Profile.from_json(record["profile"]),
            findings=[Finding(**finding) for finding in record["findings"]],
            approved=record["approved"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What a run looks at before it publishes.

    - `output`: how results are published, with the rules of the checks
    - `day_pattern`: layout of a day's directory, see `DaysConfig`
    - `names`: of the columns of results
    - `is_replacing`: results of another model are replaced on purpose
    - `nights`: published days that are known, by partition: those of this run, and those that were
      looked up; they are history for later ones
    - `warnings`: by partition, what was found in those that are published nevertheless
    """

    output: NamedOutputConfig
    day_pattern: str
    names: NamesConfig
    is_replacing: bool
    nights: dict[str, ProfiledDay] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)

    @property
    def rules(self) -> ChecksConfig:
        return self.output.checks

    def check(
        self,
        folder: Folder,
        plan: Plan,
        job: Job,
        records: Mapping[str, FileRecord],
        known: Mapping[str, Checked],
    ) -> dict[str, Checked]:
        """Look at the partitions of a plan that are to be published, the earliest day first.

        `records`: of all files; one that has no profile is read back. `known`: what an earlier run
        found out about the same rows.
        """
        checked: dict[str, Checked] = {}
        open_partitions = set(plan.open_partitions)
        names: dict[str, list[str]] = {partition: [] for partition in open_partitions}
        for name in records:
            if partition_of(name) in open_partitions:
                names[partition_of(name)].append(name)

        def order(partition: str) -> tuple[str, str]:
            series = series_of(partition, self.day_pattern)
            return (series.day.isoformat() if series else "", partition)

        for partition in sorted(filter(names.get, names), key=order):
            before = known.get(partition)
            profile = before.profile if before else self._profile(folder, names[partition], records)
            series = series_of(partition, self.day_pattern)
            night = ProfiledDay(
                day=series.day if series else None,
                profile=profile,
                digest=job.model_digest,
                model_id=job.to_json()["model"]["id"],
            )
            history: list[ProfiledDay] = []
            if series is not None:
                days = self.rules.history_days
                history = read_history(folder, series, days, self.nights)
                for earlier in history:
                    if earlier.day is not None:
                        self.nights.setdefault(series.partition_of(earlier.day), earlier)
            findings = judge(night, history, self.rules, is_replacing=self.is_replacing)
            checked[partition] = Checked(profile=profile, findings=findings)
            if not findings or self.rules.action == "warn":
                self.nights[partition] = night
            else:
                self.nights.pop(partition, None)  # what was published before is replaced
            if findings and self.rules.action == "warn":
                self.warnings[partition] = checked[partition].reason
        return checked

    def _profile(
        self, folder: Folder, names: Sequence[str], records: Mapping[str, FileRecord]
    ) -> Profile:
        """Of the files of a partition: as replicas reported it, else read back."""
        profiles: list[Profile] = []
        unknown: list[str] = []
        for name in names:
            profile = records[name].profile
            if profile is None:
                unknown.append(name)
            else:
                profiles.append(profile)
        return sum_profiles([*profiles, *read_profiles(folder, unknown, self.names)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A group whose results are complete, and which is not published.

    - `group`: its name, "" for a run over everything
    - `checked`: by partition
    - `files`: its whole result, with `records` by name
    """

    group: str
    job: Job
    input_uri: str
    checked: Mapping[str, Checked]
    files: Mapping[str, OutputFile]
    records: Mapping[str, FileRecord]
    record: Mapping[str, Any]

    @property
    def is_approved(self) -> bool:
        return bool(self.record["approved"])

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
        "approved": False,
        "published": sorted((plan.published & plan.partitions) - set(plan.open_partitions)),
        "leaving": sorted({*plan.superseded_names, *plan.repeated}),
        "expired": sorted(plan.expired),
        "output": config.model_dump(mode="json"),
    }
    write_json(output, inside(group, HELD), record)


def approve(output: Folder, held: Held) -> Held:
    """Let a held group through: from now on every commit of its rows publishes it."""
    record = {**held.record, "approved": True}
    write_json(output, inside(held.group, HELD), record)
    approved = read_held(output, held.group)
    assert approved is not None
    return approved
