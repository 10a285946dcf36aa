"""The reports and pictures that a run writes at its end, if its losses are numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bertsum.masking import describe
from bertsum.model.bert_sum import BertSum
from bertsum.storage.folder import Folder
from bertsum.training.curves import can_draw
from bertsum.training.optimization import DIVERGED_ADVICE
from bertsum.training.results.files import CURVES_FILE, REPORT_FILE, dump
from bertsum.training.results.log import Report
from bertsum.training.results.measured import draw_pictures, source_report
from bertsum.training.tracking import numbers
from bertsum.training.validation import LabelledSource, Measures, Part


def write_reports(
    output: Folder,
    model: BertSum,
    sources: Iterable[LabelledSource],
    answered: Mapping[str, Sequence[Part]],
) -> dict[str, Measures]:
    """Write the reports on all sources, and return them by source."""
    reports = {}
    for source in sources:
        if source.config.name in answered:
            parts = answered[source.config.name]
            reports[source.config.name] = source_report(model, parts, source.config)
    output.write_replace(REPORT_FILE, dump(reports))
    return reports


def write_pictures(output: Folder, reports: Mapping[str, Measures], say: Report) -> list[str]:
    """Write pictures of the reports; returns the names of these and of the curves."""
    names: list[str] = []
    if not can_draw():
        return names
    if output.info(CURVES_FILE) is not None:
        names.append(CURVES_FILE)
    try:
        pictures = draw_pictures(reports)
    except Exception as error:  # of matplotlib, for a label or font: the model is worth more
        say({"message": f"warning: pictures are left out: {describe(error)}"})
        return names
    for name, data in pictures.items():
        output.write_replace(name, data)
    return [*names, *pictures]


def check_losses(results: Mapping[str, Any]) -> None:
    """Raise FloatingPointError for a model that answers with what is not a number.

    One step that is far too long makes such a model.
    """
    wrong = []
    for name, value in numbers(results):
        if name.endswith("_loss") and not math.isfinite(value):
            wrong.append(name)
    if wrong:
        raise FloatingPointError(
            f"{', '.join(wrong)} of the trained model is not a number{DIVERGED_ADVICE}"
        )
