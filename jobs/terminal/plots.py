"""The picture of a search, as a PNG file in memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bertsum.evaluation.plots import BLUE, RED, as_png, make_figure
from bertsum.tuning.trials import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_CHOICES = 6  # fewer different numbers than this were given as a list, not as a range


def draw_trials(keys: Sequence[str], trials: Sequence[Trial]) -> bytes:
    """PNG: the scores of each trial over its run, and its best score over each key.

    The first trial is the best of them.
    """
    # One plot more than keys: 2 and 4 of them fill rows of two, others leave least empty in threes.
    columns = 2 if len(keys) in (1, 3) else 3
    rows = -(-(1 + len(keys)) // columns)
    figure, axes = make_figure(4.6 * columns, 3.8 * rows, columns, rows)
    scored = [trial for trial in trials if trial.scores]
    for i, trial in reversed(list(enumerate(scored))):  # the best one last, so that it is on top
        shares = [100 * score.share for score in trial.scores]
        scores = [score.score for score in trial.scores]
        color, width, label = BLUE, 1.0, None
        if i == 0:
            color, width, label = RED, 2.2, f"best: trial {trial.number}"
        size = 3 * width**0.5
        axes[0].plot(
            shares, scores, color=color, linewidth=width, marker="o", markersize=size, label=label
        )
    axes[0].set_xlabel("share of the run in percent")
    axes[0].set_ylabel("score")
    axes[0].legend(fontsize="small")
    axes[0].grid(alpha=0.3)
    for axis, key in zip(axes[1:], keys, strict=False):
        _score_by_value(axis, key, scored)
    for axis in axes[1 + len(keys) :]:
        axis.set_axis_off()
    return as_png(figure)


def _score_by_value(axis: "Axes", key: str, trials: Sequence[Trial]) -> None:
    """The best score of each trial over its value of `key`; the first trial is the best."""
    values = [trial.values[key] for trial in trials]
    scores = [trial.best.score for trial in trials if trial.best]
    colors = [RED, *[BLUE] * (len(trials) - 1)]
    # True and False are numbers in Python, but no amounts.
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        texts = [str(value) for value in values]
        labels = sorted(set(texts))
        positions: list[float] = [labels.index(text) for text in texts]
    else:
        choices = sorted(set(numbers))
        labels = [f"{choice:g}" for choice in choices]
        positions = [choices.index(number) for number in numbers]
    if len(numbers) < len(values) or len(labels) < min(len(trials), _MOST_CHOICES):
        # Side by side, in the order of the choices and not in that of the trials.
        axis.set_xticks(range(len(labels)), labels)
        axis.set_xlim(-0.5, len(labels) - 0.5)
    else:
        positions = list(numbers)
        if min(numbers) > 0 and max(numbers) > 8 * min(numbers):
            axis.set_xscale("log")  # a range like that of a learning rate
        else:
            axis.locator_params(axis="x", nbins=5)
    axis.set_axisbelow(True)
    axis.scatter(positions, scores, c=colors)
    axis.set_xlabel(key)
    axis.set_ylabel("best score")
    axis.grid(alpha=0.3)
