"""The library knows nothing of Ray, and imports go one way by package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import LIMIT_SECONDS

from jobs.cli import COMMANDS

ROOT = Path(__file__).parents[2]
MOST_MODULES = 16

# A package may import those above it, never those below it. The modules of a line stand in the package itself.
# `runs` and its tables are one: the protocol of a run makes a table complete, too.
PACKAGES = {
    "bertsum": [
        ["errors", "schema", "masking"],
        ["robust"],
        ["config_base"],
        ["config", "model_config"],
        ["output_config"],
        ["job_config"],
        "storage",
        "text",
        "model",
        "checkpoints",
        "inference",
        "checks",
        "runs",
        "matching",
        "generation",
        "labels",
        "evaluation",
        "training",
        "tuning",
        "reports",
        "trends",
    ],
    "jobs": [
        "terminal",
        "observability",
        "engine",
        "measuring",
        "learning",
        "remote",
        ["options"],
        [
            "text",
            "status",
            "publish",
            "report",
            "monitor",
            "summarize",
            "prepare",
            "evaluate",
            "match",
            "generate",
            "train",
            "benchmark",
        ],
        ["nightly", "backfill", "tune"],
        ["cli"],
        ["shipped"],  # what a submission runs on the cluster, with `cli`
        ["submit"],
        "orchestrators",
    ],
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__init__.py"
}


def imports(path: Path) -> set[str]:
    """Absolute names of everything that a file imports anywhere, also inside functions and for type checking."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


IMPORTS = {name: imports(path) & MODULES.keys() for name, path in MODULES.items()}


def rank(name: str) -> int:
    """The line of PACKAGES in which a module stands."""
    top, first, *_ = name.split(".")
    lines = PACKAGES[top]
    return next(
        i
        for i, line in enumerate(lines)
        if first == line or (first in line and isinstance(line, list))
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_one_way(name: str) -> None:
    same = [other for other in IMPORTS[name] if other.split(".")[0] == name.split(".")[0]]
    assert not [other for other in same if rank(other) > rank(name)]


def test_there_is_no_cycle() -> None:
    graph = dict(IMPORTS)
    while graph:
        leaves = {name for name, needed in graph.items() if not needed & graph.keys()}
        assert leaves, f"these modules import each other: {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in leaves}


def test_no_folder_is_crowded() -> None:
    commands = {f"jobs.{name}" for name in COMMANDS}  # which `bertsum --help` lists
    folders = [path.parent for name, path in MODULES.items() if name not in commands]
    crowded = {str(folder.relative_to(ROOT)): folders.count(folder) for folder in folders}
    assert not {folder: count for folder, count in crowded.items() if count > MOST_MODULES}


def test_package_files_are_empty() -> None:
    """So that a finished job imports no torch. The library's own names the public classes, and loads them late."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    assert len(files) > 15
    filled = {
        str(path.relative_to(ROOT)) for path in files if path.read_text(encoding="utf-8").strip()
    }
    assert filled <= {"bertsum/__init__.py", "jobs/__init__.py"}


def test_no_test_imports_a_test() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name.startswith("test_")]
    for path in tests:
        assert not [
            name for name in imports(path) if name.rpartition(".")[2].startswith("test_")
        ], path


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("bertsum.")))
def test_the_library_imports_neither_ray_nor_jobs(name: str) -> None:
    assert not {imported.split(".")[0] for imported in imports(MODULES[name])} & {"ray", "jobs"}


def test_every_module_works_with_ray_blocked() -> None:
    names = sorted(name for name in MODULES if name.startswith("bertsum."))
    code = f"import sys, importlib; sys.modules['ray'] = None; [importlib.import_module(n) for n in {names!r}]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=LIMIT_SECONDS)


def test_what_a_finished_job_needs_imports_no_torch() -> None:
    """It takes seconds, and a job that finds nothing to do should end in one."""
    names = [
        "bertsum.runs.plan",
        "bertsum.runs.commit",
        "bertsum.checkpoints.locate",
        "bertsum.checkpoints.config",
    ]
    names.append("jobs.summarize")
    code = f"import sys, importlib; [importlib.import_module(n) for n in {names!r}]; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=LIMIT_SECONDS)
