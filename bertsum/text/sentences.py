"""Text -> sentence spans, in any language, by `sentencex` and rules for lines and abbreviations.

Spans are (start, stop) offsets in characters into the original text, without the white space around a sentence, so that
a summary can be made of the author's own words.
"""

import re
from collections import Counter

import numpy as np

from bertsum.text.full_stops import (
    LONGEST_OPEN_END,
    OPEN_ENDS,
    ends_no_sentence,
    hide_markers,
    segment,
    show_sentence_ends,
)
from bertsum.text.line_breaks import split_blocks

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

_WIDE_SPACES = (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_QUOTED_LINE_BREAK = re.compile(r"\n(?:[ \t]*>)*")
_CONTINUING = frozenset("—–-とをがはのにでもへやか、")
_SPOKEN = re.compile(r"[—–-]\s+[a-zа-яёß-ÿ]")  # «Where?» — asked he.
_JAPANESE_QUOTED = re.compile(r"(?<=[」』])[とをがはのにでもへやか、]")  # 「はい。」と言った。
_FIRST_LETTER = re.compile(r"\W*(?=\w)")

# sentencex is quadratic in runs of quotes and brackets (300,000 apostrophes: 6 s); pieces of this size keep it linear.
_CHUNK_CHARACTERS = 5000

# A longer sentence is a transcript without punctuation, a table, or a list in one line. It is cut into parts.
LONGEST_SENTENCE = 600  # characters
LONGEST_PART = 300
_UNSPACED_SHARE = 3  # a Chinese or Japanese character stands for about three Latin letters
# From the best to the worst: behind the end of a sentence, behind a pause, before a conjunction, behind a word.
_PAUSES = (
    re.compile(r"[.!?…。！？।؟۔][\"'”’»)\]」』]*(?=\s|[^\x00-\u2e80])|\n"),
    re.compile(r"[;:；：](?=\s|[^\x00-\u2e80])|[,，、،](?=\s|[^\x00-\u2e80])| [—–-](?= )"),
    re.compile(
        r"(?<=\s)(?=(?:and|but|so|because|then|or|und|aber|dann|weil|et|mais|donc|puis|y|pero|porque|e|ma|poi|perché|и|а|но"
        r"|потому|потом|और|लेकिन|ثم|لكن)\s)"
    ),
    re.compile(r"\s"),
)


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
    """Spans of the sentences of a text, in order and without overlap. Linear in time.

    A blank line ends a sentence, and so does a line break that ends a list item, a heading or a line of speech.
    """
    spaced = _plain_spaces(text)
    has_quote_marks = ">" in text and "\n" in text
    spans: list[Span] = []
    for start, stop in split_blocks(text):
        # The last sentence of a chunk is open: it goes on into the next one.
        sentence_start = chunk_start = start
        while chunk_start < stop:
            chunk_stop = _chunk_stop(text, chunk_start, stop)
            chunk = spaced[chunk_start:chunk_stop]
            if chunk_start == start or ")" in chunk:
                chunk = hide_markers(chunk, is_block_start=chunk_start == start)
            ends = _sentence_ends(chunk, chunk_start, language)
            if has_quote_marks:
                ends = [_before_quote_marks(text, chunk_start, end) for end in ends]
            if chunk_stop < stop:
                ends.pop()
            for end in ends:
                _append_stripped(text, sentence_start, end, spans)
                sentence_start = end
            # Read an open sentence again from its start, unless it fills the whole chunk.
            chunk_start = ends[-1] if ends else chunk_stop
        if sentence_start < stop:
            _append_stripped(text, sentence_start, stop, spans)
    share = _UNSPACED_SHARE if language in ("zh", "ja") else 1
    if any(stop - start > LONGEST_SENTENCE // share for start, stop in spans):
        return _cut_long(text, spans, share)
    return spans


def _plain_spaces(text: str) -> str:
    """A copy of as many characters with spaces for line breaks, wide spaces and the marks of quoted mail.

    sentencex looks for lists at the start of lines. Behind what may be an abbreviation, "A\u00a0.", it
    cuts a white space of several bytes in two and panics.
    """
    spaced = text
    if "\n" in text:
        spaced = _QUOTED_LINE_BREAK.sub(_as_spaces, text) if "\n>" in text else text.replace("\n", " ")
    if not text.isascii():
        for space in _WIDE_SPACES:
            spaced = spaced.replace(space, " ")
    return spaced


def _sentence_ends(chunk: str, offset: int, language: str) -> list[int]:
    """Offsets in the text of the ends of the sentences that together are the chunk, which begins at `offset`."""
    ends: list[int] = []
    position = 0
    before = ""  # the sentence before
    for sentence in segment(chunk, language):
        if before:
            # Does the sentence before end with what may be an abbreviation or an ordinal?
            space = before.rfind(" ", -LONGEST_OPEN_END, -2)
            is_short = space >= 0 or len(before) < LONGEST_OPEN_END
            may_go_on = sentence[0] in _CONTINUING or (is_short and before[space + 1 :].rstrip() in OPEN_ENDS)
            if may_go_on and _goes_on(chunk, position, language):
                ends.pop()
        next_position = position + len(sentence)
        if ". " in sentence[:-2] and (shown := show_sentence_ends(sentence, language)):
            for part in segment(shown, language)[:-1]:
                position += len(part)
                ends.append(offset + position)
        position = next_position
        ends.append(offset + position)
        before = sentence
    return ends


def _goes_on(chunk: str, position: int, language: str) -> bool:
    """Whether what begins at an offset of the chunk belongs to the sentence before it."""
    if chunk[position] in _CONTINUING:
        return bool(_SPOKEN.match(chunk, position) or _JAPANESE_QUOTED.match(chunk, position))
    word = _FIRST_LETTER.match(chunk, position)
    return word is not None and ends_no_sentence(chunk, chunk.rfind(".", 0, position), word.end(), language)


def _as_spaces(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _before_quote_marks(text: str, start: int, end: int) -> int:
    """The end of a sentence, moved before the "> " with which the next line of an e-mail begins."""
    newline = text.rfind("\n", max(start, end - 20), end)
    return newline if newline > start and ">" in text[newline:end] and not text[newline:end].strip(" \t\n>") else end


def _chunk_stop(text: str, start: int, stop: int) -> int:
    """End of the chunk that begins at `start`: after its last space, so that no word or number is cut."""
    limit = start + _CHUNK_CHARACTERS
    if limit >= stop:
        return stop
    space = text.rfind(" ", start, limit)
    return space + 1 if space > start else limit


def _append_stripped(text: str, start: int, stop: int, spans: list[Span]) -> None:
    stripped = text[start:stop].rstrip()
    if stripped:
        stop = start + len(stripped)
        if stripped[0].isspace():
            start = stop - len(stripped.lstrip())
        spans.append((start, stop))


def _cut_long(text: str, spans: list[Span], share: int) -> list[Span]:
    """The spans, with those that are too long for a sentence in parts."""
    parts: list[Span] = []
    for start, stop in spans:
        if stop - start > LONGEST_SENTENCE // share:
            while stop - start > LONGEST_PART // share:
                end = _pause(text, start, LONGEST_PART // share)
                _append_stripped(text, start, end, parts)
                start = end
            _append_stripped(text, start, stop, parts)
        else:
            parts.append((start, stop))
    return parts


def _pause(text: str, start: int, longest: int) -> int:
    """Where a part ends that begins at `start`: at the last of the best pauses behind its first third."""
    for pattern in _PAUSES:
        pauses = [pause.end() for pause in pattern.finditer(text, start + longest // 3, start + longest)]
        if pauses:
            return pauses[-1]
    return start + longest
