"""Local disks that are full, read-only or without hard links, and documents that crash the process that reads them."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from helpers.job_helpers import (
    descendants,
    documents,
    make_training,
    read_result,
    result_files,
    start_summarize,
    write,
)
from helpers.waiting import LIMIT_SECONDS

from bertsum.storage import local_files as atomic_files
from bertsum.storage.folder import Folder
from bertsum.training.state import StateStore

pytestmark = [pytest.mark.faults]

HOOKS = Path(__file__).parent / "hooks"


def own_namespace() -> bool:
    """Whether a process may mount a small disk that only it sees; containers often forbid it."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True).returncode == 0
    )


DISK = """
set -u
mount -t tmpfs -o size=200k none "$1"
shift
"$@"; echo "full: exit $?"
find "$DISK" -name '.bertsum*' | sed 's/^/left: /'
mount -o remount,size=100m "$DISK"
"$@"; echo "mended: exit $?"
mount -o remount,ro "$DISK"
rm -rf "$COPY"; cp -r "$DISK" "$COPY"
"$@" --set rows_per_unit=100 --sentences 1 --on-existing replace; echo "read-only: exit $?"
"""


@pytest.mark.skipif(
    not own_namespace(), reason="no user namespaces here, so no disk of 200 kB without privileges"
)
def test_a_disk_that_is_full_then_mended_then_read_only(tmp_path: Path, checkpoint: Path) -> None:
    source, disk, copy = tmp_path / "in.parquet", tmp_path / "disk", tmp_path / "copy"
    write(documents(2000), source, row_group_size=100)
    disk.mkdir()
    job = [
        sys.executable,
        "-m",
        "jobs.summarize",
        source,
        disk / "out",
        "--model",
        checkpoint,
        "--set",
    ]
    command = ["unshare", "-rm", "bash", "-c", DISK, "bash", disk, *job, "rows_per_unit=100"]
    environment = os.environ | {"DISK": str(disk), "COPY": str(copy)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=environment,
        timeout=LIMIT_SECONDS,
    )
    said = done.stdout + done.stderr
    assert "full: exit 1" in said, said
    assert "No space left on device" in said
    assert "left:" not in said
    assert "mended: exit 0" in said
    assert "read-only: exit 1" in said
    assert "Read-only file system" in said
    assert "Traceback" not in said
    assert read_result(copy / "out")["id"].to_pylist() == list(range(2000))
    assert (copy / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize("crash", [170, 210])
def test_a_document_that_crashes_its_process_is_one_error_row(
    tmp_path: Path, checkpoint: Path, crash: int
) -> None:
    """SIGSEGV in native code, each time, also while its unit is prepared ahead and another one is computed.

    With the share of errors that the configuration allows, and with less.
    """
    table = documents(400)
    texts = table["document"].to_pylist()
    texts[crash] = "The zebra crash. The cat sleeps."
    write(table.set_column(1, "document", [texts]), tmp_path / "in" / "a.parquet")
    variables = {"PYTHONPATH": f"{HOOKS}:{os.environ.get('PYTHONPATH', '')}"}
    command = (
        tmp_path / "in",
        tmp_path / "out",
        "--model",
        checkpoint,
        "--set",
        "rows_per_unit=200",
    )
    job = start_summarize(*command, "--set", "max_error_fraction=0.001", variables=variables)
    printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 1, printed
    assert "1 of 400 rows have status `error`, more than max_error_fraction=0.001" in printed
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    before = {
        name: (tmp_path / "out" / name).stat().st_mtime_ns
        for name in result_files(tmp_path / "out")
    }
    job = start_summarize(*command, variables=variables)
    printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 0, printed
    assert before == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before}
    result = read_result(tmp_path / "out").to_pylist()
    assert [row["id"] for row in result] == list(range(400))
    assert [row["id"] for row in result if row["status"] != "ok"] == [crash]
    assert "died each time" in result[crash]["error"]


def test_batches_that_memory_does_not_hold_cost_no_row(tmp_path: Path, checkpoint: Path) -> None:
    """SIGKILL in the forward pass, each time that a batch is too big; no document is blamed for it."""
    write(documents(300), tmp_path / "in" / "a.parquet")
    variables = {
        "PYTHONPATH": f"{HOOKS}:{os.environ.get('PYTHONPATH', '')}",
        "BERTSUM_TEST_MAX_TOKENS": "2000",
    }
    job = start_summarize(
        tmp_path / "in", tmp_path / "out", "--model", checkpoint, variables=variables
    )
    printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 0, printed
    assert "starts" in printed or "died" in printed, printed
    result = read_result(tmp_path / "out")
    assert result["id"].to_pylist() == list(range(300))
    assert set(result["status"].to_pylist()) == {"ok"}
    assert sum(result["num_tokens"].to_pylist()) > 3 * 2000


