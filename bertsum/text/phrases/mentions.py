"""Where a text mentions a name: a company, a person, or a word such as `price`.

The rules are the same for every language, and need no dictionary:

- A small letter of a name matches both cases, a capital only capitals: `price` is mentioned in
  "Prices" and "PRICE", `IT` not in "it", `Apple` in "APPLE" but not in "an apple".
- Between the words of a name may be white space or punctuation, up to three characters.
- The last word may be in the other number, by English spelling: `price` in "prices", `companies` in
  "company".
- A name begins and ends at the border of a word, except in scripts without spaces.
- Composed and decomposed letters (`é` as one code point or as two) are the same.
- `+` and `#` at the end of a name belong to it: `C` is not mentioned in "C++".
"""

import re
from collections.abc import Callable
from functools import lru_cache
from unicodedata import normalize

from bertsum.text.sentences import Span
from bertsum.text.words import MARKS, WORD

# Thai, kana and Han: nothing to be seen separates their words.
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_BEGINS_UNSPACED = re.compile(f"[{UNSPACED}]")
_ENDS_UNSPACED = re.compile(f"[{UNSPACED}]$")
_SPACED_LETTER = rf"[^\W{UNSPACED}]"

# Words at the end of a company's name that texts leave out.
_COMPANY_FORM = re.compile(
    "inc|incorporated|corp|corporation|co|company|ltd|limited|plc|llc|lp|ag|se|gmbh|sa|spa|nv|bv|ab"
    "|oyj|kk|holdings?|group",
    re.IGNORECASE,
)
_SYMBOLS = re.compile(r"\w([+#]+)\s*$")  # at the end of a name
_MARKS = frozenset(MARKS)
_SHORTEST_SURNAME = 3  # letters: shorter ones are mostly initials


def find_name(text: str, name: str) -> list[Span]:
    """Where the whole name stands in the text, in code points, in order."""
    return _in_each_form(_whole_as_written, text, name)


def find_mentions(text: str, name: str) -> list[Span]:
    """Where the text mentions what bears the name, in code points, in order.

    That is the whole name, or a company's without its legal form (`Apple` for Apple Inc.). Where
    the text has it, its last word alone counts as well (`Clinton` for Hillary Clinton), if all
    words of the name begin with capitals.
    """
    return _in_each_form(_mentions_as_written, text, name)


def _in_each_form(find: Callable[[str, str], list[Span]], text: str, name: str) -> list[Span]:
    """Where the name stands as it is, composed or decomposed."""
    if name.isascii():
        return find(text, name)
    forms = {name, normalize("NFC", name), normalize("NFD", name)}
    return sorted({span for form in forms for span in find(text, form)})


def _whole_as_written(text: str, name: str) -> list[Span]:
    return _find(text, tuple(WORD.findall(name)), _symbols(name))


def _mentions_as_written(text: str, name: str) -> list[Span]:
    words = WORD.findall(name)
    while len(words) > 1 and _COMPANY_FORM.fullmatch(words[-1]):
        words.pop()
    symbols = _symbols(name)
    whole = _find(text, tuple(words), symbols)
    is_proper = len(words) > 1 and all(word[0].isupper() for word in words)
    if whole and is_proper and len(words[-1]) >= _SHORTEST_SURNAME:
        return _find(text, tuple(words), symbols, or_last=True)
    return whole


def _symbols(name: str) -> str:
    """What tells `C++` and `C#` from `C`."""
    match = _SYMBOLS.search(name)
    return match[1] if match else ""


def _find(text: str, words: tuple[str, ...], symbols: str, *, or_last: bool = False) -> list[Span]:
    """Where these words stand in the text, or also the last of them alone."""
    # Most names are not in most texts, and there may be more names than compiled patterns are
    # kept. The end of a word is left out: `companies` is mentioned in "company".
    if not words or words[0][: max(1, len(words[0]) - 3)].upper() not in text.upper():
        return []
    spans = [match.span() for match in _pattern(words, symbols, or_last).finditer(text)]
    if _ENDS_UNSPACED.search(words[-1]):
        return spans
    # a class of all marks in the pattern would take milliseconds to compile
    return [(start, stop) for start, stop in spans if text[stop : stop + 1] not in _MARKS]


@lru_cache(maxsize=4096)
def _pattern(words: tuple[str, ...], symbols: str, or_last: bool) -> re.Pattern[str]:
    """What finds a name of these words, or also the last of them."""
    last = _in_any_number(words[-1])
    # ("S", "P", "500") finds "S&P 500"
    body = r"[\W_]{1,3}".join([*map(_in_any_case, words[:-1]), last])
    bodies = [(words[0], body)]
    if or_last:  # behind the whole name, which a search prefers where both begin
        bodies.append((words[-1], last))
    choices = []
    for first, choice in bodies:
        border = "" if _BEGINS_UNSPACED.match(first) else f"(?<!{_SPACED_LETTER})"
        choices.append(border + choice)
    border = "" if _ENDS_UNSPACED.search(words[-1]) else f"(?!{_SPACED_LETTER})"
    if symbols or len(words[-1]) == 1:
        border = re.escape(symbols) + border + "(?![+#])"
    return re.compile(f"(?:{'|'.join(choices)}){border}")


def _in_any_case(word: str) -> str:
    """A pattern of the word in which small letters match capitals, too."""
    letters = []
    for letter in word:
        capital = letter.upper()  # of ß two letters, which are left out
        is_small = len(capital) == 1 and capital != letter
        letters.append(f"[{letter}{capital}]" if is_small else re.escape(letter))
    return "".join(letters)


def _in_any_number(word: str) -> str:
    """A pattern of the word in singular and plural; of others than small ASCII letters the word."""
    if not re.fullmatch(r"\w*[a-z]{2}", word, re.ASCII) or len(word) < 3:
        return _in_any_case(word)
    if word.endswith("ies") and len(word) > 4:
        return _in_any_case(word[:-3]) + "(?:[iI][eE][sS]|[yY])"
    if word.endswith("y") and word[-2] not in "aeiou":
        return _in_any_case(word[:-1]) + "(?:[iI][eE][sS]|[yY])"
    if word.endswith(("ss", "x", "z", "ch", "sh")):
        return _in_any_case(word) + "(?:[eE][sS])?"
    if not word.endswith("s"):
        return _in_any_case(word) + "[sS]?"
    # "sales" in "sale", but neither "news" in "new" nor "Texas" in "Texa"
    is_plural = len(word) > 4 and word.islower()
    return _in_any_case(word[:-1]) + "[sS]" + ("?" if is_plural else "")
