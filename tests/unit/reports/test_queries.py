"""Queries in a report and in a notebook: what was asked, what answers it, and hostile questions."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.browser import CHROMIUM, CONTRAST, Page
from helpers.report_runs import Run, predict, span

from bertsum import read_results, show
from bertsum.config import SummarizerConfig
from bertsum.reports.documents import read_documents
from bertsum.reports.result import read_result
from bertsum.runs.records import Job
from bertsum.schema import Prediction
from jobs.report import main

HOSTILE = "</script><img src=x onerror=document.title='taken'> right \u202eto left \x00"
TEXT = "\U0001f600 Alpha costs two. Beta waits. Gamma pays for Alpha."
QUESTIONS = ["Who pays for Alpha?", HOSTILE, "", "Q" * 5000]
STATUSES = ["ok", "ok", "empty", "unknown"]
CONFIG = SummarizerConfig.model_validate(
    {
        "outputs": ["summary", "sentiment", "spans", "query"],
        "query_column": "question",
        "keep_columns": ["id"],
        "selection": {"unit": "characters", "size": 160, "most_sentences": 2, "cut": "word"},
    }
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH")


def answer(text: str, number: int) -> Prediction:
    """The first and the third sentence; the word Alpha stands in both."""
    prediction = dataclasses.replace(
        predict(text, number), query_status=STATUSES[number % len(STATUSES)]
    )
    if prediction.query_status != "ok":
        return prediction
    words = [span(start, start + 5) for start in (text.index("Alpha"), text.rindex("Alpha"))]
    return dataclasses.replace(prediction, query_scores=[0.031, 0.97], query_spans=words)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in`, `out`, and `report.html` of a run with a question in each row."""
    root = tmp_path_factory.mktemp("queries")
    (root / "in").mkdir()
    table = pa.table({"id": [*"abcd"], "question": QUESTIONS, "document": [TEXT] * 4})
    pq.write_table(table, root / "in" / "a.parquet")
    Run(root / "in", root / "out", predict=answer, job=Job("m", "d", CONFIG)).run()
    assert main([str(root / "out"), "--html", str(root / "report.html")]) == 0
    return root


@pytest.fixture
def page(browser: Page, root: Path) -> Page:
    browser.resize(1280, 900)
    browser.prefer("light")
    browser.open(root / "report.html")
    return browser


def test_questions_are_read_again_also_where_results_do_not_keep_them(root: Path) -> None:
    documents = read_documents(
        read_result(read_results(root / "out").records.output), range(4), None
    )
    readings = [document.readings[0] for document in documents]
    assert all(document.text == TEXT for document in documents)
    assert [reading.query for reading in readings] == [*QUESTIONS[:3], "Q" * 1000 + "…"]
    assert [reading.query_status for reading in readings] == STATUSES
    units = TEXT.encode("utf-16-le")
    words = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in readings[0].query_spans or ()]
    assert words == ["Alpha", "Alpha"]
    assert readings[2].query_scores is None and readings[0].is_snippet


def test_one_question_for_all_stands_in_the_configuration(root: Path, tmp_path: Path) -> None:
    values = CONFIG.model_dump() | {"query_column": None, "query": "Who pays?"}
    job = Job("m", "d", SummarizerConfig.model_validate(values))
    run = Run(root / "in", tmp_path / "out", predict=answer, job=job).run()
    documents = read_documents(read_result(run.output), range(4), None)
    assert [document.readings[0].query for document in documents] == ["Who pays?"] * 4


@needs_browser
def test_the_page_shows_question_answer_and_snippet(page: Page) -> None:
    assert page.problems == [] and len(page.requests) == 1
    facts = page.text("#document .readings")
    assert "Who pays for Alpha?" in facts
    assert "by chosen sentence: 0.03, 0.97" in facts
    assert "Snippet" in facts and "\nSummary" not in facts
    assert page.run("document.getElementById('view').value") == "query"
    shares = page.run(
        "[...document.querySelectorAll('#text mark.shade')]"
        ".map((m) => [m.textContent, Number(m.style.getPropertyValue('--share'))])"
    )
    # sentences are cut at the words, which have the shade of their sentence
    assert {share for text, share in shares if "pays" in text} == {88}
    assert {share for text, share in shares if "costs" in text} == {17}
    words = page.run("[...document.querySelectorAll('#text .word')].map((w) => w.textContent)")
    assert words == ["Alpha", "Alpha"]


@needs_browser
def test_a_hostile_question_is_shown_and_does_nothing(page: Page) -> None:
    page.run("document.getElementById('list').focus()")
    page.press("j")
    assert page.run("document.querySelector('.query').textContent").startswith("</script><img")
    assert "⟨U+202E⟩" in page.text(".query") and "⟨U+0000⟩" in page.text(".query")
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.title").startswith("Report: ")
    page.press("j")
    assert "no letter or digit" in page.text("#document .readings")
    assert page.run("document.getElementById('view').value") == "summary"
    page.press("j")
    assert "does not know the words" in page.text("#document .readings")
    assert page.run("document.documentElement.scrollWidth") <= 1280  # a long question is cut
    page.resize(360, 740, is_phone=True)
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert page.problems == []


@needs_browser
def test_questions_are_searched_and_filtered(page: Page) -> None:
    page.choose("query", f"={QUESTIONS[0]}")
    assert page.text("#count").startswith("1 of 4")
    page.choose("query", "")
    page.choose("answer", "=ok")
    assert page.text("#count").startswith("2 of 4")
    page.choose("answer", "")
    page.run("(() => { const box = document.querySelector('[name=search]'); box.value = 'who pays';"
             "box.dispatchEvent(new Event('input')); })()")  # fmt: skip
    assert page.text("#count").startswith("1 of 4")
    assert page.run(
        "[...document.querySelectorAll('#rows caption')].map((c) => c.textContent).join()"
    ).count("Query")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Page, scheme: str) -> None:
    page.prefer(scheme)
    ratio, where = page.run(CONTRAST)
    assert ratio >= 4.5, where


def test_a_notebook_shows_the_same(root: Path) -> None:
    results = read_results(root / "out")
    html = results.show(0)._repr_html_()
    assert "Who pays for Alpha?" in html and "<dt>snippet</dt>" in html
    assert 'title="0.97">Gamma pays for <b>Alpha</b>.</mark>' in html
    hostile = results.show(1)._repr_html_()
    assert "&lt;/script&gt;&lt;img" in hostile and "<img" not in hostile
    assert "\u27e8U+202E\u27e9" in hostile
    assert "query was: empty" in repr(results.show(2))
    # of a row alone, whoever asked says what was asked
    view = show(answer(TEXT, 0), TEXT, HOSTILE)
    assert "<b>Alpha</b>" in view._repr_html_() and "<img" not in view._repr_html_()
    assert show({"id": 0, "status": "ok", "num_sentences": 0, "num_tokens": 0,
                 "truncated": False}).title == "0"  # fmt: skip
