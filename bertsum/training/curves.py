"""Curves of a run as a picture: losses by step, and measures by validation."""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from bertsum.training.tracking import numbers

# what is worth a curve, of all that is measured
_MEASURES = (
    "rouge.rouge_1",
    "rouge.rouge_2",
    "rouge.rouge_lsum",
    "lead.rouge_1",
    "accuracy",
    "macro_f1",
    "_loss",
)
_SMOOTHED_SHARE = 0.02

Points = tuple[list[int], list[float]]


def can_draw() -> bool:
    """Whether the package for it, an extra, is installed."""
    return find_spec("matplotlib") is not None


def loss_points(log: Sequence[Mapping[str, Any]]) -> dict[str, Points]:
    """Steps and losses of each head that has any."""
    found: dict[str, Points] = defaultdict(lambda: ([], []))
    for line in log:
        for name, value in numbers(line):
            if (
                name.endswith("_loss") and value and "validation" not in line
            ):  # 0: no label of it in this step
                found[name][0].append(line["step"])
                found[name][1].append(value)
    return dict(found)


def measure_points(log: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Points]]:
    """Steps and values of the measures worth a curve, by source."""
    found: dict[str, dict[str, Points]] = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for line in log:
        for source, result in line.get("validation", {}).items():
            for name, value in numbers(result):
                if name.endswith(_MEASURES):
                    found[source][name][0].append(line["step"])
                    found[source][name][1].append(value)
    return {source: dict(measures) for source, measures in found.items()}


def draw_curves(log: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of a run's log: one panel of losses, and for each source one of ROUGE and one of shares and losses."""
    from matplotlib.figure import Figure

    losses = loss_points(log)
    unit = "nats; of candidates: ROUGE squared" if "candidate_loss" in losses else "nats"
    panels: list[tuple[str, str, dict[str, Points]]] = (
        [("training losses", unit, losses)] if losses else []
    )
    for source, measures in measure_points(log).items():
        percent = {name: points for name, points in measures.items() if ".rouge_" in name}
        rest = {name: points for name, points in measures.items() if name not in percent}
        panels += [(f"{source}: ROUGE", "F1 in percent", percent)] if percent else []
        panels += [(f"{source}: shares and losses", "share, or nats", rest)] if rest else []
    columns = 2 if len(panels) == 4 else min(3, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(5.5 * columns, 3.6 * rows), layout="constrained")
    for number, (title, unit, lines) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, number)
        for name, (steps, values) in lines.items():
            if title == "training losses":
                axes.plot(steps, _smooth(values), label=name.replace("_", " "), linewidth=1.2)
            else:
                axes.plot(
                    steps,
                    values,
                    label=_readable(name),
                    markersize=3,
                    **{"marker": "o"} | _style(name),
                )
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _readable(name: str) -> str:
    """`rouge.rouge_1` and `sentiment.macro_f1` as people write them."""
    measure = (
        name.replace("rouge.", "").replace("lead.", "LEAD ").replace("rouge_lsum", "ROUGE-Lsum")
    )
    return (
        measure.replace("rouge_", "ROUGE-")
        .replace("macro_f1", "macro-F1")
        .replace("_", " ")
        .replace(".", " ")
    )


def _style(name: str) -> dict[str, Any]:
    """What a run is compared with stands back, and lines that lie on each other can both be seen."""
    if name.startswith("lead."):
        return {"color": "#666666", "linestyle": "--", "marker": ""}
    return {"linestyle": ":"} if name.endswith("macro_f1") else {}


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean over the last steps, a small share of all: single batches differ by chance."""
    width = max(1, round(_SMOOTHED_SHARE * len(values)))
    return [
        sum(values[max(0, i + 1 - width) : i + 1]) / min(i + 1, width) for i in range(len(values))
    ]
