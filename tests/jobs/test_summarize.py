"""The job on a real Ray: rows in order, resuming, growing, replacing, bad input, and what it refuses."""

import gc
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from helpers.job_helpers import (
    documents,
    make_checkpoint,
    read_result,
    result_files,
    start_summarize,
    write,
)
from helpers.lake_harness import load_extension
from helpers.waiting import LIMIT_SECONDS, wait_until

from bertsum.config import SummarizerConfig
from bertsum.inference.summarizer import Summarizer
from bertsum.runs.times import read_times
from bertsum.schema import PREDICTION_SCHEMA
from bertsum.storage.folder import Folder
from jobs import status, summarize

pytestmark = pytest.mark.usefixtures("cluster")


def run(*arguments: object) -> int:
    return summarize.main([str(argument) for argument in arguments])


def mtimes(root: Path) -> dict[str, int]:
    return {
        path.relative_to(root).as_posix(): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three days of three shapes: two row groups, large strings with bad rows, dictionary-encoded strings."""
    root = tmp_path / "in"
    write(documents(30), root / "dt=2026-11-20" / "part 0%.parquet", row_group_size=16)
    hard = [
        "",
        None,
        "   ",
        "a\0b. The cat sleeps.",
        "中文没有词。" * 5,
        "The cat runs. " * 400,
        "word",
    ]
    large = pa.table(
        {"id": pa.array(range(30, 37), pa.int64()), "document": pa.array(hard, pa.large_string())}
    )
    write(large, root / "dt=2026-11-21" / "ü.parquet")
    encoded = documents(6, first_id=37)
    encoded = encoded.set_column(1, "document", encoded["document"].dictionary_encode())
    write(
        encoded.append_column("day", pa.array(["x", "y"] * 3).dictionary_encode()),
        root / "dt=2026-11-22/a.parquet",
    )
    return root


def test_a_run_from_beginning_to_end(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = (
        source,
        output,
        "--model",
        checkpoint,
        "--set",
        "rows_per_unit=16",
        "--set",
        "summarizer.dtype=float32",
    )
    assert run(*command, "--show", 3) == 0
    assert "43 in 4 units" in capsys.readouterr().out
    files = result_files(output)
    assert [pq.read_metadata(output / name).num_rows for name in files] == [16, 14, 7, 6]

    # every row, in order, with the columns that it had, and equal to the model applied to the whole file at once
    assert [
        i for name in files for i in pq.read_table(output / name, columns=["id"])["id"].to_pylist()
    ] == list(range(43))
    schema = pq.read_schema(output / files[0])
    assert schema.names == ["id", *PREDICTION_SCHEMA.names]
    summarizer = Summarizer(checkpoint, SummarizerConfig(dtype="float32"))
    for name, day in zip(
        files[2:], ("dt=2026-11-21/ü.parquet", "dt=2026-11-22/a.parquet"), strict=True
    ):
        expected = summarizer(pq.read_table(source / day, partitioning=None))
        found = pq.read_table(output / name, partitioning=None)
        for column in ("id", "summary", "sentiment", "status", "num_sentences", "num_tokens"):
            assert found[column].to_pylist() == expected[column].to_pylist()
    assert pq.read_table(output / files[2])["status"].to_pylist() == [
        "empty",
        "empty",
        "empty",
        "ok",
        "unknown_language",
        "ok",
        "ok",
    ]
    assert pq.read_table(output / files[3], partitioning=None)["day"].to_pylist() == ["x", "y"] * 3

    # the same command again does nothing
    before = mtimes(output)
    assert run(*command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert mtimes(output) == before
    assert status.main([str(output), "--json"]) == 0
    found_status = json.loads(capsys.readouterr().out)
    assert found_status["rows"] == {"done": 43, "missing": 0, "failed": 0}
    assert found_status["statuses"] == {"ok": 39, "empty": 3, "unknown_language": 1}


def test_a_try_out_then_all_then_more(source: Path, tmp_path: Path, checkpoint: Path) -> None:
    output = tmp_path / "out"
    command = (source, output, "--model", checkpoint)
    assert run(*command, "--limit", 20) == 0
    assert read_result(output)["id"].to_pylist() == list(range(20))
    assert not (output / "_SUCCESS").exists()
    assert status.main([str(output)]) == 1
    first = mtimes(output / "dt=2026-11-20")
    assert run(*command) == 0
    assert (output / "_SUCCESS").exists()
    write(documents(5, first_id=43), source / "dt=2026-11-23" / "a.parquet")
    assert run(*command) == 0
    ids = pa.concat_tables(
        pq.read_table(output / name, columns=["id"]) for name in result_files(output)
    )["id"]
    assert ids.to_pylist() == list(range(48))
    assert mtimes(output / "dt=2026-11-20").items() >= first.items()
    assert json.loads((output / "_bertsum" / "manifest.json").read_text())["rows"] == 48
    # of units of all three runs it is recorded when they were made, and in which order
    made = read_times(Folder(str(output)), [""])
    assert sorted(made) == sorted(result_files(output))
    last = max(made.values(), key=lambda unit: unit.begun)
    assert last is made[result_files(output)[-1]]
    assert all(0 < unit.seconds < LIMIT_SECONDS and ":" in unit.replica for unit in made.values())


def test_another_model_must_be_asked_for(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, other = (
        tmp_path / "out",
        make_checkpoint(tmp_path / "other", sentiment_labels=("bad", "good")),
    )
    assert run(source, output, "--model", checkpoint) == 0
    old = set(result_files(output))
    assert run(source, output, "--model", other) == 1
    message = capsys.readouterr().err
    assert str(checkpoint) in message
    assert "--on-existing replace" in message
    assert run(source, output, "--model", other, "--on-existing", "replace") == 0
    assert not old & set(result_files(output))
    labels = {
        label
        for name in result_files(output)
        for label in pq.read_table(output / name)["sentiment"].to_pylist()
    }
    assert labels <= {"bad", "good", None}
    assert status.main([str(output)]) == 0


def test_an_input_with_columns_of_the_same_names(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows are counted and shown by the job's own columns; other names are other results."""
    source, output = tmp_path / "in", tmp_path / "out"
    rows = documents(6).append_column("summary", pa.array(["theirs"] * 6))
    rows = rows.append_column("status", pa.array(["error"] * 6))
    rows = rows.append_column("num_tokens", pa.array([10**6] * 6))
    write(rows, source / "dt=1" / "a.parquet")
    command = (source, output, "--model", checkpoint, "--set", "output.table=delta")
    assert run(*command) == 2
    message = capsys.readouterr().err
    assert "keep_columns" in message
    assert "output.prefix" in message
    assert not output.exists()
    assert run(*command, "--set", "output.prefix=ai_", "--show", 2) == 0
    shown = capsys.readouterr().out
    assert "theirs" not in shown
    result = read_result(output)
    for summary in result["ai_summary"].to_pylist()[:2]:
        assert summary[:15] in shown
    assert result.select(rows.drop(["document"]).column_names).equals(rows.drop(["document"]))
    manifest = json.loads((output / "_bertsum" / "manifest.json").read_text())
    assert manifest["statuses"] == {"ok": 6}
    assert manifest["tokens"] == sum(result["ai_num_tokens"].to_pylist()) < 10**6
    before = mtimes(output)
    assert run(*command, "--set", "output.prefix=ai_") == 0
    assert mtimes(output) == before

    names = "output.rename={summary: ai_summary, status: state, num_tokens: length}"
    assert run(*command, "--set", names) == 1
    assert "--on-existing replace" in capsys.readouterr().err
    assert run(*command, "--set", names, "--on-existing", "replace") == 0
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    load_extension(connection, "delta")
    table = connection.sql(
        f"SELECT status, state, ai_status, ai_summary, sentiment FROM delta_scan('{output}')"
    ).fetchall()
    assert [row[:3] for row in table] == [("error", "ok", None)] * 6
    assert [row[3] for row in table] == result["ai_summary"].to_pylist()
    assert all(row[4] for row in table)


@pytest.mark.parametrize("partition", ["", "dt=1"])
def test_bad_files_are_named_and_the_others_finish(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], partition: str
) -> None:
    """By a run over everything, and by one that publishes a partition."""
    source, output = tmp_path / "in" / partition, tmp_path / "out"
    for number in range(4):
        write(
            documents(8, first_id=8 * number),
            source / f"{number}.parquet",
            compression="none",
            use_dictionary=False,
        )
    damaged = bytearray((source / "1.parquet").read_bytes())
    damaged[4:40] = (
        b"\xff" * 36
    )  # the header of the first page: the footer is fine, so only reading finds it
    (source / "1.parquet").write_bytes(damaged)
    (source / "cut.parquet").write_bytes((source / "0.parquet").read_bytes()[:-20])
    write(pa.table({"id": [1], "text": ["a"]}), source / "other.parquet")

    command = [tmp_path / "in", output, "--model", checkpoint, "--set", "max_unit_attempts=2"]
    command += ["--partitions", partition] if partition else []
    assert run(*command, "--show", 10) == 1
    printed, message = capsys.readouterr()
    shown = printed.rpartition("sentiment")[2].splitlines()[1:]
    assert [line.split()[0] for line in shown] == [*map(str, range(8)), "16", "17"], printed
    for part in (
        "1.parquet",
        "cut.parquet",
        "other.parquet: there is no column 'document'",
        "text: string",
    ):
        assert part in message
    assert read_result(output)["id"].to_pylist() == [*range(8), *range(16, 32)]
    assert not list(output.rglob("_SUCCESS"))
    assert status.main([str(output / partition), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["units"]["done"], found["units"]["failed"]) == (3, 1)
    bad = [f"{partition}/{name}.parquet".removeprefix("/") for name in ("1", "cut", "other")]
    assert sorted(failure["files"] for failure in found["failures"]) == [[name] for name in bad]

    # mended, the same command does the rest and only that
    before = mtimes(output)
    write(documents(8, first_id=8), source / "1.parquet")
    (source / "cut.parquet").unlink()
    (source / "other.parquet").unlink()
    assert run(*command) == 0
    assert read_result(output)["id"].to_pylist() == list(range(32))
    assert all(
        mtimes(output)[name] == before[name] for name in result_files(output) if name in before
    )
    assert not list(output.rglob("failures.json"))
    assert (output / partition / "_SUCCESS").exists()


def test_a_model_that_only_the_driver_has_stops_the_job(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a cluster where one node has another copy of the model: the driver's digest is not the replica's."""
    model = make_checkpoint(tmp_path / "model")
    monkeypatch.setattr("bertsum.checkpoints.config.model_digest", lambda directory: "0" * 64)
    gc.disable()
    try:
        assert run(source, tmp_path / "out", "--model", model) == 2
        # a replica that only a collection of garbage ends may keep its CPUs forever
        wait_until(lambda: ray.available_resources().get("CPU") == 2, "the CPUs are free again")
    finally:
        gc.enable()
    assert "all nodes must see the same model" in capsys.readouterr().err
    assert result_files(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (["--set", "resources.num_gpus=1"], ["1 GPUs", "0 GPUs", "--set resources.num_gpus=0"]),
        (["--set", "resources.num_cpus=64"], ["64 CPUs", "2 CPUs", "--set resources.num_cpus=2"]),
        (["--set", "resources.replicas=3"], ["3 replica(s)", "--set resources.replicas=1"]),
        (["--set", "rows_per_unti=3"], ["rows_per_unti", "rows_per_unit"]),
        (["--text-column", "body"], ["'body'", "id: int64", "document: string"]),
        (["--model", "/nowhere/model"], ["/nowhere/model"]),
        (["--limit", "0"], ["--limit"]),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    source: Path,
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    parts: list[str],
) -> None:
    assert run(source, tmp_path / "out", "--model", checkpoint, *change) == 2
    message = capsys.readouterr().err
    assert "error: " in message
    for part in parts:
        assert part in message
    assert not (tmp_path / "out").exists()


def test_output_inside_input_is_refused(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, source / "out", "--model", checkpoint) == 2
    assert run(source / "dt=2026-11-22", source, "--model", checkpoint) == 2
    # by another path: `..`, a link to INPUT, and a file of INPUT that is a link to elsewhere
    assert run(source, f"{source}/../{source.name}/out", "--model", checkpoint) == 2
    (tmp_path / "link").symlink_to(source)
    assert run(source, tmp_path / "link" / "out", "--model", checkpoint) == 2
    (tmp_path / "results" / "in").mkdir(parents=True)
    (tmp_path / "results" / "in" / "a.parquet").symlink_to(next(source.rglob("*.parquet")))
    assert run(tmp_path / "results" / "in", tmp_path / "results", "--model", checkpoint) == 2
    assert capsys.readouterr().err.count("lie in each other") == 5


def test_missing_input_and_input_that_is_no_parquet(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    assert run(tmp_path / "gone", tmp_path / "out", "--model", checkpoint) == 2
    assert run(tmp_path / "in", tmp_path / "out", "--model", checkpoint) == 2
    message = capsys.readouterr().err
    assert "gone does not exist" in message
    assert "a.txt" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written(source: Path, tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert run(source, tmp_path / "out", "--model", checkpoint) == 1


def test_a_run_of_its_own_says_nothing_in_the_words_of_ray(
    source: Path, tmp_path: Path, checkpoint: Path
) -> None:
    job = start_summarize(source, tmp_path / "out", "--model", checkpoint)
    printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 0, printed
    assert "rows ok" in printed
    assert not re.search("WARNING|INFO|ray.data|executor", printed), printed
