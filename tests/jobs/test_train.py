"""`bertsum train` on a real Ray, with two workers."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.job_helpers import losses, make_training, write

from bertsum import Summarizer
from jobs import train

pytestmark = pytest.mark.usefixtures("cluster")

TWO_WORKERS = (
    "--set",
    "resources.replicas=2",
    "--set",
    "resources.num_cpus=1",
    "--set",
    "max_worker_failures=0",
)


def test_two_workers_make_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_training(tmp_path, epochs=3)
    output = tmp_path / "out"
    news = pq.read_table(tmp_path / "news.parquet")
    unlabelled = pa.table({"document": news["document"], "summary": pa.nulls(24, pa.string())})
    write(pa.concat_tables([unlabelled, news]), tmp_path / "news.parquet", row_group_size=5)
    command = [str(config), str(output), *TWO_WORKERS]
    assert train.main([*command, "--set", "validate_every_steps=8"]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().err
    assert "news: 24 rows to train on, 24 to measure on, 48 without a label left out" in shown
    assert "reviews: 13 rows to train on, 0 to measure on (" in shown
    assert "validation at step 8; news R1" in shown
    assert f"saved the checkpoint in {output}" in shown
    found = losses(output)
    assert list(found) == list(range(1, max(found) + 1))
    assert json.loads((output / "validation.json").read_text())["news"]["rows"] == 24
    assert "2 workers of 1 threads" in (output / "model_card.md").read_text()
    assert Summarizer(str(output))("The cat sleeps. A dog runs.").status == "ok"
    assert len(json.loads((output / "worst_examples.json").read_text())) > 0
    page = (output / "report.html").read_bytes()
    (output / "report.html").unlink()  # as of a run that was killed just before
    written = (output / "model.safetensors").stat().st_mtime_ns
    assert train.main([*command, "--set", "validate_every_steps=8"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (output / "model.safetensors").stat().st_mtime_ns == written
    assert (output / "report.html").read_bytes() == page
    assert train.main([*command, "--set", "seed=1"]) == 1
    assert (
        "another configuration; these differ: seed, validate_every_steps" in capsys.readouterr().err
    )


def test_what_a_worker_cannot_use_is_an_error_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first such row of either worker."""
    config = make_training(tmp_path)
    assert (
        train.main(
            [
                str(config),
                str(tmp_path / "out"),
                *TWO_WORKERS,
                "--set",
                "model.sentiment_labels=[a, b]",
            ]
        )
        == 2
    )
    expected = r"reviews\.parquet, row \d+ \(from 0\): it has the label 'negative'; the model knows \['a', 'b'\]"
    assert re.search(expected, capsys.readouterr().err)


def test_workers_that_the_cluster_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_training(tmp_path)
    assert train.main([str(config), str(tmp_path / "out"), "--set", "resources.replicas=50"]) == 2
    assert "the job asks for 50 replica(s)" in capsys.readouterr().err


def test_a_checkpoint_of_no_run_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_training(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    assert train.main([str(config), str(tmp_path / "out")]) == 1
    assert "holds a checkpoint already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]


def test_a_measure_that_is_none_can_be_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was done yet, so that OUTPUT takes the other configuration."""
    config, output = make_training(tmp_path, epochs=1), tmp_path / "out"
    command = [str(config), str(output), "--set"]
    assert train.main([*command, "best_metric=[news.rouge.rouge1]"]) == 2
    assert (
        "news.rouge.rouge1: there is no such measure; there are news.lead.rouge_1, "
        in capsys.readouterr().err
    )
    assert not (output / "training_log.jsonl").exists()
    assert train.main([*command, "best_metric=[news.rouge.rouge_1]"]) == 0, capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert train.main([*command, "best_metric=[news.rouge.rouge_1]"]) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
