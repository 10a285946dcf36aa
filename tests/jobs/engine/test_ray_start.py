"""Starting Ray where time, home or directories are short; what workers import; and what a failed start is worth."""

import errno
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from unittest import mock

import pytest
import ray
from helpers.job_helpers import documents, read_result, write
from helpers.waiting import LIMIT_SECONDS

from bertsum.checkpoints.config import model_digest
from bertsum.config import SummarizerConfig
from bertsum.errors import ConfigError, IncompleteError, ResourceError, UnavailableError
from bertsum.runs.input import list_input
from bertsum.runs.plan import Terms, make_plan
from bertsum.runs.records import Job
from bertsum.runs.units import Limits
from bertsum.storage.folder import Folder
from jobs import nightly
from jobs.engine import ray_workarounds
from jobs.engine.cluster import Shape, connected
from jobs.engine.remote_errors import explain, last_words
from jobs.engine.unit_maker import ReplicaSpec
from jobs.engine.waves import Listener, Replicas, run_waves
from jobs.remote.job_server import JobServer
from jobs.terminal.progress import Display

ROOT = Path(__file__).parents[3]


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a process without the Ray of the other tests."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return monkeypatch


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (Exception("The current node timed out during startup."), UnavailableError, 1),
        (RuntimeError("Failed to start GCS"), UnavailableError, 1),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/ray/x"), UnavailableError, 1),
        (PermissionError(errno.EACCES, "Permission denied", "/home/x/.ray"), ResourceError, 2),
    ],
)
def test_what_a_failed_start_is_worth(
    raised: Exception, kind: type[ResourceError], code: int, no_ray: pytest.MonkeyPatch
) -> None:
    no_ray.setattr(ray, "init", mock.Mock(side_effect=raised))
    with (
        pytest.raises(ResourceError, match="Ray did not start on this machine") as caught,
        connected("local"),
    ):
        pytest.fail("connected")
    assert (type(caught.value), caught.value.exit_code) == (kind, code)
    assert str(getattr(raised, "filename", None) or raised).rstrip(".") in str(caught.value)


