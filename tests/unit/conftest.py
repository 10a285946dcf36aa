"""Fixtures of the unit tests; what builds tiny models is in `tiny.py`."""

import sys

import pytest
import torch
from helpers import tiny
from helpers.browser import CHROMIUM, chromium

import bertsum
from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.checkpoints.config import package_encoder


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
    save_checkpoint(
        directory, tiny.model(), tiny.wordpiece(), "# A card\n", version=bertsum.__version__
    )
    return directory


@pytest.fixture(scope="session")
def family(tmp_path_factory):
    """Directory of a family with tiny random models; not to be written to."""
    return tiny.family(tmp_path_factory.mktemp("family") / "model")


@pytest.fixture(scope="session")
def browser():
    """A tab of Chromium, whose size and colours each page sets anew."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on PATH")
    with chromium() as page:
        yield page


@pytest.fixture
def base(tmp_path, monkeypatch):
    """An installed package `tiny_base` that carries an encoder in its folder `model`."""
    package = tmp_path / "site" / "tiny_base"
    tiny.save(package / "model", tiny.encoder(), tiny.wordpiece())
    (package / "__init__.py").write_text("raise ImportError('a checkpoint must not import this')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    yield package_encoder("package:tiny_base/model")
    assert "tiny_base" not in sys.modules
