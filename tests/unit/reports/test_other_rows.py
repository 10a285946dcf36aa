"""Reports of `generate` and `match`: what was written beside its source, and nearest candidates."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.browser import CHROMIUM, CONTRAST, Page
from helpers.report_runs import Run

from bertsum import read_results
from bertsum.errors import ConfigError
from bertsum.generation.columns import Written, check_texts, name_of, rows_to_table
from bertsum.generation.config import GenerateConfig, GenerateRows
from bertsum.generation.faithfulness import compare, find_facts
from bertsum.matching.columns import check_queries, row_schema
from bertsum.matching.config import MatchConfig, MatchRows
from bertsum.reports.documents import read_documents
from bertsum.reports.result import read_result
from bertsum.reports.statistics import count_rows
from bertsum.runs.input import read_schema, stream_rows
from bertsum.runs.plan import Plan, Terms, make_plan
from bertsum.runs.records import CountedColumns, Job, encode
from bertsum.runs.units import Limits
from bertsum.schema import Status
from jobs.report import main

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH")

HOSTILE = "</script><img src=x onerror=document.title='taken'>"
SOURCES = [
    "\U0001f600 The works in Berlin paid 1,200 workers. Erika Muster left.",
    f"Nothing happened. {HOSTILE} said it.",
    "A dog runs.",
    None,
]
WRITTEN = [
    "\U0001f600 Berlin paid 1200 workers and Paris 75 more in 2019. Paris is far.",
    f"It was {HOSTILE} by NATO.",
    "A dog runs.",
    None,
]
GENERATE = GenerateConfig(keep_columns=("id",))
MATCH = MatchConfig(candidate_columns=("title",))
CANDIDATES = pa.schema([("id", pa.int64()), ("title", pa.string()), ("document", pa.string())])


def write_source(root: Path) -> None:
    root.mkdir()
    pq.write_table(pa.table({"id": [*"abcd"], "document": SOURCES}), root / "a.parquet")


class OtherRun(Run):
    """A run whose rows are made by `make_rows`, with the checks and columns of its command."""

    def __init__(
        self,
        source: Path,
        root: Path,
        job: Job,
        check: Callable[..., str | None],
        make_rows: Callable[[pa.Table], pa.Table],
        counted: CountedColumns,
    ) -> None:
        super().__init__(source, root, job=job)
        self.check, self.make_rows, self.counted = check, make_rows, counted

    def plan(self, limit: int | None = None) -> Plan:
        terms = Terms(limits=Limits(100, 2**28), check=self.check, limit=limit)
        return make_plan(self.input, self.output, self.job, terms)

    def make(self, plan: Plan, most_units: int = 1_000_000) -> None:
        for name, unit in plan.missing.items():
            (part,) = unit.slices
            names = read_schema(self.input.root, part.path).names
            tables = stream_rows(self.input.root, part.file, part.start, part.stop, names)
            made = list(map(self.make_rows, tables))
            data, _ = encode(made, made[0].schema, unit, self.job, counted=self.counted)
            assert self.output.create_exclusive(name, data)


def written(table: pa.Table) -> pa.Table:
    """What a model wrote, with its real faithfulness; the third text has no end."""
    rows = []
    for text, source in zip(WRITTEN, table["document"].to_pylist(), strict=True):
        if text is None:
            rows.append(Written(status=Status.EMPTY))
            continue
        rows.append(
            Written(
                status=Status.OK,
                text=text,
                source="best_sentences",
                ending="open" if text == WRITTEN[2] else "complete",
                faithfulness=compare(text, source, language="en"),
                num_tokens=9,
                document_tokens=1300,
                new_tokens=7,
            )
        )
    return rows_to_table(table, rows, GENERATE)


def matched(table: pa.Table) -> pa.Table:
    """Two candidates of each text that there is."""
    matches = []
    for text in table["document"].to_pylist():
        found = [
            {"id": 7, "score": 0.91, "rank": 1, "title": HOSTILE},
            {"id": 4, "score": -0.2, "rank": 2, "title": None},
        ]
        matches.append(None if text is None else found)
    statuses = [Status.EMPTY if entry is None else Status.OK for entry in matches]
    schema = row_schema(table.schema, CANDIDATES, MATCH)
    columns = [table["id"].to_pylist(), matches, statuses, [None] * 4, [3] * 4]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in`, `written` and `matched` with `NAME.html` of each."""
    root = tmp_path_factory.mktemp("others")
    write_source(root / "in")
    job = Job("bart", "d", GenerateRows(generate=GENERATE, sentences_model="s"))
    counted = CountedColumns(
        status=name_of("status", GENERATE), tokens=name_of("num_tokens", GENERATE)
    )
    OtherRun(
        root / "in", root / "written", job, lambda s: check_texts(s, GENERATE), written, counted
    ).run()
    job = Job("m", "d", MatchRows(match=MATCH, candidates="c"))
    OtherRun(
        root / "in",
        root / "matched",
        job,
        lambda shard: check_queries(shard, CANDIDATES, MATCH),
        matched,
        CountedColumns(),
    ).run()
    for name in ("written", "matched"):
        assert main([str(root / name), "--html", str(root / f"{name}.html")]) == 0
    return root


