"""Bytes and names on any fsspec filesystem: list, read, and create whole or not at all.

`create_exclusive` is the one primitive that the guarantees of the job rest on: after it, the object
is there complete, and of several callers with one name exactly one is told True.
`can_create_exclusively` tries whether the store keeps that promise.

Requests that fail for a moment are repeated, with backoff and jitter, by the libraries below
(botocore as `filesystems` says, gcsfs and adlfs on their own). What arrives here has failed for
good.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

from fsspec.implementations.local import LocalFileSystem

from bertsum.errors import BertsumError, OutputError
from bertsum.masking import describe, mask
from bertsum.storage.filesystems import configure, open_filesystem
from bertsum.storage.local_files import TEMPORARY_PREFIX, create_file, replace_file

__all__ = [
    "TEMPORARY_PREFIX",
    "FileInfo",
    "Folder",
    "configure",
    "describe",
    "mask",
    "open_filesystem",
]

_READ_BYTES = 2**20
# What filesystems of fsspec call that by which a new content is told from an old one; the surest
# first.
_VERSION_KEYS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "generation",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)
# Those of them that are times, of S3, Azure, Google, and of other filesystems.
_TIME_KEYS = ("LastModified", "last_modified", "updated", "mtime", "created")
# Errors of a file system that knows no hard links, or of a store that knows no conditional writes.
_UNSUPPORTED = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.EMLINK,
}
# The right that each verb needs, on S3 and on Google Cloud Storage.
_RIGHTS = {
    "list": ("s3:ListBucket", "storage.objects.list"),
    "read": ("s3:GetObject", "storage.objects.get"),
    "create": ("s3:PutObject", "storage.objects.create"),
    "write": ("s3:PutObject", "storage.objects.create"),
    "remove": ("s3:DeleteObject", "storage.objects.delete"),
}
_PROBE = "_bertsum/" + TEMPORARY_PREFIX
_UNTOUCHED_SECONDS = 3600.0  # no writer takes so long for one file


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What tells one content of a file from another."""

    size: int  # bytes
    version: str  # etag or modification time


