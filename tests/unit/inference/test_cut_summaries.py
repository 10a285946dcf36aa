"""A best sentence that is longer than the budget is cut, where `selection.cut` asks for it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsum.config import SelectionConfig, SummarizerConfig
from bertsum.inference.summarizer import Summarizer
from bertsum.model.cut import ELLIPSIS
from bertsum.schema import Status

LONG = "The bank, which fell by 1,000 points, says that the fund is safe and the dog sleeps"
# what counts differently in bytes, UTF-16 units, code points and characters on the screen
HARD = [
    "e\u0301",
    "👩‍👩‍👧",
    "🇫🇷",
    "\r\n",
    "中国",
    "นี้",
    "क्षमा",
    "x",
    " ",
    ", ",
    ". ",
    "。",
    "The bank ",
]
TEXTS = st.lists(st.sampled_from(HARD) | st.text(max_size=5), max_size=40).map("".join)


def make(directory, **selection) -> Summarizer:
    values = {"dtype": "float32", "selection": selection, "outputs": ["spans"]}
    return Summarizer(directory, SummarizerConfig.model_validate(values), device="cpu")


@pytest.fixture(scope="module")
def summarizer(checkpoint):
    return make(checkpoint)


def use(summarizer: Summarizer, **selection) -> Summarizer:
    """Change the selection of a model that is loaded."""
    values = summarizer.config.model_dump() | {"selection": selection}
    summarizer.config = SummarizerConfig.model_validate(values)
    for reader in summarizer.readers.values():
        reader.use(summarizer.config)
    return summarizer


@pytest.mark.parametrize(
    ("selection", "summary"),
    [
        ({"unit": "characters", "size": 50}, ""),
        (
            {"unit": "characters", "size": 50, "cut": "word"},
            "The bank, which fell by 1,000 points, says that…",
        ),
        (
            {"unit": "characters", "size": 50, "cut": "clause"},
            "The bank, which fell by 1,000 points…",
        ),
        ({"unit": "characters", "size": 84, "cut": "word"}, LONG + "."),
        ({"unit": "characters", "size": 83, "cut": "word"}, LONG[:76] + "…"),
        ({"unit": "characters", "size": 1, "cut": "word"}, ""),
    ],
)
def test_one_sentence(summarizer, selection, summary):
    prediction = use(summarizer, **selection)(LONG + ".")
    assert prediction.status == Status.OK
    assert prediction.summary == summary
    kept = len(summary.removesuffix(ELLIPSIS))
    assert prediction.summary_spans == ([{"start": 0, "length": kept}] if summary else [])
    assert list(prediction.summary_sentences) == ([0] if summary else [])
    assert len(prediction.summary_scores) == len(prediction.summary_sentences)


def test_the_best_sentence_is_cut_and_not_passed_over(summarizer):
    text = f"A cat sleeps. {LONG}. Prices rise."
    order = use(summarizer, size=3, trigram_blocking=False)(text)
    best = max(range(3), key=order.summary_scores.__getitem__)
    start, length = order.summary_spans[best].values()
    passed_over = use(summarizer, unit="characters", size=length - 1)(text)
    assert best not in passed_over.summary_sentences
    cut = use(summarizer, unit="characters", size=length - 1, cut="word")(text)
    assert list(cut.summary_sentences) == [best]
    assert list(cut.summary_scores) == [order.summary_scores[best]]
    (span,) = cut.summary_spans
    assert span["start"] == start
    assert cut.summary == text[start : start + span["length"]] + ELLIPSIS
    # where it fits, nothing is cut, and the others are as they were
    fits = {"unit": "characters", "size": length + 1}
    assert use(summarizer, **fits, cut="word")(text) == use(summarizer, **fits)(text)


@pytest.mark.parametrize("size", range(1, 25))
def test_tokens_of_the_model(summarizer, size):
    prediction = use(summarizer, unit="tokens", size=size, cut="word")(LONG + ".")
    tokens = summarizer.tokenizer(prediction.summary, add_special_tokens=False)["input_ids"]
    assert len(tokens) <= size
    (span,) = prediction.summary_spans or [{"length": 0}]
    # a part that ends a word later would be too long; + 2: a comma may be left out, too
    later = LONG.find(" ", span["length"] + 2)
    if later > 0 and prediction.num_tokens > size:
        longer = LONG[:later].rstrip(",") + ELLIPSIS
        assert len(summarizer.tokenizer(longer, add_special_tokens=False)["input_ids"]) > size


def test_a_text_of_another_script(summarizer):
    """Its summary is its beginning."""
    selection = {"unit": "characters", "size": 12, "cut": "word"}
    prediction = use(summarizer, **selection)("Ова је прва реченица. Ова.")
    assert prediction.status == Status.UNKNOWN_LANGUAGE
    assert prediction.summary == "Ова је прва…"
    assert prediction.summary_spans == [{"start": 0, "length": 11}]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.integers(1, 60), st.sampled_from(["clause", "word"]))
def test_no_budget_is_exceeded_and_spans_give_what_is_kept(summarizer, text, size, border):
    if any("\ud800" <= character <= "\udfff" for character in text):
        return  # no UTF-8, so no text
    selection = {"unit": "characters", "size": size}
    prediction = use(summarizer, **selection, cut=border)(text)
    if prediction.summary is None:
        return
    assert len(prediction.summary) <= size
    spans = prediction.summary_spans
    assert len(spans) == len(prediction.summary_sentences)
    sentences = [text[span["start"] : span["start"] + span["length"]] for span in spans]
    joined = {" ".join(sentences), "".join(sentences)}
    without = use(summarizer, **selection)(text)
    if prediction.summary not in joined:
        assert [prediction.summary] == [sentences[0] + ELLIPSIS]
    elif spans:
        assert prediction == without


@pytest.mark.parametrize("unit", ["sentences", "share"])
def test_sentences_are_not_cut_to_a_number_of_sentences(unit):
    with pytest.raises(ValueError, match=f"selection.cut=word .*characters or tokens, not {unit}"):
        SelectionConfig(unit=unit, size=1, cut="word")


def test_another_border_is_refused():
    with pytest.raises(ValueError, match="'none', 'clause' or 'word'"):
        SelectionConfig(unit="characters", size=9, cut="letter")