@pytest.fixture
def open_page(browser: Page, root: Path) -> Callable[[str], Page]:
    def open_page(name: str) -> Page:
        browser.resize(1280, 900)
        browser.prefer("light")
        browser.open(root / f"{name}.html")
        assert browser.problems == [] and len(browser.requests) == 1
        assert browser.run("document.querySelectorAll('img').length") == 0
        return browser

    return open_page


def test_facts_are_found_where_they_stand() -> None:
    text = WRITTEN[0] or ""
    facts = compare(text, SOURCES[0] or "", language="en").new_facts
    assert set(facts) == {"75", "2019", "Paris"}
    found = [text[start:stop] for start, stop in find_facts(text, facts)]
    assert found == ["Paris", "75", "2019", "Paris"]
    # a number is the same with other separators, and the page marks it as it is written
    assert [
        *map("1,234.5".__getitem__, [slice(*s) for s in find_facts("1,234.5", ["1234.5"])])
    ] == ["1,234.5"]


def test_statistics_of_written_texts_are_means_of_rows_that_have_a_share(root: Path) -> None:
    statistics = count_rows(read_result(read_results(root / "written").records.output))
    shares = [
        compare(text, source, language="en")
        for text, source in zip(WRITTEN, SOURCES, strict=True)
        if text is not None and source is not None
    ]
    for kind in ("word", "number", "name"):
        found = [getattr(share, f"{kind}_share") for share in shares]
        known = [share for share in found if share is not None]
        mean, rows = statistics.shares[f"{kind}_share"]
        assert (mean, rows) == (pytest.approx(sum(known) / len(known)), len(known))
    assert statistics.labels["ending"] == {"complete": 2, "open": 1}
    assert statistics.statuses == {"": {"ok": 3, "empty": 1}}


def test_what_is_written_is_read_with_its_source(root: Path) -> None:
    documents = read_documents(read_result(read_results(root / "written").records.output), range(4), None)  # fmt: skip
    assert [document.text for document in documents] == SOURCES
    assert documents[0].columns == [("id", "a")]
    reading = documents[0].readings[0]
    assert reading.written is not None and reading.summary is not None
    units = reading.summary.encode("utf-16-le")
    marked = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in reading.written.fact_spans]
    assert marked == ["Paris", "75", "2019", "Paris"]
    assert documents[3].readings[0].status == "empty"


def test_a_notebook_says_what_is_not_in_the_document(root: Path) -> None:
    view = read_results(root / "written").show(0)
    assert "not in the document: 75, 2019, Paris" in repr(view)
    assert view.text == SOURCES[0]
    assert "not in the document: no number or name" in repr(read_results(root / "written").show(2))
    assert "nearest: 7 0.910, 4 -0.200" in repr(read_results(root / "matched").show(0))


