"""How long a test waits for another process or thread: until something is so, and no test depends on a fast machine."""

import subprocess
import time
from collections.abc import Callable

LIMIT_SECONDS = 600.0
"""Only a defect takes so long, also on a machine that is several times slower. pytest's own limit is twice this."""


def wait_until(
    is_so: Callable[[], object],
    what: str,
    job: "subprocess.Popen[str] | None" = None,
    every_seconds: float = 0.02,
) -> None:
    """Return as soon as `is_so` gives something true.

    Raises AssertionError, with `what`, after the limit, or when `job`, which should bring it about, has ended.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while not is_so():
        assert job is None or job.poll() is None, f"{what}: the job has ended before"
        assert time.monotonic() < deadline, f"{what}: not within {LIMIT_SECONDS:.0f} s"
        time.sleep(every_seconds)
