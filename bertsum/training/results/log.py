"""What a run logs as it trains: a file of lines, the trackers, and the curves at the end."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from bertsum.masking import mask_values
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.curves import can_draw, draw_curves
from bertsum.training.distributed import rank
from bertsum.training.results.files import CURVES_FILE, LOG_FILE
from bertsum.training.state import LogLine, StateStore, read_log
from bertsum.training.tracking import Tracking, finite_values

_LOG_SECONDS = 10.0

Report = Callable[[LogLine], None]
"""Gets a line of the log, or a message for people; see `bertsum.training.run.run`."""
Group = TypeVar("Group", bound=Sized)


def shown(groups: Iterable[Group], total: int, part: str, report: Report) -> Iterator[Group]:
    """The groups, one by one; people are told how many of `total` rows were in those before.

    `part`: what is done with them.
    """
    done = 0
    for group in groups:
        yield group
        done += len(group)
        report({"part": part, "done": done, "total": total})


class Log:
    """`training_log.jsonl`: what was logged, a line each.

    A store cannot append, so the file is written whole: now and then, and before each checkpoint. A
    run that resumes from a checkpoint so finds the lines of all steps before it.
    """

    def __init__(
        self, output: Folder, store: StateStore, config: TrainingConfig, report: Report
    ) -> None:
        """Take up the log of the run at its newest checkpoint. Trackers get the same lines."""

        def say(text: str) -> None:
            report({"message": text})

        state = store.latest(on_damage=say)
        # the other workers would write the same values once more
        trackers = config.tracking if rank() == 0 else ()
        record = mask_values(config.model_dump(mode="json"))
        step = state.step if state else 0
        self._tracking = Tracking(trackers, output, record, step, say=say)
        self._lines = read_log(output, LOG_FILE, state.step) if state else []
        if state:
            say(f"going on from step {state.step}")
        self._output, self._report = output, report
        self._written_at = time.monotonic()

    def add(self, line: LogLine) -> None:
        """Add a line."""
        self._lines.append(line)
        self._tracking.add(line)
        if time.monotonic() - self._written_at > _LOG_SECONDS:
            self.flush()
        self._report(line)  # last: who listens may end the run

    def flush(self) -> None:
        """Write all lines."""
        if rank() == 0:
            lines = [json.dumps(finite_values(line)) + "\n" for line in self._lines]
            self._output.write_replace(LOG_FILE, "".join(lines).encode())
        self._written_at = time.monotonic()

    def close(self) -> None:
        """Write all lines, and the curves."""
        self.flush()
        if rank() == 0 and can_draw() and self._lines:
            self._output.write_replace(CURVES_FILE, draw_curves(self._lines))

    def close_trackers(self) -> None:
        """End the run in all trackers, however it ended."""
        self._tracking.close()


@contextmanager
def open_log(
    output: Folder, config: TrainingConfig, report: Report
) -> Iterator[tuple[StateStore, Log]]:
    """The states and the log of the steps that are taken inside; closed at their end."""
    store = StateStore(output, config.kept_checkpoints)
    log = Log(output, store, config, report)
    try:
        yield store, log
        log.close()
    finally:
        log.close_trackers()  # this process may go on to another run
