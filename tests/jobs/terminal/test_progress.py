"""What the monitor holds of units in work, and which silence means that a replica hangs."""

import os
import signal
import sys
import time
from collections.abc import Callable
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from helpers.waiting import LIMIT_SECONDS
from rich.console import Console

from bertsum.errors import IncompleteError
from jobs.engine import monitor as monitor_module
from jobs.engine import waves
from jobs.engine.monitor import Monitor
from jobs.engine.reports import UnitReport
from jobs.engine.waves import Watch, start_monitor
from jobs.terminal.progress import Display, Tally


class Process:
    """Stands for a replica that says what it is told to."""

    def pid(self) -> int:
        return os.getpid()

    def begin(self, monitor: Any, unit: str) -> None:
        ray.get(
            monitor.start_unit.remote(self.name(), unit, ray.get_runtime_context().current_actor)
        )

    def send(self, monitor: Any, unit: str, documents: int = 1) -> None:
        handle = ray.get_runtime_context().current_actor
        counts = {"documents": documents, "tokens": documents}
        ray.get(monitor.update.remote(self.name(), unit, "forward", **counts, handle=handle))

    def chat(self, monitor: Any, unit: str) -> None:
        """Until the process is killed."""
        while True:
            self.send(monitor, unit)
            time.sleep(0.1)

    def name(self) -> str:
        return f"node:{os.getpid()}"


def test_the_other_units_of_a_process_that_died_are_not_in_work_until_they_are_begun_again() -> (
    None
):
    """Else they would look silent as long as the first of them is made, and the new process would be replaced."""
    monitor = Monitor()
    monitor.start_unit("node:1", "written", "a")
    monitor.start_unit("node:1", "computed", "a")
    monitor.start_unit("node:7", "elsewhere", "b")
    monitor.start_unit("node:2", "computed", "a")
    assert set(monitor.snapshot([]).units) == {"computed", "elsewhere"}
    monitor.start_unit("node:2", "written", "a")
    assert set(monitor.snapshot([]).units) == {"computed", "elsewhere", "written"}


def test_a_unit_that_is_prepared_ahead_is_watched_until_it_waits() -> None:
    monitor = Monitor()
    monitor.start_unit("node:1", "computed", "a")
    assert monitor.prepare_ahead("node:1", "next", "a")
    assert set(monitor.snapshot([]).units) == {"computed", "next"}
    monitor.park("next")
    assert set(monitor.snapshot([]).units) == {"computed"}
    assert not monitor.prepare_ahead("node:1", "next", "a")
    assert not monitor.prepare_ahead("node:1", "computed", "a")
    assert not monitor.start_unit("node:1", "next", "a").is_isolated


def test_a_late_word_of_a_process_that_died_does_not_bring_its_units_back() -> None:
    monitor = Monitor()
    monitor.start_unit("node:1", "written", "a")
    monitor.start_unit("node:1", "computed", "a")
    monitor.start_unit("node:2", "computed", "a")
    monitor.update("node:1", "written", "write", documents=0, tokens=0, handle="a")
    assert set(monitor.snapshot([]).units) == {"computed"}


