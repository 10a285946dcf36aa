"""Measures of each row against direct calls, baselines against their definition, and the report over rows."""

import sys

import numpy as np
import pyarrow as pa
import pytest
from helpers import tiny
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError, InputError
from bertsum.evaluation.baselines import choose
from bertsum.evaluation.columns import (
    MEASURES,
    TARGET_MEASURES,
    check_measurable,
    needed_columns,
    result_schema,
)
from bertsum.evaluation.config import EvaluationConfig
from bertsum.evaluation.evaluator import Evaluator, one_sentence_a_line
from bertsum.evaluation.report import NOT_MENTIONED, ROUGE_NAMES, evaluation_report
from bertsum.evaluation.report import OTHERS as OTHER_LABELS
from bertsum.evaluation.retrieval import ranks, roc_auc
from bertsum.inference.summarizer import Summarizer
from bertsum.model.batches import make_batch, split_tokens
from bertsum.runs.columns import check_shards
from bertsum.runs.input import InputFile, Shard
from bertsum.schema import Document
from bertsum.text.phrases.query_words import bm25, query_words

TEXTS = [
    tiny.text(8, first=3),
    tiny.text(6, first=11),
    "The cat sleeps. A dog runs. Market prices rise.",
    None,
    "猫狗。",
]
SUMMARIES = ["The city bank.\nIts cat.", "One bird. Two dogs.", "A dog runs.", "a", "猫"]
OTHERS = ["The cat.", None, "A dog runs. It is blue.", "x", "猫"]
LABELS = ["negative", "positive", "neutral", "positive", None]
ROWS = pa.table(
    {"id": range(5), "document": TEXTS, "summary": SUMMARIES, "other": OTHERS, "label": LABELS}
)
CONFIG = EvaluationConfig(
    summary_column="summary",
    sentiment_column="label",
    system_columns=("other",),
    keep_columns=("id",),
    num_summary_sentences=2,
    dtype="float32",
)


@pytest.fixture(scope="module")
def models(checkpoint):
    return {
        name: Summarizer(checkpoint, CONFIG.summarizer, device="cpu")
        for name in ("first", "second")
    }


@pytest.fixture(scope="module")
def result(models) -> pa.Table:
    (table,) = Evaluator(models, CONFIG).stream([ROWS])
    return table


def rouge_score(summary: str, reference: str) -> list[float]:
    names = ["rouge1", "rouge2", "rougeLsum"]
    scores = RougeScorer(names, use_stemmer=True).score(reference, summary)
    return [100 * scores[name].fmeasure for name in names]


def test_each_row_has_its_measures(result, models):
    assert result.schema == result_schema(ROWS.schema, CONFIG)
    assert result["id"].to_pylist() == list(range(5))
    assert result["status"].to_pylist() == ["ok", "ok", "ok", "empty", "unknown_language"]
    assert result["expected_sentiment"].to_pylist() == LABELS
    assert [row is None for row in result["rouge"].to_pylist()] == [
        False,
        False,
        False,
        True,
        False,
    ]
    predictions = models["first"]([text for text in TEXTS if text])
    for place in range(3):
        found = {entry.pop("system"): [*entry.values()] for entry in result["rouge"][place].as_py()}
        assert list(found) == [
            "first",
            "second",
            "LEAD-2",
            "random",
            "textrank",
            "lexrank",
            "oracle",
            "other",
        ]
        sentences = [part.strip() + "." for part in TEXTS[place].split(".")[:-1]]
        reference = one_sentence_a_line(SUMMARIES[place], "en")
        own = "\n".join(sentences[index] for index in predictions[place].summary_sentences)
        assert (
            found["first"]
            == found["second"]
            == pytest.approx(rouge_score(own, reference), abs=1e-6)
        )
        assert found["LEAD-2"] == pytest.approx(
            rouge_score("\n".join(sentences[:2]), reference), abs=1e-6
        )
        other = (OTHERS[place] or "").replace(". ", ".\n")
        assert found["other"] == pytest.approx(rouge_score(other, reference), abs=1e-6)
        scores = dict(result["sentiment"][place].as_py()[0]["scores"])
        assert scores == pytest.approx(predictions[place].sentiment_scores, abs=1e-6)
    assert result["rouge"][4][0]["rouge_1"].as_py() == pytest.approx(
        200 / 3
    )  # one of two characters


