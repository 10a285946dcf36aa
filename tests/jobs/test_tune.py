"""`bertsum tune` on a real Ray: trials, the best one, and a second start."""

import csv
from pathlib import Path

import pytest
import yaml
from job_helpers import make_training

from jobs import tune

pytestmark = pytest.mark.usefixtures("cluster")


def make_search(root: Path, **values: object) -> Path:
    resources = {"replicas": 1, "num_cpus": 1}
    training = make_training(
        root, epochs=4, best_metric=["news.summary_loss"], validate_every_steps=4, resources=resources
    )
    search = {
        "training": str(training),
        "num_trials": 2,
        "early_stopping": "none",
        "space": {"head_learning_rate": [1.0e-9, 1.0e-2], "encoder_learning_rate": {"low": 1.0e-4, "high": 1.0e-3}},
    }
    path = root / "search.yaml"
    path.write_text(yaml.safe_dump(search | values))
    return path


def read_trials(output: Path) -> list[dict[str, str]]:
    with (output / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_trials_and_the_best_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search, output = make_search(tmp_path), tmp_path / "out"
    assert tune.main([str(search), str(output)]) == 0, capsys.readouterr().err
    trials = read_trials(output)
    assert len(trials) == 2
    assert not any(trial["error"] for trial in trials)
    assert float(trials[0]["score"]) > float(trials[1]["score"])
    best = yaml.safe_load((output / "best.yaml").read_text())
    assert str(best["encoder_learning_rate"]) == trials[0]["encoder_learning_rate"]
    assert (Path(trials[0]["directory"]) / "config.json").exists()
    assert (output / "trials.png").read_bytes().startswith(b"\x89PNG")
    written = {path: path.stat().st_mtime_ns for path in output.rglob("model.safetensors")}
    assert tune.main([str(search), str(output)]) == 0  # all trials are found again, and none trains
    assert read_trials(output) == trials
    assert {path: path.stat().st_mtime_ns for path in output.rglob("model.safetensors")} == written
    assert tune.main([str(search), str(output), "--set", "num_trials=3"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_key_that_training_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = make_search(tmp_path, space={"learning_rate": [1, 2]})
    assert tune.main([str(search), str(tmp_path / "out")]) == 2
    assert "learning_rate: there is no such key" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
