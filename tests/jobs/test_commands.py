"""Commands that need no Ray, in processes where it cannot be imported; and how progress looks."""

import argparse
import dataclasses
import importlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.job_helpers import documents, write
from helpers.waiting import LIMIT_SECONDS
from rich.console import Console

from bertsum.training.results.log import shown
from jobs import cli
from jobs.summarize import SummarizeOptions, read_config
from jobs.terminal.console import sentiment_text
from jobs.terminal.progress import Bar, Display, Tally, format_seconds
from jobs.train import Lines

ROOT = Path(__file__).parents[2]


def run_without_ray(*arguments: object, text: str = "") -> "subprocess.CompletedProcess[str]":
    """`bertsum ...` where any import of ray is an error."""
    code = "import sys; sys.modules['ray'] = None; from jobs.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LIMIT_SECONDS,
    )


def test_text_of_one_document(checkpoint: Path, tmp_path: Path) -> None:
    text = "The cat sleeps in the house. A bird sees the river. The bank says the price rises."
    settings = ["--set", "selection.size=1", "--set", "output.rename={summary: abstract}"]
    found = run_without_ray("text", "-", "--model", checkpoint, *settings, "--json", text=text)
    assert found.returncode == 0, found.stderr
    prediction = json.loads(found.stdout)
    assert prediction["status"] == "ok"
    assert prediction["abstract"] in text
    assert "summary" not in prediction
    assert (prediction["num_sentences"], len(prediction["summary_sentences"])) == (3, 1)
    assert sum(prediction["sentiment_scores"].values()) == pytest.approx(1, abs=1e-3)
    (tmp_path / "a.txt").write_text(text)
    shown = run_without_ray("text", tmp_path / "a.txt", "--model", checkpoint)
    assert shown.returncode == 0, shown.stderr
    assert "sentiment" in shown.stdout
    assert "3 sentences" in shown.stdout
    assert "spans" not in shown.stdout
    wanted = ["--set", "outputs=[spans]", "--set", "selection.size=1"]
    shown = run_without_ray("text", tmp_path / "a.txt", "--model", checkpoint, *wanted)
    (span,) = re.findall(r"^spans +(\d+):(\d+)$", shown.stdout, re.MULTILINE)
    assert text[int(span[0]) : int(span[1])] == prediction["abstract"]


@pytest.mark.parametrize("text", ["no", "null", "3", "text #1", "a: b", "[a]", '"\\', "'", "é😀"])
def test_the_text_of_an_option_is_no_yaml(text: str) -> None:
    options = SummarizeOptions(input="in", output="out", text_column=text)
    assert read_config(options).summarizer.text_column == text


def test_norwegian_is_a_language(checkpoint: Path) -> None:
    command = ("text", "-", "--model", checkpoint, "--language", "no", "--json")
    written = run_without_ray(*command, "--set", "outputs=[language]", text="The cat sleeps.")
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout)["language"] == "no"


def test_a_text_has_no_columns(checkpoint: Path) -> None:
    command = ("text", "-", "--model", checkpoint, "--json")
    plain = run_without_ray(*command, text="The cat sleeps.")
    found = run_without_ray(*command, "--set", "language_column=lang", text="The cat sleeps.")
    assert (plain.returncode, found.returncode, plain.stderr) == (0, 0, "")
    assert found.stderr == (
        "warning: language_column=lang is ignored: a single text has no columns\n"
    )
    assert json.loads(found.stdout)["summary"] == json.loads(plain.stdout)["summary"]


def test_people_read_that_a_text_is_mixed(checkpoint: Path) -> None:
    command = ("text", "-", "--model", checkpoint, "--set", "mixed=1e-9")
    shown = run_without_ray(*command, text="The cat sleeps. A bird sees the river.")
    assert shown.returncode == 0, shown.stderr
    assert re.search(
        r"^sentiment  mixed: \w+ 0\.\d\d, \w+ 0\.\d\d, \w+ 0\.\d\d$", shown.stdout, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("sentiment", "text"), [("positive", "positive 0.45"), ("mixed", "mixed"), (None, "-")]
)
def test_the_sentiment_of_a_row(sentiment: str | None, text: str) -> None:
    scores = [("negative", 0.4), ("neutral", 0.15), ("positive", 0.45)]
    assert sentiment_text(sentiment, scores) == text