def test_a_row_does_not_depend_on_its_neighbours(result, models):
    parts = Evaluator(models, CONFIG).stream(ROWS.slice(place, 1) for place in range(5))
    assert pa.concat_tables(parts)["rouge"].to_pylist() == result["rouge"].to_pylist()


def test_the_report(result):
    report = evaluation_report(result, ["first", "second"], CONFIG.lead)
    assert report["rows"] == 5
    assert report["statuses"] == {"ok": 3, "empty": 1, "unknown_language": 1}
    rows = [row for row in result["rouge"].to_pylist() if row]
    assert report["rouge"]["rows"] == len(rows) == 4
    for place, (system, values) in enumerate(report["rouge"]["systems"].items()):
        for name in ROUGE_NAMES:
            own, lead = (np.array([row[index][name] for row in rows]) for index in (place, 2))
            assert values[name]["mean"] == pytest.approx(own.mean())
            assert values["over_lead"][name]["mean"] == pytest.approx((own - lead).mean(), abs=1e-9)
            assert values[name]["low"] <= values[name]["mean"] <= values[name]["high"], system
    assert report["rouge"]["systems"]["LEAD-2"]["over_lead"]["rouge_1"] == {
        "mean": 0,
        "low": 0,
        "high": 0,
    }
    sentiment = report["sentiment"]["first"]
    assert (sentiment["rows"], sentiment["rows_without_prediction"]) == (
        3,
        1,
    )  # the empty document has a label
    predicted = [
        max(row[0]["scores"], key=lambda pair: pair[1])[0]
        for row in result["sentiment"].to_pylist()[:3]
    ]
    assert sentiment["accuracy"] == pytest.approx(accuracy_score(LABELS[:3], predicted))
    assert np.array(sentiment["confusion"]).sum() == sum(sentiment["calibration"]["counts"]) == 3


def measured(
    head: str, expected: list[str | None], scores: dict[str, dict[str, np.ndarray]]
) -> pa.Table:
    """Rows of measures of one head. `scores`: [N] probabilities by model and label."""
    rows = [
        {"status": "ok", "num_tokens": 1, "num_sentences": 1, f"expected_{head}": label}
        | {
            head: [
                {
                    "model": model,
                    "scores": [(name, values[place]) for name, values in found.items()],
                }
                for model, found in scores.items()
            ]
        }
        for place, label in enumerate(expected)
    ]
    return pa.Table.from_pylist(rows, MEASURES)


