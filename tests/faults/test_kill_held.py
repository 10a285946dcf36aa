"""SIGKILL between a hold and its publication: nothing is lost, nothing is held twice, nothing is made again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.job_helpers import documents, make_checkpoint, write
from helpers.waiting import LIMIT_SECONDS

from bertsum.runs.held import HELD
from bertsum.runs.records import MANIFEST, PLAN, SUCCESS

pytestmark = [pytest.mark.slow]

DAY = "2026-03-02"
PARTITION = f"dt={DAY}"

# The process kills itself, as a machine would, before its change number $STEP of files of OUTPUT.
_KILLED = """
import importlib, os, signal, sys
from bertsum.storage.folder import Folder

step, changes = int(os.environ["STEP"]), 0

def killing(original):
    def change(*arguments):
        global changes
        if changes == step:
            os.kill(os.getpid(), signal.SIGKILL)
        changes += 1
        return original(*arguments)
    return change

for name in ("remove", "write_replace", "create_exclusive"):
    setattr(Folder, name, killing(getattr(Folder, name)))
sys.exit(importlib.import_module(f"jobs.{sys.argv[1]}").main(sys.argv[2:]))
"""
_NEVER = 10**6


def run(*arguments: object, step: int = _NEVER) -> tuple[int, str]:
    """Exit code and output of a command, killed before its change number `step`."""
    command = [sys.executable, "-c", _KILLED, *map(str, arguments)]
    environment = os.environ | {"STEP": str(step), "RAY_ADDRESS": "local"}
    ended = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    return ended.returncode, ended.stdout


class Night:
    def __init__(self, root: Path, output: Path) -> None:
        self.output = output
        self.command = [
            *("nightly", root / "in", output, "--model", root / "model", "--date", DAY),
            *(
                "--set",
                "output.checks.action=hold",
                "--set",
                "output.checks.limits={rows: [100, null]}",
            ),
        ]

    def files(self) -> dict[str, bytes]:
        """Of the partition; the plan says of what was left to do, which differs after a kill."""
        root = self.output / PARTITION
        files: dict[str, bytes] = {}
        for path in root.rglob("*"):
            name = path.relative_to(root).as_posix()
            if path.is_file() and name != PLAN:
                files[name] = path.read_bytes()
        return files


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INPUT, a model, `held`: OUTPUT of a night that is held, and `published`: once it was let through."""
    root = tmp_path_factory.mktemp("held")
    write(documents(20), root / "in" / PARTITION / "a.parquet")
    make_checkpoint(root / "model")
    night = Night(root, root / "held")
    code, said = run(*night.command)
    assert code == 3, said
    assert (root / "held" / PARTITION / HELD).exists()
    shutil.copytree(root / "held", root / "published")
    assert run("publish", root / "published", PARTITION)[0] == 0
    assert (root / "published" / PARTITION / SUCCESS).exists()
    return root


@pytest.fixture
def night(root: Path, tmp_path: Path) -> Night:
    shutil.copytree(root / "held", tmp_path / "out")
    return Night(root, tmp_path / "out")


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("who", ["publish", "nightly"])
def test_publish_is_killed_at_each_step(root: Path, night: Night, who: str, step: int) -> None:
    code, said = run("publish", night.output, PARTITION, step=step)
    assert code == -signal.SIGKILL, said
    if step == 0:  # nothing was written that says it was let through
        assert run(*night.command)[0] == 3
        who = "publish"
    command = ["publish", night.output, PARTITION] if who == "publish" else night.command
    code, said = run(*command)
    assert code == 0, said
    assert "starting Ray" not in said
    undisturbed = Night(root, root / "published").files()
    files = night.files()
    if (night.output / PARTITION / HELD).exists():  # killed after _SUCCESS: it says nothing more
        assert who == "nightly"
        assert run("publish", night.output, PARTITION)[0] == 0
        files = night.files()
    assert files == undisturbed


@pytest.mark.parametrize("step", range(5))
def test_the_run_that_holds_is_killed_at_each_step(night: Night, step: int) -> None:
    before = night.files()
    # from the moment when all rows are there: the record is not yet written
    (night.output / PARTITION / HELD).unlink()
    code, _ = run(*night.command, step=step)
    assert code in (-signal.SIGKILL, 3)
    assert not (night.output / PARTITION / MANIFEST).exists()
    assert not (night.output / PARTITION / SUCCESS).exists()
    code, said = run(*night.command)
    assert code == 3, said
    assert "starting Ray" not in said
    assert json.loads(night.files()[HELD]) == json.loads(before[HELD])
