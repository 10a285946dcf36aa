"""A job on a Ray cluster as one task of an orchestrator: sent or found, followed, and its result.

Neither Airflow nor Dagster is needed here; `airflow_operator` and `dagster_asset` stand on it.
"""

import contextlib
import io
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bertsum.errors import BertsumError, ConfigError, HeldError, IncompleteError
from bertsum.masking import hide, mask
from jobs.remote.job_server import JobServer
from jobs.remote.shipment import Request
from jobs.remote.submissions import Rules, Submission, Voice
from jobs.submit import make_request, progress_of

_stderr_taken = threading.Lock()  # the stream is the process's, and tasks may be threads


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterJob:
    """What a task asks of a cluster.

    - `job`, `arguments`: as `bertsum submit` takes them.
    - `day`: of `nightly`, like 2026-11-22; None for any other job.
    - `address`, `token`: of the job server; None: Ray's own token, as `bertsum submit` finds it.
    - `env`: names of variables of the task's process that go along.
    """

    job: str
    arguments: Sequence[str]
    day: str | None = None
    address: str
    token: str | None = field(default=None, repr=False)
    env: Sequence[str] = ()
    rules: Rules

    def run(self, log: Callable[[str], object]) -> dict[str, Any]:
        """Send the job or find it, give each line of its log to `log`, and wait for its end.

        Returns `submission`, `output`, and of `nightly` the fields of its `--json`. Raises
        BertsumError, whose `exit_code` is 1 where another try may succeed.
        """
        request = self._request()
        lines = _Lines(log)
        submission_id, exit_code = self._submission(request, lines.take, log).run()
        lines.take("\n")
        if exit_code != 0:
            raise _error_of(exit_code, lines.reason or f"{submission_id}: exit code {exit_code}")
        return {"submission": submission_id, "output": request.output, **lines.night}

    def stop(self, log: Callable[[str], object]) -> None:
        """Stop the running submission. Raises ConfigError where none runs."""
        self._submission(self._request(), log, log).cancel()

    def _submission(
        self,
        request: Request,
        show: Callable[[str], object],
        say: Callable[[str], object],
    ) -> Submission:
        if self.token:
            hide({"token": self.token})
        voice = Voice(
            show=show,
            say=lambda text: say(f"submit: {mask(text)}"),
            progress=lambda: progress_of(request),
        )
        return Submission(JobServer(self.address, self.token), request, self.rules, voice)

    def _request(self) -> Request:
        """Raises ConfigError, also where the job's parser would end the process."""
        arguments = [str(argument) for argument in self.arguments]
        if self.job == "nightly":
            if self.day is None:
                raise ConfigError("nightly needs a day, like 2026-11-22, and there is none")
            arguments += ["--date", self.day, "--json"]
        said = io.StringIO()
        try:
            with _stderr_taken, contextlib.redirect_stderr(said):
                return make_request(self.job, arguments, sorted(set(self.env)))
        except SystemExit as error:
            lines = said.getvalue().strip().splitlines() or ["wrong arguments"]
            raise ConfigError(mask(lines[-1])) from error


class _Lines:
    """Cuts a log into lines, and remembers what the job said of its end.

    - `night`: the JSON of `nightly`; empty for other jobs.
    - `reason`: why it failed; "" where it did not say.
    """

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log
        self._rest = ""
        self._error = ""
        self.night: dict[str, Any] = {}

    @property
    def reason(self) -> str:
        return mask(str(self.night.get("error") or self._error))

    def take(self, text: str) -> None:
        """Take a piece of the log; a line that is not finished waits for its rest."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(None, map(str.rstrip, lines)):
            self._log(mask(line))
            if line.startswith("error: "):
                self._error = line.removeprefix("error: ")
            elif line.startswith(" ") and self._error:  # what is wrong with each key
                self._error += line
            elif line.startswith("{"):
                self._note(line)

    def _note(self, line: str) -> None:
        with contextlib.suppress(json.JSONDecodeError):
            values = json.loads(line)
            # with output.log_format: json every line is an object
            if {"day", "partition", "state"} <= values.keys():
                self.night = values


def _error_of(exit_code: int, reason: str) -> BertsumError:
    """The error that says whether to try again: only exit code 1 means so."""
    if exit_code == HeldError.exit_code:
        return HeldError(reason)
    return IncompleteError(reason) if exit_code == 1 else ConfigError(reason)
