"""SIGKILL with real processes: the driver half-way, a replica half-way; and Ctrl-C."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from helpers.job_helpers import (
    descendants,
    documents,
    make_checkpoint,
    read_result,
    result_files,
    start_summarize,
    write,
)
from helpers.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.slow]

ROWS, ROWS_PER_UNIT = 3000, 100


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("input")
    write(documents(ROWS // 2), root / "dt=1" / "a.parquet", row_group_size=500)
    write(documents(ROWS // 2, first_id=ROWS // 2), root / "dt=2" / "a.parquet", row_group_size=500)
    return root


@pytest.fixture(scope="module")
def uninterrupted(source: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("reference") / "out"
    job = start(source, output, checkpoint)
    printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 0, printed
    return output


def start(source: Path, output: Path, checkpoint: Path) -> "subprocess.Popen[str]":
    return start_summarize(
        source, output, "--model", checkpoint, "--set", f"rows_per_unit={ROWS_PER_UNIT}"
    )


def replicas_of(job: "subprocess.Popen[str]") -> set[int]:
    return {pid for pid, command in descendants(job.pid) if "MapWorker" in command}


def wait_for_files(output: Path, count: int, job: "subprocess.Popen[str]") -> None:
    wait_until(lambda: len(result_files(output)) >= count, f"{count} files", job)


def assert_same(output: Path, uninterrupted: Path) -> None:
    """Same names, same bytes, every row once and in order."""
    assert result_files(output) == result_files(uninterrupted)
    for name in result_files(output):
        assert (output / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    assert read_result(output)["id"].to_pylist() == list(range(ROWS))
    assert {path.name for path in output.iterdir()} == {"_SUCCESS", "_bertsum", "dt=1", "dt=2"}
    assert sorted(path.name for path in (output / "_bertsum").iterdir()) == [
        "manifest.json",
        "plan.json",
        "times.json",
    ]
    assert not list(output.rglob(".*"))


def test_the_driver_is_killed_and_the_same_command_goes_on(
    source: Path,
    checkpoint: Path,
    uninterrupted: Path,
    tmp_path: Path,
    jobs: "list[subprocess.Popen[str]]",
) -> None:
    output = tmp_path / "out"
    jobs.append(start(source, output, checkpoint))
    wait_for_files(output, 5, jobs[0])
    below = dict(descendants(jobs[0].pid))
    assert any("raylet" in command for command in below.values())
    os.kill(jobs[0].pid, signal.SIGKILL)
    jobs[0].wait(LIMIT_SECONDS)
    done = {name: (output / name).stat().st_mtime_ns for name in result_files(output)}
    assert 5 <= len(done) < ROWS // ROWS_PER_UNIT
    assert not (output / "_SUCCESS").exists()

    jobs.append(
        start(source, output, checkpoint)
    )  # at once: what is left of the first run must not be in the way
    printed, _ = jobs[1].communicate(timeout=LIMIT_SECONDS)
    assert jobs[1].returncode == 0, printed
    assert_same(output, uninterrupted)
    assert (
        done.items()
        <= {name: (output / name).stat().st_mtime_ns for name in result_files(output)}.items()
    )
    # no process of the killed run is left, but perhaps Ray's agents, which end by themselves and hold no CPU of it
    left = [
        command
        for pid, command in below.items()
        if "raylet" in command and _command(pid) == command
    ]
    assert not left


def test_a_replica_is_killed_and_the_job_finishes(
    source: Path,
    checkpoint: Path,
    uninterrupted: Path,
    tmp_path: Path,
    jobs: "list[subprocess.Popen[str]]",
) -> None:
    output = tmp_path / "out"
    jobs.append(start(source, output, checkpoint))
    wait_for_files(output, 5, jobs[0])
    (victim,) = replicas_of(jobs[0])
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: replicas_of(jobs[0]) - {victim}, "another replica", jobs[0])
    printed, _ = jobs[0].communicate(timeout=LIMIT_SECONDS)
    assert jobs[0].returncode == 0, printed
    assert_same(output, uninterrupted)


def test_ctrl_c_ends_the_job_soon_and_says_how_to_go_on(
    source: Path, checkpoint: Path, tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    output = tmp_path / "out"
    jobs.append(start(source, output, checkpoint))
    wait_for_files(output, 2, jobs[0])
    below = dict(descendants(jobs[0].pid))
    os.kill(jobs[0].pid, signal.SIGINT)
    printed, _ = jobs[0].communicate(timeout=LIMIT_SECONDS)
    assert jobs[0].returncode == 130, printed
    assert "the same command goes on from there" in printed
    assert "Traceback" not in printed
    replicas = [(pid, command) for pid, command in below.items() if "MapWorker" in command]
    wait_until(
        lambda: not any(_command(pid) == command for pid, command in replicas),
        "the end of the replicas",
    )


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
