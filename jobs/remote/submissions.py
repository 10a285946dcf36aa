"""One job on a job server: sent, or found there, and followed to its end.

The same request is the same submission: its id is made of the command, and a number is added for
each attempt. So whoever asks for it again, on another machine too, finds what runs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ray.job_submission import JobDetails

import bertsum
from bertsum.errors import ConfigError, IncompleteError
from bertsum.masking import mask
from jobs.remote.job_server import JobServer, UnreachableError
from jobs.remote.shipment import Request, packed

_POLL_SECONDS = (0.5, 5.0)  # at first, and later
# Ray's error types of a job whose machine went away: no fault of the job.
_LOST = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a job is sent and followed.

    - `code`: `send` or `image`, see `packed`.
    - `asked_by`: who asks. A submission that succeeded is not sent again for the same asker: what
      it asks for once more, after its own restart, has been done. "": it is always sent again.
    - `max_restarts`: how often a job that was lost with its machine is sent again.
    - `lost_seconds`: how long the job server may be silent.
    - `limit_seconds`: how long to follow; None: without limit.
    """

    code: str = "send"
    asked_by: str = ""
    max_restarts: int = 3
    lost_seconds: float = 600.0
    limit_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """Where one reads what happens.

    - `show`: takes the job's log, piece by piece.
    - `say`: takes a line on the submission itself.
    - `progress`: how far the job is, for a line of `say`.
    """

    show: Callable[[str], object]
    say: Callable[[str], object]
    progress: Callable[[], str]


class Submission:
    """A request at a job server."""

    def __init__(self, server: JobServer, request: Request, rules: Rules, voice: Voice) -> None:
        self._server, self._request, self._rules, self._voice = server, request, rules, voice
        self._silence = _Silence(server.address, rules.lost_seconds, voice.say)
        self._deadline = time.monotonic() + (rules.limit_seconds or float("inf"))

    def run(self) -> tuple[str, int]:
        """Send or find the job, and show its log until it ends.

        A job that was lost with its machine is sent again.

        Returns the id of the submission and the job's exit code. Raises IncompleteError when it was
        lost too often or has no exit code of its own, or when a limit of the rules is reached.
        """
        for restart in range(self._rules.max_restarts + 1):
            submission_id = self.start_or_find()
            exit_code = self._follow(submission_id)
            if exit_code is not None:
                return submission_id, exit_code
            if restart < self._rules.max_restarts:
                progress = self._voice.progress()
                self._voice.say(
                    f"{submission_id} was lost with its machine; {progress}; sent again"
                )
        raise IncompleteError(
            f"lost {self._rules.max_restarts + 1} times; {self._voice.progress()}. The same "
            "command resumes"
        )

    def start_or_find(self) -> str:
        """The id of the running submission, which is sent if none runs.

        To ask again is safe: what an unanswered request began is found running.
        """
        base_id = self._request.base_id
        while True:
            try:
                # Only the last attempt can be running: a new one is sent when it has ended.
                attempts = self._server.attempts(base_id)
                number = max(attempts, default=0)
                if number and (state := self._state_to_follow(attempts[number])):
                    self._voice.say(f"{base_id}-{number} {state} already; following it")
                    return f"{base_id}-{number}"
                self._send(f"{base_id}-{number + 1}")
                return f"{base_id}-{number + 1}"
            except UnreachableError as error:  # also when another took this number a moment ago
                self._silence.note(error)
            self._pause(_POLL_SECONDS[0])

    def cancel(self) -> None:
        """Stop every running attempt. Raises ConfigError where there is none."""
        base_id, running = self._request.base_id, []
        for number, job in self._server.attempts(base_id).items():
            if not job.status.is_terminal():
                running.append(f"{base_id}-{number}")
        if not running:
            raise ConfigError(
                f"this command is not running at {self._server.address}: there is no live {base_id}"
            )
        for submission_id in running:
            self._server.stop_job(submission_id)
            self._voice.say(
                f"{submission_id} stopped; what is done stays, and the same command resumes"
            )

    def _state_to_follow(self, job: JobDetails) -> str | None:
        """What is said of an attempt that serves this request; None: a new one is needed."""
        if not job.status.is_terminal():
            return f"is {job.status.lower()}"
        asker = (job.metadata or {}).get("asked_by")
        is_answer = job.status == "SUCCEEDED" and self._rules.asked_by and asker
        return "succeeded" if is_answer and asker == self._rules.asked_by else None

    def _send(self, submission_id: str) -> None:
        metadata = {"bertsum_version": bertsum.__version__, "code": self._rules.code}
        if self._rules.asked_by:
            metadata["asked_by"] = self._rules.asked_by
        with packed(self._request, self._rules.code) as runtime_env:
            self._server.submit_job(
                entrypoint=self._request.entrypoint,
                submission_id=submission_id,
                runtime_env=dict(runtime_env),
                metadata=metadata,
            )
        self._voice.say(f"{submission_id} sent to {self._server.address}")

    def _follow(self, submission_id: str) -> int | None:
        """Show its log until it ends.

        Returns the job's exit code, or None when it was lost and can be sent again. Raises
        IncompleteError, see `_exit_code`.
        """
        num_shown, poll_seconds = 0, _POLL_SECONDS[0]
        while True:
            try:
                job = self._server.find(submission_id)
                log = self._server.read_log(job) if job is not None else ""
            except UnreachableError as error:
                self._silence.note(error)
            else:
                self._silence.end()
                self._voice.show(log[num_shown:])  # the server sends the whole log each time
                num_shown = max(num_shown, len(log))
                if job is None:
                    return None  # it forgot the submission: the head was started again
                if job.status.is_terminal():
                    return _exit_code(job)
            self._pause(poll_seconds)
            # Soon at first, when a wrong path shows; seldom later, as a job may run for days.
            poll_seconds = min(poll_seconds * 1.2, _POLL_SECONDS[1])

    def _pause(self, seconds: float) -> None:
        """Sleep. Raises IncompleteError after the rules' `limit_seconds`."""
        if time.monotonic() > self._deadline:
            raise IncompleteError(
                f"followed for {self._rules.limit_seconds:.0f} s, which is the limit; "
                f"{self._voice.progress()}. The job goes on: the same command follows it"
            )
        time.sleep(seconds)


