"""What the configuration takes, that it changes no fingerprint, and which days are a partition's history."""

import json
from datetime import date
from pathlib import Path

import pytest

from bertsum.config_base import load_config
from bertsum.errors import ConfigError
from bertsum.job_config import JobConfig
from bertsum.output_config import ChecksConfig
from bertsum.runs.history import CHECKS, read_history, series_of
from bertsum.runs.records import MANIFEST, SUCCESS
from bertsum.runs.units import job_fingerprint
from bertsum.storage.folder import Folder


def config(*settings: str) -> JobConfig:
    return load_config(JobConfig, None, settings)


def test_checks_change_no_fingerprint_and_have_a_short_form() -> None:
    short = config("output.checks=hold")
    assert short == config("output.checks.action=hold")
    assert short.output.checks.action == "hold"
    fingerprints = {
        job_fingerprint("digest", each.named_summarizer)
        for each in (config(), short, config("output.checks.limits={rows: [5, null]}"))
    }
    assert len(fingerprints) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("output.checks=maybe", "'none', 'warn' or 'hold'"),
        ("output.checks.limits={row: [1, 2]}", "there is no statistic 'row'"),
        ("output.checks.limits={sentiment.: [0, 1]}", "there is no statistic 'sentiment.'"),
        ("output.checks.limits={rows: [3, 2]}", "nothing lies in the limits of rows"),
        ("output.checks.false_holds=0", "greater than 0"),
    ],
)
def test_what_cannot_be_checked_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(setting)


@pytest.mark.parametrize(
    ("partition", "pattern", "day_before"),
    [
        ("dt=2026-03-01", "dt=%Y-%m-%d", "dt=2026-02-28"),
        ("region=eu/dt=2026-03-01", "dt=%Y-%m-%d", "region=eu/dt=2026-02-28"),
        ("dt=2026-03-01/hour=03", "dt=%Y-%m-%d", "dt=2026-02-28/hour=03"),
        ("year=2026/month=3/day=1", "year=%Y/month=%-m/day=%-d", "year=2026/month=2/day=28"),
        ("a/year=2026/month=03/day=01", "year=%Y/month=%m/day=%d", "a/year=2026/month=02/day=28"),
    ],
)
def test_the_day_before(partition: str, pattern: str, day_before: str) -> None:
    series = series_of(partition, pattern)
    assert series is not None
    assert series.day == date(2026, 3, 1)
    assert series.earlier(3)[date(2026, 2, 28)] == day_before
    assert list(series.earlier(3)) == [date(2026, 2, 26), date(2026, 2, 27), date(2026, 2, 28)]


@pytest.mark.parametrize(
    "partition", ["", "region=eu", "dt=2026-3-1", "dt=yesterday", "dt=20260301"]
)
def test_a_partition_without_a_day(partition: str) -> None:
    assert series_of(partition, "dt=%Y-%m-%d") is None


def test_a_month_has_no_day_before() -> None:
    """Else each month would be a month of equal nights."""
    assert series_of("month=2026-03", "month=%Y-%m") is None
    assert series_of("", "") is None


def test_history_is_what_is_published(tmp_path: Path) -> None:
    """A day that was only begun is none, and neither is a day after."""
    profile = {"rows": 3, "labels": {}, "numbers": {}}
    record = {"job": {"model": {"id": "m", "digest": "d"}}, CHECKS: {"profile": profile}}
    for day, is_published in (("2026-03-01", True), ("2026-03-02", False), ("2026-03-05", True)):
        directory = tmp_path / f"dt={day}"
        (directory / "_bertsum").mkdir(parents=True)
        (directory / MANIFEST).write_text(json.dumps(record))
        if is_published:
            (directory / SUCCESS).touch()
    series = series_of("dt=2026-03-04", "dt=%Y-%m-%d")
    assert series is not None
    days = ChecksConfig().history_days
    nights = read_history(Folder(str(tmp_path)), series, days, {})
    assert [(night.day, night.profile.rows) for night in nights] == [(date(2026, 3, 1), 3)]
    known = {"dt=2026-03-03": nights[0]}
    assert len(read_history(Folder(str(tmp_path)), series, days, known)) == 2
