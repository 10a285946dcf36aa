"""`bertsum tune` on a real Ray: trials, one that ASHA stops, the best configuration, and a second start."""

import csv
from pathlib import Path

import pytest
import yaml
from helpers.job_helpers import make_search

from jobs import train, tune

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.slow]


def read_trials(output: Path) -> list[dict[str, str]]:
    with (output / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_asha_stops_what_does_not_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search, output = make_search(tmp_path), tmp_path / "out"
    assert tune.main([str(search), str(output)]) == 0, capsys.readouterr().err
    trials = read_trials(output)
    assert [trial["outcome"] for trial in trials] == ["finished", "stopped", "stopped"]
    assert trials[0]["head_learning_rate"] == "0.01"
    assert float(trials[0]["share"]) == 1
    assert all(float(trial["share"]) < 0.5 for trial in trials[1:])
    assert {path.parent.name for path in output.rglob("model.safetensors")} == {
        trials[0]["directory"][-4:]
    }
    assert not [path for path in output.rglob("checkpoints/*") if path.is_file()]
    assert (output / "trials.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_configuration_is_one_to_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two at once by Optuna, then one more, then nothing."""
    space = {
        "head_learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True},
        "sources.reviews.weight": [1, 2],
    }
    search = make_search(
        tmp_path,
        space=space,
        searcher="optuna",
        early_stopping="none",
        num_trials=2,
        max_concurrent_trials=2,
    )
    output = tmp_path / "out"
    assert tune.main([str(search), str(output)]) == 0, capsys.readouterr().err
    first = read_trials(output)
    assert [trial["outcome"] for trial in first] == ["finished"] * 2
    assert float(first[0]["score"]) >= float(first[1]["score"])
    assert tune.main([str(search), str(output), "--set", "num_trials=3"]) == 0
    trials = {trial["trial"]: trial for trial in read_trials(output)}
    assert sorted(trials) == ["1", "2", "3"]
    assert all(trials[trial["trial"]] == trial for trial in first)

    written = {path: path.stat().st_mtime_ns for path in output.rglob("model.safetensors")}
    assert len(written) == 3
    capsys.readouterr()
    assert tune.main([str(search), str(output), "--set", "num_trials=3"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("model.safetensors")} == written
    assert tune.main([str(search), str(output), "--set", "seed=2"]) == 2
    assert "another configuration; these differ: seed" in capsys.readouterr().err

    best = yaml.safe_load((output / "best.yaml").read_text())
    winner = next(iter(read_trials(output)))
    assert str(best["head_learning_rate"]) == winner["head_learning_rate"]
    assert best["sources"][1]["weight"] == float(winner["sources.reviews.weight"])
    assert train.main([str(output / "best.yaml"), str(tmp_path / "model")]) == 0
    again, trial = (
        path / "model.safetensors" for path in (tmp_path / "model", Path(winner["directory"]))
    )
    assert again.read_bytes() == trial.read_bytes()


def test_a_trial_that_fails_is_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """5 heads do not divide 32 features; the other trial goes on."""
    search, output = make_search(tmp_path, space={"model.num_heads": [4, 5]}), tmp_path / "out"
    assert tune.main([str(search), str(output)]) == 0, capsys.readouterr().err
    trials = read_trials(output)
    assert [(trial["model.num_heads"], trial["outcome"]) for trial in trials] == [
        ("4", "finished"),
        ("5", "failed"),
    ]
    assert "num_heads=5 does not divide" in trials[1]["error"]


def test_a_search_of_which_nothing_came_makes_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its trials all failed, so that what was wrong can be mended in the same OUTPUT."""
    search, output = make_search(tmp_path, space={"model.num_heads": [5, 7]}), tmp_path / "out"
    assert tune.main([str(search), str(output)]) == 1
    assert "no trial gave a result; the first: " in capsys.readouterr().err
    search = make_search(tmp_path, space={"model.num_heads": [4]})
    assert tune.main([str(search), str(output)]) == 0, capsys.readouterr().err
    assert [(trial["model.num_heads"], trial["outcome"]) for trial in read_trials(output)] == [
        ("4", "finished")
    ]
