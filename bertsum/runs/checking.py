"""Whether the partitions of a group may be published, by what their rows are like."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bertsum.checks.judge import Finding, ProfiledDay, judge
from bertsum.checks.profile import Profile
from bertsum.config import NamesConfig
from bertsum.output_config import ChecksConfig, NamedOutputConfig
from bertsum.runs.history import read_history, read_profiles, series_of, sum_profiles
from bertsum.runs.partitions import partition_of
from bertsum.runs.plan import Plan
from bertsum.runs.records import (
    FileRecord,
    Job,
)
from bertsum.storage.folder import Folder

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
