"""The border between exceptions and exit codes; every command's `main` goes through it."""

import os
import sys
import traceback
from collections.abc import Callable

from bertsum.errors import BertsumError
from bertsum.masking import mask

INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended


def guard(action: Callable[[], int], after_interrupt: str = "interrupted") -> int:
    """Run `action`; an error raised on purpose becomes a message and its exit code, a bug a traceback, both masked."""
    try:
        return action()
    except BertsumError as error:
        print(mask(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\n{after_interrupt}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of a pipe (`| head`) left; Python would complain once more when it flushes stdout at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        print(mask(traceback.format_exc()), file=sys.stderr, end="")
        return 1
