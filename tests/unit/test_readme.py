"""The README is the manual: it must name every file, every configuration key, every column and every option."""

import importlib
import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pydantic import BaseModel

from bertsum.config import JobConfig, ModelConfig
from bertsum.evaluation import EvaluationConfig
from bertsum.preparation import LEFT_OUT, DocumentsConfig
from bertsum.schema import PREDICTION_SCHEMA, Status
from bertsum.training_config import NewEncoderConfig, SourceConfig, TrainingConfig, WorkersConfig
from bertsum.tuning_config import RangeConfig, TuningConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def keys(cls: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in cls.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += keys(kind, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


@pytest.mark.parametrize("key", keys(JobConfig))
def test_every_key_of_the_job_has_a_row(key: str) -> None:
    assert f"\n| `{key}` |" in README


@pytest.mark.parametrize("key", keys(DocumentsConfig, "documents.") + keys(EvaluationConfig, "evaluation."))
def test_every_key_of_preparing_and_measuring_is_named(key: str) -> None:
    assert f"`{key}`" in README


def test_every_reason_to_leave_a_row_out_is_described() -> None:
    for status in LEFT_OUT:
        assert f"`{status}`" in README


def test_the_defaults_in_the_table_are_those_of_the_code() -> None:
    defaults = JobConfig().model_dump()
    shown = re.findall(r"^\| `([a-z_.]+)` \| `([^`]+)` \|", README, re.MULTILINE)
    assert len(shown) > 8
    for key, text in shown:
        value = defaults
        for part in key.split("."):
            value = value[part]
        assert text in (str(value), str(value).lower()), key


def test_every_module_is_on_the_map_and_nothing_else() -> None:
    on_map = set(re.findall(r"^  (\w+\.py) ", README, re.MULTILINE))
    modules = {path.name for folder in ("bertsum", "jobs") for path in (ROOT / folder).glob("*.py")}
    assert on_map == modules - {"__init__.py"}


def test_every_column_and_status_is_described() -> None:
    for name in [*PREDICTION_SCHEMA.names, *Status]:
        assert f"`{name}`" in README


@pytest.mark.parametrize("command", ["summarize", "submit", "benchmark"])
def test_every_option_is_described(command: str) -> None:
    parser = importlib.import_module(f"jobs.{command}").parser()
    options = [action.option_strings[-1] for action in parser._actions if action.option_strings]
    assert len(options) > 7
    for option in set(options) - {"--help"}:
        assert f"`{option}" in README, option


def test_make_targets_that_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert f"\n{target}:" in makefile, target


def shown(value: object) -> str:
    if value is None:
        return ""
    if value == "" or value == ():
        return "none"
    return f"`[{', '.join(value)}]`" if isinstance(value, tuple) else f"`{str(value).lower()}`"


def rows(cls: type[BaseModel], prefix: str) -> list[str]:
    return [
        f"| `{prefix}{name}` | {'required' if field.is_required() else shown(field.default)} | {field.description} |"
        for name, field in cls.model_fields.items()
        if name not in ("sources", "model", "resources", "new_encoder")
    ]


def test_the_manual_of_training_has_each_key_with_its_default() -> None:
    manual = (ROOT / "jobs/TRAINING.md").read_text(encoding="utf-8")
    classes = [
        (TrainingConfig, ""),
        (WorkersConfig, "resources."),
        (ModelConfig, "model."),
        (SourceConfig, "sources[]."),
    ]
    classes.append((NewEncoderConfig, "new_encoder."))
    expected = [row for cls, prefix in classes for row in rows(cls, prefix)]
    expected += [row for cls, prefix in ((TuningConfig, ""), (RangeConfig, "space.KEY.")) for row in rows(cls, prefix)]
    assert [line for line in manual.splitlines() if line.startswith("| `")] == expected


def licence(name: str) -> str:
    """As the metadata of an installed package gives it: its expression, else what it calls itself."""
    found = metadata(name)
    own = found.get("License-Expression") or found.get("License") or ""
    classes = [line.rpartition(" :: ")[2] for line in found.get_all("Classifier") or [] if line.startswith("License")]
    return own if (own and len(own) < 80) or not classes else ", ".join(classes)


def test_every_direct_dependency_has_its_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    needed = {Requirement(line).name for lines in (project["dependencies"], *extras.values()) for line in lines}
    table = dict(re.findall(r"^\| ([\w-]+) \| ([^|]+?) \|(?: always| `\[)", README, re.MULTILINE))
    assert table.keys() == needed
    installed = {name for name in needed if is_installed(name)}
    assert len(installed) > 15
    for name in installed:
        expected = licence(name)
        assert table[name].startswith(expected), f"{name}: {expected}"


def is_installed(name: str) -> bool:
    try:
        return bool(metadata(name))
    except PackageNotFoundError:
        return False
