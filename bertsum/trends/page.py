"""Trends and alarms as one HTML page that loads nothing (`bertsum.reports.page`)."""

from typing import Any

import numpy as np

from bertsum.reports.page import page
from bertsum.robust import Values
from bertsum.trends.alarms import Measure
from bertsum.trends.pictures import measured
from bertsum.trends.trends import Trends, TrendsValues, group_order

_SCRIPTS = ("elements.js", "frame.js", "trends.js")
_MOST_GROUPS = 60  # with their days; 60 groups of three years are 4 MB
_SHARE_DIGITS, _ROW_DIGITS = 4, 1


def render_trends(trends: Trends, values: TrendsValues) -> str:
    """The page. Equal trends give equal pages; it can be encoded as UTF-8."""
    first = trends.series.days[0]
    order = group_order(trends)[:_MOST_GROUPS]
    groups: list[dict[str, Any]] = [dict(group) for group in values["groups"]]
    for place, group in enumerate(groups[:_MOST_GROUPS]):
        group["index"] = place
    shown = {
        **values,
        "groups": groups,
        "offsets": [(day - first).days for day in trends.series.days],
        "charts": [_chart(trends, index) for index in order],
    }
    num_new = len(trends.new_alarms)
    summary = (
        f"{num_new:,} new alarm(s) since {values['new_since']}, {len(values['alarms']):,} in all. "
        f"{values['rows']:,} rows from {values['first_day']} to {values['last_day']}."
    )
    return page(f"Trends: {values['output']}", summary, shown, _SCRIPTS, skip="main")


def _chart(trends: Trends, index: int) -> dict[str, Any]:
    """What was counted by day, and what is usual; None where there is nothing to say."""
    series = trends.series
    chart: dict[str, Any] = {
        "rows": series.rows[index].tolist(),
        "judged": series.judged[index].tolist(),
        "labelled": series.labelled(trends.config.label)[index].tolist(),
        "shares": _numbers(measured(trends, index, Measure.SHARE), _SHARE_DIGITS),
    }
    for measure, digits in ((Measure.VOLUME, _ROW_DIGITS), (Measure.SHARE, _SHARE_DIGITS)):
        scores = trends.detection.scores[measure]
        # a share that cannot be judged has no range that says something
        is_known = ~np.isnan(scores.z[index]) | (measure == Measure.VOLUME)
        chart[measure.value] = {
            name: _numbers(np.where(is_known, limits[index], np.nan), digits)
            for name, limits in (("low", scores.low), ("high", scores.high))
        }
    return chart


def _numbers(values: Values, digits: int) -> list[float | None]:
    """JSON has no NaN and no infinity."""
    return [round(value, digits) if np.isfinite(value) else None for value in values.tolist()]
