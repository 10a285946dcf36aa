"""What version 0.1.0 made is recognised: its results, finished or half done, and its model.

`tests/data/version_0_1_0` was made by that version: `bertsum summarize input finished --model model --set
rows_per_unit=3 --set summarizer.dtype=float32` on nineteen rows, whose files had the time INPUT_TIME. A run that was
killed leaves its plan and the files that it had made, so that `killed` is cut out of `finished` here.
"""

import os
import shutil
from pathlib import Path

import pytest
from helpers.job_helpers import read_result, result_files

from bertsum.inference.summarizer import Summarizer
from jobs import summarize

pytestmark = pytest.mark.usefixtures("cluster")

EARLIER = Path(__file__).parents[1] / "data" / "version_0_1_0"
INPUT_TIME = 1_795_000_000  # Unix time; it is part of the names of units
SETTINGS = ("--set", "rows_per_unit=3", "--set", "summarizer.dtype=float32")
NUM_UNITS, NUM_MADE = 7, 3


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    root = tmp_path / "earlier"
    shutil.copytree(EARLIER, root)
    for path in (root / "input").rglob("*.parquet"):
        os.utime(path, (INPUT_TIME, INPUT_TIME))
    return root


def run(earlier: Path, output: Path) -> int:
    command = [earlier / "input", output, "--model", earlier / "model", *SETTINGS]
    return summarize.main([str(argument) for argument in command])


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*.parquet")
    }


def test_what_is_finished_stays_finished(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = earlier / "finished"
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert run(earlier, output) == 0
    assert "starting Ray" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_what_was_killed_is_completed_under_the_same_names(earlier: Path) -> None:
    finished, killed = earlier / "finished", earlier / "killed"
    names = result_files(finished)
    assert len(names) == NUM_UNITS
    for name in ("_bertsum/plan.json", *names[:NUM_MADE]):
        (killed / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(finished / name, killed / name)
    before = contents(killed)
    assert run(earlier, killed) == 0
    assert result_files(killed) == names
    assert before.items() <= contents(killed).items()
    assert (
        read_result(killed).column("id").to_pylist()
        == read_result(finished).column("id").to_pylist()
    )


def test_its_model_says_the_same(earlier: Path) -> None:
    finished = read_result(earlier / "finished")
    model = Summarizer(earlier / "model")
    assert finished.num_rows == 19
    assert set(finished.column("status").to_pylist()) == {"ok"}
    assert model("The cat sleeps. The dog runs.").status == "ok"
