"""Trends and alarms for the terminal."""

from datetime import date

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from bertsum.trends.alarms import Kind, Measure
from bertsum.trends.series import Group, Series
from bertsum.trends.trends import AlarmValues, Trends, TrendsValues, group_order
from jobs.terminal.console import console
from jobs.terminal.exit_codes import is_unicode

_MOST_ALARMS = 20
_MOST_GROUPS = 12
_SPARK_WEEKS = 26
_SPARKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_PLAIN_SPARKS = "_.-~=+*#"


def show_trends(trends: Trends, values: TrendsValues) -> None:
    """Print what was counted, the groups with their trends, and the newest alarms."""
    counted = trends.counted
    missing = f", {values['missing_days']:,} days without rows" if values["missing_days"] else ""
    console.print(
        f"{values['output']}: {values['rows']:,} rows, {values['days']:,} days from "
        f"{values['first_day']} to {values['last_day']}{missing}",
        soft_wrap=True,
    )
    console.print(f"{counted.num_read:,} files read, {counted.num_kept:,} counted before")
    if counted.num_unpublished:
        console.print(f"{counted.num_unpublished:,} partitions are not complete and left out")
    if counted.without_day:
        console.print(f"{counted.without_day:,} rows have no day and are left out")
    console.print(_group_table(trends, values))
    if trends.alarms:
        console.print(_alarm_table(values))
    num_new = len(trends.new_alarms)
    console.print(
        f"{num_new:,} new alarm(s) since {values['new_since']}, {len(trends.alarms):,} in all; "
        f"{values['groups_watched']:,} groups watched, at most {values['false_alarms']:g} false "
        "alarm(s) a month accepted"
    )


def _group_table(trends: Trends, values: TrendsValues) -> Table:
    label = values["label"]
    weeks = min(_SPARK_WEEKS, -(-len(trends.series.days) // 7))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("group", overflow="fold")
    for name in ("rows", label, f"{label}, last 7 days"):
        table.add_column(name, justify="right")
    table.add_column(f"{label} by week, last {weeks}", no_wrap=True)
    table.add_column("alarms", justify="right")
    for group, index in list(zip(values["groups"], group_order(trends), strict=True))[
        :_MOST_GROUPS
    ]:
        table.add_row(
            str(Group(group["column"], group["group"])),
            f"{group['rows']:,}",
            _percent(group["share"]),
            _percent(group["recent_share"]),
            sparkline(trends.series, index, trends.config.label),
            f"{group['alarms']:,}" if group["alarms"] else "-",
        )
    if (others := len(values["groups"]) - _MOST_GROUPS) > 0:
        table.caption = f"{others:,} more groups: --html, --json"
    return table


def sparkline(series: Series, index: int, label: str) -> str:
    """A character a week for the share of a sentiment, from its least to its most; blank: no rows.

    The last week ends with the last day.
    """
    marks = _SPARKS if is_unicode(console.encoding) else _PLAIN_SPARKS
    shares: list[float | None] = []
    judged, labelled = series.judged[index], series.labelled(label)[index]
    ages = np.array([(series.days[-1] - day).days // 7 for day in series.days])
    for age in range(min(_SPARK_WEEKS, int(ages[0]) + 1) - 1, -1, -1):
        rows = judged[ages == age].sum()
        shares.append(float(labelled[ages == age].sum() / rows) if rows else None)
    known = [share for share in shares if share is not None]
    if not known:
        return ""
    low, extent = min(known), max(known) - min(known)
    line = ""
    for share in shares:
        if share is None:
            line += " "
        else:
            line += marks[round((share - low) / extent * (len(marks) - 1)) if extent else 0]
    return line


def _alarm_table(values: TrendsValues) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), title="Alarms", title_justify="left")
    table.add_column("day", no_wrap=True)
    table.add_column("group", overflow="fold")
    table.add_column("what", no_wrap=True)
    for name in ("value", "usual", "z"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("began", no_wrap=True)
    for alarm in values["alarms"][:_MOST_ALARMS]:
        mark = " (new)" if alarm["is_new"] else ""
        began = date.fromisoformat(alarm["begin"])
        days = (date.fromisoformat(alarm["last_day"]) - began).days + 1
        table.add_row(
            alarm["day"] + mark,
            str(Group(alarm["column"], alarm["group"])),
            what(alarm, values["label"]),
            _amount(alarm, alarm["value"]),
            _amount(alarm, alarm["usual"]),
            f"{alarm['z']:+.1f}",
            f"{began}, {days} days" if days > 1 else str(began),
        )
    if (others := len(values["alarms"]) - _MOST_ALARMS) > 0:
        table.caption = f"{others:,} earlier ones: --html, --json"
    return table


def what(alarm: AlarmValues, label: str) -> str:
    """`negative share up, a change`."""
    measure = f"{label} share" if alarm["measure"] == Measure.SHARE else "volume"
    kind = ", a change" if alarm["kind"] == Kind.CHANGE else ""
    return f"{measure} {alarm['direction']}{kind}"


def _amount(alarm: AlarmValues, number: float) -> str:
    return _percent(number) if alarm["measure"] == Measure.SHARE else f"{number:,.0f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
