"""Documents to shards to a checkpoint to measures and summaries, with everything in an object store."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import rows, tiny
from helpers.job_helpers import documents
from helpers.store import Store
from helpers.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.faults]


def run(job: str, *arguments: object) -> str:
    command = [sys.executable, "-m", f"jobs.{job}", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=LIMIT_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def put_table(store: Store, key: str, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    store.put(key, sink.getvalue())


def test_from_documents_to_summaries(store: Store, tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    tiny.save(encoder, tiny.encoder(), tiny.wordpiece())
    for path in encoder.iterdir():
        store.put(f"encoder/{path.name}", path.read_bytes())
    put_table(store, "news/a.parquet", pa.table(rows.summary_rows(24)))
    put_table(store, "in/a.parquet", documents(30))
    shards, model = f"{store.uri}/shards", f"{store.uri}/model"

    labelled = ("--summary-column", "summary")
    run("prepare", f"{store.uri}/news", shards, "--encoder", f"{store.uri}/encoder", *labelled)
    source = {
        "name": "news",
        "train_uri": "shards",
        "validation_uri": "news/a.parquet",
        "summary_column": "summary",
    }
    places = {"encoder": f"{store.uri}/encoder", "data_root": store.uri}
    config = rows.training_config(
        **places, sources=[source], model={"sentiment_labels": []}, epochs=2
    )
    recipe = tmp_path / "training.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    run("train", recipe, model)
    before = store.objects()
    assert {"model/config.json", "model/model.safetensors", "model/model_card.md"} <= before.keys()
    run("train", recipe, model)
    assert store.objects() == before, "a finished run writes nothing"

    run("evaluate", f"{store.uri}/news", f"{store.uri}/measures", "--model", model, *labelled)
    measures = json.loads(store.objects()["measures/_report/metrics.json"])
    assert measures
    run("summarize", f"{store.uri}/in", f"{store.uri}/out", "--model", model)
    found = store.objects()
    (name,) = [key for key in found if key.startswith("out/") and key.endswith(".parquet")]
    result = pq.read_table(io.BytesIO(found[name]))
    assert result["id"].to_pylist() == list(range(30))
    assert set(result["status"].to_pylist()) == {"ok"}
    assert result["sentiment"].null_count == 30  # no row had a label for it
    assert "out/_SUCCESS" in found
    assert "nothing to do" in run(
        "summarize", f"{store.uri}/in", f"{store.uri}/out", "--model", model
    )
