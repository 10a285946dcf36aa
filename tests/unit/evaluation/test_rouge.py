"""ROUGE equals the reference implementation; languages that it cannot tokenize are compared by words or characters."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from bertsum.evaluation.rouge import Rouge, mean_rouge, rouge, rouge_of_groups
from bertsum.text.words import words

PAIRS = [
    ("The cats were sitting on mats.\nThey slept.", "A cat sat on the mat.\nIt was sleeping."),
    ("Shares fell 3.5 percent; banks' loans rose.", "Loans rose as shares fell by 3.5 percent."),
    ("identical text here", "identical text here"),
    ("nothing", "in common at all"),
    ("", "a reference"),
    ("a summary", ""),
]


def test_it_equals_rouge_score_with_the_stemmer():
    scorer = RougeScorer(["rouge1", "rouge2", "rougeLsum"], use_stemmer=True)
    scores = rouge([summary for summary, _ in PAIRS], [reference for _, reference in PAIRS])
    for (summary, reference), score in zip(PAIRS, scores, strict=True):
        expected = scorer.score(reference, summary)
        assert score.rouge_1 == pytest.approx(100 * expected["rouge1"].fmeasure, abs=1e-6)
        assert score.rouge_2 == pytest.approx(100 * expected["rouge2"].fmeasure, abs=1e-6)
        assert score.rouge_lsum == pytest.approx(100 * expected["rougeLsum"].fmeasure, abs=1e-6)
    unstemmed = (
        RougeScorer(["rouge1"], use_stemmer=False)
        .score(PAIRS[0][1], PAIRS[0][0])["rouge1"]
        .fmeasure
    )
    assert scores[0].rouge_1 > 100 * unstemmed + 10
    assert scores[2] == Rouge(100, 100, 100)


class Words:
    """The tokenizer that `rouge-score` is given for other languages than English."""

    def __init__(self, language: str) -> None:
        self.language = language

    def tokenize(self, text: str) -> list[str]:
        return words(text, self.language)


def assert_equal(summary: str, reference: str, language: str) -> None:
    names = ["rouge1", "rouge2", "rougeLsum"]
    tokenizer = None if language == "en" else Words(language)
    expected = RougeScorer(names, use_stemmer=True, tokenizer=tokenizer).score(reference, summary)
    (found,) = rouge([summary], [reference], language)
    values = (found.rouge_1, found.rouge_2, found.rouge_lsum)
    assert values == pytest.approx([100 * expected[name].fmeasure for name in names], abs=1e-6)


# few words, so that there are many subsequences of equal length: which one is taken decides the score
ENGLISH_WORDS = [
    "a",
    "b",
    "c",
    "the",
    "running",
    "runs",
    "ran",
    "3.5",
    "İ",
    "naïve",
    "-",
    "cats'",
    "\n",
    "\n",
    "\n",
]
ENGLISH = st.lists(st.sampled_from(ENGLISH_WORDS)).map(" ".join)


@given(ENGLISH, ENGLISH)
def test_english_equals_rouge_score(summary, reference):
    assert_equal(summary, reference, "en")


@given(st.text("猫狗河水。\n 3a"), st.text("猫狗河水。\n 3a"))
def test_chinese_equals_rouge_score_on_characters(summary, reference):
    assert_equal(summary, reference, "zh")


def test_chinese_is_scored_by_characters():
    (score,) = rouge(["央行下调利率。"], ["央行宣布下调利率"], "zh")
    assert score.rouge_1 == pytest.approx(100 * 2 * 6 / (6 + 8))
    assert score.rouge_2 == pytest.approx(100 * 2 * 4 / (5 + 7))
    assert score.rouge_lsum == pytest.approx(100 * 2 * 6 / (6 + 8))


def test_other_scripts_are_scored_by_words():
    (score,) = rouge(["Банк снизил ставку."], ["Банк сегодня снизил ставку"], "ru")
    assert score.rouge_1 == pytest.approx(100 * 2 * 3 / (3 + 4))
    assert score.rouge_2 == pytest.approx(100 * 2 * 1 / (2 + 3))


@pytest.mark.parametrize(
    ("sentences", "reference", "language"),
    [
        (
            # no reference has the first word of a sentence, so no bigram of it goes across
            ["Xa the cats run.", "Xb the cats run and the cats\nrun.", "Xc naïve dogs", "Xd."],
            "The cat runs.\nThe cat ran, a dog runs the cat.",
            "en",
        ),
        (["一猫狗猫。", "二河水", "三猫狗"], "猫狗猫狗河水", "zh"),
        (["Xa the cats", "Xb"], "...", "en"),
        (["Xa the cats", "Xb"], "cat", "en"),
    ],
)
def test_groups_are_scored_as_their_joined_sentences_are(sentences, reference, language):
    members = np.array(list(itertools.product([0, 1], repeat=len(sentences))), np.float32)
    summaries = []
    for group in members:
        summaries.append("\n".join(itertools.compress(sentences, group)))
    expected = rouge(summaries, [reference] * len(summaries), language)
    found = rouge_of_groups(sentences, reference, language, members)
    assert found == pytest.approx([(one.rouge_1 + one.rouge_2) / 100 for one in expected], abs=1e-6)


def test_lengths_must_agree():
    with pytest.raises(ValueError):
        rouge(["a"], ["a", "b"])


def test_mean():
    assert mean_rouge([Rouge(10, 0, 4), Rouge(30, 2, 8)]) == Rouge(20, 1, 6)
    with pytest.raises(ValueError, match="no ROUGE scores"):
        mean_rouge([])
