"""The border between exceptions and exit codes; every command's `main` goes through it."""

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bertsum.errors import BertsumError, ConfigError
from bertsum.masking import mask

INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended


class Terminated(BaseException):
    """SIGTERM, as Python turns Ctrl-C into KeyboardInterrupt: what is open is closed on the way out."""


def guard(action: Callable[[], int], after_interrupt: str = "interrupted") -> int:
    """Run `action` and return the exit code.

    An error raised on purpose becomes a message and its exit code, a bug a traceback; both are masked.
    SIGTERM ends the command with exit code 1, Ctrl-C with 130, a reader that left its pipe with 1.
    """
    prepare_streams()
    try:
        with _terminated_by_signal():
            code = action()
            sys.stdout.flush()  # at exit Python would complain of a pipe whose reader has left
            return code
    except BertsumError as error:
        return _say(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        return _say(f"\n{after_interrupt}", INTERRUPTED)
    except Terminated:
        return _say(after_interrupt.replace("interrupted", "terminated"), 1)
    except BrokenPipeError:
        return 1
    except SystemExit as error:
        if error.code != ConfigError.exit_code:  # which argparse has said already
            raise
        return ConfigError.exit_code
    except Exception:
        return _say(traceback.format_exc().rstrip(), 1)
    finally:
        _leave_broken_pipes()


def prepare_streams() -> None:
    """Make stdout and stderr take any text, whatever the terminal's encoding: what it lacks is written as an escape.

    A process that was started without one of them writes to nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_unicode(encoding: str | None) -> bool:
    """Whether the terminal's encoding has all characters."""
    return (encoding or "").lower().replace("_", "-").startswith("utf")


@contextmanager
def _terminated_by_signal() -> Iterator[None]:
    """SIGTERM raises Terminated, once; the process is then on its way out, and a second one changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str, code: int) -> int:
    with suppress(OSError):  # its reader has left
        print(mask(text), file=sys.stderr, flush=True)
    return code


def _leave_broken_pipes() -> None:
    """Python flushes both streams again at exit, and would complain of a pipe whose reader (`| head`) has left."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
