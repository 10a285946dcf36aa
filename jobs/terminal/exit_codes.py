"""The border between exceptions and exit codes; every command's `main` goes through it."""

import _thread
import io
import os
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from bertsum.errors import BertsumError, ConfigError
from bertsum.masking import mask
from jobs.terminal.log_lines import is_json, json_line

ALARMED = 4  # of `monitor --fail-on-alarm`: all was done, and there is a new alarm
INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended
_DROPPED_SECONDS = 0.1  # between two looks whether somebody still holds a signal's exception


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C. Python's own exception takes no weak reference."""


class Terminated(BaseException):
    """SIGTERM, as Python turns Ctrl-C into KeyboardInterrupt.

    What is open is closed on the way out.
    """


def guard(action: Callable[[], int], after_interrupt: str = "interrupted") -> int:
    """Run `action` and return the exit code.

    - An error raised on purpose: a message, and its exit code.
    - A bug: a traceback, and 1. Secrets are masked in both.
    - SIGTERM: 1. Ctrl-C: 130. `after_interrupt` is said first, before anything is closed.
    - A reader that left its pipe: 1.
    """
    prepare_streams()
    farewell = _Farewell(after_interrupt)
    try:
        with _ended_by_signals(farewell):
            code = _with_signals(action)
            sys.stdout.flush()  # at exit Python would complain of a pipe whose reader has left
            return code
    except BertsumError as error:
        return _say_error(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        farewell.say("interrupted")
        return INTERRUPTED
    except Terminated:
        farewell.say("terminated")
        return 1
    except BrokenPipeError:
        return 1
    except SystemExit as error:
        if error.code != ConfigError.exit_code:
            raise
        return ConfigError.exit_code  # argparse has said why
    except Exception:
        return _say_error(traceback.format_exc().rstrip(), 1)
    finally:
        # Python flushes both streams again at exit, and would complain of a pipe whose reader
        # (`| head`) has left.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _with_signals(action: Callable[[], int]) -> int:
    """Run `action`. Raises a signal's exception as itself, also where C code has changed it.

    `ray.wait` may return while the exception is set: Python makes a SystemError of that.
    """
    try:
        return action()
    except SystemError as error:
        if isinstance(error.__cause__, _Interrupted | Terminated):
            raise error.__cause__ from None
        raise


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


class _Farewell:
    """What a command says when a signal ends it: once, on stderr."""

    def __init__(self, text: str) -> None:
        """`text`: holds the word `interrupted`, unless it says the same of every signal."""
        self._text = text
        self._is_said = False
        self._descriptor: int | None = None  # a duplicate of stderr's

    @contextmanager
    def with_descriptor(self) -> Iterator[None]:
        """Keep a descriptor of stderr of its own: while Ray starts, stderr leads to nowhere."""
        try:
            self._descriptor = os.dup(sys.stderr.fileno())
        except OSError:  # a stream in memory, as a notebook's
            yield
            return
        try:
            yield
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    def say_at_once(self, ending: str) -> None:
        """Say it in a signal handler; a stream that has no descriptor waits for `say`.

        The signal may have come in the middle of a print, and that stream takes no other one
        before it is finished.

        `ending`: the word in place of `interrupted`.
        """
        if self._descriptor is not None and not self._is_said:
            self._is_said = True
            # ^C, or a moving bar, stands on the line
            line = "\n" * os.isatty(self._descriptor) + self._line(ending) + "\n"
            with suppress(OSError):  # its reader has left
                os.write(self._descriptor, line.encode())

    def say(self, ending: str) -> None:
        """Say it, unless that was done.

        `ending`: the word in place of `interrupted`.
        """
        if not self._is_said:
            self._is_said = True
            _say("\n" * sys.stderr.isatty() + self._line(ending), 0)

    def _line(self, ending: str) -> str:
        text = self._text.replace("interrupted", ending)
        return json_line("end", text) if is_json() else text


@contextmanager
def _ended_by_signals(farewell: _Farewell) -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, and SIGTERM Terminated, once the farewell is said.

    A second signal changes nothing: the process is on its way out. If it broke off what is being
    closed, Ray would end under threads that still use it, and they end the process with 1.

    A library may drop the exception (`except: pass`, a `__del__`), and the command would go on with
    all signals ignored. It is raised again then.
    """
    # Python sets signal handlers in the main thread alone; tests run commands in others.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    on_its_way: weakref.ref[BaseException] | None = None
    is_over = False
    over = threading.Lock()  # nothing is raised once the command is over

    def raise_again(number: signal.Signals) -> None:
        while True:
            time.sleep(_DROPPED_SECONDS)
            with over:
                if is_over:
                    return
                if on_its_way is not None and on_its_way() is None:
                    _thread.interrupt_main(number)

    def remember(error: BaseException) -> BaseException:
        # not a variable of the handler: its frame is part of the traceback, which would keep it
        nonlocal on_its_way
        on_its_way = weakref.ref(error)
        return error

    def leave(number: int, _: object) -> None:
        if on_its_way is None:
            # not a Thread of threading: the signal may have come while that module's lock was held
            _thread.start_new_thread(raise_again, (signal.Signals(number),))
        elif on_its_way() is not None:
            return
        is_interrupt = number == signal.SIGINT
        farewell.say_at_once("interrupted" if is_interrupt else "terminated")
        raise remember(_Interrupted() if is_interrupt else Terminated())

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a job of `command &`
        numbers.append(signal.SIGINT)
    with farewell.with_descriptor(), _without_notes_of_dropped():
        before = {number: signal.signal(number, leave) for number in numbers}
        try:
            yield
        finally:
            with over:
                is_over = True
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _without_notes_of_dropped() -> Iterator[None]:
    """Print no traceback of a signal's exception that C code dropped: it is raised again.

    pandas is such code: a signal comes while its modules are loaded, which takes a second.
    """
    before = sys.unraisablehook

    def note(dropped: "sys.UnraisableHookArgs") -> None:
        if not isinstance(dropped.exc_value, _Interrupted | Terminated):
            before(dropped)

    sys.unraisablehook = note
    try:
        yield
    finally:
        sys.unraisablehook = before


def _say_error(text: str, code: int) -> int:
    return _say(json_line("error", mask(text), exit_code=code) if is_json() else text, code)


def _say(text: str, code: int) -> int:
    with suppress(OSError):  # its reader has left
        print(mask(text), file=sys.stderr, flush=True)
    return code
