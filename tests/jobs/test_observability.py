"""What watches a run from outside: metrics with their dashboard, and OpenLineage events."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.job_helpers import documents, write
from helpers.ray_nodes import free_port
from helpers.waiting import LIMIT_SECONDS

from bertsum.errors import ConfigError, InputError
from jobs import nightly, summarize
from jobs.observability.lineage import Datasets, dataset_name, recorded
from jobs.terminal.log_lines import set_format
from jobs.terminal.progress import Display, Tally

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "cluster" / "grafana.json").read_text())
# Prometheus' names of a counter and of a histogram
ENDINGS = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}


def code_metrics() -> dict[str, str]:
    """Kind of each metric in the code, by name."""
    code = (ROOT / "jobs" / "observability" / "metrics.py").read_text()
    return {name: kind for kind, name in re.findall(r'(Counter|Gauge|Histogram)\(\s*"(\w+)"', code)}


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    assert len(code_metrics()) >= 7
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    queries.append(DASHBOARD["templating"]["list"][1]["query"]["query"])
    used = set(re.findall(r"ray_(bertsum_\w+)", " ".join(queries)))
    known = set()
    for name, kind in code_metrics().items():
        names = {name + ending for ending in ENDINGS[kind]}
        assert names & used, f"no panel shows {name}"
        known |= names
    assert used <= known


_SCRAPED = """
import re, sys, time, urllib.request
import ray
from jobs import summarize

# a Ray of the user's own, as on a cluster; --address then joins it
ray.init(num_cpus=1, include_dashboard=False, _metrics_export_port=int(sys.argv[4]), log_to_driver=False)
code = summarize.main([sys.argv[1], sys.argv[2], "--model", sys.argv[3], "--set", "rows_per_unit=10"])
deadline = time.monotonic() + 60
text = ""
# processes send their sums every few seconds
last = [r"bertsum_unit_seconds_count{.*} 3", r"bertsum_units_left{.*} 0", r"bertsum_documents_total{.*} 26"]
while not all(re.search(line, text) for line in last) and time.monotonic() < deadline:
    time.sleep(1)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[4]}/metrics", timeout=5).read().decode()
    except OSError:
        continue
print("METRICS", text)
sys.exit(code)
"""


@pytest.mark.slow
def test_a_run_is_counted(checkpoint: Path, tmp_path: Path) -> None:
    empty = pa.table({"id": pa.array([25], pa.int64()), "document": pa.array([""])})
    write(pa.concat_tables([documents(25), empty]), tmp_path / "in" / "a.parquet")
    command = [sys.executable, "-c", _SCRAPED, tmp_path / "in", tmp_path / "out", checkpoint]
    done = subprocess.run(
        [*map(str, command), str(free_port())],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    values = {}
    for name, labels, value in re.findall(
        r"^ray_(bertsum_\w+)\{(.*)\} (\S+)$", done.stdout.partition("METRICS ")[2], re.MULTILINE
    ):
        assert f'output="{tmp_path / "out"}"' in labels
        status = re.search(r'status="(\w+)"', labels)
        values[name + (f"/{status[1]}" if status else "")] = float(value)
    assert values["bertsum_documents_total"] == 26
    assert values["bertsum_rows_total/ok"] == 25
    assert values["bertsum_rows_total/empty"] == 1
    assert values["bertsum_unit_seconds_count"] == 3
    assert values["bertsum_units_left"] == 0
    assert values["bertsum_tokens_total"] > 26
    assert values["bertsum_stage_seconds_total"] > 0


def lines_of(text: str) -> list[dict[str, Any]]:
    """Lines of JSON; any other line fails."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("cluster")
