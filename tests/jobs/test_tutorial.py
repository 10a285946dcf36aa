"""The tutorial as it stands in jobs/docs runs from its first cell to its last."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.waiting import LIMIT_SECONDS

nbclient = pytest.importorskip("nbclient", reason="the tutorial needs nbclient and ipykernel")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "jobs" / "docs" / "tutorial.ipynb"


def outputs(notebook: Any, kind: str) -> list[str]:
    """All outputs of one media type, in their order."""
    found: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type in ("execute_result", "display_data") and kind in output.data:
                found.append(output.data[kind])
    return found


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(PAGE, as_version=4)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    # its shell commands find `bertsum` where no environment is active
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    monkeypatch.setenv("RAY_ADDRESS", "local")
    client = nbclient.NotebookClient(
        notebook,
        timeout=LIMIT_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    views = [html for html in outputs(notebook, "text/html") if "bertsum-view" in html]
    assert len(views) == 2
    assert all(view.count("<mark") >= 1 for view in views)
    assert (tmp_path / "out" / "tutorial" / "_SUCCESS").exists()
    # the outputs that the page shows are of the same cells, and of this version
    shown = nbformat.read(PAGE, as_version=4)
    for kind in ("text/html", "text/plain"):
        assert len(outputs(shown, kind)) == len(outputs(notebook, kind))


def test_the_tutorial_shows_its_outputs_and_no_error() -> None:
    notebook = nbformat.read(PAGE, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not cell.source.startswith(("import duckdb\n", "!")):
            assert cell.outputs, cell.source
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
    assert PAGE.stat().st_size < 100_000
