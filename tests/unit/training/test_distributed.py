"""Several workers, as real processes, learn what one learns."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny, workers
from helpers.rows import sentiment_rows, summary_rows
from torch import multiprocessing

VALUES = {
    "sources": [
        {"name": "news", "summary_column": "summary", "num_summary_sentences": 1},
        {"name": "reviews", "sentiment_column": "label", "weight": 1.5},
        {"name": "remark", "sentiment_column": "label"},
    ],
    "epochs": 3,
    "max_batch_tokens": 80,  # one or two documents a step: often a worker has none, or none of a head
    "max_micro_batch_tokens": 64,
    "clip_norm": 0.5,
    "sentiment_weight": 0.7,
    "model": {"rank_candidates": True},
}

PAIRS = {
    "sources": [
        {
            "name": "desk",
            "train_uri": "desk.parquet",
            "validation_uri": "desk.parquet",
            "query_column": "question",
            "negatives_column": "others",
            "pair_weight_column": "clicks",
        },
        {"name": "reviews", "sentiment_column": "label", "hold_vectors": True},
    ],
    "max_steps": 12,
    "max_batch_tokens": 160,
    "max_micro_batch_tokens": 64,
    "encoder_learning_rate": 1e-3,
    "hold_weight": 3.0,
}

# Softmax does not feel a bias of its keys, nor a comparison of candidates what they have in common: the gradient is
# rounding noise, which Adam blows up to full steps.
NOISE = ("key.bias", "query_key_value.bias", "in_proj_bias", "layers.0.bias", "layers.3.bias")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7, 5 and 1 rows: no number of workers divides them all; the row groups do not fall on the workers' borders."""
    root = tmp_path_factory.mktemp("rows")
    for source, rows in zip(
        VALUES["sources"], (summary_rows(7), sentiment_rows(5), sentiment_rows(1)), strict=True
    ):
        source["train_uri"] = source["validation_uri"] = f"{source['name']}.parquet"
        pq.write_table(pa.table(rows), root / source["train_uri"], row_group_size=2)
    return root


@pytest.fixture(scope="module")
def alone(directory: Path) -> dict:
    return workers.train_part(directory, VALUES)


@pytest.mark.parametrize("size", [2, 3])
def test_workers_learn_what_one_learns(size: int, directory: Path, alone: dict) -> None:
    multiprocessing.start_processes(
        workers.main, (size, directory, VALUES), nprocs=size, start_method="spawn"
    )
    found = [
        torch.load(directory / f"{size}-{number}.pt", weights_only=True) for number in range(size)
    ]
    assert [part["rank"] for part in found] == list(range(size))
    rows = [part["rows"] for part in found]
    assert [sum(column) for column in zip(*rows, strict=True)] == alone["rows"] == [7, 5, 1]
    assert max(column[0] for column in rows) < 7
    assert len(alone["losses"]) > 20
    torch.testing.assert_close(
        torch.tensor(found[0]["losses"]), torch.tensor(alone["losses"]), rtol=1e-4, atol=1e-5
    )
    assert not any(part["losses"] for part in found[1:])  # the first worker logs
    for part in found:
        for name, weight in part["weights"].items():
            if name.endswith(NOISE):
                continue
            torch.testing.assert_close(
                weight, alone["weights"][name], rtol=1e-3, atol=1e-5, msg=name
            )
        assert part["temperature"] == found[0]["temperature"]
        assert part["temperature"] == pytest.approx(alone["temperature"], rel=1e-2)
        assert part["measures"].keys() == {"news", "reviews", "remark"}
        assert part["measures"]["news"]["rows"] == 3
        assert part["measures"]["news"]["rouge"] == pytest.approx(
            alone["measures"]["news"]["rouge"]
        )
        assert (
            part["measures"]["reviews"]["sentiment"]["support"]
            == alone["measures"]["reviews"]["sentiment"]["support"]
        )
        assert part["measures"]["news"]["summary_loss"] == pytest.approx(
            alone["measures"]["news"]["summary_loss"], abs=1e-4
        )


def test_workers_learn_from_pairs_what_one_learns(directory: Path) -> None:
    """Each query is compared with the candidates of all batches of all workers."""
    answers = [tiny.sentence(*range(9 * i, 9 * i + 4)) for i in range(3)]
    rows = {
        "document": [answers[i % 3] for i in range(7)],
        "question": [tiny.sentence(*range(5 * i + 1, 5 * i + 5)) for i in range(7)],
        "others": [[answers[(i + 1) % 3]] for i in range(7)],
        "clicks": [0.5 + i for i in range(7)],
    }
    pq.write_table(pa.table(rows), directory / "desk.parquet", row_group_size=2)
    PAIRS["sources"][1] |= {"train_uri": "reviews.parquet", "validation_uri": "reviews.parquet"}
    alone = workers.train_part(directory, PAIRS)
    multiprocessing.start_processes(
        workers.main, (2, directory, PAIRS), nprocs=2, start_method="spawn"
    )
    found = [torch.load(directory / f"2-{number}.pt", weights_only=True) for number in range(2)]
    logged = torch.tensor(alone["losses"])
    assert logged[:, 3].min() > 0  # of pairs
    assert logged[-1, 4] > 0  # of held vectors
    torch.testing.assert_close(torch.tensor(found[0]["losses"]), logged, rtol=1e-3, atol=1e-5)
    for part in found:
        for name, weight in part["weights"].items():
            if not name.endswith(NOISE):
                torch.testing.assert_close(
                    weight, alone["weights"][name], rtol=1e-3, atol=1e-4, msg=name
                )
        assert part["measures"]["desk"]["retrieval"] == alone["measures"]["desk"]["retrieval"]


def test_workers_give_ranks_as_one_does(directory: Path) -> None:
    """AdaLoRA's penalty and the ranks that it takes away are the same on all workers, and as without others."""
    values = VALUES | {
        "adapter": "adalora",
        "lora_rank": 2,
        "encoder_learning_rate": 1e-2,
        "epochs": 2,
    }
    alone = workers.train_part(directory, values)
    multiprocessing.start_processes(
        workers.main, (2, directory, values), nprocs=2, start_method="spawn"
    )
    found = [torch.load(directory / f"2-{number}.pt", weights_only=True) for number in range(2)]
    torch.testing.assert_close(
        torch.tensor(found[0]["losses"]), torch.tensor(alone["losses"]), rtol=1e-4, atol=1e-5
    )
    ranks = {name: weight != 0 for name, weight in alone["weights"].items() if "lora_E" in name}
    assert 0 < sum(int(kept.sum()) for kept in ranks.values()) <= 12 * 2
    for part in found:
        assert all(torch.equal(part["weights"][name] != 0, kept) for name, kept in ranks.items())
