"""What a Ray that this command starts needs from the machine: time, a token, a directory, and an import path.

All that touches private names of Ray, as they are in 2.60, to start it stands here.
"""

import errno
import os
import secrets
import signal
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray._common.utils
import ray._private.node
import ray._private.services
import ray._private.utils
import ray._raylet
from ray.job_config import JobConfig

from bertsum.errors import ConfigError, ResourceError, UnavailableError
from bertsum.masking import describe, mask

_SECONDS_VARIABLE = "RAY_raylet_start_wait_time_s"  # Ray's own; its C++ side reads it, too
_SECONDS_AT_REST = 120.0  # on a machine with no more work than cores; a start takes 3 to 10 s there
_MOST_SECONDS = 900.0
_POLL_SECONDS = 0.2
# What else Ray waits for at a start: its GCS (30 s on its own), and a worker's first word (60 s).
_WAITS = (_SECONDS_VARIABLE, "RAY_gcs_server_port_wait_time_s", "RAY_worker_register_timeout_seconds")
# A socket's path has at most 107 bytes (103 on macOS). Below the directory Ray appends a session with date, time and
# process id (43 bytes where that has seven digits) and `/sockets/plasma_store` (21).
_MOST_DIRECTORY_BYTES = (103 if sys.platform == "darwin" else 107) - 64
_PLAIN_DIRECTORY = "/tmp/ray"
WRONG_MACHINE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


class OwnCode(JobConfig):
    """Lets workers import what this process imports.

    Ray puts the driver's working directory before everything else in the path of its workers: a folder `jobs` or a
    file `json.py` of the user would stand in for ours, or for Python's.
    """

    def _serialize(self) -> Any:
        config: Any = self  # whose methods carry no types
        if not config._runtime_env_has_working_dir():  # else the code came with a submission, and is in their path
            self._py_driver_sys_path = code_path()
        return super()._serialize()


def code_path() -> list[str]:
    """Where our code lies, for a checkout; nothing for an installation, which is in the path of workers anyway."""
    root = Path(__file__).resolve().parents[2]
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return [] if root in installed or root.name in ("site-packages", "dist-packages") else [str(root)]


@contextmanager
def local_token() -> Iterator[None]:
    """A token of its own for the Ray of this command, in memory only, for as long as it runs.

    Ray would write one to ~/.ray/auth_token, and not start where there is no home that can be written to. What the
    user has set (RAY_AUTH_MODE, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH) stays in force.
    """
    if any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        yield
        return
    raylet: Any = ray._raylet  # a C extension, without types
    loader = raylet.AuthenticationTokenLoader.instance()
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    loader.reset_cache()
    try:
        yield
    finally:
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):  # the latter was set by Ray
            os.environ.pop(name, None)
        loader.reset_cache()
        raylet.Config.initialize("")  # which remembers the mode: a cluster that is joined next has its own


def temp_dir() -> str:
    """Directory for Ray's sockets and logs: Ray's own choice (RAY_TMPDIR, TMPDIR, /tmp), else /tmp/ray.

    Raises ResourceError where none is short enough for a socket and can be written to, UnavailableError where a disk
    is full.
    """
    utils: Any = ray._common.utils
    default: str = os.path.abspath(utils.get_default_ray_temp_dir())  # noqa: PTH100
    reasons = []
    is_full = False
    for directory in dict.fromkeys([default, _PLAIN_DIRECTORY]):
        if len(os.fsencode(directory)) > _MOST_DIRECTORY_BYTES:
            reasons.append(f"{directory} is longer than {_MOST_DIRECTORY_BYTES} bytes, too long for a socket")
            continue
        try:
            utils.try_to_create_directory(directory)  # for all users of the machine
            with tempfile.TemporaryFile(dir=directory) as probe:
                probe.write(bytes(2**20))
        except OSError as error:
            is_full = is_full or error.errno in (errno.ENOSPC, errno.EDQUOT)
            reasons.append(describe(error) if error.filename else f"{describe(error)}: {directory}")
        else:
            return directory
    kind = UnavailableError if is_full else ResourceError
    raise kind(
        f"there is no directory for Ray's sockets and logs: {'; '.join(map(mask, reasons))}. Set RAY_TMPDIR to one of "
        f"at most {_MOST_DIRECTORY_BYTES - len('/ray')} bytes that can be written to"
    )


def start_seconds() -> float:
    """How long Ray may take to start: longer where processes wait for a core; RAY_raylet_start_wait_time_s sets it."""
    given = os.environ.get(_SECONDS_VARIABLE)
    if given is None:
        waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
        return min(_MOST_SECONDS, _SECONDS_AT_REST * max(1.0, waiting))
    if not given.isascii() or not given.isdigit() or not int(given):
        raise ConfigError(f"{_SECONDS_VARIABLE} is a whole number of seconds, at least 1, not {given!r}")
    return float(given)


@contextmanager
def start_in_time(seconds: float) -> Iterator[None]:
    """While Ray starts: `seconds` for each of its steps; where that fails, or is interrupted, no process stays.

    Ray's limit for its raylet is 30 s, a number in the code of its Node.
    """
    unset = [name for name in _WAITS if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, f"{seconds:.0f}"))  # Ray's processes inherit them
    node_class: Any = ray._private.node.Node
    services: Any = ray._private.services
    begin, get_node = node_class.start_head_processes, services.get_node
    nodes: list[Any] = []

    def begin_and_remember(node: Any) -> None:
        nodes.append(node)
        begin(node)

    def get_node_in_time(*address_and_id: str) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return get_node(*address_and_id)
            except RuntimeError as error:  # not there yet
                _refuse_dead(nodes)
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"Ray did not start on this machine within {seconds:.0f} s (load {os.getloadavg()[0]:.1f}, "
                        f"{os.cpu_count()} cores). Try again when the machine is less busy, or give it longer: "
                        f"{_SECONDS_VARIABLE}={2 * seconds:.0f}"
                    ) from error
            time.sleep(_POLL_SECONDS)

    node_class.start_head_processes, services.get_node = begin_and_remember, get_node_in_time
    try:
        with own_sigterm():
            yield
    except BaseException:
        for node in nodes:
            with suppress(Exception):  # it ends what was started; what was not is no matter
                node.kill_all_processes(check_alive=False, allow_graceful=False)
        raise
    finally:
        node_class.start_head_processes, services.get_node = begin, get_node
        for name in unset:
            del os.environ[name]


def _refuse_dead(nodes: list[Any]) -> None:
    """A raylet that has ended will never answer; its last words say why."""
    for node in nodes:
        if dead := [name for name, _ in node.dead_processes()]:
            logs = Path(node.get_logs_dir_path())
            said = _last_line(logs / f"{dead[0]}.err") or _last_line(logs / f"{dead[0]}.out") or "it left no message"
            raise UnavailableError(f"Ray did not start on this machine: its {dead[0]} ended: {said}")


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return mask(lines[-1].strip()) if lines else ""


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Ray has handlers for SIGTERM, of which the one of its C++ side prints a trace; the command has its own."""
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL  # None: a handler of C, which is Ray's
    utils: Any = ray._private.utils
    set_handler, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = set_handler
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
