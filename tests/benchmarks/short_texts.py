"""How well a model names the sentiment of short texts, by language and kind (tests/data/README.md).

python tests/benchmarks/short_texts.py [--model MODEL] [--data ../shared/data]

Then what it makes of ten texts in languages without training data, and of six Chinese film
reviews; with --data also how many articles of the BBC, most of which state facts, it calls neutral.
A text that gets no sentiment counts as wrong, whatever its status says.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from scipy.stats import binomtest

from bertsum import Document, Prediction, Summarizer
from bertsum.config import SelectionConfig, SummarizerConfig

TEXTS = Path(__file__).parents[1] / "data"
ARTICLES = "summarization/bbc_news/validation.parquet"  # in the folder that --data names

Row = dict[str, Any]
Result = tuple[Row, Prediction]


def read_rows(name: str) -> list[Row]:
    """The labelled texts of one file in tests/data."""
    lines = (TEXTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def load(model: str | None = None) -> Summarizer:
    """The model, with summaries of one sentence."""
    return Summarizer(model, SummarizerConfig(selection=SelectionConfig(size=1)))


def run(summarizer: Summarizer, rows: Sequence[Row]) -> list[Result]:
    """Each row with its prediction, read in the language that the row names."""
    documents = [Document(row["text"], row["language"]) for row in rows]
    return list(zip(rows, summarizer.predict(documents), strict=True))


def hits(results: Sequence[Result], **fields: str) -> list[bool]:
    """Whether the sentiment is the row's, of the rows that have these values in these fields."""
    return [
        prediction.sentiment == row["sentiment"]
        for row, prediction in results
        if fields.items() <= row.items()
    ]


def share(values: Sequence[bool]) -> str:
    """The share that is true, with its 95 % interval by Wilson, which holds near 0 and 1, too."""
    interval = binomtest(sum(values), len(values)).proportion_ci(method="wilson")
    mean = sum(values) / len(values)
    return f"{mean:.3f} ({interval.low:.3f} to {interval.high:.3f}) of {len(values)}"


def describe(prediction: Prediction) -> str:
    """The sentiment with the probabilities of all, or the status of a text that has none."""
    if prediction.sentiment_scores is None:
        return f"[{prediction.status}]"
    scores = [f"{label} {score:.2f}" for label, score in prediction.sentiment_scores.items()]
    return f"{prediction.sentiment} ({', '.join(scores)})"


def print_short_texts(results: Sequence[Result]) -> None:
    """Accuracy by language and kind, and the texts whose sentiment is wrong."""
    languages = list(dict.fromkeys(row["language"] for row, _ in results))
    kinds = list(dict.fromkeys(row["kind"] for row, _ in results))
    print(f"Short texts, accuracy\n{'all':16} {share(hits(results))}")
    for language in languages:
        print(f"{language:16} {share(hits(results, language=language))}")
    for kind in kinds:
        line = f"{kind:16} {share(hits(results, kind=kind)):30}"
        for language in languages:
            part = hits(results, kind=kind, language=language)
            line += f"  {language} {sum(part)}/{len(part)}"
        print(line)
    print("\nWrong")
    for row, prediction in results:
        if prediction.sentiment != row["sentiment"]:
            print(f"{row['kind']:16} {row['text']}")
            print(f"{'':16} is {row['sentiment']}, got {describe(prediction)}")


def print_other_languages(results: Sequence[Result]) -> None:
    """Each text's sentiment, and the sentence chosen from it."""
    chosen = [
        bool(set(prediction.summary_sentences or ()) & set(row["best"]))
        for row, prediction in results
    ]
    print(f"\nOther languages: sentiment {share(hits(results))}, sentence {share(chosen)}")
    for row, prediction in results:
        print(f"{row['language']} is {row['sentiment']}, got {describe(prediction)}")
        indices = list(prediction.summary_sentences or ())
        print(f"   best {row['best']}, chosen {indices}: {prediction.summary}")


def print_film_reviews(results: Sequence[Result]) -> None:
    """Each review with the sentiment that is expected, and the one that comes out."""
    print(f"\nFilm reviews: {share(hits(results))}")
    for row, prediction in results:
        print(f"{row['title']} {row['text']} is {row['sentiment']}, got {describe(prediction)}")


def print_articles(summarizer: Summarizer, path: Path) -> None:
    """How many articles get which sentiment."""
    texts = pq.read_table(path, columns=["document"])["document"].to_pylist()
    predictions = summarizer.predict([Document(text, "en") for text in texts])
    counts = Counter(prediction.sentiment or prediction.status for prediction in predictions)
    neutral = share([prediction.sentiment == "neutral" for prediction in predictions])
    print(f"\nBBC articles called neutral: {neutral}; {dict(counts.most_common())}")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--model", help="directory, URI or hub name; default: the one that ships")
    options.add_argument("--data", type=Path, help=f"folder that holds {ARTICLES}")
    arguments = options.parse_args()
    summarizer = load(arguments.model)
    print_short_texts(run(summarizer, read_rows("short_texts")))
    print_other_languages(run(summarizer, read_rows("other_languages")))
    reviews = [row | {"language": "zh"} for row in read_rows("film_reviews_zh")]
    print_film_reviews(run(summarizer, reviews))
    if arguments.data:
        print_articles(summarizer, arguments.data / ARTICLES)


if __name__ == "__main__":
    main()
