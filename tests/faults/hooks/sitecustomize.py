"""First on PYTHONPATH of a job under test: what goes wrong in a process of a replica, at the wish of a test.

A document with a marker crashes the native library that splits it. While the file $BERTSUM_TEST_HOLD exists, a replica
stays in its forward pass, and writes its pid into a file. A batch of more than $BERTSUM_TEST_MAX_TOKENS is more than
the memory holds: the process is killed, as Linux does it. Nothing in bertsum knows of this: functions are replaced
before anything uses them.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import sentencex

_split = sentencex.segment


def _crash_at_marker(language: str, text: str) -> object:
    if "zebra crash" in text:
        # a signal sent from outside would leave this thread running for a moment
        ctypes.string_at(0)
    # loaded by now, wherever documents are split to be computed
    model = sys.modules.get("bertsum.model.bert_sum")
    if model is not None and not hasattr(model.BertSum, "is_watched"):
        _watch_forward(model.BertSum)
    return _split(language, text)


def _watch_forward(model: Any) -> None:
    forward, model.is_watched = model.forward, True
    hold, most = os.environ.get("BERTSUM_TEST_HOLD"), os.environ.get("BERTSUM_TEST_MAX_TOKENS")

    def watched(self: object, batch: Any, **options: bool) -> object:
        if most is not None and len(batch.input_ids) > int(most):
            os.kill(os.getpid(), signal.SIGKILL)
        deadline = time.monotonic() + 600
        while hold is not None and Path(hold).exists() and time.monotonic() < deadline:
            Path(hold).with_suffix(".held").write_text(str(os.getpid()))
            time.sleep(0.02)
        return forward(self, batch, **options)

    model.forward = watched


sentencex.segment = _crash_at_marker