def test_text_that_cannot_be_read(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for file, message in ((tmp_path / "gone", "No such file"), (tmp_path / "bytes", "not UTF-8")):
        found = run_without_ray("text", file, "--model", checkpoint)
        assert (found.returncode, message in found.stderr) == (2, True), found.stderr


def test_a_dry_run_writes_nothing_and_needs_no_ray(checkpoint: Path, tmp_path: Path) -> None:
    write(documents(60), tmp_path / "in" / "a.parquet")
    (tmp_path / "in" / "broken.parquet").write_bytes(b"no")
    found = run_without_ray(
        "summarize", tmp_path / "in", tmp_path / "out", "--model", checkpoint, "--dry-run"
    )
    assert found.returncode == 0, found.stderr
    assert re.search(r"rows +60\b", found.stdout)
    assert "not usable: broken.parquet" in found.stdout
    assert re.search(
        r"estimated time: \d+:\d\d for one replica on this machine's CPU, \d+ threads", found.stdout
    )
    assert "measured on 48 rows" in found.stdout
    assert not (tmp_path / "out").exists()


def test_status_where_there_is_no_run(tmp_path: Path) -> None:
    found = run_without_ray("status", tmp_path)
    assert found.returncode == 2
    assert str(tmp_path) in found.stderr


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bertsum ")
    assert cli.main([]) == cli.main(["sumarize"]) == 2
    assert "no command 'sumarize'" in capsys.readouterr().err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_parser_of_its_own(command: str) -> None:
    """`bertsum submit` and the cluster files' tests look options up through it."""
    found = importlib.import_module(f"jobs.{command}").parser()
    assert isinstance(found, argparse.ArgumentParser)
    assert found.prog == f"bertsum {command}"


OWN_OPTIONS = [command for command in cli.COMMANDS if command not in ("train", "tune")]


@pytest.mark.parametrize("command", OWN_OPTIONS)
def test_every_option_has_a_field(command: str) -> None:
    """The dataclass takes all that the parser gives, and asks for nothing that it does not give."""
    module = importlib.import_module(f"jobs.{command}")
    options = getattr(module, f"{command.capitalize()}Options")
    given = {action.dest for action in module.parser()._actions} - {"help"}
    fields = {field.name: field for field in dataclasses.fields(options)}
    assert given <= fields.keys()
    # Of the shared fields, a command may lack the option: those keep their default.
    assert all(fields[name].default is not dataclasses.MISSING for name in fields.keys() - given)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: bertsum {command}" in capsys.readouterr().out


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("jobs.terminal.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Display(1000, 200, Console(file=stream, width=200)) as display:
        display.show(Tally(), "loading the model")
        for tally in (Tally(100, 1000), Tally(150, 2000), Tally(300, 5000), Tally(800, 9000)):
            now[0] += 6
            display.show(tally, "")
    assert stream.getvalue().splitlines() == [
        " 20% loading the model",
        " 35% 350/1,000 documents, 8.3 documents/s, 0.2k tokens/s, 1:18 left",
        "100% 1,000/1,000 documents, 38.9 documents/s, 0.4k tokens/s, 0:00 left",
    ]


def test_progress_on_a_terminal_is_a_bar_below_the_lines() -> None:
    stream = io.StringIO()
    with Bar(Console(file=stream, force_terminal=True, width=60)) as bar:
        bar.say("validation at step 3")
        bar.move(4, 10, "step 4/10")
    frames = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()))
    *above, bar_line = [line.rstrip() for line in frames if line.strip()]
    assert "validation at step 3" in above
    assert re.search(r"^. +40% ━+╺━+ step 4/10$", bar_line)
    assert stream.getvalue().endswith("\x1b[2K")  # the bar goes


def test_a_training_run_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, checks = [100.0], []
    monkeypatch.setattr("jobs.terminal.progress.time.monotonic", lambda: now[0])
    with Lines(lambda: checks.append(1)) as lines:
        for step in range(1, 7):
            values = {
                "tokens_per_second": 3000,
                "summary_loss": 1 / step,
                "topic_loss": 0.0,
                "gradient_norm": 1.0,
            }
            lines.show({"step": step, "num_steps": 6} | values)
            now[0] += 4
    assert capsys.readouterr().err.splitlines() == [
        "step 1/6  3,000 tokens/s  summary loss 1.0000",
        "step 4/6  0:08 left  3,000 tokens/s  summary loss 0.2500",
        "step 6/6  0:00 left  3,000 tokens/s  summary loss 0.1667",
    ]
    assert len(checks) == 6


def test_what_a_training_run_does_beside_its_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("jobs.terminal.progress.time.monotonic", lambda: now[0])
    with Lines(lambda: None) as lines:
        for part in ("vectors of texts", "vectors before training"):
            for _ in shown([range(100)] * 4, 400, part, lines.show):
                now[0] += 6
        now[0] += 1000
        for num_rows in (150, 450, 450):  # of three sources
            for _ in shown([range(150)] * (num_rows // 150), num_rows, "held", lines.show):
                now[0] += 10
    assert capsys.readouterr().err.splitlines() == [
        "vectors of texts  100/400 rows",
        "vectors of texts  300/400 rows  0:06 left  17 rows/s",
        "vectors before training  100/400 rows",
        "vectors before training  300/400 rows  0:06 left  17 rows/s",
        "held  150/150 rows",
        "held  150/450 rows",
        "held  300/450 rows  0:10 left  15 rows/s",
        "held  450/450 rows  0:00 left  15 rows/s",
        "held  150/450 rows",
        "held  300/450 rows  0:10 left  15 rows/s",
        "held  450/450 rows  0:00 left  15 rows/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (61, "1:01"), (3723, "1:02:03")]
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_a_reader_that_left(arguments: list[str], unbuffered: str) -> None:
    """`bertsum --help | head -1`: no complaint, whenever the reader goes."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    os.close(writer)
    assert done.stderr == ""
