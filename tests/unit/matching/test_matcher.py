"""Tables of queries -> tables of matches, without Ray."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny

from bertsum.inference.summarizer import Summarizer
from bertsum.matching import matcher as module
from bertsum.matching.candidates import Candidates
from bertsum.matching.columns import row_schema
from bertsum.matching.config import EMBEDDING, MatchConfig
from bertsum.matching.matcher import Matcher
from bertsum.matching.top_k import top_k
from bertsum.storage.folder import Folder

TEXTS = [tiny.text(2, first=number) for number in range(12)]


@pytest.fixture
def matcher_of(checkpoint: Path, tmp_path: Path):
    """A function that encodes candidates of the same texts, and makes a Matcher of them."""

    def make(pass_queries: int = 1000, **values: object) -> Matcher:
        config = MatchConfig(dtype="float32", **values)
        ids = [f"c{number}" for number in range(len(TEXTS))]
        group = ["even", "odd"] * (len(TEXTS) // 2)
        table = pa.table({"id": ids, "group": group, "document": TEXTS})
        encoded = Summarizer(checkpoint, config.candidate_encoder(), device="cpu")(table)
        pq.write_table(encoded, tmp_path / "candidates.parquet")
        return Matcher(
            Summarizer(checkpoint, config.query_encoder(), device="cpu"),
            Candidates(Folder(str(tmp_path)), ["candidates.parquet"], config),
            config,
            device=torch.device("cpu"),
            pass_queries=pass_queries,
        )

    return make


def queries(**columns: list) -> pa.Table:
    return pa.table({"n": range(len(TEXTS)), "document": TEXTS} | columns)


def test_a_text_is_nearest_to_itself(matcher_of) -> None:
    matcher = matcher_of(top_k=2, candidate_columns=("group", "document"))
    progress, lives = [], []
    matcher.on_batch(lambda: lives.append(1))
    table = queries().set_column(1, "document", pa.array([None, *TEXTS[1:]]))
    result = pa.concat_tables(matcher.stream([table], lambda *done: progress.append(done)))
    schema = pa.schema([("id", pa.string()), ("group", pa.string()), ("document", pa.string())])
    assert result.schema == row_schema(table.schema, schema, matcher._config)
    first, *others = result.to_pylist()
    assert (first["matches"], first["status"]) == (None, "empty")
    for row in others:
        best = row["matches"][0]
        assert (best["id"], best["rank"]) == (f"c{row['n']}", 1)
        assert best["document"] == TEXTS[row["n"]]
        assert best["score"] == pytest.approx(1, abs=2e-3)
        assert row["matches"][1]["rank"] == 2
    assert sum(count for count, _ in progress) == len(TEXTS)
    assert len(lives) >= 2  # a batch of texts, and a block of candidates
    assert matcher.stage_seconds["forward"] > 0


@pytest.mark.parametrize("pass_queries", [1, 5])
def test_passes_of_any_size_say_the_same(pass_queries: int, matcher_of) -> None:
    tables = [queries().slice(start, 3) for start in range(0, len(TEXTS), 3)]
    whole = pa.concat_tables(matcher_of().stream(tables)).to_pylist()
    parts = pa.concat_tables(matcher_of(pass_queries).stream(tables)).to_pylist()
    assert whole == parts


def test_no_pass_has_more_queries_than_are_asked_for(
    matcher_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def recorded(queries, *arguments, **values):
        sizes.append(len(queries.vectors))
        return top_k(queries, *arguments, **values)

    monkeypatch.setattr(module, "top_k", recorded)
    tables = [queries(), queries().slice(0, 2), queries().slice(0, 3)]
    result = pa.concat_tables(matcher_of(5).stream(tables))
    assert result["n"].to_pylist() == [*range(12), 0, 1, 0, 1, 2]
    assert sizes == [5, 5, 4, 3]


def test_filters(matcher_of) -> None:
    matcher = matcher_of(
        top_k=12, equal_columns=("group",), seen_column="seen", keep_columns=("n",), min_score=-1
    )
    groups = ["even"] * 6 + ["odd"] * 5 + [None]
    seen = [["c0", "c2"], None, [], ["c4"], None, None, *[["c1", "zzz"]] * 6]
    (table,) = matcher.stream([queries(group=groups, seen=seen)])
    assert table.column_names == ["n", "matches", "status", "error", "num_tokens"]
    for row, group, left_out in zip(table.to_pylist(), groups, seen, strict=True):
        numbers = {int(entry["id"][1:]) for entry in row["matches"]}
        expected = {number for number in range(12) if group == ["even", "odd"][number % 2]}
        assert numbers == expected - {int(name[1:]) for name in left_out or () if name != "zzz"}
    score = matcher_of(min_score=0.999)
    (table,) = score.stream([queries()])
    assert [[e["id"] for e in row] for row in table["matches"].to_pylist()] == [
        [f"c{number}"] for number in range(12)
    ]


def test_rows_that_are_given_up(matcher_of) -> None:
    table = matcher_of().give_up(queries().slice(0, 2), "died")
    assert table["matches"].to_pylist() == [None, None]
    assert table["status"].to_pylist() == ["error"] * 2
    assert table["error"].to_pylist() == ["died"] * 2


def test_the_vectors_are_those_of_embedding(checkpoint: Path) -> None:
    config = MatchConfig(dtype="float32", keep_columns=("n",))
    encoder = Summarizer(checkpoint, config.query_encoder(), device="cpu")
    table = encoder(queries())
    assert EMBEDDING in table.column_names
    lengths = np.linalg.norm(np.array(table[EMBEDDING].to_pylist(), np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-2)
