"""Where a text mentions a name: a company, a person, or a word such as `price`.

The rules are the same for every language, and need no dictionary:

- A small letter of a name matches both cases, a capital only capitals: `price` is mentioned in
  "Prices" and "PRICE", `IT` not in "it", `Apple` in "APPLE" but not in "an apple".
- Between the words of a name may be white space or punctuation, up to three characters.
- The last word may be in the other number, by English spelling: `price` in "prices", `companies` in
  "company".
- A name begins and ends at the border of a word, except in scripts without spaces.
"""

import re
from functools import lru_cache

from bertsum.text.sentences import Span
from bertsum.text.words import MARKS, WORD

# Thai, kana and Han: nothing to be seen separates their words.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_BEGINS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_ENDS_UNSPACED = re.compile(f"[{_UNSPACED}]$")
_SPACED_LETTER = rf"[^\W{_UNSPACED}]"

# Words at the end of a company's name that texts leave out.
_COMPANY_FORM = re.compile(
    "inc|incorporated|corp|corporation|co|company|ltd|limited|plc|llc|lp|ag|se|gmbh|sa|spa|nv|bv|ab"
    "|oyj|kk|holdings?|group",
    re.IGNORECASE,
)
_SHORTEST_SURNAME = 3  # letters: shorter ones are mostly initials


def find_name(text: str, name: str) -> list[Span]:
    """Where the whole name stands in the text, in code points, in order."""
    pattern = _pattern(tuple(WORD.findall(name)), or_last=False)
    return [match.span() for match in pattern.finditer(text)] if pattern else []


def find_mentions(text: str, name: str) -> list[Span]:
    """Where the text mentions what bears the name, in code points, in order.

    That is the whole name, or a company's without its legal form (`Apple` for Apple Inc.). Where
    the text has it, its last word alone counts as well (`Clinton` for Hillary Clinton), if all
    words of the name begin with capitals.
    """
    words = WORD.findall(name)
    while len(words) > 1 and _COMPANY_FORM.fullmatch(words[-1]):
        words.pop()
    whole = _pattern(tuple(words), or_last=False)
    if whole is None or not whole.search(text):
        return []
    is_proper = len(words) > 1 and all(word[0].isupper() for word in words)
    has_surname = is_proper and len(words[-1]) >= _SHORTEST_SURNAME
    pattern = _pattern(tuple(words), or_last=True) if has_surname else whole
    return [match.span() for match in pattern.finditer(text)] if pattern else []


@lru_cache(maxsize=4096)
def _pattern(words: tuple[str, ...], or_last: bool) -> re.Pattern[str] | None:
    """What finds a name of these words, or also the last of them; None for no words."""
    if not words:
        return None
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
    border = "" if _ENDS_UNSPACED.search(words[-1]) else f"(?!{_SPACED_LETTER}|[{MARKS}])"
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
