"""Tags of languages are read as ISO 639 and BCP 47 define them."""

import pytest
from helpers import tiny

from bertsum.text.encoder import EncodedDocument
from bertsum.text.language_tags import base_language


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("zh-Hant-TW", "zh"),
        ("zh_CN", "zh"),
        (" EN ", "en"),
        # ISO 639-2: those for terminology and those for bibliographies
        *[("eng", "en"), ("ENG", "en"), ("eng-US", "en"), ("fra", "fr"), ("fre", "fr")],
        *[("zho", "zh"), ("chi", "zh"), ("deu", "de"), ("ger", "de"), ("jpn", "ja")],
        *[("ces", "cs"), ("cze", "cs"), ("nld", "nl"), ("dut", "nl"), ("tha", "th")],
        # ISO 639-3: standard varieties
        *[("cmn", "zh"), ("cmn-Hans", "zh"), ("arb", "ar"), ("pes", "fa")],
        # languages without a code of two letters
        *[("yue", "yue"), ("ceb", "ceb"), ("als", "als")],
        *[("", ""), (None, ""), ("und", ""), ("mul", ""), (" ", "")],
        *[("English", ""), ("no such language", ""), ("1", ""), ("e", "")],
    ],
)
def test_the_language_of_a_tag(tag: str | None, language: str) -> None:
    assert base_language(tag) == language


def test_sentences_are_split_by_the_rules_of_the_tag() -> None:
    """`sig.` is an Italian abbreviation, and the last word of a sentence elsewhere."""
    text = "Il sig. Rossi è partito."
    encoder = tiny.document_encoder(tiny.unigram())

    def spans(tag: str | None) -> list[tuple[int, int]]:
        documents: list[EncodedDocument] = encoder.encode([text], [tag], 8)
        return documents[0].spans

    assert spans("ita") == spans("it-IT") == spans("it") == [(0, len(text))]
    assert len(spans("eng")) == len(spans("und")) == len(spans(None)) == 2
