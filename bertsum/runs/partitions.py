"""Which partitions a run is about: all of them, or those that patterns name.

A partition is the directory of a file below the root, like `dt=2026-11-22` or
`region=eu/dt=2026-11-22/hour=03`.
"""

import glob
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Self, TypeVar

from bertsum.errors import ConfigError
from bertsum.storage.folder import FileInfo, Folder

_Value = TypeVar("_Value")


def partition_of(name: str) -> str:
    """Directory of a file, or an empty string."""
    return name.rpartition("/")[0]


def inside(partition: str, name: str) -> str:
    """Name of a file in a partition; an empty partition is the root."""
    return f"{partition}/{name}" if partition else name


def select_partitions(
    by_name: Mapping[str, _Value], partitions: Collection[str]
) -> dict[str, _Value]:
    """What a mapping by file name has of these partitions."""
    return {name: by_name[name] for name in by_name if partition_of(name) in partitions}


@dataclass(frozen=True, slots=True)
class Scope:
    """Partitions whose first directories match one of the patterns; without patterns, everything.

    `dt=2026-11-22` names that directory and all below it. `*`, `?` and `[...]` match within one
    directory name.
    """

    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            # names with `_` or `.` are hidden; the other ones name no directory below the root
            hidden = [part for part in pattern.split("/") if not part or part[0] in "_."]
            if hidden or not pattern.strip():
                raise ConfigError(
                    f"{pattern!r} names no partition: give directories below the root, like "
                    "'dt=2026-11-22' or 'dt=2026-11-*/hour=0?'"
                )

    @classmethod
    def exactly(cls, partitions: Iterable[str]) -> Self:
        """These partitions, whatever characters their names have.

        Raises ValueError where none is given, which would mean all.
        """
        partitions = list(partitions)
        if not partitions:
            raise ValueError("no partition is given")
        # a directory may be named `a[1]`, and as a pattern that would match `a1`
        return cls(tuple(map(glob.escape, partitions)))

    @property
    def is_all(self) -> bool:
        return not self.patterns

    def holds(self, partition: str) -> bool:
        parts = partition.split("/") if partition else []
        for pattern in self.patterns:
            wanted = pattern.split("/")
            # `map` ends with the shorter one: directories below those of the pattern match, too
            if len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted)):
                return True
        return self.is_all

    def list_names(self, folder: Folder, also: str = "") -> dict[str, FileInfo]:
        """Files of these partitions, sorted. No more directories are listed than must be."""
        starts: set[str] = set()
        for pattern in self.patterns or ("*",):
            # the directories before the first one with a wildcard: of `region=eu/dt=*`, `region=eu`
            fixed = takewhile(lambda part: not glob.has_magic(part), pattern.split("/"))
            starts.add("/".join(fixed))
        listed: dict[str, FileInfo] = {}
        for start in sorted(starts):
            listed |= folder.list_names(start, also)
        return {name: listed[name] for name in sorted(listed) if self.holds(partition_of(name))}


ALL = Scope()
