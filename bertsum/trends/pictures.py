"""Trends as a PNG file: for each group, rows a day and the share of a sentiment, with alarms."""

import io
import warnings
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from bertsum.errors import ConfigError
from bertsum.robust import Values
from bertsum.trends.alarms import Alarm, Kind, Measure
from bertsum.trends.trends import Trends, group_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_GROUPS = 8
_LINE, _BAND, _ALARM, _CHANGE = "#4878a8", "#c9d6e4", "#b04030", "#b07a30"
_TITLE_CHARACTERS = 60


def check_installed() -> None:
    """Raise ConfigError where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError("--png needs matplotlib: pip install 'bertsum[plots]'") from error


def draw_trends(trends: Trends) -> bytes:
    """PNG of all rows and of the groups with the newest alarms, else the largest: two plots each.

    The shaded area is what is usual: a single day outside of it is an alarm.
    """
    from matplotlib import rcParams
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    rcParams["text.parse_math"] = False  # names of groups may have dollar signs
    chosen = group_order(trends)[:_MOST_GROUPS]
    figure = Figure(figsize=(13, 2.6 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), 2, squeeze=False, sharex=True)
    for (volume, share), index in zip(grid, chosen, strict=True):
        name = _title(str(trends.series.groups[index]))
        alarms = [a for a in trends.alarms if a.group == trends.series.groups[index]]
        _plot(volume, trends, index, Measure.VOLUME, alarms)
        _plot(share, trends, index, Measure.SHARE, alarms)
        volume.set_title(f"{name}: rows a day", fontsize=10, loc="left")
        share.set_title(f"{name}: {trends.config.label} share", fontsize=10, loc="left")
        share.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        for axis in (volume, share):
            locator = AutoDateLocator()  # type: ignore[no-untyped-call]
            axis.xaxis.set_major_locator(locator)
            formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
            axis.xaxis.set_major_formatter(formatter)
    figure.supxlabel(
        "dots: alarms of one day; bars: days of another level; shaded: usual range", fontsize=9
    )
    stream = io.BytesIO()
    with warnings.catch_warnings():  # its font lacks characters of most scripts, and shows a box
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _plot(axis: "Axes", trends: Trends, index: int, measure: Measure, alarms: list[Alarm]) -> None:
    series, scores = trends.series, trends.detection.scores[measure]
    days = np.array(series.days, "datetime64[D]").astype(
        np.float64
    )  # since 1970, as matplotlib has
    values = measured(trends, index, measure)
    axis.fill_between(days, scores.low[index], scores.high[index], color=_BAND, linewidth=0)
    axis.plot(days, values, color=_LINE, linewidth=0.8)
    for alarm in alarms:
        if alarm.measure != measure:
            continue
        if alarm.kind == Kind.CHANGE:
            axis.axvspan(_number(alarm.begin), _number(alarm.last_day), color=_CHANGE, alpha=0.3)
        else:
            axis.plot([_number(alarm.day)], [alarm.value], "o", color=_ALARM, markersize=5)
    known = values[~np.isnan(values)]
    if len(known):  # a wide range of a small group shall not flatten the line
        axis.set_ylim(0, max(float(known.max()) * 1.15, 1e-3))
    axis.grid(alpha=0.3)


def _number(day: date) -> float:
    """Days since 1970, as matplotlib counts them."""
    return float((day - date(1970, 1, 1)).days)


def measured(trends: Trends, index: int, measure: Measure) -> Values:
    """Rows [D] of a group, or its shares [D], NaN on days with too few rows."""
    if measure == Measure.VOLUME:
        return np.asarray(trends.series.rows[index], np.float64)
    judged = trends.series.judged[index]
    labelled = trends.series.labelled(trends.config.label)[index]
    is_big = judged >= trends.config.least_rows
    return np.asarray(np.where(is_big, labelled / np.maximum(judged, 1), np.nan), np.float64)


def _title(name: str) -> str:
    """One line without characters that fonts lack or that break it."""
    plain = "".join(character if character.isprintable() else "\ufffd" for character in name)
    if len(plain) <= _TITLE_CHARACTERS:
        return plain
    return plain[: _TITLE_CHARACTERS - 1] + "\u2026"