def test_the_clock_jumps(
    tmp_path: Path, checkpoint: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    """A day ahead and then two days back, for the driver, the replicas and Ray alike, while units are at work."""
    spec = importlib.util.find_spec("libfaketime")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    library = Path(spec.submodule_search_locations[0]) / "vendor/libfaketime/src/libfaketime.so.1"
    clock = tmp_path / "clock"
    clock.write_text("+86400")
    variables = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    tell = [sys.executable, "-c", "import time; print(time.time())"]
    told = subprocess.run(
        tell, capture_output=True, env=os.environ | variables, timeout=LIMIT_SECONDS, check=True
    ).stdout
    assert float(told) - time.time() > 80_000, "the clock does not jump"
    clock.write_text("+0")
    write(documents(3000), tmp_path / "in" / "a.parquet", row_group_size=100)
    command = (tmp_path / "in", "--model", checkpoint, "--set", "rows_per_unit=100")
    outputs = tmp_path / "undisturbed", tmp_path / "out"
    for output, more in zip(outputs, ({}, variables), strict=True):
        jobs.append(start_summarize(command[0], output, *command[1:], variables=more))
        for num_files, jump in ((1, "+86400"), (4, "-172800")):
            _wait_for_files(output, num_files, jobs[-1])
            clock.write_text(jump)
        printed, _ = jobs[-1].communicate(timeout=LIMIT_SECONDS)
        assert jobs[-1].returncode == 0, printed
        clock.write_text("+0")
    before, after = (
        {name: (output / name).read_bytes() for name in result_files(output)} for output in outputs
    )
    assert len(before) == 30
    assert before == after
    assert (outputs[1] / "_SUCCESS").exists()


def _wait_for_files(output: Path, number: int, job: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(result_files(output)) < number:
        assert time.monotonic() < deadline, f"not {number} files in {output}"
        assert job.poll() is None, job.stdout and job.stdout.read()
        time.sleep(0.02)


def test_a_local_run_listens_on_loopback_only(
    tmp_path: Path, checkpoint: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    write(documents(2000), tmp_path / "in" / "a.parquet", row_group_size=100)
    command = (
        tmp_path / "in",
        tmp_path / "out",
        "--model",
        checkpoint,
        "--set",
        "rows_per_unit=100",
    )
    jobs.append(start_summarize(*command))
    _wait_for_files(tmp_path / "out", 1, jobs[0])
    sockets = listening(jobs[0])
    printed, _ = jobs[0].communicate(timeout=LIMIT_SECONDS)
    assert jobs[0].returncode == 0, printed
    assert len(sockets) > 3, "Ray listens somewhere"
    assert not_on_loopback(sockets) == []


def test_training_here_listens_on_loopback_only(
    tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    """Two workers, who have to find each other."""
    config = make_training(tmp_path, epochs=40, checkpoint_every_minutes=0)
    command = [
        sys.executable,
        "-m",
        "jobs.train",
        config,
        tmp_path / "out",
        "--set",
        "resources.replicas=2",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with (tmp_path / "log").open("w+") as log:
        job = subprocess.Popen(
            [*map(str, command), "--set", "resources.num_cpus=1"],
            stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        jobs.append(job)
        deadline = time.monotonic() + LIMIT_SECONDS
        while StateStore(Folder(str(tmp_path / "out")), 2).latest() is None:
            assert job.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, "no step"
            time.sleep(0.05)
        of_ray, found = listening(job), listening(job, "RayTrainWorker")
        job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 0, (tmp_path / "log").read_text()
    assert len(found) > 2, "the workers of Ray and of torch listen somewhere"
    assert not_on_loopback(of_ray) == []


def listening(job: "subprocess.Popen[str]", command: str = "") -> list[object]:
    """Addresses at which the processes of a job listen, or those whose command line holds `command`."""
    own = {pid for pid, line in [(job.pid, ""), *descendants(job.pid)] if command in line}
    found = [
        found
        for found in psutil.net_connections("tcp")
        if found.status == "LISTEN" and found.pid in own
    ]
    return [socket.laddr for socket in found]


def not_on_loopback(sockets: list[object]) -> list[object]:
    return [
        found for found in sockets if not ip_address(found.ip.removeprefix("::ffff:")).is_loopback
    ]


def test_without_hard_links_files_still_appear_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(atomic_files.os, "link", link)
    assert not Folder(str(tmp_path)).can_create_exclusively()
    folder = Folder(str(tmp_path), exclusive=False)
    assert folder.create_exclusive("dt=1/unit", b"first")
    assert not folder.create_exclusive("dt=1/unit", b"second")
    assert folder.read_bytes("dt=1/unit") == b"first"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["unit"]
