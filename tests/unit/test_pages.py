"""The pages say what is true: links, paths, commands, options and keys exist, YAML is valid, Python runs."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.configuration_page import PAGE, keys, page, parsers
from helpers.waiting import LIMIT_SECONDS
from packaging.requirements import Requirement
from pydantic import BaseModel

from bertsum.config import SummarizerConfig
from bertsum.config_base import validated
from bertsum.errors import ConfigError
from bertsum.evaluation.config import EvaluateConfig
from bertsum.generation.config import GenerateJobConfig, ThenConfig
from bertsum.job_config import JobConfig
from bertsum.labels.prepare import LEFT_OUT, PrepareConfig
from bertsum.matching.config import MatchJobConfig
from bertsum.schema import OutputGroup, Status, prediction_schema
from bertsum.training.config import TrainingConfig
from bertsum.trends.config import MonitorConfig
from bertsum.tuning.config import TuningConfig

ROOT = Path(__file__).parents[2]
DIRECTORIES = ("bertsum", "jobs", "cluster", "tests")
PAGES = [ROOT / "README.md"]
for directory in DIRECTORIES:
    PAGES += sorted((ROOT / directory).rglob("*.md"))
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
PARSERS = parsers()
CONFIGS: dict[str, type[BaseModel]] = {
    "summarize": JobConfig,
    "nightly": JobConfig,
    "backfill": JobConfig,
    "benchmark": JobConfig,
    "text": SummarizerConfig,
    "prepare": PrepareConfig,
    "evaluate": EvaluateConfig,
    "match": MatchJobConfig,
    "generate": GenerateJobConfig,
    "train": TrainingConfig,
    "tune": TuningConfig,
    "monitor": MonitorConfig,
    "--then": ThenConfig,
}
KEYS: set[str] = set()
for config in CONFIGS.values():
    KEYS |= {key.name.replace("[]", "") for key in keys(config)}
SECTIONS = {name.rpartition(".")[0] for name in KEYS if "." in name}

every_page = pytest.mark.parametrize("name", TEXTS)


def blocks(text: str, language: str = "") -> list[str]:
    """The code blocks of one language; "": those that name none."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """What stands between single backticks outside of code blocks."""
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", outside)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@every_page
def test_paths_exist(name: str) -> None:
    """Files, directories, and modules without `.py`, from the page's directory or from the top."""
    here = (ROOT / name).parent
    known = {*DIRECTORIES, "..", *(path.name for path in here.iterdir() if path.is_dir())}
    for span in spans(TEXTS[name]):
        is_path = re.fullmatch(r"[\w.-]+/[\w./-]*", span) and span.partition("/")[0] in known
        if is_path and not re.search("NAME|FORMAT", span):
            candidates = [here / span, here / f"{span}.py", ROOT / span, ROOT / f"{span}.py"]
            assert any(path.exists() for path in candidates), span


def commands() -> Iterator[Any]:
    for name, text in TEXTS.items():
        for block in blocks(text):
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.search(rf"(?<![\w-])bertsum ({'|'.join(PARSERS)}) (.+)$", line):
                    yield pytest.param(*match.groups(), id=f"{name}: {match[0][:60]}")


@pytest.mark.parametrize(("command", "line"), list(commands()))
def test_commands_are_taken(command: str, line: str) -> None:
    words = shlex.split(re.sub(r"\[(--[^]]+)\]", r"\1", line), comments=True)
    words = [word for word in words if word != "..."]
    if command == "submit":
        submitted, words = PARSERS["submit"].parse_known_args(words)
        command = submitted.job
    arguments = PARSERS[command].parse_args(words)
    known = {key.name for key in keys(CONFIGS[command])} if command in CONFIGS else set()
    for value in getattr(arguments, "settings", []):
        assert value.partition("=")[0] in known | {"KEY"}, value


def test_there_are_commands_of_every_kind() -> None:
    assert {case.values[0] for case in commands()} == PARSERS.keys()


@every_page
def test_options_and_keys_exist(name: str) -> None:
    options = {option for parser in PARSERS.values() for option in parser._option_string_actions}
    for span in spans(TEXTS[name]):
        if span.startswith(("--", "bertsum ")):
            unknown = set(re.findall(r"(?<!\S)--[a-z-]+", span)) - options - {"--build-arg"}
            assert not unknown, span
        key = re.match(r"[a-z_]+(?:\.[a-z_]+)+", span)
        is_file = key and key[0] in ("model.safetensors", "sources.yml")
        if key and key[0].partition(".")[0] in SECTIONS and not is_file:
            assert key[0] in KEYS | SECTIONS, span


@every_page
def test_yaml_is_a_configuration(name: str) -> None:
    for block in blocks(TEXTS[name], "yaml"):
        assert any(
            is_valid(config, yaml.safe_load(block))
            for config in (JobConfig, ThenConfig, TrainingConfig, TuningConfig, MonitorConfig)
        )


