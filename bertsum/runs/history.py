"""The days before a partition's own, and what the rows of their results were like.

A day's manifest says it, in one small read; nothing is listed. Where a manifest was written without
checks, some of the day's files are read.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.checks.judge import ProfiledDay
from bertsum.checks.profile import COLUMNS, Profile, make_profile
from bertsum.config import NamesConfig
from bertsum.runs.input import reading
from bertsum.runs.partitions import inside
from bertsum.runs.records import MANIFEST, SUCCESS, read_json
from bertsum.storage.folder import Folder

CHECKS = "checks"
"""The entry of a manifest with the profile of its partition and what was found."""

_THREADS = 16
_BATCH_ROWS = 8192
_MOST_FILES = 16  # that are read of an earlier day; each has up to 1,000 rows by default


@dataclass(frozen=True, slots=True)
class Series:
    """Partitions that differ in the day alone: `region=eu/dt=2026-11-22` and those of other days.

    `before` and `after` are the directories around those of the day, whose layout is `pattern`.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    pattern: str
    day: date

    def partition_of(self, day: date) -> str:
        return "/".join([*self.before, day.strftime(self.pattern), *self.after])

    def earlier(self, num_days: int) -> dict[date, str]:
        """Partitions of the days before, the earliest first."""
        days = [self.day - timedelta(days=number) for number in range(num_days, 0, -1)]
        return {day: self.partition_of(day) for day in days}


def series_of(partition: str, pattern: str) -> Series | None:
    """The series of a partition; None where no directory is a day's.

    `pattern`: layout of a day's directory in codes of strftime, such as `dt=%Y-%m-%d`.
    """
    parts = partition.split("/")
    length = pattern.count("/") + 1
    for start in range(len(parts) - length + 1):
        middle = "/".join(parts[start : start + length])
        try:
            # strptime takes numbers with and without a leading zero, and has no `%-m` for them
            day = datetime.strptime(middle, pattern.replace("%-", "%")).date()
        except ValueError:
            continue
        # a month's directory is that of its next day, too, and none of a day
        is_of_one_day = (day + timedelta(days=1)).strftime(pattern) != middle
        if day.strftime(pattern) == middle and is_of_one_day:
            return Series(tuple(parts[:start]), tuple(parts[start + length :]), pattern, day)
    return None


def read_history(
    output: Folder, series: Series, num_days: int, known: Mapping[str, ProfiledDay]
) -> list[ProfiledDay]:
    """The published nights of the days before, the earliest first.

    `known`: by partition, those of this run.
    """

    def read(entry: tuple[date, str]) -> ProfiledDay | None:
        day, partition = entry
        return known.get(partition) or _read_night(output, partition, day)

    with ThreadPoolExecutor(_THREADS) as pool:
        nights = pool.map(read, series.earlier(num_days).items())
        return [night for night in nights if night is not None]


def _read_night(output: Folder, partition: str, day: date) -> ProfiledDay | None:
    if output.info(inside(partition, SUCCESS)) is None:
        return None
    manifest = read_json(output, inside(partition, MANIFEST))
    if manifest is None:
        return None
    if CHECKS in manifest:
        profile: Profile | None = Profile.from_json(manifest[CHECKS]["profile"])
    else:
        profile = _profile_by_files(output, partition, manifest)
    if profile is None:
        return None
    model = manifest["job"]["model"]
    return ProfiledDay(day=day, profile=profile, digest=model["digest"], model_id=model["id"])


def _profile_by_files(
    output: Folder, partition: str, manifest: Mapping[str, Any]
) -> Profile | None:
    """By some of the files; the rows and their statuses, which the manifest has, are of all.

    None where one of them was removed, as by hand: that says nothing of the night that is judged.
    """
    names = [inside(partition, entry["name"]) for entry in manifest["files"]]
    step = max(len(names) / _MOST_FILES, 1)
    chosen = [names[int(step * i)] for i in range(min(len(names), _MOST_FILES))]
    if any(output.info(name) is None for name in chosen):
        return None
    config = manifest["job"]["config"].get("output", {})
    profile = sum_profiles(read_profiles(output, chosen, NamesConfig.model_validate(config)))
    labels = {**profile.labels, "status": manifest["statuses"]}
    return replace(profile, rows=manifest["rows"], labels=labels)


def read_profiles(output: Folder, names: Sequence[str], columns: NamesConfig) -> list[Profile]:
    """Of files, by those of their columns that a profile is made of.

    Raises InputError for a file that cannot be read.
    """

    def read(name: str) -> Profile:
        wanted = {columns.name_of(column) for column in COLUMNS}
        with reading(output, name), output.open(name) as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            present = [column for column in file.schema_arrow.names if column in wanted]
            batches = file.iter_batches(_BATCH_ROWS, columns=present, use_threads=False)
            return make_profile((pa.Table.from_batches([batch]) for batch in batches), columns)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(read, names))


def sum_profiles(profiles: Sequence[Profile]) -> Profile:
    """Of all their rows."""
    return sum(profiles, start=Profile())
