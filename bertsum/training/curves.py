"""Curves of a run as a picture: losses by step, and measures by validation."""

import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bertsum.training.tracking import numbers

# ends of the measures' names that are worth a curve
_MEASURES = (
    "rouge.rouge_1",
    "rouge.rouge_2",
    "rouge.rouge_lsum",
    "lead.rouge_1",
    "accuracy",
    "macro_f1",
    "_loss",
)
_SMOOTHED_SHARE = 0.02  # of all steps

LogLine = Mapping[str, Any]  # numbers, which may be nested, by name
Points = tuple[list[int], list[float]]  # steps, and values at them


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that stand over the same steps."""

    title: str
    unit: str
    points: Mapping[str, Points]  # by name of the curve
    is_loss: bool = False  # of training


def can_draw() -> bool:
    """Whether matplotlib, which is an extra, is installed."""
    return find_spec("matplotlib") is not None


def loss_points(log: Sequence[LogLine]) -> dict[str, Points]:
    """Training losses of each head that has any."""
    points: dict[str, Points] = defaultdict(lambda: ([], []))
    for line in log:
        if "validation" in line:
            continue
        for name, value in numbers(line):
            if name.endswith("_loss") and value:  # 0: the step had no label for this head
                steps, values = points[name]
                steps.append(line["step"])
                values.append(value)
    return dict(points)


def measure_points(log: Sequence[LogLine]) -> dict[str, dict[str, Points]]:
    """Measures that are worth a curve, by source and name."""
    points: dict[str, dict[str, Points]] = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for line in log:
        for source, result in line.get("validation", {}).items():
            for name, value in numbers(result):
                if name.endswith(_MEASURES):
                    steps, values = points[source][name]
                    steps.append(line["step"])
                    values.append(value)
    return {source: dict(measures) for source, measures in points.items()}


def draw_curves(log: Sequence[LogLine]) -> bytes:
    """Draw a run's log as PNG.

    There is a panel of losses, and for each source one of ROUGE and one of shares and losses.
    """
    from matplotlib.figure import Figure

    panels = make_panels(log)
    # up to 3 beside each other, but 4 as a square
    num_columns = 2 if len(panels) == 4 else min(3, max(1, len(panels)))
    num_rows = max(1, math.ceil(len(panels) / num_columns))
    # not of pyplot, which keeps figures, and looks for a display
    figure = Figure(figsize=(5.5 * num_columns, 3.6 * num_rows), layout="constrained")
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(num_rows, num_columns, number)
        for name, (steps, values) in panel.points.items():
            if panel.is_loss:
                axes.plot(steps, smooth(values), label=label_of(name), linewidth=1.2)
            else:
                style: dict[str, Any] = {"marker": "o"}
                if name.startswith("lead."):  # what a run is compared with is grey
                    style = {"color": "#666666", "linestyle": "--", "marker": ""}
                elif name.endswith("macro_f1"):  # it may lie on accuracy
                    style["linestyle"] = ":"
                axes.plot(steps, values, label=label_of(name), markersize=3, **style)
        axes.set_title(panel.title)
        axes.set_xlabel("step")
        axes.set_ylabel(panel.unit)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def make_panels(log: Sequence[LogLine]) -> list[Panel]:
    """A panel of losses, and for each source one of ROUGE and one of shares and losses."""
    panels = []
    if losses := loss_points(log):
        unit = "nats; of candidates: ROUGE squared" if "candidate_loss" in losses else "nats"
        panels.append(Panel("training losses", unit, losses, is_loss=True))
    for source, measures in measure_points(log).items():
        percent: dict[str, Points] = {}
        shares: dict[str, Points] = {}  # and losses
        for name, points in measures.items():
            group = percent if ".rouge_" in name else shares
            group[name] = points
        if percent:
            panels.append(Panel(f"{source}: ROUGE", "F1 in percent", percent))
        if shares:
            panels.append(Panel(f"{source}: shares and losses", "share, or nats", shares))
    return panels


def label_of(name: str) -> str:
    """`rouge.rouge_1` and `sentiment.macro_f1` as people write them."""
    label = name.replace("rouge.", "").replace("lead.", "LEAD ")
    label = label.replace("rouge_lsum", "ROUGE-Lsum").replace("rouge_", "ROUGE-")
    return label.replace("macro_f1", "macro-F1").replace("_", " ").replace(".", " ")


def smooth(values: Sequence[float]) -> list[float]:
    """Mean over the last steps, a small share of all: single batches differ by chance."""
    width = max(1, round(_SMOOTHED_SHARE * len(values)))
    means = []
    for stop in range(1, len(values) + 1):
        window = values[max(0, stop - width) : stop]  # shorter at the start
        means.append(sum(window) / len(window))
    return means
