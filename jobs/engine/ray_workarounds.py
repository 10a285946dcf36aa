"""Every use of a private name of Ray by the engine, and every switch that it has no option for.

Each docstring names the version in which the workaround was seen to be needed, and what would show
that it can go. With a new version of Ray, try the tests with each of them taken out.
"""

import errno
import logging
import os
import secrets
import signal
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import ray
import ray._common.utils
import ray._private.auto_init_hook
import ray._private.node
import ray._private.services
import ray._private.utils
import ray._raylet
from ray._private import ray_constants
from ray.job_config import JobConfig

from bertsum.errors import ConfigError, ResourceError, UnavailableError
from bertsum.masking import describe, mask

_Untyped: TypeAlias = (
    Any  # a module or class of Ray that has no types, or whose names are assigned to
)

_START_SECONDS = "RAY_raylet_start_wait_time_s"  # Ray's own variable; its C++ side reads it, too
_SECONDS_AT_REST = 120.0  # on a machine with no more work than cores; a start takes 3 to 10 s there
_MOST_SECONDS = 900.0
_POLL_SECONDS = 0.2
_IGNORE_SECONDS = 0.005  # for so long SIGTERM may have its default action while Ray ends
# Ray waits for more at a start: its GCS (30 s by default), and a worker's first message (60 s).
_START_LIMITS = (
    _START_SECONDS,
    "RAY_gcs_server_port_wait_time_s",
    "RAY_worker_register_timeout_seconds",
)
# A socket's path has at most 107 bytes (103 on macOS). Below the directory Ray appends a session
# with date, time and process id (43 bytes where that has seven digits) and
# `/sockets/plasma_store` (21).
_MOST_DIRECTORY_BYTES = (103 if sys.platform == "darwin" else 107) - 64
_PLAIN_DIRECTORY = "/tmp/ray"
_AUTH_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_QUIET_ENVIRONMENT: Mapping[str, str] = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning about replicas without GPUs
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else the C++ side prints to the user's terminal
}


class _Node(Protocol):
    """What is used of Ray's `Node`, the processes of a Ray on this machine."""

    def dead_processes(self) -> list[tuple[str, object]]: ...

    def get_logs_dir_path(self) -> str: ...

    def kill_all_processes(self, *, check_alive: bool, allow_graceful: bool) -> None: ...


class CodePathConfig(JobConfig):
    """Lets workers import what this process imports.

    Ray puts the driver's working directory before everything else in the path of its workers: a
    folder `jobs` or a file `json.py` of the user would be imported in place of ours, or of
    Python's.

    Seen in Ray 2.60; needed until a user's `json.py` in the working directory no longer breaks
    a worker.
    """

    def _serialize(self) -> str:
        config: _Untyped = self
        # with a working_dir the code came with a submission, and is in the path of its workers
        if not config._runtime_env_has_working_dir():
            self._py_driver_sys_path = code_path()
        return super()._serialize()


def code_path() -> list[str]:
    """Return the directory of our code for a checkout.

    Return nothing for an installation, which is in the path of workers anyway.
    """
    root = Path(__file__).resolve().parents[2]
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    is_installed = root in installed or root.name in ("site-packages", "dist-packages")
    return [] if is_installed else [str(root)]