@pytest.mark.parametrize("head", ["sentiment", "topic"])
def test_models_that_do_not_know_all_labels_are_measured_over_the_same_rows(head):
    """Against scikit-learn over the labels of both; the one that knows less is wrong where the data has more."""
    generator = np.random.default_rng(0)
    expected = generator.choice(
        ["negative", "positive", "mixed", "angry"], 60, p=[0.3, 0.4, 0.2, 0.1]
    ).tolist()
    knows = {
        "less": ["negative", "neutral", "positive"],
        "more": ["angry", "mixed", "negative", "positive"],
    }
    scores = {
        model: dict(
            zip(
                labels,
                generator.dirichlet(np.ones(len(labels)), 60).T.astype(np.float32),
                strict=True,
            )
        )
        for model, labels in knows.items()
    }
    table = measured(
        head,
        [*expected, None],
        {m: {k: np.append(v, 1) for k, v in s.items()} for m, s in scores.items()},
    )
    reports = evaluation_report(table, list(knows), "LEAD-3")[head]
    assert list(reports) == ["less", "more"]
    for model, report in reports.items():
        predicted = [knows[model][place] for place in np.stack([*scores[model].values()]).argmax(0)]
        labels = report["labels"]
        assert labels == [*knows[model], *report["unknown_labels"]]
        assert set(labels) >= {*expected, *predicted}
        assert report["rows"] == 60
        assert report["accuracy"] == pytest.approx(accuracy_score(expected, predicted))
        assert report["macro_f1"] == pytest.approx(
            f1_score(
                expected, predicted, labels=sorted(set(expected)), average="macro", zero_division=0
            )
        )
        wanted = precision_recall_fscore_support(
            expected, predicted, labels=labels, zero_division=0
        )
        for name, values in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
            assert list(report[name]) == labels
            assert list(report[name].values()) == pytest.approx(list(values))
        assert report["confusion"] == confusion_matrix(expected, predicted, labels=labels).tolist()
        assert sum(report["calibration"]["counts"]) == 60
        right = np.array(report["calibration"]["counts"]) @ np.array(
            report["calibration"]["accuracies"]
        )
        assert right == pytest.approx(60 * report["accuracy"])
        assert report["accuracy_95"][0] <= report["accuracy"] <= report["accuracy_95"][1]
    less = reports["less"]
    assert less["unknown_labels"] == {name: expected.count(name) for name in ("mixed", "angry")}
    assert less["rows_with_unknown_label"] == expected.count("mixed") + expected.count("angry")
    assert (less["recall"]["mixed"], less["support"]["mixed"]) == (0, expected.count("mixed"))
    assert (reports["more"]["unknown_labels"], reports["more"]["rows_with_unknown_label"]) == (
        {},
        0,
    )
    known = [place for place, label in enumerate(expected) if label in knows["less"]]
    is_positive = scores["less"]["positive"] > scores["less"]["negative"]
    right = sum((expected[place] == "positive") == is_positive[place] for place in known)
    assert less["accuracy_among_present_labels"] == pytest.approx(right / 60)
    asked = np.where(is_positive, "positive", "negative").tolist()
    assert less["macro_f1_among_present_labels"] == pytest.approx(
        f1_score(expected, asked, labels=sorted(set(expected)), average="macro", zero_division=0)
    )
    low, high = less["calibration"]["error_95"]
    assert 0 < low < less["calibration"]["error"] < high
    assert 0 < less["calibration"]["error_by_chance"] < high


def test_a_column_without_a_known_label_is_reported():
    """As a column of ids: all rows are wrong, and the report does not grow with the labels."""
    scores = {"negative": np.full(50, 0.4, np.float32), "positive": np.full(50, 0.6, np.float32)}
    expected = ["c", *["b"] * 3, *(f"id {number:02d}" for number in range(46))]
    report = evaluation_report(measured("sentiment", expected, {"own": scores}), ["own"], "LEAD-3")[
        "sentiment"
    ]["own"]
    assert (report["rows"], report["rows_with_unknown_label"], report["accuracy"]) == (50, 50, 0)
    assert report["accuracy_among_present_labels"] == report["macro_f1"] == 0
    assert report["calibration"]["error"] == pytest.approx(0.6)
    shown = {"b": 3, "c": 1} | {f"id {number:02d}": 1 for number in range(18)}
    assert report["unknown_labels"] == shown | {OTHER_LABELS: 28}
    assert report["labels"] == ["negative", "positive", *shown, OTHER_LABELS]
    assert np.array(report["confusion"]).sum(0).tolist() == [0, 50, *[0] * 21]


def test_a_tag_of_words_that_a_model_does_not_say_is_kept():
    tags = [["O", "B-x", "I-x"], ["B-z", "O"]]
    found = [[{"model": "own", "tags": said}] for said in (["O", "B-x", "O"], ["B-x", "O"])]
    rows = {
        "expected_words": tags,
        "words": found,
        "status": ["ok"] * 2,
        "num_tokens": [1] * 2,
        "num_sentences": [1] * 2,
    }
    table = pa.table(
        [pa.array(rows.get(field.name, [None] * 2), field.type) for field in MEASURES],
        schema=MEASURES,
    )
    report = evaluation_report(table, ["own"], "LEAD-3")["words"]["own"]
    assert report["labels"] == ["O", "B-x", "B-z", "I-x"]
    assert (report["recall"]["B-z"], report["support"]["B-z"]) == (0, 1)
    flat = [[*tags[0], *tags[1]], ["O", "B-x", "O", "B-x", "O"]]
    assert report["confusion"] == confusion_matrix(*flat, labels=report["labels"]).tolist()