def test_a_night_whose_ray_is_slow_has_failed_and_is_not_wrong(
    no_ray: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(documents(3), tmp_path / "in" / "dt=2026-11-01" / "a.parquet")
    no_ray.setattr(
        ray, "init", mock.Mock(side_effect=Exception("The current node timed out during startup."))
    )
    command = [
        tmp_path / "in",
        tmp_path / "out",
        "--date",
        "2026-11-01",
        "--model",
        checkpoint,
        "--json",
    ]
    assert nightly.main([*map(str, command), "--address", "local"]) == 1
    night = json.loads(capsys.readouterr().out)
    assert night["state"] == "failed"
    assert "another try" in night["error"]


@pytest.mark.parametrize(
    ("load", "given", "expected"),
    [(0.5, None, 120), (8.0, None, 480), (1000.0, None, 900), (8.0, "7", 7), (0.0, "3600", 3600)],
)
def test_the_time_that_ray_has(
    load: float, given: str | None, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.delenv("RAY_raylet_start_wait_time_s", raising=False)
    if given is not None:
        monkeypatch.setenv("RAY_raylet_start_wait_time_s", given)
    assert ray_workarounds.start_seconds() == expected


@pytest.mark.parametrize("given", ["", "nan", "-1", "0", "1.5", "soon"])
def test_a_time_that_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", given)
    with pytest.raises(
        ConfigError, match="RAY_raylet_start_wait_time_s is a whole number of seconds"
    ):
        ray_workarounds.start_seconds()


def test_a_raylet_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives up after 30 s; a raylet that has ended is not waited for at all."""
    answers = mock.Mock(side_effect=[RuntimeError("not there")] * 3 + [{"node": 1}])
    monkeypatch.setattr(ray._private.services, "get_node", answers)
    with ray_workarounds.start_in_time(60):
        assert ray._private.services.get_node("address", "id") == {"node": 1}
    assert ray._private.services.get_node is answers
    answers.side_effect = RuntimeError("not there")
    with (
        pytest.raises(
            UnavailableError, match=r"did not start .* within 1 s .* RAY_raylet_start_wait_time_s=2"
        ),
        ray_workarounds.start_in_time(1),
    ):
        ray._private.services.get_node("address", "id")


def test_a_directory_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    short = Path(tempfile.mkdtemp(dir="/tmp", prefix="r"))
    monkeypatch.setenv("TMPDIR", str(short))
    assert ray_workarounds.temp_dir() == f"{short}/ray"
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 20)))
    assert ray_workarounds.temp_dir() == "/tmp/ray"
    monkeypatch.setattr(ray_workarounds, "_PLAIN_DIRECTORY", "/proc/ray")
    with pytest.raises(
        ResourceError, match=r"longlong.*too long for a socket; .*/proc/ray.* Set RAY_TMPDIR to one"
    ):
        ray_workarounds.temp_dir()
    shutil.rmtree(short)


def test_a_full_disk_may_be_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(tempfile, "TemporaryFile", mock.Mock(side_effect=full))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    with pytest.raises(UnavailableError, match="No space left on device: /tmp/ray"):
        ray_workarounds.temp_dir()


def test_the_path_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout must be told to them; what is installed they have, and it must not come before Python's own."""
    assert ray_workarounds.code_path() == [str(ROOT)]
    monkeypatch.setattr(
        ray_workarounds,
        "__file__",
        f"{sysconfig.get_path('purelib')}/jobs/engine/ray_workarounds.py",
    )
    assert ray_workarounds.code_path() == []


TOKENS = """
import os
from jobs.engine.ray_workarounds import local_token

with local_token():
    first = os.environ["RAY_AUTH_TOKEN"]
assert len(first) == 64
assert "RAY_AUTH_TOKEN" not in os.environ
with local_token():
    assert os.environ["RAY_AUTH_TOKEN"] != first
os.environ["RAY_AUTH_TOKEN"] = "of the user"
with local_token():
    assert os.environ["RAY_AUTH_TOKEN"] == "of the user"
"""


def test_a_token_of_its_own_for_as_long_as_ray_runs() -> None:
    """In a process of its own: the Ray of the other tests would lose its token."""
    environment = {name: value for name, value in os.environ.items() if "RAY_AUTH" not in name}
    command = [sys.executable, "-c", TOKENS]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, timeout=LIMIT_SECONDS)


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("127.0.0.1:1", UnavailableError, "Connection refused"),
        ("[::1]:1", UnavailableError, "refused|Cannot assign|not supported"),
        (
            "no-such-host.invalid:6379",
            ResourceError,
            "no Ray at --address no-such-host.invalid:6379",
        ),
        ("127.0.0.1:99999", ResourceError, "a port is at most 65535"),
    ],
)
def test_an_address_that_does_not_answer(
    address: str, kind: type[ResourceError], message: str, no_ray: pytest.MonkeyPatch
) -> None:
    if "invalid" in address:  # a machine without a name server would say "try again"
        unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        no_ray.setattr(socket, "create_connection", mock.Mock(side_effect=unknown))
    with pytest.raises(ResourceError, match=message) as caught, connected(address):
        pytest.fail("connected")
    assert type(caught.value) is kind