def quieten() -> None:
    """Turn off Ray's hints and keep secrets out of what it shows.

    The hints are for people who write Ray programs; users of a command would look for a mistake
    of theirs in them.

    Seen in Ray 2.60; needed until `ray.init` has an option for each of the lines below.
    """
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger in ("ray", "ray.data"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\.")
    # A thread that outlives its Ray must not start or join another one with its next call.
    vars(ray._private.auto_init_hook)["enable_auto_connect"] = False
    # The raylet prints many lines about a dead worker; the job says it in one.
    vars(ray._private.worker)["_worker_logs_enabled"] = False
    # Dashboard and API show the entry point of a job, which is the command line with all secrets.
    vars(ray._private.utils)["get_entrypoint_name"] = lambda: mask(" ".join(sys.orig_argv))


def listen_on_loopback(only: bool) -> None:
    """Let a Ray that is started next listen on 127.0.0.1 only, or on the machine's address.

    With the machine's address it serves everybody who can reach it. Ray's switch for this is
    meant for Windows and macOS, where loopback is the default.

    Seen in Ray 2.60; needed until `ray.init` has an option.
    """
    ray_constants.ENABLE_RAY_CLUSTER = not only


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what is written to file descriptor 2 while Ray starts.

    Ray's C++ side prints there that it was told to be quiet; real problems are exceptions.

    Seen in Ray 2.60; needed until a start with `RAY_BACKEND_LOG_LEVEL=fatal` prints nothing.
    """
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def prepare_ray_data() -> None:
    """Import ray.data so that it asks for no nodes and says nothing. Call it before any other import.

    It reads its thresholds, and sets the levels of its loggers, when it is imported.

    Each replica that waits for a node is a request already, and names its type of GPU. Ray Data
    adds requests ten seconds after the start, which name CPUs and GPUs but no type: where a
    third A10G cannot be had, an H100 is started, on which no replica may run. It asks when the
    used share of the cluster, from 0 to 1 or a little more, reaches a threshold.

    Seen in Ray 2.60; needed until these requests name the type of GPU, or `ActorPoolStrategy`
    can turn them off.
    """
    for resource in ("CPU", "GPU", "MEMORY", "OBJECT_STORE_MEMORY"):
        # a threshold that no share reaches
        name = f"RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_{resource}_UTIL_THRESHOLD"
        os.environ[name] = "1e9"
    import ray.data

    logging.getLogger(ray.data.__name__).setLevel(logging.CRITICAL)


_iteration = threading.local()  # `is_over`: of the execution that this thread iterates over


class EndsWhenOver:
    """A callback that ends an execution of Ray Data from another thread.

    It goes into `DataContext.custom_execution_callback_classes`. The iteration raises
    CancelledError then, and the threads of Ray Data have ended: one that works while Ray ends
    prints a traceback, or ends the process with 1.

    Ray pickles the class with the context and makes the instance, so that the event comes from the
    thread that iterates.

    Seen in Ray 2.60; needed until an iteration can be closed from another thread, and ends its
    actors then.
    """

    @staticmethod
    def set_event(is_over: threading.Event) -> None:
        """End what the calling thread iterates over next, once `is_over` is set."""
        _iteration.is_over = is_over

    def before_execution_starts(self, executor: object) -> None:
        """Called by the thread that iterates."""
        self._is_over: threading.Event = _iteration.is_over

    def on_execution_step(self, executor: _Untyped) -> None:
        """Called by a thread of Ray Data, about ten times a second."""
        if not self._is_over.is_set():
            return
        stats: _Untyped = ray.data._internal.stats  # which is imported by now

        # Ray Data only forgets its actors. The traceback of the error refers to them, and is part
        # of a cycle: they would keep their CPUs until a collection of garbage, which a process that
        # waits for these CPUs never comes to.
        for operator in executor._topology:
            operator.shutdown(stats.Timer(), force=True)
        raise CancelledError("the run that wanted these reports is over")

    def after_execution_succeeds(self, executor: object) -> None:
        """Part of the protocol."""

    def after_execution_fails(self, executor: object, error: Exception) -> None:
        """Part of the protocol."""


@contextmanager
def local_token() -> Iterator[None]:
    """Give the Ray of this command a token of its own, in memory only, for as long as it runs.

    Ray would write one to ~/.ray/auth_token, and not start where there is no home that can be
    written to. What the user has set (RAY_AUTH_MODE, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH) stays
    in force.

    Seen in Ray 2.60; needed until a local Ray starts without a home directory.
    """
    if any(name in os.environ for name in _AUTH_VARIABLES):
        yield
        return
    raylet: _Untyped = ray._raylet  # a C extension
    loader = raylet.AuthenticationTokenLoader.instance()
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    loader.reset_cache()
    try:
        yield
    finally:
        # Ray has set RAY_AUTH_MODE itself
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
            os.environ.pop(name, None)
        # Both remember the token and the mode; a cluster that is joined next has others.
        loader.reset_cache()
        raylet.Config.initialize("")


def temp_dir() -> str:
    """Return a directory for Ray's sockets and logs: Ray's choice, or else /tmp/ray.

    Ray chooses by RAY_TMPDIR, TMPDIR, or /tmp.

    Seen in Ray 2.60; needed until Ray refuses a directory that is too long, full or read-only
    with an error that says so.

    Raises ResourceError where no directory is short enough for a socket and can be written to,
    and UnavailableError where a disk is full.
    """
    # Ray's functions, so that the directory is the one that Ray itself would take
    utils: _Untyped = ray._common.utils
    default: str = os.path.abspath(utils.get_default_ray_temp_dir())  # noqa: PTH100 - a string
    reasons = []
    is_full = False
    for directory in dict.fromkeys([default, _PLAIN_DIRECTORY]):
        if len(os.fsencode(directory)) > _MOST_DIRECTORY_BYTES:
            limit = f"longer than {_MOST_DIRECTORY_BYTES} bytes, too long for a socket"
            reasons.append(f"{directory} is {limit}")
            continue
        try:
            utils.try_to_create_directory(directory)  # for all users of the machine
            # 1 MiB is written, since on a full disk an empty file can still be made
            with tempfile.TemporaryFile(dir=directory) as probe:
                probe.write(bytes(2**20))
        except OSError as error:
            is_full = is_full or error.errno in (errno.ENOSPC, errno.EDQUOT)
            reasons.append(describe(error) if error.filename else f"{describe(error)}: {directory}")
        else:
            return directory
    kind = UnavailableError if is_full else ResourceError
    raise kind(
        f"there is no directory for Ray's sockets and logs: {'; '.join(map(mask, reasons))}. Set "
        f"RAY_TMPDIR to one of at most {_MOST_DIRECTORY_BYTES - len('/ray')} bytes that can be "
        "written to"
    )


def start_seconds() -> float:
    """Return the seconds that each step of Ray's start may take.

    They are more where processes wait for a core. RAY_raylet_start_wait_time_s overrides them.
    Raises ConfigError where that is no whole number of seconds.
    """
    given = os.environ.get(_START_SECONDS)
    if given is None:
        processes_per_core = os.getloadavg()[0] / (os.cpu_count() or 1)
        return min(_MOST_SECONDS, _SECONDS_AT_REST * max(1.0, processes_per_core))
    if not given.isascii() or not given.isdigit() or not int(given):
        raise ConfigError(
            f"{_START_SECONDS} is a whole number of seconds, at least 1, not {given!r}"
        )
    return float(given)


@contextmanager
def start_in_time(seconds: float) -> Iterator[None]:
    """Give each step of Ray's start so many seconds. Leave no process of a start that fails.

    Ray waits 30 s for its raylet, a number in the code of its `Node`.

    Seen in Ray 2.60; needed until that limit is an option and an interrupted `ray.init` ends
    the processes that it started.

    Raises UnavailableError when the time is over, or when a process of Ray has ended.
    """
    unset = [name for name in _START_LIMITS if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, f"{seconds:.0f}"))  # Ray's processes inherit them
    node_class: _Untyped = ray._private.node.Node
    services: _Untyped = ray._private.services
    start_head, get_node = node_class.start_head_processes, services.get_node
    nodes: list[_Node] = []

    def start_head_and_remember(node: _Node) -> None:
        nodes.append(node)
        start_head(node)

    # for the time of this start only: the process may join another Ray later
    node_class.start_head_processes = start_head_and_remember
    services.get_node = _patient(get_node, nodes, seconds)
    try:
        with keep_sigterm_handler():
            yield
    except BaseException:
        for node in nodes:
            with suppress(Exception):  # a process that was not started yet cannot be killed
                node.kill_all_processes(check_alive=False, allow_graceful=False)
        raise
    finally:
        node_class.start_head_processes, services.get_node = start_head, get_node
        for name in unset:
            del os.environ[name]


def _patient(
    get_node: Callable[..., object], nodes: list[_Node], seconds: float
) -> Callable[..., object]:
    """Return a `get_node` that asks again until the raylet answers, has ended or is too late."""

    def get_node_in_time(*address_and_id: str) -> object:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return get_node(*address_and_id)
            except RuntimeError as error:  # the raylet has not registered yet
                _refuse_dead(nodes)
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"Ray did not start on this machine within {seconds:.0f} s (load "
                        f"{os.getloadavg()[0]:.1f}, {os.cpu_count()} cores). Try again when the "
                        f"machine is less busy, or give it longer: {_START_SECONDS}="
                        f"{2 * seconds:.0f}"
                    ) from error
            time.sleep(_POLL_SECONDS)

    return get_node_in_time


def _refuse_dead(nodes: list[_Node]) -> None:
    """Raise UnavailableError with the last log line of a process of Ray that has ended."""
    for node in nodes:
        dead = node.dead_processes()
        if dead:
            name, _ = dead[0]
            logs = Path(node.get_logs_dir_path())
            last_line = _last_line(logs / f"{name}.err") or _last_line(logs / f"{name}.out")
            message = last_line or "it left no message"
            raise UnavailableError(
                f"Ray did not start on this machine: its {name} ended: {message}"
            )


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return mask(lines[-1].strip()) if lines else ""


@contextmanager
def keep_sigterm_handler() -> Iterator[None]:
    """Keep the command's handler for SIGTERM while Ray starts.

    Ray sets two handlers, and the one of its C++ side prints a trace.

    Seen in Ray 2.60; needed until `ray.init` leaves the handlers of its process alone.
    """
    # None stands for a handler of C, which is Ray's
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    utils: _Untyped = ray._private.utils
    set_handler = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = set_handler
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def shut_down() -> None:
    """End Ray, which takes seconds, and ignore Ctrl-C and SIGTERM: else its processes would stay.

    Meanwhile Ray's C++ side gives SIGTERM its default action, which ends the process. So Ray ends
    in another thread, and this one ignores both signals again and again.

    Seen in Ray 2.60; needed until `ray.shutdown` leaves the handlers of its process alone.
    """
    if threading.current_thread() is not threading.main_thread():
        ray.shutdown()
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        with ThreadPoolExecutor(1) as executor:
            ending = executor.submit(ray.shutdown)
            while not ending.done():
                wait([ending], timeout=_IGNORE_SECONDS)
                for number in numbers:
                    signal.signal(number, signal.SIG_IGN)
            ending.result()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