def test_no_rows_are_an_empty_report():
    report = evaluation_report(MEASURES.empty_table(), ["own"], "LEAD-3")
    labelled = {"sentiment": 0, "topic": 0, "targets": 0, "retrieval": 0}
    heads = {"sentiment": {}, "topic": {}, "words": {}, "targets": {}, "retrieval": {}}
    empty = {"statuses": {}, "rouge": None, **heads}
    assert report == {"rows": 0, "labelled_rows": labelled, **empty}


def test_sentiment_alone(models):
    config = EvaluationConfig(sentiment="neutral")
    (table,) = Evaluator(models, config).stream([ROWS.select(["document"])])
    report = evaluation_report(table, ["first"], config.lead)
    assert report["rouge"] is None
    assert report["sentiment"]["first"]["support"] == {"negative": 0, "neutral": 3, "positive": 0}


def test_topic_and_words(tmp_path):
    """Each model says what its heads say; a word that no token begins is O, and one that is not in the text is left."""
    tags = ("O", "positive", "negative")
    heads = {"topic_labels": ("animals", "money"), "token_sentiment_labels": tags}
    save_checkpoint(
        tmp_path / "model", tiny.model(**heads), tiny.wordpiece(), "tiny", version="0.0.0"
    )
    config = EvaluationConfig(
        topic_column="topic",
        topic_names={"pets": "animals"},
        tokens_column="words",
        token_sentiments_column="tags",
        max_windows=1,
        dtype="float32",
    )
    words = [["The", "cat", "leeps", "."], ["Zebra", "dog", "nowhere"], ["The", "Zebra"], None]
    rows = {
        "document": [
            "The cat sleeps. " + tiny.text(9),
            "Zebra. A dog runs.",
            tiny.text(20) + " Zebra.",
            None,
        ],
        "topic": ["pets", "money", None, "pets"],
        "words": words,
        "tags": [["O", "positive", "O", "O"], ["O", "negative", "O"], ["O", "positive"], None],
    }
    model = Summarizer(tmp_path / "model", config.summarizer, device="cpu")
    plain = Summarizer(tmp_path / "model", config.summarizer, device="cpu")
    plain.model.topic = plain.model.token_sentiment = None
    (table,) = Evaluator({"own": model, "plain": plain}, config).stream([pa.table(rows)])
    assert table["expected_topic"].to_pylist() == ["animals", "money", None, "animals"]
    assert table["expected_words"].to_pylist() == [
        rows["tags"][0],
        ["O", "negative"],
        ["O", "positive"],
        None,
    ]
    for place in range(2):
        document = model.encoder.encode([rows["document"][place]], ["en"], 1)[0]
        batch = make_batch([document], [0])
        logits = model.model(batch, token_sentiments=True)
        ids = [model.tokenizer.convert_ids_to_tokens(int(token)) for token in document.input_ids]
        probabilities = logits.token_sentiment_logits.softmax(1).detach().numpy()
        (probabilities,) = split_tokens(probabilities, [document])
        first = dict(reversed(list(zip(ids, probabilities, strict=True))))
        ((name, found),) = [tuple(entry.values()) for entry in table["words"][place].as_py()]
        assert name == "own"
        texts = [word.lower() for word in words[place] if word != "nowhere"]
        for word, tag in zip(texts, found, strict=True):
            assert (tag != "O") == (word in first and first[word][0] <= 0.5)
        topic = dict(table["topic"][place].as_py()[0]["scores"])
        expected = logits.topic_logits.softmax(1)[0].tolist()
        assert topic == pytest.approx(
            dict(zip(heads["topic_labels"], expected, strict=True)), abs=1e-6
        )
    assert table["words"][2].as_py() == [
        {"model": "own", "tags": [table["words"][2].as_py()[0]["tags"][0], "O"]}
    ]

    assert table["status"].to_pylist() == ["ok", "ok", "ok", "empty"]
    half = Summarizer(
        tmp_path / "model", SummarizerConfig(dtype="bfloat16", max_windows=1), device="cpu"
    )
    (again,) = Evaluator({"own": half}, config).stream([pa.table(rows)])
    assert again["status"].to_pylist() == table["status"].to_pylist()

    report = evaluation_report(table, ["own", "plain"], config.lead)
    assert list(report["topic"]) == list(report["words"]) == ["own"]
    assert (report["topic"]["own"]["rows"], report["topic"]["own"]["rows_without_prediction"]) == (
        2,
        1,
    )
    assert (report["words"]["own"]["rows"], report["words"]["own"]["words"]) == (3, 8)
    assert report["words"]["own"]["spans"]["micro"]["support"] == 3


