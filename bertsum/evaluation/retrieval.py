"""How well embeddings retrieve: the document of a query among all, and pairs of equal meaning."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bertsum.evaluation.metrics import bootstrap_intervals, share_interval

MOST_ROWS = 10_000  # each query is compared with each document: the work grows with the square
_BLOCK = 1024  # queries at once
_TOP = (1, 10)  # ranks up to which the document counts as retrieved

FloatArray = npt.NDArray[np.floating]


def retrieval_reports(table: pa.Table, models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A report by model, over the first MOST_ROWS rows with a query.

    Of pairs with a label (`is_same`) it has `roc_auc`, of other rows `recall_at_1`, `recall_at_10`
    and `mrr`, the mean reciprocal rank. Each has a mean and a 95 % interval.
    """
    asked = table.filter(pc.is_valid(table["retrieval"])).slice(0, MOST_ROWS)
    rows = asked.select(["document_digest", "is_same", "retrieval"]).to_pylist()
    are_pairs = any(row["is_same"] is not None for row in rows)
    reports = {}
    for model in models:
        chosen = []
        for row in rows:
            answers = [entry for entry in row["retrieval"] if entry["model"] == model]
            # of a pair without a label nobody knows what would be right
            if answers and not (are_pairs and row["is_same"] is None):
                chosen.append(row | answers[0])
        if chosen:
            reports[model] = _pairs_report(chosen) if are_pairs else _ranks_report(chosen)
    return reports


def _pairs_report(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cosines = (_vectors(rows, "query") * _vectors(rows, "document")).sum(1)
    is_same = np.array([row["is_same"] for row in rows])
    report: dict[str, Any] = {"rows": len(rows), "same": int(is_same.sum())}
    if is_same.any() and not is_same.all():
        area, (low, high) = roc_auc(cosines, is_same)
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
    ranked = np.concatenate(all_ranks)
    reciprocal = 1 / ranked
    ((low, high),) = bootstrap_intervals(reciprocal[:, None]).tolist()
    report: dict[str, Any] = {
        "rows": len(rows),
        "candidates": len({(row["member"], row["document_digest"]) for row in rows}),
        "mrr": {"mean": float(reciprocal.mean()), "low": low, "high": high},
    }
    for top in _TOP:
        is_near = ranked <= top
        low, high = share_interval(is_near)
        report[f"recall_at_{top}"] = {"mean": float(is_near.mean()), "low": low, "high": high}
    return report


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
