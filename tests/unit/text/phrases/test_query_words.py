"""The words of a query: where they stand, and BM25 by its formula."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsum.text.phrases.query_words import bm25, query_words, word_spans


def found(text: str, query: str, language: str = "en") -> list[str]:
    spans = word_spans(text, query_words(query, language), language)
    return [text[start:stop] for start, stop in spans]


@pytest.mark.parametrize(
    ("text", "query", "language", "expected"),
    [
        ("Cats sleep; the cat's bed.", "cat", "en", ["Cats", "cat"]),
        ("He STOPPED. They stop, stopping.", "stops", "en", ["STOPPED", "stop", "stopping"]),
        ("Charged with charges: a charge.", "charged", "en", ["Charged", "charges", "charge"]),
        ("Companies and a company", "company", "en", ["Companies", "company"]),
        (
            "A red bus. Reds, press, pressed.",
            "red press",
            "en",
            ["red", "Reds", "press", "pressed"],
        ),
        ("The price of it", "the price", "en", ["price"]),  # a stop word says nothing
        ("The who", "the who", "en", ["The", "who"]),  # unless there is nothing else
        ("A _ and __ of max_tokens", "_ __ max_tokens", "en", ["max_tokens"]),  # a line is no word
        ("Die Häuser und ein Haus", "haus", "de", ["Haus"]),  # forms are those of English alone
        ("🐈 Der Kater – KATER", "kater", "de", ["Kater", "KATER"]),
        ("人民币走强，人民银行说。", "人民币", "zh", ["人民币", "人民"]),
        ("微软的IE10不支持Flash插件。", "Flash插件 ie10", "zh", ["IE10", "Flash插件"]),
        ("猫狗，大猫", "猫", "zh", ["猫", "猫"]),
        ("猫狗", "猫狗鱼", "zh", ["猫狗"]),
        ("猫鱼", "猫狗鱼", "zh", []),
        ("nothing", "", "en", []),
    ],
)
def test_where_the_words_stand(text, query, language, expected):
    assert found(text, query, language) == expected


@given(st.text(max_size=60), st.text(max_size=20), st.sampled_from(["en", "zh", "th", "de"]))
def test_spans_ascend_and_lie_apart(text, query, language):
    spans = word_spans(text, query_words(query, language), language)
    edges = [0, *(edge for span in spans for edge in span)]
    assert edges == sorted(edges) and edges[-1] <= len(text)
    for (start, stop), following in pairwise(spans):
        assert start < stop < following[0]


def test_bm25_by_its_formula():
    """Robertson & Zaragoza 2009, equation 3.15, with the logarithm of Lucene."""
    sentences = ["the cat saw the cat", "a dog", "the dog saw a cat and a bird"]
    words = query_words("cats and dogs", "en")
    assert words == {"cat", "dog"}
    counts = {"cat": [2, 0, 1], "dog": [0, 1, 1]}
    lengths = [5, 2, 8]
    expected = []
    for index in range(3):
        score = 0.0
        for word in words:
            number = sum(count > 0 for count in counts[word])
            rarity = math.log(1 + (3 - number + 0.5) / (number + 0.5))
            frequency = counts[word][index]
            length = 1.2 * (0.25 + 0.75 * lengths[index] / 5)
            score += rarity * frequency * 2.2 / (frequency + length)
        expected.append(score)
    assert bm25(sentences, words, "en") == pytest.approx(expected)


@given(st.lists(st.text(max_size=30), max_size=5), st.text(max_size=20))
def test_bm25_is_a_number_of_at_least_0(sentences, query):
    words = query_words(query, "en")
    scores = bm25(sentences, words, "en")
    assert scores.shape == (len(sentences),)
    for sentence, score in zip(sentences, scores, strict=True):
        assert np.isfinite(score) and (score > 0) == bool(word_spans(sentence, words, "en"))
