"""Sentence spans: exact offsets, scripts, and linear time."""

import json
import runpy
from collections import defaultdict
from pathlib import Path

import pytest
import sentencex
from hypothesis import example, given
from hypothesis import strategies as st

from bertsum.text import full_stops, sentences
from bertsum.text.sentences import detect_language, split_sentences


def split(text: str, language: str = "en") -> list[str]:
    return [text[start:stop] for start, stop in split_sentences(text, language)]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Dr. Smith paid $3.50. He left!  Bye", ["Dr. Smith paid $3.50.", "He left!", "Bye"]),
        (
            "en",
            "The U.S. economy grew 2.5 percent. It fell.",
            ["The U.S. economy grew 2.5 percent.", "It fell."],
        ),
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
LANGUAGES = st.sampled_from(
    ["en", "zh", "ja", "th", "ar", "ru", "he", "ko", "hi", "de", "xx", "zh-CN", "", "a\0b"]
)


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
    "list": "- a\n",
    "quoted lines": "> a\n",
    "lines of chat": "a: b\n",
    "full lines": "The cat sat down on the mat and did not move for the rest of the long day\nThe ",
    "numbers": "1. ",
    "asides": "(a.) ",
    "marks of bullets": "\u2022 ",
    "spaces and lines": "\n \n  a",
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
    original = full_stops.sentencex.segment
    monkeypatch.setattr(
        full_stops.sentencex,
        "segment",
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


BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "sentences.py"))
EXAMPLES = [
    json.loads(line) for line in BENCHMARK["SENTENCES"].read_text(encoding="utf-8").splitlines()
]


def f1(examples: list[dict[str, object]]) -> float:
    return float(BENCHMARK["scores"](BENCHMARK["count"](split, examples))[2])


def test_boundaries_of_texts_whose_sentences_are_known():
    """What `sentencex` alone reaches on them: 0.79."""
    assert sum(len(example["sentences"]) for example in EXAMPLES) > 400
    assert f1(EXAMPLES) >= 0.97
    assert f1([example for example in EXAMPLES if example["held_out"]]) >= 0.95


@pytest.mark.parametrize(("field", "least"), [("language", 0.93), ("kind", 0.66)])
def test_no_language_and_no_kind_of_text_is_left_behind(field, least):
    """The worst kind is that of quotes with several sentences, which stay one."""
    groups = defaultdict(list)
    for known in EXAMPLES:
        groups[known[field]].append(known)
    assert len(groups) >= 10
    assert min(map(f1, groups.values())) >= least


BODY = "I bought this kettle in spring. It boils a litre in three minutes. The lid began to leak. Save your money."
BODY_SENTENCES = BODY.replace(". ", ".|").split("|")


@pytest.mark.parametrize(
    ("head", "items"),
    [
        ("- cheap\n", ["- cheap"]),
        ("\u2022 cheap\n", ["\u2022 cheap"]),
        (
            "Pros:\n- cheap\n- quick\nCons:\n- leaks\n",
            ["Pros:", "- cheap", "- quick", "Cons:", "- leaks"],
        ),
        ("1) cheap\n2) quick\n", ["1) cheap", "2) quick"]),
        ("\u2022 cheap \u2022 quick\n", ["\u2022 cheap", "\u2022 quick"]),
        ("1.\n", ["1."]),
        ("My kettle\n", ["My kettle"]),
        ("By Jane Doe\n", ["By Jane Doe"]),
    ],
)
def test_lists_and_headings_leave_the_text_below_alone(head, items):
    assert split(head + BODY) == items + BODY_SENTENCES


@pytest.mark.parametrize("marker", ["(b) ", "b) ", "1. ", "IV. ", "SECTION 1. "])
def test_a_marker_belongs_to_the_sentence_behind_it(marker):
    assert split(marker + BODY) == [marker + BODY_SENTENCES[0], *BODY_SENTENCES[1:]]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (
            "en",
            "It is closed until May. Residents left.",
            ["It is closed until May.", "Residents left."],
        ),
        (
            "en",
            "Tell me. Anna knows. Say no. Bob agrees.",
            ["Tell me.", "Anna knows.", "Say no.", "Bob agrees."],
        ),
        ("en", "See No. 5 and Sec. 2. Gen. Lee left.", ["See No. 5 and Sec. 2.", "Gen. Lee left."]),
        (
            "it",
            "Non lo so. Andiamo. Il sig. Rossi parte.",
            ["Non lo so.", "Andiamo.", "Il sig. Rossi parte."],
        ),
        ("sv", "Han gick ut. Anna stannade.", ["Han gick ut.", "Anna stannade."]),
        ("fr", "M. Dupont sort. Il rit.", ["M. Dupont sort.", "Il rit."]),
        (
            "de",
            "Am 3. Mai kam er. Die 2. Klasse sang.",
            ["Am 3. Mai kam er.", "Die 2. Klasse sang."],
        ),
        ("de", "Es waren 20. Niemand sprach.", ["Es waren 20.", "Niemand sprach."]),
        ("de", "Heute ist der 12. Wir gehen.", ["Heute ist der 12.", "Wir gehen."]),
        ("cs", "Narodil se 3. října. Pak odešel.", ["Narodil se 3. října.", "Pak odešel."]),
        ("ru", "«Куда?» — спросил он. Она ушла.", ["«Куда?» — спросил он.", "Она ушла."]),
        ("ja", "「はい。」と言った。彼は黙った。", ["「はい。」と言った。", "彼は黙った。"]),
        ("ar", "قال د. أحمد ذلك. ثم خرج.", ["قال د. أحمد ذلك.", "ثم خرج."]),
        ("en", "(This was in March.) Nobody knew.", ["(This was in March.)", "Nobody knew."]),
        ("en", "1. Wash it. 2. Boil it.", ["1. Wash it.", "2. Boil it."]),
    ],
)
def test_a_full_stop_that_ends_a_sentence_and_others(language, text, expected):
    assert split(text, language) == expected


