"""Which partitions a run is about: all of them, or those that patterns name.

A partition is the directory of a file below the root, like `dt=2026-11-22` or
`region=eu/dt=2026-11-22/hour=03`.
"""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

from bertsum.errors import ConfigError
from bertsum.storage.folder import FileInfo, Folder


def partition_of(name: str) -> str:
    """Directory of a file, or an empty string."""
    return name.rpartition("/")[0]


def inside(partition: str, name: str) -> str:
    """Name of a file in a partition; an empty partition is the root."""
    return f"{partition}/{name}" if partition else name


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
        return cls(tuple(glob.escape(partition) for partition in partitions))

    @property
    def is_all(self) -> bool:
        return not self.patterns

    def holds(self, partition: str) -> bool:
        parts = partition.split("/") if partition else []
        return self.is_all or any(_matches(parts, pattern.split("/")) for pattern in self.patterns)

    def list_names(self, folder: Folder, also: str = "") -> dict[str, FileInfo]:
        """Files of these partitions, sorted. No more directories are listed than must be."""
        listed: dict[str, FileInfo] = {}
        for start in sorted({_fixed_start(pattern) for pattern in self.patterns or ("*",)}):
            listed |= folder.list_names(start, also)
        return {name: listed[name] for name in sorted(listed) if self.holds(partition_of(name))}


ALL = Scope()


def _matches(parts: list[str], pattern: list[str]) -> bool:
    return len(parts) >= len(pattern) and all(map(fnmatchcase, parts, pattern))


def _fixed_start(pattern: str) -> str:
    """The directories before the first one with a wildcard."""
    parts = pattern.split("/")
    depth = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/".join(parts[:depth])
