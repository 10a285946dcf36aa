"""Selection: budgets are never exceeded, repeats are blocked, document order is kept."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bertsum.config import SelectionConfig
from bertsum.model.selection import join_sentences, select_sentences
from bertsum.text.sentences import split_sentences
from bertsum.text.words import ngrams, words

TEXT = "The cat sleeps here. A dog runs in the red house. Prices rise. The market is good today."
SPANS = split_sentences(TEXT, "en")
TOKENS = [5, 8, 3, 6]


def select(scores, text=TEXT, spans=SPANS, tokens=TOKENS, language="en", **config):
    return select_sentences(
        np.array(scores, np.float32),
        text,
        spans,
        sentence_tokens=tokens,
        language=language,
        config=SelectionConfig.model_validate(config),
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [0, 1, 3]),
        ({"size": 1}, [1]),
        ({"size": 9}, [0, 1, 2, 3]),
        ({"unit": "tokens", "size": 13}, [0, 1]),
        ({"unit": "tokens", "size": 12}, [1, 2]),  # 8, then 5 does not fit, 6 neither, 3 does
        ({"unit": "tokens", "size": 2}, []),
        ({"unit": "characters", "size": 49}, [0, 1]),  # 20 + a space + 28
        ({"unit": "characters", "size": 48}, [1, 2]),
        ({"unit": "characters", "size": 11}, []),
        ({"unit": "characters", "size": 12}, [2]),
        ({"unit": "share", "size": 0.5}, [0, 1]),
        ({"unit": "share", "size": 1}, [0, 1, 2, 3]),
        ({"unit": "share", "size": 0.01}, [1]),  # at least one
    ],
)
def test_budgets(config, expected):
    assert select([0.8, 0.9, 0.1, 0.7], **config) == expected


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.1, 30, 3), (0.35, 20, 7), (0.3, 9, 2)],
)
def test_a_share_is_exact(size, count, expected):
    spans = [(i, i + 1) for i in range(count)]
    assert (
        len(select([0.5] * count, "x" * count, spans, [1] * count, unit="share", size=size))
        == expected
    )


def test_ties_go_to_the_earlier_sentence():
    assert select([0.5, 0.5, 0.5, 0.5], size=2) == [0, 1]


def test_sentences_that_were_not_read_are_not_chosen():
    assert select([0.1, 0.2], size=3) == [0, 1]
    assert select([0.1, 0.2], unit="share", size=0.75) == [
        0,
        1,
    ]  # of all four, of which two were read
    assert select([]) == []


REPEATS = "The red cat sleeps. Red apples fall. We saw that the red cat runs. THE RED, cat! Red cat sleeps again."


def test_trigram_blocking_of_words():
    spans = split_sentences(REPEATS, "en")
    assert len(spans) == 5
    scores, tokens = [0.9, 0.1, 0.8, 0.7, 0.6], [1] * 5
    assert select(scores, REPEATS, spans, tokens) == [0, 1]
    assert select(scores, REPEATS, spans, tokens, trigram_blocking=False) == [0, 2, 3]


def test_a_blocked_sentence_costs_no_budget_and_blocks_nothing():
    text = "a b c d. b c d e f g. e f g h."
    spans = [(0, 8), (9, 21), (22, 30)]
    assert select([0.9, 0.8, 0.7], text, spans, [1] * 3, size=2) == [0, 2]


def test_a_sentence_over_budget_blocks_nothing():
    text = "a b c d e f g h. a b c."
    assert select([0.9, 0.8], text, [(0, 16), (17, 23)], [9, 4], unit="tokens", size=5) == [1]


def test_trigram_blocking_of_characters():
    text = "央行下调利率。昨天央行下跌。央行宣布。他说下调利息。"
    spans = split_sentences(text, "zh")
    scores, tokens = [0.9, 0.8, 0.7, 0.6], [1] * 4
    assert select(scores, text, spans, tokens, "zh") == [0, 2]  # 央行下 and 下调利 repeat
    assert select(scores, text, spans, tokens, "en") == [0, 1, 2]  # as words, each sentence is one


def test_a_hindi_word_is_not_a_trigram():
    """Vowel signs are not letters to Python's `\\w`; a word is not cut at them."""
    text = "हिन्दी भाषा है। वह हिन्दी बोलता है।"
    spans = split_sentences(text, "hi")
    assert len(spans) == 2
    assert select([0.9, 0.8], text, spans, [1, 1], "hi") == [0, 1]


@pytest.mark.parametrize(
    ("language", "joined"),
    [
        ("en", "AB CD"),
        ("ru", "AB CD"),
        ("ko", "AB CD"),
        ("zh", "ABCD"),
        ("ja", "ABCD"),
        ("th", "ABCD"),
    ],
)
def test_joiners(language, joined):
    assert join_sentences("AB--CD", [(0, 2), (4, 6)], [0, 1], language) == joined
    assert join_sentences("AB--CD", [(0, 2), (4, 6)], [], language) == ""


@given(
    st.lists(
        st.lists(st.sampled_from(["ab", "c", "def", "g", "猫"]), min_size=1, max_size=7),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["sentences", "characters", "tokens", "share"]),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from(["en", "zh"]),
    st.randoms(use_true_random=False),
)
def test_no_budget_is_exceeded(sentences, unit, size, blocking, language, random):
    text, spans = "", []
    for sentence in sentences:
        spans.append((len(text), len(text) + len(" ".join(sentence))))
        text += " ".join(sentence) + "  "
    tokens = [len(sentence) for sentence in sentences]
    scores = np.array([random.random() for _ in sentences], np.float32)
    budget = min(size, 10) / 10 if unit == "share" else size
    config = SelectionConfig(unit=unit, size=budget, trigram_blocking=blocking)
    chosen = select_sentences(
        scores, text, spans, sentence_tokens=tokens, language=language, config=config
    )

    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(len(sentences)))
    costs = {
        "sentences": len(chosen),
        "characters": len(join_sentences(text, spans, chosen, language)),
        "tokens": sum(tokens[index] for index in chosen),
        "share": len(chosen),
    }
    assert costs[unit] <= (max(1, budget * len(sentences) + 1e-9) if unit == "share" else size)
    assert chosen or unit not in ("sentences", "share")
    if blocking:
        grams = [
            gram
            for index in chosen
            for gram in ngrams(words(text[slice(*spans[index])], language), 3)
        ]
        assert len(grams) == len(set(grams))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.integers(1, 30),
    st.randoms(use_true_random=False),
)
def test_a_sentence_that_is_left_out_did_not_fit(lengths, size, random):
    """Without blocking: whatever is not chosen, and scores higher than a chosen one, was too long at its turn."""
    scores = np.array([random.random() for _ in lengths], np.float32)
    assume(len(set(scores.tolist())) == len(lengths))
    spans = [(i, i + 1) for i in range(len(lengths))]
    config = SelectionConfig(unit="tokens", size=size, trigram_blocking=False)
    chosen = select_sentences(
        scores, "x" * len(lengths), spans, sentence_tokens=lengths, language="en", config=config
    )
    used = 0
    for index in np.argsort(-scores):
        fits = used + lengths[index] <= size
        assert (index in chosen) == fits
        used += lengths[index] * fits
