"""SIGKILL of a training run with a decoder; it ends with the weights and measures of an unbroken one."""

import json
import subprocess
from pathlib import Path

import pytest
from helpers.job_helpers import kill_all, start_job
from helpers.tiny_writer import DECODER, LEARNING, make_config
from helpers.waiting import LIMIT_SECONDS, wait_until
from safetensors.torch import load_file

from bertsum.storage.folder import Folder
from bertsum.training.state import StateStore

pytestmark = [pytest.mark.slow]


def test_a_run_that_was_killed_ends_with_the_same_weights(
    tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    """SIGKILL of the process behind its third checkpoint; the same command goes on."""
    decoder = DECODER | LEARNING | {"dropout": 0.2}
    config = make_config(tmp_path, max_steps=60, decoder=decoder, checkpoint_every_minutes=0)
    whole, output = tmp_path / "whole", tmp_path / "out"
    first = start_job("train", config, whole)
    jobs.append(first)
    printed, _ = first.communicate(timeout=LIMIT_SECONDS)
    assert first.returncode == 0, printed
    second = start_job("train", config, output)
    jobs.append(second)

    def step() -> int:
        state = StateStore(Folder(str(output)), 2).latest()
        return state.step if state else 0

    wait_until(lambda: step() >= 3, "step 3", second)
    kill_all(second)
    killed_at = step()
    assert killed_at < 60 and not (output / "config.json").exists()
    third = start_job("train", config, output)
    jobs.append(third)
    printed, _ = third.communicate(timeout=LIMIT_SECONDS)
    assert third.returncode == 0, printed
    assert f"going on from step {killed_at}" in printed
    expected, found = (load_file(place / "model.safetensors") for place in (whole, output))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert weight.equal(found[name]), name
    measures = [json.loads((place / "validation.json").read_text()) for place in (whole, output)]
    assert measures[0] == measures[1]
