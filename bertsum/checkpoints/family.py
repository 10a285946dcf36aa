"""A family of checkpoints: a directory with `family.json` and a checkpoint in each sub-directory.

    {"bertsum_version": "0.2.0",
     "members": {"english": ["en"], "multilingual": []},
     "others": "multilingual"}

Each member reads the documents of its languages, and one of them those of all others. Reading
`family.json` needs no torch.
"""

import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from bertsum import __version__
from bertsum.config_base import Config, unique_keys
from bertsum.errors import ModelError
from bertsum.text.language_tags import base_language

FAMILY_FILE = "family.json"

# The pattern keeps a hostile file from naming a path outside of its directory.
MemberName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
BaseLanguage = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]{2,3}$"),
    AfterValidator(lambda code: base_language(code) or code),  # zho is zh, as in the rows
]


class FamilyConfig(Config):
    """Content of `family.json`."""

    bertsum_version: str
    members: dict[MemberName, tuple[BaseLanguage, ...]] = Field(
        description="languages that each member reads (ISO 639-1), by its directory", min_length=1
    )
    others: MemberName = Field(description="the member that reads all other languages")

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        if self.others not in self.members:
            raise ValueError(f"others is {self.others!r}, but members has {list(self.members)}")
        readers: dict[str, str] = {}
        for member, languages in self.members.items():
            if not languages and member != self.others:
                raise ValueError(f"member {member!r} reads no language")
            for language in languages:
                if readers.setdefault(language, member) != member:
                    raise ValueError(f"{readers[language]!r} and {member!r} both read {language!r}")
        return self

    def member_for(self, language: str | None) -> str:
        """Name of the member that reads a language; None is a document without text."""
        for member, languages in self.members.items():
            if language in languages:
                return member
        return self.others


def read_family(directory: Path) -> FamilyConfig | None:
    """Read `family.json`; None where there is none. Raises ModelError."""
    path = directory / FAMILY_FILE
    if not path.is_file():
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    return parse_family(data, str(path))


def member_directories(directory: Path) -> dict[str, Path]:
    """Directories of the members of a family by name; a checkpoint has one, of the name ""."""
    family = read_family(directory)
    if family is None:
        return {"": directory}
    return {name: directory / name for name in family.members}


def parse_family(data: bytes, source: str) -> FamilyConfig:
    """Validate the bytes of a `family.json`. Raises ModelError that names `source`."""
    try:
        return FamilyConfig.model_validate(json.loads(data, object_pairs_hook=unique_keys))
    except ValidationError as error:
        problems = [(".".join(map(str, p["loc"])), p["msg"]) for p in error.errors()]
        reasons = "; ".join(f"{key}: {message}" if key else message for key, message in problems)
        raise ModelError(f"{source} does not fit bertsum {__version__}: {reasons}") from error
    except (ValueError, RecursionError) as error:  # thousands of brackets are nested too deeply
        raise ModelError(f"{source} is no family of checkpoints: {error}") from error


def save_family(directory: Path, family: FamilyConfig) -> None:
    """Write `family.json`."""
    text = json.dumps(family.model_dump(mode="json"), indent=1)
    (directory / FAMILY_FILE).write_text(f"{text}\n", encoding="utf-8")
