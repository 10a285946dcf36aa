"""`bertsum monitor` as a command: outputs, exit codes, what is sent, and that Ray is not needed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.report_runs import Run
from helpers.trend_runs import JOB, draw_days, make_output, told, write_days
from helpers.waiting import LIMIT_SECONDS
from helpers.webhook_server import webhook

from bertsum.errors import ConfigError
from bertsum.trends.state import STATE
from jobs.monitor import main
from jobs.submit import make_request
from jobs.terminal.exit_codes import ALARMED

ROOT = Path(__file__).parents[2]
SHIFTED = draw_days(70, {"sport": 25, "business": 40}, shifts={("business", 66): 0.75})


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 days; from the 67th on, 2024-03-07, three of four rows on business are negative."""
    return make_output(tmp_path_factory.mktemp("monitor"), SHIFTED)


def printed(output: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    assert main([str(output), "--json", *more]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_alarms_on_the_terminal_and_as_exit_code(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(output), "--until", "2024-03-07", "--fail-on-alarm"]) == ALARMED
    shown = capsys.readouterr().out
    assert "2024-03-07 (new)" in shown
    assert "topic=business" in shown and "negative share up" in shown
    # the day before, nothing has happened
    assert main([str(output), "--until", "2024-03-06", "--fail-on-alarm"]) == 0
    # on the last day the alarm goes on, so it is not new; since the 7th it is
    assert main([str(output), "--until", "2024-03-08", "--fail-on-alarm"]) in (0, ALARMED)
    assert main([str(output), "--fail-on-alarm", "--since", "2024-03-07"]) == ALARMED
    assert main([str(output), "--since", "2024-03-07"]) == 0


def test_json_is_the_same_from_scratch(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = printed(output, capsys)
    assert printed(output, capsys) == first
    assert printed(output, capsys, "--from-scratch") == first
    alarms = [alarm for alarm in first["alarms"] if alarm["group"] == "business"]  # type: ignore[attr-defined]
    assert {alarm["measure"] for alarm in alarms} == {"share"}
    assert min(alarm["day"] for alarm in alarms) == "2024-03-07"


def test_page_and_picture(output: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page, picture = tmp_path / "a.html", tmp_path / "a.png"
    assert main([str(output), "--html", str(page), "--png", str(picture)]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert picture.read_bytes().startswith(b"\x89PNG")
    first = page.read_bytes()
    assert main([str(output), "--html", str(page)]) == 0
    assert page.read_bytes() == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--html", "{output}/dt=2024-01-01/a.html"], "lies in OUTPUT"),
        (["--png", "x/"], "names no file"),
        (["--until", "yesterday"], "is not a day"),
        (["--until", "2023-01-01"], "no row with a day up to 2023-01-01"),
        (["--by", "colour"], "'colour': no row"),
        (["--set", "trends.label=angry"], "'angry': no row.*negative, positive"),
        (["--set", "trends.least_days=200"], "least_days=200 is more than window_days=91"),
        (["--set", "trends.time_zone=Mars"], "no time zone 'Mars'"),
        (["--set", "trends.false_alarms=0"], "false_alarms"),
        (["--webhook", "slack"], "BERTSUM_WEBHOOK_URL"),
    ],
)
def test_what_is_wrong_is_told(
    output: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(output), *(option.format(output=output) for option in options)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(message, error), error


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "there is no run" in capsys.readouterr().err


def test_damaged_counts_are_told_and_made_again(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(output, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / STATE, ignore_errors=True)  # of the tests before
    assert main([str(tmp_path / "copy"), "--json"]) == 0
    right = json.loads(capsys.readouterr().out)
    (state,) = (tmp_path / "copy" / STATE).iterdir()
    state.write_bytes(state.read_bytes()[:-1])
    assert main([str(tmp_path / "copy"), "--json"]) == 0
    printed = capsys.readouterr()
    assert f"{state} was damaged; all files were read and counted again" in printed.err
    again = json.loads(printed.out)
    assert again["groups"] == right["groups"] and again["alarms"] == right["alarms"]


def test_it_can_be_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTSUM_WEBHOOK_URL", "https://hooks.example.org/services/T1/SECRET")
    words = ["s3://lake/out", "--html", "s3://lake/pages/a.html", "--webhook", "slack"]
    request = make_request("monitor", words, ["BERTSUM_WEBHOOK_URL"])
    assert "SECRET" not in request.entrypoint and "jobs.shipped monitor" in request.entrypoint
    with pytest.raises(ConfigError, match=r"html 'a\.html' is a path on this machine"):
        make_request("monitor", ["s3://lake/out", "--html", "a.html"], [])


def test_an_address_of_a_wrong_type_is_not_shown(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text("webhook: {url: [https://hooks.example.org/SECRET]}")
    assert main([str(output), "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "webhook.url" in error and "SECRET" not in error


def test_alarms_are_sent_once_and_the_address_is_seen_nowhere(tmp_path: Path) -> None:
    names = list(SHIFTED)
    write_days(tmp_path / "in", {name: SHIFTED[name] for name in names[:67]})
    run = Run(tmp_path / "in", tmp_path / "out", job=JOB, predict=told).run()

    def monitor(url: str, *more: str) -> "subprocess.CompletedProcess[str]":
        code = "import sys; sys.modules['ray'] = None; from jobs.cli import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                "monitor",
                str(tmp_path / "out"),
                "--webhook",
                "json",
                *more,
            ],
            env=os.environ | {"BERTSUM_WEBHOOK_URL": url},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        assert "SECRET" not in done.stdout + done.stderr
        return done

    with webhook([(404, {})]) as hook:
        assert monitor(hook.url).returncode == 1  # not taken, so it is not sent
        assert monitor(hook.url, "--fail-on-alarm").returncode == ALARMED
        assert monitor(hook.url).returncode == 0
        sent = [json.loads(body) for _, body in hook.requests]
    assert len(sent) == 2 and sent[0] == sent[1]
    assert {alarm["day"] for alarm in sent[1]["alarms"]} == {"2024-03-07"}
    for kept in (tmp_path / "out" / STATE).iterdir():
        assert b"SECRET" not in kept.read_bytes()
    # OUTPUT with what is kept in it is complete, and the same run does nothing
    assert not Run(tmp_path / "in", tmp_path / "out", job=JOB, predict=told).plan().missing
    assert run.output.info("_SUCCESS") is not None
