"""The library knows nothing of Ray, and imports go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT_SECONDS

ROOT = Path(__file__).parents[2]

# A module may import modules of its own line and of the lines above; within a line there are no cycles.
LAYERS = [
    {"bertsum.errors", "bertsum.schema", "bertsum.masking", "bertsum.atomic_files", "bertsum.cpu_linear"}
    | {"bertsum.heap", "bertsum.ragged", "bertsum.streams"},
    {"bertsum.config"},
    {
        "bertsum.storage",
        "bertsum.sentences",
        "bertsum.words",
        "bertsum.labels_config",
        "bertsum.surface",
        "bertsum.oracle",
        "bertsum.rouge",
    }
    | {"bertsum.tokenizing", "bertsum.windows", "bertsum.filesystems", "bertsum.full_stops", "bertsum.line_breaks"}
    | {"bertsum.known_language"},
    {"bertsum.scope", "bertsum.claim"},
    {"bertsum.shards", "bertsum.encoding", "bertsum.batching", "bertsum.packed", "bertsum.model", "bertsum.running"}
    | {"bertsum.loss", "bertsum.selection", "bertsum.candidates"},
    {"bertsum.units", "bertsum.columns", "bertsum.model_source", "bertsum.checkpoint", "bertsum.metrics"}
    | {"bertsum.checkpoint_config", "bertsum.checkpoint_sizes", "bertsum.encoder_delta"},
    {"bertsum.text_files", "bertsum.csv_files", "bertsum.json_files", "bertsum.importing"},
    {"bertsum.output", "bertsum.plan", "bertsum.concurrent_runs", "bertsum.commit", "bertsum.lake"}
    | {"bertsum.iceberg", "bertsum.delta", "bertsum.table_formats", "bertsum.compaction"},
    {"bertsum.documents"},
    {"bertsum.predictor"},
    {"bertsum.tracking", "bertsum.curves"},
    {"bertsum.training_config", "bertsum.distributed"},
    {"bertsum.tuning_config"},
    {"bertsum.trials", "bertsum.draws"},
    {"bertsum.labels", "bertsum.label_columns", "bertsum.prepared"},
    {"bertsum.baselines", "bertsum.spans", "bertsum.evaluation", "bertsum.evaluation_report"},
    {
        "bertsum.examples",
        "bertsum.preparation",
        "bertsum.training_data",
        "bertsum.training_plan",
        "bertsum.optimization",
    }
    | {"bertsum.adapters", "bertsum.measure", "bertsum.training_state", "bertsum.training", "bertsum.model_card"},
    {"bertsum.new_encoder", "bertsum.trained_heads"},
    {"bertsum.training_run"},
]


def modules(package: str) -> dict[str, Path]:
    found = {f"{package}.{path.stem}": path for path in (ROOT / package).glob("*.py")}
    found.pop(f"{package}.__init__")
    return found


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


def test_every_module_has_a_place() -> None:
    assert set(modules("bertsum")) == set().union(*LAYERS)


@pytest.mark.parametrize("name", sorted(modules("bertsum")))
def test_imports_go_one_way(name: str) -> None:
    rank = next(rank for rank, layer in enumerate(LAYERS) if name in layer)
    allowed = set().union(*LAYERS[: rank + 1])
    own = {imported for imported in imports(modules("bertsum")[name]) if imported in modules("bertsum")}
    assert own <= allowed


def test_there_is_no_cycle() -> None:
    graph = {name: imports(path) & set(modules("bertsum")) for name, path in modules("bertsum").items()}
    while graph:
        leaves = {name for name, needed in graph.items() if not needed & graph.keys()}
        assert leaves, f"these modules import each other: {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in leaves}


def test_a_run_knows_nothing_of_its_commands() -> None:
    """`jobs.publisher` stands between the two, and none of those that it needs imports it."""
    jobs = modules("jobs")
    needed, new = set[str](), {"jobs.publisher"}
    while new:
        needed |= new
        new = set[str]().union(*(imports(jobs[name]) & jobs.keys() for name in new)) - needed
    assert "jobs.run" in needed
    assert not [name for name in needed if "jobs.publisher" in imports(jobs[name])]
    assert not needed & {"jobs.summarize", "jobs.nightly", "jobs.backfill", "jobs.prepare", "jobs.evaluate"}


@pytest.mark.parametrize("name", sorted(modules("bertsum")))
def test_the_library_imports_neither_ray_nor_jobs(name: str) -> None:
    assert not {imported.split(".")[0] for imported in imports(modules("bertsum")[name])} & {"ray", "jobs"}


def test_every_module_works_with_ray_blocked() -> None:
    names = sorted(modules("bertsum"))
    code = f"import sys, importlib; sys.modules['ray'] = None; [importlib.import_module(n) for n in {names!r}]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=LIMIT_SECONDS)


def test_what_a_finished_job_needs_imports_no_torch() -> None:
    """It takes seconds, and a job that finds nothing to do should end in one."""
    names = ["bertsum.plan", "bertsum.commit", "bertsum.model_source", "bertsum.checkpoint_config", "jobs.summarize"]
    code = f"import sys, importlib; [importlib.import_module(n) for n in {names!r}]; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=LIMIT_SECONDS)