def test_targets_and_topics_by_names(checkpoint):
    """Each row has what `summarize` would say of its names and topics."""
    rows = {
        "document": ["The cat sees a dog. " + tiny.text(5), "A bird sings.", None, "The cat."],
        "names": [["cat", "dog", "cat"], ["cat", None, "bird"], ["cat"], None],
        "tags": [["positive", "negative", None], ["neutral", "x", "positive"], ["x"], ["x"]],
        "topic": ["animals", "money", "animals", None],
    }
    config = EvaluationConfig(
        entities_column="names",
        entity_sentiments_column="tags",
        topic_column="topic",
        topics=["animals", "money"],
        dtype="float32",
    )
    own = Summarizer(checkpoint, config.summarizer, device="cpu")
    (table,) = Evaluator({"own": own}, config).stream([pa.table(rows)])
    asked = {"targets": ["unnamed"], "topics": ["animals", "money"]}
    groups = SummarizerConfig(outputs=["targets", "topic"], dtype="float32", **asked)
    expected = Summarizer(checkpoint, groups, device="cpu").predict(
        [
            Document(text, targets=tuple(filter(None, names or ())))
            for text, names in zip(rows["document"], rows["names"], strict=True)
        ]
    )
    by_name = [
        {entry["target"]: entry["sentiment_scores"] for entry in row.targets or ()}
        for row in expected
    ]
    assert table["expected_targets"].to_pylist() == [
        ["positive", "negative"],
        ["neutral", "x", "positive"],
        None,
        None,
    ]
    assert table["targets"].to_pylist()[2:] == [None, None]
    first, second = (
        [scores and dict(scores) for scores in row[0]["scores"]]
        for row in table["targets"].to_pylist()[:2]
    )
    assert first[0] == pytest.approx(by_name[0]["cat"], abs=1e-6)
    assert first[1] == pytest.approx(by_name[0]["dog"], abs=1e-6)
    assert second[:2] == [None, None]
    assert second[2] == pytest.approx(by_name[1]["bird"], abs=1e-6)
    for row, prediction in zip(table["topic"].to_pylist(), expected, strict=True):
        said = dict(row[0]["scores"]) if row else None
        assert said == (prediction.topic_scores and pytest.approx(prediction.topic_scores))

    with pytest.raises(InputError, match="it has 1 names and 2 labels of names"):
        bad = pa.table({"document": ["The cat."], "names": [["cat"]], "tags": [["x", "x"]]})
        labels = {"entities_column": "names", "entity_sentiments_column": "tags"}
        list(Evaluator({"own": own}, EvaluationConfig(**labels)).stream([bad]))
    with pytest.raises(ValueError, match="topics are measured against labels"):
        EvaluationConfig(sentiment_column="label", topics=["a", "b"])


