"""Tells full stops that end a sentence from those of abbreviations, initials and numbers.

`sentencex` takes every word of its lists for an abbreviation, also "May" and "no", and has no list
for many languages. Where it may be wrong it is asked about a copy of the sentence: a full stop that
ends no sentence is a comma in it, and a word that only looks like an abbreviation is another word
of the same length.
"""

import re
from functools import lru_cache

import sentencex

Edit = tuple[int, int, str]  # start, stop, replacement of as many characters


def words_of(line: str) -> frozenset[str]:
    """The words of a line."""
    return frozenset(line.split())


_OPENING = "\"'“‘„«([¿¡"
_FULL_STOP = re.compile(r"\.(?<=[^\W\d_]\.)\s+[\"'“‘„«¿¡]*[^\W\d_a-z]")
_LETTERS = re.compile(r"\w+")
_INLINE_MARKER = re.compile(r"\)(?:(?<=[\s(]\w\))|(?<=[\s(]\w\w\))|(?<=[\s(]\w\w\w\)))(?=\s)")
_CLOSED_ASIDE = re.compile(r"\)(?<=[.!?]\))(?=\s+[\"'“‘„«¿¡]*[^\W\d_a-z])")
# At the start of a block: "- ", "1. ", "(b) ", "a) ", "IV. ", "SECTION 1. ", "Art. 5. "
_BLOCK_MARKER = re.compile(
    r"\s*([-*+·–—•◦▪‣●○■□◆◇★☆►▶➤➢✓✔✗→※・>]+\s*"
    r"|\(?(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxIVX]{1,5})[.)]{1,2}(?=\s)"
    r"|\w{3,9}+\.? (?:\d{1,4}|[IVXLC]{1,5})(?:\.\d+)*\.(?=\s))"
)

# Stand before a name in any language, whatever follows: the full stop never ends a sentence.
_TITLES = words_of(
    "dr dra drs prof profs mr mrs ms mme mlle mgr messrs sr sra srta hr lt sgt capt cmdr "
    "maj brig cpl supt insp adm ste dott avv dipl gral dhr mevr bijv ing inż resp incl "
    "inkl excl exkl evtl ggf bzw vgl sog св проф акад доц инж ген им тов ул просп пер обл "
    "респ डॉ"
)
_TITLES_OF = {
    "en": frozenset(),
    "de": words_of(
        "st ca abb abs allg anm bd bes ehem einschl etwa geb gem gest hrsg insb kath ev max min "
        "mio mrd nr od"
    ),
    "fr": words_of("av boul bd coll trad éd st"),
    "es": words_of("av avda ctra ud uds ee lic arq cnel pza dpto dña gob"),
    "it": words_of("sig sigg sigra arch geom rag on mons gen col magg ten"),
    "pt": words_of("av eng exmo"),
    "nl": words_of("mw ir jhr ca st"),
    "ru": words_of("г гг д пр гос респ о оз см ср рис табл стр гл ст"),
}
# Before a name if written so, else a word: "Gen. Lee", but "the next gen. Then".
_CAPITALIZED = words_of("Gen Rep Reps Rev Col Hon Gov Pres Sen Sens Sec Det Fr St Mt Ft Sig")
# Before a capital letter either way: `sentencex` knows which words often begin a sentence.
_UNDECIDED = words_of(
    "Inc Ltd Co Corp Bros Jr Esq Ave Blvd Rd vs al viz ie eg cf Ala Ariz Ark Calif Colo "
    "Conn Del Fla Ga Ill Ind Kan Ky La Mass Md Mich Minn Miss Mo Mont Neb Nev Okla Ore Pa "
    "Penn Tenn Tex Va Vt Wash Wis Wyo"
)
_NUMBERED = words_of(
    "no nos nr núm num n nº fig figs art arts sec secs vol vols p pp pag pág págs pagg "
    "cap chap ch abb abs bd s v vv tab eq ref op col ca approx aprox est max min circa "
    "incl tel ext jan feb mar apr jun jul aug sep sept oct nov dec janv févr avr juil déc "
    "dez okt ene abr ago dic gen giu lug ott рис табл стр с см ст гл п д кв т"
)
_LETTERED = words_of(
    "plan vitamin vitamine type typ group gruppe groupe class klasse classe grade team part "
    "hepatitis option"
)
# Of the German list, which has many words that stand before nouns, these alone are words.
_GERMAN_WORDS = words_of("Art art May may no con me")
_VOWELS = frozenset("aeiouyäöüáéíóúàèìòùâêîôûãõåøæœаеёиоуыэюя")
_LONGEST_ABBREVIATION = 8
_WORD = "wj" * _LONGEST_ABBREVIATION  # no abbreviation in any language

