"""What the monitor holds of units in work, and which silence means that a replica hangs."""

import os
import sys
import time
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
import ray
from rich.console import Console

from jobs.progress import Display, Monitor, Tally
from jobs.reports import UnitReport
from jobs.waves import _Watch


class Process:
    """Stands for a replica that says nothing."""

    def pid(self) -> int:
        return os.getpid()


def test_the_other_units_of_a_process_that_died_are_not_in_work_until_they_are_begun_again() -> None:
    """Else they would look silent as long as the first of them is made, and the new process would be replaced."""
    monitor = Monitor()
    monitor.begin("node:1", "written", "a")
    monitor.begin("node:1", "computed", "a")
    monitor.begin("node:7", "elsewhere", "b")
    monitor.begin("node:2", "computed", "a")
    assert set(monitor.snapshot([])[1]) == {"computed", "elsewhere"}
    monitor.begin("node:2", "written", "a")
    assert set(monitor.snapshot([])[1]) == {"computed", "elsewhere", "written"}


def test_a_unit_that_is_prepared_ahead_is_watched_until_it_waits() -> None:
    monitor = Monitor()
    monitor.begin("node:1", "computed", "a")
    assert monitor.look_ahead("node:1", "next", "a")
    assert set(monitor.snapshot([])[1]) == {"computed", "next"}
    monitor.wait("next")
    assert set(monitor.snapshot([])[1]) == {"computed"}
    assert not monitor.look_ahead("node:1", "next", "a")
    assert not monitor.look_ahead("node:1", "computed", "a")
    assert not monitor.begin("node:1", "next", "a").is_careful


@pytest.fixture
def monitor(cluster: None) -> Any:
    actor = ray.remote(num_cpus=0)(Monitor).remote()
    yield actor
    ray.kill(actor)


@pytest.fixture
def process(cluster: None) -> Any:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Process).remote()
    yield actor
    ray.kill(actor)


def look_until(done: Callable[[str], bool], monitor: Any, reports: dict[str, UnitReport]) -> str:
    """What is displayed, at the end of the look that displays what is waited for."""
    said = StringIO()
    watch = _Watch(monitor, Display(9, 0, Console(file=said, width=200)), 0.3, reports)
    deadline = time.monotonic() + 60
    while not done(said.getvalue()):
        assert time.monotonic() < deadline
        watch.look(Tally())
        time.sleep(0.02)
    return said.getvalue()


def test_a_replica_that_hangs_with_two_units_is_replaced_once(monitor: Any, process: Any) -> None:
    first = ray.get(process.pid.remote(), timeout=60)
    for unit in ("written", "computed"):
        ray.get(monitor.begin.remote("node:1", unit, process))
        time.sleep(0.4)
    said = look_until(lambda said: "is replaced" in said, monitor, {})
    _, units, _ = ray.get(monitor.snapshot.remote([]))
    assert said.count("is replaced") == 1
    assert abs(units["written"].idle_seconds - units["computed"].idle_seconds) < 0.2
    assert ray.get(process.pid.remote(), timeout=60) != first


def test_a_unit_that_has_failed_is_no_sign_of_a_replica_that_hangs(monitor: Any, process: Any) -> None:
    ray.get(monitor.begin.remote("node:1", "failed", process))
    ray.get(monitor.begin.remote("node:2", "hangs", process))
    said = look_until(lambda said: "is replaced" in said, monitor, {"failed": UnitReport("failed", "", error="no")})
    assert "on hangs; it is replaced" in said
    assert "on failed" not in said
