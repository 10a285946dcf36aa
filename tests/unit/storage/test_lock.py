"""One run at a time: who is at work, whether it still lives, and who comes next."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.waiting import LIMIT_SECONDS

from bertsum.errors import OutputError
from bertsum.storage import lock as claim
from bertsum.storage.folder import FileInfo, Folder
from bertsum.storage.local_files import replace_file
from bertsum.storage.lock import Claim

HOLDER = """
import sys
from bertsum.storage import lock as claim
from bertsum.storage.lock import Claim
from bertsum.storage.folder import Folder
claim._BEAT_SECONDS = float(sys.argv[2])
with Claim(Folder(sys.argv[1]), print):
    print("begun", flush=True)
    sys.stdin.read()
"""


def hold(output: Path, beat_seconds: float = 10.0) -> "subprocess.Popen[str]":
    """A process that is at work in OUTPUT until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(output), str(beat_seconds)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def names(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "claims").iterdir())


def take(output: Path, said: list[str] | None = None) -> Claim:
    return Claim(Folder(str(output)), (said if said is not None else []).append)


def as_if_elsewhere(output: Path) -> Path:
    """The file of the claim, changed to that of another machine."""
    (path,) = (output / "claims").iterdir()
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"machine": "another", "host": "gpu-7"})
    )
    return path


def test_one_at_a_time_and_then_the_next(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        expected = rf"{tmp_path} is in use: a run on .* \(process {process.pid}\) gave a sign of life at 20\d\d-.* UTC"
        with pytest.raises(OutputError, match=expected), take(tmp_path):
            pass
        assert names(tmp_path) == ["00000001.json"]
        process.communicate("", timeout=LIMIT_SECONDS)
        assert process.returncode == 0
        with take(tmp_path):
            assert names(tmp_path) == ["00000001.json", "00000002.json"]
        with take(tmp_path) as last:
            last.check()
        assert names(tmp_path) == ["00000002.json", "00000003.json"]
    finally:
        process.kill()


@pytest.mark.skipif(
    sys.platform != "linux", reason="a process that nobody has waited for, as Linux shows it"
)
def test_who_was_killed_on_this_machine_is_dead_at_once(tmp_path: Path) -> None:
    process = hold(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, its number still taken
    said: list[str] = []
    with take(tmp_path, said):
        assert names(tmp_path) == ["00000001.json", "00000002.json"]
    process.communicate()
    assert said == []


def test_another_process_with_the_number_of_a_dead_one_is_not_it(tmp_path: Path) -> None:
    with take(tmp_path):
        pass
    path = tmp_path / "claims" / "00000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ended": False, "started": "1"}))
    with take(tmp_path):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_whose_beginning_is_not_shown_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /proc does not show the processes of others, one that exists may be the holder, or have its number."""
    hidden, output = tmp_path / "proc", tmp_path / "out"
    (hidden / "sys/kernel/random").mkdir(parents=True)
    (hidden / "sys/kernel/random/boot_id").write_text(
        Path("/proc/sys/kernel/random/boot_id").read_text()
    )
    (hidden / "self/ns").mkdir(parents=True)
    (hidden / "self/ns/pid").symlink_to(Path("/proc/self/ns/pid").readlink())
    monkeypatch.setattr(claim, "_PROC", hidden)
    monkeypatch.setattr(claim, "DEAD_SECONDS", 3.5)
    process, said = hold(output, beat_seconds=0.5), []
    try:
        with (
            pytest.raises(OutputError, match=rf"is in use: a run on .* \(process {process.pid}\)"),
            take(output, said),
        ):
            pass
        assert ["looking for 3.5 s whether it still lives" in text for text in said] == [True]
        os.kill(process.pid, signal.SIGSTOP)  # there, without a sign of life
        with take(output, said):
            assert len(said) == 2
        process.kill()
        process.communicate()
        with take(output, said):
            pass
        assert len(said) == 2, "it is gone, and its number with it"
    finally:
        process.kill()
        process.communicate()


def test_who_is_elsewhere_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent for the whole time, it is dead; with a sign of life it is not, whatever its clock says."""
    monkeypatch.setattr(claim, "DEAD_SECONDS", 2.5)
    monkeypatch.setattr(claim, "_BEAT_SECONDS", 600.0)
    with take(tmp_path):
        path = as_if_elsewhere(tmp_path)
        values = json.loads(path.read_text()) | {"alive_at": "2020-01-01T00:00:00Z"}

        def give_sign_of_life(_: str) -> None:
            """As soon as somebody begins to look."""
            replace_file(path, json.dumps(values).encode())

        with pytest.raises(
            OutputError, match=r"a run on gpu-7 .* gave a sign of life at 2020-01-01 00:00:00 UTC"
        ):
            Claim(Folder(str(tmp_path)), give_sign_of_life).__enter__()
        said: list[str] = []
        with take(tmp_path, said):
            assert names(tmp_path) == ["00000001.json", "00000002.json"]
        assert ["looking for 2.5 s whether it still lives" in text for text in said] == [True]


def test_signs_of_life_and_who_was_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(claim, "DEAD_SECONDS", 0.0)
    with take(tmp_path) as first:
        path = tmp_path / "claims" / "00000001.json"
        written = path.read_bytes()
        while path.read_bytes() == written:
            first._is_over.wait(0.01)
        first.check()
        monkeypatch.setattr(claim, "_machine", lambda: "another")
        with take(tmp_path):
            first._thread.join(LIMIT_SECONDS)
            with pytest.raises(
                OutputError, match="no sign of life for 0 s, and another has taken over"
            ):
                first.check()
    assert "00000002.json" in names(tmp_path)
    assert json.loads((tmp_path / "claims" / "00000002.json").read_text())["ended"] is True


@pytest.mark.parametrize("runs", [1, 2, 3, 5])
def test_others_that_begin_and_end_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    """While a run lists the claims, others come and go and the last one stays: a listing may show what was there all
    the time and no more, and another one later."""
    with take(tmp_path):
        pass
    list_names, at_work = Folder.list_names, ExitStack()

    def slow(folder: Folder, below: str = "", also: str = "") -> dict[str, FileInfo]:
        monkeypatch.setattr(Folder, "list_names", list_names)
        before = list_names(folder, below, also)
        for _ in range(runs):
            at_work.close()
            at_work.enter_context(take(tmp_path))
        after = list_names(folder, below, also)
        return {name: info for name, info in before.items() if name in after}

    monkeypatch.setattr(Folder, "list_names", slow)
    with at_work:
        with (
            pytest.raises(OutputError, match=r"is in use: a run on .* gave a sign of life"),
            take(tmp_path),
        ):
            pass
        assert f"{runs + 1:08d}.json" == names(tmp_path)[-1]
        at_work.pop_all().close()
    with take(tmp_path) as last:
        last.check()


def test_of_many_that_find_a_dead_one_one_begins(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.kill()
    process.communicate()
    barrier, begun, refused, leave = threading.Barrier(8), [], [], threading.Event()

    def run() -> None:
        barrier.wait(LIMIT_SECONDS)
        try:
            with take(tmp_path) as mine:
                begun.append(mine)
                leave.wait(LIMIT_SECONDS)
        except OutputError:
            refused.append(1)
            if len(refused) == 7:
                leave.set()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
    assert (len(begun), len(refused)) == (1, 7)


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "00000001.json").write_text("{")
    with pytest.raises(OutputError, match=r"claims/00000001\.json is damaged"), take(tmp_path):
        pass
