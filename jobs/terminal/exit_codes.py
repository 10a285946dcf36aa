"""The border between exceptions and exit codes; every command's `main` goes through it."""

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from bertsum.errors import BertsumError, ConfigError
from bertsum.masking import mask

INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended


class Terminated(BaseException):
    """SIGTERM, as Python turns Ctrl-C into KeyboardInterrupt.

    What is open is closed on the way out.
    """


def guard(action: Callable[[], int], after_interrupt: str = "interrupted") -> int:
    """Run `action` and return the exit code.

    - An error raised on purpose: a message, and its exit code.
    - A bug: a traceback, and 1. Secrets are masked in both.
    - SIGTERM: 1. Ctrl-C: 130. A reader that left its pipe: 1.
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
        if error.code != ConfigError.exit_code:
            raise
        return ConfigError.exit_code  # argparse has said why
    except Exception:
        return _say(traceback.format_exc().rstrip(), 1)
    finally:
        # Python flushes both streams again at exit, and would complain of a pipe whose reader
        # (`| head`) has left.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def prepare_streams() -> None:
    """Make stdout and stderr take any text, whatever the terminal's encoding.

    What the encoding lacks is written as an escape. A process that was started without one of the
    streams writes to nowhere.
    """
    sys.stdout, sys.stderr = _prepared(sys.stdout), _prepared(sys.stderr)


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:  # as under `pythonw`, or after `>&-` in a shell
        return Path(os.devnull).open("w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def is_unicode(encoding: str | None) -> bool:
    """Whether the terminal's encoding has all characters."""
    return (encoding or "").lower().replace("_", "-").startswith("utf")


@contextmanager
def _terminated_by_signal() -> Iterator[None]:
    """SIGTERM raises Terminated, once.

    The process is then on its way out, and a second one changes nothing.
    """
    # Python sets signal handlers in the main thread alone; tests run commands in others.
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
