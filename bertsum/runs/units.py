"""Units of work: which rows of INPUT make one output file, and the name that this file must have.

A unit is rows [start, stop) of one file, or several small files of one partition. Its name holds a
fingerprint of the model, of the configuration that changes rows, and of the unit's input. So a name
that exists in OUTPUT is a result that nobody has to look into.
"""

import hashlib
import json
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, pairwise
from math import ceil
from typing import Any, Self

from bertsum.config_base import Config, hashed_values
from bertsum.runs.input import SUFFIXES, InputFile, Shard

# Of the 255 that file systems allow a name; the fingerprint keeps names apart.
_MAX_STEM_BYTES = 120


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Rows [start, stop) of one input file of `file_rows` rows.

    `size` and `version` say which content of the file is meant.
    """

    path: str
    size: int
    version: str
    file_rows: int
    start: int
    stop: int

    @property
    def file(self) -> InputFile:
        return InputFile(self.path, self.size, self.version)


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work, which is one output file.

    `slices`: in path order, all of one partition and one schema.

    A file of 0 rows is in a unit too, and a unit of 0 rows has an output file with the columns and
    no row: each file of INPUT is accounted for in the manifest.
    """

    slices: tuple[FileSlice, ...]

    @property
    def num_rows(self) -> int:
        return sum(part.stop - part.start for part in self.slices)

    @property
    def partition(self) -> str:
        return self.slices[0].file.partition

    def locate(self, row: int) -> tuple[str, int]:
        """File and row in it of the unit's row of this number, from 0."""
        for part in self.slices:
            if row < part.stop - part.start:
                return part.path, part.start + row
            row -= part.stop - part.start  # counted from the beginning of the next slice
        raise IndexError(f"the unit has {self.num_rows} rows")

    @property
    def order(self) -> tuple[list[str], int]:
        """Sort key: path order, then row order."""
        return self.slices[0].path.split("/"), self.slices[0].start

    def holds(self, other: "Unit") -> bool:
        """Whether this unit has all rows of the other one, of the same content of the files."""
        slices = {part.file: part for part in self.slices}
        for part in other.slices:
            ours = slices.get(part.file)
            if ours is None or part.start < ours.start or part.stop > ours.stop:
                return False
        return True

    def to_json(self) -> list[dict[str, Any]]:
        """For the plan, the manifest and the output file's footer; `from_json` reads it back."""
        return [{name: getattr(part, name) for name in FileSlice.__slots__} for part in self.slices]

    @classmethod
    def from_json(cls, slices: Sequence[Mapping[str, Any]]) -> Self:
        return cls(tuple(FileSlice(**part) for part in slices))


@dataclass(frozen=True, slots=True)
class Limits:
    """Most rows, and most uncompressed input bytes, of one unit."""

    num_rows: int
    num_bytes: int


def job_fingerprint(model_digest: str, config: Config) -> str:
    """Hex digest of everything beside the input that changes a row of output."""
    return _digest([model_digest, hashed_values(config)])


def unit_name(unit: Unit, job: str) -> str:
    """`<partition>/<input stem>-<first row>-<fingerprint>.parquet`.

    The first row and not a running number: however a file is cut by earlier and later runs, its
    output files sort in the order of its rows.
    """
    first = unit.slices[0]
    stem = first.path.rpartition("/")[2]
    for suffix in SUFFIXES:
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    # a name that starts with one of these is hidden from whoever reads OUTPUT
    stem = stem.lstrip("._") or "part"
    # cut by bytes, as file systems count; half a character at the end is dropped
    encoded = stem.encode("utf-8", "surrogatepass")[:_MAX_STEM_BYTES]
    if len(encoded) == _MAX_STEM_BYTES:
        stem = encoded.decode("utf-8", "ignore")
    # 9 digits hold a billion rows a file; names of more sort by row no longer
    name = f"{stem}-{first.start:09d}-{_digest([job, unit.to_json()])[:16]}.parquet"
    return f"{unit.partition}/{name}" if unit.partition else name


class Coverage:
    """Which rows of which files are spoken for."""

    def __init__(self, units: Iterable[Unit] = ()) -> None:
        self._ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._file_rows: dict[str, int] = {}
        for unit in units:
            self.add(unit)

    def add(self, unit: Unit) -> bool:
        """Take the unit's rows in; False, and no change, when any of them is covered already."""
        if any(self._overlaps(part) for part in unit.slices):
            return False
        for part in unit.slices:
            # kept sorted, so that two neighbours tell whether a range is free
            insort(self._ranges[part.path], (part.start, part.stop))
            self._file_rows[part.path] = part.file_rows
        return True

    def open_ranges(self, path: str, num_rows: int) -> Iterator[tuple[int, int]]:
        """What is not covered of a file's rows; (0, 0) for a file of 0 rows that no unit mentions.

        Of 10 rows with [2, 4) and [4, 7) covered: (0, 2) and (7, 10).
        """
        if path not in self._file_rows:
            yield 0, num_rows
            return
        position = 0
        for start, stop in [*self._ranges[path], (num_rows, num_rows)]:
            if position < start:
                yield position, start
            position = max(position, stop)

    def holds(self, unit: Unit) -> bool:
        """Whether all rows of the unit are covered."""
        for part in unit.slices:
            if part.path not in self._file_rows:
                return False
            for low, high in self.open_ranges(part.path, part.stop):
                if low < part.stop and part.start < high:
                    return False
        return True

    def is_complete(self, path: str) -> bool:
        """Whether all rows of a file are covered; known without reading its footer again."""
        return path in self._file_rows and not any(self.open_ranges(path, self._file_rows[path]))

    def _overlaps(self, part: FileSlice) -> bool:
        ranges = self._ranges.get(part.path, [])
        if part.start == part.stop:  # of a file of 0 rows, which is there once or not at all
            return bool(ranges)
        # Covered ranges are sorted and apart, so only the two neighbours can reach into this one.
        after = bisect_left(ranges, (part.start, part.stop))
        if after > 0 and ranges[after - 1][1] > part.start:
            return True
        return after < len(ranges) and ranges[after][0] < part.stop


