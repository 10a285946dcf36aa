"""Which language a text has, by script or detector: right answers that a reader of the texts knows."""

import pytest

from bertsum.text.language import LanguageDetector

ENGLISH = (
    "The bridge over the river will be closed for three weeks, and nobody told the neighbours."
)
GERMAN = "Die Brücke über den Fluss wird für drei Wochen gesperrt, und niemand hat es uns gesagt."


@pytest.fixture(scope="module")
def detect() -> LanguageDetector:
    return LanguageDetector()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (GERMAN, "de"),
        ("Das Hotel war sauber und das Personal sehr freundlich.", "de"),  # all of ASCII
        ("Der Film ist leider langweilig", "de"),
        ("El hotel estaba limpio, pero el desayuno fue muy malo.", "es"),
        ("Le film commence bien, mais la fin est trop longue.", "fr"),
        ("Il caffè era freddo e abbiamo aspettato venti minuti.", "it"),
        ("De koffie was koud en we moesten lang wachten op een tafel.", "nl"),
        ("O filme começa muito bem, mas depois fica lento.", "pt"),
        ("Kawa była zimna, a na stolik czekaliśmy dwadzieścia minut.", "pl"),
        ("Городские власти объявили, что мост будет закрыт.", "ru"),
        ("Міська влада оголосила, що міст буде закрито на три тижні.", "uk"),
        ("أعلنت بلدية المدينة أن الجسر فوق النهر سيغلق", "ar"),
        ("شهرداری اعلام کرد که پل روی رودخانه بسته خواهد بود.", "fa"),
        ("Η γέφυρα θα μείνει κλειστή για τρεις εβδομάδες.", "el"),
        ("城市宣布大桥将关闭三周。", "zh"),
        ("\n" * 5000 + "城市宣布大桥将关闭三周。", "zh"),
        ("市は橋を三週間通行止めにすると発表した。", "ja"),
        ("시는 다리를 삼 주 동안 폐쇄한다고 발표했다.", "ko"),
        ("நகரத்தில் பாலம் மூடப்படும்", "ta"),
        (GERMAN.upper(), "de"),
        # mixed: the language of most of its beginning; a Han character counts as two Latin letters
        ("https://example.com/news/today/story?id=12 " + GERMAN, "de"),
        (f"{GERMAN} {ENGLISH}" * 50, "de"),
        ("我喜欢 iPhone 13 Pro Max 的屏幕和电池，非常好用", "zh"),
        # near English, and 20 letters or more
        ("Prices of base metals move up on global cues", "en"),
        # signs that look to the detector like another script
        ("| a | b |\n|---|---|\n| 1 | 2 |", "en"),
        ("| Item | Qty | Price |\n|:---|---:|---:|\n| Bolt | 4 | 0.10 |", "en"),
        ("| Name | Alter |\n|---|---|\n| Hans | 3 |\n| Jürgen Müller | 44 |", "de"),
        ("| 姓名 | 年龄 |\n|---|---|\n| 王伟 | 3 |", "zh"),
        ("| Имя | Возраст |\n|---|---|\n| Иван Петрович | 3 |", "ru"),
        # no word that the detector knows
        ("Lol", "en"),
        ("x" * 5000, "en"),
        ("-" * 300 + " ok", "en"),
    ],
)
def test_the_language_of_a_text(detect: LanguageDetector, text: str, language: str) -> None:
    assert detect(text) == language


@pytest.mark.parametrize("text", ["a\0b\0c", "a\n\nb\r\n", "\u202eabc", "é" * 10, "😀 a", "ﬁ"])
def test_any_text_has_some_language(detect: LanguageDetector, text: str) -> None:
    assert 2 <= len(detect(text)) <= 8
