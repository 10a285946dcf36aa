"""JSON files -> tables: a JSON object a line, or one array of objects."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from bertsum.config_base import unique_keys
from bertsum.errors import InputError
from bertsum.runs.text_files import read_lines
from bertsum.storage.folder import Folder, mask

_SURVEY_ROWS = 1000  # whose types are looked up at once
_SHOWN = 60  # characters of a line in a message

Row = dict[str, Any]


class JsonFiles:
    """JSON files whose columns have one type each over all files.

    A column whose values have no common type is text: strings as they are, other values as JSON.
    `notes`: what the user must be told, a line each.
    """

    def __init__(self, folder: Folder, paths: Sequence[str]) -> None:
        """Read all files once, for their columns and types.

        Raises InputError for a line that is no JSON object.
        """
        self.notes: list[str] = []
        self._folder = folder
        self._types: dict[str, pa.DataType] = {}
        self._mixed: dict[str, None] = {}  # columns without a common type, in their order
        self._names: dict[str, dict[str, None]] = {}
        for path in paths:
            self._survey(path)
        for name in self._mixed:
            self.notes.append(
                f"column {name!r} holds values of several types: read as text, other values as JSON"
            )

    def types(self) -> dict[str, pa.DataType]:
        """The type of each column, which fits all files."""
        types = dict(self._types)
        for name, data_type in types.items():
            if _has_no_fields(data_type):  # `{}` as text, since Parquet has no such column
                types[name] = pa.string()
        return types

    def columns(self, path: str) -> tuple[str, ...]:
        """Names of the columns of one file, in the order in which its rows bring them."""
        return tuple(self._names[path])

    def rows(self, path: str) -> Iterator[Sequence[object]]:
        """The values of each row, None where it has none."""
        types = self.types()
        names = [(name, types[name] == pa.string()) for name in self._names[path]]
        for row in _read_rows(self._folder, path):
            values: list[object] = []
            for name, is_text in names:
                value = row.get(name)
                if is_text and value is not None and not isinstance(value, str):
                    value = json.dumps(value, ensure_ascii=False)
                values.append(value)
            yield values

    def _survey(self, path: str) -> None:
        """Take in the columns of a file, and their types."""
        rows = _read_rows(self._folder, path)
        names = self._names.setdefault(path, {})
        while chunk := list(islice(rows, _SURVEY_ROWS)):
            for row in chunk:
                names.update(dict.fromkeys(row))
            for name in names:
                known = self._types.get(name, pa.null())
                common = _common_type(known, [row.get(name) for row in chunk])
                if common is None:
                    self._mixed[name] = None
                # once mixed, always text, whatever the rows to come hold
                self._types[name] = pa.string() if name in self._mixed else common


def _read_rows(folder: Folder, path: str) -> Iterator[Row]:
    """Objects in the order of the file. Raises InputError that names the line of what is none."""
    name = f"{folder}/{mask(path)}"
    lines = enumerate(read_lines(folder, path), 1)
    filled = ((number, line) for number, line in lines if line.strip())
    # The first line with text tells the two kinds of files apart; 0: there is none.
    first, line = next(filled, (0, ""))
    if line.lstrip().startswith("["):
        text = line + "".join(line for _, line in lines)
        for index, value in enumerate(_parse(text, name, first)):
            yield _to_row(value, f"{name}, item {index} (from 0) of the array")
    elif first:
        for number, text in chain([(first, line)], filled):
            yield _to_row(_parse(text.rstrip(), name, number), f"{name}, line {number}")


def _parse(text: str, name: str, line: int) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=unique_keys)
    except RecursionError as error:
        raise InputError(f"{name}, line {line}: it is nested too deeply") from error
    except json.JSONDecodeError as error:
        wrong = text.split("\n")[error.lineno - 1]
        number = line + error.lineno - 1
        raise InputError(
            f"{name}, line {number}: no JSON ({error.msg} at character {error.colno}): "
            f"{wrong[:_SHOWN]!r}; a JSON object a line is expected, or one array of objects"
        ) from error
    except ValueError as error:
        raise InputError(f"{name}, line {line}: {error}") from error
    # a half of a surrogate pair is no character, and Arrow refuses it
    return _mended(value) if "\\ud" in text or "\\uD" in text else value


def _to_row(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: a {type(value).__name__}; a JSON object is expected: {str(value)[:_SHOWN]!r}"
        )
    return value


def _mended(value: Any) -> Any:
    """The value with U+FFFD for each lone surrogate in it."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, list) else value


def _common_type(known: pa.DataType, values: Sequence[object]) -> pa.DataType | None:
    """Type of these values and of those before, which have the known one; None: there is none."""
    try:
        schemas = [pa.schema({"value": data_type}) for data_type in (known, pa.array(values).type)]
        # "permissive" widens: null and int64 to int64, int64 and double to double; not to text
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None


def _has_no_fields(data_type: pa.DataType) -> bool:
    """Whether an object without keys is in it, which Parquet cannot hold."""
    if pt.is_struct(data_type):
        return data_type.num_fields == 0 or any(_has_no_fields(part.type) for part in data_type)
    return pt.is_list(data_type) and _has_no_fields(data_type.value_type)
