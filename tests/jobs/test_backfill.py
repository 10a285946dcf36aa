"""`backfill`: its calendar, its budgets and its waves; then the whole command on a real Ray."""

from datetime import date
from pathlib import Path

import pytest
from helpers.job_helpers import documents, make_checkpoint, result_files, write

from bertsum.errors import ConfigError
from jobs import backfill
from jobs.backfill import Day
from jobs.terminal.days import calendar, days_between

MARKS = {"done": "#", "to do": "."}


def test_the_calendar_has_a_line_a_week_and_a_block_a_month() -> None:
    days = days_between(date(2026, 11, 25), date(2026, 12, 8))
    states = {day: "done" if day.day != 1 else "to do" for day in days}
    assert calendar(states, MARKS) == [
        "2026-11    Mo Tu We Th Fr Sa Su",
        "  25-29          #  #  #  #  #",
        "  30-30    #",
        "2026-12    Mo Tu We Th Fr Sa Su",
        "   1-6        .  #  #  #  #  #",
        "   7-8     #  #",
    ]


def test_days_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="--from 2026-11-02 lies after --to 2026-11-01"):
        days_between(date(2026, 11, 2), date(2026, 11, 1))


def some_days(*rows: int) -> list[Day]:
    days = []
    for i, count in enumerate(rows):
        day = date(2026, 11, 1 + i)
        days.append(
            Day(
                day=day,
                partitions=[f"dt={i}"],
                units_left=10,
                rows=count,
                rows_left=count,
                state="to do",
            )
        )
    return days


def test_a_budget_of_documents_takes_whole_days() -> None:
    days = some_days(10, 20, 30)
    assert backfill._within(days, None) == days
    assert backfill._within(days, 59) == days[:2]
    assert backfill._within(days, 30) == days[:2]
    with pytest.raises(ConfigError, match="less than the 10 documents of the next day"):
        backfill._within(days, 9)


def test_waves_are_short_first_and_then_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill.time, "monotonic", lambda: 0.0)
    days = some_days(*[1000] * 10)
    assert len(backfill._next_wave(days, None, 1, None)) == 1
    assert len(backfill._next_wave(days, None, 4, None)) == 3
    assert len(backfill._next_wave(days, 1.0, 1, None)) == 3  # 1,000 s each
    assert (
        len(backfill._next_wave(days, 0.1, 1, None)) == 1
    )  # longer than an hour, and done all the same
    assert len(backfill._next_wave(days, 1.0, 1, 2500.0)) == 2
    assert backfill._next_wave(days, 0.1, 1, 2500.0) == []
    assert backfill._next_wave(days, None, 1, 0.0) == []


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_week_within_budgets_and_then_another_model(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for day in (20, 21, 23, 24):
        write(documents(6, first_id=day), source / f"dt=2026-11-{day}" / "a.parquet")

    def run(*more: object) -> tuple[int, str]:
        days = ("--from", "2026-11-19", "--to", "2026-11-24")
        code = backfill.main(
            [str(part) for part in (source, output, "--set", "rows_per_unit=4", *days, *more)]
        )
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    assert run("--model", checkpoint, "--dry-run", "--price-per-hour", 2)[0] == 0
    assert not output.exists()
    code, said = run("--model", checkpoint, "--newest-first", "--max-documents", 13)
    assert code == 1
    assert "2 days done, 2 to go" in said
    assert "stopped at the budget (--max-documents 13)" in said
    assert [path.name for path in sorted(output.glob("dt=*"))] == ["dt=2026-11-23", "dt=2026-11-24"]
    assert not (output / "_bertsum" / "plan.json").exists()  # that of a run over everything
    first = {name: (output / name).stat().st_mtime_ns for name in result_files(output)}
    code, said = run("--model", checkpoint)
    assert code == 0
    assert "2 partition(s) published now with 12 rows, 12 of them made now; 4 days done" in said
    assert {name: (output / name).stat().st_mtime_ns for name in first} == first
    assert "nothing to do: 4 days are done" in run("--model", checkpoint)[1]

    other = make_checkpoint(tmp_path / "other", sentiment_labels=("bad", "good"))
    assert run("--model", other)[0] == 1
    assert run("--model", other, "--on-existing", "replace", "--max-documents", 6)[0] == 1
    assert not first.keys() & set(result_files(output / "dt=2026-11-20"))
    assert first.keys() <= set(result_files(output))
    assert run("--model", other, "--on-existing", "replace")[0] == 0
    assert not first.keys() & set(result_files(output))