class _Silence:
    """For how long the server has not answered: said once, and given up on after a while."""

    def __init__(self, address: str, most_seconds: float, say: Callable[[str], object]) -> None:
        self._address, self._most_seconds, self._say = address, most_seconds, say
        self._since: float | None = None

    def note(self, error: Exception) -> None:
        """Note that there was no answer. Raises IncompleteError after `most_seconds` of that."""
        if self._since is None:
            self._since = time.monotonic()
            self._say(f"{error}; asking again (a job that runs needs nothing from here)")
        if time.monotonic() - self._since > self._most_seconds:
            raise IncompleteError(
                f"no answer from {self._address} for {self._most_seconds:.0f} s ({error}). The "
                "job may go on: the same command follows it, or resumes"
            )

    def end(self) -> None:
        """Note that there was an answer."""
        if self._since is not None:
            self._say(f"{self._address} answers again")
        self._since = None


def _exit_code(job: JobDetails) -> int | None:
    """The exit code of a job that has ended, or None when its machine was lost.

    Raises IncompleteError where the job has no exit code of its own.
    """
    if job.status == "SUCCEEDED":
        return 0
    if job.error_type in _LOST:  # before the state, which is FAILED for these, too
        return None
    if job.status == "STOPPED":
        raise IncompleteError(
            f"{job.submission_id} was stopped; what is done stays, and the same command resumes"
        )
    # None: it ended before the command ran. Below 0: a signal killed it, -9 for SIGKILL.
    if job.driver_exit_code is None or job.driver_exit_code < 0:
        reason = mask(job.message or "no reason given")
        raise IncompleteError(f"{job.submission_id} failed: {reason}")
    return int(job.driver_exit_code)
