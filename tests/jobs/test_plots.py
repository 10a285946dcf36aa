"""Plots of reports with intervals of no length, which rounding may turn around."""

from bertsum.evaluation_report import ROUGE_NAMES
from jobs.plots import draw


def test_an_interval_that_rounding_turned_around_is_drawn() -> None:
    value = {"mean": 1.0, "low": 1.0 + 1e-15, "high": 1.0 - 1e-15}
    systems = {system: dict.fromkeys(ROUGE_NAMES, value) for system in ("model", "LEAD-3")}
    files = draw(
        {"rouge": {"rows": 2, "lead": "LEAD-3", "systems": systems}, "sentiment": {}, "topic": {}, "words": {}}
    )
    assert list(files) == ["rouge.png"]
    assert files["rouge.png"].startswith(b"\x89PNG")
