"""SIGKILL while a model writes: the same command goes on, and ends with the same bytes."""

import os
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import tiny_seq2seq
from helpers.job_helpers import documents, make_checkpoint, result_files, start_job, write
from helpers.waiting import LIMIT_SECONDS, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ROWS, UNIT_ROWS = 300, 10


def start(root: Path, output: Path) -> "subprocess.Popen[str]":
    arguments = [root / "documents.parquet", output, "--model", root / "model"]
    for setting in (
        f"rows_per_unit={UNIT_ROWS}",
        "generate.decoding.max_tokens=24",
        f"sentences_model={root / 'sentences'}",
    ):
        arguments += ["--set", setting]
    return start_job("generate", *arguments)


def test_the_driver_is_killed_and_the_same_command_goes_on(
    tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    tiny_seq2seq.save(tmp_path / "model")
    make_checkpoint(tmp_path / "sentences")
    # the longest of them have more tokens than the model reads
    write(documents(ROWS), tmp_path / "documents.parquet", row_group_size=100)
    jobs.append(start(tmp_path, tmp_path / "undisturbed"))
    printed, _ = jobs[0].communicate(timeout=LIMIT_SECONDS)
    assert jobs[0].returncode == 0, printed

    output = tmp_path / "out"
    jobs.append(start(tmp_path, output))
    wait_until(lambda: len(result_files(output)) >= 4, "4 files of abstracts", jobs[1])
    os.kill(jobs[1].pid, signal.SIGKILL)
    jobs[1].wait(LIMIT_SECONDS)
    done = {name: (output / name).stat().st_mtime_ns for name in result_files(output)}
    assert not (output / "_SUCCESS").exists()

    jobs.append(start(tmp_path, output))
    printed, _ = jobs[2].communicate(timeout=LIMIT_SECONDS)
    assert jobs[2].returncode == 0, printed
    assert len(result_files(output)) == ROWS // UNIT_ROWS
    assert result_files(output) == result_files(tmp_path / "undisturbed")
    rows = []
    for name in result_files(output):
        assert (output / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name
        if name in done:
            assert (output / name).stat().st_mtime_ns == done[name]
        rows += pq.read_table(output / name).to_pylist()
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert {row["abstract_source"] for row in rows} == {"document", "best_sentences"}

    jobs.append(start(tmp_path, output))
    printed, _ = jobs[3].communicate(timeout=LIMIT_SECONDS)
    assert jobs[3].returncode == 0, printed
    assert "nothing to do" in printed
