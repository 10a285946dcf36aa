"""Candidates in a mapped file: blocks, columns, groups and ids."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsum.errors import InputError
from bertsum.matching import candidates as module
from bertsum.matching.candidates import Candidates
from bertsum.matching.config import EMBEDDING, MatchConfig
from bertsum.storage.folder import Folder

VECTORS = np.arange(40, dtype=np.float16).reshape(20, 2)


def rows(start: int, stop: int, without: int | None = None, **columns: list) -> pa.Table:
    """Candidates with these numbers; one of them has no vector."""
    numbers = range(start, stop)
    vectors = [None if number == without else VECTORS[number] for number in numbers]
    values = {"id": [f"c{number}" for number in numbers], "n": list(numbers)}
    embedding = pa.array(vectors, pa.list_(pa.float16(), 2))
    return pa.table(values | columns | {EMBEDDING: embedding})


def load(root: Path, *tables: pa.Table, **values: object) -> Candidates:
    names = []
    for number, table in enumerate(tables):
        names.append(f"{number}.parquet")
        pq.write_table(table, root / names[-1], row_group_size=4)
    config = MatchConfig(candidate_columns=("n",), **values)
    return Candidates(Folder(str(root)), names, config)


@pytest.mark.parametrize("block_rows", [3, 7, 19, 100])
def test_all_with_a_vector_in_blocks(
    block_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", block_rows)
    candidates = load(tmp_path, rows(0, 9, without=5), rows(9, 20))
    kept = [number for number in range(20) if number != 5]
    sizes = [len(block.vectors) for block in candidates.blocks]
    assert sum(sizes) == 19
    assert max(sizes) <= block_rows
    assert [block.first for block in candidates.blocks] == [0, *np.cumsum(sizes)[:-1]]
    vectors = np.concatenate([block.vectors for block in candidates.blocks])
    np.testing.assert_array_equal(vectors, VECTORS[kept])
    taken = candidates.take(np.array([18, 0, 5, 18]))
    assert taken.to_pydict() == {"id": ["c19", "c0", "c6", "c19"], "n": [19, 0, 6, 19]}
    assert candidates.take(np.zeros(0, np.int64)).num_rows == 0


def test_positions_of_ids_that_stand_twice_or_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    candidates = load(tmp_path, rows(0, 6), rows(0, 6))
    positions = candidates.positions(pa.array(["c1", "c5", "unknown", None, "c1"]))
    by_id = {key: value.tolist() for key, value in positions.items()}
    assert by_id == {"c1": [1, 7], "c5": [5, 11], "unknown": []}
    assert candidates.positions(pa.array([], pa.string())) == {}


def test_ids_beyond_the_range_of_the_candidates_are_nobodys(tmp_path: Path) -> None:
    table = rows(0, 3, id=pa.array([-1, 5, None], pa.int32()))
    candidates = load(tmp_path, table)
    positions = candidates.positions(pa.array([5, 2**31, -1, 2**32 + 5, 2**32 - 1], pa.int64()))
    found = {key: rows.tolist() for key, rows in positions.items()}
    assert found == {5: [1], -1: [0], 2**31: [], 2**32 + 5: [], 2**32 - 1: []}
    unsigned = load(tmp_path, rows(0, 3, id=pa.array([7, 2**64 - 1, 0], pa.uint64())))
    found = {key: rows.tolist() for key, rows in unsigned.positions(pa.array([-1, 7])).items()}
    assert found == {-1: [], 7: [0]}


def test_groups_are_equal_values_and_an_empty_one_is_equal_to_none(tmp_path: Path) -> None:
    lang, stock = ["en", "de", "en", None], [True, True, False, True]
    candidates = load(tmp_path, rows(0, 4, lang=lang, stock=stock), equal_columns=("lang", "stock"))
    asked = pa.table({"lang": ["en", "de", "fr", None], "stock": [True, True, True, True]})
    groups = candidates.blocks[0].groups
    numbers = candidates.group_numbers(asked)
    equal = (numbers[:, None] == groups[None, :]).tolist()
    assert equal[0] == [True, False, False, False]
    assert equal[1] == [False, True, False, False]
    assert not any(equal[2]) and not any(equal[3])


def test_no_candidate_has_a_vector(tmp_path: Path) -> None:
    candidates = load(tmp_path, rows(0, 1, without=0))
    assert [len(block.vectors) for block in candidates.blocks] == [0]
    assert candidates.take(np.zeros(0, np.int64)).num_rows == 0


def test_files_of_other_types_are_refused(tmp_path: Path) -> None:
    other = rows(0, 2).set_column(0, "id", pa.array([1, 2]))
    with pytest.raises(InputError, match=r"1\.parquet have other types of columns"):
        load(tmp_path, rows(0, 2), other)