class Folder:
    """A directory, or key prefix, on any filesystem.

    Names are relative, with `/`. Errors name the full URI.
    """

    def __init__(
        self, uri: str, error: type[BertsumError] = OutputError, *, exclusive: bool = True
    ) -> None:
        """Open a folder, which need not exist.

        `error`: raised for all that fails.
        `exclusive`: False where `can_create_exclusively` says so.
        """
        self._error, self._exclusive = error, exclusive
        self._fs, self._root = open_filesystem(uri)
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self.uri = self._root if self.is_local else uri.rstrip("/")

    def __str__(self) -> str:
        return mask(self.uri)

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of its filesystem, by fsspec's names; credentials too."""
        return cast(Mapping[str, Any], self._fs.storage_options)

    def is_below(self, other: "Folder") -> bool:
        """Whether it is `other`, or in it and not hidden from its `list_names`."""
        if type(self._fs) is not type(other._fs):
            return False
        ours, theirs = self._resolved_root(), other._resolved_root()
        inside = f"{ours}/".startswith(f"{theirs}/")
        return inside and not _is_hidden(ours[len(theirs) + 1 :])

    def list_names(self, below: str = "", also: str = "") -> dict[str, FileInfo]:
        """All files, sorted by name; only those of the subdirectory `below`, where it is given.

        A name with a part that starts with `_` or `.` is left out, except files of the name `also`,
        which may begin with a directory.
        """
        with self._reporting("list", below):
            files = self._list_local(below, also) if self.is_local else self._list_remote(below)
        visible: dict[str, FileInfo] = {}
        for name in sorted(files):
            # without the part that may begin with `_`: of `dt=1/_SUCCESS`, `dt=1/` is looked at
            if not _is_hidden(name.removesuffix(also)):
                visible[name] = files[name]
        return visible

    def info(self, name: str) -> FileInfo | None:
        """Size and version now, or None when there is no such file."""
        with self._reporting("read", name):
            try:
                if self.is_local:
                    return _stat(Path(self._path(name)))
                # fsspec remembers listings, which other processes make untrue
                self._fs.invalidate_cache(self._path(name))
                entry = self._fs.info(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _info(entry) if entry["type"] == "file" else None

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

    def read_start(self, name: str, num_bytes: int) -> bytes:
        """The first bytes of the content."""
        with self._reporting("read", name):
            return cast(bytes, self._fs.cat_file(self._path(name), start=0, end=num_bytes))

    def linked_directories(self) -> list[str]:
        """Visible links to directories, which `list_names` does not follow; local ones only."""
        if not self.is_local:
            return []
        links = []
        for directory, subdirectories, _ in os.walk(self._root):
            # os.walk goes into those that are left in its list.
            subdirectories[:] = sorted(name for name in subdirectories if not _is_hidden(name))
            for name in subdirectories:
                path = Path(directory, name)
                if path.is_symlink():
                    links.append(path.relative_to(self._root).as_posix())
        return links

    def sha256(self, name: str) -> str:
        """Hex digest of the content, read in small pieces."""
        digest = hashlib.sha256()
        with self._reporting("read", name), self._fs.open(self._path(name), "rb") as stream:
            while piece := stream.read(_READ_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def can_create_exclusively(self) -> bool:
        """Try whether a second create of one name is refused.

        Some stores ignore the condition, some do not know it. Raises the folder's error when
        nothing can be written at all.
        """
        name, first = f"{_PROBE}{secrets.token_hex(8)}.tmp", secrets.token_bytes(8)
        try:
            # Refused, and yet made: see `create_own`.
            is_made = self._create(name, first) or self.read_bytes(name) == first
            return is_made and not self._create(name, b"second")
        except self._error as error:
            cause = error.__cause__
            if isinstance(cause, OSError):
                is_unsupported = cause.errno in _UNSUPPORTED
            else:  # a library that does not know the argument
                is_unsupported = isinstance(cause, NotImplementedError | TypeError | ValueError)
            if not is_unsupported:
                raise
            # raises where the store refuses any write: then it is not the condition that fails
            self.write_replace(name, first)
            return False
        finally:
            with suppress(self._error):
                self.remove(name)

    def create_exclusive(self, name: str, data: bytes | memoryview) -> bool:
        """Make the object appear whole, or not at all; False, and nothing changed, when it exists.

        Where the store cannot do it, look and then write: still whole or not at all, but of several
        callers at the same moment more than one may be told True, and the last one's content stays.
        """
        if self._exclusive:
            return self._create(name, data)
        if self.info(name) is not None:
            return False
        self.write_replace(name, data)
        return True

    def create_own(self, name: str, data: bytes) -> bool:
        """Do `create_exclusive` with bytes that nobody else has.

        True also where only the answer was lost: the request is then repeated, and finds what it
        has made itself.
        """
        return self.create_exclusive(name, data) or self.read_bytes(name) == data

    def write_replace(self, name: str, data: bytes | memoryview) -> None:
        """Write a small file; a reader sees the old content or the new one, never a mixture."""
        with self._reporting("write", name):
            if self.is_local:
                replace_file(Path(self._path(name)), data)
            else:
                self._fs.pipe_file(self._path(name), bytes(data))

    def modified(self, name: str) -> float | None:
        """Unix time of the last write; None when there is no such file."""
        with self._reporting("read", name):
            try:
                self._fs.invalidate_cache(self._path(name))
                return cast(float, self._fs.modified(self._path(name)).timestamp())
            except FileNotFoundError:
                return None

    def write_times(self) -> dict[str, float]:
        """Unix times of the last write of visible files, by name, where the listing tells them."""
        with self._reporting("list"):
            if self.is_local:
                local: dict[str, float] = {}
                for name, info in self._list_local("", "").items():
                    if info.version.isdecimal():  # not of a dangling link
                        local[name] = int(info.version) / 1e9
                return local
            self._fs.invalidate_cache()
            entries = self._fs.find(self._root, detail=True)
        times: dict[str, float] = {}
        for path, entry in entries.items():
            name = path[len(self._root) + 1 :]
            written = next((entry[key] for key in _TIME_KEYS if entry.get(key)), None)
            if isinstance(written, str):  # of Google's storage
                written = datetime.fromisoformat(written)
            if isinstance(written, datetime):
                written = written.timestamp()
            if written is not None and not _is_hidden(name):
                times[name] = float(written)
        return times

    def remove(self, name: str) -> None:
        """Remove a file; it is no error when there is none."""
        with self._reporting("remove", name):
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def sweep_temporary(self, below: str = "") -> None:
        """Remove what writers left behind that were killed half-way, an hour ago at least.

        What is younger may belong to writers that are at work.
        """
        if self.is_local:
            files = Path(self._root, below).rglob(f"{TEMPORARY_PREFIX}*.tmp")
            names = [path.relative_to(self._root).as_posix() for path in files]
        else:  # object stores have no half-written objects, only probes
            with self._reporting("list"):
                self._fs.invalidate_cache()
                try:
                    paths = self._fs.ls(self._path("_bertsum"), detail=False)
                except FileNotFoundError:
                    paths = []
            names = [path[len(self._root) + 1 :] for path in paths if f"/{_PROBE}" in path]
        for name in self.untouched(names):
            self.remove(name)

    def untouched(self, names: Collection[str]) -> list[str]:
        """Those of the files that nobody has written for an hour, by the clock of the store."""
        if not names:
            return []
        # The time of a new file is now, by that clock.
        probe = f"{_PROBE}{secrets.token_hex(8)}.tmp"
        self.write_replace(probe, b"-")
        now = self.modified(probe) or 0.0
        untouched = []
        for name in names:
            time = self.modified(name)
            if time is not None and now - time > _UNTOUCHED_SECONDS:
                untouched.append(name)
        self.remove(probe)
        return untouched

    def _create(self, name: str, data: bytes | memoryview) -> bool:
        with self._reporting("create", name):
            if self.is_local:
                return create_file(Path(self._path(name)), data)
            try:
                # On S3 a conditional put (If-None-Match), also where the object goes up in parts.
                self._fs.pipe_file(self._path(name), bytes(data), mode="create")
            except FileExistsError:
                return False
            except FileNotFoundError:
                # The answer to the last request of an upload in parts was lost, so that its
                # repetition finds no upload.
                self._fs.invalidate_cache(self._path(name))
                if not self._fs.exists(self._path(name)):
                    raise
                return False
            return True

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _resolved_root(self) -> str:
        """The root without `..` and links, so that one directory has one path; remote: as it is."""
        if not self.is_local:
            return self._root
        # the root of `/` is empty, which `realpath` takes for the working directory
        return os.path.realpath(f"{self._root}/").rstrip("/")

    def _list_local(self, below: str, also: str) -> dict[str, FileInfo]:
        def raise_unless_missing(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        files = {}
        needed = also.rpartition("/")[0]
        # Not fsspec: of a link to a file, the time and size of the file itself are wanted.
        walk = os.walk(Path(self._root, below), onerror=raise_unless_missing)
        for directory, subdirectories, names in walk:
            # os.walk goes into those that are left in its list.
            subdirectories[:] = [n for n in subdirectories if n == needed or not _is_hidden(n)]
            for name in names:
                path = Path(directory, name)
                relative = path.relative_to(self._root).as_posix()
                with suppress(FileNotFoundError):  # of what is removed meanwhile
                    if path.is_file():
                        files[relative] = _stat(path)
                    elif path.is_symlink() and not path.exists():  # an error for whoever reads it
                        files[relative] = FileInfo(0, "dangling link")
        return files

    def _list_remote(self, below: str) -> dict[str, FileInfo]:
        self._fs.invalidate_cache()
        try:
            entries = self._fs.find(self._path(below) if below else self._root, detail=True)
        except FileNotFoundError:
            return {}
        files = {}
        for path, entry in entries.items():
            name = path[len(self._root) + 1 :]
            if name and not name.endswith("/"):  # some tools make an empty object for a directory
                files[name] = _info(entry)
        return files

    @contextmanager
    def _reporting(self, verb: str, name: str = "") -> Iterator[None]:
        """Turn what the block raises into the folder's error, which names verb and URI."""
        try:
            yield
        except BertsumError:
            raise
        except Exception as error:
            # The libraries of object stores have errors of their own, beside OSError.
            if self.is_local and not isinstance(error, OSError):
                raise
            uri = f"{self.uri}/{name}" if name else self.uri
            reason = describe(error, known_path=uri) + self._advice(verb, error)
            raise self._error(f"cannot {verb} {mask(uri)}: {reason}") from error

    def _advice(self, verb: str, error: Exception) -> str:
        """The right that is lacking, where access was denied."""
        if self.is_local or not isinstance(error, PermissionError):
            return ""
        scheme = self.uri.partition(":")[0]
        rights = dict(zip(("s3", "gs"), _RIGHTS[verb], strict=True))
        right = rights.get(scheme.replace("s3a", "s3").replace("gcs", "gs"))
        return f"; the credentials in use lack the right to {verb}" + (
            f" ({right})" if right else ""
        )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def _info(entry: dict[str, Any]) -> FileInfo:
    """From what fsspec says of a file."""
    version = next((entry[key] for key in _VERSION_KEYS if entry.get(key)), "")
    # Some filesystems give a number in a listing, and a date for a single file.
    if isinstance(version, datetime):
        version = version.timestamp()
    # HTTP puts an ETag into quotation marks; some filesystems take them off, some do not
    return FileInfo(int(entry["size"] or 0), str(version).strip('"'))


def _stat(path: Path) -> FileInfo:
    status = path.stat()
    return FileInfo(status.st_size, str(status.st_mtime_ns))
