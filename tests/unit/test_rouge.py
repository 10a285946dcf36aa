"""ROUGE equals the reference implementation; languages that it cannot tokenize are compared by words or characters."""

import pytest
from rouge_score.rouge_scorer import RougeScorer

from bertsum.rouge import Rouge, mean_rouge, rouge

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
    unstemmed = RougeScorer(["rouge1"], use_stemmer=False).score(PAIRS[0][1], PAIRS[0][0])["rouge1"].fmeasure
    assert scores[0].rouge_1 > 100 * unstemmed + 10
    assert scores[2] == Rouge(100, 100, 100)


def test_chinese_is_scored_by_characters():
    (score,) = rouge(["央行下调利率。"], ["央行宣布下调利率"], "zh")
    assert score.rouge_1 == pytest.approx(100 * 2 * 6 / (6 + 8))
    assert score.rouge_2 == pytest.approx(100 * 2 * 4 / (5 + 7))
    assert score.rouge_lsum == pytest.approx(100 * 2 * 6 / (6 + 8))


def test_other_scripts_are_scored_by_words():
    (score,) = rouge(["Банк снизил ставку."], ["Банк сегодня снизил ставку"], "ru")
    assert score.rouge_1 == pytest.approx(100 * 2 * 3 / (3 + 4))
    assert score.rouge_2 == pytest.approx(100 * 2 * 1 / (2 + 3))


def test_lengths_must_agree():
    with pytest.raises(ValueError):
        rouge(["a"], ["a", "b"])


def test_mean():
    assert mean_rouge([Rouge(10, 0, 4), Rouge(30, 2, 8)]) == Rouge(20, 1, 6)
    with pytest.raises(ValueError, match="no ROUGE scores"):
        mean_rouge([])
