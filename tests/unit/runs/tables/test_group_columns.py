"""Optional groups of columns in Iceberg and Delta: nested types, and vectors without float16."""

from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.lake_harness import DAYS, FORMATS, LakeHarness, iceberg_table
from helpers.output_harness import write_input

from bertsum.config import SummarizerConfig
from bertsum.runs.columns import output_schema
from bertsum.runs.records import Job
from bertsum.schema import Prediction, Status

OUTPUTS = ["spans", "sentences", "embedding", "topic", "keywords", "aspects", "targets"]
NAMES = {"sentences": "Parts", "topic": "summary", "summary": "abstract", "keywords": "key phrases"}
SENTENCE = {
    "start": 0,
    "length": 4,
    "score": 0.5,
    "sentiment": "positive",
    "sentiment_scores": {"negative": 0.25, "positive": 0.75},
}
VALUES = {
    "summary_spans": [{"start": 0, "length": 4}],
    "sentences": [SENTENCE, SENTENCE | {"sentiment": None, "sentiment_scores": None}],
    "embedding": [0.5, -0.25, 0.75],
    "topic": "sport",
    "topic_scores": {"sport": 0.75, "economy": 0.25},
    "keywords": [{"text": "中国", "score": 1.0}],
    "targets": [
        {
            "target": "Apple",
            "sentiment": "positive",
            "sentiment_scores": {"negative": 0.25, "positive": 0.75},
            "mentions": [{"start": 0, "length": 5}, {"start": 9, "length": 5}],
        }
    ],
    "aspects": [{"text": "手机", "start": 3, "length": 2, "sentiment": "negative", "score": 0.5}],
}


class GroupsHarness(LakeHarness):
    """`names`: other names of columns."""

    def __init__(self, root: Path, table: str, names: dict[str, str]) -> None:
        super().__init__(root, table)
        values = {"outputs": OUTPUTS, "embedding_type": "float32", "output": {"rename": names}}
        self.config = SummarizerConfig.model_validate(values)

    def prediction(self, status: Status, text: str) -> Prediction:
        values = {} if text == "text 3" else VALUES
        return Prediction(status, summary=text, num_tokens=2, **values)

    def schemas(self) -> list[pa.Schema]:
        (path, *_) = sorted(self.input.glob("dt=2026-11-20/*"))
        return [output_schema(pq.read_schema(path), self.config)]


@pytest.fixture(params=product(FORMATS, ({}, NAMES)), ids=str)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> GroupsHarness:
    table, names = request.param
    pytest.importorskip({"iceberg": "pyiceberg", "delta": "deltalake"}[table])
    for day, ids in DAYS.items():
        write_input(tmp_path / "in", f"dt={day}/a.parquet", len(ids), first_id=ids[0])
    return GroupsHarness(tmp_path, table, names)


def test_every_group_comes_back_from_a_table(harness: GroupsHarness) -> None:
    harness.work(Job("model-a", "digest-a", harness.config))
    name_of = harness.config.output.name_of
    if harness.table == "iceberg":
        table = iceberg_table(harness).scan().to_arrow()
        place = f"iceberg_scan('{iceberg_table(harness).metadata_location}')"
    else:
        table = harness.delta().to_pyarrow_table()
        place = f"delta_scan('{harness.place}')"
    rows = {row["id"]: row for row in table.to_pylist(maps_as_pydicts="strict")}
    assert len(rows) == 29
    for name, value in VALUES.items():
        assert rows[0][name_of(name)] == value
        # pyiceberg gives an empty list of structs for a null one
        empty = [None, []] if harness.table == "iceberg" else [None]
        assert rows[3][name_of(name)] in empty
    nulls = " AND ".join(f'"{name_of(name)}" IS NULL' for name in VALUES)
    (is_null,) = harness.connect().execute(f"SELECT {nulls} FROM {place} WHERE id = 3").fetchone()
    assert is_null
    columns = {name: f'"{name_of(name)}"' for name in VALUES}
    (row,) = (
        harness.connect()
        .execute(
            f"SELECT typeof(embedding), embedding, {columns['sentences']}[1].sentiment_scores"
            f"['positive'], {columns['keywords']}[1].text, topic_scores['sport'], "
            "aspects[1].length, targets[1].mentions[2].start, "
            f"targets[1].sentiment_scores['positive'], summary_spans FROM {place} WHERE id = 28"
        )
        .fetchall()
    )
    assert row[:2] == ("FLOAT[]", VALUES["embedding"])
    assert row[2:] == (0.75, "中国", 0.75, 2, 9, 0.75, VALUES["summary_spans"])
    assert rows[28][name_of("summary")] == "text 28"
