"""Cuts a text at the line breaks that end something.

These end list items, headings, lines of speech, subtitles, and levels of quoted e-mail.

A line break in the middle of a sentence, where the next word did not fit into the line, is none of
them. Each decision looks at the two lines beside a break, and what is known of the paragraph is
computed once, so that all costs linear time.
"""

import re
from functools import cached_property

from bertsum.text.full_stops import OPEN_ENDS, words_of

Span = tuple[int, int]

_INLINE_BULLETS = "•▪◦‣●■"
_INLINE_BULLET = re.compile(rf"[{_INLINE_BULLETS}](?<=\s.)(?=\s)")

# A blank line; or, as group 1, a break that may end a sentence. A break before a lowercase word is
# inside a sentence, unless the word is "a)", "ii." or the name of a speaker.
_BREAK = re.compile(
    r"\n(?:\s*\n[ \t]*"
    r"|[ \t\r]*+(?=([^a-z \t\r\n]|[a-z](?:[a-z]{0,3}+[.)]\s|[\w.-]{0,20}+:[ \t]))))"
)
# Alternatives that begin otherwise make `re` slow: it can no longer jump from one "\n" to the next.
_BREAK_OR_PARAGRAPH_MARK = re.compile(_BREAK.pattern + "|\u2029")
# also a line of ">" alone
_BREAK_OF_MAIL = re.compile(
    _BREAK_OR_PARAGRAPH_MARK.pattern.replace(r"\n(?:", r"\n(?:[> \t]*>[ \t\r]*(?=\n)|", 1)
)
# Of paragraphs that begin in lowercase, as people chat.
_ANY_BREAK = re.compile(r"\n[ \t\r]*(?=[^ \t\r\n])")

# First characters of paragraphs of chat, mail and subtitles, in which a break before a lowercase
# word may be a cut too.
_UNUSUAL_STARTS = frozenset(">\n0123456789" + "".join(filter(str.islower, map(chr, range(0x530)))))
_HEAD_CHARACTERS = 120  # of a line that are looked at
_LONGEST_HEADING = 100
_LOWERCASE_WORD = re.compile(r" [a-z]{4}")
_FIRST_WIDE = "\u2e80"

_QUOTE_MARKS = re.compile(r"(?:[ \t]*>)+[ \t]?")
# "12:31", "[12:31]", "(00:01:02)", "2024-01-05T10:00", "5/1/24, 10:15", "Jan  5 10:00:01",
# "<name>", "[INFO]"
_TIME = re.compile(
    r"[\[(<]?(?:\d{1,2}:\d\d|\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{2,4},? +\[?\d\d?:)"
    r"|[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d|<[^<>\s]{1,30}> |\[[A-Z]+\]"
)
_CUE_TIME = re.compile(r"[\d:.,]+ +--> +[\d:.,]+")
_STRONG_MARKER = re.compile(
    r"[•◦▪‣●○■□◆◇★☆►▶➤➢✓✔✗→※]|・|[①-⑳]|第.{1,4}[条章节回]|§+ ?\d|#{1,6} |\||[-=*_]{3,}\s*$"
    r"|\((?:\d{1,3}|[A-Za-z]|[ivx]{2,5})\)\s"
)
_LABEL = re.compile(
    r"(?i:(?:section|article|chapter|part|appendix|schedule|clause|act|scene"
    r"|kapitel|abschnitt|artikel|teil|chapitre|partie|titre"
    r"|cap[ií]tulo|secci[oó]n|art[ií]culo|parte|capitolo|sezione|articolo"
    r"|глава|статья|раздел|часть|अध्याय|الفصل|المادة)"
    r"\s+(?:\d+|[IVXLC]+)\b)"
)
_ONLY_NUMBER = re.compile(r"\(?[\dIVX]+(?:\.\d+)*[.)]?$")
# "Anna:", "DR. LEE:", "Q:", "Subject:", "田中:" before what is said; also "(Anna):". White space
# follows, unlike in a URL. Possessive: no word is tried letter by letter.
_SPEAKER = re.compile(
    r"[(*]{0,2}[^\W\d_][\w.'’()-]*+(?: [\w.'’()-]++){0,3}+ ?[*)]{0,2}(?::(?=\s)|：)"
)
# Others may also begin a line of prose: "- as he said -", "12. The ...", "J. Smith".
_WEAK_MARKERS = {
    "dash": re.compile(r"[-*+·–—][ \t]"),
    "number": re.compile(
        r"(?:\d{1,3}(?:\.\d{1,3}){0,4}[.)]+|\d{1,2}(?:\.\d{1,2}){1,4})(?:\s|$)"
        r"|\d{1,3}、|[一二三四五六七八九十]{1,3}、"
    ),
    "letter": re.compile(r"(?:[A-Za-z]|[ivx]{2,5}|[IVX]{2,5})[.)]+[ \t]|[а-яё]\)[ \t]"),
    "time": _TIME,
    "speaker": _SPEAKER,
    "label": _LABEL,
}
_WEAK_MARKER = re.compile("|".join(f"(?:{pattern.pattern})" for pattern in _WEAK_MARKERS.values()))

