"""`bertsum train` with a decoder, then `bertsum generate` with what it made; a kill between."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import tiny, tiny_writer
from helpers.job_helpers import kill_all, read_result, start_job, write
from helpers.rows import summary_rows
from helpers.waiting import LIMIT_SECONDS, wait_until
from safetensors.torch import load_file

from bertsum.storage.folder import Folder
from bertsum.training.state import StateStore
from jobs import generate, train

pytestmark = [pytest.mark.slow]


def make_config(root: Path, **values: object) -> Path:
    """A configuration of a tiny decoder, with its rows and its encoder."""
    tiny.save(root / "encoder", tiny.encoder(), tiny.wordpiece())
    write(pa.table(summary_rows(6)), root / "news.parquet")
    source = {"name": "news", "train_uri": "news.parquet", "validation_uri": "news.parquet"}
    settings = {
        "encoder": str(root / "encoder"),
        "data_root": str(root),
        "dtype": "float32",
        "max_batch_tokens": 120,
        "decoder": tiny_writer.DECODER | tiny_writer.LEARNING,
        "sources": [source | {"summary_column": "summary"}],
        "resources": {"num_cpus": 1},
    }
    path = root / "train.yaml"
    path.write_text(yaml.safe_dump(settings | values))
    return path


@pytest.mark.usefixtures("cluster")
def test_what_was_trained_writes_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, abstracts = tmp_path / "model", tmp_path / "abstracts"
    config = make_config(tmp_path, max_steps=20, validate_every_steps=10)
    assert train.main([str(config), str(output)]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().err
    assert "validation at step 10; news perplexity " in shown
    assert f"saved the checkpoint in {output}, for `bertsum generate --model`" in shown
    page = (output / "report.html").read_text()
    assert "LEAD-3" in page and "oracle" in page
    assert train.main([str(config), str(output)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    command = [str(tmp_path / "news.parquet"), str(abstracts), "--model", str(output)]
    assert generate.main(command) == 0, capsys.readouterr().err
    rows = read_result(abstracts).to_pylist()
    references = pq.read_table(tmp_path / "news.parquet")["summary"].to_pylist()
    assert [row["summary"] for row in rows] == references
    assert {row["abstract_status"] for row in rows} == {"ok"}
    assert {row["abstract_source"] for row in rows} == {"document"}
    # [CLS] and [SEP] are around each of the five sentences, as in training
    assert min(row["abstract_num_tokens"] for row in rows) >= 5 * 3
    assert all(row["abstract"] for row in rows)


def test_a_run_that_was_killed_ends_with_the_same_weights(
    tmp_path: Path, jobs: "list[object]"
) -> None:
    """SIGKILL of the process behind its third checkpoint; the same command goes on."""
    decoder = tiny_writer.DECODER | tiny_writer.LEARNING | {"dropout": 0.2}
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
