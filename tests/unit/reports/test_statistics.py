"""Counts over all rows, against values that are known from how the rows were made."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.report_runs import Run, predict, write_documents

from bertsum.reports.result import read_result
from bertsum.reports.statistics import LENGTH_EDGES, count_rows
from bertsum.reports.timeline import make_timeline
from bertsum.runs.times import TimesWriter, UnitTime
from bertsum.schema import Prediction, Status


def test_counts_of_all_rows(tmp_path: Path) -> None:
    texts = [f"Alpha {i}. Beta. Gamma." for i in range(30)]
    write_documents(tmp_path / "in", {"dt=1": texts, "dt=2": ["one two. b.", None, "  "]})
    run = Run(tmp_path / "in", tmp_path / "out", rows_per_unit=10).run()
    statistics = count_rows(read_result(run.output))
    assert statistics.statuses == {"dt=1": {"ok": 30}, "dt=2": {"ok": 1, "empty": 2}}
    assert sum(statistics.labels["sentiment"].values()) == 31
    assert statistics.labels["language"] == {"en": 31}
    tokens = statistics.lengths["num_tokens"]
    assert (tokens.rows, tokens.total) == (33, 30 * 4 + 3)
    # two empty rows are below the edge 1, and all others below 32
    assert list(tokens.counts[:2]) == [2, 31]
    summaries = statistics.lengths["summary"]
    assert summaries.rows == 31  # of the empty ones there is none
    assert len(summaries.counts) == len(LENGTH_EDGES["summary"])


def test_errors_are_counted_by_reason(tmp_path: Path) -> None:
    def failing(text: str, number: int) -> Prediction:
        if "bad" in text:
            return Prediction(Status.ERROR, error="the model failed: token=abcdef0123456789")
        return predict(text, number)

    write_documents(tmp_path / "in", {"": ["a good text."] * 7 + ["a bad text."] * 3 + ["123"]})
    run = Run(tmp_path / "in", tmp_path / "out", predict=failing, rows_per_unit=4).run()
    reasons = count_rows(read_result(run.output)).reasons
    assert [(reason.status, reason.rows) for reason in reasons] == [("error", 3), ("not_text", 1)]
    assert reasons[0].example == "documents.parquet, row 7"
    assert reasons[1].error.startswith("no letter")


def test_very_many_different_errors_are_counted_together(tmp_path: Path) -> None:
    def failing(text: str, number: int) -> Prediction:
        return Prediction(Status.ERROR, error=f"failed at {text}")

    write_documents(tmp_path / "in", {"": [f"text {i}." for i in range(300)]})
    run = Run(tmp_path / "in", tmp_path / "out", predict=failing).run()
    reasons = count_rows(read_result(run.output)).reasons
    assert sum(reason.rows for reason in reasons) == 300
    assert len(reasons) == 201
    assert reasons[0].error == "(others)"


@pytest.fixture
def timed(tmp_path: Path) -> Run:
    """Eight files: four that are written every 10 s, a pause of a day, and four every 20 s."""
    write_documents(tmp_path / "in", {"": ["Alpha. Beta."] * 80})
    run = Run(tmp_path / "in", tmp_path / "out", rows_per_unit=10).run()
    times = [1000 + 10 * i for i in range(4)] + [90_000 + 20 * i for i in range(4)]
    for path, time in zip(sorted((tmp_path / "out").glob("*.parquet")), times, strict=True):
        os.utime(path, (time, time))
    os.utime(tmp_path / "out" / "_bertsum" / "plan.json", (985, 985))
    return run


def test_throughput_is_that_of_the_time_at_work(timed: Run) -> None:
    timeline = make_timeline(read_result(timed.output))
    first, second = timeline.stretches
    # the plan was written at 985, so that the work on the first file is known, too
    assert (first.begin, first.end, first.rows) == (985, 1030, 40)
    # of a later stretch, the work on its first file began at an unknown time
    assert (second.begin, second.end, second.rows) == (90_000, 90_060, 30)
    assert sum(second.rates) / len(second.rates) == pytest.approx(30 / 60, abs=1e-3)
    assert (timeline.num_stretches, timeline.without_time) == (2, 0)


def test_slowest_units_come_longest_after_the_one_before(timed: Run) -> None:
    slowest = make_timeline(read_result(timed.output)).slowest
    assert [unit.seconds for unit in slowest] == [20, 20, 20, 15, 10, 10, 10]
    assert slowest[3].written == 1000


def test_recorded_times_count_where_replicas_work_at_once(tmp_path: Path) -> None:
    """Two replicas: 10 rows in [100, 110] and in [105, 125] each, then one in [110, 120]."""
    write_documents(tmp_path / "in", {"": ["Alpha. Beta."] * 30})
    run = Run(tmp_path / "in", tmp_path / "out", rows_per_unit=10).run()
    names = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    writer = TimesWriter(run.output)
    for name, begun, seconds in zip(names, (100, 105, 110), (10, 20, 10), strict=True):
        writer.add("", name, UnitTime(begun, seconds, f"host:{begun}"))
    writer.flush("", names)
    timeline = make_timeline(read_result(run.output))
    (stretch,) = timeline.stretches
    assert (stretch.begin, stretch.end, stretch.rows) == (100, 125, 30)
    # three parts of 25 / 3 s; rows done until second 100, 108.33, 116.67, 125
    done = [0, 25 / 3 + 10 / 6, 10 + 35 / 6 + 20 / 3, 30]
    expected = [(after - before) / (25 / 3) for before, after in pairwise(done)]
    assert stretch.rates == pytest.approx(expected, abs=1e-3)
    assert [(u.name, u.seconds, u.replica) for u in timeline.slowest] == [
        (names[1], 20, "host:105"),
        (names[0], 10, "host:100"),
        (names[2], 10, "host:110"),
    ]
    assert (timeline.recorded, timeline.without_time) == (3, 0)


def test_a_file_without_a_record_has_the_time_of_the_filesystem(timed: Run) -> None:
    names = sorted(file.name for file in read_result(timed.output).files)
    writer = TimesWriter(timed.output)
    writer.add("", names[1], UnitTime(1001, 9, "host:1"))
    writer.flush("", names)
    timeline = make_timeline(read_result(timed.output))
    assert timeline.recorded == 1
    assert timeline.stretches[0].rows == 40
    by_name = {unit.name: (unit.seconds, unit.replica) for unit in timeline.slowest}
    assert by_name[names[1]] == (9, "host:1")
    assert by_name[names[0]] == (15, None)
    assert by_name[names[2]] == (10, None)
