"""The greedy oracle: against the definition of greedy, and against rouge-score."""

from collections import Counter
from itertools import combinations, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer, _create_ngrams, _score_ngrams

from bertsum.labels.oracle import best_combination, greedy_oracle
from bertsum.text.words import ngrams, words

SENTENCES = [
    "The market was quiet on Monday.",
    "Shares of the bank fell by three percent.",
    "A cat sat on the mat.",
    "The bank blamed bad loans in the old city.",
    "Shares fell.",
]


def rouge_sum(chosen: list[str], summary: str, language: str = "en") -> float:
    """ROUGE-1 F + ROUGE-2 F over sets, written from the definition; no bigram goes across sentences."""
    total = 0.0
    for n in (1, 2):
        have = {
            gram
            for sentence in chosen
            for gram in zip(*_shifts(words(sentence, language), n), strict=False)
        }
        want = {
            gram
            for line in summary.splitlines()
            for gram in zip(*_shifts(words(line, language), n), strict=False)
        }
        hits = len(have & want)
        if hits:
            # 2 P R / (P + R) with P = hits / have and R = hits / want; so 6/9 and 4/6 are equal to the last bit
            total += 2 * hits / (len(have) + len(want))
    return total


def _shifts(tokens: list[str], n: int) -> list[list[str]]:
    return [tokens[i:] for i in range(n)]


def greedy(sentences: list[str], summary: str, language: str, max_sentences: int) -> list[int]:
    """By brute force: each step tries all, takes the first best, and stops when none is better than before."""
    chosen: list[int] = []
    while len(chosen) < max_sentences:
        now = rouge_sum([sentences[i] for i in chosen], summary, language)
        scores = [
            (rouge_sum([sentences[i] for i in [*chosen, index]], summary, language), -index)
            for index in range(len(sentences))
        ]
        best, place = max(scores, default=(0, 0))
        if best <= now + 1e-12:
            break
        chosen.append(-place)
    return sorted(chosen)


WORDS = st.sampled_from(["a", "b", "c", "d", "e", ".", "the"])
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


@given(st.lists(TEXTS, max_size=6), st.lists(TEXTS, max_size=3).map("\n".join), st.integers(0, 4))
@example(["b c e the a", "b a"], "a b d c", 1)  # both score 2/3: the first is taken
def test_it_is_greedy(sentences, summary, max_sentences):
    assert greedy_oracle(sentences, summary, "en", max_sentences) == greedy(
        sentences, summary, "en", max_sentences
    )


@given(
    st.lists(st.text("猫狗河水。", max_size=6), max_size=5), st.text("猫狗河水。\n", max_size=12)
)
def test_it_is_greedy_by_characters(sentences, summary):
    assert greedy_oracle(sentences, summary, "zh", 3) == greedy(sentences, summary, "zh", 3)


def test_the_first_choice_is_the_best_single_sentence_by_rouge_score():
    """rouge-score counts repeated n-grams, so the texts here repeat none."""
    summary = "Shares of the old bank fell after bad loans."
    scorer = RougeScorer(["rouge1", "rouge2"], use_stemmer=False)
    scores = [
        sum(score.fmeasure for score in scorer.score(summary, sentence).values())
        for sentence in SENTENCES
    ]
    assert greedy_oracle(SENTENCES, summary, "en", 1) == [scores.index(max(scores))]
    for sentence, score in zip(SENTENCES, scores, strict=True):
        if sentence.lower().split().count("the") < 2:
            assert rouge_sum([sentence], summary) == pytest.approx(score, abs=1e-9)


def test_it_beats_no_more_than_the_best_set_and_stops_when_nothing_helps():
    summary = "Shares of the bank fell by three percent.\nThe bank blamed bad loans."
    chosen = greedy_oracle(SENTENCES, summary, "en", 5)
    assert chosen == [1, 3]
    best = max(
        rouge_sum([SENTENCES[i] for i in group], summary)
        for size in range(1, 4)
        for group in combinations(range(5), size)
    )
    assert rouge_sum([SENTENCES[i] for i in chosen], summary) <= best + 1e-12


def test_the_cap_and_ties():
    assert greedy_oracle(["a b", "c d", "e f"], "a b c d e f", "en", 2) == [0, 1]
    assert greedy_oracle(["x", "a b", "a b"], "a b", "en", 3) == [1]
    assert greedy_oracle(SENTENCES, "the market", "en", 0) == []


