"""Mentions of names, and what only looks like them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsum.text.phrases.mentions import _pattern, find_mentions, find_name


def mentions(text: str, name: str) -> list[str]:
    return [text[start:stop] for start, stop in find_mentions(text, name)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("price", "Prices rose; the PRICE of a priceless price-tag.", ["Prices", "PRICE", "price"]),
        ("prices", "A price, all prices.", ["price", "prices"]),
        ("company", "Companies and the company's accompany", ["Companies", "company"]),
        ("news", "The new news", ["news"]),
        ("dish", "dishes, a dish, dishwasher", ["dishes", "dish"]),
        ("IT", "Sell it, sell IT stocks.", ["IT"]),
        ("Apple", "An apple of APPLE, Apple's. Pineapple", ["APPLE", "Apple"]),
        ("Apple Inc.", "Apple fell. Apple Inc rose.", ["Apple", "Apple"]),
        ("Group", "The Group met.", ["Group"]),
        ("S&P 500", "The S&P 500 and the S & P 500, not 500.", ["S&P 500", "S & P 500"]),
        ("Hillary Clinton", "Hillary Clinton won. Clinton spoke.", ["Hillary Clinton", "Clinton"]),
        ("Hillary Clinton", "Bill Clinton spoke.", []),
        ("battery life", "The battery  life; life is good.", ["battery  life"]),
        ("苹果", "买苹果公司", ["苹果"]),
        ("iPhone", "新iPhone很好", ["iPhone"]),
        ("Straße", "Straße, STRAßE", ["Straße", "STRAßE"]),
        ("e", "e\u0301 e", ["e"]),
        (
            "caf\u00e9",
            "The cafe\u0301, CAFE\u0301 and caf\u00e9",
            ["cafe\u0301", "CAFE\u0301", "caf\u00e9"],
        ),
        ("cafe\u0301", "A caf\u00e9, no cafe", ["caf\u00e9"]),
        ("a.b*c", "a.b*c abc", ["a.b*c"]),
        ("...", "...", []),
        ("C", "A C compiler, C++ and C#.", ["C"]),
        ("C++", "A C compiler, C++ and C#.", ["C++"]),
        ("C#", "A C compiler, C++ and C#.", ["C#"]),
        ("A+", "A mark of A+ is rare", ["A+"]),
        ("companies", "The COMPANY", ["COMPANY"]),
        ("", "text", []),
    ],
)
def test_mentions(name: str, text: str, expected: list[str]) -> None:
    assert mentions(text, name) == expected


def test_the_whole_name_needs_all_its_words() -> None:
    text = "Hillary Clinton won. Clinton spoke."
    assert find_name(text, "Hillary Clinton") == [(0, 15)]


@given(st.text(max_size=40), st.text(max_size=8))
def test_mentions_are_in_order_and_apart(text: str, name: str) -> None:
    spans = find_mentions(text, name)
    ends = 0
    for start, stop in spans:
        assert ends <= start < stop <= len(text)
        ends = stop


def test_names_that_a_text_lacks_are_not_compiled() -> None:
    """There may be more of them than are kept: each document took seconds."""
    before = _pattern.cache_info().misses
    for number in range(5000):
        assert not find_mentions("Quarterly sales of the company rose.", f"Zx{number} Holding")
    assert find_mentions("Zx17 rose.", "Zx17 Holding") == [(0, 4)]
    assert _pattern.cache_info().misses == before + 1


def test_a_name_is_found_in_either_normal_form():
    assert find_name("In Zu\u0308rich", "Z\u00fcrich") == [(3, 10)]
    assert find_name("In Z\u00fcrich", "Zu\u0308rich") == [(3, 9)]
