"""Ctrl-C and SIGTERM, at any moment: the command ends with its exit code, and no process of its Ray stays."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from helpers.job_helpers import documents, write

pytestmark = pytest.mark.slow

_MARK = "BERTSUM_TEST_RUN"
_LEAVE_SECONDS = 60  # a few on a machine at rest
_START_SECONDS = 900  # ten or twenty on a machine at rest


def with_mark(mark: str) -> list[int]:
    """Processes that were started with this variable: the command, and all of its Ray."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{_MARK}={mark}".encode() in (
                entry / "environ"
            ).read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return found


class Job:
    """`bertsum summarize` on a Ray of its own, which Ctrl-C reaches also where the shell has it ignored."""

    def __init__(self, source: Path, output: Path, checkpoint: Path, log: Path) -> None:
        self.mark, self.log = uuid.uuid4().hex, log
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {
            _MARK: self.mark
        }
        command = [sys.executable, "-m", "jobs.summarize", source, output, "--model", checkpoint]
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [*map(str, command), "--set", "rows_per_unit=5"],
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def wait_for(self, num_processes: int, text: str) -> None:
        """Until so many processes are there, and the text is in the log."""
        deadline = time.monotonic() + _START_SECONDS
        while len(with_mark(self.mark)) < num_processes or text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def end(self) -> tuple[int, list[int]]:
        """Exit code, and the processes that are still there a moment later."""
        code = self.process.wait(_LEAVE_SECONDS)
        deadline = time.monotonic() + _LEAVE_SECONDS
        while (left := with_mark(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return code, left

    def kill(self) -> None:
        for pid in with_mark(self.mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(_LEAVE_SECONDS)


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)], ids=["Ctrl-C", "SIGTERM"]
)
@pytest.mark.parametrize(
    ("num_processes", "text"),
    [(1, "starting Ray"), (3, "starting Ray"), (1, "starting replicas"), (1, "documents")],
    ids=["before Ray", "while Ray starts", "while replicas load", "at work"],
)
def test_a_signal_ends_all(
    num_processes: int,
    text: str,
    number: signal.Signals,
    expected: int,
    again: bool,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    write(documents(4000), tmp_path / "in" / "a.parquet")
    job = Job(tmp_path / "in", tmp_path / "out", checkpoint, tmp_path / "log")
    try:
        job.wait_for(num_processes, text)
        start = time.monotonic()
        job.process.send_signal(number)
        if again:
            time.sleep(0.3)
            job.process.send_signal(number)
        code, left = job.end()
        print(f"{time.monotonic() - start:.1f} s to end")
    finally:
        job.kill()
    printed = job.log.read_text()
    # a second signal may find the command gone as far as Python's own end, which it ends at once
    assert code == expected or (again and code == -number), (code, printed)
    assert not left, printed
    assert "Traceback" not in printed
    assert "Ray cluster" not in printed  # a thread that still works must not join another one
    assert printed.count("the same command goes on from there") == 1, (code, printed)
