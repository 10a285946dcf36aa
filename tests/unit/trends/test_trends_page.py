"""The page in a real headless Chromium: hostile names, alarms, groups, filters, a phone, the dark."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import Page

from bertsum.trends.alarms import Rules, find_alarms
from bertsum.trends.config import TrendsConfig
from bertsum.trends.counts import COUNTS
from bertsum.trends.page import render_trends
from bertsum.trends.pictures import draw_trends
from bertsum.trends.series import ALL_ROWS, Group, Series
from bertsum.trends.state import Counted
from bertsum.trends.trends import Trends, trends_values

HOSTILE = [
    "</script><img src=x onerror=document.title='taken'>",
    "<!--<script>document.title='taken'</script>",
    "line\u2028and\u2029ends \u202eto left \x00 \x1b",
    "$title ${data} {{x}} \ud83d",
    "名前 " + "x" * 300,
]
NUM_DAYS = 400


def make(num_groups: int = 80) -> Trends:
    """400 days of groups, the first of which have hostile names, and an alarm in the second."""
    random = np.random.default_rng(0)
    names = [*HOSTILE, *(f"group {index}" for index in range(num_groups - len(HOSTILE)))]
    groups = [ALL_ROWS, *(Group("topic", name) for name in names)]
    rows = random.poisson(60, (len(groups), NUM_DAYS))
    rows[:, 100:110] = 0
    rows[0] = rows[1:].sum(axis=0)
    negative = random.binomial(rows, 0.2)
    negative[2, 390:] = random.binomial(rows[2, 390:], 0.8)
    series = Series(
        groups=groups,
        days=[date(2024, 1, 1) + timedelta(days=day) for day in range(NUM_DAYS)],
        rows=rows,
        labels={"<b>other</b>": rows - negative, "negative": negative},
    )
    rules = Rules(label="negative", false_alarms=0.2, least_rows=20, window_days=91, least_days=28)
    counted = Counted(
        counts=COUNTS.empty_table(),
        num_read=0,
        num_kept=0,
        num_unpublished=2,
        without_day=3,
        problem=None,
    )
    return Trends(
        output="s3://lake/out",
        config=TrendsConfig(),
        counted=counted,
        series=series,
        detection=find_alarms(series, rules),
        since=date(2025, 1, 25),
    )


TRENDS = make()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "trends.html"
    path.write_bytes(render_trends(TRENDS, trends_values(TRENDS)).encode("utf-8"))
    return path


@pytest.fixture
def page(browser: Page, path: Path) -> Page:
    browser.resize(1280, 900)
    browser.prefer("light")
    browser.open(path)
    return browser


def test_the_page_loads_nothing_and_no_name_is_markup(page: Page, path: Path) -> None:
    assert page.requests == [path.as_uri()]
    assert page.problems == []
    assert page.run("document.title") == "Trends: s3://lake/out"
    assert page.run("document.images.length") == 0
    page.run("document.querySelectorAll('details.trend').forEach((node) => { node.open = true; })")
    page.run("new Promise((done) => setTimeout(done, 200))")
    assert page.run("document.title") == "Trends: s3://lake/out"
    assert page.run("document.querySelectorAll('b, img, script').length") == 2  # its own scripts
    assert page.problems == []


def test_alarms_lead_to_their_group(page: Page) -> None:
    assert "1 new alarm(s)" in page.text("#summary") or "2 new alarm(s)" in page.text("#summary")
    name = page.text("#alarms tbody button")
    assert name == f"topic={HOSTILE[1]}"
    page.run("document.querySelectorAll('details.trend').forEach((node) => { node.open = false; })")
    page.click("#alarms tbody button")
    opened = "[...document.querySelectorAll('details.trend[open]')].map((n) => n.querySelector('summary').innerText)"
    assert [text.split("  ")[0].startswith(name) for text in page.run(opened)] == [True]
    page.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")
    assert page.run("document.querySelectorAll('details[open] svg').length") == 2
    label = page.run("document.querySelectorAll('details[open] svg')[1].getAttribute('aria-label')")
    assert "negative share" in label and "2025-01-2" in label
    assert page.run("document.querySelectorAll('details[open] .trend-alarm').length") >= 1


def test_a_line_does_not_lead_over_days_without_rows(page: Page) -> None:
    lines = page.run(
        "document.querySelectorAll('details[open] figure:nth-of-type(2) .trend-line').length"
    )
    assert lines >= 2


def test_search_finds_groups_and_alarms(page: Page) -> None:
    page.press("/")
    page.press(*"group 7")
    names = page.run(
        "[...document.querySelectorAll('details.trend:not([hidden]) summary bdi')]"
        ".map((node) => node.innerText)"
    )
    assert names and all("group 7" in name for name in names)
    page.press(*"no such group")
    assert page.run("document.querySelectorAll('details.trend:not([hidden])').length") == 0
    assert page.text("#alarms .note") == "No alarm."


def test_fewer_days(page: Page) -> None:
    line = "document.querySelector('details[open] svg path.trend-line').getAttribute('d')"
    bands = "document.querySelectorAll('details[open] figure:first-child .trend-band').length"
    assert page.run(line).count("L") == 399
    assert page.run(bands) >= 1
    page.choose("range", "90")
    assert page.run(line).count("L") == 89


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_one_way(page: Page, path: Path, scheme: str) -> None:
    page.prefer(scheme)
    page.resize(360, 740, is_phone=True)
    page.open(path)
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert page.problems == []


def test_the_largest_groups_alone_have_their_days(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    start = text.index('id="data">') + len('id="data">')
    data = json.loads(text[start : text.index("</script>", start)])
    assert len(data["groups"]) == 81
    assert len(data["charts"]) == 60
    assert sum("index" in group for group in data["groups"]) == 60
    assert text.isascii() is False and "NaN" not in text[start:]


def test_a_picture_with_any_name() -> None:
    pytest.importorskip("matplotlib")
    assert draw_trends(TRENDS).startswith(b"\x89PNG")