_ENDS = frozenset(".!?…。！？।؟۔:;：；")
_CLOSING = "\"'”’»)]」』"
# A line that ends with such a word, a comma or an opening bracket waits for the next line.
_OPEN_WORDS = words_of(
    "a an the of to in on at by for from with and or nor but as than that which who whose "
    "is are was were be been has have had into near my your his her its our their this "
    "der die das den dem des ein eine einen einem einer und oder von vom zu zum zur mit "
    "im in am an auf bei für nach aus le la les l' d' un une de du des et ou à au aux en "
    "dans par pour sur avec el los las una unos y o del al con por para en sin lo il gli "
    "i e di da dal della nel nella su che per и или в во на с со к от из за о об для по "
    "не что который"
)
_CONTINUATIONS = ",;.!?)]}%…。、，！？；」』”’»"  # a line does not begin with them


def split_blocks(text: str) -> list[Span]:
    """Spans of a text between line breaks that end a sentence; only white space is between them."""
    has_bullets = not text.isascii() and any(bullet in text for bullet in _INLINE_BULLETS)
    if "\n" not in text and "\u2029" not in text and not has_bullets:
        return [(0, len(text))]
    blocks: list[Span] = []
    start = 0
    line_breaks: list[int] = []
    is_mail = "\n>" in text
    pattern = _BREAK_OR_PARAGRAPH_MARK if "\u2029" in text else _BREAK
    for line_break in (_BREAK_OF_MAIL if is_mail else pattern).finditer(text):
        if line_break[1] is not None:
            line_breaks.append(line_break.start())
            continue
        if line_breaks or text[start : start + 1] in _UNUSUAL_STARTS:
            _append_blocks(text, start, line_break.start(), line_breaks, blocks)
            line_breaks = []
        else:
            blocks.append((start, line_break.start()))
        # The ">" of a line without words belongs to what follows it.
        start = line_break.start() if is_mail and ">" in line_break[0] else line_break.end()
    _append_blocks(text, start, len(text), line_breaks, blocks)
    if not has_bullets:
        return blocks
    cut_blocks: list[Span] = []  # also before each bullet that stands inside a line
    for start, stop in blocks:
        for bullet in _INLINE_BULLET.finditer(text, start, stop):
            cut_blocks.append((start, bullet.start()))
            start = bullet.start()
        cut_blocks.append((start, stop))
    return cut_blocks


def _append_blocks(
    text: str, start: int, stop: int, line_breaks: list[int], blocks: list[Span]
) -> None:
    """Append the blocks of the paragraph text[start:stop], in which no line is blank.

    `line_breaks`: offsets of those that may be cuts.
    """
    if text[start : start + 1] in _UNUSUAL_STARTS and text.find("\n", start, stop) >= 0:
        line_breaks = [line_break.start() for line_break in _ANY_BREAK.finditer(text, start, stop)]
    undecided = []
    for newline in line_breaks:
        # sentencex sees by itself that a sentence ends here: "it." above "He". A colon nearby may
        # follow the name of a speaker.
        is_left_to_sentencex = (
            text[newline - 1] in ".!?"
            and text[newline - 2].islower()
            and text[newline + 1].isupper()
            and text[newline + 2 : newline + 3].islower()
            and ":" not in text[newline + 1 : newline + 40]
        )
        if not is_left_to_sentencex:
            undecided.append(newline)
    if undecided:
        paragraph = _Paragraph(text, start, stop)
        line_start = start
        for newline in undecided:
            # The line before; lines that were skipped continue one another.
            line_start = max(line_start, text.rfind("\n", line_start, newline) + 1)
            line_stop = text.find("\n", newline + 1, stop)
            line_stop = stop if line_stop < 0 else line_stop
            if _is_cut(paragraph, (line_start, newline), (newline + 1, line_stop)):
                blocks.append((start, newline))
                start = newline
            line_start = newline + 1
    blocks.append((start, stop))


