"""Which nights are held: ordinary ones hardly ever, spoiled ones for the statistic that is spoiled."""

from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np
import pytest

from bertsum.checks.judge import ProfiledDay, judge
from bertsum.checks.profile import Profile, Sums
from bertsum.output_config import ChecksConfig

RULES = ChecksConfig(action="hold")
FIRST = date(2026, 1, 1)


def sums_of(values: np.ndarray) -> Sums:
    return Sums(len(values), float(values.sum()), float((values**2).sum()))


def night(
    number: int,
    *,
    rows: int = 300,
    shares: Mapping[str, float] | None = None,
    tokens: float = 6.0,
    spread: float = 0.02,
    unknown: float = 0.01,
    model: str = "a",
) -> ProfiledDay:
    """A night of independent rows; the shares of labels and the length vary from night to night."""
    generator = np.random.default_rng(number)
    wanted = np.array(list((shares or {"negative": 0.3, "neutral": 0.5, "positive": 0.2}).values()))
    wanted = np.abs(wanted + spread * generator.standard_normal(3))
    read = int(generator.binomial(rows, 1 - unknown))
    labels = generator.multinomial(read, wanted / wanted.sum()).tolist()
    lengths = tokens + spread * generator.standard_normal() + 0.6 * generator.standard_normal(read)
    return ProfiledDay(
        day=FIRST + timedelta(days=number),
        profile=Profile(
            rows=rows,
            labels={
                "status": {"ok": read, "unknown_language": rows - read},
                "sentiment": dict(zip(("negative", "neutral", "positive"), labels, strict=True)),
            },
            numbers={
                "tokens": sums_of(lengths),
                "markup": Sums(read, 0.0, 0.0),
                "confidence": sums_of(0.8 + 0.1 * generator.standard_normal(read)),
            },
        ),
        digest=model,
        model_id=f"models/{model}",
    )


HISTORY = [night(number) for number in range(42)]


def found(
    tonight: ProfiledDay, history: list[ProfiledDay] = HISTORY, rules: ChecksConfig = RULES
) -> list[str]:
    return [finding.statistic for finding in judge(tonight, history, rules)]


def test_ordinary_nights_are_not_held_more_often_than_is_stated() -> None:
    nights = [night(number) for number in range(414)]
    held = 0
    for number in range(14, len(nights)):
        held += bool(found(nights[number], nights[max(number - 42, 0) : number]))
    # about 0.4 are expected; more than 3 have a chance of 1 in 1,000
    assert held <= 3


@pytest.mark.parametrize(
    ("changes", "statistic"),
    [
        ({"shares": {"negative": 0.7, "neutral": 0.2, "positive": 0.1}}, "sentiment.negative"),
        ({"tokens": 5.0}, "tokens"),
        ({"unknown": 0.3}, "unknown_language"),
        ({"rows": 20}, "rows"),
        ({"rows": 5000}, "rows"),
    ],
)
def test_what_departs_is_named(changes: dict, statistic: str) -> None:
    assert statistic in found(night(50, **changes))
    assert not found(night(50))


def test_a_difference_of_many_rows_that_nobody_cares_for_is_none() -> None:
    history = [night(number, rows=200_000, spread=0.0) for number in range(30)]
    small = {"negative": 0.31, "neutral": 0.49, "positive": 0.2}
    large = {"negative": 0.36, "neutral": 0.44, "positive": 0.2}
    assert not found(night(40, rows=200_000, spread=0.0, shares=small), history)
    assert "sentiment.negative" in found(night(40, rows=200_000, spread=0.0, shares=large), history)


def test_few_rows_may_be_anything() -> None:
    rules = ChecksConfig(action="hold", limits={"rows": (None, None)})
    history = [night(number, rows=8, spread=0.0, unknown=0.0) for number in range(30)]
    ordinary = night(41, rows=8, spread=0.0, unknown=0.0)
    assert not found(ordinary, history, rules)


def test_rows_of_a_small_feed_come_in_any_number() -> None:
    generator = np.random.default_rng(1)
    numbers = np.maximum(generator.poisson(generator.gamma(1, 8, size=142)), 1)
    nights = [night(i, rows=rows, unknown=0.0) for i, rows in enumerate(numbers.tolist())]
    held = 0
    for number in range(42, len(nights)):
        held += bool(found(nights[number], nights[number - 42 : number]))
    assert held <= 1  # of 100; it was a tenth of them by the spread of each night's own rows
    longer = night(500, rows=20, tokens=9.0, unknown=0.0)
    assert "tokens" in found(longer, nights[-42:])


def test_weekends_are_compared_with_weekends() -> None:
    def rows_of(number: int) -> int:
        return 100 if (FIRST + timedelta(days=number)).weekday() >= 5 else 1000

    history = [night(number, rows=rows_of(number)) for number in range(42)]
    saturday = next(n for n in range(42, 49) if rows_of(n) == 100)
    assert not found(night(saturday, rows=100), history)
    monday = saturday + 2
    assert not found(night(monday, rows=1000), history)
    assert found(night(monday, rows=100), history) == ["rows"]


def test_with_little_history_only_limits_hold() -> None:
    odd = {"negative": 0.9, "neutral": 0.05, "positive": 0.05}
    for history in ([], HISTORY[:13]):
        assert not found(night(50, shares=odd, tokens=3.0), history)
        assert found(night(50, unknown=0.9), history) == ["unknown_language"]
    assert found(night(50, shares=odd), HISTORY[:14])


def test_limits_of_the_user_and_their_words() -> None:
    rules = ChecksConfig(
        action="hold",
        limits={
            "unknown_language": (None, 0.05),
            "sentiment.negative": (0.4, None),
            "sentiment.mixed": (0.01, None),
            "tokens": (None, 300),
        },
    )
    findings = judge(night(1, unknown=0.2), [], rules)
    assert {finding.statistic for finding in findings} == set(rules.limits)
    reasons = {finding.statistic: finding.reason for finding in findings}
    assert "the most is 5.0%" in reasons["unknown_language"]
    assert reasons["sentiment.mixed"] == "rows with sentiment mixed: 0%; the least is 1.0%"
    none = ChecksConfig(action="hold", limits={"rows": (None, None)})
    nothing = ProfiledDay(day=None, profile=Profile(), digest="a", model_id="a")
    assert found(nothing, [], none) == []
    assert found(nothing, []) == ["rows"]


def test_another_model_is_held_once() -> None:
    other = night(42, model="b")
    assert found(other) == ["model"]
    assert not found(other, rules=ChecksConfig(action="hold", same_model=False))
    assert not judge(other, HISTORY, RULES, is_replacing=True)
    # once it is published, it is the model of the last day
    assert not found(night(43, model="b"), [*HISTORY, other])
    assert found(night(44, model="a"), [*HISTORY, other]) == ["model"]


def test_another_model_is_compared_with_its_own_nights() -> None:
    old = [night(n, shares={"negative": 0.7, "neutral": 0.2, "positive": 0.1}) for n in range(20)]
    new = [night(n, model="b") for n in range(20, 36)]
    assert not found(night(40, model="b"), [*old, *new])
    assert not judge(night(40, model="b"), [*new, *old], RULES, is_replacing=True)


def test_the_words_of_a_finding() -> None:
    odd = {"negative": 0.9, "neutral": 0.05, "positive": 0.05}
    reasons = [finding.reason for finding in judge(night(50, shares=odd), HISTORY, RULES)]
    assert any(
        reason.startswith("rows with sentiment negative: 90%; 3") and "on 42 days)" in reason
        for reason in reasons
    ), reasons
