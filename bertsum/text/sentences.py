"""Text -> sentence spans, in any language, by `sentencex` and rules for lines and abbreviations.

Spans are (start, stop) offsets in characters into the original text, without the white space around
a sentence, so that a summary can be made of the author's own words.
"""

import re
from collections import Counter

import numpy as np

from bertsum.text.full_stops import (
    OPEN_ENDS,
    ends_no_sentence,
    hide_markers,
    segment,
    split_at_words,
)
from bertsum.text.line_breaks import split_blocks

Span = tuple[int, int]

# Written without spaces between words: summaries are joined without a space, and trigrams are of
# characters.
UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th"})

# The language that stands for a script, and the range of its code points. All languages of a script
# have about the same rules for sentences; Latin is the default.
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
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_QUOTED_LINE_BREAK = re.compile(r"\n(?:[ \t]*>)*")
_CONTINUING = frozenset("—–-とをがはのにでもへやか、")
_UNUSUAL_INITIALS = _CONTINUING.union(filter(str.isspace, map(chr, range(0x3001))))
_SPOKEN = re.compile(r"[—–-]\s+[a-zа-яёß-ÿ]")  # «Where?» — asked he.
_JAPANESE_QUOTED = re.compile(r"(?<=[」』])[とをがはのにでもへやか、]")  # 「はい。」と言った。
_FIRST_LETTER = re.compile(r"\W*(?=\w)")

# sentencex is quadratic in runs of quotes and brackets (300,000 apostrophes: 6 s). Chunks of this
# size keep it linear.
_CHUNK_CHARACTERS = 5000

# A longer sentence is a transcript without punctuation, a table, or a list in one line. It is cut
# into parts.
LONGEST_SENTENCE = 600  # characters
LONGEST_PART = 300
_UNSPACED_SHARE = 3  # a Chinese or Japanese character stands for about three Latin letters
# Where a long sentence is cut, from the best to the worst: behind the end of a sentence, behind a
# pause, before a conjunction, behind a word.
_PAUSES = (
    re.compile(r"[.!?…。！？।؟۔][\"'”’»)\]」』]*(?=\s|[^\x00-\u2e80])|\n"),
    re.compile(r"[;:；：](?=\s|[^\x00-\u2e80])|[,，、،](?=\s|[^\x00-\u2e80])| [—–-](?= )"),
    re.compile(
        r"(?<=\s)(?=(?:and|but|so|because|then|or|und|aber|dann|weil|et|mais|donc|puis|y|pero"
        r"|porque|e|ma|poi|perché|и|а|но|потому|потом|और|लेकिन|ثم|لكن)\s)"
    ),
    re.compile(r"\s"),
)


