"""The mean vectors of users: weights, ages and the items that they have seen."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsum.errors import InputError
from bertsum.matching.config import EMBEDDING, ERROR, STATUS, TOKENS, MatchConfig
from bertsum.matching.users import write_users
from bertsum.storage.folder import Folder

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def encoded(**columns: list) -> pa.Table:
    """Texts as the encoder leaves them: own columns, then what it makes."""
    count = len(columns[EMBEDDING])
    vectors = [None if v is None else np.array(v, np.float16) for v in columns.pop(EMBEDDING)]
    made = {
        EMBEDDING: pa.array(vectors, pa.list_(pa.float16(), 2)),
        STATUS: ["ok"] * count,
        ERROR: pa.nulls(count, pa.string()),
        TOKENS: pa.array([3] * count, pa.int32()),
    }
    return pa.table(columns | made)


def average(root: Path, *tables: pa.Table, **values: object) -> list[dict]:
    (root / "texts").mkdir(exist_ok=True)
    names = [f"{number}.parquet" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        pq.write_table(table, root / "texts" / name)
    config = MatchConfig(user_column="user", **values)
    users = Folder(str(root / "users"))
    name = write_users(Folder(str(root / "texts")), names, users, config)
    (file,) = (root / "users").iterdir()
    assert file.name == name
    return pq.read_table(file).to_pylist()


def test_a_user_is_the_mean_of_the_texts(tmp_path: Path) -> None:
    first = encoded(user=["b", "a", "b"], bertsum_embedding=[EAST, NORTH, NORTH])
    second = encoded(user=["a", "c"], bertsum_embedding=[NORTH, None])
    b, a, c = average(tmp_path, first, second)
    assert [row["user"] for row in (b, a, c)] == ["b", "a", "c"]
    np.testing.assert_allclose(b[EMBEDDING], [0.5**0.5] * 2, atol=1e-3)
    assert a[EMBEDDING] == NORTH
    assert (c[EMBEDDING], c[STATUS], a[STATUS]) == (None, "empty", "ok")
    assert [row[TOKENS] for row in (b, a, c)] == [6, 6, 3]


def test_weights_and_a_text_without_one(tmp_path: Path) -> None:
    texts = encoded(
        user=["a"] * 4,
        weight=[3.0, 4.0, None, 0.0],
        bertsum_embedding=[EAST, NORTH, EAST, EAST],
    )
    (row,) = average(tmp_path, texts, weight_column="weight")
    np.testing.assert_allclose(row[EMBEDDING], [0.6, 0.8], atol=1e-3)
    wrong = encoded(user=["a"], weight=[-1.0], bertsum_embedding=[EAST])
    with pytest.raises(InputError, match=r"'weight' \(match.weight_column\) holds -1.0"):
        average(tmp_path / "texts", wrong, weight_column="weight")


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("kind", [date, datetime])
def test_a_text_of_two_half_lives_ago_counts_a_quarter(
    newest_first: bool, kind: type, tmp_path: Path
) -> None:
    texts = [(kind(2026, 1, 1), NORTH), (kind(2026, 1, 7), EAST)]
    times, vectors = zip(*(texts[::-1] if newest_first else texts), strict=True)
    table = encoded(user=["a", "a"], time=list(times), bertsum_embedding=list(vectors))
    (row,) = average(tmp_path, table, time_column="time", half_life_days=3)
    expected = np.array([1, 0.25]) / np.hypot(1, 0.25)
    np.testing.assert_allclose(row[EMBEDDING], expected, atol=1e-3)


def test_what_was_seen_in_any_row_is_seen(tmp_path: Path) -> None:
    ids = encoded(user=["a", "b", "a", "a"], item=[3, 1, None, 2], bertsum_embedding=[EAST] * 4)
    a, b = average(tmp_path, ids, seen_column="item")
    assert (a["item"], b["item"]) == ([3, 2], [1])
    lists = encoded(user=["a", "a"], item=[["x", "y"], ["y", "z"]], bertsum_embedding=[EAST] * 2)
    (tmp_path / "lists").mkdir()
    (a,) = average(tmp_path / "lists", lists, seen_column="item")
    assert a["item"] == ["x", "y", "z"]


def test_equal_columns_part_a_user(tmp_path: Path) -> None:
    texts = encoded(user=["a"] * 3, lang=["en", "de", "en"], bertsum_embedding=[EAST, NORTH, EAST])
    rows = average(tmp_path, texts, equal_columns=("lang",))
    assert [(row["user"], row["lang"], row[EMBEDDING]) for row in rows] == [
        ("a", "en", EAST),
        ("a", "de", NORTH),
    ]


def test_a_file_that_is_there_is_kept_and_an_old_one_goes(tmp_path: Path) -> None:
    texts = encoded(user=["a"], bertsum_embedding=[EAST])
    average(tmp_path, texts)
    (file,) = (tmp_path / "users").iterdir()
    before = file.stat().st_mtime_ns
    average(tmp_path, texts)
    assert file.stat().st_mtime_ns == before
    average(tmp_path, texts, top_k=3)
    assert not file.exists()