def test_the_report_on_targets():
    """Against scikit-learn; a name that is not mentioned is a wrong answer."""
    generator = np.random.default_rng(1)
    classes = ["negative", "neutral", "positive"]
    rows, wanted, answered, of_document, label_sets = [], [], [], [], []
    for number in range(40):
        labels = generator.choice(classes, 1 + number % 3).tolist()
        scores = generator.dirichlet(np.ones(3), len(labels) + 1).tolist()
        pairs = [list(zip(classes, values, strict=True)) for values in scores]
        given = [None if number == 7 else entry for entry in pairs[1:]]
        rows.append(
            {
                "status": "ok",
                "num_tokens": 1,
                "num_sentences": 1,
                "sentiment": [{"model": "own", "scores": pairs[0]}],
                "expected_targets": labels,
                "targets": [{"model": "own", "scores": given}],
            }
        )
        for label, entry in zip(labels, given, strict=True):
            wanted.append(label)
            answered.append(max(entry, key=lambda pair: pair[1])[0] if entry else "none")
            of_document.append(max(pairs[0], key=lambda pair: pair[1])[0])
            label_sets.append(set(labels))
    table = pa.Table.from_pylist(rows, pa.schema([*MEASURES, *TARGET_MEASURES]))
    report = evaluation_report(table, ["own", "other"], "LEAD-3")
    assert report["labelled_rows"]["targets"] == 40
    assert list(report["targets"]) == ["own"]
    own = report["targets"]["own"]
    assert (own["rows"], own["entities"], own["not_mentioned"]) == (40, len(wanted), 2)
    assert own["labels"] == [*classes, NOT_MENTIONED]
    assert own["accuracy"] == pytest.approx(accuracy_score(wanted, answered))
    macro = f1_score(wanted, answered, labels=classes, average="macro")
    assert own["macro_f1"] == pytest.approx(macro)
    matrix = confusion_matrix(wanted, answered, labels=[*classes, "none"])
    assert own["confusion"] == matrix.tolist()
    kinds = {
        "all": [True] * len(wanted),
        "agree": [len(labels) == 1 for labels in label_sets],
        "disagree": [len(labels) > 1 for labels in label_sets],
        "opposite": [{"negative", "positive"} <= labels for labels in label_sets],
    }
    for kind, chosen in kinds.items():
        found = own["by_agreement"][kind]
        keep = np.array(chosen)
        right = np.array(wanted)[keep] == np.array(answered)[keep]
        document = np.array(wanted)[keep] == np.array(of_document)[keep]
        assert found["entities"] == keep.sum()
        assert found["accuracy"] == pytest.approx(right.mean())
        assert found["document_accuracy"] == pytest.approx(document.mean())
        gain = found["gain"]
        assert gain["mean"] == pytest.approx(right.mean() - document.mean())
        assert gain["low"] < gain["mean"] < gain["high"]


