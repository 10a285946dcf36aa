"""The library in a program of the user's that runs on Ray."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.data

from bertsum import Summarizer

TEXTS = [
    "The cat sleeps. A dog runs. The house is old. A bird sees the river.",
    None,
    "Prices rise.",
]


@pytest.mark.usefixtures("cluster")
def test_a_summarizer_travels_in_a_closure(checkpoint: Path) -> None:
    """To a task, and to a function on batches of a dataset."""
    summarizer = Summarizer(checkpoint, device="cpu")
    expected = [(prediction.status, prediction.summary) for prediction in summarizer(TEXTS)]

    @ray.remote
    def summarize(texts: list[str | None]) -> list[tuple[str, str | None]]:
        return [(prediction.status, prediction.summary) for prediction in summarizer(texts)]

    assert ray.get(summarize.remote(TEXTS), timeout=200) == expected
    dataset = ray.data.from_arrow(pa.table({"document": TEXTS}))
    rows = dataset.map_batches(lambda table: summarizer(table), batch_format="pyarrow").take_all()
    assert [(row["status"], row["summary"]) for row in rows] == expected


PAGE = Path(__file__).parents[2] / "jobs" / "docs" / "library.md"
EXAMPLE = ["The food was great. We will be back.", None]


def example(package: str) -> dict[str, Any]:
    """What the page's example with this package leaves behind."""
    (block,) = [
        block
        for block in re.findall(r"^```python\n(.+?)^```$", PAGE.read_text(), re.M | re.S)
        if re.search(rf"^import {package}\b", block, re.M)
    ]
    names: dict[str, Any] = {}
    exec(compile(block, PAGE.name, "exec"), names)
    return names


@pytest.mark.parametrize("package", ["pandas", "polars", "duckdb"])
def test_the_examples_of_the_page_say_what_the_library_says(package: str) -> None:
    if package == "polars":
        pytest.importorskip(package)
    names = example(package)
    expected = [prediction.sentiment for prediction in names["summarizer"](EXAMPLE)]
    assert expected[0] == "positive"
    result = names["result"]
    if package == "pandas":
        found = list(
            zip(result["id"], result["sentiment"].replace({float("nan"): None}), strict=True)
        )
    elif package == "polars":
        found = result.select("id", "sentiment").rows()
    else:
        found = result.fetchall()
    assert sorted(found) == [(1, expected[0]), (2, expected[1])]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_example_with_ray_data_says_the_same() -> None:
    rows = example("ray")["result"].take_all()
    expected = [prediction.sentiment for prediction in Summarizer()(EXAMPLE)]
    assert [(row["id"], row["sentiment"]) for row in rows] == [(1, expected[0]), (2, expected[1])]
