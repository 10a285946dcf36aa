"""The pictures of an evaluation, as PNG files in memory."""

import io
from typing import TYPE_CHECKING

from bertsum.errors import ConfigError
from bertsum.evaluation.report import ROUGE_NAMES, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LABELS = 50  # of a confusion matrix that is drawn: a label takes 110 to 130 points each way
BLUE, RED = "#4878a8", "#b04030"  # red: what the others are compared with
_TITLES = {"rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_lsum": "ROUGE-Lsum"}


def draw(report: Report) -> dict[str, bytes]:
    """PNG files by name. Raises ConfigError where matplotlib is missing."""
    files = {}
    if report["rouge"]:
        files["rouge.png"] = _rouge(report["rouge"])
    heads = {"sentiment": "", "topic": "topic_", "words": "words_", "targets": "targets_"}
    for head, prefix in heads.items():
        for number, (model, values) in enumerate(report[head].items()):
            ending = f"_{number + 1}" if number else ""  # confusion.png, confusion_2.png, ...
            if len(values["labels"]) <= _MOST_LABELS:
                files[f"{prefix}confusion{ending}.png"] = _confusion(f"{head} by {model}", values)
            if "calibration" in values:
                files[f"{prefix}calibration{ending}.png"] = _calibration(
                    f"{head} by {model}", values
                )
    return files


def check_installed() -> None:
    """Raise ConfigError where matplotlib is missing: better known before the work than after it."""
    make_figure(1, 1)


def make_figure(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple["Figure", list["Axes"]]:
    """A figure of `width` x `height` inches, and its axes, row after row.

    Raises ConfigError where matplotlib is missing.
    """
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure  # without pyplot: no window system, no state
    except ImportError as error:
        raise ConfigError("the plots need matplotlib: pip install 'bertsum[evaluate]'") from error
    rcParams["text.parse_math"] = (
        False  # names and labels may have dollar signs, and are no formulas
    )
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def as_png(figure: "Figure") -> bytes:
    """The figure as a file in memory."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def _rouge(rouge: Report) -> bytes:
    """A bar for each system and measure with its interval, and a line at the lead."""
    systems = list(rouge["systems"])
    num_models = systems.index(rouge["lead"])  # they come first
    colors = [BLUE] * num_models + ["#8a8f96"] * (len(systems) - num_models)
    figure, axes = make_figure(11, 1.2 + 0.38 * len(systems), 3)
    for axis, name in zip(axes, ROUGE_NAMES, strict=True):
        values = [rouge["systems"][system][name] for system in systems]
        means = [value["mean"] for value in values]
        # Where all rows are equal, rounding makes lengths of -1e-15, which matplotlib refuses.
        below = [max(0.0, value["mean"] - value["low"]) for value in values]
        above = [max(0.0, value["high"] - value["mean"]) for value in values]
        bars = {"capsize": 3, "ecolor": "#333333"}
        axis.barh(systems, means, xerr=[below, above], color=colors, error_kw=bars)
        for y, mean in enumerate(means):
            axis.text(0.4, y, f"{mean:.1f}", va="center", color="white", fontsize=9)
        axis.axvline(
            means[num_models],
            color=RED,
            linestyle="--",
            linewidth=1,
        )
        axis.set_title(_TITLES[name])
        axis.invert_yaxis()
        axis.label_outer()
    figure.supxlabel(
        f"F-measure in percent, {rouge['rows']:,} documents, 95 % intervals; "
        f"dashed: {rouge['lead']}"
    )
    return as_png(figure)


def _confusion(model: str, values: Report) -> bytes:
    """A square for each pair of labels: its rows, and their share of the rows with that label."""
    labels, counts = values["labels"], values["confusion"]
    figure, (axis,) = make_figure(1.6 + 1.1 * len(labels), 1.4 + 0.9 * len(labels))
    shares = []  # of the rows with a label: each line of the matrix sums to 1
    for row in counts:
        total = max(sum(row), 1)
        shares.append([count / total for count in row])
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            color = "white" if shares[y][x] > 0.5 else "black"
            axis.text(x, y, f"{count:,}\n{shares[y][x]:.0%}", ha="center", va="center", color=color)
    axis.set_xticks(range(len(labels)), labels)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_xlabel("predicted")
    axis.set_ylabel("labelled")
    axis.set_title(model, fontsize=10)
    return as_png(figure)


def _calibration(model: str, values: Report) -> bytes:
    """A dot for each bin of confidences; on the diagonal the model is as sure as it is right."""
    calibration = values["calibration"]
    figure, (axis,) = make_figure(4.6, 4.6)
    axis.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1)
    sizes = [20 + 380 * count / values["rows"] for count in calibration["counts"]]
    axis.scatter(
        calibration["confidences"], calibration["accuracies"], s=sizes, color=BLUE, alpha=0.8
    )
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("probability of the predicted label; size of a dot: rows")
    axis.set_ylabel("accuracy")
    axis.set_title(f"{model}: calibration error {calibration['error']:.3f}", fontsize=10)
    return as_png(figure)
