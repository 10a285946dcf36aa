"""Cuts hold a budget to the character, keep what people see as one character, and leave something."""

import re
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsum.model.cut import ELLIPSIS, kept_around, kept_by_tokens, kept_characters
from bertsum.text.phrases.query_words import query_words, word_spans
from bertsum.text.sentences import Span

ENGLISH = "The bank, which fell by 1,000 points (its worst day), says the well-known fund is safe."
LANGUAGES = st.sampled_from(["en", "zh", "ja", "th", "hi"])


def cut(sentence: str, budget: int, border: str = "word", language: str = "en") -> str:
    most = budget - len(ELLIPSIS)
    length = kept_characters(sentence, most, language, by_clause=border == "clause")
    return sentence[:length] + ELLIPSIS if length else ""


def around(sentence: str, budget: int, query: str, language: str = "en") -> str:
    spans = word_spans(sentence, query_words(query, language), language)
    start, stop = kept_around(sentence, budget, spans, language)
    before = ELLIPSIS if start else ""
    return before + sentence[start:stop] + (ELLIPSIS if start < stop < len(sentence) else "")


@pytest.mark.parametrize(
    ("budget", "query", "expected"),
    [
        (40, "bank points", "The bank, which fell by 1,000 points…"),  # the beginning has both
        (36, "bank", "The bank, which fell by 1,000…"),
        (40, "funds", "…day), says the well-known fund is safe."),
        (30, "worst", "…(its worst day), says the…"),
        (30, "worst points bank", "…points (its worst day), says…"),  # two words rather than one
        (12, "worst", "…worst…"),
        (7, "worst", "…worst…"),
        (6, "worst", "The…"),  # the word does not fit
        (30, "nothing", "The bank, which fell by 1,000…"),
    ],
)
def test_the_part_around_the_words_of_a_query(budget: int, query: str, expected: str) -> None:
    assert around(ENGLISH, budget, query) == expected
    assert len(expected) <= budget


def test_around_words_without_spaces() -> None:
    sentence = "央行表示今年第三季度的货币政策将保持稳健并适度支持人民币国际化的进程和市场发展"
    assert around(sentence, 14, "人民币", "zh") == "…适度支持人民币国际化的进…"
    assert around(sentence, 14, "央行", "zh").startswith("央行表示")


@given(
    st.text(alphabet="ab é🇩🇪猫狗 ,.", min_size=1, max_size=80),
    st.integers(1, 40),
    LANGUAGES,
    st.data(),
)
def test_around_any_words(sentence: str, most: int, language: str, data: st.DataObject) -> None:
    query = data.draw(st.sampled_from(sentence.split() or ["a"]))
    spans = word_spans(sentence, query_words(query, language), language)
    start, stop = kept_around(sentence, most, spans, language)
    assert 0 <= start <= stop <= len(sentence)
    if len(sentence) > most and start < stop:
        ellipses = (start > 0) + (stop < len(sentence))
        assert stop - start + ellipses * len(ELLIPSIS) <= most


@pytest.mark.parametrize(
    ("budget", "border", "expected"),
    [
        (
            86,
            "word",
            "The bank, which fell by 1,000 points (its worst day), says the well-known fund is…",
        ),
        (54, "word", "The bank, which fell by 1,000 points (its worst day)…"),
        (53, "word", "The bank, which fell by 1,000 points (its worst…"),
        (52, "word", "The bank, which fell by 1,000 points (its worst…"),
        (53, "clause", "The bank, which fell by 1,000 points (its worst day)…"),
        (52, "clause", "The bank, which fell by 1,000 points…"),
        (33, "clause", "The bank, which fell by 1,000…"),  # no clause ends in its second half
        (10, "clause", "The bank…"),
        (10, "word", "The bank…"),
        (9, "word", "The bank…"),
        (8, "word", "The…"),
        (3, "word", "Th…"),
        (2, "word", "T…"),
        (1, "word", ""),
    ],
)
def test_english(budget: int, border: str, expected: str) -> None:
    assert cut(ENGLISH, budget, border) == expected


