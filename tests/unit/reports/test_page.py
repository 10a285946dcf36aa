"""The page as a file: it holds any text, nothing of it is markup, and no secret."""

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.report_runs import Run, write_documents

from bertsum.reports.page import as_script_data, render
from bertsum.reports.report import Report, make_report
from bertsum.reports.result import read_result
from jobs.report import main

HOSTILE = [
    "</script><img src=x onerror=alert(1)>. Second. Third.",
    "<!-- <script>alert(2)</script>. Second. Third.",
    "line\u2028and paragraph\u2029separators. Second. Third.",
    "right \u202eto left. Second. Third.",
    "a null \x00 byte. Second. Third.",
    "${title} $data %s {{x}} ]]>. Second. Third.",
]


class Elements(HTMLParser):
    """The elements of a page, and the text of each script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.content: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("type")
        self.names.append("data" if kind == "application/json" else tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        self.names.append(f"/{tag}")  # what follows is not in the element

    def handle_data(self, data: str) -> None:
        if not self.names:
            return
        self.content[self.names[-1]] = self.content.get(self.names[-1], "") + data


@pytest.fixture
def report(tmp_path: Path) -> Report:
    write_documents(tmp_path / "in", {"": HOSTILE}, ids=HOSTILE)
    run = Run(tmp_path / "in", tmp_path / "out").run()
    return make_report(read_result(run.output), most_documents=100)


def test_texts_are_data_and_no_markup(report: Report) -> None:
    elements = Elements(render(report))
    assert elements.names.count("script") == 1
    assert elements.names.count("img") == 0
    documents = json.loads(elements.content["data"])["documents"]
    assert [document["text"] for document in documents] == HOSTILE


def test_nothing_is_loaded_from_elsewhere(report: Report) -> None:
    elements = Elements(render(report))
    links = [value for name, value in elements.attributes if name in ("src", "href", "action")]
    assert links == ["#documents"]
    assert not re.search(r"url\(|@import|https?://", elements.content["style"])


def test_the_policy_allows_the_script_and_the_style_of_the_page_alone(report: Report) -> None:
    elements = Elements(render(report))
    (policy,) = [value for name, value in elements.attributes if value and "default-src" in value]
    for kind in ("script", "style"):
        digest = b64encode(sha256(elements.content[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    # an attribute of style or an event would be refused
    assert not {name for name, _ in elements.attributes if name.startswith(("on", "style"))}


def test_half_a_surrogate_pair_can_be_written(report: Report) -> None:
    document = replace(report.documents[0], text="half \ud83d pair", columns=[("a\udfff", "b")])
    page = render(replace(report, documents=[document]))
    (written,) = json.loads(Elements(page.encode().decode()).content["data"])["documents"]
    assert written["text"] == "half \ud83d pair"


@pytest.mark.parametrize("text", ["</script>", "<!--", "\u2028", "\ud800", "\0", "\\u003c", '"'])
def test_data_of_a_script_cannot_end_it(text: str) -> None:
    written = as_script_data({text: [text]})
    assert not re.search("[<>\u2028\u2029\ud800-\udfff\0]", written)
    assert json.loads(written) == {text: [text]}


def test_equal_results_give_equal_bytes(report: Report, tmp_path: Path) -> None:
    again = make_report(read_result(report.run.result.output), most_documents=100)
    assert render(again) == render(report)


def test_no_secret_is_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "word-of-the-environment")
    write_documents(tmp_path / "in", {"": HOSTILE})
    run = Run(tmp_path / "in", tmp_path / "out").run()
    manifest = tmp_path / "out" / "_bertsum" / "manifest.json"
    record = json.loads(manifest.read_text())
    record["input"] = "s3://key:word-of-the-uri@bucket/in?token=word-of-the-query"
    record["job"]["model"]["id"] = "https://name:word-of-the-uri@host/m"
    record["job"]["config"]["text_column"] = "word-of-the-environment"
    manifest.write_text(json.dumps(record))
    page = render(make_report(read_result(run.output), most_documents=10))
    assert "s3://***@bucket/in" in page
    assert "word-of-the" not in page


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_documents(tmp_path / "in", {"": HOSTILE})
    run = Run(tmp_path / "in", tmp_path / "out", rows_per_unit=3)
    plan = run.plan()
    run.begin(plan)
    run.make(plan, most_units=1)
    page = tmp_path / "pages.html"
    assert main([str(tmp_path / "out"), "--html", str(page), "--documents", "2"]) == 0
    said = capsys.readouterr()
    assert "3 rows, 2 documents" in said.out
    assert "incomplete" in said.err
    text = page.read_text(encoding="utf-8")
    assert "Incomplete: 1 units of 3 rows are missing" in text


def test_the_command_refuses_what_would_spoil_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_documents(tmp_path / "in", {"": HOSTILE})
    Run(tmp_path / "in", tmp_path / "out").run()
    assert main([str(tmp_path / "out"), "--html", str(tmp_path / "out" / "report.html")]) == 2
    assert "takes no other files" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing"), "--html", str(tmp_path / "a.html")]) == 2
    assert "there is no run" in capsys.readouterr().err
    # a hidden directory of OUTPUT is no part of its results
    hidden = tmp_path / "out" / "_pages"
    hidden.mkdir()
    assert main([str(tmp_path / "out"), "--html", str(hidden / "report.html")]) == 0
