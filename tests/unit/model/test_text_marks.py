"""What is counted in sentences, against regular expressions and `str` for each sentence alone."""

import re

import numpy as np
import pytest

from bertsum.model.text_marks import count_marks

QUOTATION = re.compile(r"[\"“”„«»「『]|(?<!\w)['‘](?=\w)")
LEANING = re.compile(r"(He|She|It|They|But|And|This|That|These|His|Her|I|We|You)\b")


def expected(sentence):
    capitalized = [word for word in sentence.split()[1:] if len(word) > 1 and word[0].isupper()]
    return [
        len(re.findall(r"\d+", sentence)),
        len(capitalized),
        QUOTATION.search(sentence) is not None,
        LEANING.match(sentence) is not None,
    ]


def test_marks_of_an_example():
    assert count_marks(['He said "no" to Ann Lee in 2020.', "Hero of 3 or 4."]).tolist() == [
        [1, 2, 1, 1],
        [2, 0, 0, 0],
    ]
    assert count_marks([]).shape == (0, 4)


@pytest.mark.parametrize("seed", range(20))
def test_marks_are_those_of_each_sentence_alone(seed):
    """Sentences of characters that differ in kind, some of them beyond the first 65,536."""
    rng = np.random.default_rng(seed)
    characters = list("aZ_'’‘\"«»「. \n\t\u00a0\u3000é\u0301ΑЖ中٣½²Ⅷ😀𝟗𐐀𐐨ǅ9I")
    sentences = ["He is.", "I", "It’s", " Ann", "'Tis", "5'6", ""]
    for length in rng.integers(1, 30, 200):
        sentences.append("".join(rng.choice(characters, length)))
    assert count_marks(sentences).tolist() == list(map(expected, sentences))
