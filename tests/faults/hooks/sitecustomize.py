"""First on PYTHONPATH of a job under test: a document with a marker crashes the native library that splits it.

Nothing in bertsum knows of this: the library's function is replaced before anything imports it.
"""

import os
import signal

import sentencex

_split = sentencex.segment


def _crash_at_marker(language: str, text: str) -> object:
    if "zebra crash" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    return _split(language, text)


sentencex.segment = _crash_at_marker
