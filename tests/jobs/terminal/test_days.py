"""Which layouts of days tell each day from all others."""

import re
from datetime import date

import pytest

from bertsum.errors import ConfigError
from bertsum.job_config import DaysConfig
from jobs.terminal.days import directory


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        ("dt=%Y-%m-%d", "dt=2026-11-22"),
        ("year=%Y/month=%m/day=%d", "year=2026/month=11/day=22"),
        ("%y%m%d", "261122"),
        ("%Y/%j", "2026/326"),
        ("%G-W%V-%u", "2026-W47-7"),
        ("%Y/%U/%w", "2026/47/0"),
    ],
)
def test_layouts_that_are_unique(partition: str, expected: str) -> None:
    assert directory(date(2026, 11, 22), DaysConfig(partition=partition)) == expected


# %Y-W%V-%u: 31 December may lie in week 1 of the ISO year, like 1 January of the same calendar
# year. %Y%-m%-d: 11 January and 1 November are both 2026111.
@pytest.mark.parametrize(
    "partition",
    [
        "month=%m/day=%d",
        "%d",
        "%j",
        "%Y-%d",
        "%a",
        "%Y-W%V",
        "%V-%u",
        "%Y-W%V-%u",
        "%Y%-m%-d",
        "all",
    ],
)
def test_layouts_that_repeat(partition: str) -> None:
    with pytest.raises(ConfigError, match="the same directory") as caught:
        directory(date(2026, 11, 22), DaysConfig(partition=partition))
    first, second = (
        date.fromisoformat(text) for text in re.findall(r"\d{4}-\d\d-\d\d", str(caught.value))[:2]
    )
    assert first < second
    assert first.strftime(partition) == second.strftime(partition)
    assert repr(partition) in str(caught.value)
