"""Sentence spans: exact offsets, scripts, and linear time."""

import pytest
import sentencex
from hypothesis import example, given
from hypothesis import strategies as st

from bertsum import sentences
from bertsum.sentences import detect_language, split_sentences


def split(text: str, language: str = "en") -> list[str]:
    return [text[start:stop] for start, stop in split_sentences(text, language)]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Dr. Smith paid $3.50. He left!  Bye", ["Dr. Smith paid $3.50.", "He left!", "Bye"]),
        ("en", "The U.S. economy grew 2.5 percent. It fell.", ["The U.S. economy grew 2.5 percent.", "It fell."]),
        ("en", "Is it? Yes! No...", ["Is it?", "Yes!", "No..."]),
        ("en", "I saw 😀. Then 👩‍👩‍👧 came.", ["I saw 😀.", "Then 👩‍👩‍👧 came."]),
        ("zh", "你好。他走了!是吗?", ["你好。", "他走了!", "是吗?"]),
        ("zh", "𠮷野家开门了。很好。", ["𠮷野家开门了。", "很好。"]),
        ("ja", "今日は晴れ。明日は雨。", ["今日は晴れ。", "明日は雨。"]),
        ("th", "สวัสดีครับ ผมชื่อสมชาย", ["สวัสดีครับ ผมชื่อสมชาย"]),
        ("ar", "مرحبا بك. كيف حالك؟ جيد.", ["مرحبا بك.", "كيف حالك؟", "جيد."]),
        ("ru", "Он пришёл. Она ушла!", ["Он пришёл.", "Она ушла!"]),
        ("he", "הוא בא. היא הלכה.", ["הוא בא.", "היא הלכה."]),
        ("ko", "안녕하세요. 반갑습니다.", ["안녕하세요.", "반갑습니다."]),
        ("hi", "यह घर है। वह नदी है।", ["यह घर है।", "वह नदी है।"]),
        ("en", "", []),
        ("en", " \n\t \u2029 \r\n", []),
        ("en", "no end", ["no end"]),
    ],
)
def test_sentences_of_a_language(language, text, expected):
    assert split(text, language) == expected


@pytest.mark.parametrize("gap", ["\n\n", "\r\n\r\n", "\n \t\n", "\n\n\n\n", "\u2029", "\n\u00a0\n"])
def test_a_blank_line_ends_a_sentence_also_without_a_full_stop(gap):
    text = f"  A headline{gap}The story begins. It ends{gap}"
    assert split(text) == ["A headline", "The story begins.", "It ends"]
    assert split_sentences(text, "en")[0] == (2, 12)


@pytest.mark.parametrize("newline", ["\n", "\r\n", " "])
def test_a_line_break_inside_a_sentence_stays(newline):
    text = f"The cat{newline}sat down. Then it slept."
    assert split(text) == [f"The cat{newline}sat down.", "Then it slept."]


TEXTS = st.text(
    st.one_of(
        st.sampled_from(" .!?\n\r\t\"'()[]«»“”。!?।؟\u2029\u200b\u00a0\x1c\x85"),
        st.sampled_from("abAB1猫กعбहע😀\u0301"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=200,
)
LANGUAGES = st.sampled_from(["en", "zh", "ja", "th", "ar", "ru", "he", "ko", "hi", "de", "xx", "zh-CN", "", "a\0b"])


def check_spans(text: str, spans: list[tuple[int, int]]) -> None:
    """In order, without overlap, each without white space at its ends, and nothing else between them."""
    position = 0
    for start, stop in spans:
        assert position <= start < stop <= len(text)
        assert not text[position:start].strip()
        assert text[start:stop] == text[start:stop].strip()
        position = stop
    assert not text[position:].strip()


@given(TEXTS, LANGUAGES)
@example("a" * 12_000, "en")
@example("Aa. " * 4_000, "en")
@example("…" * 12_000, "th")
def test_spans_cover_all_but_white_space(text, language):
    check_spans(text, split_sentences(text, language))


@given(TEXTS, st.integers(1, 40))
def test_spans_cover_all_but_white_space_when_chunks_are_short(text, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "_CHUNK_CHARACTERS", chunk)
        check_spans(text, split_sentences(text, "en"))


def test_a_sentence_that_crosses_a_chunk_stays_whole(monkeypatch):
    text = "One two three. " * 50 + "Four five six, at 3.50 a piece, by Dr. Smith."
    expected = split(text)
    for chunk in range(50, 70):
        monkeypatch.setattr(sentences, "_CHUNK_CHARACTERS", chunk)
        assert split(text) == expected


HOSTILE = {
    "apostrophes": "'",
    "full stops": ".",
    "line breaks": "\n",
    "brackets": "(",
    "pairs of brackets": "[]",
    "one letter": "a",
    "zero width": "\u200b",
    "one-letter sentences": "A. ",
    "quoted": '"A." ',
    "indented lines": "\n          x",
    "Han": "猫。",
    "exclamations": "! ",
    "abbreviations": "Dr. ",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("size", [75_000, 300_000])
def test_hostile_texts_cost_linear_work(unit, size, monkeypatch):
    """Characters handed to sentencex, and characters at once: it is quadratic in some of these."""
    calls = []
    original = sentences.sentencex.get_sentence_boundaries
    monkeypatch.setattr(
        sentences.sentencex,
        "get_sentence_boundaries",
        lambda language, text: calls.append(len(text)) or original(language, text),
    )
    text = (unit * size)[:size]
    check_spans(text, split_sentences(text, "en"))
    assert sum(calls) <= 3 * size
    assert max(calls, default=0) <= 5000


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat sat.", "en"),
        ("Der Fluß ist größer.", "en"),
        ("", "en"),
        ("12345 😀", "en"),
        ("这只猫坐在垫子上。", "zh"),
        ("他在 Google 公司和 Microsoft 公司工作过很多年。", "zh"),
        ("这本书叫「すし」,讲日本料理的历史,作者是一位中国学者,他在东京住了三十年。", "zh"),
        ("今日は天気がいいです。", "ja"),
        ("東京都は日本の首都である。", "ja"),
        ("วันนี้อากาศดี", "th"),
        ("هذا بيت كبير", "ar"),
        ("Это большой дом", "ru"),
        ("זה בית גדול", "he"),
        ("이것은 큰 집입니다", "ko"),
        ("यह एक बड़ा घर है", "hi"),
        ("Αυτό είναι ένα σπίτι", "el"),
        ("Это большой дом, says the man in a long English sentence of many words", "en"),
        ("\ud800", "en"),
    ],
)
def test_language_of_a_script(text, language):
    assert detect_language(text) == language


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2003"])
def test_a_text_that_makes_the_splitter_panic_is_split_and_nothing_is_printed(space, capfd):
    """sentencex cuts such a space in two; the panic is no Exception, and would end the process."""
    text = f"The cat sleeps. The plan A{space}. A dog runs."
    with pytest.raises(BaseException, match="not a char boundary"):
        sentencex.segment("en", text)
    assert "panicked" in capfd.readouterr().err
    assert split(text) == [text[:15], text[16:]]  # "A." is taken for an abbreviation
    assert len(split_sentences(text * 2000, "en")) > 2000
    assert capfd.readouterr() == ("", "")
