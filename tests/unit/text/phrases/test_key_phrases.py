"""Candidates for key phrases, in languages with spaces and without."""

import pytest

from bertsum.text.phrases.key_phrases import key_phrases
from bertsum.text.phrases.stop_words import STOP_WORDS
from bertsum.text.sentences import split_sentences


def found(text, language="en", rarity=lambda word: 1.0, tokens=()):
    """Texts of the candidates; `tokens`: of unspaced languages, those that there are."""

    def split(sentences):
        return [tokens_of(sentence) for sentence in sentences]

    def tokens_of(sentence):
        spans, start = [], 0
        while start < len(sentence):
            fits = [token for token in tokens if sentence.startswith(token, start)]
            length = max(map(len, fits), default=1)
            spans.append((start, start + length))
            start += length
        return spans

    phrases = key_phrases(text, split_sentences(text, language), language, rarity, split)
    return {phrase.text: phrase.sentences for phrase in phrases}


def test_stop_words_marks_and_names_end_a_phrase():
    assert found("The Bank of England raised interest rates, again.") == {
        "Bank": [0],
        "England": [0],
        "raised interest rates": [0],
    }


def test_what_repeats_is_a_phrase_also_inside_another():
    phrases = found("Rising interest rates hurt. They fear high interest rates.")
    assert phrases["interest rates"] == [0, 1]


def test_a_word_gives_way_to_the_phrase_that_it_mostly_is_in():
    phrases = found("A central bank. The central bank. This bank. That central bank.")
    assert phrases == {"central bank": [0, 1, 3]}


def test_a_possessive_and_an_apostrophe_belong_to_the_word():
    phrases = found("The river's old name is O'Brien's. We don't like that river.")
    assert phrases["river"] == [0, 1]
    assert "O'Brien" in phrases
    assert not any("don" in phrase for phrase in phrases)


def test_numbers_and_single_letters_are_no_phrases():
    assert found("In 2026 a b 17 % of x.") == {}


def test_marks_of_hindi_are_parts_of_words():
    # rarity 1: no word is a stop word there
    assert found("नदी बड़ी है।", "hi") == {"नदी बड़ी है": [0]}


def test_without_a_list_frequent_words_are_stop_words():
    rarity = {"og": 0.02, "huset": 0.6, "gamle": 0.5, "det": 0.05}.get
    assert found("Det gamle huset og det.", "da", rarity) == {"gamle huset": [0]}


def test_chinese_words_are_tokens_and_what_repeats_of_them():
    text = "中国人民银行今天宣布降息。中国人民银行认为市场稳定。"
    phrases = found(text, "zh", tokens=["中国", "人民", "银行", "今天", "宣布", "降息", "市场"])
    assert phrases["中国人民银行"] == [0, 1]
    assert {"宣布", "降息", "市场"} <= phrases.keys()
    assert "今天" not in phrases  # a stop word
    assert "银行" not in phrases  # always in the longer one


def test_chinese_tokens_with_a_particle_and_counts_are_no_words():
    text = "买了手机也很安静不算贵，三天在三亚，也门酒吧不丹，质量不锈钢。"
    dropped = ["买了", "也很", "不算", "贵", "三天"]
    kept = {"手机", "安静", "三亚", "也门", "酒吧", "不丹", "质量", "不锈钢"}
    assert found(text, "zh", tokens=[*dropped, *kept]).keys() == kept


@pytest.mark.parametrize("language", sorted(STOP_WORDS))
def test_stop_words_are_lower_case(language):
    assert all(word == word.lower() for word in STOP_WORDS[language])


@pytest.mark.parametrize("text", ["", "🎉", "the", "a-", "-", "'s", "x" * 100_000, "the " * 50_000])
def test_hostile_texts(text):
    assert isinstance(found(text), dict)
