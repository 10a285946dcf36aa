"""Each tracker for real, in a process of its own, and what another program finds in its files."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import LIMIT_SECONDS

from bertsum.errors import ConfigError
from bertsum.storage.folder import Folder
from bertsum.training.tracking import check_trackers

RUN = """
import sys
from bertsum.storage.folder import Folder
from bertsum.training.tracking import Tracking

config = {"seed": 3, "schedule": "linear", "sources": [{"name": "news"}], "patience": None, "notes": "x" * 9000}
output = Folder(sys.argv[2])
tracking = Tracking([sys.argv[1]], output, config, 0, say=sys.exit)
for step in (1, 2, 3):
    tracking.add({"step": step, "num_steps": 5, "summary_loss": 1 / step})
tracking.add({"step": 3, "validation": {"news": {"rouge": {"rouge_1": 31.5}}}, "score": 0.25})
tracking.close()
tracking = Tracking([sys.argv[1]], output, config, 2, say=sys.exit)  # after a kill, from the checkpoint of step 2
tracking.add({"step": 3, "num_steps": 5, "summary_loss": 0.125})
tracking.close()
"""


def track(name: str, output: Path) -> None:
    pytest.importorskip(name)
    output.mkdir()
    command = [sys.executable, "-c", RUN, name, str(output)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_SECONDS, cwd=output
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", done.stdout


def test_tensorboard(tmp_path: Path) -> None:
    track("tensorboard", tmp_path / "out")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("summary_loss")} == {
        1: 1.0,
        2: 0.5,
        3: 0.125,
    }
    assert set(events.Tags()["scalars"]) == {
        "summary_loss",
        "score",
        "validation/news/rouge/rouge_1",
    }


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path) -> None:
    track("wandb", tmp_path / "out")
    first, second = sorted(
        (tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime
    )
    assert b"validation.news.rouge.rouge_1" in first.read_bytes()
    assert b"31.5" in first.read_bytes()
    assert b"summary_loss" in second.read_bytes()


@pytest.mark.slow
def test_mlflow(tmp_path: Path) -> None:
    track("mlflow", tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as found:
        runs = found.execute("select run_uuid, status from runs order by start_time").fetchall()
        metrics = found.execute("select run_uuid, key, value, step from metrics").fetchall()
        params = found.execute("select distinct key, value from params").fetchall()
    found.close()
    assert [status for _, status in runs] == ["FINISHED"] * 2
    first, second = (run for run, _ in runs)
    assert (first, "validation.news.rouge.rouge_1", 31.5, 3) in metrics
    assert [(step, value) for run, key, value, step in metrics if run == second] == [(3, 0.125)]
    assert set(params) == {("seed", "3"), ("schedule", "linear")}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mlflow.db"]


def test_what_trackers_need(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="OUTPUT must be local, not s3://bucket/model"):
        check_trackers(["tensorboard"], Folder("s3://bucket/model"))