def test_the_document_of_a_query(checkpoint):
    """Ranks over embeddings as `summarize` writes them; equal documents are one candidate."""
    texts = [*(tiny.text(4, first=5 * number) for number in range(6)), None, tiny.text(4)]
    queries = [*(tiny.sentence(5 * number, 5 * number + 2) for number in range(6)), "A cat.", None]
    texts[5] = texts[0]
    config = EvaluationConfig(query_column="query", dtype="float32")
    own = Summarizer(checkpoint, config.summarizer, device="cpu")
    (table,) = Evaluator({"own": own}, config).stream(
        [pa.table({"document": texts, "query": queries})]
    )
    groups = SummarizerConfig(outputs=["embedding"], dtype="float32")
    summarizer = Summarizer(checkpoint, groups, device="cpu")
    vectors = np.array([prediction.embedding for prediction in summarizer(texts[:6])])
    of_queries = np.array([prediction.embedding for prediction in summarizer(queries[:6])])
    for index, row in enumerate(table["retrieval"].to_pylist()[:6]):
        (entry,) = row
        assert (entry["model"], entry["member"]) == ("own", "")
        assert entry["query"] == pytest.approx(of_queries[index], abs=2e-3)
        assert entry["document"] == pytest.approx(vectors[index], abs=2e-3)
    assert table["retrieval"].to_pylist()[6:] == [None, None]

    report = evaluation_report(table, ["own"], config.lead)
    assert report["labelled_rows"]["retrieval"] == 6
    found = report["retrieval"]["own"]
    assert (found["rows"], found["candidates"]) == (6, 5)
    entries = [row[0] for row in table["retrieval"].to_pylist()[:6]]
    ranks = []
    for index, entry in enumerate(entries):
        right = 0 if index == 5 else index
        cosines = [np.dot(entry["query"], entries[other]["document"]) for other in range(5)]
        ranks.append(sorted(cosines, reverse=True).index(cosines[right]) + 1)
    assert found["mrr"]["mean"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert found["recall_at_1"]["mean"] == pytest.approx(np.mean([rank == 1 for rank in ranks]))
    assert found["recall_at_10"]["mean"] == 1
    assert found["mrr"]["low"] <= found["mrr"]["mean"] <= found["mrr"]["high"]


def test_pairs_that_mean_the_same(checkpoint):
    """Against scikit-learn, over the rows with a label."""
    generator = np.random.default_rng(2)
    texts = [tiny.text(2, first=int(n)) for n in generator.integers(0, 40, 30)]
    queries = [tiny.text(2, first=int(n)) for n in generator.integers(0, 40, 30)]
    labels = [None, *(generator.integers(0, 2, 29).tolist())]
    rows = pa.table({"document": texts, "query": queries, "same": labels})
    config = EvaluationConfig(query_column="query", same_column="same", dtype="float32")
    own = Summarizer(checkpoint, config.summarizer, device="cpu")
    (table,) = Evaluator({"own": own}, config).stream([rows])
    assert table["is_same"].to_pylist() == [None, *map(bool, labels[1:])]
    report = evaluation_report(table, ["own"], config.lead)["retrieval"]["own"]
    entries = [row[0] for row in table["retrieval"].to_pylist()[1:]]
    cosines = [np.dot(entry["query"], entry["document"]) for entry in entries]
    assert (report["rows"], report["same"]) == (29, sum(labels[1:]))
    assert report["roc_auc"]["mean"] == pytest.approx(roc_auc_score(labels[1:], cosines), abs=0.01)
    wrong = rows.set_column(2, "same", pa.array([2] * 30))
    with pytest.raises(InputError, match="a pair has the label '2'; allowed are 0 and 1"):
        list(Evaluator({"own": own}, config).stream([wrong]))
    with pytest.raises(ValueError, match="give query_column"):
        EvaluationConfig(sentiment_column="label", same_column="same")


def test_the_area_under_roc():
    """Against scikit-learn, with equal scores; and the interval against resampled rows."""
    generator = np.random.default_rng(3)
    is_positive = generator.random(300) < 0.3
    scores = np.round(generator.normal(size=300) + is_positive, 1)
    area, (low, high) = roc_auc(scores, is_positive)
    assert area == pytest.approx(roc_auc_score(is_positive, scores))
    samples = [generator.integers(0, 300, 300) for _ in range(500)]
    areas = [roc_auc_score(is_positive[rows], scores[rows]) for rows in samples]
    assert (low, high) == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.02)


def test_equal_vectors_retrieve_nothing():
    vectors = np.ones((20, 4), np.float32) / 2
    assert ranks(vectors, vectors, np.arange(20)).tolist() == [20] * 20


def test_graph_baselines_find_the_sentence_that_the_others_repeat():
    sentences = [
        "Nobody knows why.",
        "The central bank raised interest rates because prices rise.",
        "Interest rates of the central bank rise.",
        "Prices rise and the bank raised rates.",
        "Birds sing.",
    ]
    for baseline in ("textrank", "lexrank"):
        chosen = choose(baseline, sentences, summary="", language="en", size=2, seed="")
        assert 1 in chosen
        assert len(chosen) == 2
        assert choose(
            baseline, ["Same words here."] * 2, summary="", language="en", size=5, seed=""
        ) == [0, 1]
        assert (
            len(
                choose(
                    baseline,
                    ["央行宣布下调利率", "央行利率", "猫"],
                    summary="",
                    language="zh",
                    size=2,
                    seed="",
                )
            )
            == 2
        )


def test_a_random_choice_is_of_the_seed():
    sentences = [str(number) for number in range(50)]
    chosen = choose("random", sentences, summary="", language="en", size=3, seed="a")
    assert (
        chosen
        == choose("random", sentences, summary="", language="en", size=3, seed="a")
        == sorted(set(chosen))
    )
    assert (
        len(
            {
                tuple(
                    choose("random", sentences, summary="", language="en", size=3, seed=str(seed))
                )
                for seed in range(20)
            }
        )
        > 15
    )
    assert choose("random", ["a"], summary="", language="en", size=3, seed="a") == [0]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sumy.models.dom", None)
    with pytest.raises(ConfigError, match=r"pip install 'bertsum\[evaluate\]'"):
        choose("lexrank", ["a"], summary="", language="en", size=1, seed="")


