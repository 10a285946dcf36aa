"""Local files that appear whole or not at all, also on a file system that many machines mount."""

import os
import secrets
from pathlib import Path

# Hidden, so that no reader of a directory ever takes a half-written file for a result.
TEMPORARY_PREFIX = ".bertsum-"


def create_file(path: Path, data: bytes | memoryview) -> bool:
    """Make the file; False, and nothing changed, when the name exists.

    Raises OSError, also where the file system has no hard links.
    """
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)  # unlike a rename, a link fails when the name exists
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return True


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Make the file, or give it a new content; a reader sees the old one or the new one."""
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _write_temporary(path: Path, data: bytes | memoryview) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            # Content first, name later: else a machine that loses power may keep the name alone.
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_directory(path: Path) -> None:
    """Write the directory's names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
