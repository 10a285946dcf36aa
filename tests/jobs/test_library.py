"""The library in a program of the user's that runs on Ray."""

from pathlib import Path

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