def test_columns_are_checked_before_any_work():
    shard = Shard(InputFile("a.parquet", 1, "v"), ROWS.schema, ())
    assert check_measurable(shard, CONFIG) is None
    assert needed_columns(CONFIG) == ["document", "summary", "label", "other", "id"]
    assert "no column 'no'" in check_measurable(shard, EvaluationConfig(summary_column="no"))
    numbers = EvaluationConfig(summary_column="summary", system_columns=("id",))
    assert "'id' is int64" in check_measurable(shard, numbers)
    clash = Shard(shard.file, pa.schema([*ROWS.schema, MEASURES.field("status")]), ())
    config = EvaluationConfig(summary_column="summary", keep_columns=("status",))
    with pytest.raises(InputError, match=r"\['status'\]"):
        check_shards([clash], lambda one: check_measurable(one, config), False)
    clash = Shard(shard.file, pa.schema([*ROWS.schema, pa.field("Status", pa.string())]), ())
    config = EvaluationConfig(summary_column="summary", keep_columns=("Status",))
    with pytest.raises(InputError, match=r"keep_columns \['Status'\]"):
        check_measurable(clash, config)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("One bird. Two  dogs.", "One bird.\nTwo dogs."),
        (" a  b \n\n c. d. ", "a b\nc. d."),
        ("", ""),
    ],
)
def test_one_sentence_a_line(text, lines):
    assert one_sentence_a_line(text, "en") == lines


def test_summaries_that_answer_a_query_are_measured_beside_bm25(checkpoint):
    queries = ["river bank", "a dog", "prices", "cat", None]
    rows = ROWS.append_column("asked", pa.array(queries))
    values = CONFIG.model_dump() | {"summary_query_column": "asked", "baselines": ["oracle"]}
    config = EvaluationConfig.model_validate(values)
    model = Summarizer(checkpoint, config.summarizer, device="cpu")
    (table,) = Evaluator({"m": model}, config).stream([rows])
    measured = table["rouge"].to_pylist()
    names = ["m", "LEAD-2", "oracle", "m (query)", "bm25", "other"]
    assert config.systems(["m"]) == names
    asking = SummarizerConfig.model_validate(
        config.summarizer.model_dump() | {"query_column": "asked"}
    )
    texts = rows.select(["document", "asked"])
    answers = Summarizer(checkpoint, asking, device="cpu")(texts).to_pylist()
    for place in range(3):
        assert {entry["system"] for entry in measured[place]} == set(names)
        found = {entry.pop("system"): [*entry.values()] for entry in measured[place]}
        sentences = [part.strip() + "." for part in TEXTS[place].split(".")[:-1]]
        reference = one_sentence_a_line(SUMMARIES[place], "en")
        chosen = [sentences[index] for index in answers[place]["summary_sentences"]]
        assert found["m (query)"] == pytest.approx(rouge_score("\n".join(chosen), reference))
        scores = bm25(sentences, query_words(queries[place], "en"), "en")
        best = sorted(sorted(range(len(sentences)), key=lambda index: -scores[index])[:2])
        text = "\n".join(sentences[index] for index in best)
        assert found["bm25"] == pytest.approx(rouge_score(text, reference))
    report = evaluation_report(table, ["m"], config.lead)["rouge"]
    systems = report["systems"]
    for other in ("m", "bm25"):
        gain = report["query"]["m"][f"over {other}"]["rouge_1"]
        expected = systems["m (query)"]["rouge_1"]["mean"] - systems[other]["rouge_1"]["mean"]
        assert gain["mean"] == pytest.approx(expected)
        assert gain["low"] <= gain["mean"] <= gain["high"]


def test_a_query_of_summaries_needs_summaries(models):
    with pytest.raises(ValueError, match="give summary_column"):
        EvaluationConfig(sentiment_column="label", summary_query_column="asked")
    assert "asked" in needed_columns(
        EvaluationConfig(summary_column="summary", summary_query_column="asked")
    )
