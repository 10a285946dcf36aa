"""Writes pairs of questions that ask the same in other words: pairs for `embedding.pairs`.

    python -m jobs.learning.question_pairs DIRECTORY

`phrases/question_pairs/LANGUAGE.yaml` holds, by kind of thing, hand-written wordings of what is
asked of it. Each thing gives a pair for each meaning, so no two pairs mean the same: the others of
a thing, and those of other things with the same words, are what must be told apart. Pairs are of
one language, or of a question and its translation.
"""

import argparse
import random
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

PHRASES = Path(__file__).parent / "phrases" / "question_pairs"
# the language of the first question and that of the second
LANGUAGES = (("zh", "zh"), ("zh", "en"))
SEED = 31
# people end a question in any of these ways
ENDS = {"zh": ("", "", "？", "?"), "en": ("", "?")}


class QuestionPair(TypedDict):
    query: str
    answer: str  # another question that one answer serves, too


class Questions(TypedDict):
    things: list[str]
    meanings: list[list[str]]  # of each meaning its wordings


def read_questions(language: str) -> dict[str, Questions]:
    """Returns the questions by kind of thing, in the same order in all languages."""
    by_kind = yaml.safe_load((PHRASES / f"{language}.yaml").read_text(encoding="utf-8"))
    return {
        kind: Questions(
            things=part["things"].split(" | "),
            meanings=[line.split(" | ") for line in part["meanings"]],
        )
        for kind, part in by_kind.items()
    }


def question_pairs(languages: tuple[str, str], seed: int = SEED) -> list[QuestionPair]:
    """Returns one pair of wordings for each thing and each meaning, in the order of the files."""
    rng = random.Random(f"{languages} {seed}")
    first, second = languages

    def ask(wording: str, thing: str, language: str) -> str:
        return wording.replace("{x}", thing) + rng.choice(ENDS[language])

    pairs: list[QuestionPair] = []
    for one, other in zip(
        read_questions(first).values(), read_questions(second).values(), strict=True
    ):
        for wordings, others in zip(one["meanings"], other["meanings"], strict=True):
            for thing, name in zip(one["things"], other["things"], strict=True):
                query, answer = rng.sample(wordings, 2)
                if first != second:
                    answer = rng.choice(others)
                pairs.append(
                    {"query": ask(query, thing, first), "answer": ask(answer, name, second)}
                )
    return pairs


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("directory", type=Path)
    directory: Path = options.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for languages in LANGUAGES:
        table = pa.Table.from_pylist(list(map(dict, question_pairs(languages))))
        pq.write_table(table, directory / f"{'_'.join(languages)}.parquet")


if __name__ == "__main__":
    main()
