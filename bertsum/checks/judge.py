"""Is a partition of results like those of the days before it, and within fixed limits?

    limits       a statistic lies outside of what is allowed
    same model   the model is another one than the last published day's
    comparison   a statistic departs from the days before, by more than chance and by much

Both conditions of the comparison must hold: of a million rows, a difference of a thousandth is no
chance, and nobody cares; of ten rows, one of 30 points may be chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from bertsum.checks.measures import (
    Measure,
    measure_in,
    measures_of,
    names_in,
    with_usual_spread,
)
from bertsum.checks.profile import Profile
from bertsum.output_config import ChecksConfig
from bertsum.robust import fit, threshold

LIMITS: Mapping[str, tuple[float | None, float | None]] = {
    "rows": (1, None),
    "error": (None, 0.05),
    "unknown_language": (None, 0.5),
    "markup": (None, 0.5),
}
"""Least and most of statistics, where `output.checks.limits` says nothing else."""

_SHARES = ("error", "empty", "not_text", "unknown_language", "truncated", "markup", "letters")
_COUNTS = ("rows", "tokens", "sentences", "characters")
_MEANINGS = {
    "rows": "rows",
    "error": "rows with status error",
    "empty": "rows with status empty",
    "not_text": "rows with status not_text",
    "unknown_language": "rows with status unknown_language",
    "truncated": "documents that were not read to their end",
    "markup": "summaries with HTML in them",
    "tokens": "tokens of a typical document",
    "sentences": "sentences of a typical document",
    "characters": "characters of a typical summary",
    "letters": "letters among the characters of summaries",
    "position": "place of chosen sentences (0 begin, 1 end)",
    "scores": "mean probability of chosen sentences",
    "confidence": "mean probability of the sentiment",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledDay:
    """A day's partition: its day, what its rows are like, and the digest and name of its model."""

    day: date | None
    profile: Profile
    digest: str
    model_id: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a partition: the statistic, or `model`, and a sentence for people."""

    statistic: str
    reason: str


def judge(
    tonight: ProfiledDay,
    history: Sequence[ProfiledDay],
    rules: ChecksConfig,
    *,
    is_replacing: bool = False,
) -> list[Finding]:
    """What is wrong with a night; nothing, where the list is empty.

    - `history`: published nights before it, by day
    - `is_replacing`: another model than theirs is meant; it is compared with its own nights alone
    """
    measures = measures_of(tonight.profile)
    findings = _beyond_limits(tonight, measures, rules)
    if not history:
        return findings
    last = history[-1]
    if tonight.digest != last.digest and rules.same_model and not is_replacing:
        # two checkpoints at one path have the same name
        content = ", with other content" if tonight.model_id == last.model_id else ""
        reason = (
            f"model {tonight.model_id}{content}; {last.day}, the last published day before, is of "
            f"model {last.model_id}"
        )
        findings.append(Finding("model", reason))
    digest = tonight.digest if is_replacing else last.digest
    compared = [night for night in history if night.digest == digest]
    if tonight.day is not None and len(compared) >= rules.min_history:
        findings += _departures(tonight, measures, compared, rules)
    return findings


def _beyond_limits(
    tonight: ProfiledDay, measures: Mapping[str, Measure], rules: ChecksConfig
) -> list[Finding]:
    findings: list[Finding] = []
    for name, (least, most) in {**LIMITS, **rules.limits}.items():
        measure = measure_in(tonight.profile, name, measures)
        if measure is None:  # no row has a value of this kind
            continue
        if least is not None and measure.shown < least:
            bound = f"the least is {_in_units(name, least)}"
        elif most is not None and measure.shown > most:
            bound = f"the most is {_in_units(name, most)}"
        else:
            continue
        findings.append(
            Finding(name, f"{_meaning(name)}: {_in_units(name, measure.shown)}; {bound}")
        )
    return findings


def _departures(
    tonight: ProfiledDay,
    measures: Mapping[str, Measure],
    history: Sequence[ProfiledDay],
    rules: ChecksConfig,
) -> list[Finding]:
    """Statistics that are unlike those of the history, the most unlike first."""
    of_history = [measures_of(night.profile) for night in history]
    before: dict[str, list[Measure | None]] = {}
    present: dict[str, Measure] = {}
    for name in names_in([measures, *of_history]):
        measure = measure_in(tonight.profile, name, measures)
        if measure is None:
            continue
        series: list[Measure | None] = []
        for night, known in zip(history, of_history, strict=True):
            series.append(measure_in(night.profile, name, known))
        known_days = [entry for entry in series if entry is not None]
        present[name] = with_usual_spread(measure, known_days)
        before[name] = [entry and with_usual_spread(entry, known_days) for entry in series]
    days = [night.day for night in [*history, tonight] if night.day is not None]
    weekdays = np.array([day.weekday() for day in days], np.int64)
    baseline = fit(*_arrays(list(before.values()), len(history)), weekdays[:-1])
    values, variances = _arrays([[measure] for measure in present.values()], 1)
    scores = baseline.scores(values, variances, weekdays[-1:])[:, 0]
    centres = baseline.expected(weekdays[-1:])[:, 0]
    ranked: list[tuple[float, Finding]] = []
    for index, (name, measure) in enumerate(present.items()):
        known_days = [entry for entry in before[name] if entry is not None]
        if len(known_days) < rules.min_history:
            continue
        # the chance of a false hold is shared by all statistics
        limit = threshold(rules.false_holds / len(present), len(known_days))
        # rows that are all alike, as those of cut texts, say little of what differences are usual
        step = float(np.median([entry.step for entry in known_days]))
        is_large = abs(measure.difference(centres[index])) >= step
        if abs(scores[index]) > limit and is_large:
            finding = Finding(name, _departure(name, measure, known_days))
            ranked.append((abs(scores[index]), finding))
    ranked.sort(key=lambda entry: -entry[0])
    return [finding for _, finding in ranked]


def _arrays(
    series: Sequence[Sequence[Measure | None]], num_days: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values and variances [G, days]; NaN for a day that has no such statistic."""
    values, variances = np.full((len(series), num_days), np.nan), np.ones((len(series), num_days))
    for row, measures in enumerate(series):
        for column, measure in enumerate(measures):
            if measure is not None:
                values[row, column], variances[row, column] = measure.value, measure.variance
    return values, variances


def _departure(name: str, measure: Measure, history: Sequence[Measure]) -> str:
    shown = [entry.shown for entry in history]
    usual, low, high = (_in_units(name, float(f(shown))) for f in (np.median, np.min, np.max))
    return (
        f"{_meaning(name)}: {_in_units(name, measure.shown)}; {usual} is usual ({low} to {high} on "
        f"{len(history)} days)"
    )


def _meaning(name: str) -> str:
    family, _, label = name.partition(".")
    return f"rows with {family} {label}" if label else _MEANINGS[name]


def _in_units(name: str, value: float) -> str:
    if name in _COUNTS:
        return f"{value:,.0f}" if name == "rows" or value >= 10 else f"{value:.1f}"
    if name in _SHARES or "." in name:
        digits = 1 if 0 < value < 0.1 else 0
        return f"{100 * value:.{digits}f}%"
    return f"{value:.2f}" if math.isfinite(value) else "none"
