"""Prints precision, recall and F1 of sentence splitters on tests/data/sentences.jsonl.

Run: python tests/benchmarks/sentences.py
Splitters that are not installed are left out, and named. They all install from PyPI and need no model:
pip install pysbd syntok blingfire nupunkt spacy
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bertsum.text.sentences import split_sentences

SENTENCES = Path(__file__).parents[1] / "data" / "sentences.jsonl"

Splitter = Callable[[str, str], Iterable[str]]  # text, language -> sentences, in order
Counts = tuple[int, int, int]  # boundaries in both, in the prediction, in the truth


def read_examples() -> list[dict[str, Any]]:
    """The texts whose sentences are known."""
    return [json.loads(line) for line in SENTENCES.read_text(encoding="utf-8").splitlines()]


def boundaries(sentences: Iterable[str]) -> set[int]:
    """Ends of sentences, counted in characters that are not white space; the end of the text is left out."""
    ends: list[int] = []
    position = 0
    for sentence in sentences:
        length = len("".join(sentence.split()))
        position += length
        if length:
            ends.append(position)
    return set(ends[:-1])


def count(splitter: Splitter, examples: Iterable[dict[str, Any]]) -> Counts:
    """Boundaries in prediction and truth, in the prediction, and in the truth."""
    both = predicted = true = 0
    for example in examples:
        truth = boundaries(example["sentences"])
        prediction = boundaries(splitter(example["text"], example["language"]))
        both += len(truth & prediction)
        predicted += len(prediction)
        true += len(truth)
    return both, predicted, true


def scores(counts: Counts) -> tuple[float, float, float]:
    """Precision, recall and F1; each is 1 where there is no boundary to be named."""
    both, predicted, true = counts
    f1 = 2 * both / (predicted + true) if predicted + true else 1.0
    return both / predicted if predicted else 1.0, both / true if true else 1.0, f1


def bertsum(text: str, language: str) -> list[str]:
    """The splitter of this project."""
    return [text[start:stop] for start, stop in split_sentences(text, language)]


def splitters() -> dict[str, Splitter]:
    """Those that are installed, by name."""
    loaders = {
        "sentencex": _load_sentencex,
        "pysbd": _load_pysbd,
        "syntok": _load_syntok,
        "blingfire": _load_blingfire,
        "nupunkt": _load_nupunkt,
        "spacy": _load_spacy,
    }
    return {"bertsum": bertsum} | {
        name: load() for name, load in loaders.items() if find_spec(name) is not None
    }


def _load_sentencex() -> Splitter:
    segment = import_module("sentencex").segment
    return lambda text, language: segment(language, text)


def _load_pysbd() -> Splitter:
    pysbd = import_module("pysbd")
    known = pysbd.languages.LANGUAGE_CODES
    return lambda text, language: pysbd.Segmenter(
        language=language if language in known else "en", clean=False
    ).segment(text)


def _load_syntok() -> Splitter:
    segmenter = import_module("syntok.segmenter")

    def split(text: str, language: str) -> list[str]:
        return [
            "".join(token.spacing + token.value for token in sentence)
            for paragraph in segmenter.analyze(text)
            for sentence in paragraph
        ]

    return split


def _load_blingfire() -> Splitter:
    spans = import_module("blingfire").text_to_sentences_and_offsets
    return lambda text, language: [text[start:stop] for start, stop in spans(text)[1]]


def _load_nupunkt() -> Splitter:
    tokenize = import_module("nupunkt").sent_tokenize
    return lambda text, language: tokenize(text)


def _load_spacy() -> Splitter:
    spacy = import_module("spacy")
    pipelines: dict[str, Any] = {}

    def split(text: str, language: str) -> list[str]:
        if language not in pipelines:
            pipelines[language] = spacy.blank(language if language not in ("zh", "ja") else "xx")
            pipelines[language].add_pipe("sentencizer")
        return [sentence.text for sentence in pipelines[language](text).sents]

    return split


def _print_row(name: str, counts: Counts) -> None:
    precision, recall, f1 = scores(counts)
    print(f"{name:24} {precision:9.3f} {recall:9.3f} {f1:9.3f}")


def main() -> None:
    """Print a table of all splitters, and tables of this project's by language and by kind."""
    examples = read_examples()
    header = f"{'':24} precision    recall        F1"
    for title, part in (
        ("all", examples),
        ("tuned on", [example for example in examples if not example["held_out"]]),
        ("held out", [example for example in examples if example["held_out"]]),
    ):
        print(
            f"\n{title}: {sum(len(example['sentences']) for example in part)} sentences\n{header}"
        )
        for name, splitter in splitters().items():
            _print_row(name, count(splitter, part))
    for field in ("language", "kind"):
        groups = defaultdict(list)
        for example in examples:
            groups[example[field]].append(example)
        print(f"\nbertsum by {field}\n{header}")
        for name, group in sorted(groups.items()):
            _print_row(name, count(bertsum, group))


if __name__ == "__main__":
    main()
