"""`bertsum benchmark` on a tiny model: all rates are there, and the estimate follows from them."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tiny

import bertsum
from bertsum.checkpoints.checkpoint import save_checkpoint
from jobs import benchmark
from jobs.benchmark import main

pytestmark = pytest.mark.usefixtures("cluster", "short")


@pytest.fixture
def short(monkeypatch):
    """A job of seconds is for models that take some."""
    monkeypatch.setattr(benchmark, "_JOB_SECONDS", 0.01)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    save_checkpoint(
        folder / "model", tiny.model(), tiny.wordpiece(), "", version=bertsum.__version__
    )
    (folder / "input").mkdir()
    for number in range(3):
        texts = [tiny.text(3, first=number), None, tiny.text(5)]
        pq.write_table(
            pa.table({"id": [1, 2, 3], "document": texts}), folder / "input" / f"{number}.parquet"
        )
    return str(folder / "input"), str(folder / "model")


def test_rates_and_the_estimate(paths, capsys):
    source, model = paths
    assert (
        main(
            [
                source,
                "--model",
                model,
                "--json",
                "--repetitions",
                "1",
                "--price",
                "2",
                "--corpus",
                "7200",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["documents"] == 9
    rates = [
        "matrix_flops",
        "engine_tokens",
        "engine_documents",
        "engine_share",
        "prepare_documents_per_core",
    ]
    assert all(found[name] > 0 for name in rates)
    assert found["engine_tokens"] == pytest.approx(
        found["engine_documents"] * found["tokens_per_document"]
    )
    assert found["end_to_end_documents"] > 0 and found["job"]["startup_seconds"] > 0
    stages = ["prepare", "make_batch", "forward", "finish", "output"]
    assert list(found["cpu_seconds"]) == stages and all(
        found["cpu_seconds"][stage] > 0 for stage in stages
    )
    assert found["cpu_seconds"]["prepare"] == pytest.approx(1 / found["prepare_documents_per_core"])
    assert found["replica_hours"] == pytest.approx(2 / found["job"]["documents_per_second"])
    assert found["cost"] == pytest.approx(2 * found["replica_hours"])


def test_a_sample_is_as_big_as_asked_and_the_corpus_is_the_input(paths, tmp_path, capsys):
    """Also where the input has a column with the name of an output column."""
    source, model = paths
    for path in Path(source).iterdir():
        rows = pq.read_table(path)
        pq.write_table(rows.append_column("summary", rows["document"]), tmp_path / path.name)
    options = ["--model", model, "--json", "--repetitions", "1", "--documents", "4"]
    assert main([str(tmp_path), *options]) == 2
    assert "output.prefix" in capsys.readouterr().err
    assert main([str(tmp_path), *options, "--set", "output.prefix=ai_"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["documents"], found["corpus_documents"], found["cost"]) == (4, 9, None)


def test_on_a_cluster_the_engine_is_measured_by_a_task_and_the_job_where_all_nodes_reach(
    paths, tmp_path, capsys
):
    source, model = paths
    command = [source, "--model", model, "--repetitions", "1", "--address", "auto"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "the job                 not measured: --scratch" in table
    assert "bottleneck              the CPU" in table
    head = table.index("CPU time a document")
    shares = re.findall(r"^  (\w+) +([\d,]+) µs, ([\d.]+)%$", table[head:], re.MULTILINE)
    assert [name for name, _, _ in shares] == [
        "prepare",
        "make_batch",
        "forward",
        "finish",
        "output",
    ]
    assert sum(float(share) for _, _, share in shares) == pytest.approx(100, abs=0.3)
    assert main([*command, "--scratch", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["threads"] == 2
    assert found["replica_hours"] == pytest.approx(9 / found["job"]["documents_per_second"] / 3600)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_the_cluster_cannot_read_is_named(paths, capsys):
    assert main([paths[0], "--model", "/nowhere", "--address", "auto"]) != 0
    assert "/nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--documents", "0"], ["--text-column", "nowhere"], ["--set", "nonsense=1"]]
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(paths, options, capsys):
    source, _ = paths
    assert main([source, "--model", "/nowhere", *options]) == 2
    assert capsys.readouterr().err.startswith("error: ")
