"""Text -> sentence spans, in any language, by `sentencex`.

Spans are (start, stop) offsets in characters into the original text, without the white space around a sentence, so that
a summary can be made of the author's own words.
"""

import re

import sentencex

Span = tuple[int, int]

# Written without spaces between words: summaries are joined without a space, trigrams are of characters.
UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th"})

# One character of each script is enough to name a language that shares its sentence rules; Latin is the default.
_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("zh", re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002ebef]")),
    ("ko", re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("ar", re.compile(r"[\u0600-\u06ff\u0750-\u077f]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
)
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_SAMPLE_CHARACTERS = 4000
_KANA_SHARE = 0.1  # Japanese mixes kana into Han; a Chinese text may quote a few kana

_PARAGRAPH_BREAK = re.compile(r"\n\s*\n|\u2029")

# sentencex is quadratic in runs of quotes and brackets (300,000 apostrophes: 6 s); pieces of this size keep it linear.
_CHUNK_CHARACTERS = 5000


def detect_language(text: str) -> str:
    """ISO 639-1 code of a language written in the text's most frequent script; "en" for Latin and for no letters."""
    sample = text[:_SAMPLE_CHARACTERS]
    if sample.isascii():
        return "en"
    counts = {language: len(pattern.findall(sample)) for language, pattern in _SCRIPTS}
    kana, han = counts["ja"], counts["zh"]
    if kana > _KANA_SHARE * (kana + han):
        counts["ja"] = kana + han
    # A Han character stands for about two Latin letters and more: weigh it so, or a few English names win over Chinese.
    counts["zh"], counts["ja"] = 2 * han, 2 * counts["ja"]
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] > len(_LATIN.findall(sample)) else "en"


def split_sentences(text: str, language: str) -> list[Span]:
    """Spans of the sentences of a text, in order and without overlap; a blank line ends a sentence. Linear in time."""
    spans: list[Span] = []
    start = 0
    for gap in _PARAGRAPH_BREAK.finditer(text):
        _split_paragraph(text, start, gap.start(), language, spans)
        start = gap.end()
    _split_paragraph(text, start, len(text), language, spans)
    return spans


def _split_paragraph(text: str, start: int, stop: int, language: str, spans: list[Span]) -> None:
    """Append the sentences of text[start:stop]. The last sentence of a chunk is open: it goes on into the next one."""
    sentence_start = chunk_start = start
    while chunk_start < stop:
        chunk_stop = _chunk_stop(text, chunk_start, stop)
        ends = [
            chunk_start + boundary["end_index"]
            for boundary in sentencex.get_sentence_boundaries(language, text[chunk_start:chunk_stop])
        ]
        closed = ends if chunk_stop == stop else ends[:-1]
        for end in closed:
            _append_stripped(text, sentence_start, end, spans)
            sentence_start = end
        # Read an open sentence again from its start, unless it fills the whole chunk.
        chunk_start = closed[-1] if closed else chunk_stop
    if sentence_start < stop:
        _append_stripped(text, sentence_start, stop, spans)


def _chunk_stop(text: str, start: int, stop: int) -> int:
    """End of the chunk that begins at `start`: after its last space, so that no word or number is cut."""
    limit = start + _CHUNK_CHARACTERS
    if limit >= stop:
        return stop
    space = text.rfind(" ", start, limit)
    return space + 1 if space > start else limit


def _append_stripped(text: str, start: int, stop: int, spans: list[Span]) -> None:
    sentence = text[start:stop]
    stripped = sentence.strip()
    if stripped:
        start += len(sentence) - len(sentence.lstrip())
        spans.append((start, start + len(stripped)))