def test_logs_are_lines_of_json(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(documents(4), tmp_path / "in" / "a.parquet")
    command = [str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(checkpoint)]
    try:
        assert summarize.main([*command, "--log-format", "json"]) == 0
        printed = lines_of(capfd.readouterr().out)
        wrong = ["--set", "summarizer.nonsense=1"]
        assert summarize.main([*command, "--log-format", "json", *wrong]) == 2
        (error,) = lines_of(capfd.readouterr().err)
    finally:
        set_format("text")
    for line in printed:
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
    (progress,) = [line for line in printed if line["event"] == "progress"][:1]
    assert progress["total"] == 4
    assert any("4 in 1 units" in line["message"] for line in printed)
    assert (error["event"], error["exit_code"]) == ("error", 2)
    assert "nonsense" in error["message"]


def test_progress_has_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    set_format("json")
    try:
        with Display(100, 20) as display:
            display.show(Tally(10, 500), "starting")
            time.sleep(1.1)
            display._shown_at = -10.0  # the next line is due at once
            display.show(Tally(30, 1500), "starting")
    finally:
        set_format("text")
    first, second = lines_of(capsys.readouterr().out)
    assert (first["completed"], first["total"]) == (30, 100)
    assert second["completed"] == 50
    assert 10 < second["documents_per_second"] < 20  # 20 documents in 1.1 s or a little more
    assert 500 < second["tokens_per_second"] < 1000
    assert second["seconds_left"] == pytest.approx(50 / second["documents_per_second"], rel=0.05)


DATASETS = Datasets(
    command="summarize",
    input_uri="s3://lake/news/",
    output_uri="s3://lake/summaries",
    read_columns=["id", "body"],
    input_schema=pa.schema([("id", pa.int64()), ("body", pa.string())]),
    output_schema=pa.schema([("id", pa.int64()), ("summary", pa.string())]),
)


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client", None)
    with (
        pytest.raises(ConfigError, match=r"bertsum\[openlineage\]"),
        recorded(DATASETS, "events.jsonl", print),
    ):
        pytest.fail("it ran without events")


def test_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client", None)
    with recorded(DATASETS, None, print) as ending:
        ending.rows = 1


def test_a_run_that_ends_well(tmp_path: Path) -> None:
    pytest.importorskip("openlineage.client")
    with recorded(DATASETS, str(tmp_path / "events.jsonl"), print) as ending:
        ending.rows = 7
    start, end = events(tmp_path / "events.jsonl")
    assert [start["eventType"], end["eventType"]] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == end["run"]["runId"]
    assert end["job"]["name"] == "summarize.summaries"
    (read,), (written,) = end["inputs"], end["outputs"]
    assert (read["namespace"], read["name"]) == ("s3://lake", "news")
    assert [field["name"] for field in read["facets"]["schema"]["fields"]] == ["id", "body"]
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 7
    fields = written["facets"]["columnLineage"]["fields"]
    sources = {}
    for column, field in fields.items():
        sources[column] = [
            (one["field"], one["transformations"][0]["subtype"]) for one in field["inputFields"]
        ]
    assert sources == {"id": [("id", "IDENTITY")], "summary": [("body", "TRANSFORMATION")]}


@pytest.mark.parametrize(
    ("error", "expected"),
    [(InputError("s3://key:s3cr3tvalue@b/x is gone"), "FAIL"), (KeyboardInterrupt(), "ABORT")],
)
def test_a_run_that_does_not(error: BaseException, expected: str, tmp_path: Path) -> None:
    pytest.importorskip("openlineage.client")
    path = tmp_path / "events.jsonl"
    with pytest.raises(type(error)), recorded(DATASETS, str(path), print):
        raise error
    assert events(path)[1]["eventType"] == expected
    assert "s3cr3tvalue" not in path.read_text()


class _Collector(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    received: list[tuple[str, str | None, dict[str, Any]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, type[_Collector]]]:
    handler = type("Collector", (_Collector,), {"received": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def test_a_server_gets_the_events(
    collector: tuple[str, type[_Collector]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openlineage.client")
    url, handler = collector
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "a-key-of-mine")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "nights")
    with recorded(DATASETS, url, print):
        pass
    assert [body["eventType"] for _, _, body in handler.received] == ["START", "COMPLETE"]
    path, key, body = handler.received[0]
    assert (path, key) == ("/api/v1/lineage", "Bearer a-key-of-mine")
    assert body["job"]["namespace"] == "nights"


def test_a_server_that_is_gone_fails_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openlineage.client")
    with recorded(DATASETS, "http://me:s3cr3tvalue@127.0.0.1:9", print) as ending:
        ending.rows = 1
    said = capsys.readouterr().out
    assert "OpenLineage event COMPLETE was not sent" in said
    assert "s3cr3tvalue" not in said


@pytest.mark.parametrize(
    ("variables", "uri"),
    [
        ({"OPENLINEAGE_URL": "no url"}, None),
        ({"OPENLINEAGE__TRANSPORT__TYPE": "nonsense"}, None),
        ({}, "http://[no"),
    ],
)
def test_settings_that_the_client_cannot_use_fail_no_run(
    variables: dict[str, str],
    uri: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openlineage.client")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    with recorded(DATASETS, uri, said.append) as ending:
        ending.rows = 1
    assert [line.startswith("OpenLineage events are not sent: ") for line in said] == [True]


def test_why_rows_are_missing_is_told_without_credentials(tmp_path: Path) -> None:
    pytest.importorskip("openlineage.client")
    path = tmp_path / "events.jsonl"
    with recorded(DATASETS, str(path), print) as ending:
        ending.error = "s3://key:s3cr3tvalue@b/x is gone"
    assert events(path)[1]["eventType"] == "FAIL"
    assert "s3cr3tvalue" not in path.read_text()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/a/b/", ("s3://bucket", "a/b")),
        ("gs://bucket", ("gs://bucket", "/")),
        ("/data/news", ("file", "/data/news")),
        ("file:///data/news", ("file", "/data/news")),
        ("s3://key:secret@bucket/a", ("s3://***@bucket", "a")),
    ],
)
def test_names_of_datasets(uri: str, expected: tuple[str, str]) -> None:
    assert dataset_name(uri) == expected


@pytest.mark.usefixtures("cluster")
def test_commands_send_events(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("openlineage.client")
    write(documents(4), tmp_path / "in" / "dt=2026-11-01" / "a.parquet")
    path = tmp_path / "events.jsonl"
    command = [str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(checkpoint)]
    command += ["--set", f"openlineage={path}"]
    command += ["--date", "2026-11-01"]
    assert nightly.main(command) == 0
    assert [event["eventType"] for event in events(path)] == ["START", "COMPLETE"]
    statistics = events(path)[1]["outputs"][0]["outputFacets"]["outputStatistics"]
    assert statistics["rowCount"] == 4
    assert nightly.main(command) == 0  # done before: nothing runs, and no event says so
    assert len(events(path)) == 2