class _Paragraph:
    """Lines between two blank ones, and what is known of all of them together."""

    def __init__(self, text: str, start: int, stop: int):
        self.text, self.start, self.stop = text, start, stop
        self._lines = [line.strip() for line in text[start:stop].split("\n")]
        lengths = list(map(len, self._lines))
        self.width = max(lengths)  # characters of the longest line
        self._siblings: dict[str, int] = {}
        # A Chinese or Japanese character is as wide as two Latin letters.
        head = text[start : start + 50]
        scale = 2 if not head.isascii() and max(head) > _FIRST_WIDE else 1
        # Whether lines are broken where they are full, and not where a sentence ends: two or three
        # lines must have the width of a page; of more, half of the lines but the last must be
        # nearly as long as the longest.
        self.is_wrapped = False
        if len(lengths) <= 3:
            self.is_wrapped = 55 <= self.width * scale <= 110
        elif 40 <= self.width * scale <= 160:
            full = self.width - 12 // scale
            num_full = sum(map(full.__le__, lengths[:-1]))  # lines of at least `full` characters
            self.is_wrapped = 2 * num_full >= len(lengths) - 1

    @cached_property
    def is_cue(self) -> bool:
        """Whether this is a subtitle: a number, times, and words broken for a screen."""
        head = self.text[self.start : min(self.stop, self.start + _HEAD_CHARACTERS)]
        return "-->" in head and any(_CUE_TIME.match(line.strip()) for line in head.split("\n"))

    @cached_property
    def is_chat(self) -> bool:
        """Whether most lines begin in lowercase, end without a full stop, and are unwrapped."""
        lines = self._lines
        if len(lines) < 3 or self.is_wrapped or not lines[0][:1].islower():
            return False
        short = sum(
            line[:1].islower() and not _is_ended(line) and len(line) <= 60 for line in lines
        )
        return 2 * short > len(lines) and self.width >= 2

    def siblings(self, family: str, pattern: re.Pattern[str]) -> int:
        """How many lines begin with a marker of a family."""
        if family not in self._siblings:
            self._siblings[family] = sum(pattern.match(line) is not None for line in self._lines)
        return self._siblings[family]


def _is_cut(paragraph: _Paragraph, above: Span, below: Span) -> bool:
    """Whether the break between two lines ends a sentence."""
    text = paragraph.text
    head, tail = (
        text[above[0] : above[1]][:_HEAD_CHARACTERS].strip(),
        text[max(above[0], above[1] - 40) : above[1]].rstrip(),
    )
    following = text[below[0] : below[1]][:_HEAD_CHARACTERS].strip()
    if head.startswith(">") or following.startswith(">"):
        marks, next_marks = (_QUOTE_MARKS.match(line) for line in (head, following))
        if (marks[0].count(">") if marks else 0) != (next_marks[0].count(">") if next_marks else 0):
            return True
        head, following = (
            head[marks.end() if marks else 0 :],
            following[next_marks.end() if next_marks else 0 :],
        )
        if not following:
            return True
    if not head or not following:
        return False
    last_word = tail.rsplit(None, 1)[-1]
    may_be_abbreviation = last_word in OPEN_ENDS
    is_ended = _is_ended(tail) and not may_be_abbreviation
    length = above[1] - above[0]
    # Whether the first word below would not have fitted into the line above.
    is_full = (
        length + 1 + len(following.split(None, 1)[0]) > paragraph.width and paragraph.is_wrapped
    )
    if head.isdigit() and _CUE_TIME.match(following):
        return False
    if _begins_block(
        paragraph, following, is_open=(is_full or last_word in _OPEN_WORDS) and not is_ended
    ):
        return True
    if _is_heading(head, following, length, is_full):
        return True
    if paragraph.is_cue or following[0] in _CONTINUATIONS:
        return False
    if not is_ended and ((tail[-1:] in ",([-–—、，" and is_full) or last_word in _OPEN_WORDS):
        return False
    if may_be_abbreviation:
        return False
    if following.lstrip("\"'“‘„«([¿¡*_")[:1].islower():
        return paragraph.is_chat
    return not is_full


def _is_ended(line: str) -> bool:
    return line.rstrip(_CLOSING)[-1:] in _ENDS


def _begins_block(paragraph: _Paragraph, line: str, is_open: bool) -> bool:
    """Whether a line begins with a marker, a time or a speaker.

    `is_open`: the sentence above may go on. Then a marker counts with which no prose begins, or
    that another line has too.
    """
    if not line[0].isalpha() and (_STRONG_MARKER.match(line) or _CUE_TIME.match(line)):
        return True
    if not _WEAK_MARKER.match(line):
        return False
    for family, pattern in _WEAK_MARKERS.items():
        if pattern.match(line):
            return not is_open or paragraph.siblings(family, pattern) > 1
    return False


def _is_heading(line: str, following: str, length: int, is_full: bool) -> bool:
    """Whether a line stands for itself."""
    if length > _LONGEST_HEADING:
        return False
    if line[0] in "|#" or _CUE_TIME.match(line):
        return True
    # A line of prose. None of the rules below can hold for it, and they are slow.
    if _LOWERCASE_WORD.search(line):
        return False
    if not any(map(str.isalnum, line)):
        return True
    if _ONLY_NUMBER.match(line):
        return not is_full
    if _is_ended(line):
        return line[-1] in ".:" and _LABEL.fullmatch(line[:-1]) is not None
    if _LABEL.fullmatch(line):
        return True
    if line.isupper() and not following.isupper():
        return True
    words = [word for word in line.split() if len(word) > 3]
    return len(words) > 2 and all(map(str.istitle, words)) and following[0].isupper()
