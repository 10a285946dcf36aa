"""Texts without a letter: ratings, emoji and emoticons say something, figures and signs do not."""

import pytest

from bertsum.text.letterless import has_letter, says_something
from bertsum.text.sentences import split_sentences

ONE_SENTENCE = [
    *["9/10", "9/10.", "8.5/10", "4,5/5!", "(7/10)", "10 / 10", "11/10", "0/5", "95/100", "18/20"],
    *["100%", "80 %", " 100%! ", "９/10", "８０％", "“9/10”"],
    *[
        "👍",
        "👍🏽",
        "😡😡😡",
        "🇺🇸",
        "★★★★★",
        "★★☆☆☆ 2/5",
        "⭐⭐⭐",
        "❤️",
        "☹",
        "✅",
        "💯",
        "12:30 👍",
    ],
    *[":(", ":-)", ";)", ":'(", ":/", "=)", "：）", ":(((", "(:", "<3", "</3", "^_^", "-_-", ">_<"],
    *["9/10 :)", ":)!"],
]
NOTHING = [
    *["12345", "-12.5", "$ 12.50", "1,234.00 €", "+8%", "-8%", "12345 6.7 -8%", "12% 13% 14%"],
    *["2024-11-28", "28.11.2024", "11/28", "11/28/2024", "10/10/2024", "12:30", "(12:)", "24/7"],
    *["+49 (30) 1234-567", "(555) 123-4567", "192.168.0.1", "50°", "½", "3 + 4 = 7", "2*(3+4)"],
    *["----", "... !!! ---", "=====", "*****", "???", "\u200b\ufeff", "1️⃣", "©", "#", "1. 2. 3."],
    *["│ 12 │ 13 │\n├────┼────┤\n│ 14 │ 15 │", "| 1 | 2 |\n|:---|---:|\n| 3 | 4 |", "1 → 2"],
]


@pytest.mark.parametrize("text", ONE_SENTENCE)
def test_a_text_that_says_something(text: str) -> None:
    assert not has_letter(text)
    assert says_something(text)
    stripped = text.strip()
    (span,) = split_sentences(stripped, "en")
    assert span == (0, len(stripped))


def test_a_text_of_several_sentences_says_something_too() -> None:
    for text in ("... :(", "10/10!!! 👍", "👍\n\n👍"):
        assert says_something(text)
        assert len(split_sentences(text, "en")) == 2


@pytest.mark.parametrize("text", NOTHING)
def test_a_text_that_says_nothing(text: str) -> None:
    assert not has_letter(text)
    assert not says_something(text)


@pytest.mark.parametrize("text", ["9/10 a", "T_T", "5 stars", "五星", "12 kg", "д"])
def test_letters_of_any_script(text: str) -> None:
    assert has_letter(text)


@pytest.mark.parametrize("part", ["(", ":", "(:", ":(", "<3", "^_", "1/", "9/10", "1", " ", "!"])
def test_a_long_text_takes_no_longer_than_its_length(part: str) -> None:
    """A pattern that goes back and forth would take hours for a million characters."""
    says_something(part * 1_000_000 + "$")
