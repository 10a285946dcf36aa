"""SIGKILL of a training run with real processes: one worker, then everything; it ends with the same loss curve."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.job_helpers import descendants, kill_all, losses, make_training
from helpers.waiting import LIMIT_SECONDS, wait_until

from bertsum.storage.folder import Folder
from bertsum.training.state import StateStore

pytestmark = [pytest.mark.slow]

# the same machine, threads and number of workers: equal but for the order in which gloo adds up
TOLERANCE = 1e-5


def start(config: Path, output: Path, workers: int = 2) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jobs.train", str(config), str(output)]
    command += ["--set", f"resources.replicas={workers}", "--set", "resources.num_cpus=1"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def step_of(output: Path) -> int:
    state = StateStore(Folder(str(output)), 2).latest()
    return state.step if state else 0


def wait_for_step(output: Path, step: int, job: "subprocess.Popen[str]") -> None:
    wait_until(lambda: step_of(output) >= step, f"step {step}", job)


def workers_of(job: "subprocess.Popen[str]") -> list[int]:
    return [pid for pid, command in descendants(job.pid) if "RayTrainWorker" in command]


def test_a_worker_then_everything_is_killed(
    tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    config = make_training(
        tmp_path,
        epochs=40,
        model={"num_heads": 4, "feed_forward_size": 64, "dropout": 0.2},
        checkpoint_every_minutes=0,
    )
    jobs.append(start(config, tmp_path / "whole"))
    printed, _ = jobs[0].communicate(timeout=LIMIT_SECONDS)
    assert jobs[0].returncode == 0, printed
    output = tmp_path / "out"
    jobs.append(start(config, output))
    wait_for_step(output, 10, jobs[1])
    os.kill(workers_of(jobs[1])[0], signal.SIGKILL)
    reached = step_of(output)
    wait_for_step(output, reached + 5, jobs[1])  # others took its place
    kill_all(jobs[1])
    assert (
        "a worker has died; all start again (1 of at most 3 times)"
        in jobs[1].communicate(timeout=LIMIT_SECONDS)[0]
    )
    assert not (output / "config.json").exists()
    killed_at = step_of(output)
    jobs.append(start(config, output))
    printed, _ = jobs[2].communicate(timeout=LIMIT_SECONDS)
    assert jobs[2].returncode == 0, printed
    assert f"going on from step {killed_at}" in printed
    expected, found = losses(tmp_path / "whole"), losses(output)
    assert killed_at < max(expected)
    assert found.keys() == expected.keys()
    for step, values in expected.items():
        assert found[step] == pytest.approx(values, abs=TOLERANCE), step


def test_a_second_run_in_the_same_place(
    tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    """It is refused while the first is at work; a killed one is found dead at once."""
    config, output = (
        make_training(tmp_path, epochs=400, checkpoint_every_minutes=0),
        tmp_path / "out",
    )
    jobs.append(start(config, output, workers=1))
    wait_for_step(output, 3, jobs[0])
    jobs.append(start(config, output, workers=1))
    printed, _ = jobs[1].communicate(timeout=LIMIT_SECONDS)
    assert jobs[1].returncode == 1
    assert (
        f"{output} is in use: a run on {socket.gethostname()} (process {jobs[0].pid}) gave a sign of life"
        in printed
    )
    assert jobs[0].poll() is None
    kill_all(jobs[0])
    killed_at = step_of(output)
    jobs.append(start(config, output, workers=1))
    wait_for_step(output, killed_at + 3, jobs[2])
    kill_all(jobs[2])
    printed, _ = jobs[2].communicate(timeout=LIMIT_SECONDS)
    assert f"going on from step {killed_at}" in printed
    assert "sign of life" not in printed


def test_an_end_by_sigterm_is_quiet_and_whole(
    tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    config, output = (
        make_training(tmp_path, epochs=400, checkpoint_every_minutes=0),
        tmp_path / "out",
    )
    jobs.append(start(config, output))
    wait_for_step(output, 3, jobs[0])
    below = [pid for pid, _ in descendants(jobs[0].pid)]
    jobs[0].terminate()
    printed, _ = jobs[0].communicate(timeout=LIMIT_SECONDS)
    assert jobs[0].returncode == 1
    assert "SIGTERM" not in printed and "@ " not in printed, printed
    wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), "the end of all processes"
    )
    (claim,) = (output / "claims").iterdir()
    assert '"ended":true' in claim.read_text()
