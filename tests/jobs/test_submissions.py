"""One job of an orchestrator on a real Ray job server: found again, sent anew, stopped, and what is told of its end."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.job_helpers import documents, read_result, write
from helpers.orchestrators import TOKEN, job_server, submissions
from helpers.ray_nodes import Cluster
from helpers.waiting import wait_until

from bertsum.errors import ConfigError, HeldError, IncompleteError
from jobs.orchestrators.cluster_job import ClusterJob, _error_of, _Lines
from jobs.remote.submissions import Rules

DAY = "2026-11-22"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with job_server() as found:
        yield found


class Asked(threading.Thread):
    """A task that follows a job; `lines` is its log, `result` or `error` its end."""

    def __init__(self, job: ClusterJob) -> None:
        super().__init__(daemon=True)
        self.job, self.lines, self.error = job, list[str](), None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.job.run(self.lines.append)
        except Exception as error:
            self.error = error

    def has_said(self, words: str) -> bool:
        return any(words in line for line in self.lines)


@pytest.mark.slow
def test_a_night_is_found_again_by_whoever_asks_for_it(
    cluster: Cluster, checkpoint: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write(documents(40), source / f"dt={DAY}" / "a.parquet")

    def night(asked_by: str, **rules: float) -> ClusterJob:
        arguments = [str(source), str(output), "--model", str(checkpoint), "--wait-minutes", "10"]
        return ClusterJob(
            job="nightly",
            arguments=arguments,
            day=DAY,
            address=cluster.address,
            token=TOKEN,
            rules=Rules(asked_by=asked_by, **rules),
        )

    # It waits for _SUCCESS in INPUT, and so it runs while the others ask.
    first = Asked(night("run 1"))
    wait_until(lambda: first.has_said("waiting up to 10 minutes"), "the night waits")
    (submission,) = submissions(cluster)
    restarted, stranger = Asked(night("run 1")), Asked(night("run 2"))
    for asked in (restarted, stranger):
        found = f"submit: {submission} is running already; following it"
        wait_until(lambda asked=asked, found=found: asked.has_said(found), "it is found")
    limited = Asked(night("run 3", limit_seconds=0.1))
    limited.join(60)
    assert isinstance(limited.error, IncompleteError)
    assert "followed for 0 s, which is the limit" in str(limited.error)

    (source / f"dt={DAY}" / "_SUCCESS").touch()
    for asked in (first, restarted, stranger):
        asked.join(300)
        assert asked.error is None
        assert asked.result["submission"] == submission
        assert (asked.result["state"], asked.result["rows_made"]) == ("done", 40)
        assert asked.result["output"] == str(output)
    assert list(submissions(cluster)) == [submission]
    assert read_result(output)["id"].to_pylist() == list(range(40))

    # A retry of the same run is told of the success; who asks anew has the day looked at again.
    lines: list[str] = []
    assert night("run 1").run(lines.append) == first.result
    assert f"submit: {submission} succeeded already; following it" in lines
    write(documents(2, first_id=40), source / f"dt={DAY}" / "late.parquet")
    again = night("run 4").run(lines.append)
    assert again["submission"] == submission[:-1] + "2"
    assert (again["rows"], again["rows_made"]) == (42, 2)
    assert TOKEN not in repr((night("run 1"), lines, first.lines))


@pytest.mark.slow
def test_a_night_that_failed_is_sent_again_and_one_that_runs_can_be_stopped(
    cluster: Cluster, checkpoint: Path, tmp_path: Path
) -> None:
    def night(*options: str) -> ClusterJob:
        return ClusterJob(
            job="nightly",
            arguments=[str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(checkpoint), *options],
            day=DAY,
            address=cluster.address,
            token=TOKEN,
            rules=Rules(asked_by="run 1"),
        )  # fmt: skip

    (tmp_path / "in").mkdir()
    before = submissions(cluster).keys()
    for _ in range(2):
        with pytest.raises(IncompleteError, match="holds no Parquet file yet"):
            night().run(print)
    added = submissions(cluster).keys() - before
    assert {name[-2:] for name in added} == {"-1", "-2"}
    with pytest.raises(ConfigError, match="is not running"):
        night().stop(print)
    with pytest.raises(
        ConfigError, match=r"configuration \(--set\):  rows_per_unit: Input should be greater than"
    ):
        night("--set", "rows_per_unit=0").run(print)

    waiting = Asked(night("--wait-minutes", "10"))
    wait_until(lambda: waiting.has_said("waiting up to"), "the night waits")
    waiting.job.stop(print)
    waiting.join(60)
    assert isinstance(waiting.error, IncompleteError)
    assert "was stopped; what is done stays" in str(waiting.error)


def test_wrong_arguments_end_no_process() -> None:
    def job(name: str, day: str | None, *arguments: str) -> ClusterJob:
        address = "http://127.0.0.1:1"
        return ClusterJob(job=name, arguments=arguments, day=day, address=address, rules=Rules())

    with pytest.raises(ConfigError, match="unrecognized arguments: --no-such-option"):
        job("nightly", DAY, "/in", "/out", "--no-such-option").run(print)
    with pytest.raises(ConfigError, match="nightly needs a day"):
        job("nightly", None, "/in", "/out").run(print)
    with pytest.raises(ConfigError, match="there is no job 'status'"):
        job("status", None, "/out").run(print)
    with pytest.raises(IncompleteError, match="Connection refused"):
        job("summarize", None, "/in", "/out").run(print)


def test_lines_of_a_log_that_comes_in_pieces() -> None:
    said: list[str] = []
    lines = _Lines(said.append)
    night = '{"day": "d", "partition": "p", "state": "held"}'
    whole = f'a line\nerror: no room\n  at all\n{{"time": "x", "event": "end"}}\n{night}\nend'
    for index in range(0, len(whole), 7):
        lines.take(whole[index : index + 7])
    lines.take("\n")
    assert said == whole.splitlines()
    assert lines.night == {"day": "d", "partition": "p", "state": "held"}
    assert lines.reason == "no room  at all"
    lines.take(
        '{"day": "d", "partition": "p", "state": "held", "error": "s3://u:secret@b is odd"}\n'
    )
    assert lines.reason == "s3://***@b is odd"


def test_only_exit_code_1_is_worth_another_try() -> None:
    assert isinstance(_error_of(1, ""), IncompleteError)
    assert isinstance(_error_of(3, ""), HeldError)
    assert [_error_of(code, "").exit_code for code in (1, 2, 3, 4, 139)] == [1, 2, 3, 2, 2]