def test_a_driver_that_is_taken_in_at_the_second_try(
    no_ray: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = ConnectionAbortedError("Initialization failure from server:\nbusy")
    no_ray.setattr(socket, "create_connection", mock.Mock())
    no_ray.setattr(ray, "init", mock.Mock(side_effect=[refused, None]))
    with connected("ray://head:10001"):
        pass
    assert capsys.readouterr().err == (
        "the Ray at --address ray://head:10001 did not take this driver in: "
        "Initialization failure from server: busy; trying again\n"
    )


def test_a_job_server_that_does_not_answer_may_answer_later() -> None:
    with pytest.raises(
        Exception, match=r"no answer from http://127\.0\.0\.1:1: .*refused"
    ) as caught:
        JobServer("http://127.0.0.1:1")
    assert caught.value.exit_code == 1  # type: ignore[attr-defined]


def test_the_cause_is_the_end_of_a_remote_traceback() -> None:
    text = (
        "The actor died because of an error raised in its creation task, \x1b[36mray::MapWorker(MapBatches(Replica))"
        ".__init__()\x1b[39m (pid=1, ip=127.0.0.1)\n  At least one of the input arguments could not be computed:\n"
        "ray.exceptions.RaySystemError: System error: No module named 'x'\n"
        "traceback: Traceback (most recent call last):\n   ^^^^\nModuleNotFoundError: No module named 'x'"
    )
    assert last_words(text) == "ModuleNotFoundError: No module named 'x'"
    died = "The actor died unexpectedly before finishing this task.\n\tclass_name: A\n\tpid: 3\nThe node has died."
    assert (
        last_words(died)
        == "The actor died unexpectedly before finishing this task. The node has died."
    )
    assert explain(ValueError(died), "Ray gave up", "it resumes").endswith("has died.; it resumes")


def test_an_error_of_the_system_keeps_its_path(no_ray: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_ray.setattr(
        ray,
        "init",
        mock.Mock(side_effect=FileNotFoundError(errno.ENOENT, "No such file", "/proc/nohome")),
    )
    with pytest.raises(ResourceError, match="No such file: /proc/nohome"), connected("local"):
        pytest.fail("connected")


@pytest.mark.usefixtures("cluster")
def test_replicas_that_cannot_start_say_why(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that only the driver has: every replica dies at once, and another try would end the same way."""
    (tmp_path / "only_here.py").write_text(
        "from jobs.engine.work import SummarizeWork\n\n\nclass Work(SummarizeWork):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    only_here = importlib.import_module("only_here")
    write(documents(5), tmp_path / "in" / "a.parquet")
    job = Job(str(checkpoint), model_digest(checkpoint), SummarizerConfig())
    work = only_here.Work(str(checkpoint), job, job.config, 4096)
    uris = {"input_uri": str(tmp_path / "in"), "output_uri": str(tmp_path / "out")}
    spec = ReplicaSpec(**uris, job=job, work=work, num_threads=1, num_gpus=0.0)
    terms = Terms(limits=Limits(100, 2**20), check=work.check)
    plan = make_plan(list_input(spec.input_uri), Folder(spec.output_uri), job, terms)
    replicas = Replicas(spec=spec, shape=Shape(1, 1, 0), max_attempts=1, timeout_seconds=60)
    with pytest.raises(IncompleteError) as caught, Display(5, 0) as display:
        run_waves(plan.units, replicas, display, mock.Mock(spec=Listener))
    assert str(caught.value) == (
        "Ray gave up: a worker could not start: ModuleNotFoundError: No module named 'only_here'"
    )


def install(directory: Path) -> Path:
    """Copies of both packages where `pip install` puts them, in a path of their own; its Python command."""
    site = directory / "lib" / "site-packages"
    for package in ("bertsum", "jobs"):
        shutil.copytree(
            ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    command = directory / "bertsum"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(1, {str(site)!r})\n"
        "from jobs.cli import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    return command


@pytest.mark.slow
def test_what_lies_in_the_working_directory_is_not_imported(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Modules of the user with the names of ours, of libraries and of Python's own."""
    write(documents(10), tmp_path / "in" / "a.parquet")
    command, project = install(tmp_path / "venv"), tmp_path / "project"
    for package in ("jobs", "bertsum"):
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").write_text(
            "raise SystemExit('a package of the user')\n"
        )
    for module in ("ray", "torch", "json", "typing", "pyarrow", "sitecustomize"):
        (project / f"{module}.py").write_text("raise SystemExit('a module of the user')\n")
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(
        command.parent / "lib" / "site-packages"
    )  # as `pip install --target` has it
    done = subprocess.run(
        [command, "summarize", "../in", "../out", "--model", checkpoint],
        cwd=project, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_result(tmp_path / "out")["id"].to_pylist() == list(range(10))


UNKNOWN_USER = ["unshare", "--user", "--map-user=12345"]


def can_be_another() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*UNKNOWN_USER, "true"], check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not can_be_another(), reason="needs user namespaces")
@pytest.mark.parametrize("home", ["/proc/nohome", None])
def test_a_user_without_a_home(home: str | None, checkpoint: Path, tmp_path: Path) -> None:
    """As on OpenShift: a number for a user, in no list of users; and a TMPDIR that is too long for sockets."""
    write(documents(10), tmp_path / "in" / "a.parquet")
    (long := tmp_path / ("long" * 20)).mkdir()
    dropped = ("HOME", "RAY_ADDRESS", "USER", "LOGNAME", "RAY_TMPDIR")
    variables = {key: value for key, value in os.environ.items() if key not in dropped} | {
        "TMPDIR": str(long)
    }
    command = [
        *UNKNOWN_USER,
        sys.executable,
        "-m",
        "jobs.summarize",
        tmp_path / "in",
        tmp_path / "out",
    ]
    done = subprocess.run(
        [*command, "--model", checkpoint],
        cwd=ROOT, env=variables | ({} if home is None else {"HOME": home}),
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_result(tmp_path / "out").num_rows == 10