def detect_language(text: str) -> str:
    """Name a language (ISO 639-1) that is written in the most frequent script of a text.

    It is "en" for Latin, and for a text without letters.
    """
    sample = text[:_SAMPLE_CHARACTERS]
    if sample.isascii():
        return "en"
    codes = np.frombuffer(sample.encode("utf-32-le", "surrogatepass"), np.uint32)
    # With edges (start, stop, start, stop ...) the insertion index of a code is odd inside a
    # script: for Greek (0x370, 0x400), "α" (0x3b1) gets 1, which is script 1 // 2 = 0.
    edge_indices = np.searchsorted(_SCRIPT_EDGES, codes[codes >= _FIRST_SCRIPT], side="right")
    counts: Counter[str] = Counter()  # characters, by the language that stands for their script
    for edge_index, count in enumerate(np.bincount(edge_indices).tolist()):
        if count and edge_index % 2:
            counts[_SCRIPTS[edge_index // 2][0]] += count
    if not counts:
        return "en"
    kana, han = counts["ja"], counts["zh"]
    if kana > _KANA_SHARE * (kana + han):
        counts["ja"] = kana + han
    # A Han character stands for two Latin letters or more. If each counted once, a few English
    # names would win over Chinese.
    counts["zh"], counts["ja"] = 2 * han, 2 * counts["ja"]
    best = max(_TIES, key=counts.__getitem__)
    return best if counts[best] > len(_LATIN.findall(sample)) else "en"


def split_sentences(text: str, language: str) -> list[Span]:
    """Split a text into spans of its sentences, in order and without overlap, in linear time.

    A blank line ends a sentence, and so does a line break that ends a list item, a heading or a
    line of speech.
    """
    spaced = _plain_spaces(text)
    spans: list[Span] = []
    share = _UNSPACED_SHARE if language in ("zh", "ja") else 1
    longest = LONGEST_SENTENCE // share
    for start, stop in split_blocks(text):
        first = len(spans)
        if stop - start <= _CHUNK_CHARACTERS:
            chunk = hide_markers(spaced[start:stop], is_block_start=True)
            _append_sentences(chunk, start, language, spans)
        else:
            _append_long_block(spaced, (start, stop), language, spans)
        if stop - start > longest and any(end - begin > longest for begin, end in spans[first:]):
            spans[first:] = _cut_long(text, spans[first:], share)
    if ">" in text and "\n" in text:
        spans = _with_quote_marks(text, spans)
    return spans


def _plain_spaces(text: str) -> str:
    """Copy a text with a space for each line break, wide space and mark of quoted mail.

    sentencex looks for lists at the start of lines. Behind what may be an abbreviation,
    "A\u00a0.", it cuts a white space of several bytes in two and panics.
    """
    spaced = text
    if "\n" in text:
        if "\n>" in text:
            spaced = _QUOTED_LINE_BREAK.sub(lambda match: " " * len(match[0]), text)
        else:
            spaced = text.replace("\n", " ")
    if not spaced.isascii() and not spaced.isprintable():  # no wide space is printable
        for space in _WIDE_SPACES:
            spaced = spaced.replace(space, " ")
    return spaced


def _append_long_block(spaced: str, block: Span, language: str, spans: list[Span]) -> None:
    """Append the sentences of a block that is read chunk by chunk.

    The last sentence of a chunk is open: it is read again, from its start, in the next chunk. One
    that fills its whole chunk is not read again, but goes on into the next chunk.
    """
    start, stop = block
    is_block_start, is_open = True, False
    while start < stop:
        chunk_stop = min(start + _CHUNK_CHARACTERS, stop)
        if chunk_stop < stop:  # end behind the last space, so that no word or number is cut
            space = spaced.rfind(" ", start, chunk_stop)
            chunk_stop = space + 1 if space > start else chunk_stop
        chunk = hide_markers(spaced[start:chunk_stop], is_block_start=is_block_start)
        sentences: list[Span] = []
        _append_sentences(chunk, start, language, sentences)
        if is_open and sentences:
            sentences[0] = (spans.pop()[0], sentences[0][1])
        start = chunk_stop
        if chunk_stop < stop and len(sentences) > 1:
            start = sentences.pop()[0]
            is_open = False
        else:
            is_open = is_open or bool(sentences)
        is_block_start = False
        spans += sentences


def _append_sentences(chunk: str, offset: int, language: str, spans: list[Span]) -> None:
    """Append the spans of the sentences of a chunk.

    - `chunk`: a part of the text, in which markers are hidden.
    - `offset`: where the chunk begins in the text.
    - `spans`: those of all sentences before.
    """
    sentences = segment(chunk, language)
    if len(sentences) == 1 and ". " not in chunk:  # most paragraphs of a story
        words = chunk.rstrip()
        if words:
            spans.append((offset + len(words) - len(words.lstrip()), offset + len(words)))
        return
    stop = offset
    last_word = ""  # of the sentence before
    for sentence in sentences:
        start = stop
        stop += len(sentence)
        words = sentence.rstrip()
        may_go_on = last_word in OPEN_ENDS
        is_unusual = sentence[0] in _UNUSUAL_INITIALS
        if may_go_on or is_unusual or ". " in words:
            span_start = start
            if is_unusual:
                span_start += len(words) - len(words.lstrip())
                may_go_on |= last_word != "" and sentence[0] in _CONTINUING
            if words:
                if may_go_on and _goes_on(chunk, start - offset, language):
                    span_start = spans.pop()[0]
                for part in split_at_words(words, language)[:-1]:
                    spans.append((span_start, start + len(part.rstrip())))
                    start += len(part)
                    span_start = start
                spans.append((span_start, stop - len(sentence) + len(words)))
        else:
            spans.append((start, start + len(words)))
        last_word = words[words.rfind(" ") + 1 :]


def _goes_on(chunk: str, position: int, language: str) -> bool:
    """Whether what begins at an offset of the chunk belongs to the sentence before it."""
    if chunk[position] in _CONTINUING:
        return bool(_SPOKEN.match(chunk, position) or _JAPANESE_QUOTED.match(chunk, position))
    word = _FIRST_LETTER.match(chunk, position)
    return word is not None and ends_no_sentence(
        chunk, chunk.rfind(".", 0, position), word.end(), language
    )


def _with_quote_marks(text: str, spans: list[Span]) -> list[Span]:
    """Copy the spans of an e-mail, each with the "> " that stand before it.

    `_plain_spaces` hid these marks, so that they are in no span. Those behind the last sentence
    are a span of their own: nothing of a text is in no span but white space.
    """
    marked: list[Span] = []
    position = 0
    end = len(text.rstrip())
    for start, stop in [*spans, (end, end)]:
        marks = text.find(">", position, start)
        if marks >= 0:
            start = marks
        if start < stop:
            marked.append((start, stop))
        position = stop
    return marked


def _append_stripped(text: str, start: int, stop: int, spans: list[Span]) -> None:
    stripped = text[start:stop].rstrip()
    if stripped:
        stop = start + len(stripped)
        if stripped[0].isspace():
            start = stop - len(stripped.lstrip())
        spans.append((start, stop))


def _cut_long(text: str, spans: list[Span], share: int) -> list[Span]:
    """Copy the spans, with those that are too long for a sentence cut into parts."""
    parts: list[Span] = []
    longest = LONGEST_PART // share
    for start, stop in spans:
        if stop - start <= LONGEST_SENTENCE // share:
            parts.append((start, stop))
            continue
        while stop - start > longest:
            end = start + longest
            # A part ends at the last of the best pauses behind its first third.
            for pattern in _PAUSES:
                pauses = list(pattern.finditer(text, start + longest // 3, end))
                if pauses:
                    end = pauses[-1].end()
                    break
            _append_stripped(text, start, end, parts)
            start = end
        _append_stripped(text, start, stop, parts)
    return parts
