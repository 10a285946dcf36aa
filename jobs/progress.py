"""How far a run is: what replicas say meanwhile, and how a person sees it.

Replicas send small messages to the Monitor and never wait for it. The driver asks it about twice a second. It knows
for each unit in work who has it, at which stage, and since when: enough to find a replica that hangs.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

_LINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class UnitProgress:
    """How far a unit is. `stage`: load (the model), forward (read, prepare and compute), write.

    `starts`: how many times a replica has begun it, more than once when a replica died.
    """

    replica: str
    stage: str
    starts: int = 1
    documents: int = 0
    tokens: int = 0


class Monitor:
    """Plain class; the driver makes an actor of it. Holds the units that are begun and not yet reported."""

    def __init__(self) -> None:
        self._units: dict[str, UnitProgress] = {}
        self._starts: Counter[str] = Counter()
        self._messages = 0

    def begin(self, replica: str, unit: str) -> int:
        """A replica has the unit now; the answer says for how many times somebody has it."""
        self._messages += 1
        self._starts[unit] += 1
        self._units[unit] = UnitProgress(replica, "load", self._starts[unit])
        return self._starts[unit]

    def update(self, replica: str, unit: str, stage: str, documents: int, tokens: int) -> None:
        """Documents and tokens that were just done."""
        self._messages += 1
        known = self._units.get(unit, UnitProgress(replica, stage))
        self._units[unit] = replace(
            known, stage=stage, documents=known.documents + documents, tokens=known.tokens + tokens
        )

    def snapshot(self, reported: Iterable[str]) -> tuple[int, Mapping[str, UnitProgress], Mapping[str, int]]:
        """Number of messages so far, the units in work, and the starts of the units that were begun more than once.

        Units whose report the driver has are no longer in work; their starts stay, since a short unit that is done
        again may begin and end between two looks.
        """
        for unit in reported:
            self._units.pop(unit, None)
        return self._messages, self._units, {unit: starts for unit, starts in self._starts.items() if starts > 1}


@dataclass(frozen=True, slots=True)
class Tally:
    """Documents and tokens of this run."""

    documents: int = 0
    tokens: int = 0

    def plus(self, documents: int, tokens: int) -> "Tally":
        return replace(self, documents=self.documents + documents, tokens=self.tokens + tokens)


class Display:
    """A moving bar on a terminal, a line now and then elsewhere. `total` and `done` count documents."""

    def __init__(self, total: int, done: int, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, markup=False)
        self._total, self._done = total, done
        self._start: float | None = None  # of the first progress: loading the model is not part of the rate
        self._base = Tally()
        self._shown_at = -_LINE_SECONDS
        self._bar = Progress(
            SpinnerColumn(),
            TaskProgressColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("starting", total=total, completed=done)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, soft_wrap=True)
        sys.stdout.flush()

    def show(self, tally: Tally, activity: str) -> None:
        """`tally`: finished and in work, of this run; `activity`: what goes on while nothing is counted yet."""
        now = time.monotonic()
        if self._start is None and tally.documents:
            self._start, self._base = now, tally
        text = self._describe(tally, now) if self._start is not None else activity
        completed = min(self._done + tally.documents, self._total)
        if self.console.is_terminal:
            self._bar.update(self._task, completed=completed, description=text)
        elif now - self._shown_at >= _LINE_SECONDS:
            self._shown_at = now
            percent = 100 * completed // max(self._total, 1)
            self.say(f"{percent:3d}% {text}")

    def _describe(self, tally: Tally, now: float) -> str:
        completed = min(self._done + tally.documents, self._total)
        text = f"{completed:,}/{self._total:,} documents"
        seconds = now - (self._start or now)
        if seconds < 1 or tally.documents <= self._base.documents:
            return text
        rate = (tally.documents - self._base.documents) / seconds
        token_rate = (tally.tokens - self._base.tokens) / seconds
        left = format_seconds((self._total - completed) / rate)
        return f"{text}, {rate:,.1f} documents/s, {token_rate / 1000:,.1f}k tokens/s, {left} left"


def format_seconds(seconds: float) -> str:
    """`1:02:03`, `2:03` or `0:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
