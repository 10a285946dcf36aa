"""Which document kills a process (a native crash, a hang, no memory), found across restarts.

A process that dies raises no exception, so a replica says beforehand which rows it is about to
compute. The first time a unit is made it does not: that would cost time. After one death it marks
each piece of rows as running before it computes it; after two, each row of the piece that was
running last, alone. A row that was running alone at two deaths is not computed any more.

For example, row 500 of 1,000 kills, and pieces have 128 rows. The first death names no row, the
second one the piece [384, 512), the third and the fourth one row 500. Halving would take ten.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

_MOST_VAGUE_DEATHS = 2  # of a unit, at a time when no row was running
# About six such documents in a unit; more are a broken machine and not the documents' fault.
_MOST_STARTS = 20
_DEATHS_OF_A_ROW = 2  # one may be chance: other processes take memory, and machines fail


@dataclass(frozen=True, slots=True)
class Advice:
    """How to make a unit. Rows are counted in the unit, from 0.

    - `starts`: how many times it was begun, this one included.
    - `suspects`: rows [first, last) that are computed one by one.
    - `killers`: rows that are not computed at all.
    - `refusal`: why the unit is not to be made, if so.
    """

    starts: int = 1
    suspects: tuple[int, int] = (0, 0)
    killers: Collection[int] = ()
    refusal: str | None = None

    @property
    def is_isolated(self) -> bool:
        """Whether the unit has the process for itself, and marks what is running."""
        return self.starts > 1

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
        """Cut rows [start, stop) into pieces (first, last, whether it is a killer).

        With suspects [4, 6) and killer 8, rows [0, 10) become [0, 4), [4, 5), [5, 6), [6, 8),
        [8, 9) and [9, 10).
        """
        first = start  # of the rows that are not in a piece yet
        for row in range(start, stop):
            if row in self.killers or self.suspects[0] <= row < self.suspects[1]:
                if first < row:
                    yield first, row, False
                yield row, row + 1, row in self.killers
                first = row + 1
        if first < stop:
            yield first, stop, False


@dataclass
class _History:
    """What happened to a unit so far.

    - `running`: rows [start, stop) that are computed now, if a replica has marked them.
    - `suspects`: rows [first, last) that were running together at the last death.
    - `vague_deaths`: of processes that had marked no row.
    - `deaths`: of processes, by the row that was running alone.
    """

    starts: int = 0
    running: tuple[int, int] | None = None
    suspects: tuple[int, int] = (0, 0)
    vague_deaths: int = 0
    deaths: Counter[int] = field(default_factory=Counter)

    def add_death(self) -> None:
        """Take what was running for what has killed the process."""
        # no rows: it died at loading, reading or writing, or before rows were marked
        start, stop = self.running or (0, 0)
        if stop - start > 1:
            self.suspects = (start, stop)
        elif stop - start == 1:
            self.deaths[start] += 1
        else:
            self.vague_deaths += 1
        self.running = None

    def refusal(self, num_killers: int) -> str | None:
        """Return why the unit is not tried again, if so."""
        cause = "(killed, out of memory, a native crash, or no progress)"
        if self.vague_deaths >= _MOST_VAGUE_DEATHS:
            return f"the replica's process died {self.vague_deaths} times on this unit {cause}"
        if self.starts > _MOST_STARTS:
            return (
                f"the replica's process died {self.starts - 1} times on this unit and on "
                f"{num_killers} documents {cause}"
            )
        return None


class Suspects:
    """The history of each unit that a replica has begun."""

    def __init__(self) -> None:
        self._histories: dict[str, _History] = {}

    def start_unit(self, unit: str) -> Advice:
        """Note that a replica begins the unit; at a second start the first process has died."""
        history = self._histories.setdefault(unit, _History())
        history.starts += 1
        if history.starts > 1:
            history.add_death()
        killers = {row for row, deaths in history.deaths.items() if deaths >= _DEATHS_OF_A_ROW}
        return Advice(
            starts=history.starts,
            suspects=history.suspects,
            killers=frozenset(killers),
            refusal=history.refusal(len(killers)),
        )

    def prepare_ahead(self, unit: str) -> bool:
        """Whether the unit may be prepared while another one is computed.

        It may once, and only before a replica has begun it. If the process dies of it, the other
        unit is blamed, this once; then this one is begun without being prepared ahead.
        """
        # it is in the histories from now on, so that the next question is refused
        is_new = unit not in self._histories
        self._histories.setdefault(unit, _History())
        return is_new

    def mark_running(self, unit: str, start: int, stop: int) -> None:
        """Note that rows [start, stop) are computed next; (0, 0): files are read or written."""
        self._histories.setdefault(unit, _History()).running = (start, stop)

    def resume(self, starts: Mapping[str, int]) -> None:
        """Count on from the starts that an earlier process knew of.

        What was running is lost, and the search for a row begins anew.
        """
        for unit, count in starts.items():
            history = self._histories.setdefault(unit, _History())
            history.starts = max(history.starts, count)

    def starts(self) -> dict[str, int]:
        """Return how often each unit was begun, of those begun more than once."""
        histories = self._histories.items()
        return {unit: history.starts for unit, history in histories if history.starts > 1}
