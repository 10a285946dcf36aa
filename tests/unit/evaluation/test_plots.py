"""Plots of reports that are hard to draw."""

import pytest

from bertsum.evaluation.plots import draw
from bertsum.evaluation.report import ROUGE_NAMES


def test_an_interval_that_rounding_turned_around_is_drawn() -> None:
    value = {"mean": 1.0, "low": 1.0 + 1e-15, "high": 1.0 - 1e-15}
    systems = {system: dict.fromkeys(ROUGE_NAMES, value) for system in ("model", "LEAD-3")}
    files = draw(
        {
            "rouge": {"rows": 2, "lead": "LEAD-3", "systems": systems},
            "sentiment": {},
            "topic": {},
            "words": {},
            "targets": {},
        }
    )
    assert list(files) == ["rouge.png"]
    assert files["rouge.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["$_$", "no $^formula$"], ["confusion.png", "calibration.png"]),
        ([str(number) for number in range(600)], ["calibration.png"]),  # 79,000 points wide
    ],
)
def test_labels_of_any_text_and_number_are_drawn(labels: list[str], names: list[str]) -> None:
    values = {
        "rows": 4,
        "labels": labels,
        "confusion": [[1] * len(labels)] * len(labels),
        "calibration": {"error": 0.1, "counts": [4], "confidences": [0.6], "accuracies": [0.5]},
    }
    files = draw(
        {"rouge": None, "sentiment": {"a $_$": values}, "topic": {}, "words": {}, "targets": {}}
    )
    assert list(files) == names
    assert all(data.startswith(b"\x89PNG") for data in files.values())