@pytest.mark.parametrize(
    ("sentences", "summary"),
    [([], "a b"), (["a b"], ""), (["a b"], "\n\n"), (["a b"], "x y"), (["", "..."], "a b")],
)
def test_nothing_in_common_is_no_label(sentences, summary):
    assert greedy_oracle(sentences, summary, "en", 3) == []


def test_chinese_is_compared_by_characters():
    sentences = ["今天天气很好。", "央行宣布下调利率。", "他喜欢猫。"]
    assert greedy_oracle(sentences, "央行下调了利率", "zh", 3) == [1]
    assert greedy_oracle(sentences, "央行下调了利率", "en", 3) == []  # one word each


def test_no_bigram_goes_across_the_lines_of_a_summary():
    assert greedy_oracle(["b c", "a x c d"], "a b\nc d", "en", 1) == [1]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("The Cat's 3.5, well-known!", "en", ["the", "cat", "s", "3", "5", "well", "known"]),
        ("Größe ÉTÉ", "de", ["größe", "été"]),
        ("央行 利率。", "zh", list("央行利率")),
        ("हिन्दी भाषा।", "hi", ["हिन्दी", "भाषा"]),
        ("مُحَمَّد هنا", "ar", ["مُحَمَّد", "هنا"]),
        ("e\u0301te\u0301", "fr", ["e\u0301te\u0301"]),
        ("ที่นี่", "th", list("ที่นี่")),
        ("", "en", []),
    ],
)
def test_words_of_a_language(text, language, expected):
    assert words(text, language) == expected


def test_ngrams_are_a_set_of_runs():
    assert ngrams(["a", "b", "a", "b"], 2) == {("a", "b"), ("b", "a")}
    assert ngrams(["a"], 2) == frozenset()


def rouge_score_sum(chosen: list[str], summary: str) -> float:
    """ROUGE-1 F + ROUGE-2 F of the reference implementation, its counts of n-grams set to 1."""
    total = 0.0
    for n in (1, 2):
        sides = [
            Counter({gram for part in parts for gram in _create_ngrams(words(part, "en"), n)})
            for parts in (summary.splitlines(), chosen)
        ]
        total += _score_ngrams(*sides).fmeasure
    return total


@given(st.lists(TEXTS, max_size=6), st.lists(TEXTS, max_size=3).map("\n".join), st.integers(0, 3))
def test_the_best_combination_is_the_best_by_rouge_score(sentences, summary, max_sentences):
    groups = [
        group
        for size in range(max_sentences + 1)
        for group in combinations(range(len(sentences)), size)
    ]
    scores = [rouge_score_sum([sentences[i] for i in group], summary) for group in groups]
    best = next(
        group for group, score in zip(groups, scores, strict=True) if score > max(scores) - 1e-12
    )
    assert best_combination(sentences, summary, "en", max_sentences, max_combinations=1000) == list(
        best
    )


@given(st.lists(TEXTS, max_size=8), st.lists(TEXTS, max_size=3).map("\n".join))
def test_each_greedy_step_is_the_best_by_rouge_score(sentences, summary):
    """The first k choices, for k = 1, 2, 3: each adds a sentence that no other beats, and stops when none helps."""
    steps = [set(greedy_oracle(sentences, summary, "en", k)) for k in range(4)]
    for before, after in pairwise(steps):
        scores = [
            rouge_score_sum([sentences[i] for i in {*before, j}], summary)
            for j in range(len(sentences))
        ]
        if before == after:
            assert all(
                score <= rouge_score_sum([sentences[i] for i in before], summary) + 1e-12
                for score in scores
            )
        else:
            (new,) = after - before
            assert scores[new] >= max(scores) - 1e-12


def test_too_many_combinations_are_not_tried():
    sentences = [f"a w{number}" for number in range(10)]
    assert best_combination(sentences, "a w3 w5", "en", 2, max_combinations=10 + 45) == [3, 5]
    assert best_combination(sentences, "a w3 w5", "en", 2, max_combinations=10 + 44) is None
    longer = [*sentences, "x", "y z"]  # which share no word
    assert best_combination(longer, "a w3 w5", "en", 2, max_combinations=10 + 45) == [3, 5]
