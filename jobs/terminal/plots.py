"""The pictures of an evaluation and of a search, as PNG files in memory."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from bertsum.errors import ConfigError
from bertsum.evaluation.report import ROUGE_NAMES
from bertsum.tuning.trials import Trial

_MOST_CHOICES = 6  # of numbers that come again and again and were given as a list
_MOST_LABELS = 50  # of a confusion matrix that is drawn: a label takes 110 to 130 points each way
_TITLES = {"rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_lsum": "ROUGE-Lsum"}


def draw(report: Mapping[str, Any]) -> dict[str, bytes]:
    """Files by name. Raises ConfigError where matplotlib is missing."""
    files = {}
    if report["rouge"]:
        files["rouge.png"] = _rouge(report["rouge"])
    for head, prefix in (("sentiment", ""), ("topic", "topic_"), ("words", "words_")):
        for number, (model, values) in enumerate(report[head].items()):
            ending = f"_{number + 1}" if number else ""
            if len(values["labels"]) <= _MOST_LABELS:
                files[f"{prefix}confusion{ending}.png"] = _confusion(f"{head} by {model}", values)
            if "calibration" in values:
                files[f"{prefix}calibration{ending}.png"] = _calibration(f"{head} by {model}", values)
    return files


def check_installed() -> None:
    """Better known before the work than after it."""
    _figure(1, 1)


def draw_trials(keys: Sequence[str], trials: Sequence[Trial]) -> bytes:
    """PNG: the scores of each trial over its run, and its best score over each key. The first trial is the best one."""
    columns = 2 if len(keys) in (1, 3) else 3
    rows = -(-(1 + len(keys)) // columns)
    figure, axes = _figure(4.6 * columns, 3.8 * rows, columns, rows)
    scored = [trial for trial in trials if trial.scores]
    for place, trial in reversed(list(enumerate(scored))):
        points = [[100 * score.share for score in trial.scores], [score.score for score in trial.scores]]
        color, width = ("#b04030", 2.2) if place == 0 else ("#4878a8", 1.0)
        label = f"best: trial {trial.number}" if place == 0 else None
        axes[0].plot(*points, color=color, linewidth=width, marker="o", markersize=3 * width**0.5, label=label)
    axes[0].set_xlabel("share of the run in percent")
    axes[0].set_ylabel("score")
    axes[0].legend(fontsize="small")
    axes[0].grid(alpha=0.3)
    for axis, key in zip(axes[1:], keys, strict=False):
        _score_by_value(axis, key, scored)
    for axis in axes[1 + len(keys) :]:
        axis.set_axis_off()
    return _png(figure)


def _score_by_value(axis: Any, key: str, trials: Sequence[Trial]) -> None:
    values: list[Any] = [trial.values[key] for trial in trials]
    scores = [trial.best.score for trial in trials if trial.best]
    colors = ["#b04030", *["#4878a8"] * (len(trials) - 1)]
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    choices = sorted(set(values)) if is_number else sorted(set(map(str, values)))
    if not is_number or len(choices) < min(
        len(trials), _MOST_CHOICES
    ):  # side by side; in order, not that of the trials
        axis.set_xticks(range(len(choices)), [f"{value:g}" if is_number else value for value in choices])
        values = [choices.index(value if is_number else str(value)) for value in values]
        axis.set_xlim(-0.5, len(choices) - 0.5)
    elif min(values) > 0 and max(values) > 8 * min(values):
        axis.set_xscale("log")
    else:
        axis.locator_params(axis="x", nbins=5)
    axis.set_axisbelow(True)
    axis.scatter(values, scores, c=colors)
    axis.set_xlabel(key)
    axis.set_ylabel("best score")
    axis.grid(alpha=0.3)


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    """Figure and axes, row after row."""
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure  # without pyplot: no window system, no state
    except ImportError as error:
        raise ConfigError("the plots need matplotlib: pip install 'bertsum[evaluate]'") from error
    rcParams["text.parse_math"] = False  # names and labels may have dollar signs, and are no formulas
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def _rouge(rouge: Mapping[str, Any]) -> bytes:
    systems = list(rouge["systems"])
    num_models = systems.index(rouge["lead"])  # they come first
    colors = ["#4878a8"] * num_models + ["#8a8f96"] * (len(systems) - num_models)
    figure, axes = _figure(11, 1.2 + 0.38 * len(systems), 3)
    for axis, name in zip(axes, ROUGE_NAMES, strict=True):
        values = [rouge["systems"][system][name] for system in systems]
        means = [value["mean"] for value in values]
        # where all rows are equal, rounding would make a length of -1e-15, which matplotlib refuses
        errors = [[max(0.0, v["mean"] - v["low"]) for v in values], [max(0.0, v["high"] - v["mean"]) for v in values]]
        axis.barh(systems, means, xerr=errors, color=colors, error_kw={"capsize": 3, "ecolor": "#333333"})
        for place, mean in enumerate(means):
            axis.text(0.4, place, f"{mean:.1f}", va="center", color="white", fontsize=9)
        axis.axvline(rouge["systems"][rouge["lead"]][name]["mean"], color="#b04030", linestyle="--", linewidth=1)
        axis.set_title(_TITLES[name])
        axis.invert_yaxis()
        axis.label_outer()
    figure.supxlabel(f"F-measure in percent, {rouge['rows']:,} documents, 95 % intervals; dashed: {rouge['lead']}")
    return _png(figure)


def _confusion(model: str, values: Mapping[str, Any]) -> bytes:
    labels, counts = values["labels"], values["confusion"]
    figure, (axis,) = _figure(1.6 + 1.1 * len(labels), 1.4 + 0.9 * len(labels))
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
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
    return _png(figure)


def _calibration(model: str, values: Mapping[str, Any]) -> bytes:
    found = values["calibration"]
    figure, (axis,) = _figure(4.6, 4.6)
    axis.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1)
    sizes = [20 + 380 * count / values["rows"] for count in found["counts"]]
    axis.scatter(found["confidences"], found["accuracies"], s=sizes, color="#4878a8", alpha=0.8)
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("probability of the predicted label; size of a dot: rows")
    axis.set_ylabel("accuracy")
    axis.set_title(f"{model}: calibration error {found['error']:.3f}", fontsize=10)
    return _png(figure)
