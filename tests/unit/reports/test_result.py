"""What OUTPUT holds, by its records, at any moment of a run."""

from pathlib import Path

import pytest
from helpers.report_runs import CONFIG, JOB, Run, write_documents

from bertsum.errors import ConfigError
from bertsum.reports.result import read_result
from bertsum.runs.commit import Failure, record_failures
from bertsum.runs.records import Job
from bertsum.storage.folder import Folder

OTHER_JOB = Job("model-b", "digest-b", CONFIG)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    texts = [f"Alpha {i}. Beta. Gamma {i}." for i in range(40)]
    write_documents(tmp_path / "in", {"dt=1": texts, "dt=2": texts})
    return tmp_path / "in"


def test_a_finished_run(tmp_path: Path, source: Path) -> None:
    Run(source, tmp_path / "out", rows_per_unit=20).run()
    result = read_result(Folder(str(tmp_path / "out")))
    assert (result.is_complete, result.num_rows, result.missing_units) == (True, 80, 0)
    assert [entry.counts.rows for entry in result.files] == [20, 20, 20, 20]
    assert result.first_rows == [0, 20, 40, 60, 80]
    assert result.input_uri == str(source)


def test_a_run_that_was_killed(tmp_path: Path, source: Path) -> None:
    run = Run(source, tmp_path / "out", rows_per_unit=20)
    plan = run.plan()
    run.begin(plan)
    run.make(plan, most_units=2)
    result = read_result(run.output)
    assert not result.is_complete
    assert (result.num_rows, result.missing_units, result.missing_rows) == (40, 2, 40)
    # all its units are there, and it died before it published them
    run.make(run.plan())
    result = read_result(run.output)
    assert not result.is_complete
    assert (result.num_rows, result.missing_units) == (80, 0)


def test_rows_of_the_model_before_are_no_part_of_a_replacement(
    tmp_path: Path, source: Path
) -> None:
    Run(source, tmp_path / "out", rows_per_unit=20).run()
    run = Run(source, tmp_path / "out", rows_per_unit=20, job=OTHER_JOB)
    plan = run.plan()
    run.begin(plan)
    run.make(plan, most_units=1)
    result = read_result(run.output)
    assert (result.num_rows, result.missing_units, result.is_complete) == (20, 3, False)
    assert result.job["model"]["id"] == "model-b"


def test_a_partition_that_is_published_beside_one_that_is_not(tmp_path: Path, source: Path) -> None:
    run = Run(source, tmp_path / "out", rows_per_unit=20)
    whole = run.plan()
    first, second = whole.only(["dt=1"]), whole.only(["dt=2"])
    run.begin(first)
    run.make(first)
    run.finish(first)
    run.begin(second)
    run.make(second, most_units=1)
    result = read_result(run.output)
    assert result.published == {"dt=1"}
    assert (result.num_rows, result.missing_units, result.missing_rows) == (60, 1, 20)
    assert not result.is_complete


def test_a_try_out(tmp_path: Path, source: Path) -> None:
    run = Run(source, tmp_path / "out", rows_per_unit=20)
    plan = run.plan(limit=30)
    run.begin(plan)
    run.make(plan)
    run.finish(plan)
    result = read_result(run.output)
    assert (result.limit, result.num_rows, result.is_complete) == (30, 30, False)


def test_what_failed_is_told_without_credentials(tmp_path: Path, source: Path) -> None:
    run = Run(source, tmp_path / "out", rows_per_unit=20)
    plan = run.plan()
    run.begin(plan)
    names = list(plan.missing)
    run.make(plan, most_units=1)
    past = Failure(["a.parquet"], "was read at the second try", 1, names[0])
    damaged = Failure(["s3://user:secret-word@bucket/b.parquet"], "damaged", 3, names[1])
    record_failures(run.output, [past, damaged])
    (failure,) = read_result(run.output).failures
    assert (failure.reason, failure.attempts) == ("damaged", 3)
    assert failure.files == ["s3://***@bucket/b.parquet"]


def test_a_directory_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run"):
        read_result(Folder(str(tmp_path)))


def test_results_of_another_command(tmp_path: Path, source: Path) -> None:
    run = Run(source, tmp_path / "out").run()
    path = tmp_path / "out" / "_bertsum" / "manifest.json"
    path.write_text(path.read_text().replace('"selection"', '"labels"'))
    with pytest.raises(ConfigError, match="holds no rows that a page shows"):
        read_result(run.output)


def test_a_job_of_the_version_before(tmp_path: Path) -> None:
    old = Path(__file__).parents[2] / "data" / "version_0_1_0" / "finished"
    result = read_result(Folder(str(old)))
    assert (result.is_complete, result.num_rows) == (True, 19)
    assert JOB.fingerprint != result.job["fingerprint"]
