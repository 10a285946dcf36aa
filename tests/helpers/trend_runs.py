"""OUTPUT with a partition a day, whose rows have the sentiment, topic and target that their texts name."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.config import SummarizerConfig
from bertsum.runs.records import Job
from bertsum.schema import Prediction, Status
from helpers.report_runs import Run

CONFIG = SummarizerConfig.model_validate(
    {"outputs": ["summary", "sentiment", "topic", "targets", "aspects", "keywords"]}
)
JOB = Job("model-a", "digest-a", CONFIG)
FIRST_DAY = date(2024, 1, 1)  # a Monday

Row = tuple[str, str, str]
"""Sentiment, topic and target; "" is none."""


def told(text: str, number: int) -> Prediction:
    """`negative|sport|Acme`: what the model says of it."""
    sentiment, topic, target = text.split("|")
    return Prediction(
        Status.OK if sentiment else Status.EMPTY,
        summary=text,
        sentiment=sentiment or None,
        topic=topic or None,
        topic_scores=None,
        targets=[
            {"target": name, "sentiment": "negative", "sentiment_scores": {}, "mentions": []}
            for name in target.split("+")
            if name
        ],
        aspects=[
            {"text": target.title(), "start": 0, "length": 1, "sentiment": "positive", "score": 0.5}
        ]
        if target
        else [],
        keywords=[{"text": topic, "score": 0.5}] if topic else [],
    )


def write_days(root: Path, rows: Mapping[str, Sequence[Row]]) -> None:
    """INPUT: a file for each partition, with a column of days and one of sources."""
    for partition, of_day in rows.items():
        path = root / partition / "documents.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {
                "id": [f"{partition}-{i}" for i in range(len(of_day))],
                "source": [("wire", "blog")[i % 2] for i in range(len(of_day))],
                "document": ["|".join(row) for row in of_day],
            }
        )
        pq.write_table(table, path)


def day_name(index: int) -> str:
    return f"dt={FIRST_DAY + timedelta(days=index)}"


def draw_days(
    num_days: int,
    topics: Mapping[str, float],
    *,
    share: float = 0.2,
    shifts: Mapping[tuple[str, int], float] | None = None,
    seed: int = 0,
) -> dict[str, list[Row]]:
    """Rows by partition: Poisson counts of each topic's mean, a share of them negative.

    `shifts`: another share of a topic from a day on.
    """
    random = np.random.default_rng(seed)
    days: dict[str, list[Row]] = {}
    for index in range(num_days):
        rows: list[Row] = []
        for topic, mean in topics.items():
            of_topic = share
            for (shifted, begin), other in (shifts or {}).items():
                if shifted == topic and index >= begin:
                    of_topic = other
            negative = random.random(random.poisson(mean)) < of_topic
            rows += [("negative" if is_bad else "positive", topic, "") for is_bad in negative]
        days[day_name(index)] = rows
    return days


def make_output(root: Path, rows: Mapping[str, Sequence[Row]]) -> Path:
    """OUTPUT of a complete run over these rows."""
    write_days(root / "in", rows)
    Run(root / "in", root / "out", job=JOB, predict=told, rows_per_unit=100_000).run()
    return root / "out"