def test_what_is_not_polled_is_not_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver was stopped, or the machine of both: replicas have nothing to do then, or could not say it."""
    now = 1000.0
    monkeypatch.setattr(monitor_module, "time", SimpleNamespace(monotonic=lambda: now))
    monitor = Monitor()
    monitor.start_unit("node:1", "unit", "a")
    now += 60.0
    assert (
        monitor.snapshot([]).units["unit"].idle_seconds == monitor_module._LONGEST_SILENCE_SECONDS
    )
    now += 0.5
    assert (
        monitor.snapshot([]).units["unit"].idle_seconds
        == monitor_module._LONGEST_SILENCE_SECONDS + 0.5
    )


def test_a_new_process_of_the_monitor_counts_on() -> None:
    """What the driver gives back and what replicas say meanwhile come in any order; none of it is progress."""
    old, new = Monitor(), Monitor()
    for _ in range(3):
        old.start_unit("node:1", "unit", "a")
    old.update("node:1", "unit", "forward", documents=5, tokens=50, handle="a")
    old.prepare_ahead("node:1", "ahead", "a")
    new.update("node:1", "unit", "forward", documents=2, tokens=20, handle="a")
    known = old.snapshot([])
    resumed = new.resume(known.units, known.starts)
    assert (resumed.units["unit"].documents, resumed.units["unit"].tokens) == (7, 70)
    assert set(resumed.units) == {
        "unit"
    }  # the other one may wait by now, and then it would look silent
    assert (resumed.messages, resumed.starts) == (1, {"unit": 3})
    assert new.start_unit("node:2", "unit", "a").starts == 4


def test_who_begins_a_unit_that_another_process_told_of_begins_it_again() -> None:
    monitor = Monitor()
    monitor.update("node:1", "unit", "forward", documents=2, tokens=20, handle="a")
    assert monitor.start_unit("node:2", "unit", "a").is_isolated


def test_a_unit_whose_process_dies_each_time_is_refused_although_the_monitor_dies_with_it() -> None:
    monitor = Monitor()
    for deaths in range(30):
        if monitor.start_unit(f"node:{deaths}", "unit", "a").refusal:
            break
        known, monitor = monitor.snapshot([]), Monitor()
        monitor.resume(
            known.units,
            {name: unit.starts for name, unit in known.units.items()} | dict(known.starts),
        )
    assert deaths <= 20


@pytest.fixture
def monitor(cluster: None) -> Any:
    actor = start_monitor()
    yield actor
    ray.kill(actor)


@pytest.fixture
def process(cluster: None) -> Any:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Process).remote()
    yield actor
    ray.kill(actor)


def poll_until(done: Callable[[str], bool], monitor: Any, reports: dict[str, UnitReport]) -> str:
    """What is displayed, at the end of the poll that displays what is waited for."""
    said = StringIO()
    watch = Watch(monitor, Display(9, 0, Console(file=said, width=200)), 0.3, reports)
    deadline = time.monotonic() + LIMIT_SECONDS
    while not done(said.getvalue()):
        assert time.monotonic() < deadline
        watch.poll(Tally())
        time.sleep(0.02)
    return said.getvalue()


def test_a_replica_that_hangs_with_two_units_is_replaced_once(monitor: Any, process: Any) -> None:
    first = ray.get(process.pid.remote(), timeout=LIMIT_SECONDS)
    for unit in ("written", "computed"):
        ray.get(monitor.start_unit.remote("node:1", unit, process))
        time.sleep(0.4)
    said = poll_until(lambda said: "is replaced" in said, monitor, {})
    assert said.count("is replaced") == 1
    assert ray.get(process.pid.remote(), timeout=LIMIT_SECONDS) != first


def test_a_unit_that_has_failed_is_no_sign_of_a_replica_that_hangs(
    monitor: Any, process: Any
) -> None:
    ray.get(monitor.start_unit.remote("node:1", "failed", process))
    ray.get(monitor.start_unit.remote("node:2", "hangs", process))
    said = poll_until(
        lambda said: "is replaced" in said,
        monitor,
        {"failed": UnitReport("failed", "", error="no")},
    )
    assert "on hangs; it is replaced" in said
    assert "on failed" not in said


def kill_monitor(monitor: Any) -> None:
    """As the system does for want of memory; Ray starts another."""
    before = ray.get(monitor.__ray_call__.remote(lambda _: os.getpid()), timeout=LIMIT_SECONDS)
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT_SECONDS
    while (
        ray.get(monitor.__ray_call__.remote(lambda _: os.getpid()), timeout=LIMIT_SECONDS) == before
    ):
        assert time.monotonic() < deadline


@pytest.mark.slow
@pytest.mark.parametrize("speaks", [True, False], ids=["hangs later", "hangs already"])
def test_a_replica_that_hangs_is_replaced_although_the_monitor_was_killed(
    monitor: Any, process: Any, speaks: bool
) -> None:
    first = ray.get(process.pid.remote(), timeout=LIMIT_SECONDS)
    ray.get(process.begin.remote(monitor, "unit"), timeout=LIMIT_SECONDS)
    said = StringIO()
    watch = Watch(monitor, Display(9, 0, Console(file=said, width=200)), 1.5, {})
    poll_while(lambda: not watch._units, watch)
    kill_monitor(monitor)
    if speaks:
        ray.get(process.send.remote(monitor, "unit"), timeout=LIMIT_SECONDS)
    poll_while(lambda: "is replaced" not in said.getvalue(), watch)
    watch._timeout = LIMIT_SECONDS  # the new process does not hang, however slow this machine is
    assert ray.get(process.pid.remote(), timeout=LIMIT_SECONDS) != first
    ray.get(process.begin.remote(monitor, "unit"), timeout=LIMIT_SECONDS)
    poll_while(lambda: "unit is done again" not in said.getvalue(), watch)
    assert said.getvalue().count("is replaced") == 1


def poll_while(waits: Callable[[], bool], watch: Watch) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while waits():
        assert time.monotonic() < deadline
        watch.poll(Tally())
        time.sleep(0.05)


@pytest.mark.slow
def test_a_driver_that_was_held_up_does_not_give_up_on_replicas_that_work(
    monitor: Any, process: Any
) -> None:
    """By Ctrl-Z and fg, or a long end of a partition: for twice the time after which silence is an error."""
    watch = Watch(monitor, Display(9, 0, Console(file=StringIO(), width=200)), LIMIT_SECONDS, {})
    ray.get(process.send.remote(monitor, "unit"), timeout=LIMIT_SECONDS)
    process.chat.remote(monitor, "unit")
    poll_while(lambda: not watch._units or watch._pending is not None, watch)
    watch._polled_at -= 2 * watch._stall
    received = watch._messages
    poll_while(lambda: watch._messages == received, watch)


@pytest.mark.slow
@pytest.mark.parametrize("answers", [True, False], ids=["nothing to tell", "no answer"])
def test_silence_is_an_error_whether_the_monitor_answers_or_not(
    monitor: Any, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "_STALL_SECONDS", 4.0)
    watch = Watch(monitor, Display(9, 0, Console(file=StringIO(), width=200)), 1.0, {})
    pid = ray.get(monitor.__ray_call__.remote(lambda _: os.getpid()), timeout=LIMIT_SECONDS)
    if not answers:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(
            IncompleteError, match=r"no replica has made progress for \d s; in work: nothing"
        ):
            poll_while(lambda: True, watch)
    finally:
        os.kill(pid, signal.SIGCONT)


def as_a_page_shows(written: str) -> list[str]:
    """The lines of a notebook's output: `\\r` goes back, later characters replace earlier ones, nothing is erased."""
    lines = []
    for written_line in written.split("\n"):
        shown = ""
        for part in written_line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_a_notebook_has_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm-color", "CLICOLOR": "1", "GIT_PAGER": "cat"}.items():
        monkeypatch.setenv(name, value)  # as ipykernel does
    now = 100.0
    monkeypatch.setattr("jobs.terminal.progress.time", SimpleNamespace(monotonic=lambda: now))
    output = StringIO()
    with Display(70, 0, Console(file=output, force_terminal=True, width=80)) as display:
        display.show(Tally(), "reading the first documents")
        now += 1
        display.show(Tally(10, 1000), "")
        assert as_a_page_shows(output.getvalue()) == [" 14% 10/70 documents"]
        now += 0.1  # too early for another one
        display.show(Tally(11, 1100), "")
        assert as_a_page_shows(output.getvalue()) == [" 14% 10/70 documents"]
        now += 2
        display.say("unit 3 is tried again")
        display.show(Tally(31, 3100), "")
        line = " 44% 31/70 documents, 10.0 documents/s, 1.0k tokens/s, 0:04 left"
        assert as_a_page_shows(output.getvalue()) == ["unit 3 is tried again", line]
    assert as_a_page_shows(output.getvalue()) == ["unit 3 is tried again", ""]
    assert "\x1b" not in output.getvalue()
