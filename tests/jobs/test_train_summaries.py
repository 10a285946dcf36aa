"""`bertsum train` with a decoder, then `bertsum generate` with what it made."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.job_helpers import read_result
from helpers.tiny_writer import make_config

from jobs import generate, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


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
