"""`nightly` and `summarize --partitions` on a real Ray: one day at a time, and what a scheduler sees."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.job_helpers import documents, read_result, result_files, write

from bertsum.runs.times import read_times
from bertsum.storage.folder import Folder
from jobs import nightly, status, summarize

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for index, day in enumerate(("2026-11-20", "2026-11-21")):
        write(documents(12, first_id=12 * index), root / f"dt={day}" / "a.parquet")
    return root


def run(
    capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, dict[str, object], str]:
    """Exit code, the JSON on stdout, and stderr."""
    code = nightly.main([*map(str, arguments), "--json"])
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    return code, json.loads(line), printed.err


def test_one_day_then_the_next_then_late_data(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = (source, output, "--model", checkpoint, "--set", "rows_per_unit=5")
    code, night, said = run(capsys, *command, "--date", "2026-11-20")
    assert (code, night["state"], night["rows"], night["rows_made"]) == (0, "done", 12, 12)
    assert "published dt=2026-11-20: 12 rows" in said
    assert read_result(output)["id"].to_pylist() == list(range(12))
    assert (output / "dt=2026-11-20" / "_SUCCESS").exists()
    assert status.main([str(output / "dt=2026-11-20")]) == 0
    assert status.main([str(output)]) == 0
    assert "1 partition(s) published, dt=2026-11-20 to dt=2026-11-20" in capsys.readouterr().out

    first = {name: (output / name).stat().st_mtime_ns for name in result_files(output)}
    assert run(capsys, *command, "--date", "2026-11-21")[:2][0] == 0
    assert {name: (output / name).stat().st_mtime_ns for name in first} == first
    assert nightly.main([*map(str, command), "--date", "2026-11-21"]) == 0
    assert (
        "nightly 2026-11-21 (dt=2026-11-21): nothing to do, holds 12 rows"
        in capsys.readouterr().out
    )

    write(documents(3, first_id=24), source / "dt=2026-11-21" / "late.parquet")
    code, night, _ = run(capsys, *command, "--date", "2026-11-21")
    assert (code, night["state"], night["rows"], night["rows_made"]) == (0, "done", 15, 3)
    made = read_times(Folder(str(output)), ["dt=2026-11-20", "dt=2026-11-21"])
    assert sorted(made) == sorted(result_files(output))
    # and a run over everything finds nothing left to make
    assert summarize.main([str(argument) for argument in command]) == 0
    assert read_result(output)["id"].to_pylist() == list(range(27))
    assert "starting Ray" not in capsys.readouterr().out
    assert status.main([str(output)]) == 0
    assert f"{output}: complete" in capsys.readouterr().out
    write(documents(2, first_id=27), source / "dt=2026-11-21" / "later.parquet")
    assert (
        run(capsys, *command, "--date", "2026-11-21")[:2][0] == 0
    )  # takes the mark of the whole away
    assert status.main([str(output)]) == 0
    assert "2 partition(s) published, dt=2026-11-20 to dt=2026-11-21" in capsys.readouterr().out


def test_a_day_without_input_and_a_wrong_day(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (source, tmp_path / "out", "--model", checkpoint)
    code, night, said = run(capsys, *command, "--date", "2026-11-25")
    assert (code, night["state"]) == (1, "no_input")
    assert "dt=2026-11-25 holds no Parquet file yet" in said
    assert nightly.main([*map(str, command), "--date", "yesterday"]) == 2
    assert nightly.main([*map(str, command), "--time-zone", "Mars/Base"]) == 2
    assert "Mars/Base" in capsys.readouterr().err
    code, night, _ = run(
        capsys, source, tmp_path / "out", "--model", tmp_path, "--date", "2026-11-20"
    )
    assert (code, night["state"]) == (2, "wrong")
    hostile = tmp_path / "hostile.yaml"
    before = sorted(tmp_path.rglob("*"))
    for days in (
        "partition: ../../dt=%Y-%m-%d",
        "partition: /tmp/dt=%d",
        "time_zone: ../../../../../etc/passwd",
    ):
        hostile.write_text(f"days: {{{days}}}")
        assert nightly.main([*map(str, command), "--config", str(hostile)]) == 2, days
    assert sorted(tmp_path.rglob("*")) == sorted([*before, hostile])


def test_yesterday_is_that_of_the_time_zone(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between these two zones there are 25 hours, so they never have the same date."""
    days = set()
    for zone in ("Pacific/Kiritimati", "Pacific/Midway"):
        _, night, _ = run(
            capsys, tmp_path / "in", tmp_path / "out", "--model", checkpoint, "--time-zone", zone
        )
        days.add(night["day"])
    today = datetime.now(UTC).date()
    assert len(days) == 2
    assert days <= {(today - timedelta(days=back)).isoformat() for back in range(3)}


def test_it_waits_for_the_input_to_be_complete(
    source: Path,
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nightly, "_POLL_SECONDS", 0.1)
    command = (
        source,
        tmp_path / "out",
        "--model",
        checkpoint,
        "--date",
        "2026-11-20",
        "--wait-minutes",
    )
    code, night, said = run(capsys, *command, "0.005")
    assert (code, night["state"]) == (1, "failed")
    assert "dt=2026-11-20/_SUCCESS is not there after 0.005 minutes" in said
    ready = source / "dt=2026-11-20" / "_SUCCESS"
    clock = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda _: ready.touch()
    )  # it comes meanwhile
    monkeypatch.setattr(nightly, "time", clock)
    code, night, said = run(capsys, *command, "10")
    assert (code, night["state"]) == (0, "done")
    assert "waiting up to 10 minutes" in said


def test_one_bad_partition_holds_up_no_other(
    source: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    (source / "dt=2026-11-20" / "b.parquet").write_bytes(b"PAR1 no")
    command = [
        str(source),
        str(output),
        "--model",
        str(checkpoint),
        "--partitions",
        "dt=2026-11-2?",
    ]
    assert summarize.main(command) == 1
    assert "b.parquet" in capsys.readouterr().err
    assert (output / "dt=2026-11-21" / "_SUCCESS").exists()
    assert not (output / "dt=2026-11-20" / "_SUCCESS").exists()
    assert status.main([str(output / "dt=2026-11-20")]) == 1
    assert "b.parquet" in capsys.readouterr().out
    assert status.main([str(output)]) == 1
    said = capsys.readouterr().out
    assert "1 partition(s) published, dt=2026-11-21 to dt=2026-11-21" in said
    assert re.search(r"incomplete: dt=2026-11-20: \d+ of \d+ units", said)
    (source / "dt=2026-11-20" / "b.parquet").unlink()
    assert summarize.main(command) == 0
    assert (output / "dt=2026-11-20" / "_SUCCESS").exists()
    assert summarize.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert summarize.main([*command, "--limit", "1"]) == 2
