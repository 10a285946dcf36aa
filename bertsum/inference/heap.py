"""Memory that the C library keeps goes back to the system now and then.

Texts, tokens and batches of all sizes come and go, and glibc keeps what is free between pieces that
live: about 40 MB more for each thousand documents of 50 kB. So a replica would grow with its file.
"""

import ctypes
import sys
import time

_SECONDS = 5.0  # between two trims; one takes some 30 ms with a heap of 1 GB


class HeapTrimmer:
    """Trims the heap at most every few seconds; does nothing where the C library is not glibc."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(library, "malloc_trim", None)  # musl has none
        self._trimmed_at = time.monotonic()

    def __call__(self) -> None:
        if self._trim is not None and time.monotonic() - self._trimmed_at >= _SECONDS:
            self._trim(0)
            self._trimmed_at = time.monotonic()
