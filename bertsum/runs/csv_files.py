"""CSV and TSV files -> tables: how a file is written, what its columns hold, and its rows.

A file does not say whether quotation marks enclose its fields. Programs that write CSV enclose a
field that holds the delimiter, a quotation mark or a line break. Many research sets are plain: a
line is a row, and a quotation mark is text. So a file is read once in both ways, and
`_choose_quoting` decides; what it decided is told.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite

import pyarrow as pa

from bertsum.errors import InputError
from bertsum.runs.text_files import read_lines
from bertsum.storage.folder import Folder, mask

_DELIMITERS = (",", "\t", ";", "|")
# What other readers take for a missing value. Here they are text: "None" may be a class, and "NA" a
# country.
_LOOKS_MISSING = frozenset({"na", "n/a", "#n/a", "null", "none", "nil", "nan", "<na>", "\\n"})
_LONGEST_MISSING = max(map(len, _LOOKS_MISSING))
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # at most 18 digits always fit into 64 bits
# Beside delimiters and line ends, which a field of one line does not have.
_NEEDS_MARKS = re.compile('["\r]')
_DOUBLE_DIGITS = 15  # an integer of so many digits is exact as a double
# In a plain file with several columns a quoted field could go over lines of the right number of
# fields by accident, but hardly over three of them.
_FEW_LINES = 2
_SHOWN = 60  # characters of a line in a message


class _Column:
    """What the values of one column have been so far."""

    __slots__ = ("has_values", "is_double", "is_integer", "looks_missing")

    def __init__(self) -> None:
        self.has_values = False
        self.is_integer = self.is_double = True
        self.looks_missing: Counter[str] = Counter()

    def add(self, value: str) -> None:
        """Take in a value that is not empty."""
        self.has_values = True
        if self.is_integer or self.is_double:
            is_integer = _INTEGER.fullmatch(value) is not None
            self.is_integer = self.is_integer and is_integer
            # an integer among doubles, like the 3 in `2.5, 3`, keeps its value
            is_exact = is_integer and len(value.lstrip("-")) <= _DOUBLE_DIGITS
            self.is_double = self.is_double and (is_exact or _is_double(value))
        if len(value) <= _LONGEST_MISSING and value.lower() in _LOOKS_MISSING:
            self.looks_missing[value] += 1


@dataclass(frozen=True, slots=True)
class _Layout:
    """How one file is written."""

    delimiter: str
    is_quoted: bool
    names: tuple[str, ...]


@dataclass(slots=True)
class _Lines:
    """What the lines of a file are if a quotation mark is text; gathered while they are read.

    `problem`: the first line that has another number of fields than the first one. `num_quoted`:
    fields that begin with a quotation mark; `num_needless`: those of them that hold nothing for
    which they are needed.
    """

    delimiter: str
    num_fields: int = 0
    num_lines: int = 0
    num_rows: int = 0
    problem: str | None = None
    num_quoted: int = 0
    num_needless: int = 0
    is_header_quoted: bool = False
    quoted_by_column: Counter[int] = field(default_factory=Counter)

    def watch(self, lines: Iterable[str]) -> Iterator[str]:
        """The same lines."""
        for line in lines:
            self.num_lines += 1
            if text := line.rstrip("\r\n"):
                self._add(text)
            yield line

    def _add(self, text: str) -> None:
        num_fields = text.count(self.delimiter) + 1
        if not self.num_fields:
            self.num_fields = num_fields
            self.is_header_quoted = text.startswith('"') or f'{self.delimiter}"' in text
            return
        self.num_rows += 1
        # the first wrong line is enough for a message, and often the cause of the others
        if num_fields != self.num_fields and self.problem is None:
            self.problem = _wrong_number(self.num_lines, num_fields, self.num_fields, text)
        # most lines have no mark at a field's beginning, and are not split here
        if text.startswith('"') or f'{self.delimiter}"' in text:
            for index, value in enumerate(text.split(self.delimiter)):
                if value.startswith('"'):
                    self.num_quoted += 1
                    self.num_needless += not _NEEDS_MARKS.search(value[1:-1])
                    self.quoted_by_column[index] += len(value) > 1 and value.endswith('"')

    @property
    def has_quoted_column(self) -> bool:
        """Whether some column begins and ends with a quotation mark in each of several rows."""
        return self.num_rows > 1 and self.num_rows in self.quoted_by_column.values()


@dataclass(slots=True)
class _Survey:
    """What a file has if it is read in one way.

    `longest`: line on which the longest row begins, and its lines.
    """

    columns: list[_Column] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    num_rows: int = 0
    num_blank: int = 0
    longest: tuple[int, int] = (0, 1)
    problem: str | None = None

    def add(self, rows: Iterable[tuple[int, int, list[str]]]) -> None:
        """Take in (first line, last line, fields) of each row, up to one of another length."""
        try:
            for first, last, values in rows:
                if last - first + 1 > self.longest[1]:
                    self.longest = first, last - first + 1
                if not values:
                    self.num_blank += 1
                elif not self.names:
                    self.names, self.columns = values, [_Column() for _ in values]
                elif len(values) != len(self.names):
                    self.problem = _wrong_number(first, len(values), len(self.names), values[0])
                    return
                else:
                    self.num_rows += 1
                    for column, value in zip(self.columns, values, strict=True):
                        if value:
                            column.add(value)
        except csv.Error as error:
            self.problem = str(error)


class CsvFiles:
    """CSV and TSV files whose columns have one type each over all files.

    An empty field is a missing value. No other text is. `notes`: what the user must be told, a line
    each.
    """

    def __init__(self, folder: Folder, paths: Sequence[str]) -> None:
        """Read all files once, to see how they are written.

        Raises InputError for a file that is no table.
        """
        self.notes: list[str] = []
        self._folder = folder
        self._layouts: dict[str, _Layout] = {}
        self._columns: dict[str, list[_Column]] = {}
        for path in paths:
            self._survey(path)

    def types(self) -> dict[str, pa.DataType]:
        """The type of each column, which fits all files."""
        types: dict[str, pa.DataType] = {}
        for name, columns in self._columns.items():
            # a file in which the column is empty decides nothing
            known = [column for column in columns if column.has_values]
            # a number where each value is written as that number is: `007` and `1e3` stay text
            if not known:
                types[name] = pa.null()
            elif all(column.is_integer for column in known):
                types[name] = pa.int64()
            elif all(column.is_double for column in known):
                types[name] = pa.float64()
            else:
                types[name] = pa.string()
        return types

    def columns(self, path: str) -> tuple[str, ...]:
        """Names of the columns of one file."""
        return self._layouts[path].names

    def rows(self, path: str) -> Iterator[Sequence[str | None]]:
        """The fields of each row, None for an empty one."""
        layout = self._layouts[path]
        lines = read_lines(self._folder, path)
        read = _read_quoted if layout.is_quoted else _read_plain
        is_header = True
        for _, _, values in read(lines, layout.delimiter):
            if values and not is_header:
                yield [value or None for value in values]
            is_header = is_header and not values

    def _survey(self, path: str) -> None:
        """Read a file in both ways, choose one, and keep what it says of the columns."""
        name = f"{self._folder}/{mask(path)}"
        usual = "\t" if ".tsv" in path.lower() else ","
        first = next((line for line in read_lines(self._folder, path) if line.strip("\r\n")), "")
        delimiter = _find_delimiter(first, usual)
        # one pass for both ways: the lines are counted as text while they go to the csv reader
        lines = _Lines(delimiter)
        watched = lines.watch(read_lines(self._folder, path))
        quoted = _Survey()
        quoted.add(_read_quoted(watched, delimiter))
        for _ in watched:  # the rest, where the reader of quoted fields gave up
            pass
        is_quoted = _choose_quoting(lines, quoted, is_tsv=usual == "\t")
        survey = quoted
        if not is_quoted:
            survey = _Survey()
            survey.add(_read_plain(read_lines(self._folder, path), delimiter))
        if survey.problem is not None:
            reason = str(lines.problem)
            if lines.num_quoted or lines.is_header_quoted:
                # both ways were tried, and the user must see why each of them failed
                plain = f"; with quotation marks read as text, {reason}" if lines.problem else ""
                reason = (
                    f"{quoted.problem}{plain}. Inside quotation marks a mark is written twice, not "
                    "once, and not after a backslash"
                )
            raise InputError(f"{name}, {reason}")
        if not survey.num_rows and "\r" in first.rstrip("\r\n"):
            raise InputError(
                f"{name}, line 1: its lines end with a carriage return alone; convert the file, like "
                "`tr '\\r' '\\n'`"
            )
        names = _column_names(survey.names, name)
        self._layouts[path] = _Layout(delimiter, is_quoted, names)
        for column_name, column in zip(names, survey.columns, strict=True):
            self._columns.setdefault(column_name, []).append(column)
        for note in _notes(self._layouts[path], lines, survey, usual):
            self.notes.append(f"{name}: {note}")


def _find_delimiter(header: str, usual: str) -> str:
    """The usual one, or the one that the header has most of, outside quotation marks."""
    outside = re.sub(r'"[^"]*"', "", header)
    best = max(_DELIMITERS, key=outside.count)
    # a TSV file with one tab in its header has tabs, however many commas its names hold
    if usual != "," and usual in outside:
        return usual
    return best if outside.count(best) > outside.count(usual) else usual


def _choose_quoting(lines: _Lines, quoted: _Survey, *, is_tsv: bool) -> bool:
    """Whether quotation marks enclose fields.

    Where only one way of reading gives each row the same number of fields, it is that one. But in
    CSV that encloses its header or a whole column a stray mark is an error: read as text, all
    values would keep their marks. Where both ways do:
    - fields that go over many lines, of which each alone is a whole row, are plain lines with stray
      marks;
    - CSV is enclosed, as its standard has it;
    - TSV is enclosed if its header is, if a whole column is, or if all marks are needed: a program
      like pandas encloses only what holds a mark, written twice. Else, as in `"Great
      phone"<tab>positive`, the marks are text.
    """
    if lines.problem is not None:
        return True
    if quoted.problem is not None:
        return not is_tsv and (lines.is_header_quoted or lines.has_quoted_column)
    num_lines = quoted.longest[1]
    if num_lines > 1 and lines.num_fields > 1 and (is_tsv or num_lines > _FEW_LINES):
        return False
    if not is_tsv:
        return True
    if num_lines > 1:  # the standard of TSV has no line breaks in fields
        return False
    return lines.is_header_quoted or lines.has_quoted_column or lines.num_needless == 0


def _notes(layout: _Layout, lines: _Lines, survey: _Survey, usual: str) -> Iterator[str]:
    """What the user must be told of how a file was read."""
    num_rows, num_lines = f"{survey.num_rows:,}", f"{lines.num_lines:,}"
    if layout.delimiter != usual:
        yield f"its columns are separated by {layout.delimiter!r}, not {usual!r}"
    if lines.num_quoted and not layout.is_quoted:
        yield (
            f"{lines.num_quoted:,} field(s) begin with a quotation mark, which is read as text: "
            f"each of its {num_lines} lines is a row of its own ({num_rows} rows)"
        )
    elif lines.num_quoted and (usual == "\t" or survey.longest[1] > 1):
        line, length = survey.longest
        rows = f"{num_rows} rows from {num_lines} lines"
        note = f"fields in quotation marks are read without them: {rows}"
        if length > 1:
            note += f"; the longest row has {length:,} lines, from line {line:,}"
        yield note
    if survey.num_blank:
        yield f"{survey.num_blank:,} blank line(s) are no rows"
    for name, column in zip(layout.names, survey.columns, strict=True):
        if column.looks_missing:
            common = column.looks_missing.most_common(5)
            values = ", ".join(f"{value!r} ({count:,})" for value, count in common)
            yield (
                f"column {name!r} has {values}: read as text, since only an empty field is a "
                "missing value"
            )


def _read_quoted(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """First line, last line and fields of each row.

    Raises csv.Error that names the row's first line.
    """
    # of the whole process; the default, 131,072 characters, is less than a long text
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    first = 1
    try:
        for values in reader:
            # `line_num` counts lines and not rows: it is the last line of this row
            yield first, reader.line_num, values
            first = reader.line_num + 1
    except csv.Error as error:
        reason = str(error)
        if reason == "unexpected end of data":
            reason = "a quotation mark opens a field that never ends"
        raise csv.Error(f"line {first}: {reason}") from error


def _read_plain(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """The same, where each line is a row."""
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\n").removesuffix("\r")
        yield number, number, text.split(delimiter) if text else []


def _wrong_number(line: int, num_fields: int, expected: int, text: str) -> str:
    return f"line {line}: {num_fields} field(s), but the header has {expected} ({text[:_SHOWN]!r})"


def _column_names(header: Sequence[str], name: str) -> tuple[str, ...]:
    """A column without a name, like the index that pandas writes, is `Unnamed: 0`, as there."""
    names: list[str] = []
    for index, text in enumerate(header):
        names.append(text or f"Unnamed: {index}")
    for repeated, count in Counter(names).most_common(1):
        if count > 1:
            raise InputError(
                f"{name}, line 1: two columns have the name {repeated!r}; the header is {names}"
            )
    return tuple(names)


def _is_double(value: str) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    # `1.50` and `1e3` are numbers, too, but would come back as 1.5 and 1000.0
    return isfinite(number) and repr(number) == value
