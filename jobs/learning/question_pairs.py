"""Writes pairs of questions that ask the same in other words: pairs for `embedding.pairs`.

    python -m jobs.learning.question_pairs DIRECTORY

`phrases/question_pairs/LANGUAGE.yaml` holds, by kind of thing, hand-written wordings of what is
asked of it. Each thing gives a pair for each meaning, so no two pairs mean the same: the others of
a thing, and those of other things with the same words, are what must be told apart.
"""

import argparse
import random
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

PHRASES = Path(__file__).parent / "phrases" / "question_pairs"
LANGUAGES = ("zh",)
SEED = 31
# people end a question in any of these ways
ENDS = ("", "", "？", "?")


class QuestionPair(TypedDict):
    query: str
    answer: str  # another question that one answer serves, too


class Questions(TypedDict):
    things: str
    meanings: list[str]


def read_questions(language: str) -> dict[str, Questions]:
    path = PHRASES / f"{language}.yaml"
    questions: dict[str, Questions] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return questions


def question_pairs(language: str, seed: int = SEED) -> list[QuestionPair]:
    """Returns one pair of wordings for each thing and each meaning, in the order of the file."""
    rng = random.Random(f"{language} {seed}")
    pairs: list[QuestionPair] = []
    for questions in read_questions(language).values():
        for meaning in questions["meanings"]:
            wordings = meaning.split(" | ")
            for thing in questions["things"].split(" | "):
                query, answer = (
                    wording.replace("{x}", thing) + rng.choice(ENDS)
                    for wording in rng.sample(wordings, 2)
                )
                pairs.append({"query": query, "answer": answer})
    return pairs


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("directory", type=Path)
    directory: Path = options.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        table = pa.Table.from_pylist(list(map(dict, question_pairs(language))))
        pq.write_table(table, directory / f"question_pairs_{language}.parquet")


if __name__ == "__main__":
    main()
