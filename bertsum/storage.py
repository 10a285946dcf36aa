"""Bytes and names on any fsspec filesystem: list, read, and create whole or not at all.

`create_exclusive` is the one primitive that the guarantees of the job rest on: after it, the object is there complete,
and of several callers with one name exactly one is told True.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from bertsum.errors import BertsumError, ConfigError, OutputError

TEMPORARY_PREFIX = ".bertsum-"  # hidden, so no reader of a directory ever takes a half-written file for a result
_READ_BYTES = 2**20
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "LastModified", "last_modified", "updated",
                 "mtime", "created")  # fmt: skip

_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/@\s]+)@")
_SECRET = re.compile(
    r"(?P<key>[?&;][\w.-]*(?:token|key|secret|passw|pwd|sig|credential|auth)[\w.-]*=)[^&;\s'\"]+", re.IGNORECASE
)


def mask(text: str) -> str:
    """`text` without the credentials that a URI in it carries, safe to print (undecodable bytes escaped)."""
    text = _USER.sub(_mask_user, text)
    text = _SECRET.sub(r"\g<key>***", text)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _mask_user(match: re.Match[str]) -> str:
    # abfss://container@account names a place, not a person
    is_container = match["scheme"].lower().startswith(("abfs", "wasb", "az")) and ":" not in match["user"]
    return match[0] if is_container else f"{match['scheme']}://***@"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What tells one content of a file from another: its size in bytes, and its etag or modification time."""

    size: int
    version: str


class Folder:
    """A directory, or key prefix, on any filesystem. Names are relative, with `/`; errors name the full URI."""

    def __init__(self, uri: str, error: type[BertsumError] = OutputError) -> None:
        self._error = error
        self._fs, self._root = _open_filesystem(uri)
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self.uri = self._root if self.is_local else uri.rstrip("/")

    def __str__(self) -> str:
        return mask(self.uri)

    def is_below(self, other: "Folder") -> bool:
        """Whether it is `other`, or in it and not hidden from its `list_names`."""
        if type(self._fs) is not type(other._fs):
            return False
        inside = f"{self._root}/".startswith(f"{other._root}/")
        return inside and not _is_hidden(self._root[len(other._root) + 1 :])

    def list_names(self) -> dict[str, FileInfo]:
        """All files below, sorted by name; a name with a part that starts with `_` or `.` is left out."""
        with self._reporting("list"):
            found = self._list_local() if self.is_local else self._list_remote()
        return dict(sorted((name, info) for name, info in found.items() if not _is_hidden(name)))

    def info(self, name: str) -> FileInfo | None:
        """Size and version now, or None when there is no such file."""
        with self._reporting("read", name):
            try:
                if self.is_local:
                    return _stat(Path(self._path(name)))
                self._fs.invalidate_cache(self._path(name))
                found = self._fs.info(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _info(found) if found["type"] == "file" else None

    def is_file(self) -> bool:
        """Whether the URI names a file and not a directory."""
        with self._reporting("read"):
            return bool(self._fs.isfile(self._root))

    def open(self, name: str) -> IO[bytes]:
        """The file, for reading; seekable."""
        with self._reporting("read", name):
            return cast(IO[bytes], self._fs.open(self._path(name), "rb"))

    def read_bytes(self, name: str) -> bytes:
        """The whole content."""
        with self._reporting("read", name):
            return cast(bytes, self._fs.cat_file(self._path(name)))

    def sha256(self, name: str) -> str:
        """Hex digest of the content, read in small pieces."""
        digest = hashlib.sha256()
        with self._reporting("read", name), self._fs.open(self._path(name), "rb") as stream:
            while piece := stream.read(_READ_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def create_exclusive(self, name: str, data: bytes | memoryview) -> bool:
        """Make the object appear whole, or not at all; False, and nothing changed, when the name exists."""
        with self._reporting("create", name):
            if self.is_local:
                return _create_local(Path(self._path(name)), data)
            try:
                # on S3 a conditional put (If-None-Match), also where the object goes up in parts
                self._fs.pipe_file(self._path(name), bytes(data), mode="create")
            except FileExistsError:
                return False
            return True

    def write_replace(self, name: str, data: bytes) -> None:
        """Write a small file; a reader sees the old content or the new one, never a mixture."""
        with self._reporting("write", name):
            if self.is_local:
                _replace_local(Path(self._path(name)), data)
            else:
                self._fs.pipe_file(self._path(name), data)

    def remove(self, name: str) -> None:
        """Remove a file; it is no error when there is none."""
        with self._reporting("remove", name):
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def sweep_temporary(self) -> None:
        """Remove what writers left behind that were killed half-way. Only when no writer is at work any more."""
        if self.is_local:
            for path in Path(self._root).rglob(f"{TEMPORARY_PREFIX}*.tmp"):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _list_local(self) -> dict[str, FileInfo]:
        # os.walk and not fsspec: it follows a link to a file, whose own time and size are then the ones that count
        found = {}
        for directory, subdirectories, names in os.walk(self._root, onerror=_raise_unless_missing):
            subdirectories[:] = [name for name in subdirectories if not _is_hidden(name)]
            for name in names:
                path = Path(directory, name)
                if path.is_file():
                    found[path.relative_to(self._root).as_posix()] = _stat(path)
        return found

    def _list_remote(self) -> dict[str, FileInfo]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._root) + 1
        return {path[start:]: _info(entry) for path, entry in found.items() if path[start:] and path[-1] != "/"}

    @contextmanager
    def _reporting(self, verb: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = f"{self.uri}/{name}" if name else self.uri
            raise self._error(f"cannot {verb} {mask(place)}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """The reason in one line, without credentials: an error's own words, or its type when it has none."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    first_line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return mask(first_line) or type(error).__name__


def _open_filesystem(uri: str) -> tuple[Any, str]:
    if "\0" in uri or not uri.strip():
        raise ConfigError(f"{uri!r} is not a path or URI")
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise ConfigError(f"{mask(uri)}: {describe(error)} (extras of this package: s3, gcs, azure)") from error
    except ValueError as error:
        raise ConfigError(f"{mask(uri)}: {describe(error)}") from error
    return filesystem, root.rstrip("/")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def _info(entry: dict[str, Any]) -> FileInfo:
    version = next((entry[key] for key in _VERSION_KEYS if entry.get(key)), "")
    if isinstance(version, datetime):  # some filesystems list a number and describe a single file with a date
        version = version.timestamp()
    return FileInfo(int(entry["size"] or 0), str(version).strip('"'))


def _stat(path: Path) -> FileInfo:
    status = path.stat()
    return FileInfo(status.st_size, str(status.st_mtime_ns))


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _create_local(path: Path, data: bytes | memoryview) -> bool:
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)  # unlike a rename, a link fails when the name exists
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return True


def _replace_local(path: Path, data: bytes) -> None:
    temporary = _write_temporary(path, data)
    temporary.replace(path)
    _sync_directory(path.parent)


def _write_temporary(path: Path, data: bytes | memoryview) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
