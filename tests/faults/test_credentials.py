"""Secrets in every place where they may be given, and every place where a run leaves something: they are in none.

Given in the URIs of INPUT, OUTPUT and the model, in the environment and in the configuration file; looked for in what
commands print, in all objects of OUTPUT, in Ray's logs on the cluster and in what its dashboard answers.
"""

import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from helpers import rows, tiny
from helpers.job_helpers import documents, write
from helpers.ray_nodes import Cluster
from helpers.store import SECRET, Store
from helpers.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.faults]

IN_INPUT, IN_QUERY, IN_MODEL = (
    "swordfish-input-4711",
    "swordfish-query-4711",
    "swordfish-model-4711",
)
IN_OUTPUT, IN_CONFIG = "swordfish-output-4711", "swordfish-config-4711"
SECRETS = (SECRET, IN_INPUT, IN_QUERY, IN_MODEL, IN_OUTPUT, IN_CONFIG)
ANSWERS = (
    "/api/jobs/",
    "/api/v0/actors?detail=1",
    "/api/v0/tasks?detail=1",
    "/api/v0/workers?detail=1",
    "/nodes?view=summary",
)


@pytest.fixture
def cluster(store: Store) -> Iterator[Cluster]:
    directory = Path(
        tempfile.mkdtemp(prefix="bertsum-ray-")
    )  # pytest's own is too long for Ray's sockets
    found = Cluster(directory, num_cpus=1)
    yield found
    found.stop()
    shutil.rmtree(directory)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[int]:
    """Port of a server of `tmp_path` that wants one of the passwords."""
    allowed = {
        base64.b64encode(f"somebody:{word}".encode()).decode() for word in (IN_INPUT, IN_MODEL)
    }

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type, misc]

        def send_head(self) -> object:
            if self.headers.get("Authorization", "").removeprefix("Basic ") in allowed:
                return super().send_head()
            self.send_error(401)
            return None

        def log_message(self, *arguments: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_secrets_are_nowhere(
    store: Store, cluster: Cluster, web: int, checkpoint: Path, tmp_path: Path
) -> None:
    write(documents(60), tmp_path / "in" / "a.parquet")
    write(pa.table(rows.summary_rows(12)), tmp_path / "in" / "labelled.parquet")
    (tmp_path / "in" / "broken.parquet").write_bytes(b"PAR1" + b"x" * 100 + b"PAR1")
    shutil.copytree(checkpoint, tmp_path / "model")
    config = tmp_path / "job.yaml"
    config.write_text(
        yaml.safe_dump({"storage_options": {"s3": {"key": "somebody", "secret": IN_CONFIG}}})
    )
    tiny.save(tmp_path / "encoder", tiny.encoder(), tiny.wordpiece())
    user = f"http://somebody:{IN_INPUT}@127.0.0.1:{web}/in"
    model = ("--model", f"http://somebody:{IN_MODEL}@127.0.0.1:{web}/model")
    more = ("--config", config, "--address", f"127.0.0.1:{cluster.port}")
    labels = ("--summary-column", "summary")
    query = f"?token={IN_QUERY}"
    out = f"{store.uri}/out"
    source_of_training = {
        "name": "news",
        "train_uri": "labelled.parquet",
        "summary_column": "summary",
    }
    training = rows.training_config(
        encoder=f"http://somebody:{IN_MODEL}@127.0.0.1:{web}/encoder",
        data_root=user,
        sources=[source_of_training],
        model={"sentiment_labels": []},
    )
    recipe = tmp_path / "training.yaml"
    recipe.write_text(yaml.safe_dump(training.model_dump(mode="json")))
    printed = [
        run(0, "summarize", f"{user}/a.parquet", out, *model, *more),
        run(1, "summarize", f"{user}/a.parquet", out, *model, *more, "--sentences", 1),  # results of another: refused
        run(0, "status", out, "--json"),
        run(0, "evaluate", f"{user}/labelled.parquet", f"{store.uri}/measures", *model, *more, *labels),
        run(0, "train", recipe, f"{store.uri}/trained", "--address", "local"),
        run(1, "train", recipe, f"{store.uri}/trained", "--address", "local", "--set", "seed=5"),
        run(1, "summarize", f"{user}/broken.parquet", f"{store.uri}/broken", *model, *more),
        run(None, "summarize", f"{user}/gone.parquet{query}", out, *model, *more),
        run(None, "summarize", f"{user}/a.parquet", f"s3://somebody:{IN_OUTPUT}@{store.uri[5:]}/out", *model, *more),
        run(2, "summarize", f"{user}/a.parquet", out, "--model", f"{model[1]}/nowhere{query}", *more),
        run(2, "summarize", f"{user}/a.parquet", out, *model, *more, "--set", f"storage_options.s3={IN_CONFIG}"),
    ]  # fmt: skip
    assert sum("***@" in text for text in printed) > 2, printed
    found = store.objects()
    assert {
        "out/_SUCCESS",
        "out/_bertsum/manifest.json",
        "measures/_report/metrics.json",
        "trained/model_card.md",
    } <= found.keys()
    for name in ("out/_bertsum/manifest.json", "measures/_report/metrics.json"):
        assert b"***@127.0.0.1" in found[name], f"{name} names no place"
    shown = {path: ask(cluster, path) for path in ANSWERS}
    assert "jobs.cli summarize http://***@" in shown["/api/jobs/"]
    logs = {
        str(path): path.read_bytes()
        for path in (cluster.directory / "ray").rglob("logs/**/*")
        if path.is_file()
    }
    assert len(logs) > 5
    places = {f"output {number}": text.encode() for number, text in enumerate(printed)}
    places |= found | logs | {path: text.encode() for path, text in shown.items()}
    assert [
        (place, secret)
        for place, data in places.items()
        for secret in SECRETS
        if secret.encode() in data
    ] == []


def run(code: int | None, *arguments: object) -> str:
    """What a command prints; `code`: its exit code, None for an error of either kind."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=LIMIT_SECONDS
    )
    said = done.stdout + done.stderr
    assert done.returncode == code or (code is None and done.returncode in (1, 2)), said
    return said


def ask(cluster: Cluster, path: str) -> str:
    with urllib.request.urlopen(cluster.address + path, timeout=LIMIT_SECONDS) as answer:
        return str(json.loads(answer.read()))
