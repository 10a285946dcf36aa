"""`bertsum submit <job> ARGS... --address http://head:8265`: a job on a cluster, from outside it.

The same command is the same submission: while it runs, it is found and followed and not started
twice. What is done lies in the job's OUTPUT, so a job that was lost with its cluster is simply sent
again and goes on.
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
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import bertsum
from bertsum.config_base import load_config
from bertsum.errors import BertsumError, ConfigError, IncompleteError
from bertsum.generation.config import ThenConfig
from bertsum.storage.folder import Folder, mask
from jobs.cli import COMMANDS
from jobs.options import amount, count, split_name
from jobs.shipped import ENVIRONMENT_FILE
from jobs.status import describe_output
from jobs.terminal.exit_codes import guard

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from jobs.remote.job_server import JobServer

_NOT_JOBS = ("submit", "status", "report", "text")  # they run where the terminal is
_JOBS = [name for name in COMMANDS if name not in _NOT_JOBS]
_POLL_SECONDS = (0.5, 5.0)  # at first, and later
# Ray's error types of a job whose machine went away: no fault of the job.
_LOST = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
_DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ADDRESS = (
    "job server of the cluster, http://HOST:8265 (default: RAY_API_SERVER_ADDRESS, else this "
    "machine's)"
)
_CODE = (
    "send this installation of bertsum along (the default), or use the one in the cluster's image"
)
_LOST_SECONDS = "how long to wait for a job server that does not answer (default: 600)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """The command's own options.

    - `job`: the command that runs on the cluster.
    - `env`: names of variables that go along.
    - `code`: `send` or `image`.
    - `max_restarts`: how often a job that was lost with its machine is sent again.
    - `lost_seconds`: how long a job server may be silent.
    """

    job: str
    address: str
    env: Sequence[str] = ()
    code: str = "send"
    no_wait: bool = False
    cancel: bool = False
    max_restarts: int = 3
    lost_seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A job as it is sent.

    - `arguments`: as they hold on the cluster.
    - `files`: those that go along, by the option that names them: `config` and `then`.
    - `output`: the job's OUTPUT; None if it has none.
    - `variables`: names of environment variables whose values go along.
    """

    job: str
    arguments: tuple[str, ...]
    files: Mapping[str, Path]
    output: str | None
    variables: tuple[str, ...]

    @property
    def base_id(self) -> str:
        """The same for the same job on the same inputs; a number for each attempt follows it."""
        content = b"".join(path.read_bytes() for path in self.files.values())
        digest = hashlib.sha256(content).hexdigest()
        identity = json.dumps([self.job, self.arguments, digest, self.variables])
        return f"bertsum-{self.job}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    @property
    def entrypoint(self) -> str:
        """The command line that Ray runs on the cluster."""
        return shlex.join(["python", "-m", "jobs.shipped", self.job, *self.arguments])


