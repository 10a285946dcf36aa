"""Which texts a vocabulary knows the language of: that of the shipped model (English BERT's), and small ones."""

import numpy as np
import pytest
from helpers import tiny

from bertsum import Summarizer
from bertsum.schema import Document, Status


@pytest.fixture(scope="module")
def shipped() -> Summarizer:
    return Summarizer("bertsum-default/english", device="cpu")


def is_known(summarizer: Summarizer, text: str) -> bool:
    prepared = summarizer.prepare([Document(text)])
    (prediction,) = prepared.predictions
    assert prediction is None or prediction.status == Status.UNKNOWN_LANGUAGE
    return prediction is None


@pytest.mark.parametrize(
    "text",
    [
        "Love it! 😍",
        "good 👍",
        "👍🏽 great",
        "no 😂",
        "ok 🇺🇸🇺🇸🇺🇸",
        "Great ❤️",
        "so sad😢",  # one piece with the emoji, so that both are [UNK]
        "sad😢",
        "The 👩‍👩‍👧‍👦 family came 🏳️‍🌈. They sang 🎶. It rained 🌧️. All left.",
        "1️⃣ first 2️⃣ second 3️⃣ third",
        "★★★★★ Great",
        "✅ done ✅ tested ✅ shipped",
        "LOVE THIS APP 😍😍",
        "x² + y² = z²",
        "∀x ∈ A, x ≥ 0 ⇒ f(x) ≤ 1",
        "Kraków and Łódź are cities 🏙",
        "Danke schön 😍",
        "@united 😡",
        "see https://example.org/a?b=c 👍",
    ],
)
def test_a_symbol_says_nothing_of_the_language(shipped: Summarizer, text: str) -> None:
    assert is_known(shipped, text)


@pytest.mark.parametrize(
    "text",
    [
        "He said שלום to all of us at the door.",
        "The word مرحبا means hello in Arabic.",
        "My friend Александр came to dinner.",
        "Love it, спасибо!",
        "We ate 김치 at her house.",
        "She wrote Ελλάδα on the map.",
        "Visit ประเทศไทย this summer, it is lovely.",
        "I love 北京烤鸭 very much",
        "Tokyo (東京) is the capital of Japan.",
        "I like sushi (寿司) and ramen (ラーメン).",
        "𝓛𝓸𝓿𝓮 it so much",
    ],
)
def test_a_word_of_another_script_does_not_make_english_unknown(
    shipped: Summarizer, text: str
) -> None:
    assert is_known(shipped, text)


@pytest.mark.parametrize(
    "text",
    [
        "Спасибо, всё отлично 👍",
        "❤️ Спасибо",
        "тест",
        "很好 👍",
        "猫",
        "12 3.5 7 猫",  # of the words
        "不错[good]",
        "保护好自己！ http://t.cn/A6P2RtWp",
        "今天用 Python 写了一个 Web 服务",
        "我喜欢 iPhone 13 Pro Max",
        "Купил iPhone 15 Pro Max",
        "Отличный телефон Samsung Galaxy S21",
        "Спасибо Google Maps",
        "Привет Maria",
        "תודה רבה 👍",
        "شكرا جزيلا 😍",
        "감사합니다 😊",
        "ありがとう 😊",
        "私は iPhone が好きです",
        "ขอบคุณมากครับ 🙏",
        "धन्यवाद 🙏",
        "Καλημέρα κόσμε",
        "გამარჯობა",
        "ሰላም",
    ],
)
def test_an_emoji_or_a_name_does_not_make_another_language_known(
    shipped: Summarizer, text: str
) -> None:
    assert not is_known(shipped, text)


@pytest.mark.parametrize(
    ("text", "is_known"),
    [
        ("The cat sleeps in the house. A dog runs.", True),
        ("这只猫坐在垫子上。河水很大。", False),
        ("Кошка сидит на большом красном доме.", False),
        ("The cat sees the word дом in a house of the old city.", True),
        ("xylophonic zebras quiz", True),  # letter by letter, but Latin
        ("кот 😀 кот", False),
        ("кот the cat", True),  # 1 of 3 words
        ("кот кот the cat", False),  # 2 of 4
        ("\u0301", False),  # nothing at all
        ("", False),
    ],
)
def test_a_small_english_vocabulary(text: str, is_known: bool) -> None:
    (document,) = tiny.encode(text)
    assert document.is_unknown_language != is_known


def test_of_a_long_text_a_quarter_of_the_words_may_be_unknown() -> None:
    """1 of 4 words, letter by letter, is over half of the tokens; and a third of the words are too many."""
    assert not tiny.encode("the cat sees маленькая " * 100)[0].is_unknown_language
    assert tiny.encode("the cat маленькая " * 100)[0].is_unknown_language


def test_other_kinds_of_tokenizers() -> None:
    for text in ("河水很大。", "the cat 😀😀", "a 😀 b 😀 c 😀 d"):
        assert not tiny.encode(text, tokenizer=tiny.unigram())[0].is_unknown_language
    assert tiny.encode("Ωμέγα ξέρει.", tokenizer=tiny.unigram())[0].is_unknown_language
    for text in ("河水很大。", "the cat 😀😀"):  # bytes: nothing is unknown
        assert not tiny.encode(text, tokenizer=tiny.byte_level_bpe())[0].is_unknown_language


@pytest.mark.parametrize(
    ("text", "is_known"),
    [
        ("9/10", True),
        (":(", True),
        ("100% !", True),
        ("9/10 😀", True),  # two numbers, and a sign that is not known
        ("5 😀 😀", False),
        ("😀!!!", False),  # punctuation says little
        ("★★★★★", False),
    ],
)
def test_a_text_without_a_letter_is_known_by_its_signs(text: str, is_known: bool) -> None:
    assert tiny.encode(text)[0].is_unknown_language != is_known
    (document,) = tiny.encode(text, tokenizer=tiny.unigram())
    assert document.is_unknown_language != is_known


def test_texts_together_are_as_alone() -> None:
    texts = ["", "The cat 😀", "кот", "A cat.", "12 猫 😀", "\u0301", "Dog кот и dog", "Cat"]
    together = [document.is_unknown_language for document in tiny.encode(*texts)]
    assert together == [tiny.encode(text)[0].is_unknown_language for text in texts]
    assert np.sum(together) == 5
