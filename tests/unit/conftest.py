"""Fixtures of the unit tests; what builds tiny models is in `tiny.py`."""

import pytest
import tiny
import torch

import bertsum
from bertsum.checkpoint import save_checkpoint


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny matrices: threads only cost, and sums would depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Directory of a whole checkpoint with a tiny random model; not to be written to."""
    directory = tmp_path_factory.mktemp("checkpoint") / "model"
    save_checkpoint(directory, tiny.model(), tiny.wordpiece(), "# A card\n", bertsum.__version__)
    return directory
