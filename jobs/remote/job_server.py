"""Ray's job server over HTTP: every request has a limit, and what an answer means has a type.

A request that gets no answer, or "not now" for one, raises UnreachableError and may be asked again.
One that is refused raises ResourceError, and so does an address whose host does not exist.
"""

import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from bertsum.errors import ConfigError, IncompleteError, ResourceError
from bertsum.storage.folder import describe, mask

try:
    import requests
except ImportError as error:
    raise ConfigError(
        "submitting needs Ray's job client: pip install 'bertsum[cluster]'"
    ) from error

_REQUEST_SECONDS = 30.0  # of silence; a whole upload may take longer
_NOT_NOW = range(500, 600)  # a head that starts, an agent that is gone, a proxy in between
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_LOG_LINES = 10
_TOKEN_FILE = Path(".ray", "auth_token")


class Submission(TypedDict):
    """What there is to say of a submission; times are in ISO 8601. None: not yet known."""

    submission: str
    state: str
    exit_code: int | None
    command: str
    started: str | None
    ended: str | None
    message: str
    log: list[str]


class UnreachableError(IncompleteError):
    """No answer, for now."""


class JobServer(JobSubmissionClient):
    """The submissions of one cluster.

    Overrides the two methods of Ray's client through which it sends everything (as of Ray 2.60).
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        """`token`: Ray's; None: from where Ray itself takes it."""
        # They tell each step of an upload; what matters of it is said here.
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        if not address.startswith(("http://", "https://")):
            raise ConfigError(
                f"--address {mask(address)}: a job server has an address like "
                "http://HOST:8265 (the dashboard's)"
            )
        self.address = mask(address)
        try:
            super().__init__(address, headers=_authorization(token))
        except UnreachableError as error:
            # A name that does not exist is a wrong address; all else, a name server that is busy
            # (EAI_AGAIN) too, may be mended by another try.
            cause = _innermost(error)
            if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
                raise ResourceError(str(error)) from error
            raise
        except RuntimeError as error:
            raise ResourceError(
                f"{self.address} is no Ray job server: {describe(error)}"
            ) from error

    def find(self, submission_id: str) -> JobDetails | None:
        """What the server knows of it.

        None: it has never heard of it, or forgot it in a restart.
        """
        try:
            return self.get_job_info(submission_id)
        except LookupError:
            return None

    def read_log(self, job: JobDetails) -> str:
        """All that it has printed.

        Nothing when the job has ended and its log went with its machine.
        """
        try:
            return str(self.get_job_logs(job.submission_id or ""))
        except (LookupError, UnreachableError):
            if job.status.is_terminal():
                return ""
            raise  # it runs, so its log is somewhere: asked for again

    def describe(self, submission_id: str) -> Submission:
        """What there is to say of a submission, without what its environment holds.

        Raises ConfigError for one that the server does not know.
        """
        job = self.find(submission_id)
        if job is None:  # mistyped, or of another cluster, or from before the head's restart
            raise ConfigError(f"{self.address} knows no submission {submission_id!r}")
        log = self.read_log(job).splitlines()
        return {
            "submission": submission_id,
            "state": str(job.status),
            "exit_code": job.driver_exit_code,
            "command": mask(job.entrypoint),
            "started": _time(job.start_time),
            "ended": _time(job.end_time),
            "message": mask(job.message or ""),
            "log": [mask(line.rstrip()) for line in log[-_LOG_LINES:]],
        }

    def attempts(self, base_id: str) -> dict[int, JobDetails]:
        """Submissions whose id is `base_id` and a number, by number."""
        attempts = {}
        for job in self.list_jobs():
            base, _, number = (job.submission_id or "").rpartition("-")
            if base == base_id and number.isdigit():
                attempts[int(number)] = job
        return dict(sorted(attempts.items()))

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        """Send a request with a limit; `options` are those of Ray's method.

        Raises UnreachableError, and ResourceError where the server refuses the token.
        """
        try:
            return super()._do_request(method, endpoint, timeout=_REQUEST_SECONDS, **options)
        except AuthenticationError as error:
            raise ResourceError(
                f"{self.address} wants a token and refused ours, or we have none: put the "
                f"cluster's into RAY_AUTH_TOKEN or ~/{_TOKEN_FILE}"
            ) from error
        except requests.exceptions.RequestException as error:
            # The innermost cause has the words that help: "Connection refused", and not the
            # pool's story around it.
            reason = describe(_innermost(error))
            raise UnreachableError(f"no answer from {self.address}: {reason}") from error

    def _raise_error(self, response: requests.Response) -> None:
        """Raise what an answer that is an error means: LookupError for a submission unknown."""
        if response.status_code == 404:
            raise LookupError(response.text)
        # Ray answers with a traceback, whose last line has the reason.
        text = mask(response.text.strip()).splitlines() or [""]
        if response.status_code in _NOT_NOW:
            raise UnreachableError(
                f"{self.address} answers HTTP {response.status_code}: {text[-1]}"
            )
        raise ResourceError(f"{self.address} refuses: HTTP {response.status_code}: {text[-1]}")


def _time(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _authorization(token: str | None) -> dict[str, str]:
    """Ray's token; a cluster without tokens does not mind."""
    if token:
        return {"Authorization": f"Bearer {token}"}
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN")
    if not token:
        default = os.path.expanduser(f"~/{_TOKEN_FILE}")  # noqa: PTH111  (Path raises)
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or default)
        token = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}


def _innermost(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
