"""The trials of a search on disk: `trials/NUMBER/trial.json` says what is tried there, and what came of it.

Everything that a search needs to go on is in these files. Beside each lies the trial's training run.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from bertsum.errors import OutputError
from bertsum.storage.folder import Folder
from bertsum.tuning.config import Value

DIRECTORY, _FILE, _CHECKPOINTS = "trials", "trial.json", "checkpoints"

Outcome = Literal["finished", "stopped", "failed"]


class Score(NamedTuple):
    """What a trial's weights were worth at a step; `share` of its steps were done."""

    step: int
    share: float
    score: float


class Trial(BaseModel):
    """Content of `trial.json`. Without an outcome it has still to go on."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    number: int
    values: dict[str, Value]
    scores: list[Score] = []
    outcome: Outcome | None = None
    error: str | None = None

    @property
    def directory(self) -> str:
        """Of its training run, in OUTPUT."""
        return f"{DIRECTORY}/{self.number:04d}"

    @property
    def best(self) -> Score | None:
        """Its best score: a run keeps the weights that have it."""
        return max(self.scores, key=lambda score: score.score, default=None)

    def add(self, score: Score) -> None:
        """A run that goes on says again what it had measured."""
        self.scores = sorted({**{known.step: known for known in self.scores}, score.step: score}.values())


class TrialStore:
    """All trials in the OUTPUT of a search."""

    def __init__(self, output: Folder) -> None:
        self._output = output

    def read(self) -> list[Trial]:
        """In the order of their numbers. Raises OutputError for a damaged file."""
        names = [name for name in self._output.list_names(DIRECTORY) if name.endswith(f"/{_FILE}")]
        return sorted(map(self._read, names), key=lambda trial: trial.number)

    def _read(self, name: str) -> Trial:
        try:
            return Trial.model_validate_json(self._output.read_bytes(name))
        except ValidationError as error:
            reason = error.errors()[0]
            raise OutputError(
                f"{self._output}/{name} is damaged or of another version of bertsum "
                f"({'.'.join(map(str, reason['loc']))}: {reason['msg']}); remove its directory, and it "
                "is drawn anew"
            ) from error

    def write(self, trial: Trial) -> None:
        """Replace what there is of it."""
        self._output.write_replace(f"{trial.directory}/{_FILE}", trial.model_dump_json(indent=1).encode())

    def clear(self) -> None:
        """Remove all trials, with what came of them."""
        for name in self._output.list_names(DIRECTORY):
            self._output.remove(name)

    def remove_checkpoints(self, trial: Trial) -> None:
        """Those that only going on would need, which are several times as large as the model."""
        for name in self._output.list_names(f"{trial.directory}/{_CHECKPOINTS}"):
            self._output.remove(name)


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The best first, those without a score last."""
    return sorted(trials, key=lambda t: (t.best is None, -t.best.score if t.best else 0.0, t.number))


def show_values(trial: Trial) -> str:
    """What a trial tries, for people."""
    return ", ".join(f"{key} {short(value)}" for key, value in trial.values.items())


def short(value: object) -> str:
    """A number with four digits; anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