@pytest.mark.parametrize(
    ("sentence", "language", "budget", "border", "expected"),
    [
        ("央行周三下调利率，市场随即上涨，但分析师认为风险仍在。", "zh", 12, "clause", "央行周三下调利率…"),
        ("央行周三下调利率，市场随即上涨，但分析师认为风险仍在。", "zh", 12, "word", "央行周三下调利率，市场…"),
        ("央行周三下调利率，市场随即上涨，但分析师认为风险仍在。", "zh", 10, "word", "央行周三下调利率…"),
        ("销量增长了50%，超出预期。", "zh", 8, "word", "销量增长了…"),
        ("销量增长了50%，超出预期。", "zh", 9, "word", "销量增长了50%…"),
        ("売上は前年比で増加し、コンピュータ部門が最も伸びた。", "ja", 16, "clause", "売上は前年比で増加し…"),
        ("売上は前年比で増加し、コンピュータ部門が最も伸びた。", "ja", 16, "word", "売上は前年比で増加し…"),
        ("売上は前年比で増加し、コンピュータ部門。", "ja", 18, "word", "売上は前年比で増加し、コンピュータ…"),
        ("ธนาคารกลางลดดอกเบี้ย ตลาดหุ้นปรับตัวขึ้น", "th", 25, "clause", "ธนาคารกลางลดดอกเบี้ย…"),
        ("ทำน้ำ", "th", 4, "word", "ทำ…"),  # sara am and its consonant are one cluster
        ("وقال البنك، الذي خفض الفائدة، إن", "ar", 18, "clause", "وقال البنك…"),
        ("Donaudampfschifffahrtsgesellschaft", "de", 9, "word", "Donaudam…"),
        ("Er sah die Donaudampfschifffahrtsgesellschaft.", "de", 40, "word", "Er sah die…"),
        ("It fell to -5 degrees in Rome.", "en", 14, "clause", "It fell to -5…"),
        ("Prices fell - a lot, he says.", "en", 18, "clause", "Prices fell…"),
        ("👩‍👩‍👧👩‍👩‍👧 wins", "en", 11, "word", "👩‍👩‍👧👩‍👩‍👧…"),
        ("👩‍👩‍👧👩‍👩‍👧 wins", "en", 10, "word", "👩‍👩‍👧…"),
        ("🇫🇷🇩🇪", "en", 4, "word", "🇫🇷…"),
        ("\u1100\u1161\u11a8 ", "ko", 3, "word", ""),  # a syllable of three letters, written apart
        ("— (“x y", "en", 4, "word", "— (…"),
        ("x \u0600, wins", "en", 6, "word", "x \u0600,…"),  # the sign is a cluster with what follows
    ],
)  # fmt: skip
def test_other_texts(sentence: str, language: str, budget: int, border: str, expected: str) -> None:
    assert cut(sentence, budget, border, language) == expected


# Each is what people see as one character, or a word or mark that any cut may go through or around.
CHARACTERS = [
    "e\u0301",
    "👩‍👩‍👧",
    "🇫🇷",
    "\r\n",
    "中",
    "👍🏽",
    "क्ष",
    "नि",
    "น้ำ",
    "각",
    "ß",
    "x",
    "1",
]
CHARACTERS += [" ", ",", "，", " (", ". ", "。", "—", "%", "ᄀ\u1161"]


@given(
    st.lists(st.sampled_from(CHARACTERS), min_size=1), st.integers(0, 40), LANGUAGES, st.booleans()
)
def test_known_characters_stay_whole(
    characters: list[str], most: int, language: str, by_clause: bool
) -> None:
    sentence = "".join(characters)
    length = kept_characters(sentence, most, language, by_clause=by_clause)
    assert length <= most
    ends = {0}
    for index in range(len(characters)):
        ends.add(len("".join(characters[: index + 1])))
    for end in list(ends):  # the space of ". " is left out, and no half of "\r\n"
        if sentence[end - 1 : end].isspace() and not sentence[:end].endswith("\r\n"):
            ends.add(end - 1)
    ends |= {end - 1 for end in ends if sentence[:end].endswith(" (")}
    assert length in ends
    assert not (sentence[:length].endswith("\r") and sentence[length:].startswith("\n"))
    # something is left wherever the first character fits
    assert length > 0 or min(ends - {0}) > most


@given(st.text(min_size=1), st.integers(0, 60), LANGUAGES, st.booleans())
def test_any_text(sentence: str, most: int, language: str, by_clause: bool) -> None:
    length = kept_characters(sentence, most, language, by_clause=by_clause)
    assert length <= most
    rest = sentence[length:]
    if length and rest:
        assert unicodedata.category(rest[0]) != "Mn"
        assert rest[0] != "\u200d"
    # one character without marks behind it always fits
    if most > 0 and sentence[0].isascii() and sentence[1:2].isascii() and sentence[:2] != "\r\n":
        assert length > 0


def pairs(texts: Sequence[str]) -> list[list[Span]]:
    """Spans of tokens as of a tokenizer: each word in pairs of characters, each mark alone."""
    return [[match.span() for match in re.finditer(r"\w\w?|[^\w\s]", text)] for text in texts]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (9, "One two, three…"),  # 9 tokens: On e tw o , th re e …
        (8, "One two…"),
        (5, "One two…"),
        (4, "One…"),
        (3, "One…"),
        (2, "On…"),
        (1, ""),
    ],
)
def test_a_budget_of_tokens(size: int, expected: str) -> None:
    length = kept_by_tokens(
        "One two, three four.", size, language="en", by_clause=False, token_spans=pairs
    )
    assert ("One two, three four."[:length] + ELLIPSIS if length else "") == expected


def test_part_of_a_word_may_be_more_tokens_than_within_the_word() -> None:
    def whole_or_letters(texts: Sequence[str]) -> list[list[Span]]:
        spans = []
        for text in texts:
            matches = re.finditer(r"abcdef|[^ ]", text)
            spans.append([match.span() for match in matches])
        return spans

    options = {"language": "en", "by_clause": False, "token_spans": whole_or_letters}
    # "abcdefgh" is the tokens abcdef, g and h; "abcd" is four
    assert kept_by_tokens("abcdefgh", 3, **options) == len("abcdefg")
    assert kept_by_tokens("abcdefgh", 2, **options) == len("abcdef")
    # a cut behind abcdef would tear the mark off, and abcde is five tokens
    assert kept_by_tokens("abcdef\u0301gh", 2, **options) == len("a")
