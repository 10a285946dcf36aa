"""Text -> sentence spans, in any language, by `sentencex`.

Spans are (start, stop) offsets in characters into the original text, without the white space around a sentence, so that
a summary can be made of the author's own words.
"""

import re
from collections import Counter
from itertools import accumulate

import numpy as np
import sentencex

Span = tuple[int, int]

# Written without spaces between words: summaries are joined without a space, trigrams are of characters.
UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th"})

# One character of each script is enough to name a language that shares its sentence rules; Latin is the default.
_SCRIPTS = (
    ("el", 0x370, 0x400),
    ("ru", 0x400, 0x500),
    ("he", 0x590, 0x600),
    ("ar", 0x600, 0x700),
    ("ar", 0x750, 0x780),
    ("hi", 0x900, 0x980),
    ("th", 0xE00, 0xE80),
    ("ko", 0x1100, 0x1200),
    ("ja", 0x3040, 0x3100),
    ("zh", 0x3400, 0x4DC0),
    ("zh", 0x4E00, 0xA000),
    ("ko", 0xAC00, 0xD7B0),
    ("zh", 0x20000, 0x2EBF0),
)
_TIES = ("ja", "zh", "ko", "th", "ar", "he", "hi", "el", "ru")  # the first of equally frequent ones
_SCRIPT_EDGES = np.array([edge for _, *bounds in _SCRIPTS for edge in bounds], np.uint32)
_FIRST_SCRIPT = _SCRIPTS[0][1]
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_SAMPLE_CHARACTERS = 4000
_KANA_SHARE = 0.1  # Japanese mixes kana into Han; a Chinese text may quote a few kana

# Where sentencex cuts a white space of several bytes in two and panics, behind what may be an abbreviation: "A\u00a0.".
_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f](?=[.。．])")
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n|\u2029")

# sentencex is quadratic in runs of quotes and brackets (300,000 apostrophes: 6 s); pieces of this size keep it linear.
_CHUNK_CHARACTERS = 5000


def detect_language(text: str) -> str:
    """ISO 639-1 code of a language written in the text's most frequent script; "en" for Latin and for no letters."""
    sample = text[:_SAMPLE_CHARACTERS]
    if sample.isascii():
        return "en"
    counts = _count_scripts(sample)
    if not counts:
        return "en"
    kana, han = counts["ja"], counts["zh"]
    if kana > _KANA_SHARE * (kana + han):
        counts["ja"] = kana + han
    # A Han character stands for about two Latin letters and more: weigh it so, or a few English names win over Chinese.
    counts["zh"], counts["ja"] = 2 * han, 2 * counts["ja"]
    best = max(_TIES, key=counts.__getitem__)
    return best if counts[best] > len(_LATIN.findall(sample)) else "en"


def _count_scripts(text: str) -> Counter[str]:
    """Characters of each script but Latin, by the language that stands for it."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    places = np.searchsorted(_SCRIPT_EDGES, codes[codes >= _FIRST_SCRIPT], side="right")
    counts: Counter[str] = Counter()
    for place, count in enumerate(np.bincount(places).tolist()):
        if count and place % 2:  # between the edges of a script
            counts[_SCRIPTS[place // 2][0]] += count
    return counts


def split_sentences(text: str, language: str) -> list[Span]:
    """Spans of the sentences of a text, in order and without overlap; a blank line ends a sentence. Linear in time."""
    spans: list[Span] = []
    start = 0
    if "\n" in text or "\u2029" in text:
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
        lengths = _lengths(text[chunk_start:chunk_stop], language)
        ends = list(accumulate(lengths, initial=chunk_start))[1:]
        closed = ends if chunk_stop == stop else ends[:-1]
        for end in closed:
            _append_stripped(text, sentence_start, end, spans)
            sentence_start = end
        # Read an open sentence again from its start, unless it fills the whole chunk.
        chunk_start = closed[-1] if closed else chunk_stop
    if sentence_start < stop:
        _append_stripped(text, sentence_start, stop, spans)


def _lengths(chunk: str, language: str) -> list[int]:
    """Of the sentences that together are the chunk; of one where sentencex panics."""
    if not chunk.isascii():
        chunk = _WIDE_SPACE.sub(" ", chunk)  # each panic would print two lines to stderr
    try:
        return list(map(len, sentencex.segment(language, chunk)))
    except BaseException as error:  # a panic of Rust is no Exception, so that it would end the process
        if type(error).__name__ != "PanicException":
            raise
    return [len(chunk)]


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
