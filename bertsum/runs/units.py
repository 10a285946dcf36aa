"""Units of work: which rows of INPUT make one output file, and the name that this file must have.

A unit is rows [start, stop) of one file, or several small files of one partition. Its name holds a fingerprint of the
model, of the configuration that changes rows, and of the unit's input; so a name that exists in OUTPUT is a result
that nobody has to look into.
"""

import hashlib
import json
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from math import ceil
from typing import Any, Self

import pyarrow as pa

from bertsum.config import Config, hashed_values
from bertsum.runs.input import SUFFIXES, InputFile, Shard

_MAX_STEM_BYTES = (
    120  # of the 255 that file systems allow a name; the fingerprint keeps names apart
)


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Rows [start, stop) of one input file of `file_rows` rows; size and version say which content is meant."""

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
    """One unit of work and one output file; `slices` in path order, all of one partition and one schema.

    A file of 0 rows is in a unit too, and a unit of 0 rows has an output file with the columns and no row: each file
    of INPUT is accounted for in the manifest.
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
            row -= part.stop - part.start
        raise IndexError(f"the unit has {self.num_rows} rows")

    @property
    def order(self) -> tuple[list[str], int]:
        """Sort key: path order, then row order."""
        return self.slices[0].path.split("/"), self.slices[0].start

    def holds(self, other: "Unit") -> bool:
        """Whether the other one's rows are all among its own, of the same content of the same files."""
        own = {part.file: part for part in self.slices}
        return all(
            part.file in own
            and own[part.file].start <= part.start
            and part.stop <= own[part.file].stop
            for part in other.slices
        )

    def to_json(self) -> list[dict[str, Any]]:
        """For the plan, the manifest and the footer of the output file; `from_json` reads it back."""
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

    The first row and not a running number: however a file is cut by earlier and later runs, its output files sort in
    the order of its rows.
    """
    first = unit.slices[0]
    stem = _stem(first.path.rpartition("/")[2])
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
        """Take the unit's rows in; False, and nothing changed, when some of them are covered already."""
        if any(self._overlaps(part) for part in unit.slices):
            return False
        for part in unit.slices:
            insort(self._ranges[part.path], (part.start, part.stop))
            self._file_rows[part.path] = part.file_rows
        return True

    def open_ranges(self, path: str, num_rows: int) -> Iterator[tuple[int, int]]:
        """What is not covered of a file's rows; a file of 0 rows that no unit mentions leaves (0, 0)."""
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
        return all(
            part.path in self._file_rows
            and not any(
                low < part.stop and part.start < high
                for low, high in self.open_ranges(part.path, part.stop)
            )
            for part in unit.slices
        )

    def is_complete(self, path: str) -> bool:
        """Whether all rows of a file are covered; known without reading its footer again."""
        return path in self._file_rows and not any(self.open_ranges(path, self._file_rows[path]))

    def _overlaps(self, part: FileSlice) -> bool:
        ranges = self._ranges.get(part.path, [])
        place = bisect_left(ranges, (part.start, part.stop))
        if part.start == part.stop:
            return bool(ranges)
        return (place > 0 and ranges[place - 1][1] > part.start) or (
            place < len(ranges) and ranges[place][0] < part.stop
        )


def cut(shards: Iterable[Shard], covered: Coverage, limits: Limits) -> list[Unit]:
    """Units of all rows that `covered` leaves, in path order; the same input gives the same cut.

    A file is cut at row-group borders where the limits allow, inside a row group where one alone is too big; whole
    small files that follow each other in a partition and have equal columns go together.
    """
    units: list[Unit] = []
    for _, group in groupby(
        shards, key=lambda shard: (shard.file.partition, _columns(shard.schema))
    ):
        together: list[FileSlice] = []
        sizes = Limits(0, 0)
        for piece, size in (piece for shard in group for piece in _pieces(shard, covered, limits)):
            grown = Limits(sizes.num_rows + size.num_rows, sizes.num_bytes + size.num_bytes)
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
    for part in (part for unit in units for part in unit.slices):
        if slices and slices[-1].path == part.path and slices[-1].stop == part.start:
            slices[-1] = replace(slices[-1], stop=part.stop)
        else:
            slices.append(part)
    return Unit(tuple(slices))


def first_rows(unit: Unit, num_rows: int) -> Unit:
    """The beginning of a unit: its first `num_rows` rows, at least one."""
    slices: list[FileSlice] = []
    for part in unit.slices:
        taken = min(part.stop - part.start, num_rows)
        slices.append(
            FileSlice(
                part.path, part.size, part.version, part.file_rows, part.start, part.start + taken
            )
        )
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
    """Cut [low, high) into (start, stop, bytes)."""
    start, size = low, Limits(0, 0)
    for first, last, num_bytes in _clipped_groups(shard, low, high):
        grown = Limits(last - start, size.num_bytes + num_bytes)
        if _within(grown, limits):
            size = grown
            continue
        if start < first:
            yield start, first, size.num_bytes
        *parts, (start, stop, rest) = _cut_group(first, last, num_bytes, limits)
        yield from parts
        size = Limits(stop - start, rest)
    if start < high or low == high:
        yield start, high, size.num_bytes


def _clipped_groups(shard: Shard, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    position = 0
    for group in shard.row_groups:
        first, last = max(position, low), min(position + group.num_rows, high)
        if first < last:
            yield first, last, group.num_bytes * (last - first) // group.num_rows
        position += group.num_rows


def _cut_group(first: int, last: int, num_bytes: int, limits: Limits) -> list[tuple[int, int, int]]:
    """Equal parts of one row group: as few as the limits allow, at least one row each."""
    rows = last - first
    count = min(max(ceil(rows / limits.num_rows), ceil(num_bytes / limits.num_bytes), 1), rows)
    borders = [first + rows * i // count for i in range(count + 1)]
    return [(start, stop, num_bytes // count) for start, stop in pairwise(borders)]


def _within(size: Limits, limits: Limits) -> bool:
    return size.num_rows <= limits.num_rows and size.num_bytes <= limits.num_bytes


def _columns(schema: pa.Schema) -> str:
    return str(schema.to_string(show_field_metadata=False, show_schema_metadata=False))


def _stem(file_name: str) -> str:
    stem = next(
        (file_name[: -len(end)] for end in SUFFIXES if file_name.lower().endswith(end)), file_name
    )
    stem = (
        stem.lstrip("._") or "part"
    )  # a name that starts with these is hidden from whoever reads OUTPUT
    encoded = stem.encode("utf-8", "surrogatepass")[:_MAX_STEM_BYTES]
    return stem if len(encoded) < _MAX_STEM_BYTES else encoded.decode("utf-8", "ignore")


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
