"""SIGKILL while candidates are matched: the same command goes on, and ends with the same bytes."""

import os
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.job_helpers import documents, make_checkpoint, result_files, start_job, write
from helpers.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.faults]

QUERIES, CANDIDATES = 2000, 300


def start(root: Path, output: Path) -> "subprocess.Popen[str]":
    arguments = [root / "queries.parquet", root / "candidates.parquet", output]
    arguments += ["--model", root / "model", "--set", "rows_per_unit=100"]
    return start_job("match", *arguments, "--set", "match.seen_column=id")


def matches(output: Path) -> list[str]:
    """Files of matches, without those of the candidates."""
    return [name for name in result_files(output) if not name.startswith("_")]


def test_the_driver_is_killed_and_the_same_command_goes_on(
    tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    make_checkpoint(tmp_path / "model")
    write(documents(QUERIES), tmp_path / "queries.parquet", row_group_size=500)
    write(documents(CANDIDATES), tmp_path / "candidates.parquet")
    jobs.append(start(tmp_path, tmp_path / "undisturbed"))
    printed, _ = jobs[0].communicate(timeout=LIMIT_SECONDS)
    assert jobs[0].returncode == 0, printed

    output = tmp_path / "out"
    jobs.append(start(tmp_path, output))
    wait_until(lambda: len(matches(output)) >= 4, "4 files of matches", jobs[1])
    os.kill(jobs[1].pid, signal.SIGKILL)
    jobs[1].wait(LIMIT_SECONDS)
    done = {name: (output / name).stat().st_mtime_ns for name in result_files(output)}
    assert not (output / "_SUCCESS").exists()

    jobs.append(start(tmp_path, output))
    printed, _ = jobs[2].communicate(timeout=LIMIT_SECONDS)
    assert jobs[2].returncode == 0, printed
    assert len(matches(output)) == QUERIES // 100
    assert result_files(output) == result_files(tmp_path / "undisturbed")
    for name in result_files(output):
        assert (output / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name
        assert (output / name).stat().st_mtime_ns == done.get(
            name, (output / name).stat().st_mtime_ns
        )
    ids = []
    for name in matches(output):
        ids += pq.read_table(output / name, columns=["id"])["id"].to_pylist()
    assert ids == list(range(QUERIES))

    jobs.append(start(tmp_path, output))
    printed, _ = jobs[3].communicate(timeout=LIMIT_SECONDS)
    assert jobs[3].returncode == 0, printed
    assert printed.count("nothing to do") == 2
