"""The page in a real headless Chromium: clicks, keys, filters, hostile rows, contrast, sizes."""

from pathlib import Path

import pytest
from helpers.browser import CHROMIUM, CONTRAST, Page
from helpers.report_runs import CONFIG, Run, predict, write_documents

from bertsum.runs.records import Job
from bertsum.schema import Prediction
from jobs.report import main

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH")

HOSTILE = [
    "</script><img src=x onerror=document.title='taken'>. Second. Third.",
    "<!--<script>document.title='taken'</script>. Second. Third.",
    "<svg onload=document.title='taken'>. Second. Third.",
    "javascript:document.title='taken'. Second. Third.",
    "line\u2028and paragraph\u2029ends. Second. Third.",
    "right \u202eto left. Second. Third.",
    "a null \x00 byte and \x1b escape. Second. Third.",
    "\u05d0\u05d1\u05d2 \u05d3\u05d4. Second. Third.",
]
NUMBER = 2000


def second_model(text: str, number: int) -> Prediction:
    return predict(text, number + (number % 4 == 0))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`report.html` of 2,000 documents, and `compared.html` of two runs."""
    root = tmp_path_factory.mktemp("pages")
    texts = [f"Alpha {i} \U0001f600 works. Beta {i} fails. Gamma stays." for i in range(NUMBER)]
    long = "A sentence of a long text is here. " * 60
    first = [*HOSTILE, long, None, "12345", *texts]
    write_documents(root / "in", {"dt=1": first[:NUMBER], "dt=2": first[NUMBER:]})
    Run(root / "in", root / "a").run()
    Run(root / "in", root / "b", predict=second_model, job=Job("model-b", "d", CONFIG)).run()
    assert main([str(root / "a"), "--html", str(root / "report.html"), "--documents", "5000"]) == 0
    command = [str(root / "a"), "--compare", str(root / "b")]
    assert main([*command, "--html", str(root / "compared.html"), "--documents", "600"]) == 0
    return root


@pytest.fixture
def page(browser: Page, pages: Path) -> Page:
    browser.resize(1280, 900)
    browser.prefer("light")
    browser.open(pages / "report.html")
    return browser


def chosen(page: Page) -> str:
    return page.text("#document h3")


def test_the_page_loads_nothing_and_has_no_error(page: Page, pages: Path) -> None:
    assert page.requests == [(pages / "report.html").as_uri()]
    assert page.problems == []
    assert page.text("#count") == "2,011 of 2,011 documents"
    assert "2,011 rows by model model-a" in page.text("#summary")


def test_a_list_of_any_length_has_few_elements(page: Page) -> None:
    """So that the page opens as fast for 2,000 documents as for 20."""
    assert page.run("document.querySelectorAll('.option').length") < 40
    assert page.run("document.querySelectorAll('*').length") < 1500
    page.run("document.getElementById('list').scrollTop = 1e9")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.run("document.querySelectorAll('.option').length") < 40
    last = page.run(
        "[...document.querySelectorAll('.option')].at(-1).getAttribute('aria-posinset')"
    )
    assert last == "2011"


def test_hostile_texts_are_shown_and_do_nothing(page: Page) -> None:
    page.run("document.getElementById('list').focus()")
    for text in HOSTILE:
        shown = page.run("document.getElementById('text').textContent")
        assert shown.startswith(text[:5].replace("\0", ""))
        assert page.run("document.querySelectorAll('img, svg[onload], main script').length") == 0
        page.press("j")
    assert page.run("document.title").startswith("Report: ")
    assert page.problems == []
    page.press("k", "k")
    # what cannot be seen is named
    assert "⟨U+0000⟩" in page.run("document.getElementById('text').textContent")
    page.press("k")
    assert "⟨U+202E⟩" in page.run("document.getElementById('text').textContent")
    # a text from right to left ends with its element
    assert page.run("getComputedStyle(document.getElementById('text')).unicodeBidi") == "isolate"


def test_a_script_that_is_put_in_does_not_run(page: Page) -> None:
    page.run(
        "(() => { const s = document.createElement('script'); s.textContent = "
        "'document.title = \"taken\"'; document.body.append(s); })()"
    )
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=1>')")
    assert page.run("document.title").startswith("Report: ")
    assert any("Content Security Policy" in str(problem) for problem in page.problems)


def test_chosen_sentences_are_highlighted_where_they_stand(page: Page) -> None:
    page.run("document.querySelector('input[name=search]').value = 'alpha 1777'")
    page.run("document.querySelector('input[name=search]').dispatchEvent(new Event('input'))")
    assert page.text("#count") == "1 of 2,011 documents"
    marks = page.run("[...document.querySelectorAll('#text mark')].map((m) => m.textContent)")
    assert marks == ["Alpha 1777 😀 works", "Gamma stays."]
    # the probabilities 0.9 and 0.4 are shades of 83 (82.5) and 45 %
    shades = page.run(
        "[...document.querySelectorAll('#text mark')].map((m) => m.style.getPropertyValue('--share'))"
    )
    assert shades == ["83", "45"]


def test_views_of_the_text(page: Page) -> None:
    page.run("document.getElementById('document-title').scrollIntoView()")
    for view, css, least in (
        ("probability", ".shade", 3),
        ("sentiment", ".tint", 3),
        ("aspects", ".aspect", 1),
    ):
        page.run(
            f"(() => {{ const v = document.getElementById('view'); v.value = '{view}';"
            "v.dispatchEvent(new Event('change')); })()"
        )
        assert page.run(f"document.querySelectorAll('#text {css}').length") >= least
        assert page.run("document.getElementById('view').value") == view
    assert "Second" in page.run("document.querySelector('#document details table').textContent")


def test_keys(page: Page) -> None:
    first = chosen(page)
    page.press("j", "j")
    assert page.text("#announced").startswith("Document 3 of 2011")
    assert chosen(page) != first
    page.press("k", "k", "k")
    assert chosen(page) == first
    page.press("/", *"gamma")
    assert page.run("document.activeElement.name") == "search"
    assert page.text("#count") == "2,000 of 2,011 documents"
    page.press("Escape")
    assert page.text("#count") == "2,011 of 2,011 documents"
    assert page.run("document.activeElement.id") == "list"
    page.press("End")
    assert page.text("#announced").startswith("Document 2011 of 2011")
    assert page.run("document.getElementById('list').getAttribute('aria-activedescendant')") == (
        "option-2010"
    )
    page.press("?")
    assert page.run("document.getElementById('help').open") is True
    page.press("Escape")
    assert page.run("document.getElementById('help').open") is False
    page.press("r")
    assert page.problems == []


def test_a_click_chooses_a_document(page: Page) -> None:
    page.click("#option-2 .data")
    assert page.run("document.querySelector('[aria-selected=true]').id") == "option-2"
    assert page.text("#announced").startswith("Document 3 of 2011")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("status", "=empty", "1"),
        ("status", "=not_text", "1"),
        ("partition", "=dt=2", "11"),
        ("length", "2", "1"),
    ],
)
def test_filters(page: Page, name: str, value: str, expected: str) -> None:
    page.choose(name, value)
    assert page.text("#count") == f"{expected} of 2,011 documents"


def test_filters_go_together_and_are_cleared(page: Page) -> None:
    page.choose("sentiment", "=negative")
    by_sentiment = int(page.text("#count").split()[0].replace(",", ""))
    assert 600 < by_sentiment < 700
    page.choose("partition", "=dt=2")
    assert int(page.text("#count").split()[0]) < 11
    page.click("#filters button:last-of-type")
    assert page.text("#count") == "2,011 of 2,011 documents"
    page.choose("order", "long")
    assert "A sentence of a long text" in page.text("#option-0")


def test_a_random_order_is_always_the_same(page: Page, pages: Path) -> None:
    page.choose("order", "random")
    first = page.text("#list")
    page.open(pages / "report.html")
    assert page.text("#list") != first
    page.choose("order", "random")
    assert page.text("#list") == first


@pytest.mark.parametrize("name", ["report.html", "compared.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Page, pages: Path, name: str, scheme: str) -> None:
    page.prefer(scheme)
    page.open(pages / name)
    for view in ("summary", "probability", "sentiment", "aspects"):
        page.run(
            f"(() => {{ const v = document.getElementById('view'); v.value = '{view}';"
            "v.dispatchEvent(new Event('change')); })()"
        )
        ratio, where = page.run(CONTRAST)
        assert ratio >= 4.5, (view, where)


def test_light_and_dark_by_system_and_by_switch(page: Page) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.run(colour) == "rgb(255, 255, 255)"
    page.prefer("dark")
    dark = page.run(colour)
    assert dark != "rgb(255, 255, 255)"
    page.click("#theme")
    assert (page.text("#theme"), page.run(colour)) == ("Theme: light", "rgb(255, 255, 255)")
    page.press("t")
    page.prefer("light")
    assert (page.text("#theme"), page.run(colour)) == ("Theme: dark", dark)
    page.press("t")
    assert page.run(colour) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("name", ["report.html", "compared.html"])
def test_a_phone_scrolls_one_way_and_shows_one_pane(page: Page, pages: Path, name: str) -> None:
    page.resize(360, 740, is_phone=True)
    page.open(pages / name)
    assert page.run("document.documentElement.scrollWidth") <= 360
    shown = "getComputedStyle(document.getElementById('{}')).display"
    assert (page.run(shown.format("list")), page.run(shown.format("document"))) == ("block", "none")
    page.click("#option-1")
    assert (page.run(shown.format("list")), page.run(shown.format("document"))) == ("none", "block")
    assert page.run("document.documentElement.scrollWidth") <= 360
    page.click("#document .back")
    assert page.run(shown.format("document")) == "none"
    page.press("Enter", "Escape")
    assert page.run(shown.format("list")) == "block"


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    """By the browser's own accessibility tree."""
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            name = node.get("name", {}).get("value", "")
            roles.setdefault(node["role"]["value"], []).append(name)
    for landmark in ("banner", "main", "navigation", "search", "article"):
        assert landmark in roles, landmark
    assert {"Documents", "Errors", "Rows", "What ran"} <= set(roles["region"])
    assert "Documents" in roles["listbox"]
    for control in ("button", "combobox", "searchbox", "option", "link"):
        assert all(roles[control]), control
    assert page.run("document.getElementById('count').getAttribute('aria-live')") == "polite"
    assert page.run("document.querySelectorAll('html[lang]').length") == 1