_MAY_GO_ON = _TITLES.union(*_TITLES_OF.values(), _NUMBERED, map(str.lower, _CAPITALIZED))
# Last words, with the full stop, behind which `ends_no_sentence` may be true: also numbers and
# single letters.
OPEN_ENDS = frozenset(
    f"{opening}{word}."
    for opening in ("", *_OPENING)
    for word in (
        *_MAY_GO_ON,
        *map(str.capitalize, _MAY_GO_ON),
        *map(str.upper, _MAY_GO_ON),
        *map(str, range(1000)),
        *(letter for letter in map(chr, range(0x41, 0x700)) if letter.isalpha()),
    )
)

# "3. Mai", "2. Klasse": a number with a full stop is an ordinal.
_ORDINAL_LANGUAGES = words_of("de da nb nn no fi is et lv cs sk pl hr sl bs hu tr lb fo")
_MONTHS = words_of(
    "Januar Jänner Februar Feber März Mai Juni Juli Oktober Dezember Januari Februari Mars Maj"
)
_ENGLISH_LIKE_MONTHS = words_of("April August September November")
_GERMAN_STARTERS = words_of(
    "Der Die Das Den Dem Ein Eine Er Sie Es Wir Ihr Ich Man Und Aber Doch Denn Dann Da Dort Danach "
    "Am Im In Auf Bei Mit Nach Seit Zum Zur Vom Für Wer Was Wie Wo Wenn Als Auch Alle Jeder "
    "Niemand Heute"
)
_BEFORE_ORDINAL = words_of(
    "am vom zum im beim ab bis seit den dem der die das des ein eine einen einem einer "
    "jeder jede jedes jeden sein seine seinen seinem ihr ihre ihren ihrem mein meine "
    "unser unsere dieser diese dieses diesem zur nach und oder"
)


def segment(text: str, language: str) -> list[str]:
    """The sentences that together are the text; one where sentencex panics."""
    try:
        sentences: list[str] = sentencex.segment(language, text)
        return sentences
    except (
        BaseException
    ) as error:  # a panic of Rust is no Exception, so that it would end the process
        if type(error).__name__ != "PanicException":
            raise
    return [text]


@lru_cache(maxsize=20_000)
def _is_abbreviation(word: str, language: str) -> bool:
    """Whether sentencex ends no sentence behind a word, before one that it does not know.

    A title is none here: no sentence ends behind it, so sentencex is right.
    """
    if word.lower() in _TITLES or word in _CAPITALIZED or word in _UNDECIDED:
        return False
    return len(segment(f"Wjw wjw {word}. Wjwjw wjwj.", language)) == 1


def hide_markers(block: str, *, is_block_start: bool) -> str:
    """Copy a block, of as many characters, with "x" for list markers.

    sentencex never splits a list item.

    In the copy a full stop in brackets follows them, so that the sentence ends there: "(It was.)"
    -> "(It was)."
    """
    marker = None
    # Each marker begins with a sign, or has a "." or ")" among its first 17 characters.
    if is_block_start and (not block[:1].isalnum() or "." in block[:17] or ")" in block[:17]):
        marker = _BLOCK_MARKER.match(block)
    if not marker and ")" not in block:
        return block
    edits: list[Edit] = []
    if marker and marker.end() < len(block):
        edits.append((*marker.span(1), "x" * len(marker[1])))
    if ")" in block:
        start = marker.end() if marker else 0
        for bracket in _INLINE_MARKER.finditer(block, start):
            first = bracket.start()
            while first > start and bracket.start() - first < 4 and not block[first - 1].isspace():
                first -= 1
            edits.append((first, bracket.end(), "X" * (bracket.end() - first)))
        for aside in _CLOSED_ASIDE.finditer(block, start):
            opening = block.rfind("(", max(start, aside.start() - 500), aside.start())
            before = block[max(0, opening - 3) : opening].rstrip()
            if opening >= 0 and (not before or before[-1] in ".!?"):
                edits.append((aside.start() - 1, aside.end(), ")."))
    return _replace(block, edits) if edits else block