class RuntimeEnv(TypedDict):
    """Ray's runtime environment, as far as it is used here."""

    working_dir: str
    env_vars: dict[str, str]
    worker_process_setup_hook: str
    py_modules: NotRequired[list[str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: those of the job; 0 for --no-wait and --cancel; 1 cluster lost; 2 refused."""
    leaving = "no longer following; the job goes on, and the same command follows"
    return guard(lambda: submit(argv), leaving)


def submit(argv: Sequence[str] | None) -> int:
    """Send the job and follow it. Returns its exit code.

    Raises IncompleteError when it was lost too often, or the job server is silent for too long.
    """
    arguments, rest = parser().parse_known_args(argv)  # `rest` are the job's own
    options = SubmitOptions(**vars(arguments))
    request = make_request(options.job, rest, sorted(set(options.env)))
    # It imports Ray: only once the arguments are known to be right.
    from jobs.remote.job_server import JobServer

    server = JobServer(options.address)
    if options.cancel:
        return _cancel(server, request)
    silence = _Silence(server.address, options.lost_seconds)
    for restart in range(options.max_restarts + 1):
        submission_id = _start_or_find(server, request, options.code, silence)
        if options.no_wait:
            print(submission_id)
            return 0
        exit_code = _follow(server, submission_id, silence)
        if exit_code is not None:
            return exit_code
        if restart < options.max_restarts:
            progress = _progress(request)
            _say(f"{submission_id} was lost with its machine; {progress}; sent again")
    raise IncompleteError(
        f"lost {options.max_restarts + 1} times; {_progress(request)}. The same command resumes"
    )


def make_request(job: str, rest: Sequence[str], variables: Sequence[str]) -> Request:
    """Check the job's arguments with its own parser, and make of them what is sent.

    What is wrong with them is better known here than there. `variables`: names for `--env`. Raises
    ConfigError.
    """
    if job not in _JOBS:
        raise ConfigError(f"there is no job {job!r} to submit; there are {', '.join(_JOBS)}")
    parsed = vars(importlib.import_module(f"jobs.{job}").parser().parse_args(rest))
    # What would be masked in a message is a secret; Ray's dashboard shows every argument.
    for token in rest:
        if mask(token) != token:
            raise ConfigError(
                f"{mask(token)} holds credentials, and arguments are seen by all who see the "
                "cluster's jobs; give them as environment variables with --env NAME"
            )
    for name in variables:
        if name not in os.environ:
            raise ConfigError(f"--env {name}: there is no such variable in this environment")
    for key in ("input", "candidates", "output", "model", "html", "png"):
        value = parsed.get(key)
        if isinstance(value, list):  # models of `evaluate`, perhaps as NAME=M; M may be left out
            paths = [split_name(model)[1] for model in value]
            _refuse_relative(key, [path for path in paths if path])
        elif value is not None:
            _refuse_relative(key, [str(value)])
    files = _files(parsed)
    output = parsed.get("output")
    return Request(
        job=job,
        arguments=tuple(_on_the_cluster(token, files) for token in rest),
        files=files,
        output=None if output is None else str(output),
        variables=tuple(variables),
    )


def parser() -> argparse.ArgumentParser:
    """Its own options; all others are the job's."""
    options = argparse.ArgumentParser(
        prog="bertsum submit",
        description="Run a job on a Ray cluster, and show its log until it ends. All other "
        "options are the job's.",
        epilog="exit codes: the job's; 1 when the cluster was lost; 2 when the submission was "
        "refused",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("job", metavar="JOB", help=", ".join(_JOBS))
    address = os.environ.get("RAY_API_SERVER_ADDRESS", _DEFAULT_ADDRESS)
    add("--address", metavar="URL", default=address, help=_ADDRESS)
    add(
        "--env",
        metavar="NAME",
        action="append",
        default=[],
        help="variable of this environment to take along",
    )
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
    add(
        "--lost-seconds",
        metavar="S",
        type=amount("--lost-seconds"),
        default=600.0,
        help=_LOST_SECONDS,
    )
    return options


def _refuse_relative(key: str, paths: Sequence[str]) -> None:
    """Raise ConfigError for a path that means another file on the cluster."""
    for path in paths:
        if "://" in path or path.startswith("/"):
            continue
        if key != "model" or Path(path).exists():  # a model may be the name of one on a hub
            raise ConfigError(
                f"{key} {path!r} is a path on this machine; give a URI or an absolute path that "
                "all of the cluster sees"
            )


def _files(parsed: Mapping[str, Any]) -> dict[str, Path]:
    """The configuration files of the job, by option.

    Raises ConfigError for one that is not there, that is wrong, or has the other one's name.
    """
    files = {key: Path(parsed[key]) for key in ("config", "then") if parsed.get(key)}
    for path in files.values():
        if not path.is_file():
            raise ConfigError(f"there is no configuration file {path}")
    names = {path.name for path in files.values()}
    if len(names) < len(files):  # they go into one directory
        raise ConfigError(f"--config and --then are both called {names.pop()}: rename one of them")
    if "then" in files:
        _refuse_relative("model", [load_config(ThenConfig, files["then"]).model])
    return files


def _on_the_cluster(token: str, files: Mapping[str, Path]) -> str:
    """An argument of the job as it holds there, where a configuration file has its bare name.

    It lies in the job's directory: `--config=/here/job.yaml` becomes `--config=job.yaml`.
    """
    option, _, value = token.partition("=")
    for key, path in files.items():
        # argparse takes any beginning of an option for it: `--conf=job.yaml` is `--config`, too.
        if value and f"--{key}".startswith(option) and Path(value) == path:
            return f"{option}={path.name}"
        if Path(token) == path:
            return path.name
    return token


def _start_or_find(server: "JobServer", request: Request, code: str, silence: "_Silence") -> str:
    """The id of the running submission, which is sent if none runs.

    To ask again is safe: what an unanswered request began is found running.
    """
    from jobs.remote.job_server import UnreachableError

    while True:
        try:
            # Only the last attempt can be running: a new one is sent when it has ended.
            attempts = server.attempts(request.base_id)
            number = max(attempts, default=0)
            if number and not attempts[number].status.is_terminal():
                submission_id = f"{request.base_id}-{number}"
                state = attempts[number].status.lower()
                _say(f"{submission_id} is {state} already; following it")
                return submission_id
            submission_id = f"{request.base_id}-{number + 1}"
            with _packages(request, code) as runtime_env:
                server.submit_job(
                    entrypoint=request.entrypoint,
                    submission_id=submission_id,
                    runtime_env=dict(runtime_env),
                    metadata={"bertsum_version": bertsum.__version__, "code": code},
                )
            _say(f"{submission_id} sent to {server.address}")
            return submission_id
        except UnreachableError as error:  # also when another took this number a moment ago
            silence.note(error)
        time.sleep(_POLL_SECONDS[0])


@contextmanager
def _packages(request: Request, code: str) -> Iterator[RuntimeEnv]:
    """Ray's runtime environment: the job's directory with what goes along, and the code as modules.

    The files exist until the end of the `with` block: Ray uploads them in between.
    """
    with tempfile.TemporaryDirectory(prefix="bertsum-submit-") as name:
        directory = Path(name, "files")
        directory.mkdir()
        for path in request.files.values():
            shutil.copyfile(path, directory / path.name)
        if request.variables:
            values = {variable: os.environ[variable] for variable in request.variables}
            # Ray names the package after a digest of its content. The nonce keeps a short secret
            # from being guessed by that name.
            content = {"variables": values, "nonce": secrets.token_hex(16)}
            (directory / ENVIRONMENT_FILE).write_text(json.dumps(content), encoding="utf-8")
        readme = f"{request.job} as `bertsum submit` sent it\n"
        (directory / "README").write_text(readme, encoding="utf-8")
        environment: RuntimeEnv = {
            "working_dir": str(directory),
            "env_vars": {"PYTHONUNBUFFERED": "1"},
            "worker_process_setup_hook": "jobs.shipped.take_environment",
        }
        if code == "send":
            environment["py_modules"] = []
            for package in ("bertsum", "jobs"):
                target = Path(name, package)
                ignored = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(Path(__file__).parents[1] / package, target, ignore=ignored)
                environment["py_modules"].append(str(target))
        yield environment


def _follow(server: "JobServer", submission_id: str, silence: "_Silence") -> int | None:
    """Show its log until it ends.

    Returns the job's exit code, or None when it was lost and can be sent again. Raises
    IncompleteError, see `_exit_code`.
    """
    from jobs.remote.job_server import UnreachableError

    num_shown, poll_seconds = 0, _POLL_SECONDS[0]
    while True:
        try:
            job = server.find(submission_id)
            log = server.read_log(job) if job is not None else ""
        except UnreachableError as error:
            silence.note(error)
        else:
            silence.end()
            # The server sends the whole log each time.
            sys.stdout.write(log[num_shown:])
            sys.stdout.flush()
            num_shown = max(num_shown, len(log))
            if job is None:
                return None  # it forgot the submission: the head was started again
            if job.status.is_terminal():
                return _exit_code(job)
        time.sleep(poll_seconds)
        # Soon at first, when a wrong path shows; seldom later, as a job may run for days.
        poll_seconds = min(poll_seconds * 1.2, _POLL_SECONDS[1])


class _Silence:
    """For how long the server has not answered: said once, and given up on after a while."""

    def __init__(self, address: str, most_seconds: float) -> None:
        self._address, self._most_seconds = address, most_seconds
        self._since: float | None = None

    def note(self, error: Exception) -> None:
        """Note that there was no answer. Raises IncompleteError after `most_seconds` of that."""
        if self._since is None:
            self._since = time.monotonic()
            _say(f"{error}; asking again (a job that runs needs nothing from here)")
        if time.monotonic() - self._since > self._most_seconds:
            raise IncompleteError(
                f"no answer from {self._address} for {self._most_seconds:.0f} s ({error}). The "
                "job may go on: the same command follows it, or resumes"
            )

    def end(self) -> None:
        """Note that there was an answer."""
        if self._since is not None:
            _say(f"{self._address} answers again")
        self._since = None


def _exit_code(job: "JobDetails") -> int | None:
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


def _progress(request: Request) -> str:
    """How far the job is by its OUTPUT, where that can be read from here."""
    if request.output is None:  # as of `benchmark`
        return "what it had done stays"
    output = mask(request.output)
    try:
        state = describe_output(Folder(request.output))
    except (BertsumError, KeyError):
        return f"{output} cannot be read from here, or holds nothing yet"
    if "published" in state:
        return f"{output} has {len(state['published']):,} partition(s) published"
    units = state["units"]
    return f"{output} has {units['done']:,} of {sum(units.values()):,} units"


def _cancel(server: "JobServer", request: Request) -> int:
    """Stop every running attempt of this command. Raises ConfigError where there is none."""
    running = []
    for number, job in server.attempts(request.base_id).items():
        if not job.status.is_terminal():
            running.append(f"{request.base_id}-{number}")
    if not running:
        raise ConfigError(
            f"this command is not running at {server.address}: there is no live {request.base_id}"
        )
    for submission_id in running:
        server.stop_job(submission_id)
        _say(f"{submission_id} stopped; what is done stays, and the same command resumes")
    return 0


def _say(text: str) -> None:
    print(f"submit: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