@pytest.mark.parametrize("name", ["report.html", "compared.html"])
@pytest.mark.parametrize("width", [360, 1280])
def test_labels_of_bars_take_two_lines_at_most(
    page: Page, pages: Path, name: str, width: int
) -> None:
    page.resize(width, 900)
    page.open(pages / name)
    heights = "[...document.querySelectorAll('.bars th[scope=row]')].map((th) => th.offsetHeight)"
    measured = page.run(heights)
    assert len(measured) > 20
    assert max(measured) < 60


def test_two_runs_side_by_side(page: Page, pages: Path) -> None:
    page.open(pages / "compared.html")
    assert page.problems == []
    assert "2,011 rows are in both runs" in page.text("#comparison")
    # each fourth row of a unit of 100 rows, and of the last ones
    assert page.run("document.querySelectorAll('#comparison button.cell').length") >= 4
    page.choose("difference", "label")
    differing = page.text("#count").split()[0]
    assert int(differing) >= 250
    assert "B: the other run" in page.text("#document")
    assert "AB" in page.run("document.getElementById('text').textContent")
    page.click("#comparison button.cell[aria-label*='other run negative']")
    assert page.run("document.querySelector('select[name=other]').value") == "=negative"
    shown = int(page.text("#count").split()[0])
    assert 0 < shown < 600
