"""Name of a model -> a local directory.

A model is the shipped one, a directory, a URI in object storage, or a hub name. It is a checkpoint
or a family of them.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from bertsum.checkpoints.family import FAMILY_FILE, parse_family, read_family
from bertsum.errors import BertsumError, ModelError
from bertsum.storage.folder import FileInfo, Folder, describe, mask

DEFAULT_MODEL = Path(__file__).parents[1] / "model_default"
SHIPPED_MODEL = "bertsum-default"  # its name, wherever a model is asked for

_MAX_WAIT_SECONDS = 900.0  # for another process that fetches; after that both do
_MAX_FETCHES = 3  # of a model that is replaced meanwhile
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm"]


def resolve(model: str | None) -> Path:
    """Local directory of a checkpoint or a family, which is fetched where it is elsewhere.

    `model`: None or `bertsum-default` for the shipped one, `bertsum-default/NAME` for a member of
    it, a directory, a URI, or a hub name, which `@REVISION` may follow (a commit, a tag, a branch).
    """
    if model is None:
        return DEFAULT_MODEL
    if "://" in model:
        return _download(model)
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model == SHIPPED_MODEL:
        return DEFAULT_MODEL
    if model.startswith(f"{SHIPPED_MODEL}/"):
        return _shipped_member(model.removeprefix(f"{SHIPPED_MODEL}/"))
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(
            f"model {model!r}: there is no such directory; give a directory, a URI, or a hub name"
        )
    return _download_from_hub(model)


def resolve_checkpoint(model: str | None) -> Path:
    """The same as `resolve`, for where one checkpoint is needed.

    Raises ModelError for a family, which names its members.
    """
    directory = resolve(model)
    family = read_family(directory)
    if family is None:
        return directory
    name = model or SHIPPED_MODEL
    # a hub has no name for a part of a model, but its copy here has
    base = name.rstrip("/") if name == SHIPPED_MODEL or "://" in name else str(directory)
    members = ", ".join(f"{base}/{member}" for member in family.members)
    raise ModelError(
        f"model {mask(name)!r} is a family of checkpoints, and one is needed here: {mask(members)}"
    )


def _shipped_member(name: str) -> Path:
    """Directory of a member of the shipped family. Raises ModelError where there is none."""
    family = read_family(DEFAULT_MODEL)
    members = list(family.members) if family else []
    if name not in members:
        known = ", ".join(f"{SHIPPED_MODEL}/{member}" for member in members)
        raise ModelError(
            f"model {SHIPPED_MODEL}/{name}: there is no such member of the shipped model; "
            + (f"there is: {known}" if known else f"it is one checkpoint: {SHIPPED_MODEL}")
        )
    return DEFAULT_MODEL / name


def _download(uri: str) -> Path:
    """Copy of a remote directory in the cache.

    The listing is its key, so that a changed checkpoint is fetched anew.
    """
    folder = Folder(uri, ModelError)
    for _ in range(_MAX_FETCHES):
        listing = _list(folder)
        if not listing:
            raise ModelError(f"model {folder}: there is no file of a model")
        if folder.is_local:
            return Path(folder.uri)
        # 128 bits of a digest: no two models share a directory of the cache
        files = [[name, info.size, info.version] for name, info in listing.items()]
        key = hashlib.sha256(json.dumps([folder.uri, *files]).encode()).hexdigest()[:32]
        target = _cache() / key
        if _is_fetched(folder, listing, target):
            return target
    raise ModelError(
        f"model {folder} is being replaced: its files changed during each of {_MAX_FETCHES} "
        "fetches; try again when the new one is complete"
    )


def _list(folder: Folder) -> dict[str, FileInfo]:
    """The files of a checkpoint, or of a family and its members.

    A checkpoint is flat; what else is in its directory (the state of a training run) may be large.
    """
    listing = folder.list_names()
    directories = {""}
    if FAMILY_FILE in listing:
        data = folder.read_bytes(FAMILY_FILE)
        directories |= parse_family(data, f"{folder}/{FAMILY_FILE}").members.keys()
    wanted = {}
    for name, info in listing.items():
        directory, _, file_name = name.rpartition("/")
        if directory in directories and any(fnmatch(file_name, pattern) for pattern in _FILES):
            wanted[name] = info
    return wanted


def _is_fetched(folder: Folder, listing: dict[str, FileInfo], target: Path) -> bool:
    """Make the copy where there is none yet; False where the model is no longer what was listed."""
    try:
        with _lock(target):
            if not target.exists():
                _fetch_whole(folder, listing, target)
    except Exception as error:  # libraries of object stores have errors of their own
        if _list(folder) != listing:  # files that go, or change while they are read, are errors too
            return False
        if isinstance(error, BertsumError):
            raise
        raise ModelError(
            f"model {folder} cannot be fetched to {target}: {describe(error)}. "
            "XDG_CACHE_HOME names another directory for copies of models"
        ) from error
    return target.exists()


def _cache() -> Path:
    """Directory of copies of models. Raises ModelError for a user without a home."""
    # Of a user without one, `~` stays as it is, where Path.home() raises.
    directory = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    if not Path(directory).is_absolute():
        raise ModelError(
            f"this user has no home for copies of models ({directory}); "
            "set XDG_CACHE_HOME to a directory"
        )
    return Path(directory) / "bertsum"


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Let one process of a node fetch, while the others wait for it.

    A process that dies lets go of the lock. Whoever waits too long goes on without it: the rename
    at the end is whole or not at all, so that costs a second fetch.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        deadline = time.monotonic() + _MAX_WAIT_SECONDS
        is_locked = False
        while not is_locked and time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_locked = True
            if not is_locked:
                time.sleep(0.1)
        yield


def _fetch_whole(folder: Folder, listing: dict[str, FileInfo], target: Path) -> None:
    """Download beside the target and rename.

    So another process never sees half of it, or halves of two models. No target is made where the
    model was replaced meanwhile.
    """
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        for name in listing:
            (partial / name).parent.mkdir(exist_ok=True)
            with folder.open(name) as source, (partial / name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
        # a file may have been replaced after it was copied, and before the last one was
        if _list(folder) == listing:
            partial.rename(target)
    except OSError:
        if not target.exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _download_from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        advice = ""
        if isinstance(error, PermissionError):
            advice = "; HF_HOME names another directory for copies"
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"model {model!r} is no directory here, and the hub does not give it: {reason}{advice}"
        ) from error
