"""Writes short texts with a sentiment: training rows of the kinds that public sets lack.

    python -m jobs.learning.short_texts DIRECTORY

`phrases/LANGUAGE/KIND.yaml` holds hand-written frames by sentiment, one a line. A frame may have
slots such as `{dish}`, whose fillers stand in `phrases/LANGUAGE/slots.yaml`. Each frame gives
several rows: with other fillers, or typed in another way. A frame that is nothing but a slot gives
each of its fillers.
"""

import argparse
import random
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

PHRASES = Path(__file__).parent / "phrases"
ROWS_PER_KIND = {"en": 461, "zh": 384}
MORE_ROWS = {
    ("company_results", "en"): 2500,
    ("ratings", "en"): 1200,
    ("ratings", "zh"): 700,
    ("service_posts", "en"): 2500,
    ("service_posts", "zh"): 800,
    ("symbols", "en"): 500,
    ("symbols", "zh"): 400,
}
SEED = 16
SLOT = re.compile(r"\{(\w+)\}")
VERSIONS_WITHOUT_SLOTS = 4  # of a frame that has nothing to fill: as written, and typed differently
VERSIONS_WITH_SLOTS = 100  # more than are needed
SOBER_KINDS = {"company_results", "facts", "finance"}  # without exclamation marks
KEYBOARD_SLIPS_SHARE = 0.4  # of the English rows of the kind `typos`

Slots = dict[str, list[str]]


@dataclass(frozen=True)
class ShortText:
    id: str
    document: str
    sentiment: str
    kind: str
    language: str


@dataclass(frozen=True)
class Frame:
    text: str
    sentiment: str

    def fill(self, slots: Slots, rng: random.Random) -> str:
        """Returns the text with a random filler in each slot; equal slots get unequal fillers."""
        names = SLOT.findall(self.text)
        fillers: dict[str, Iterator[str]] = {}
        for name in sorted(set(names)):
            fillers[name] = iter(rng.sample(slots[name], names.count(name)))
        text = SLOT.sub(lambda slot: next(fillers[slot[1]]), self.text)
        return text[0].upper() + text[1:] if SLOT.match(self.text) else text


def read_frames(path: Path) -> list[Frame]:
    by_sentiment: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    frames = []
    for sentiment, lines in by_sentiment.items():
        frames += [Frame(line, sentiment) for line in lines.splitlines()]
    return frames


def read_slots(language: str) -> Slots:
    """Returns the fillers of each slot; in the file they are separated by ` | `."""
    path = PHRASES / language / "slots.yaml"
    fillers: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: line.split(" | ") for name, line in fillers.items()}


def spell_out(frames: list[Frame], slots: Slots) -> list[Frame]:
    """Returns the frames; one that is nothing but a slot becomes a frame for each filler.

    So no rating is left to chance: the text `7/10` has no other words to judge it by.
    """
    spelled_out = []
    for frame in frames:
        slot = SLOT.fullmatch(frame.text)
        texts = [text[0].upper() + text[1:] for text in slots[slot[1]]] if slot else [frame.text]
        spelled_out += [Frame(text, frame.sentiment) for text in texts]
    return spelled_out


def kinds(language: str) -> list[str]:
    paths = (PHRASES / language).glob("*.yaml")
    return sorted(path.stem for path in paths if path.stem != "slots")


def slip(text: str, rng: random.Random) -> str:
    """Makes the error of a fast typist in one long word: swaps, drops or doubles a letter."""
    words = text.split(" ")
    long_words = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long_words:
        return text
    index = rng.choice(long_words)
    word = words[index]
    at = rng.randrange(1, len(word) - 2)  # the first letter and the last stay: so people err
    first, second = word[at], word[at + 1]
    typed = rng.choice([second + first, second, first + first + second])
    words[index] = word[:at] + typed + word[at + 2 :]
    return " ".join(words)


def retype(text: str, *, emphatic: bool, language: str, rng: random.Random) -> str:
    """Types a text as people do in a hurry: other case, other punctuation, or none at the end.

    Only an emphatic text may end in exclamation marks.
    """
    bare = text.rstrip(" .。!！")
    ways = [bare, bare.lower()] if language == "en" else [bare, bare.replace("，", " ")]
    last_word = bare.split(" ")[-1]
    # Questions, emoji, @names and #topics need no full stop.
    is_sentence = last_word[-1].isalnum() and last_word[0] not in "@#"
    if is_sentence:
        ways.append(bare + ("." if language == "en" else "。"))
    if is_sentence and emphatic:
        ways += [bare + "!", bare + "!!"] if language == "en" else [bare + "！", bare + "！！"]
    return rng.choice(ways)


def documents(kind: str, language: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yields texts of a kind with their sentiments, in rounds of at most one text a frame.

    A frame without slots gives fewer versions than others. A text may come twice.
    """
    slots = read_slots(language)
    frames = spell_out(read_frames(PHRASES / language / f"{kind}.yaml"), slots)
    for version in range(VERSIONS_WITH_SLOTS):
        if version == VERSIONS_WITHOUT_SLOTS:
            frames = [frame for frame in frames if SLOT.search(frame.text)]
        rng.shuffle(frames)
        for frame in frames:
            text = frame.fill(slots, rng)
            # The first version is as written; of the others, every second is typed differently.
            if version and (rng.random() < 0.5 or text == frame.text):
                emphatic = frame.sentiment != "neutral" and kind not in SOBER_KINDS
                text = retype(text, emphatic=emphatic, language=language, rng=rng)
            if kind == "typos" and language == "en" and rng.random() < KEYBOARD_SLIPS_SHARE:
                text = slip(text, rng)
            yield text, frame.sentiment


def rows_of_kind(kind: str, language: str) -> int:
    return MORE_ROWS.get((kind, language), ROWS_PER_KIND[language])


def short_texts(language: str, seed: int = SEED) -> list[ShortText]:
    """Returns `rows_of_kind` texts of each kind, none twice, in random order."""
    rng = random.Random(f"{language} {seed}")
    seen: set[str] = set()
    texts = []
    for kind in kinds(language):
        count = 0
        for document, sentiment in documents(kind, language, rng):
            if document in seen:
                continue
            seen.add(document)
            texts.append(
                ShortText(f"{language}-{kind}-{count}", document, sentiment, kind, language)
            )
            count += 1
            if count == rows_of_kind(kind, language):
                break
    rng.shuffle(texts)
    return texts


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("directory", type=Path)
    directory: Path = options.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for language in ROWS_PER_KIND:
        table = pa.Table.from_pylist([asdict(text) for text in short_texts(language)])
        pq.write_table(table, directory / f"short_texts_{language}.parquet")


if __name__ == "__main__":
    main()
