"""Where a model lies: the shipped one, a directory, a URI in object storage, or a hub name -> a local directory."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import fsspec

from bertsum.errors import ModelError
from bertsum.storage import mask

DEFAULT_MODEL = Path(__file__).parent / "model_default"

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


def resolve(model: str | None) -> Path:
    """Local directory of a checkpoint: the shipped model for None, a directory, a URI (downloaded), or a hub name."""
    if model is None:
        return DEFAULT_MODEL
    if "://" in model:
        return _download(model)
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(f"model {model!r}: there is no such directory; give a directory, a URI, or a hub name")
    return _download_from_hub(model)


def _download(uri: str) -> Path:
    """Copy of a remote directory in the cache, keyed by its listing, so that a changed checkpoint is fetched anew."""
    shown = mask(uri)
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
        listing = filesystem.find(root, detail=True)
        if not listing:
            raise ModelError(f"model {shown}: there is nothing")
        identity = json.dumps(
            [
                [name, info.get("size"), str(info.get("ETag", info.get("mtime")))]
                for name, info in sorted(listing.items())
            ]
        )
        target = Path.home() / ".cache" / "bertsum" / hashlib.sha256(f"{root}{identity}".encode()).hexdigest()[:32]
        if not target.exists():
            _fetch_whole(filesystem, root, list(listing), target)
    except (OSError, ImportError, ValueError) as error:
        raise ModelError(f"model {shown} cannot be fetched: {error}") from error
    return target


def _fetch_whole(filesystem: Any, root: str, names: list[str], target: Path) -> None:
    """Download beside the target and rename, so that another process never sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    for name in names:
        relative = Path(name[len(root) :].lstrip("/"))
        if len(relative.parts) == 1:  # a checkpoint is flat
            filesystem.get_file(name, str(partial / relative))
    try:
        partial.rename(target)
    except OSError:
        if not target.exists():
            raise


def _download_from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"model {name!r} is no directory here, and the hub does not give it: {str(error).splitlines()[0]}"
        ) from error
