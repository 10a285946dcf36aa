"""BM25 against its formula, word by word and document by document."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsum.evaluation.bm25 import Bm25, terms
from bertsum.evaluation.retrieval import BM25, retrieval_reports

TEXTS = st.lists(st.sampled_from("abcdef"), max_size=8)


def by_formula(query: list[str], document: list[str], documents: list[list[str]]) -> float:
    """Robertson & Zaragoza 2009, equation 3.15, with k1 = 1.2 and b = 0.75, and Lucene's weight of a word."""
    average = sum(map(len, documents)) / len(documents)
    score = 0.0
    for word in query:
        having = sum(word in other for other in documents)
        weight = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        count = document.count(word)
        if count:
            score += weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(document) / average))
    return score


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=6))
def test_scores_are_those_of_the_formula(query: list[str], documents: list[list[str]]) -> None:
    expected = [by_formula(query, document, documents) for document in documents]
    assert Bm25(documents).scores(query).tolist() == pytest.approx(expected)


def test_terms_are_words_or_pairs_of_characters() -> None:
    assert terms("The cat's toy, the TOY.", "en") == ["the", "cat", "s", "toy", "the", "toy"]
    assert terms("猫坐在。", "zh") == ["猫坐", "坐在"]
    assert terms("猫", "zh") == ["猫"]
    assert terms("", "zh") == []


def table(**columns: list) -> pa.Table:
    """Rows of measures of two models that say nothing else."""
    count = len(columns["document_terms"])
    vectors = [[{"model": "own", "member": "", "query": [1.0, 0.0], "document": [1.0, 0.0]}]]
    return pa.table(
        {"document_digest": list("abcd")[:count], "is_same": pa.nulls(count, pa.bool_()),
         "retrieval": vectors * count, **columns}
    )  # fmt: skip


def test_bm25_stands_beside_the_models() -> None:
    rows = table(
        query_terms=[["cat"], ["dog"], ["bird"]],
        document_terms=[["cat", "sleeps"], ["cat", "dog"], ["dog", "runs"]],
    )
    report = retrieval_reports(rows, ["own"])
    assert list(report) == ["own", BM25]
    # "cat" is in two documents of equal length, so both count as nearer; nobody has "bird"
    assert report[BM25]["mrr"]["mean"] == pytest.approx(np.mean([1 / 2, 1 / 2, 1 / 3]))
    assert (report[BM25]["rows"], report[BM25]["candidates"]) == (3, 3)
    # of an earlier version, which kept no terms
    assert list(retrieval_reports(rows.drop_columns(["query_terms"]), ["own"])) == ["own"]


def test_bm25_of_pairs_with_a_label() -> None:
    rows = table(
        query_terms=[["cat"], ["dog"], ["bird"], ["runs"]],
        document_terms=[["cat"], ["cat"], ["dog", "runs"], ["runs"]],
    )
    rows = rows.set_column(1, "is_same", pa.array([True, False, None, True]))
    report = retrieval_reports(rows, ["own"])[BM25]
    assert (report["rows"], report["same"]) == (3, 2)
    assert report["roc_auc"]["mean"] == 1
