"""The trials of a search on disk.

`trials/NUMBER/trial.json` says what is tried there, and what came of it. A search goes on from
these files alone. Beside each of them lies the trial's training run.
"""

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from bertsum.errors import OutputError
from bertsum.storage.folder import Folder
from bertsum.tuning.config import Value

DIRECTORY, _FILE, _CHECKPOINTS = "trials", "trial.json", "checkpoints"

Outcome = Literal["finished", "stopped", "failed"]


class Score(NamedTuple):
    """What a trial's weights were worth at a step, when `share` of its steps were done."""

    step: int
    share: float
    score: float


class Trial(BaseModel):
    """Content of `trial.json`. A trial without an outcome has to go on."""

    # An unknown key is that of a later version, which may mean something by it.
    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    number: int
    values: dict[str, Value]
    scores: list[Score] = []
    outcome: Outcome | None = None
    error: str | None = None

    @property
    def directory(self) -> str:
        """Directory of its training run, in OUTPUT."""
        return f"{DIRECTORY}/{self.number:04d}"

    @property
    def best(self) -> Score | None:
        """Best score, which is that of the weights that its run keeps."""
        return max(self.scores, key=lambda score: score.score, default=None)

    def add(self, score: Score) -> None:
        """Add a score, or replace the one of the same step: a run that goes on reports again."""
        others = [known for known in self.scores if known.step != score.step]
        self.scores = sorted([*others, score])  # by step; assigned, so that pydantic validates it


class TrialStore:
    """All trials in the OUTPUT of a search."""

    def __init__(self, output: Folder) -> None:
        self._output = output

    def read(self) -> list[Trial]:
        """Read all trials by number. Raises OutputError for a damaged file."""
        trials = []
        for name in self._output.list_names(DIRECTORY):
            if not name.endswith(f"/{_FILE}"):  # of the trial's training run
                continue
            try:
                trials.append(Trial.model_validate_json(self._output.read_bytes(name)))
            except ValidationError as error:
                reason = error.errors()[0]
                key = ".".join(map(str, reason["loc"]))
                raise OutputError(
                    f"{self._output}/{name} is damaged or of another version of bertsum "
                    f"({key}: {reason['msg']}); remove its directory, and it is drawn anew"
                ) from error
        return sorted(trials, key=lambda trial: trial.number)

    def write(self, trial: Trial) -> None:
        """Write the trial's file, replacing what there is."""
        self._output.write_replace(
            f"{trial.directory}/{_FILE}", trial.model_dump_json(indent=1).encode()
        )

    def clear(self) -> None:
        """Remove all trials with their training runs."""
        for name in self._output.list_names(DIRECTORY):
            self._output.remove(name)

    def remove_checkpoints(self, trial: Trial) -> None:
        """Remove the states that only going on would need, several times as large as the model."""
        for name in self._output.list_names(f"{trial.directory}/{_CHECKPOINTS}"):
            self._output.remove(name)


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Sort trials: the best first, those without a score last."""
    # equally good ones by number, so that the order does not change from call to call
    by_number = sorted(trials, key=lambda trial: trial.number)
    return sorted(by_number, key=lambda trial: -trial.best.score if trial.best else math.inf)


def show_values(trial: Trial) -> str:
    """Write a trial's values for people."""
    return ", ".join(f"{key} {short(value)}" for key, value in trial.values.items())


def short(value: object) -> str:
    """Write a number with four digits, anything else as it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