WRAPPED = (
    "The members met on Tuesday to talk about the new bridge that the town of\n"
    "Springfield wants to build over the river, and they agreed on a plan by\n"
    "Smith and Jones at the end of a long evening.\n"
)


def test_a_wrapped_paragraph_is_one_sentence_in_mail_too():
    assert split(WRAPPED) == [WRAPPED.strip()]
    quoted = "".join(f"> {line}\n" for line in WRAPPED.splitlines())
    assert split(f"Ann wrote:\n{quoted}I agree.") == ["Ann wrote:", quoted.strip(), "I agree."]


def test_quote_marks_without_words_belong_to_the_sentence_behind_them():
    assert split("I agree.\n\n>> \n\nThe plan is good.") == ["I agree.", ">> \n\nThe plan is good."]
    assert split("I agree.\n> ") == ["I agree.", ">"]


@pytest.mark.parametrize(
    "lines",
    [
        ["[12:31] anna: are you there", "[12:32] bob: yes", "[12:33] bob: what is it"],
        ["2024-01-05 10:00:01 INFO Started", "2024-01-05 10:00:02 WARN Disk is full"],
        ["hey", "are you coming tonight", "yeah sure", "ok see you"],
        ["Anna: Where were you", "Bob: At home", "Anna: All day"],
        [
            "1\n00:00:01,000 --> 00:00:03,500",
            "I never thought that\nyou would come",
            "- Who was that",
        ],
    ],
)
def test_a_line_of_speech_ends_with_its_line(lines):
    assert split("\n".join(lines)) == lines


@pytest.mark.parametrize(
    ("unit", "language", "longest"),
    [
        ("so we went on and on and saw the sea then ", "en", 300),
        ("word", "en", 300),
        ("我们今天去了公园看到很多花", "zh", 100),
        ("今日は公園に行って花を見ました", "ja", 100),
        ("วันนี้เราไปสวนสาธารณะ", "th", 300),
        ("आज हम बाग में गए ", "hi", 300),
    ],
)
def test_a_transcript_without_punctuation_is_cut_at_a_stated_length(unit, language, longest):
    text = unit * (8000 // len(unit))
    spans = split_sentences(text, language)
    check_spans(text, spans)
    assert max(stop - start for start, stop in spans) <= longest
    assert min(stop - start for start, stop in spans[:-1]) >= longest // 3 - 1


def test_a_transcript_is_cut_before_a_conjunction():
    text = "we went to the sea and " * 100
    assert {text[start:stop].split()[0] for start, stop in split_sentences(text, "en")} == {
        "we",
        "and",
    }
    assert sum(text[start:].startswith("and") for start, _ in split_sentences(text, "en")) > 5


LINES = st.lists(
    st.sampled_from(
        [
            "- item",
            "1. One",
            "(b) two",
            "> quoted",
            ">> ",
            "Dr. Lee",
            "3. Mai",
            "[12:31] bob: hi",
            "Title",
            "\u2022 x \u2022 y",
            "00:00:01,000 --> 00:00:02,000",
            "so he said",
            "May. No",
            "「はい。」と",
            "a) b",
            "(x.) Y",
            "SECTION 1.",
            "x" * 700,
        ]
    ),
    max_size=12,
)


@given(
    LINES, st.sampled_from(["\n", "\r\n", " ", "\n\n", "\n> ", ". ", "\u2029", "\u00a0"]), LANGUAGES
)
def test_spans_of_mixed_lines_cover_all_but_white_space(lines, joiner, language):
    text = joiner.join(lines)
    check_spans(text, split_sentences(text, language))
