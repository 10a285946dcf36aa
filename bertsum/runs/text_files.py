"""Lines of a text file, decoded, with an error that names the file and the line."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from bertsum.errors import InputError
from bertsum.storage.folder import Folder, describe, mask

# A byte order mark is the only thing in a text file that tells its encoding.
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SHOWN_BYTES = 24  # before and after a wrong byte, in a message


def read_lines(folder: Folder, path: str) -> Iterator[str]:
    """Lines with their line ends, as they stand; a `.gz` file is unpacked.

    The text is UTF-8, or UTF-16 where the file begins with that byte order mark. Raises InputError
    for other bytes.
    """
    try:
        with folder.open(path) as raw:
            packed: Any = gzip.GzipFile(fileobj=raw) if path.lower().endswith(".gz") else raw
            with packed, io.BufferedReader(packed) as lines:
                if lines.peek(2)[:2] in _UTF_16:
                    # no newline translation: lines keep their ends, and `\r` may be in a field
                    with io.TextIOWrapper(lines, encoding="utf-16", newline="\n") as decoded:
                        yield from decoded
                else:
                    yield from _decode_utf_8(lines, f"{folder}/{mask(path)}")
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise InputError(f"cannot read {folder}/{mask(path)}: {describe(error)}") from error


def _decode_utf_8(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            # a byte order mark can only begin the first line
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            around = line[max(0, error.start - _SHOWN_BYTES) : error.start + _SHOWN_BYTES]
            raise InputError(
                f"{name}, line {number}: byte {error.start + 1} is not UTF-8 ({around!r}); convert "
                "the file, like `iconv -f WINDOWS-1252 -t UTF-8`, with the encoding that it was "
                "written in"
            ) from error
