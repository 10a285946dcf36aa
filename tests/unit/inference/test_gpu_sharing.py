"""How many processes a GPU gets, and what an encoder needs for a token."""

from pathlib import Path

import pytest
from helpers.job_helpers import make_checkpoint

from bertsum.checkpoints.locate import resolve
from bertsum.inference.gpu_sharing import processes_per_gpu, product_operations, token_operations


def test_operations_are_two_for_each_weight_of_the_linear_layers() -> None:
    """BERT-base: 12 layers of 7,077,888 weights in matrices, as its paper's 85 million without biases and norms."""
    assert product_operations(768, 12, 3072) == 2 * 84_934_656


@pytest.mark.parametrize(
    ("gpu_type", "cores", "expected"),
    [("H100", 24, 8), ("H100", 3.5, 3), ("A100", 24, 4), ("T4", 24, 1), ("H100", 0.5, 1)],
)
def test_processes(gpu_type: str, cores: float, expected: int) -> None:
    """MiniLM-L6: 21.2 million operations a token. An A100 makes 140e12 a second: 0.15 us where the host needs 0.5."""
    assert processes_per_gpu(gpu_type, cores, product_operations(384, 6, 1536)) == expected


def test_a_gpu_that_nobody_has_heard_of_gets_one() -> None:
    assert processes_per_gpu("X1000", 64, 1e6) == 1


def test_the_shipped_family_counts_as_its_smallest_member() -> None:
    assert token_operations(resolve(None)) == product_operations(384, 6, 1536)


def test_a_whole_checkpoint_says_its_sizes(tmp_path: Path) -> None:
    """See `helpers.tiny`: 2 layers of 32 features, inner size 64."""
    directory = make_checkpoint(tmp_path / "model")
    assert token_operations(directory) == product_operations(32, 2, 64)