@needs_browser
def test_written_texts_stand_beside_their_source(open_page: Callable[[str], Page]) -> None:
    page = open_page("written")
    marks = page.run("[...document.querySelectorAll('#document mark.new')].map((m) => m.innerText)")
    assert marks == ["Paris", "75", "2019", "Paris"]
    facts = page.text("#document .readings")
    assert "its best sentences that fit (the document has 1,300 tokens)" in facts
    share = compare(WRITTEN[0] or "", SOURCES[0] or "", language="en")
    assert f"numbers {100 * (share.number_share or 0):.0f} %" in facts
    assert f"names {100 * (share.name_share or 0):.0f} %" in facts
    left, right = page.run(
        "[...document.querySelectorAll('#document > .readings:last-of-type > div')]"
        ".map((node) => [node.innerText, node.getBoundingClientRect().top])"
    )
    assert left[0].startswith("Written text") and right[0].startswith("Document")
    assert left[1] == right[1]  # side by side
    assert page.text("#rows").count("Found in the document, mean of rows that have any") == 1
    page.choose("facts", "=some")
    assert page.text("#count").startswith("2 of 4")
    page.choose("facts", "")
    page.choose("order", "faith")
    means = {}
    for id, text, source in zip("abc", WRITTEN, SOURCES, strict=False):
        found = compare(text or "", source or "", language="en")
        shares = (found.word_share, found.number_share, found.name_share)
        known = [share for share in shares if share is not None]
        means[id] = sum(known) / len(known)
    names = page.run("[...document.querySelectorAll('.option bdi')].map((n) => n.innerText)")
    assert [name for name in names if name in means] == sorted(means, key=means.__getitem__)
    page.resize(360, 740, is_phone=True)
    assert page.run("document.documentElement.scrollWidth") <= 360


@needs_browser
def test_nearest_candidates_have_their_scores(open_page: Callable[[str], Page]) -> None:
    page = open_page("matched")
    rows = page.run("[...document.querySelectorAll('#document tbody tr')].map((r) => r.innerText)")
    assert rows[0].split("\t") == ["1", "7", "0.910", HOSTILE]
    assert rows[1].split("\t")[:3] == ["2", "4", "-0.200"]
    assert page.text("#text").startswith("\U0001f600 The works in Berlin")
    page.run("document.getElementById('list').focus()")
    page.press("End")
    assert "empty" in page.text("#document .readings")
    page.resize(360, 740, is_phone=True)
    assert page.run("document.documentElement.scrollWidth") <= 360


@needs_browser
@pytest.mark.parametrize("name", ["written", "matched"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_page: Callable[[str], Page], name: str, scheme: str) -> None:
    page = open_page(name)
    page.prefer(scheme)
    ratio, where = page.run(CONTRAST)
    assert ratio >= 4.5, where


def test_two_runs_are_compared_only_where_they_hold_summaries(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(root / "written"), "--compare", str(root / "matched")]
    assert main([*command, "--html", str(tmp_path / "page.html")]) == 2
    assert "holds written texts; --compare takes two runs of summaries" in capsys.readouterr().err
    assert main([str(root / "matched"), "--views", str(tmp_path / "views.sql")]) == 2
    assert "holds matches; views are of summaries" in capsys.readouterr().err
    assert read_results(root / "matched").to_table(["id"])["id"].to_pylist() == [*"abcd"]


def test_rows_of_users_say_that_they_have_no_text(root: Path, tmp_path: Path) -> None:
    config = MATCH.model_copy(update={"user_column": "id"})
    job = Job("m", "d", MatchRows(match=config, candidates="c"))
    run = OtherRun(root / "in", tmp_path / "out", job, lambda _: None, matched, CountedColumns())
    (document,) = read_documents(read_result(run.run().output), [0], None)
    assert document.problem == "the row is of all texts of a user (match.user_column)"


def test_a_configuration_of_a_later_version_is_refused(root: Path, tmp_path: Path) -> None:
    write_source(tmp_path / "in")
    job = Job("bart", "d", GenerateRows(generate=GENERATE, sentences_model="s"))
    counted = CountedColumns(status="abstract_status", tokens="abstract_num_tokens")
    OtherRun(tmp_path / "in", tmp_path / "out", job, lambda _: None, written, counted).run()
    path = tmp_path / "out" / "_bertsum" / "manifest.json"
    path.write_text(path.read_text().replace('"keep_text"', '"keep_all"'))
    with pytest.raises(ConfigError, match="keep_all"):
        read_results(tmp_path / "out")
