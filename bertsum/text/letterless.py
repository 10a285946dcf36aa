"""Texts without a letter: which of them say something, like 9/10, 👍, ★★★★★ and :( do.

Others are numbers, dates, prices, tables of figures and lines of signs.
"""

import re

# of any script: a word character that is neither a digit nor an underscore; ½ and Ⅷ are among them
_LETTER = re.compile(r"[^\W\d_]")

# Miscellaneous symbols and dingbats (★ ☹ ♥ ✓) up to the ornamental digits, the star and the circle
# that are emoji, and the blocks of emoji. Ranges and not the Unicode category, which is also that of
# box drawing and of the degree sign.
_PICTOGRAPH = re.compile("[\u2600-\u2767\u2b50\u2b55\U0001f000-\U0001faff]")

# It stands alone: the colon and the bracket of "(12:)" are none.
_EMOTICON = re.compile(
    r"""(?<![^\s!?.…])
    (?: [:;=：；＝]['’]?-?[()（）\[\]/\\]+   # :( :-) ;) :'( :/ and Chinese ：）
      | [()（）\[\]]+-?['’]?[:;=：；＝]      # (:
      | </?3+                                # <3 and </3
      | \^_*\^ | [>-]_+[<-]                  # ^_^ -_- >_<
    )(?![^\s!?.…])""",
    re.VERBOSE,
)

# The whole text, since a table has cells like it. 11/28 is a date, and +8% a change.
_RATING = re.compile(
    r"""[\s"'“‘(（]*
    \d+(?:[.,]\d+)?\s*(?: [/／]\s*(?:5|10|20|100) | [%％] )
    [\s"'”’)）!?.…！？。]*""",
    re.VERBOSE,
)


def has_letter(text: str) -> bool:
    """Whether there is a letter of any script."""
    first = _LETTER.search(text)
    if first is None or first[0].isalpha():  # nearly always
        return first is not None
    return any(match[0].isalpha() for match in _LETTER.finditer(text))


def says_something(text: str) -> bool:
    """Whether a text without a letter says something.

    It holds a pictograph (emoji, star, heart) or an emoticon, or it is a rating: one number out of
    5, 10, 20 or 100, or a percentage.
    """
    holds_sign = _PICTOGRAPH.search(text) or _EMOTICON.search(text)
    return holds_sign is not None or _RATING.fullmatch(text) is not None
