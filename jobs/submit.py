"""`bertsum submit <job> ARGS... --address http://head:8265`: a job on a cluster, from a machine outside it.

The same command is the same submission: while it runs, it is found and followed and not started twice. What is done
lies in the job's OUTPUT, so a job that was lost with its cluster is simply sent again and goes on.
"""

import argparse
import hashlib
import importlib
import json
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bertsum
from bertsum.errors import BertsumError, ConfigError, IncompleteError
from bertsum.storage.folder import Folder, mask
from jobs.cli import COMMANDS
from jobs.options import amount, count
from jobs.shipped import ENVIRONMENT_FILE
from jobs.status import describe_output
from jobs.terminal.exit_codes import guard

_NOT_JOBS = ("submit", "status", "text", "report", "monitor")  # they run where the terminal is
_JOBS = [name for name in COMMANDS if name not in _NOT_JOBS]
_POLL_SECONDS = (0.5, 5.0)  # at first, and later
_LOST = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")  # the machine under it went away
_DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ADDRESS = "job server of the cluster, http://HOST:8265 (default: RAY_API_SERVER_ADDRESS, else this machine's)"
_CODE = "send this installation of bertsum along (the default), or use the one in the cluster's image"
_LOST_SECONDS = "how long to wait for a job server that does not answer (default: 600)"


@dataclass(frozen=True, slots=True)
class Request:
    """A job as it is sent: its arguments as they hold on the cluster, the file that goes along, names of variables."""

    job: str
    arguments: tuple[str, ...]
    config_path: Path | None
    output: str | None
    variables: tuple[str, ...]

    @property
    def base_id(self) -> str:
        """The same for the same job on the same inputs; a number for each attempt follows it."""
        config = self.config_path.read_bytes() if self.config_path else b""
        identity = json.dumps([self.job, self.arguments, hashlib.sha256(config).hexdigest(), self.variables])
        return f"bertsum-{self.job}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    @property
    def entrypoint(self) -> str:
        return shlex.join(["python", "-m", "jobs.shipped", self.job, *self.arguments])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: those of the job; 0 for --no-wait and --cancel; 1 when the cluster is lost; 2 when refused."""
    leaving = "no longer following; the job goes on, and the same command follows"
    return guard(lambda: submit(*parser().parse_known_args(argv)), leaving)


def submit(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """The command behind its options; `rest` are the job's own."""
    request = make_request(arguments.job, rest, sorted(set(arguments.env)))
    from jobs.remote.job_server import JobServer

    server = JobServer(arguments.address)
    if arguments.cancel:
        return _cancel(server, request)
    silence = _Silence(server.address, arguments.lost_seconds)
    for restart in range(arguments.max_restarts + 1):
        submission_id = _start_or_find(server, request, arguments.code, silence)
        if arguments.no_wait:
            print(submission_id)
            return 0
        ended = _follow(server, submission_id, silence)
        if ended is not None:
            return ended
        if restart < arguments.max_restarts:
            _say(f"{submission_id} was lost with its machine; {_how_far(request)}; sent again")
    raise IncompleteError(f"lost {arguments.max_restarts + 1} times; {_how_far(request)}. The same command resumes")


def make_request(job: str, rest: Sequence[str], variables: Sequence[str]) -> Request:
    """Look the job's arguments up with its own parser: what is wrong with them is better known here than there."""
    if job not in _JOBS:
        raise ConfigError(f"there is no job {job!r} to submit; there are {', '.join(_JOBS)}")
    parsed = vars(importlib.import_module(f"jobs.{job}").parser().parse_args(rest))
    for token in rest:
        if mask(token) != token:
            raise ConfigError(
                f"{mask(token)} holds credentials, and arguments are seen by all who see the cluster's jobs; "
                "give them as environment variables with --env NAME"
            )
    missing = [name for name in variables if name not in os.environ]
    if missing:
        raise ConfigError(f"--env {missing[0]}: there is no such variable in this environment")
    for key in ("input", "output", "model"):
        _refuse_relative(key, parsed.get(key))
    config_path = Path(parsed["config"]) if parsed.get("config") else None
    if config_path is not None and not config_path.is_file():
        raise ConfigError(f"there is no configuration file {config_path}")
    output = parsed.get("output")
    sent = tuple(_renamed(token, config_path) for token in rest)
    return Request(job, sent, config_path, None if output is None else str(output), tuple(variables))


