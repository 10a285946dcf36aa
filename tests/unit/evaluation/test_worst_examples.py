"""The worst rows of measures, against a brute force over all of them."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsum.evaluation.columns import MEASURES, SUMMARY_MEASURES
from bertsum.evaluation.config import EvaluationConfig
from bertsum.evaluation.worst_examples import (
    WorstExample,
    add_texts,
    dump_worst,
    find_worst,
    worst_first,
)
from bertsum.runs.input import list_input, read_footers
from bertsum.runs.units import FileSlice, Unit

LABELS = ("negative", "neutral", "positive")
MODELS = ("a", "b")
LEAD = "LEAD-3"


def scores(random: random.Random) -> list[tuple[str, float]]:
    values = [random.random() for _ in LABELS]
    return [(label, value / sum(values)) for label, value in zip(LABELS, values, strict=True)]


def measured_rows(count: int, with_oracle: bool) -> pa.Table:
    draw = random.Random(5)
    systems = [*MODELS, LEAD, *(["oracle"] if with_oracle else [])]
    rows = []
    for number in range(count):
        rouge = [
            {"system": name, **dict.fromkeys(("rouge_1", "rouge_2", "rouge_lsum"), draw.random())}
            for name in systems
        ]
        rows.append(
            {
                "status": "ok",
                "num_tokens": 9,
                "num_sentences": 3,
                "rouge": rouge if number % 4 else None,
                "expected_sentiment": draw.choice(LABELS) if number % 5 else None,
                "sentiment": [{"model": name, "scores": scores(draw)} for name in MODELS],
                "model_summaries": [
                    {"model": "a", "spans": [{"start": number, "length": 2}]},
                    {"model": "b", "spans": []},
                ],
            }
        )
    return pa.Table.from_pylist(rows, pa.schema([*MEASURES, *SUMMARY_MEASURES]))


@pytest.mark.parametrize("with_oracle", [True, False])
def test_the_worst_rows_are_those_of_a_brute_force(with_oracle: bool) -> None:
    table = measured_rows(120, with_oracle)
    found = find_worst(table, MODELS, LEAD, 7)
    best = "oracle" if with_oracle else LEAD
    for position, model in enumerate(MODELS):
        wrong, low = {}, {}
        for row, values in enumerate(table.to_pylist()):
            answer = dict(values["sentiment"][position]["scores"])
            if values["expected_sentiment"] not in (None, max(answer, key=answer.get)):
                wrong[row] = max(answer.values())
            by_system = {entry["system"]: entry["rouge_1"] for entry in values["rouge"] or ()}
            if by_system and by_system[best] > by_system[model]:
                low[row] = by_system[best] - by_system[model]
        for head, expected in (("sentiment", wrong), ("summary", low)):
            rows = [row for row, e in found if (e.model, e.head) == (model, head)]
            assert rows == sorted(expected, key=lambda row: -expected[row])[:7]
            assert len(rows) == 7
        spans = {row: e.spans for row, e in found if (e.model, e.head) == (model, "summary")}
        assert spans == {row: [(row, row + 2)] if model == "a" else [] for row in spans}
    # of an earlier version: without that column, the same rows
    earlier = find_worst(table.drop_columns("model_summaries"), MODELS, LEAD, 7)
    assert [row for row, _ in earlier] == [row for row, _ in found]
    assert all(example.spans is None for _, example in earlier)


def test_texts_are_read_from_the_rows_of_input(tmp_path: Path) -> None:
    texts = {name: [f"{name} {i} \U0001f600 text" for i in range(30)] for name in "ab"}
    for name, values in texts.items():
        table = pa.table({"document": values, "gold": [f"Gold {t}." for t in values]})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=8)
    source = list_input(str(tmp_path))
    shards, problems = read_footers(source, source.files)
    assert not problems
    units = []
    for shard in shards:
        for start, stop in ((0, 17), (17, 30)):
            file = shard.file
            part = FileSlice(file.path, file.size, file.version, 30, start, stop)
            units.append(Unit((part,)))
    config = EvaluationConfig(summary_column="gold")
    example = WorstExample(model="m", head="summary", distance=1, spans=[(0, 1), (5, 11)])
    rows = [(row, example) for row in (0, 29, 30, 59)]
    completed = add_texts(rows, units, source.root, config)
    assert [e.text for e in completed] == [*texts["a"][::29], *texts["b"][::29]]
    assert [e.where for e in completed] == [f"{n}.parquet, row {r}" for n in "ab" for r in (0, 29)]
    assert completed[0].reference == f"Gold {texts['a'][0]}."
    assert completed[2].summary == "b\n text"

    # a file that is another one now is told, and loses no other example
    pq.write_table(pa.table({"document": ["new"], "gold": ["new"]}), tmp_path / "a.parquet")
    completed = add_texts(rows, units, source.root, config)
    assert [e.text for e in completed] == [None, None, *texts["b"][::29]]
    assert "a.parquet" in (completed[0].problem or "")


def test_each_source_model_and_head_has_its_own() -> None:
    examples = [
        WorstExample(source=source, model="m", head=head, distance=distance)
        for source in ("x", "y")
        for head in ("sentiment", "topic")
        for distance in (0.1, 0.9, 0.5)
    ]
    worst = worst_first(examples, 2)
    assert [example.distance for example in worst] == [0.9, 0.5] * 4
    assert worst_first(examples, 0) == []


def test_any_text_can_be_written_and_long_ones_are_cut() -> None:
    example = WorstExample(model="m", head="topic", distance=1, text="\ud800</script>" + "x" * 9999)
    example = replace(example, spans=[(0, 10), (5990, 6001)])
    (written,) = json.loads(dump_worst([example]))
    assert written["text"].startswith("\ud800</script>x")
    assert len(written["text"]) == 6001
    assert written["spans"] == [[0, 10]]  # the other sentence ends in what is cut off
    assert "reference" not in written
