"""A document in a notebook: its sentences are marked, and its text cannot do anything."""

from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.browser import CHROMIUM, chromium

from bertsum import Prediction, show
from bertsum.schema import OutputGroup, Status, predictions_to_table

HOSTILE = "</mark></div><script>document.title='taken'</script><img src=x onerror=alert(1)>"
TEXT = f"First \U0001f600 one. {HOSTILE} second.\nThird \u202e\x00 & last."
SPANS = [(0, 12), (TEXT.index("Third"), len(TEXT))]


def prediction() -> Prediction:
    return Prediction(
        Status.OK,
        summary="First.",
        summary_sentences=[0, 2],
        summary_scores=[0.9, 0.25],
        summary_spans=[{"start": a, "length": b - a} for a, b in SPANS],
        sentiment=HOSTILE,
        sentiment_scores={HOSTILE: 0.75, "neutral": 0.25},
        num_sentences=3,
        num_tokens=1200,
        language="en",
        keywords=[{"text": HOSTILE, "score": 0.5}],
        topic="sport",
        topic_scores={"sport": 1.0},
    )


class Marks(HTMLParser):
    """Elements, and the text of each `mark`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.marks: list[str] = []
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        if tag == "mark":
            self.marks.append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "mark"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.marks[-1] += data


def test_chosen_sentences_are_marked_and_all_is_escaped() -> None:
    page = Marks(show(prediction(), TEXT)._repr_html_())
    assert page.marks == [TEXT[0:12], "Third \u27e8U+202E\u27e9\u27e8U+0000\u27e9 & last."]
    assert set(page.elements) == {"div", "style", "strong", "dl", "dt", "dd", "mark"}


def test_the_text_form_names_what_is_invisible() -> None:
    text = repr(show(prediction(), TEXT))
    assert "length: 3 sentences, 1,200 tokens" in text
    assert "neutral 0.25" in text
    assert "\u202e" not in text and "\0" not in text


@pytest.mark.parametrize("package", ["arrow", "arrow_dicts", "pandas", "polars"])
def test_rows_of_every_kind_of_table_show_the_same(package: str) -> None:
    groups = list(OutputGroup)
    table = predictions_to_table([prediction()], groups).append_column("document", pa.array([TEXT]))
    if package == "arrow":
        (row,) = table.to_pylist()
    elif package == "arrow_dicts":
        (row,) = table.to_pylist(maps_as_pydicts="strict")
    elif package == "pandas":
        row = table.to_pandas(maps_as_pydicts="strict").iloc[0]
    else:
        row = pytest.importorskip("polars").from_arrow(table).row(0, named=True)
    assert show(row)._repr_html_() == show(prediction(), TEXT)._repr_html_()


def test_a_row_without_its_text_says_what_it_needs() -> None:
    html = show(Prediction(Status.EMPTY, error=None))._repr_html_()
    assert "show(row, text)" in html and "<mark" not in html
    # a null of pandas is no text
    assert "show(row, text)" in show({"status": "empty", "document": float("nan"),
        "num_sentences": 0, "num_tokens": 0, "truncated": False})._repr_html_()  # fmt: skip


def test_half_a_surrogate_pair_can_be_shown() -> None:
    html = show(Prediction(Status.OK, num_sentences=1), "a \ud800 b")._repr_html_()
    assert html.encode() and "a \u27e8U+D800\u27e9 b" in html


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH")
@pytest.mark.parametrize("colours", ["#fff;color:#111", "#111;color:#eee"])
def test_in_a_browser_no_text_is_run(tmp_path: Path, colours: str) -> None:
    body = show(prediction(), TEXT)._repr_html_()
    path = tmp_path / "view.html"
    path.write_text(
        f"<title>view</title><meta charset=utf-8><body style='background:{colours}'>{body}"
    )
    with chromium() as page:
        page.open(path)
        assert (page.run("document.title"), page.problems, len(page.requests)) == ("view", [], 1)
        assert page.run("document.querySelectorAll('mark').length") == 2
        page.screenshot(tmp_path / "view.png")