def parser() -> argparse.ArgumentParser:
    """Its own options; all others are the job's."""
    options = argparse.ArgumentParser(
        prog="bertsum submit",
        description="Run a job on a Ray cluster, and show its log until it ends. All other options are the job's.",
        epilog="exit codes: the job's; 1 when the cluster was lost; 2 when the submission was refused",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("job", metavar="JOB", help=", ".join(_JOBS))
    add("--address", metavar="URL", default=os.environ.get("RAY_API_SERVER_ADDRESS", _DEFAULT_ADDRESS), help=_ADDRESS)
    add("--env", metavar="NAME", action="append", default=[], help="variable of this environment to take along")
    add("--code", choices=["send", "image"], default="send", help=_CODE)
    add("--no-wait", action="store_true", help="print the submission's id and leave")
    add("--cancel", action="store_true", help="stop the running submission of this same command")
    add(
        "--max-restarts",
        metavar="N",
        type=count("--max-restarts", 0),
        default=3,
        help="how often to send a lost job again (default: 3)",
    )
    add("--lost-seconds", metavar="S", type=amount("--lost-seconds"), default=600.0, help=_LOST_SECONDS)
    return options


def _refuse_relative(key: str, value: Any) -> None:
    path = None if value is None else str(value)
    if path is None or "://" in path or path.startswith("/"):
        return
    if key != "model" or Path(path).exists():  # a model may be the name of one on a hub
        raise ConfigError(
            f"{key} {path!r} is a place on this machine; give a URI or an absolute path that all of the cluster sees"
        )


def _renamed(token: str, config_path: Path | None) -> str:
    """The configuration file lies in the job's directory there, under its own name."""
    if config_path is None:
        return token
    option, _, value = token.partition("=")
    if value and "--config".startswith(option) and Path(value) == config_path:
        return f"{option}={config_path.name}"
    return config_path.name if Path(token) == config_path else token


def _start_or_find(server: Any, request: Request, code: str, silence: "_Silence") -> str:
    """The id of the running submission. To ask again is safe: what an unanswered request began is found running."""
    from jobs.remote.job_server import UnreachableError

    while True:
        try:
            attempts = server.attempts(request.base_id)
            number = max(attempts, default=0)
            if number and not attempts[number].status.is_terminal():
                _say(f"{request.base_id}-{number} is {attempts[number].status.lower()} already; following it")
                return f"{request.base_id}-{number}"
            _start(server, request, f"{request.base_id}-{number + 1}", code)
            _say(f"{request.base_id}-{number + 1} sent to {server.address}")
            return f"{request.base_id}-{number + 1}"
        except UnreachableError as error:  # also when another took this number a moment ago
            silence.note(error)
        time.sleep(_POLL_SECONDS[0])


def _start(server: Any, request: Request, submission_id: str, code: str) -> None:
    with _packages(request, code) as runtime_env:
        server.submit_job(
            entrypoint=request.entrypoint,
            submission_id=submission_id,
            runtime_env=runtime_env,
            metadata={"bertsum_version": bertsum.__version__, "code": code},
        )


@contextmanager
def _packages(request: Request, code: str) -> Iterator[Mapping[str, Any]]:
    """Ray's runtime environment: the job's directory with what goes along, and the code as modules."""
    with tempfile.TemporaryDirectory(prefix="bertsum-submit-") as name:
        directory = Path(name, "files")
        directory.mkdir()
        if request.config_path is not None:
            shutil.copyfile(request.config_path, directory / request.config_path.name)
        if request.variables:
            values = {variable: os.environ[variable] for variable in request.variables}
            # Ray names the package after its content: the nonce keeps a short secret from being guessed by that name
            content = {"variables": values, "nonce": secrets.token_hex(16)}
            (directory / ENVIRONMENT_FILE).write_text(json.dumps(content), encoding="utf-8")
        (directory / "README").write_text(f"{request.job} as `bertsum submit` sent it\n", encoding="utf-8")
        environment: dict[str, Any] = {
            "working_dir": str(directory),
            "env_vars": {"PYTHONUNBUFFERED": "1"},
            "worker_process_setup_hook": "jobs.shipped.take_environment",
        }
        if code == "send":
            environment["py_modules"] = [_copy_package(package, Path(name)) for package in ("bertsum", "jobs")]
        yield environment


def _copy_package(package: str, directory: Path) -> str:
    source = Path(__file__).parents[1] / package
    target = directory / package
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return str(target)


def _follow(server: Any, submission_id: str, silence: "_Silence") -> int | None:
    """Show its log until it ends; the job's exit code, or None when it was lost and can be sent again."""
    from jobs.remote.job_server import UnreachableError

    shown, poll_seconds = 0, _POLL_SECONDS[0]
    while True:
        try:
            info = server.find(submission_id)
            log = server.read_log(info) if info is not None else ""
        except UnreachableError as error:
            silence.note(error)
        else:
            silence.end()
            shown += _show(log[shown:])
            if info is None:
                return None
            if info.status.is_terminal():
                return _exit_code(info)
        time.sleep(poll_seconds)
        poll_seconds = min(poll_seconds * 1.2, _POLL_SECONDS[1])


class _Silence:
    """For how long the server has not answered: said once, and given up on after a while."""

    def __init__(self, address: str, most_seconds: float) -> None:
        self._address, self._most_seconds = address, most_seconds
        self._since: float | None = None

    def note(self, error: Exception) -> None:
        if self._since is None:
            self._since = time.monotonic()
            _say(f"{error}; asking again (a job that runs needs nothing from here)")
        if time.monotonic() - self._since > self._most_seconds:
            raise IncompleteError(
                f"no answer from {self._address} for {self._most_seconds:.0f} s ({error}). The job may go on: the same "
                "command follows it, or resumes"
            )

    def end(self) -> None:
        if self._since is not None:
            _say(f"{self._address} answers again")
        self._since = None


def _show(text: str) -> int:
    sys.stdout.write(text)
    sys.stdout.flush()
    return len(text)


def _exit_code(info: Any) -> int | None:
    if info.status == "SUCCEEDED":
        return 0
    if info.error_type in _LOST:
        return None
    if info.status == "STOPPED":
        raise IncompleteError(f"{info.submission_id} was stopped; what is done stays, and the same command resumes")
    if info.driver_exit_code is None or info.driver_exit_code < 0:  # it did not come so far, or was killed
        raise IncompleteError(f"{info.submission_id} failed: {mask(info.message or 'no reason given')}")
    return int(info.driver_exit_code)


def _how_far(request: Request) -> str:
    """What OUTPUT says, where it can be read from here."""
    if request.output is None:
        return "what it had done stays"
    try:
        found = describe_output(Folder(request.output))
    except (BertsumError, KeyError):
        return f"{mask(request.output)} cannot be read from here, or holds nothing yet"
    if "published" in found:
        return f"{mask(request.output)} has {len(found['published']):,} partition(s) published"
    units = found["units"]
    return f"{mask(request.output)} has {units['done']:,} of {sum(units.values()):,} units"


def _cancel(server: Any, request: Request) -> int:
    running = [job for job in server.attempts(request.base_id).values() if not job.status.is_terminal()]
    if not running:
        raise ConfigError(f"this command is not running at {server.address}: there is no live {request.base_id}")
    for job in running:
        server.stop_job(job.submission_id)
        _say(f"{job.submission_id} stopped; what is done stays, and the same command resumes")
    return 0


def _say(text: str) -> None:
    print(f"submit: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
