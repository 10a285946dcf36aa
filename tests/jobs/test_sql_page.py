"""The queries of jobs/docs/sql.md, as they stand there, answer its questions on what its command writes.

The right answers are computed from the files by pyarrow and Python. Numbers are those of the CPU
at hand, so the printed answers must have the columns of the query, and need not have its numbers.
"""

import datetime
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import sql_page

from jobs import summarize

ROOT = Path(__file__).parents[2]
LATER = datetime.date(2026, 11, 20)
ROUNDED = 0.006  # of two digits, in float32
Row = dict[str, Any]


@pytest.fixture(scope="module")
def results(
    cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mapping[str, tuple[list[str], list[Row]]], list[Row]]]:
    """Columns and rows of each answer by question, and the rows that the job wrote with their texts."""
    directory = tmp_path_factory.mktemp("page")
    (directory / "tests").symlink_to(ROOT / "tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert summarize.main(sql_page.command()) == 0
        answers = {}
        with sql_page.connection() as database:
            for question, (query, _) in sql_page.questions().items():
                answer = database.execute(query)
                names = [column[0] for column in answer.description]
                rows = [dict(zip(names, values, strict=True)) for values in answer.fetchall()]
                answers[question] = names, rows
        yield answers, read_rows(directory / sql_page.OUTPUT)


def read_rows(output: Path) -> list[Row]:
    """The result with the texts, the day and the source, file by file."""
    rows: list[Row] = []
    for path in sorted(output.rglob("*.parquet")):
        day = path.parent.name
        source = pq.ParquetFile(ROOT / "tests/data/corpus" / day / "documents.parquet").read()
        texts = dict(zip(source["id"].to_pylist(), source["document"].to_pylist(), strict=True))
        for row in pq.ParquetFile(path).read().to_pylist(maps_as_pydicts="strict"):
            row["document"] = texts[row["id"]]
            row["day"] = datetime.date.fromisoformat(day.removeprefix("dt="))
            row["source"] = row["id"].partition("-")[0]
            rows.append(row)
    return rows


def tone(scores: Mapping[str, float]) -> float:
    return scores["positive"] - scores["negative"]


def text_of(row: Row, sentence: Row) -> str:
    return row["document"][sentence["start"] : sentence["start"] + sentence["length"]]


def check_share_negative(answer: list[Row], rows: list[Row]) -> None:
    by_topic = defaultdict(list)
    for row in rows:
        if row["status"] == "ok":
            by_topic[row["topic"]].append(row["sentiment"] == "negative")
    assert [row["topic"] for row in answer] == sorted(by_topic)
    assert sum(row["documents"] for row in answer) == 66
    for row in answer:
        negative = by_topic[row["topic"]]
        assert row["week"] == datetime.date(2026, 11, 16)  # the Monday of all seven days
        assert row["documents"] == len(negative)
        assert row["negative_percent"] == pytest.approx(100 * np.mean(negative), abs=0.51)


def check_worst(answer: list[Row], rows: list[Row]) -> None:
    scores = {}
    for row in rows:
        if row["title"].startswith("Hotel: "):
            for sentence in row["sentences"]:
                score = sentence["sentiment_scores"]["negative"]
                scores[row["title"], text_of(row, sentence)] = score
    assert len(answer) == 5 < len(scores)
    assert {title for title, _ in scores} == {
        "Hotel: Pension Althaus, Brennau",
        "Hotel: Grand Velamarisco, Costa Velada",
    }
    worst = sorted(scores.values(), reverse=True)[:5]
    assert [row["negative"] for row in answer] == pytest.approx(worst, abs=ROUNDED)
    for row in answer:
        found = scores[row["title"], row["sentence"]]
        assert row["negative"] == pytest.approx(found, abs=ROUNDED)


def check_near(answer: list[Row], rows: list[Row]) -> None:
    vectors = {}
    for row in rows:
        if row["status"] == "ok":
            vectors[row["language"], row["id"]] = np.array(row["embedding"], np.float64)
    cosines = {}
    for (language, one), (other_language, other) in combinations(sorted(vectors), 2):
        if language == other_language:
            left, right = vectors[language, one], vectors[language, other]
            length = np.linalg.norm(left) * np.linalg.norm(right)
            cosines[one, other] = left @ right / length
    nearest = sorted(cosines.values(), reverse=True)[:5]
    assert [row["cosine"] for row in answer] == pytest.approx(nearest, abs=1e-3)
    for row in answer:
        assert row["cosine"] == pytest.approx(cosines[row["id"], row["other"]], abs=1e-3)


def check_tone(answer: list[Row], rows: list[Row]) -> None:
    tones: dict[tuple[str, str], dict[bool, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["status"] == "ok":
            later = row["day"] >= LATER
            tones[row["source"], row["language"]][later].append(tone(row["sentiment_scores"]))
    large = {}
    for name, by_time in tones.items():
        if sum(map(len, by_time.values())) >= 5:
            large[name] = by_time
    assert {(row["source"], row["language"]) for row in answer} == large.keys()
    changes = []
    for row in answer:
        by_time = large[row["source"], row["language"]]
        before, since = np.mean(by_time[False]), np.mean(by_time[True])
        assert (row["before"], row["since"]) == pytest.approx((before, since), abs=ROUNDED)
        assert row["documents"] == len(by_time[False]) + len(by_time[True])
        changes.append(abs(since - before))
    assert changes == pytest.approx(sorted(changes, reverse=True), abs=2 * ROUNDED)


def check_sentences(answer: list[Row], rows: list[Row]) -> None:
    (document,) = (row for row in rows if row["id"] == "review-en-009")
    assert answer[1]["sentence"] == "On bare floors it is superb."
    assert len(answer) == document["num_sentences"] == 11
    for row, sentence in zip(answer, document["sentences"], strict=True):
        assert row["sentence"] == text_of(document, sentence)
        assert row["sentiment"] == sentence["sentiment"]
        assert row["tone"] == pytest.approx(tone(sentence["sentiment_scores"]), abs=ROUNDED)


def count_keywords(rows: list[Row], is_counted: Callable[[Row], bool]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        if row["status"] == "ok" and is_counted(row):
            counts.update(keyword["text"] for keyword in row["keywords"])
    return counts


def check_negative_keywords(answer: list[Row], rows: list[Row]) -> None:
    negative = count_keywords(rows, lambda row: row["sentiment"] == "negative")
    total = count_keywords(rows, lambda row: True)
    expected = sorted(negative, key=lambda text: (-negative[text], total[text], text))[:5]
    assert [row["keyword"] for row in answer] == expected
    for row in answer:
        text = row["keyword"]
        assert (row["negative"], row["documents"]) == (negative[text], total[text])


def check_trends(answer: list[Row], rows: list[Row]) -> None:
    before = count_keywords(rows, lambda row: row["day"] < LATER)
    since = count_keywords(rows, lambda row: row["day"] >= LATER)
    expected = set()
    for text in before | since:
        if before[text] != since[text] and before[text] + since[text] > 1:
            expected.add((text, before[text], since[text]))
    assert {(row["keyword"], row["before"], row["since"]) for row in answer} == expected
    changes = [abs(row["since"] - row["before"]) for row in answer]
    assert changes == sorted(changes, reverse=True)


def check_unread(answer: list[Row], rows: list[Row]) -> None:
    found = [(row["id"], row["status"]) for row in answer]
    assert found == [  # the corpus was written so
        ("hard-en-001", "empty"),
        ("hard-en-002", "empty"),
        ("hard-en-003", "empty"),
        ("hard-en-007", "not_text"),
    ]
    assert "no letter" in answer[3]["error"]
    assert [row["title"] for row in answer][3] == "Meter log 00417-3"


def check_unreadable_share(answer: list[Row], rows: list[Row]) -> None:
    found = [(row["source"], row["documents"], row["unreadable_percent"]) for row in answer]
    # 4 of the 14 that are hard
    assert found == [("hard", 14, 28.6), ("news", 30, 0), ("report", 6, 0), ("review", 20, 0)]


def check_beginnings(answer: list[Row], rows: list[Row]) -> None:
    ends = {}
    for row in rows:
        if row["num_sentences"] >= 20 and max(row["summary_sentences"]) < 3:
            last = row["summary"].strip().rpartition("\n")[2][-20:]  # of the last chosen sentence
            offset = row["document"].index(last) + len(last)
            ends[row["id"]] = row["num_sentences"], 100 * offset / len(row["document"])
    assert [row["id"] for row in answer] == sorted(ends, key=lambda name: (-ends[name][0], name))
    for row in answer:
        found = row["num_sentences"], row["ends_at_percent"]
        assert found == pytest.approx(ends[row["id"]], abs=0.06)


CHECKS = {
    "How much is negative, by topic and week?": check_share_negative,
    "What is the worst that reviews say of a product?": check_worst,
    "Which documents say nearly the same?": check_near,
    "Whose tone has changed?": check_tone,
    "Where does the sentiment of a document come from?": check_sentences,
    "What are negative documents about?": check_negative_keywords,
    "Which keywords rise and fall?": check_trends,
    "Which documents could not be read, and why?": check_unread,
    "How much of each source is unreadable?": check_unreadable_share,
    "Which long documents have a summary of nothing but their beginning?": check_beginnings,
}


@pytest.mark.parametrize("question", sql_page.questions())
def test_the_answer_is_right(question: str, results: tuple[Any, list[Row]]) -> None:
    answers, rows = results
    assert len(rows) == 70
    CHECKS[question](answers[question][1], rows)


@pytest.mark.parametrize("question", sql_page.questions())
def test_the_page_shows_an_answer_with_these_columns(
    question: str, results: tuple[Any, list[Row]]
) -> None:
    names, rows = results[0][question]
    printed = sql_page.questions()[question][1]
    table = [line.strip("│").split("│") for line in printed.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in table[0]] == names
    assert rows
    assert len(table) > 2  # the names, the types, and an answer
