"""First on PYTHONPATH of a job under test: a document with a marker crashes the native library that splits it.

And while the file $BERTSUM_TEST_HOLD exists, a replica stays in its forward pass, and makes a file that says so.
Nothing in bertsum knows of this: functions are replaced before anything uses them.
"""

import os
import signal
import sys
import time
from pathlib import Path

import sentencex

_split = sentencex.segment


def _crash_at_marker(language: str, text: str) -> object:
    if "zebra crash" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    model = sys.modules.get("bertsum.model")  # loaded by now, wherever documents are split to be computed
    if model is not None and "BERTSUM_TEST_HOLD" in os.environ:
        _hold_forward(model.BertSum, Path(os.environ["BERTSUM_TEST_HOLD"]))
    return _split(language, text)


def _hold_forward(model: type, hold: Path) -> None:
    forward = model.forward
    if getattr(forward, "is_held", False):
        return

    def held(self: object, batch: object) -> object:
        deadline = time.monotonic() + 120
        while hold.exists() and time.monotonic() < deadline:
            hold.with_suffix(".held").touch()
            time.sleep(0.02)
        return forward(self, batch)

    held.is_held = True
    model.forward = held


sentencex.segment = _crash_at_marker
