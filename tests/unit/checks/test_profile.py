"""What rows are like, against plain Python over the same predictions, and added up in any way."""

import math
import random
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsum.checks.profile import Profile, make_profile
from bertsum.config import NamesConfig
from bertsum.runs.history import read_profiles, sum_profiles
from bertsum.schema import OutputGroup, Prediction, Status, predictions_to_table
from bertsum.storage.folder import Folder

NAMES = NamesConfig()


def prediction(generator: random.Random) -> Prediction:
    kind = generator.random()
    if kind < 0.1:
        return Prediction(Status.EMPTY)
    if kind < 0.2:
        return Prediction(
            Status.UNKNOWN_LANGUAGE, summary="天气", num_sentences=1, num_tokens=4, language="zh"
        )
    sentences = generator.randrange(1, 30)
    chosen = sorted(generator.sample(range(sentences), min(sentences, generator.randrange(1, 4))))
    positive = generator.random()
    return Prediction(
        Status.OK,
        summary=generator.choice(["One plain line.", "<p class='x'>One</p>", "A &amp; B", "a < b"]),
        summary_sentences=chosen,
        summary_scores=[generator.random() for _ in chosen],
        sentiment="positive" if positive > 0.5 else "negative",
        sentiment_scores={"negative": 1 - positive, "positive": positive},
        num_sentences=sentences,
        num_tokens=generator.randrange(2, 900),
        truncated=generator.random() < 0.2,
        language="en",
    )


def predictions(count: int, seed: int = 0) -> list[Prediction]:
    generator = random.Random(seed)
    return [prediction(generator) for _ in range(count)]


def table(rows: list[Prediction]) -> pa.Table:
    return predictions_to_table(rows, [OutputGroup.LANGUAGE])


def test_it_is_what_python_counts() -> None:
    rows = predictions(400)
    profile = make_profile([table(rows)], NAMES)
    read = [row for row in rows if row.summary is not None]
    ok = [row for row in read if row.sentiment_scores is not None]
    assert profile.rows == 400
    for label in ("ok", "empty", "unknown_language"):
        assert profile.labels["status"][label] == sum(row.status == label for row in rows)
    assert profile.labels["sentiment"]["positive"] == sum(r.sentiment == "positive" for r in rows)
    assert profile.labels["language"] == {
        code: sum(row.language == code for row in rows) for code in ("en", "zh")
    }
    expected = {
        "tokens": [math.log1p(row.num_tokens) for row in read],
        "sentences": [math.log1p(row.num_sentences) for row in read],
        "characters": [math.log1p(len(row.summary or "")) for row in read],
        "letters": [
            sum(map(str.isalpha, row.summary or "")) / len(row.summary or "") for row in read
        ],
        "markup": [float(row.summary in ("<p class='x'>One</p>", "A &amp; B")) for row in read],
        "truncated": [float(row.truncated) for row in read],
        "position": [
            fmean((i + 0.5) / row.num_sentences for i in row.summary_sentences or []) for row in ok
        ],
        "scores": [fmean(row.summary_scores or []) for row in ok],
        "confidence": [max((row.sentiment_scores or {}).values()) for row in ok],
    }
    assert profile.numbers.keys() == expected.keys()
    for name, values in expected.items():
        sums = profile.numbers[name]
        assert sums.rows == len(values), name
        assert sums.total == pytest.approx(sum(values), rel=1e-6), name
        assert sums.squares == pytest.approx(sum(value**2 for value in values), rel=1e-6), name


def test_units_add_up_and_files_say_the_same_as_memory(tmp_path: Path) -> None:
    rows = predictions(300, seed=1)
    whole = make_profile([table(rows)], NAMES)
    pieces = [rows[:1], rows[1:120], rows[120:120], rows[120:]]
    for index, piece in enumerate(pieces):
        pq.write_table(table(piece), tmp_path / f"{index}.parquet", row_group_size=50)
    parts = read_profiles(Folder(str(tmp_path)), [f"{i}.parquet" for i in range(4)], NAMES)
    for profile in (sum_profiles(parts), Profile.from_json(sum_profiles(parts).to_json())):
        assert (profile.rows, profile.labels) == (whole.rows, whole.labels)
        for name, sums in whole.numbers.items():
            assert profile.numbers[name].rows == sums.rows
            assert profile.numbers[name].total == pytest.approx(sums.total)
            assert profile.numbers[name].squares == pytest.approx(sums.squares)


def test_columns_with_other_names_and_slices_of_tables() -> None:
    rows, names = predictions(50, seed=2), NamesConfig(prefix="b_", rename={"summary": "abstract"})
    renamed = table(rows).rename_columns([names.name_of(name) for name in table(rows).column_names])
    assert make_profile([renamed], names) == make_profile([table(rows)], NAMES)
    assert make_profile([table(rows).slice(10, 20)], NAMES) == make_profile(
        [table(rows[10:30])], NAMES
    )


@pytest.mark.parametrize("rows", [[], [Prediction(Status.EMPTY)] * 3], ids=["none", "all empty"])
def test_rows_that_say_nothing(rows: list[Prediction]) -> None:
    profile = make_profile([table(rows)], NAMES)
    assert profile.rows == len(rows)
    assert not sum(sums.rows for sums in profile.numbers.values())


@pytest.mark.parametrize("values", [[["en", "de"]], [{"code": "en"}], [7]])
def test_a_column_of_input_with_the_name_of_one_that_is_not_made(values: list[object]) -> None:
    rows = predictions_to_table([Prediction(Status.EMPTY)], [])
    rows = rows.append_column("language", pa.array(values))
    assert list(make_profile([rows], NAMES).labels) == ["status", "sentiment"]
