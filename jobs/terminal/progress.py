"""How far a run is: a bar on a terminal, one line in a notebook, lines from time to time elsewhere."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from jobs.terminal.log_lines import is_json, json_line

_LINE_SECONDS = 10.0
_NOTEBOOK_SECONDS = 0.5
# ipykernel tells commands of a notebook (`!bertsum ...`) by these that their terminal is a page
_NOTEBOOK = {"TERM": "xterm-color", "CLICOLOR": "1", "GIT_PAGER": "cat"}


@dataclass(frozen=True, slots=True)
class Tally:
    """Documents and tokens of this run."""

    documents: int = 0
    tokens: int = 0

    def plus(self, documents: int, tokens: int) -> "Tally":
        """The sum, as a new Tally."""
        return replace(self, documents=self.documents + documents, tokens=self.tokens + tokens)


class Bar:
    """A moving bar on a terminal, one line in a notebook, a line now and then elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, markup=False)
        is_terminal = self.console.is_terminal and not is_json()
        self._in_notebook = is_terminal and _NOTEBOOK.items() <= os.environ.items()
        self._is_moving = is_terminal and not self._in_notebook
        self._seconds = _NOTEBOOK_SECONDS if self._in_notebook else _LINE_SECONDS
        self._shown_at = -self._seconds
        self._width = 0  # of the line that the next one is laid over
        self._progress = Progress(
            SpinnerColumn(),
            TaskProgressColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Self:
        if self._is_moving:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_moving:
            self._progress.stop()
        self._lay_over("")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._lay_over("")
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)
        sys.stdout.flush()

    def move(
        self,
        completed: float,
        total: float,
        text: str,
        line: str | None = None,
        values: Mapping[str, float] | None = None,
    ) -> None:
        """Show how far it is.

        - `completed`, `total`: the length of the bar, and all of it.
        - `text`: stands beside the bar.
        - `line`: printed now and then where there is no terminal; None: `text`.
        - `values`: what a line of JSON has beside these.
        """
        now = time.monotonic()
        if self._is_moving:
            self._progress.update(self._task, completed=completed, total=total, description=text)
        elif now - self._shown_at >= self._seconds:
            self._shown_at = now
            if is_json():
                numbers = {"completed": completed, "total": total, **(values or {})}
                done = json_line("progress", text, **numbers)
                print(done, file=self.console.file, flush=True)
            elif self._in_notebook:
                self._lay_over(text if line is None else line)
            else:
                self.say(text if line is None else line)

    def _lay_over(self, text: str) -> None:
        """Write a line in place of the one before, which a page does not erase."""
        if text or self._width:
            padded = "\r" + text.ljust(self._width) + "\r" * (not text)
            print(padded, end="", file=self.console.file, flush=True)
        self._width = len(text)


class Display(Bar):
    """How far a run of units is. `total` and `done` count documents."""

    def __init__(self, total: int, done: int, console: Console | None = None) -> None:
        super().__init__(console)
        self._total, self._done = total, done
        # Of the first progress: loading the model is not part of the rate.
        self._start: float | None = None
        self._base = Tally()

    def show(self, tally: Tally, activity: str) -> None:
        """Show how far the run is.

        - `tally`: what is finished and in work, of this run.
        - `activity`: what goes on while nothing is counted yet.
        """
        now = time.monotonic()
        if self._start is None and tally.documents:
            self._start, self._base = now, tally
        # A unit that is tried again counts twice for a while: never more than there are.
        completed = min(self._done + tally.documents, self._total)
        text = activity
        values: dict[str, float] = {}
        if self._start is not None:
            text = f"{completed:,}/{self._total:,} documents"
            seconds = now - self._start
            documents = tally.documents - self._base.documents  # since the first progress
            # Rates, and the time left by them, are unsure in the first second.
            if seconds >= 1 and documents > 0:
                rate = documents / seconds
                left = (self._total - completed) / rate
                values = {"documents_per_second": round(rate, 3), "seconds_left": round(left, 1)}
                text += f", {rate:,.1f} documents/s"
                token_rate = (tally.tokens - self._base.tokens) / seconds
                if token_rate:  # not all work has tokens
                    text += f", {token_rate / 1000:,.1f}k tokens/s"
                    values["tokens_per_second"] = round(token_rate, 1)
                text += f", {format_seconds(left)} left"
        line = f"{100 * completed // max(self._total, 1):3d}% {text}"
        self.move(completed, self._total, text, line, values)


def format_seconds(seconds: float) -> str:
    """`1:02:03`, `2:03` or `0:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