def cut(shards: Iterable[Shard], covered: Coverage, limits: Limits) -> list[Unit]:
    """Units of all rows that `covered` leaves, in path order; the same input gives the same cut.

    A file is cut at row-group borders where the limits allow, inside a row group where one alone is
    too big. Whole small files that follow each other in a partition and have equal columns go
    together.
    """

    def kind(shard: Shard) -> tuple[str, str]:
        # files that differ in metadata alone, as pandas writes it, may go together
        columns = shard.schema.to_string(show_field_metadata=False, show_schema_metadata=False)
        return shard.file.partition, str(columns)

    units: list[Unit] = []
    for _, group in groupby(shards, key=kind):
        together: list[FileSlice] = []
        sizes = Limits(0, 0)
        pieces = chain.from_iterable(_pieces(shard, covered, limits) for shard in group)
        for piece, size in pieces:
            grown = Limits(sizes.num_rows + size.num_rows, sizes.num_bytes + size.num_bytes)
            # a part of a file makes a unit of its own; only whole files go together
            whole = (piece.start, piece.stop) == (0, piece.file_rows)
            if together and (not whole or not _within(grown, limits)):
                units.append(Unit(tuple(together)))
                together, grown = [], size
            if whole:
                together, sizes = [*together, piece], grown
            else:
                units.append(Unit((piece,)))
                sizes = Limits(0, 0)
        if together:
            units.append(Unit(tuple(together)))
    return units


def split(unit: Unit) -> list[Unit]:
    """One unit for each file, so that one damaged file does not hold up the others."""
    return [Unit((part,)) for part in unit.slices]


def joined(units: Sequence[Unit]) -> Unit:
    """One unit of all their rows; slices of a file that touch become one."""
    slices: list[FileSlice] = []
    for part in chain.from_iterable(unit.slices for unit in units):
        if slices and slices[-1].path == part.path and slices[-1].stop == part.start:
            slices[-1] = replace(slices[-1], stop=part.stop)
        else:
            slices.append(part)
    return Unit(tuple(slices))


def first_rows(unit: Unit, num_rows: int) -> Unit:
    """The beginning of a unit: its first `num_rows` rows, at least one."""
    slices: list[FileSlice] = []
    # the first 150 rows of slices of 100, 100 and 100: 100 and 50, and no third slice
    for part in unit.slices:
        taken = min(part.stop - part.start, num_rows)
        slices.append(replace(part, stop=part.start + taken))
        num_rows -= taken
        if num_rows <= 0:
            break
    return Unit(tuple(slices))


def _pieces(shard: Shard, covered: Coverage, limits: Limits) -> Iterator[tuple[FileSlice, Limits]]:
    file = shard.file
    for low, high in covered.open_ranges(file.path, shard.num_rows):
        for start, stop, num_bytes in _cut_range(shard, low, high, limits):
            piece = FileSlice(file.path, file.size, file.version, shard.num_rows, start, stop)
            yield piece, Limits(stop - start, num_bytes)


def _cut_range(shard: Shard, low: int, high: int, limits: Limits) -> Iterator[tuple[int, int, int]]:
    """Cut [low, high) into (start, stop, bytes).

    Row groups of 40, 40 and 300 rows, with at most 100 rows a unit, become [0, 80), [80, 180),
    [180, 280) and [280, 380).
    """
    start, size = low, Limits(0, 0)
    for first, last, num_bytes in _clipped_groups(shard, low, high):
        grown = Limits(last - start, size.num_bytes + num_bytes)
        if _within(grown, limits):
            size = grown
            continue
        if start < first:
            yield start, first, size.num_bytes
        # Too big alone: equal parts, as few as the limits allow, of at least one row each. 250 rows
        # of 1 MB with at most 100 rows and 50 MB a unit: 5 parts of 50, since bytes decide.
        rows = last - first
        count = max(ceil(rows / limits.num_rows), ceil(num_bytes / limits.num_bytes), 1)
        count = min(count, rows)
        borders = [first + rows * i // count for i in range(count + 1)]
        for part in pairwise(borders[:-1]):
            yield *part, num_bytes // count
        # the last part may take in the next row group
        start = borders[-2]
        size = Limits(last - start, num_bytes // count)
    if start < high or low == high:
        yield start, high, size.num_bytes


def _clipped_groups(shard: Shard, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """(first, last, bytes) of what each row group has of [low, high)."""
    position = 0
    for group in shard.row_groups:
        first, last = max(position, low), min(position + group.num_rows, high)
        if first < last:
            # the share of the group's bytes, as if its rows were of one size
            yield first, last, group.num_bytes * (last - first) // group.num_rows
        position += group.num_rows


def _within(size: Limits, limits: Limits) -> bool:
    return size.num_rows <= limits.num_rows and size.num_bytes <= limits.num_bytes


def _digest(value: object) -> str:
    # equal values give equal text, whatever the order of keys: names depend on it for ever
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
