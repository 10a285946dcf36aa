"""Is what was written in the document? Words, numbers and names are looked up there.

What is found is no proof: a number may be that of something else. What is not found is a reason to
look.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bertsum.text.sentences import split_sentences
from bertsum.text.words import MARKS, words

# \u066b and \u066c are the point and the separator of thousands in Arabic.
_POINT, _GROUP_MARK = "[.,\u066b]", "[.,' \u00a0\u202f\u066c]"
# 1,234.5 and 1.234,5 and 1 234 and 2026, without the sign and the unit.
_NUMBER = re.compile(
    rf"(?<!\d)\d{{1,3}}(?:{_GROUP_MARK}\d{{3}})+(?:{_POINT}\d+)?(?!\d)|\d+(?:{_POINT}\d+)?"
)
_GROUPED = re.compile(rf"(?<=\d){_GROUP_MARK}(?=\d{{3}}(?!\d))")
_WORD = re.compile(rf"[\w{MARKS}]+(?:['’-][\w{MARKS}]+)*")
_ASCII_WORD = re.compile(r"\w+(?:['-]\w+)*", re.ASCII)  # the class of all marks is slow
_POSSESSIVE = re.compile(r"['’]s?$")
# German writes every noun with a capital, so that a capital says nothing of a name.
_CAPITAL_NOUNS = frozenset({"de", "lb"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness:
    """How much of a text is in its document.

    - shares: of the text's words, numbers and names, each as often as it stands there, in [0, 1].
      None where there are none, or where they cannot be compared.
    - `new_facts`: its numbers and names that are not in the document, each once, in their order.
    """

    word_share: float | None
    number_share: float | None
    name_share: float | None
    new_facts: Sequence[str]

    @property
    def has_new_facts(self) -> bool:
        return bool(self.new_facts)


def compare(
    text: str, document: str, *, language: str, is_translation: bool = False
) -> Faithfulness:
    """Look up the words, numbers and names of `text` in `document`.

    - `language`: of both.
    - `is_translation`: the two have different words, and names may be spelt in another way, so that
      numbers alone are compared.
    """
    numbers = list(map(_plain, _NUMBER.findall(text)))
    known_numbers = set(map(_plain, _NUMBER.findall(document)))
    new_facts = [number for number in numbers if number not in known_numbers]
    if is_translation:
        share = _share(numbers, known_numbers)
        return Faithfulness(
            word_share=None,
            number_share=share,
            name_share=None,
            new_facts=tuple(dict.fromkeys(new_facts)),
        )
    found = words(text, language)
    names = [] if language in _CAPITAL_NOUNS else find_names(text, language)
    pattern = _ASCII_WORD if document.isascii() else _WORD
    known_names = set(map(_folded, pattern.findall(document)))
    new_names = [name for name in names if _folded(name) not in known_names]
    return Faithfulness(
        word_share=_share(found, set(words(document, language))),
        number_share=_share(numbers, known_numbers),
        name_share=_share(list(map(_folded, names)), known_names),
        new_facts=tuple(dict.fromkeys([*new_facts, *new_names])),
    )


def find_facts(text: str, facts: Collection[str]) -> list[tuple[int, int]]:
    """Start and end of the numbers and names of `text` that are in `facts`, see `Faithfulness`."""
    found = [m.span() for m in _NUMBER.finditer(text) if _plain(m[0]) in facts]
    taken = {start for start, _ in found}
    for match in _WORD.finditer(text):
        if match[0] in facts and match.start() not in taken:
            found.append(match.span())
    return sorted(found)


def find_names(text: str, language: str) -> list[str]:
    """Words with a capital that are not the first one of their sentence, and words like NATO.

    In scripts without capitals there are none.
    """
    names = []
    for start, stop in split_sentences(text, language):
        for number, match in enumerate(_WORD.finditer(text, start, stop)):
            word = match[0]
            is_acronym = len(word) > 1 and word.isupper()
            is_capitalized = number > 0 and len(word) > 1 and word[0].isupper()
            if is_acronym or is_capitalized:
                names.append(word)
    return names


def _plain(number: str) -> str:
    """The number without separators of thousands: 1234.5 of 1,234.5 and of 1.234,5.

    Digits of any script become those of ASCII: 25 of ٢٥, of २५ and of ２５.
    """
    plain = _GROUPED.sub("", number).replace(",", ".").replace("\u066b", ".")
    if plain.isascii():
        return plain
    return "".join(str(int(digit)) if digit.isdecimal() else digit for digit in plain)


def _folded(name: str) -> str:
    return _POSSESSIVE.sub("", name).casefold()


def _share(values: Sequence[str], known: Collection[str]) -> float | None:
    return sum(value in known for value in values) / len(values) if values else None
