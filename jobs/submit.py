"""`bertsum submit <job> ARGS... --address http://head:8265`: a job on a cluster, from outside it.

The same command is the same submission: while it runs, it is found and followed and not started
twice. What is done lies in the job's OUTPUT, so a job that was lost with its cluster is simply sent
again and goes on.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertsum.config_base import load_config
from bertsum.errors import BertsumError, ConfigError
from bertsum.generation.config import ThenConfig
from bertsum.storage.folder import Folder, mask
from jobs.cli import COMMANDS
from jobs.options import amount, count, split_name
from jobs.remote.shipment import Request
from jobs.status import describe_output
from jobs.terminal.exit_codes import guard

_NOT_JOBS = ("submit", "status", "report", "text")  # they run where the terminal is
_JOBS = [name for name in COMMANDS if name not in _NOT_JOBS]
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
    from jobs.remote.submissions import Rules, Submission, Voice

    rules = Rules(
        code=options.code,
        max_restarts=options.max_restarts,
        lost_seconds=options.lost_seconds,
    )
    voice = Voice(show=_show, say=_say, progress=lambda: progress_of(request))
    submission = Submission(JobServer(options.address), request, rules, voice)
    if options.cancel:
        submission.cancel()
        return 0
    if options.no_wait:
        print(submission.start_or_find())
        return 0
    _, exit_code = submission.run()
    return exit_code


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


def progress_of(request: Request) -> str:
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


def _show(log: str) -> None:
    sys.stdout.write(log)
    sys.stdout.flush()


def _say(text: str) -> None:
    print(f"submit: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
