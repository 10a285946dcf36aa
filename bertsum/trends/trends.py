"""Trends and alarms of an OUTPUT, and the same as plain values for JSON, page and webhook."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypedDict

import numpy as np

from bertsum.errors import ConfigError
from bertsum.masking import mask
from bertsum.reports.result import Result
from bertsum.trends.alarms import Alarm, Detection, Measure, Rules, find_alarms
from bertsum.trends.config import TrendsConfig
from bertsum.trends.series import ALL_ROWS, Series, make_series
from bertsum.trends.state import Counted, count_result

_RECENT_DAYS = 7


class AlarmValues(TypedDict):
    """An alarm as JSON. `value`, `usual`: rows a day, or a share in [0, 1]."""

    column: str
    group: str
    measure: str
    kind: str
    direction: str
    day: str
    last_day: str
    begin: str
    value: float
    usual: float
    z: float
    threshold: float
    rows: int
    is_new: bool
    text: str


class GroupValues(TypedDict):
    """A group as JSON: rows and shares of all days, and of the last seven."""

    column: str
    group: str
    rows: int
    labels: dict[str, int]
    share: float | None
    recent_rows: int
    recent_share: float | None
    alarms: int


class TrendsValues(TypedDict):
    """What `--json` prints. `false_alarms`: accepted in a month, of all groups together."""

    output: str
    label: str
    first_day: str
    last_day: str
    days: int
    missing_days: int
    rows: int
    without_day: int
    unpublished_partitions: int
    new_since: str
    groups_watched: int
    false_alarms: float
    alarms: list[AlarmValues]
    groups: list[GroupValues]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trends:
    """Series of all groups with their alarms. Alarms of `since` or later are new."""

    output: str
    config: TrendsConfig
    counted: Counted
    series: Series
    detection: Detection
    since: date

    @property
    def alarms(self) -> Sequence[Alarm]:
        return self.detection.alarms

    @property
    def new_alarms(self) -> list[Alarm]:
        return [alarm for alarm in self.alarms if alarm.day >= self.since]


def make_trends(
    result: Result,
    config: TrendsConfig,
    *,
    until: date | None = None,
    since: date | None = None,
    keep_state: bool = True,
) -> Trends:
    """Count the published rows and look for alarms.

    - `until`: the last day that is looked at; None: the last one that there is
    - `since`: the first day whose alarms are new; None: the last day
    - `keep_state`: see `count_result`

    Raises ConfigError where there is no day to look at.
    """
    counted = count_result(result, config, keep_state=keep_state)
    series = make_series(counted.counts, config.least_rows)
    if until is not None:
        series = series.until(until)
    if not series.days:
        raise ConfigError(
            f"{result.output} has no row with a day"
            + (f" up to {until}" if until is not None else "")
        )
    rules = Rules(
        label=config.label,
        false_alarms=config.false_alarms,
        least_rows=config.least_rows,
        window_days=config.window_days,
        least_days=config.least_days,
    )
    if config.label not in series.labels:
        known = ", ".join(series.labels) or "none"
        raise ConfigError(
            f"trends.label {config.label!r}: no row of {result.output} has this sentiment; "
            f"there are: {known}"
        )
    return Trends(
        output=str(result.output),
        config=config,
        counted=counted,
        series=series,
        detection=find_alarms(series, rules),
        since=since or series.days[-1],
    )


def trends_values(trends: Trends) -> TrendsValues:
    """All of it but the series themselves, with credentials masked."""
    series = trends.series
    first, last = series.days[0], series.days[-1]
    return {
        "output": trends.output,
        "label": mask(trends.config.label),
        "first_day": first.isoformat(),
        "last_day": last.isoformat(),
        "days": len(series.days),
        "missing_days": (last - first).days + 1 - len(series.days),
        "rows": int(series.rows[0].sum()),
        "without_day": trends.counted.without_day,
        "unpublished_partitions": trends.counted.num_unpublished,
        "new_since": trends.since.isoformat(),
        "groups_watched": int(trends.detection.num_watched[-1]),
        "false_alarms": trends.config.false_alarms,
        "alarms": [alarm_values(alarm, trends) for alarm in trends.alarms],
        "groups": group_values(trends),
    }


def alarm_values(alarm: Alarm, trends: Trends) -> AlarmValues:
    """An alarm as JSON has it."""
    return {
        "column": mask(alarm.group.column),
        "group": mask(alarm.group.value),
        "measure": alarm.measure.value,
        "kind": alarm.kind.value,
        "direction": "up" if alarm.is_up else "down",
        "day": alarm.day.isoformat(),
        "last_day": alarm.last_day.isoformat(),
        "begin": alarm.begin.isoformat(),
        "value": round(alarm.value, 4),
        "usual": round(alarm.usual, 4),
        "z": round(alarm.z, 2),
        "threshold": round(alarm.threshold, 2),
        "rows": alarm.rows,
        "is_new": alarm.day >= trends.since,
        "text": alarm_text(alarm, trends.config.label),
    }


def alarm_text(alarm: Alarm, label: str) -> str:
    """One sentence for people."""
    if alarm.measure == Measure.VOLUME:
        what = f"{alarm.value:,.0f} rows a day, usual {alarm.usual:,.0f}"
    else:
        what = f"{alarm.value:.1%} {label}, usual {alarm.usual:.1%} (of {alarm.rows:,} rows)"
    when = f"on {alarm.day}"
    if alarm.begin != alarm.day:
        when = f"from {alarm.begin} to {alarm.day}"
    return mask(f"{alarm.group}: {what}, {when}")


def group_order(trends: Trends) -> list[int]:
    """Indices of the groups: all rows, those with the newest alarms, then the largest."""
    series = trends.series
    newest = dict.fromkeys(series.groups, date.min)
    for alarm in trends.alarms:
        newest[alarm.group] = max(newest[alarm.group], alarm.day)

    def rank(index: int) -> tuple[bool, int, int]:
        group = series.groups[index]
        return group != ALL_ROWS, -newest[group].toordinal(), -int(series.rows[index].sum())

    return sorted(range(len(series.groups)), key=rank)


def group_values(trends: Trends) -> list[GroupValues]:
    """Groups as JSON has them, in the order of `group_order`."""
    series = trends.series
    judged, labelled = series.judged, series.labelled(trends.config.label)
    num_alarms = Counter(alarm.group for alarm in trends.alarms)
    recent = slice(-_RECENT_DAYS, None)
    values: list[GroupValues] = []
    for index in group_order(trends):
        group = series.groups[index]
        labels = {mask(name): int(counts[index].sum()) for name, counts in series.labels.items()}
        values.append(
            {
                "column": mask(group.column),
                "group": mask(group.value),
                "rows": int(series.rows[index].sum()),
                "labels": labels,
                "share": _share(labelled[index].sum(), judged[index].sum()),
                "recent_rows": int(series.rows[index, recent].sum()),
                "recent_share": _share(labelled[index, recent].sum(), judged[index, recent].sum()),
                "alarms": num_alarms[group],
            }
        )
    return values


def _share(part: np.int64, total: np.int64) -> float | None:
    return round(float(part / total), 4) if total else None
