"""What every configuration is: typed, frozen, unknown keys refused, checked once.

A value goes one way: default in the code <- YAML file <- `--set key=value`. The three are merged as
plain dicts and validated once by `load_config`. Nothing changes a config afterwards.
"""

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bertsum.errors import ConfigError

_TOO_LARGE = 2**63  # the first number that a signed integer of 64 bits cannot hold


class Config(BaseModel):
    """Base of all configuration: frozen; unknown keys and huge numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, field: ValidationInfo) -> object:
        # Python takes true for 1
        if isinstance(value, bool):
            kind = cls.model_fields[field.field_name or ""].annotation
            kinds = {kind, *get_args(kind)}
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("a number is expected")
        return value

    @model_validator(mode="after")
    def _numbers_can_be_used(self) -> Self:
        # Larger ones fit into no integer of C, which clocks, Arrow and torch take.
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, int | float) and abs(value) >= _TOO_LARGE:
                raise ValueError(f"{name} must be smaller than 2**63")
        return self

    added_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after results had been made without them; see `hashed_values`."""

    short_keys: ClassVar[Mapping[str, str]] = {}
    """Sections that may be given as one value, by their key: that of one field of theirs."""


def hashed_values(config: Config) -> dict[str, Any]:
    """What a fingerprint is made of: all fields, but added ones only where not at their default.

    So a new field that is left alone changes no fingerprint, and results of earlier versions stay
    valid. Whoever adds a field to a configuration that is hashed adds its name to `added_fields` of
    that class.
    """
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if name in config.added_fields and value == field.default:
            del values[name]
        elif isinstance(value, Config):
            values[name] = hashed_values(value)
    return values


def _in_section(cls: type[Config], section: dict[str, Any], name: str, key: str) -> None:
    """Make `section[name]`, whose whole key is `key`, a section where it is a short value."""
    value = section.setdefault(name, {})
    if key in cls.short_keys and not isinstance(value, dict):
        section[name] = {cls.short_keys[key]: value}


ConfigType = TypeVar("ConfigType", bound=Config)


def load_config(
    cls: type[ConfigType], file_path: Path | None = None, overrides: Iterable[str] = ()
) -> ConfigType:
    """Defaults, then the YAML file, then `key.sub=value` overrides, validated once.

    The values of overrides are YAML.

    Raises ConfigError that names each wrong key or value and where it came from.
    """
    values = _read_yaml(file_path) if file_path else {}
    for override in overrides:
        # At the first `=`: the value may hold more of them.
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set takes key=value, not {override!r}")
        try:
            value = _parse(text)
        except _NOT_YAML as error:
            raise ConfigError(f"--set {override!r}: the value is not YAML ({error})") from error
        # for `a.b.c=1` the sections a and a.b are made where the file lacks them
        *path, last = key.strip().split(".")
        section = values
        for depth, name in enumerate(path, 1):
            _in_section(cls, section, name, ".".join(path[:depth]))
            section = section[name]
            if not isinstance(section, dict):
                raise ConfigError(
                    f"--set {override!r}: {'.'.join(path[:depth])} is a value, not a section"
                )
        if key.strip() in cls.short_keys and not isinstance(value, dict):
            # beside what else the section has, whichever was given first
            _in_section(cls, section, last, key.strip())
            section, last = section[last], cls.short_keys[key.strip()]
        section[last] = value
    return validated(cls, values, f"{file_path} and --set" if file_path else "--set")


# A wrong value is shown in a message, but not a whole file that was given in its stead.
_GIVEN = reprlib.Repr()
_GIVEN.maxstring = _GIVEN.maxother = 200


# Pydantic names the types of Python, and whoever writes YAML has lists, mappings and sections.
_EXPECTED = {
    "tuple_type": "a list is expected, like [a, b]",
    "dict_type": "a mapping is expected, like {a: b}",
    "model_type": "a section of keys is expected",
}


def validated(cls: type[ConfigType], values: dict[str, Any], source: str) -> ConfigType:
    """Raises ConfigError that names each wrong key or value, and `source`: where they came from."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        lines = [f"configuration ({source}):"]
        problems = error.errors()
        for problem in problems:
            place = problem["loc"]
            key = ".".join(map(str, place))
            inner = [other for other in problems if other["loc"][:-1][: len(place)] == place]
            if problem["type"] == "too_short" and inner:
                continue  # pydantic does not count items that are wrong, which are named already
            if problem["type"] == "extra_forbidden":
                allowed = ", ".join(_keys_at(cls, place[:-1]))
                lines.append(f"  {key}: there is no such key; allowed here: {allowed}")
            else:
                given = "(not shown)"  # storage options hold credentials, and this address is one
                if not key.startswith(("storage_options", "webhook.url")):
                    given = _GIVEN.repr(problem["input"])
                message = _EXPECTED.get(problem["type"], problem["msg"])
                lines.append(f"  {key or cls.__name__}: {message} (given: {given})")
        raise ConfigError("\n".join(lines)) from error


def with_defaults(cls: type[Config], record: dict[str, Any]) -> dict[str, Any]:
    """A saved configuration with the default of each key that did not exist when it was saved.

    As it is where this version does not accept it, because it is of a later one.
    """
    # json, as records are written: a tuple becomes a list, so that the two can be compared
    try:
        return cls.model_validate(record).model_dump(mode="json")
    except ValidationError:
        return record


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` of json that raises ValueError for a key that stands twice.

    Without it json keeps the last of two values without a word.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {repeated!r} twice")
    return values


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader: plain values only, no aliases, and no key twice.

    Ten lines of aliases can stand for billions of values. Of two values of a key PyYAML keeps the
    last without a word.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"aliases are not allowed here: *{event.anchor}",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        values = super().construct_mapping(node, deep)
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return values


# ValueError: a date or a number that is none, or bytes that are no text; RecursionError: thousands
# of brackets.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)


def _parse(text: str) -> Any:
    return yaml.load(text, _Loader)


def _read_yaml(file_path: Path) -> dict[str, Any]:
    try:
        values = _parse(file_path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration file {file_path}: {error.strerror or error}"
        ) from error
    except _NOT_YAML as error:
        raise ConfigError(f"{file_path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{file_path} holds a {type(values).__name__}; a mapping of keys to values is expected"
        )
    return values


def _keys_at(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for key in location:
        if isinstance(key, int):
            continue  # an item of a list, whose section is known by the list's name
        section = _section(cls.model_fields[key].annotation) if key in cls.model_fields else None
        if section is None:  # there are no keys to name
            return []
        cls = section
    return sorted(cls.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that values of this type are or hold, as of `Section | None` or a list of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)