def is_valid(config: Any, values: dict[str, Any]) -> bool:
    try:
        validated(config, values, "a page")
    except ConfigError:
        return False
    return True


def programs() -> Iterator[Any]:
    for name, text in TEXTS.items():
        for number, block in enumerate(blocks(text, "python")):
            marks = [pytest.mark.slow] if "import ray" in block else []
            for package in ("polars", "airflow", "dagster"):
                is_used = re.search(rf"^(import|from) {package}\b", block, re.MULTILINE)
                if is_used and find_spec(package) is None:
                    marks.append(pytest.mark.skip(f"{package}, an extra, is not installed"))
            yield pytest.param(block, id=f"{name}-{number}", marks=marks)


@pytest.mark.parametrize("program", list(programs()))
def test_python_runs(program: str) -> None:
    """Each block by itself, from the top of the project; one that needs a run before it says so in its first line."""
    if program.startswith("# After "):
        compile(program, "page", "exec")
    else:
        # a cluster that another program runs on this machine, or left behind, is not this test's
        environment = os.environ | {"RAY_ADDRESS": "local"}
        command = [sys.executable, "-c", program]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=LIMIT_SECONDS)


@every_page
def test_make_targets_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z0-9-]+)", TEXTS[name], re.MULTILINE):
        assert f"\n{target}:" in makefile, target


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(TEXTS["README.md"].split()) <= 1800


def test_the_configuration_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_command_has_a_page() -> None:
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| .+ \| \[.+\]\((docs/\S+\.md)\) \|$",
            TEXTS["jobs/README.md"],
            re.MULTILINE,
        )
    )
    assert rows.keys() == PARSERS.keys()
    for command in PARSERS:
        assert f"`{command}`" in TEXTS["README.md"]


@pytest.mark.parametrize("directory", ["bertsum", "jobs"])
def test_every_package_is_on_the_map(directory: str) -> None:
    for package in (ROOT / directory).rglob("__init__.py"):
        name = str(package.parent.relative_to(ROOT / directory))
        assert name == "." or f"`{name}`" in TEXTS[f"{directory}/README.md"], name
        assert name.rpartition("/")[2] in TEXTS["README.md"], name


@pytest.mark.parametrize(
    "directory", ["jobs/engine", "bertsum/runs", "bertsum/text", "bertsum/inference"]
)
def test_every_module_has_a_row(directory: str) -> None:
    page_beside = f"{directory}/README.md"
    page_name = page_beside if page_beside in TEXTS else "jobs/README.md"
    rows = "".join(re.findall(r"^\|.+", TEXTS[page_name], re.MULTILINE))
    modules = {path.stem for path in (ROOT / directory).glob("*.py")} - {"__init__"}
    assert modules <= {*re.findall(r"`(\w+)`", rows)}


@every_page
def test_tests_that_pages_name_exist(name: str) -> None:
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    for test in re.findall(r"(?<![\w/])(test_\w+)`", TEXTS[name]):
        assert f"def {test}(" in tests, test


def test_columns_and_statuses_have_a_row() -> None:
    expected = {
        "jobs/docs/summarize.md": {*prediction_schema(tuple(OutputGroup)).names, *Status},
        "jobs/docs/prepare.md": {*LEFT_OUT},
    }
    for name, values in expected.items():
        first_cells = "".join(re.findall(r"^\|[^|]+", TEXTS[name], re.MULTILINE))
        assert values <= {*re.findall(r"`(\w+)`", first_cells)}


def test_every_direct_dependency_has_its_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {Requirement(line).name for line in project["dependencies"]}
    for extra, lines in project["optional-dependencies"].items():
        needed |= {Requirement(line).name for line in lines} if extra != "dev" else set()
    rows = re.findall(
        r"^\| ([\w-]+) \| ([^|]+?) \|(?: always| `\[)", TEXTS["jobs/docs/security.md"], re.MULTILINE
    )
    table = dict(rows)
    assert table.keys() == needed
    compared = 0
    for name in needed:
        try:
            expected = licence(name)
        except PackageNotFoundError:
            continue
        assert table[name].startswith(expected), f"{name}: {expected}"
        compared += 1
    assert compared > 15


def licence(name: str) -> str:
    """As the metadata of an installed package gives it: its expression, else what it calls itself."""
    fields = metadata(name)
    text = fields.get("License-Expression") or fields.get("License") or ""
    classifiers = [
        line for line in fields.get_all("Classifier") or [] if line.startswith("License")
    ]
    if (text and len(text) < 80) or not classifiers:
        return text
    return ", ".join(line.rpartition(" :: ")[2] for line in classifiers)
