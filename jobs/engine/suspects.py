"""Which document kills a process (a native crash, a hang, no memory), found across the restarts of its replica.

No exception tells of such a death, so a replica says beforehand which rows it is about to compute. The first time a
unit is made it does not: that would cost time. After a death it marks each piece of rows as running before it computes
it; after a second one, each row of the piece that was running last, alone. A row that was running alone twice when
its process died is not computed any more. A thousand rows are searched in four deaths, where halving would take ten.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

_MOST_VAGUE_DEATHS = 2  # of a unit, at a time when no row was running
_MOST_STARTS = 20  # of a unit: about six such documents; more are a broken machine and not the documents' fault
_DEATHS_OF_A_ROW = 2  # one may be chance: other processes take memory and machines fail


@dataclass(frozen=True, slots=True)
class Advice:
    """How to make a unit. Rows are counted in the unit, from 0."""

    starts: int = 1
    suspects: tuple[int, int] = (0, 0)  # [first, last) are computed one by one
    killers: Collection[int] = ()  # are not computed at all
    refusal: str | None = None  # why the unit is not to be made

    @property
    def is_isolated(self) -> bool:
        return self.starts > 1

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
        """Cut [start, stop) into (first, last, whether it is a killer)."""
        first = start
        for row in range(start, stop):
            if row in self.killers or self.suspects[0] <= row < self.suspects[1]:
                if first < row:
                    yield first, row, False
                yield row, row + 1, row in self.killers
                first = row + 1
        if first < stop:
            yield first, stop, False


@dataclass
class _State:
    starts: int = 0
    running: tuple[int, int] | None = None
    suspects: tuple[int, int] = (0, 0)
    vague_deaths: int = 0
    deaths: Counter[int] = field(default_factory=Counter)


class Suspects:
    """What is known of each unit that somebody has begun."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def start_unit(self, unit: str) -> Advice:
        """A replica has the unit; when that is not the first time, whoever had it before has died."""
        state = self._states.setdefault(unit, _State())
        state.starts += 1
        if state.starts > 1:
            _learn(state)
        killers = frozenset(row for row, deaths in state.deaths.items() if deaths >= _DEATHS_OF_A_ROW)
        return Advice(state.starts, state.suspects, killers, _refusal(state, len(killers)))

    def prepare_ahead(self, unit: str) -> bool:
        """Whether the unit may be prepared while another one is computed: once, and only before anybody has begun it.

        If the process dies of it, the other unit is blamed, this once; then this one is begun without looking ahead.
        """
        is_new = unit not in self._states
        self._states.setdefault(unit, _State())
        return is_new

    def mark_running(self, unit: str, start: int, stop: int) -> None:
        """Rows [start, stop) of the unit are computed next; (0, 0): none, only files are read or written."""
        self._states.setdefault(unit, _State()).running = (start, stop)

    def resume(self, starts: Mapping[str, int]) -> None:
        """Whoever counted before knew of so many starts. What was running is lost, and the search begins anew."""
        for unit, count in starts.items():
            state = self._states.setdefault(unit, _State())
            state.starts = max(state.starts, count)

    def starts(self) -> dict[str, int]:
        """Of the units that were begun more than once."""
        return {unit: state.starts for unit, state in self._states.items() if state.starts > 1}


def _learn(state: _State) -> None:
    start, stop = state.running or (0, 0)
    if stop - start > 1:
        state.suspects = (start, stop)
    elif stop - start == 1:
        state.deaths[start] += 1
    else:
        state.vague_deaths += 1
    state.running = None


def _refusal(state: _State, num_killers: int) -> str | None:
    cause = "(killed, out of memory, a native crash, or no progress)"
    if state.vague_deaths >= _MOST_VAGUE_DEATHS:
        return f"the replica's process died {state.vague_deaths} times on this unit {cause}"
    if state.starts > _MOST_STARTS:
        return (
            f"the replica's process died {state.starts - 1} times on this unit and on {num_killers} documents {cause}"
        )
    return None
