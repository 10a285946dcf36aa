"""One Ray of two CPUs for all tests here; the job finds it and leaves it running."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from helpers.job_helpers import make_checkpoint

from jobs.engine.cluster import connected


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint with a tiny random model; not to be written to."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A local Ray, as the job starts one."""
    with connected("local", num_cpus=2):
        assert ray.is_initialized()
        yield
