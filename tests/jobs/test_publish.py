"""`nightly` with checks on a real Ray, and `publish`: what a scheduler and a person see."""

import json
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.job_helpers import documents, read_result, start_job, write
from helpers.waiting import LIMIT_SECONDS

from bertsum.runs.records import MANIFEST
from jobs import backfill, nightly, publish, status

pytestmark = pytest.mark.usefixtures("cluster")

FIRST, DAYS = date(2026, 3, 2), 14


def directory(number: int) -> str:
    return f"dt={FIRST + timedelta(days=number)}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(DAYS):
        rows = documents(20, first_id=20 * number)
        write(rows, tmp_path / "in" / directory(number) / "a.parquet")
    return tmp_path / "in"


@pytest.mark.slow
def test_a_night_of_cut_texts_is_held_published_and_shown(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = [str(source), str(output), "--model", str(checkpoint)]
    assert backfill.main([*command, "--from", str(FIRST), "--to", "2026-03-15"]) == 0
    first, second = directory(DAYS), directory(DAYS + 1)
    cut = pa.table({"id": list(range(20)), "document": [f"Word {i}." for i in range(20)]})
    write(cut, source / first / "a.parquet")
    write(documents(20, first_id=400), source / second / "a.parquet")
    options = [*command, "--set", "output.checks=hold", "--json"]
    capsys.readouterr()
    for _ in range(2):  # the same command again holds again
        assert nightly.main([*options, "--date", first.removeprefix("dt=")]) == 3
        printed = capsys.readouterr()
        night = json.loads(printed.out)
        assert (night["state"], night["rows"]) == ("held", 0)
        # half of the texts have 7 characters and half 8
        assert "characters of a typical summary: 7.5; " in night["error"]
        assert f"`bertsum publish {output} '{first}'` lets them through" in night["error"]
    assert "starting Ray" not in printed.err
    assert nightly.main([*options, "--date", second.removeprefix("dt=")]) == 0
    assert status.main([str(output)]) == 1
    assert f"held: {first}: " in capsys.readouterr().out
    assert not (output / first / MANIFEST).exists()

    assert publish.main([str(output), first]) == 0
    assert "characters of a typical summary" in capsys.readouterr().out
    assert status.main([str(output)]) == 0
    assert len(read_result(output)) == 20 * (DAYS + 2)
    assert nightly.main([*options, "--date", first.removeprefix("dt=")]) == 0
    assert publish.main([str(output), first]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_month_with_a_bad_day(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(documents(0), source / directory(3) / "a.parquet")
    output = tmp_path / "out"
    command = ["--model", str(checkpoint), "--set", "output.checks=hold"]
    days = ["--from", str(FIRST), "--to", "2026-03-08"]
    assert backfill.main([str(source), str(output), *command, *days]) == 3
    printed = capsys.readouterr()
    assert "done 6  ! held 1" in printed.out
    assert f"held {directory(3)}: rows: 0; the least is 1" in printed.out
    # looked at without running anything, it is held, too
    assert backfill.main([str(source), str(output), *command, *days, "--dry-run"]) == 0
    assert "done 6  ! held 1" in capsys.readouterr().out
    # a process of its own ends with the code of its error, too
    job = start_job("publish", output, directory(3))
    said, _ = job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 0, said
    assert f"published {directory(3)}: 0 rows, in spite of" in said
    assert backfill.main([str(source), str(output), *command, *days]) == 0
