"""Words, numbers and names of a text that are in its document."""

import pytest

from bertsum.generation.faithfulness import compare, find_names

DOCUMENT = (
    "The bank Norden AG lent 1,250 million euros in 2026, said Ann Lee. Its rate fell to 3.5 %. "
    "NATO and the O'Brien Group were not asked."
)


def test_what_the_document_says_is_no_new_fact() -> None:
    result = compare("In 2026 Norden lent 1250 million, said Lee.", DOCUMENT, language="en")
    assert result.word_share == 7 / 8  # the document writes 1,250, which is two words
    assert (result.number_share, result.name_share) == (1, 1)
    assert not result.has_new_facts


def test_other_numbers_and_names_are_marked() -> None:
    text = "Norden lent Bob Lee 1,251 million in 2026. Then NASA's rate was 3.5, 1,251."
    result = compare(text, DOCUMENT, language="en")
    assert result.new_facts == ("1251", "Bob", "NASA's")
    assert result.number_share == 2 / 4
    # Bob is not there, Lee is; a sentence's first word is no name unless it is in capitals
    assert result.name_share == 1 / 3
    assert result.has_new_facts


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("1.250,5 Euro", "1,250.5 euros"),
        ("12 345", "12,345"),
        ("3,5", "3.5"),
        ("1'000'000", "1,000,000"),
        ("on 2026-11-29", "29 of 11 in 2026"),
        ("2026, 12,345.5", "٢٠٢٦ و ١٢٬٣٤٥٫٥"),
        ("12.5% in 2026", "２０２６年増12.5%"),
        ("१२,३४५", "12,345"),
    ],
)
def test_the_same_number_in_other_separators(text: str, document: str) -> None:
    assert compare(text, document, language="en", is_translation=True).number_share == 1


def test_years_side_by_side_are_two_numbers() -> None:
    assert compare("2025 300", "2025 and 300", language="en").number_share == 1


def test_a_translation_is_compared_by_its_numbers_alone() -> None:
    result = compare("Norden verlieh 1.250 Taler an Otto.", DOCUMENT, language="de",
                     is_translation=True)  # fmt: skip
    assert (result.word_share, result.name_share, result.number_share) == (None, None, 1)
    assert not result.has_new_facts


def test_scripts_without_capitals_and_german_have_no_names() -> None:
    assert find_names("北京的天气很好。", "zh") == []
    result = compare("Das Haus der Frau Lee.", "Ein Hund.", language="de")
    assert (result.name_share, result.word_share) == (None, 0)


def test_words_count_as_often_as_they_stand() -> None:
    assert compare("cat cat dog", "a cat", language="en").word_share == 2 / 3
    assert compare("", "a cat", language="en").word_share is None
    assert compare("猫狗", "猫", language="zh").word_share == 0.5
