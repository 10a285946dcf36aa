"""How well embeddings retrieve: the document of a query among all, and pairs of equal meaning."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bertsum.evaluation.bm25 import Bm25
from bertsum.evaluation.metrics import bootstrap_intervals, share_interval

BM25 = "BM25"  # its name among the models
MOST_ROWS = 10_000  # each query is compared with each document: the work grows with the square
_BLOCK = 1024  # queries at once
_TOP = (1, 5, 10)  # ranks up to which the document counts as retrieved
_NDCG_TOP = 10

FloatArray = npt.NDArray[np.floating]


def retrieval_reports(table: pa.Table, models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A report by model, and one of BM25, over the first MOST_ROWS rows with a query.

    Of pairs with a label (`is_same`) it has `roc_auc`, of other rows what `rank_measures` gives.
    Each has a mean and a 95 % interval.
    """
    asked = table.filter(pc.is_valid(table["retrieval"])).slice(0, MOST_ROWS)
    rows = asked.select(["document_digest", "is_same", "retrieval"]).to_pylist()
    are_pairs = any(row["is_same"] is not None for row in rows)
    # of a pair without a label nobody knows what would be right
    is_kept = np.array([not are_pairs or row["is_same"] is not None for row in rows], np.bool_)
    reports = {}
    for model in models:
        chosen = []
        for row, is_kept_here in zip(rows, is_kept, strict=True):
            answers = [entry for entry in row["retrieval"] if entry["model"] == model]
            if answers and is_kept_here:
                chosen.append(row | answers[0])
        if chosen and are_pairs:
            cosines = (_vectors(chosen, "query") * _vectors(chosen, "document")).sum(1)
            is_same = np.array([row["is_same"] for row in chosen])
            reports[model] = _auc_report(cosines, is_same)
        elif chosen:
            reports[model] = _ranks_report(chosen)
    # rows of an earlier version have no terms
    if reports and "query_terms" in asked.column_names and not asked["query_terms"].null_count:
        reports[BM25] = _bm25_report(asked.filter(pa.array(is_kept)), are_pairs=are_pairs)
    return reports


def _bm25_report(table: pa.Table, *, are_pairs: bool) -> dict[str, Any]:
    """The same measures where documents are ranked by BM25."""
    digests = table["document_digest"].to_pylist()
    index_of: dict[str, int] = {}
    right = np.array([index_of.setdefault(digest, len(index_of)) for digest in digests])
    _, first = np.unique(right, return_index=True)
    index = Bm25(table["document_terms"].take(pa.array(first)).to_pylist())
    ranked, of_right = np.zeros(len(right), np.int64), np.zeros(len(right))
    for row, query in enumerate(table["query_terms"].to_pylist()):
        scores = index.scores(query)
        of_right[row] = scores[right[row]]
        ranked[row] = (scores >= of_right[row]).sum()  # as `ranks` has it
    if are_pairs:
        return _auc_report(of_right, np.array(table["is_same"].to_pylist()))
    return {"rows": len(right), "candidates": len(index_of), **rank_measures(ranked)}


def _auc_report(scores: FloatArray, is_same: npt.NDArray[np.bool_]) -> dict[str, Any]:
    report: dict[str, Any] = {"rows": len(scores), "same": int(is_same.sum())}
    if is_same.any() and not is_same.all():
        area, (low, high) = roc_auc(scores, is_same)
        report["roc_auc"] = {"mean": area, "low": low, "high": high}
    return report


def _ranks_report(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each query has its rank among the documents that the same member of a family has read."""
    all_ranks = []
    for member in {row["member"]: None for row in rows}:
        read = [row for row in rows if row["member"] == member]
        # equal texts are one candidate: of two the second would push the first down
        index_of: dict[str, int] = {}
        for row in read:
            index_of.setdefault(row["document_digest"], len(index_of))
        right = np.array([index_of[row["document_digest"]] for row in read])
        _, first = np.unique(right, return_index=True)
        all_ranks.append(ranks(_vectors(read, "query"), _vectors(read, "document")[first], right))
    return {
        "rows": len(rows),
        "candidates": len({(row["member"], row["document_digest"]) for row in rows}),
        **rank_measures(np.concatenate(all_ranks)),
    }


def rank_measures(ranked: npt.NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Measures of [N] ranks from 1, each with `mean` and a 95 % interval: `low` and `high`.

    A query has one right document, so the gain of the best order is 1, and nDCG at 10 (Järvelin &
    Kekäläinen 2002) is 1 / log2(1 + rank), 0 beyond the tenth.
    """
    gains = np.where(ranked <= _NDCG_TOP, 1 / np.log2(1 + ranked), 0.0)
    values = np.stack([1 / ranked, gains], 1)
    measures = {}
    for top in _TOP:
        is_near = ranked <= top
        low, high = share_interval(is_near)
        measures[f"recall_at_{top}"] = {"mean": float(is_near.mean()), "low": low, "high": high}
    names = ("mrr", f"ndcg_at_{_NDCG_TOP}")
    intervals = bootstrap_intervals(values).tolist()
    for name, mean, (low, high) in zip(names, values.mean(0).tolist(), intervals, strict=True):
        measures[name] = {"mean": mean, "low": low, "high": high}
    return measures


def ranks(
    queries: FloatArray, documents: FloatArray, right: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """[N] the rank of each query's right document, from 1, by cosine.

    - `queries`: [N, H], and `documents`: [M, H], of length 1.
    - `right`: [N] indices of documents.
    """
    blocks = []
    for start in range(0, len(queries), _BLOCK):
        cosines = queries[start : start + _BLOCK] @ documents.T
        of_right = cosines[np.arange(len(cosines)), right[start : start + _BLOCK]]
        # as near as the right one counts as nearer: else equal vectors for all would be perfect
        blocks.append((cosines >= of_right[:, None]).sum(1))
    return np.concatenate(blocks)


def roc_auc(
    scores: FloatArray, is_positive: npt.NDArray[np.bool_]
) -> tuple[float, tuple[float, float]]:
    """Area under the ROC curve of [N] scores, and its 95 % interval (DeLong et al. 1988).

    It is the share of pairs of a positive and a negative row in which the positive has the higher
    score; equal scores count half. Both kinds of rows must occur.
    """
    positive, negative = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    # of each row the share of rows of the other kind that it is on the right side of
    above = (np.searchsorted(negative, positive) + np.searchsorted(negative, positive, "right")) / (
        2 * len(negative)
    )
    below = 1 - (
        np.searchsorted(positive, negative) + np.searchsorted(positive, negative, "right")
    ) / (2 * len(positive))
    area = float(above.mean())
    # variances of one row say nothing: they count as 0
    variance = sum(part.var(ddof=1) / len(part) for part in (above, below) if len(part) > 1)
    half = 1.959964 * math.sqrt(variance)  # 95 % of a normal distribution
    return area, (max(0.0, area - half), min(1.0, area + half))


def _vectors(rows: Sequence[Mapping[str, Any]], name: str) -> FloatArray:
    """[N, H] the vectors of this name."""
    return np.array([row[name] for row in rows], np.float32)
