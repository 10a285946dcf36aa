"""SIGKILL of a search with real processes, in the middle of a trial: that one goes on, and those that ended stay so."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers.job_helpers import kill_all, make_search
from helpers.waiting import LIMIT_SECONDS

from bertsum.storage.folder import Folder
from bertsum.training.state import StateStore
from bertsum.tuning.trials import TrialStore
from jobs import train

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def start(search: Path, output: Path) -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "jobs.tune", str(search), str(output)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def outcomes(output: Path) -> dict[int, str | None]:
    return {trial.number: trial.outcome for trial in TrialStore(Folder(str(output))).read()}


def step_of(trial: Path) -> int:
    state = StateStore(Folder(str(trial)), 2).latest()
    return state.step if state else 0


def test_a_search_is_killed(tmp_path: Path, jobs: "list[subprocess.Popen[str]]") -> None:
    search = make_search(tmp_path, early_stopping="none", num_trials=2)
    training = tmp_path / "training.yaml"
    values = {"max_steps": 60, "checkpoint_every_minutes": 0, "validate_every_steps": 20}
    training.write_text(yaml.safe_dump(yaml.safe_load(training.read_text()) | values))
    output = tmp_path / "out"
    first, second = (output / "trials" / number for number in ("0001", "0002"))
    jobs.append(start(search, output))
    deadline = time.monotonic() + LIMIT_SECONDS
    while step_of(second) < 10:
        assert jobs[0].poll() is None, jobs[0].communicate()[0]
        assert time.monotonic() < deadline, f"no second trial after 300 s: {outcomes(output)}"
        time.sleep(0.02)
    kill_all(jobs[0])
    assert outcomes(output) == {1: "finished", 2: None}
    killed_at = step_of(second)
    assert 10 <= killed_at < 60
    written = (first / "model.safetensors").stat().st_mtime_ns

    jobs.append(start(search, output))
    printed, _ = jobs[1].communicate(timeout=LIMIT_SECONDS)
    assert jobs[1].returncode == 0, printed
    assert outcomes(output) == {1: "finished", 2: "finished"}
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    assert "trial 1:" not in printed
    assert "best: trial 1" in printed

    whole = tmp_path / "whole.yaml"  # JSON is YAML
    whole.write_text((second / "training_config.json").read_text())
    assert train.main([str(whole), str(tmp_path / "whole"), "--address", "local"]) == 0
    ours, theirs = (
        [json.loads(line) for line in (directory / "training_log.jsonl").read_text().splitlines()]
        for directory in (second, tmp_path / "whole")
    )
    for line in [*ours, *theirs]:
        line.pop("tokens_per_second", None)
    assert ours == theirs
    weights = [directory / "model.safetensors" for directory in (second, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
