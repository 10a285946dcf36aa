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
    make_checkpoint,
    result_files,
    start_summarize,
    write,
)
from helpers.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ROWS, UNIT_ROWS = 600, 10
HOOKS = Path(__file__).parent / "hooks"


def make_input(root: Path) -> None:
    """The corpus, the models, and the file of the second stage."""
    make_checkpoint(root / "model")
    write(documents(ROWS), root / "in" / "documents.parquet", row_group_size=100)
    then = {
        "model": str(tiny_seq2seq.save(root / "bart")),
        "generate": {"decoding": {"max_tokens": 24}},
        "sentences_model": str(root / "model"),
        "resources": {"num_cpus": 1},
    }
    (root / "generate.yaml").write_text(yaml.safe_dump(then))


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


def test_a_replica_of_each_pool_and_the_driver_are_killed(
    tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    make_input(tmp_path)
    jobs.append(start(tmp_path, tmp_path / "undisturbed"))
    finish(jobs[0])
    undisturbed = contents(tmp_path / "undisturbed")
    assert len(undisturbed) == ROWS // UNIT_ROWS

    # the first pool's replica, in its forward pass; Ray starts another, which is held there, too
    hold, held = tmp_path / "forward", tmp_path / "forward.held"
    hold.touch()
    paths = f"{HOOKS}:{os.environ.get('PYTHONPATH', '')}"
    output = tmp_path / "replicas"
    jobs.append(start(tmp_path, output, BERTSUM_TEST_HOLD=str(hold), PYTHONPATH=paths))
    wait_until(lambda: held.exists() and held.read_text(), "a forward pass", jobs[1])
    first = held.read_text()
    os.kill(int(first), signal.SIGKILL)
    wait_until(lambda: held.read_text() not in ("", first), "another forward pass", jobs[1])
    second = held.read_text()
    hold.unlink()
    # then the second pool's, while it writes
    wait_until(lambda: len(result_files(output)) >= 4, "4 files", jobs[1])
    replicas = [pid for pid, line in descendants(jobs[1].pid) if "MapWorker" in line]
    writing = [pid for pid in replicas if pid != int(second)]
    for pid in writing:
        os.kill(pid, signal.SIGKILL)
    assert len(writing) == 1
    assert len(result_files(output)) < len(undisturbed)
    printed = finish(jobs[1])
    for pool in ("summarize", "generate"):
        died = [line for line in printed.splitlines() if f"({pool}) is done again" in line]
        assert died, printed
        assert died[0].startswith("a replica's process died; ")
    assert contents(output) == undisturbed

    # the driver: the same command goes on, and what was there is not made again
    output = tmp_path / "driver"
    jobs.append(start(tmp_path, output))
    wait_until(lambda: len(result_files(output)) >= 4, "4 files", jobs[2])
    os.kill(jobs[2].pid, signal.SIGKILL)
    jobs[2].wait(LIMIT_SECONDS)
    done = {name: (output / name).stat().st_mtime_ns for name in result_files(output)}
    assert not (output / "_SUCCESS").exists()
    jobs.append(start(tmp_path, output))
    finish(jobs[3])
    assert contents(output) == undisturbed
    for name, written in done.items():
        assert (output / name).stat().st_mtime_ns == written
    rows: list[int] = []
    for name in result_files(output):
        rows += pq.read_table(output / name, columns=["id"])["id"].to_pylist()
    assert rows == list(range(ROWS))
    jobs.append(start(tmp_path, output))
    assert "nothing to do" in finish(jobs[4])
