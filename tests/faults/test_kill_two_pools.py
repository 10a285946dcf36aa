"""SIGKILL in a run of two pools: of a replica of each, and of the driver; the bytes of an undisturbed run."""

import os
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from helpers import tiny_seq2seq
from helpers.job_helpers import (
    descendants,
    documents,
    kill_all,
    make_checkpoint,
    result_files,
    start_summarize,
    write,
)
from helpers.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ROWS, UNIT_ROWS = 300, 10
HOOKS = Path(__file__).parent / "hooks"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus, the models, and the file of the second stage."""
    root = tmp_path_factory.mktemp("two_pools")
    make_checkpoint(root / "model")
    write(documents(ROWS), root / "in" / "documents.parquet", row_group_size=100)
    then = {
        "model": str(tiny_seq2seq.save(root / "bart")),
        "generate": {"decoding": {"max_tokens": 24}},
        "sentences_model": str(root / "model"),
        "resources": {"num_cpus": 1},
    }
    (root / "generate.yaml").write_text(yaml.safe_dump(then))
    return root


@pytest.fixture(scope="module")
def undisturbed(root: Path) -> dict[str, bytes]:
    """The files of a run that nobody disturbs."""
    job = start(root, root / "undisturbed")
    try:
        finish(job)
    finally:
        if job.poll() is None:
            kill_all(job)
    files = contents(root / "undisturbed")
    assert len(files) == ROWS // UNIT_ROWS
    return files


def start(root: Path, output: Path, **variables: str) -> "subprocess.Popen[str]":
    arguments = [root / "in", output, "--model", root / "model", "--then", root / "generate.yaml"]
    settings = ["--set", f"rows_per_unit={UNIT_ROWS}", "--set", "resources.num_cpus=1"]
    return start_summarize(*arguments, *settings, variables=variables)


def finish(job: "subprocess.Popen[str]") -> str:
    printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 0, printed
    return printed


def contents(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in result_files(output)}


def test_a_replica_of_each_pool_is_killed(
    root: Path, undisturbed: dict[str, bytes], jobs: "list[subprocess.Popen[str]]"
) -> None:
    # the first pool's replica, in its forward pass; Ray starts another, which is held there, too
    hold, held = root / "forward", root / "forward.held"
    hold.touch()
    paths = f"{HOOKS}:{os.environ.get('PYTHONPATH', '')}"
    output = root / "replicas"
    jobs.append(start(root, output, BERTSUM_TEST_HOLD=str(hold), PYTHONPATH=paths))
    wait_until(lambda: held.exists() and held.read_text(), "a forward pass", jobs[0])
    first = held.read_text()
    os.kill(int(first), signal.SIGKILL)
    wait_until(lambda: held.read_text() not in ("", first), "another forward pass", jobs[0])
    second = held.read_text()
    hold.unlink()
    # then the second pool's, while it writes
    wait_until(lambda: len(result_files(output)) >= 4, "4 files", jobs[0])
    replicas = [pid for pid, line in descendants(jobs[0].pid) if "MapWorker" in line]
    writing = [pid for pid in replicas if pid != int(second)]
    for pid in writing:
        os.kill(pid, signal.SIGKILL)
    assert len(writing) == 1
    assert len(result_files(output)) < len(undisturbed)
    printed = finish(jobs[0])
    # of the second pool nothing is said where no unit was in its hands at that moment
    died = [line for line in printed.splitlines() if "(summarize) is done again" in line]
    assert died, printed
    assert died[0].startswith("a replica's process died; ")
    assert contents(output) == undisturbed


def test_the_driver_is_killed_and_the_same_command_goes_on(
    root: Path, undisturbed: dict[str, bytes], jobs: "list[subprocess.Popen[str]]"
) -> None:
    output = root / "driver"
    jobs.append(start(root, output))
    wait_until(lambda: len(result_files(output)) >= 4, "4 files", jobs[0])
    os.kill(jobs[0].pid, signal.SIGKILL)
    jobs[0].wait(LIMIT_SECONDS)
    done = {name: (output / name).stat().st_mtime_ns for name in result_files(output)}
    assert not (output / "_SUCCESS").exists()
    jobs.append(start(root, output))
    finish(jobs[1])
    assert contents(output) == undisturbed
    for name, written in done.items():
        assert (output / name).stat().st_mtime_ns == written
    rows: list[int] = []
    for name in result_files(output):
        rows += pq.read_table(output / name, columns=["id"])["id"].to_pylist()
    assert rows == list(range(ROWS))
    jobs.append(start(root, output))
    assert "nothing to do" in finish(jobs[2])