def split_at_words(sentence: str, language: str) -> list[str]:
    """Split a sentence of sentencex behind words that only look like abbreviations.

    The parts have as many characters as the sentence, but other words.
    """
    for piece in sentence.split(". ")[:-1]:
        last_words = piece[-_LONGEST_ABBREVIATION - 2 :].rsplit(None, 1)
        if last_words and _is_abbreviation(last_words[-1].lstrip(_OPENING), language):
            break
    else:
        return [sentence]
    edits = []
    for full_stop in _FULL_STOP.finditer(sentence):
        next_start = full_stop.end() - 1  # the match ends with the next word's first character
        edit = _edit(sentence, full_stop.start(), sentence[next_start], next_start, language)
        if edit:
            edits.append(edit)
    if all(replacement == "," for _, _, replacement in edits):
        return [sentence]
    return segment(_replace(sentence, edits), language)


def ends_no_sentence(text: str, stop: int, following: int, language: str) -> bool:
    """Whether the full stop at offset `stop` is that of an abbreviation, an initial or an ordinal.

    `following`: offset of the next word.
    """
    edit = _edit(text, stop, text[following : following + 1], following, language)
    return edit is not None and edit[2] == ","


def _replace(text: str, edits: list[Edit]) -> str:
    pieces = []
    position = 0
    for start, stop, replacement in sorted(edits):
        if start >= position:
            pieces += [text[position:start], replacement]
            position = stop
    return "".join([*pieces, text[position:]])


def _edit(text: str, stop: int, following: str, next_start: int, language: str) -> Edit | None:
    """What to replace so that the full stop at `stop` is read as it is meant.

    `following`: the first character of the next word, which stands at `next_start`.
    """
    window = text[max(0, stop - 40) : stop]
    words = window.rsplit(None, 2)
    if not words or window[-1].isspace():
        return None
    word = words[-1].lstrip(_OPENING).rpartition("'")[2].rpartition("’")[2]
    previous = words[-2] if len(words) > 1 else ""
    hidden = (stop, stop + 1, ",")
    if word.isdigit():
        match = _LETTERS.match(text, next_start, next_start + 20)
        next_word = match[0] if match else ""
        return hidden if _is_ordinal(word, previous, next_word, language) else None
    if following.isdigit():
        return hidden if word.lower() in _NUMBERED else None
    if following.islower() or not word.isalpha():
        return None
    if len(word) == 1:  # "J. Smith" goes on; "8 h. Then", "plan B. Then" do not
        if previous[-1:].isdigit() or previous.lower() in _LETTERED:
            return (stop - 2, stop, "wj")
        return None if word.islower() or language == "en" else hidden
    lowered = word.lower()
    if lowered in _TITLES or lowered in _TITLES_OF.get(language, ()) or word in _CAPITALIZED:
        return hidden
    if len(word) > _LONGEST_ABBREVIATION or word in _UNDECIDED or _VOWELS.isdisjoint(lowered):
        return None
    if language == "de" and word not in _GERMAN_WORDS:
        return None
    if not _is_abbreviation(word, language):
        return None
    return (stop - len(word), stop, _WORD[: len(word)])


def _is_ordinal(number: str, previous: str, following: str, language: str) -> bool:
    if len(number) > 3:
        return False
    if not previous or (
        previous[-1] in ".!?" and previous[:-1].lower() not in _NUMBERED
    ):  # "Wash it. 2. Boil it."
        return True
    if following in _MONTHS:
        return True
    if language not in _ORDINAL_LANGUAGES or following in _GERMAN_STARTERS:
        return False
    return (
        following[:1].islower()
        or following in _ENGLISH_LIKE_MONTHS
        or previous.lower() in _BEFORE_ORDINAL
    )
