"""How far a run is: what replicas say meanwhile, and how a person sees it.

Replicas send small messages to the Monitor and never wait for it. The driver asks it about twice a second. It knows
for each unit in work who has it, at which stage, and since when: enough to find a replica that hangs. Its process may
die, like any other: each message, and the driver, which has its last answer, tell the next one what it must know.
"""

import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from jobs.suspects import Advice, Suspects

_LINE_SECONDS = 10.0
_WATCH_SECONDS = 5.0  # the driver asks about once a second; what a longer pause adds is not a replica's silence


@dataclass(frozen=True, slots=True)
class UnitProgress:
    """How far a unit is. `stage`: load (the model, or the first rows ahead), forward (read, prepare, compute), write.

    `starts`: how many times a replica has begun it, more than once when a replica died; 0: it is prepared ahead.
    `handle`: Ray's handle of the actor whose process `replica` is.
    """

    replica: str
    stage: str
    starts: int = 1
    documents: int = 0
    tokens: int = 0
    idle_seconds: float = 0.0  # since its last message, as long as the driver asked
    handle: Any = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the monitor knows. `life` names its process, `messages` counts those that this process has heard.

    `starts`: of the units that were begun more than once, also when they are no longer in work, since a short unit
    that is done again may begin and end between two looks.
    """

    life: str
    messages: int
    units: Mapping[str, UnitProgress]
    starts: Mapping[str, int]


class Monitor:
    """Plain class; the driver makes an actor of it. Holds the units that are begun and not yet reported."""

    def __init__(self) -> None:
        self._units: dict[str, UnitProgress] = {}
        self._spoke_at: dict[str, float] = {}
        self._looked_at = time.monotonic()
        self._suspects = Suspects()
        self._messages = 0
        self._life = uuid.uuid4().hex

    def begin(self, replica: str, unit: str, handle: Any) -> Advice:
        """A replica, of which `handle` is Ray's handle, has the unit now; the answer says how to make it."""
        advice = self._suspects.begin(unit)
        self._take(unit, replica, handle, advice.starts)
        return advice

    def look_ahead(self, replica: str, unit: str, handle: Any) -> bool:
        """See `Suspects.look_ahead`; if it may, the unit is in work, and watched, until `wait`."""
        may = self._suspects.look_ahead(unit)
        if may:
            self._take(unit, replica, handle, 0)
        return may

    def wait(self, unit: str) -> None:
        """The unit is prepared; nothing is heard of it until its turn comes."""
        self._units.pop(unit, None)

    def announce(self, unit: str, start: int, stop: int) -> None:
        """See `Suspects.announce`."""
        self._suspects.announce(unit, start, stop)

    def update(self, replica: str, unit: str, stage: str, documents: int, tokens: int, handle: Any) -> None:
        """Documents and tokens that were just done. A unit that is not known was begun before this process."""
        known = self._units.get(unit)
        if known is None:
            if self._others_of(handle, replica):
                return  # a late word of a process that has died; the one after it has not begun the unit
            self._suspects.resume({unit: 1})
            known = UnitProgress(replica, stage, handle=handle)
        done = replace(known, stage=stage, documents=known.documents + documents, tokens=known.tokens + tokens)
        self._heard(unit, done)

    def snapshot(self, reported: Iterable[str]) -> Snapshot:
        """`reported`: units whose report the driver has; they are no longer in work."""
        for unit in reported:
            self._units.pop(unit, None)
        now = time.monotonic()
        unwatched = max(0.0, now - self._looked_at - _WATCH_SECONDS)  # the driver, or this process, was held up
        self._looked_at = now
        for name, unit_progress in self._units.items():
            self._spoke_at[name] = min(now, self._spoke_at[name] + unwatched)
            self._units[name] = replace(unit_progress, idle_seconds=now - self._spoke_at[name])
        return Snapshot(self._life, self._messages, dict(self._units), self._suspects.starts())

    def resume(self, units: Mapping[str, UnitProgress], starts: Mapping[str, int]) -> Snapshot:
        """What the process before this one said last: a replica may say nothing more because it hangs."""
        self._suspects.resume(starts)
        heard = self._messages
        for name, known in units.items():
            if known.starts:
                self.update(known.replica, name, known.stage, known.documents, known.tokens, known.handle)
        self._messages = heard  # these were no sign of life
        return self.snapshot([])

    def _take(self, unit: str, replica: str, handle: Any, starts: int) -> None:
        for other in self._others_of(handle, replica):  # they went with that process, and wait to be begun
            self._units.pop(other)
        self._heard(unit, UnitProgress(replica, "load", starts, handle=handle))

    def _others_of(self, handle: Any, replica: str) -> list[str]:
        """Units of another process of the same actor."""
        return [name for name, known in self._units.items() if known.handle == handle and known.replica != replica]

    def _heard(self, unit: str, progress: UnitProgress) -> None:
        self._messages += 1
        self._units[unit] = progress
        self._spoke_at[unit] = time.monotonic()


@dataclass(frozen=True, slots=True)
class Tally:
    """Documents and tokens of this run."""

    documents: int = 0
    tokens: int = 0

    def plus(self, documents: int, tokens: int) -> "Tally":
        return replace(self, documents=self.documents + documents, tokens=self.tokens + tokens)


class Bar:
    """A moving bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, markup=False)
        self._shown_at = -_LINE_SECONDS
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
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)
        sys.stdout.flush()

    def move(self, completed: float, total: float, text: str, line: str | None = None) -> None:
        """`text` beside the bar; where there is no terminal `line`, or else `text`, from time to time."""
        now = time.monotonic()
        if self.console.is_terminal:
            self._progress.update(self._task, completed=completed, total=total, description=text)
        elif now - self._shown_at >= _LINE_SECONDS:
            self._shown_at = now
            self.say(text if line is None else line)


class Display(Bar):
    """How far a run of units is. `total` and `done` count documents."""

    def __init__(self, total: int, done: int, console: Console | None = None) -> None:
        super().__init__(console)
        self._total, self._done = total, done
        self._start: float | None = None  # of the first progress: loading the model is not part of the rate
        self._base = Tally()

    def show(self, tally: Tally, activity: str) -> None:
        """`tally`: finished and in work, of this run; `activity`: what goes on while nothing is counted yet."""
        now = time.monotonic()
        if self._start is None and tally.documents:
            self._start, self._base = now, tally
        text = self._describe(tally, now) if self._start is not None else activity
        completed = min(self._done + tally.documents, self._total)
        self.move(completed, self._total, text, f"{100 * completed // max(self._total, 1):3d}% {text}")

    def _describe(self, tally: Tally, now: float) -> str:
        completed = min(self._done + tally.documents, self._total)
        text = f"{completed:,}/{self._total:,} documents"
        seconds = now - (self._start or now)
        if seconds < 1 or tally.documents <= self._base.documents:
            return text
        rate = (tally.documents - self._base.documents) / seconds
        token_rate = (tally.tokens - self._base.tokens) / seconds
        left = format_seconds((self._total - completed) / rate)
        tokens = f", {token_rate / 1000:,.1f}k tokens/s" if token_rate else ""  # some work counts none
        return f"{text}, {rate:,.1f} documents/s{tokens}, {left} left"


def format_seconds(seconds: float) -> str:
    """`1:02:03`, `2:03` or `0:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
