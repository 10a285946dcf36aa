"""One run at a time in an OUTPUT: `claims/NUMBER.json` says who is at work there, and when it last
gave a sign of life.

The highest number counts. Who finds its run ended, or dead, creates the next number, exclusively:
of several that do so at once one begins. A listing may miss what comes or goes while it is read, so
the claim before the current one stays: every listing shows one of the two, and the number after
either of them is taken.

A run on this machine is dead when its process is gone. A run elsewhere is dead when its file stays
as it is for `DEAD_SECONDS`, by this machine's clock: the clocks of two machines are never compared.
The same holds for a run of another user, where a machine shows only the numbers of processes.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bertsum.errors import OutputError
from bertsum.storage.folder import Folder

DEAD_SECONDS = 40.0
_BEAT_SECONDS = 10.0  # so three beats may fail before a run is held for dead
_LAST_BEAT_SECONDS = 60.0  # for a request to a store that is under way
_DIRECTORY = "claims"
_PROC = Path("/proc")


class Holder(BaseModel):
    """Who is at work in OUTPUT: content of a claim."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    host: str
    machine: str = Field(
        description="where `pid` means this process: a boot of a kernel, and a container on it"
    )
    pid: int
    started: str = Field(
        description="when the process began, since the kernel gives its number to others later"
    )
    alive_at: datetime
    ended: bool = False
    nonce: str = Field("", description="no other claim has it")


class Claim:
    """OUTPUT for the duration of a `with`."""

    def __init__(self, output: Folder, say: Callable[[str], None]) -> None:
        """`say`: is told why it takes long."""
        self._output = output
        self._say = say
        self._number = 0  # none yet
        self._is_lost = False  # to others, who held this run for dead
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._holder = Holder(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_start_of(os.getpid()) or "",
            alive_at=datetime.now(UTC),
            nonce=secrets.token_hex(8),
        )

    def __enter__(self) -> Self:
        """Raises OutputError where another run is at work, and names it."""
        names = self._list()
        if names and self._is_alive(names[-1]):
            raise self._in_use(names[-1])
        self._number = 1
        if names:
            self._number += int(Path(names[-1]).stem)
        if not self._output.create_own(self._name, self._dump()):
            raise self._in_use(self._name)
        last = self._list()[-1:]
        if last and last[0] > self._name:  # whole runs came and went since the first listing
            self._output.remove(self._name)
            raise self._in_use(last[0])
        for name in names[:-1]:
            self._output.remove(name)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join(_LAST_BEAT_SECONDS)
        self._holder.ended = True
        if not self._is_lost:
            # Where this fails, others find the run dead, for its process is gone.
            with suppress(OutputError):
                self._output.write_replace(self._name, self._dump())

    def check(self) -> None:
        """Raise OutputError where this run was silent for too long, and others are at work."""
        if self._is_lost:
            raise OutputError(
                f"this run gave no sign of life for {DEAD_SECONDS:g} s, and another has taken over "
                f"{self._output}"
            )

    @property
    def _name(self) -> str:
        # of fixed width, so that names sort as their numbers do
        return f"{_DIRECTORY}/{self._number:08d}.json"

    def _list(self) -> list[str]:
        return sorted(self._output.list_names(_DIRECTORY))

    def _dump(self) -> bytes:
        return self._holder.model_dump_json().encode()

    def _beat(self) -> None:
        """Give a sign of life now and then, until the run is over or lost."""
        while not self._is_over.wait(_BEAT_SECONDS):
            with suppress(OutputError):  # of a store that is away for a moment
                self._is_lost = any(name > self._name for name in self._list())
                if self._is_lost or self._is_over.is_set():
                    return
                self._holder.alive_at = datetime.now(UTC)
                self._output.write_replace(self._name, self._dump())

    def _is_alive(self, name: str) -> bool:
        """Whether the run of a claim is at work; may take DEAD_SECONDS."""
        first = self._read(name)
        if first.ended:
            return False
        if first.machine == self._holder.machine:
            started = _start_of(first.pid)
            # Unless one of the two is not shown, the process is gone or tells.
            if started is None or (started and first.started):
                return started == first.started
        self._say(f"{_who(first)}; looking for {DEAD_SECONDS:g} s whether it still lives")
        deadline = time.monotonic() + DEAD_SECONDS
        while time.monotonic() < deadline:
            time.sleep(1)
            # any change is a sign of life, since only its own run writes a claim
            if (now := self._read(name)) != first:
                return not now.ended
        return False

    def _read(self, name: str) -> Holder:
        try:
            return Holder.model_validate_json(self._output.read_bytes(name))
        except ValidationError as error:
            raise OutputError(
                f"{self._output}/{name} is damaged; remove it if no run is at work there"
            ) from error

    def _in_use(self, name: str) -> OutputError:
        return OutputError(
            f"{self._output} is in use: {_who(self._read(name))}. "
            "Wait for that run, end it, or give another directory"
        )


def _who(holder: Holder) -> str:
    return (
        f"a run on {holder.host} (process {holder.pid}) gave a sign of life at "
        f"{holder.alive_at:%Y-%m-%d %H:%M:%S} UTC"
    )


def _machine() -> str:
    """This boot of this kernel, and this container on it; the host's name where Linux is not."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> str | None:
    """When a process of this machine began, in the kernel's count.

    None where it is gone. Empty where that is not shown: to other users (hidepid, containers), and
    elsewhere than on Linux.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it lives, and is another user's
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # "PID (NAME) STATE ...", where the name may hold spaces and brackets; proc(5): the 22nd value
    # is the start, so the 20th from the state on.
    values = stat.rpartition(")")[2].split()
    is_gone = values[0] in ("Z", "X")  # a zombie, or dead
    return None if is_gone else values[19]
