"""The border of every command: encodings of terminals, readers that leave, signals, and exit codes."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.job_helpers import make_checkpoint, write

from bertsum.errors import ConfigError, IncompleteError, UnavailableError
from jobs import cli
from jobs.terminal.exit_codes import guard

ROOT = Path(__file__).parents[3]
TEXT = "\u201cQuoted\u201d caf\u00e9 \U0001f600. It was nice."


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C reaches the tests, and what they start, also where a background shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(*arguments: object, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    """`bertsum ...` in a process of its own."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, cwd=ROOT, env=os.environ | variables, timeout=240
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_a_terminal_of_another_encoding(encoding: str, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    plain = run("text", tmp_path / "a.txt", "--model", checkpoint, PYTHONIOENCODING=encoding)
    assert plain.returncode == 0, plain.stderr
    shown = plain.stdout.decode(encoding)
    assert ("\u201cQuoted" if encoding in ("utf-8", "cp1252") else "\\u201cQuoted") in shown
    as_json = run(
        "text", tmp_path / "a.txt", "--model", checkpoint, "--json", PYTHONIOENCODING=encoding
    )
    assert as_json.returncode == 0, as_json.stderr
    assert (
        json.loads(as_json.stdout.decode(encoding))["summary"] == TEXT
    )  # also what the encoding lacks


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]
)
@pytest.mark.parametrize("name", ["caf\u00e9 \u4e2d", "\udcff"], ids=["accents", "no UTF-8"])
def test_names_of_files_that_the_terminal_lacks(
    name: str, variables: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / name
    write(pa.table({"other": [1]}), tmp_path / "plain" / "a.parquet")
    (tmp_path / "plain").rename(source)
    for job in ("summarize", "benchmark", "text", "status"):
        output = [tmp_path / "out"] if job == "summarize" else []
        done = run(job, source, *output, **({"PYTHONCOERCECLOCALE": "0"} | variables))
        assert done.returncode == 2, done.stderr
        assert b"Traceback" not in done.stderr
        assert done.stderr.startswith(b"error: ")


def test_a_result_shown_on_an_ascii_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--dry-run` and `status` have tables, too; `--show` goes the same way out."""
    write(pa.table({"document": [TEXT]}), tmp_path / "caf\u00e9" / "a.parquet")
    model = make_checkpoint(tmp_path / "model")
    done = run("summarize", tmp_path / "caf\u00e9", tmp_path / "\u4e2d", "--model", model, "--dry-run",
               PYTHONIOENCODING="ascii")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u4e2d" in done.stdout.replace(b"\n", b"").replace(b" ", b"")


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
@pytest.mark.parametrize(
    "arguments", [["status", "/nowhere"], ["text", "/nowhere"], ["--help"], ["nonsense"], []]
)
def test_a_reader_that_left_is_no_complaint(arguments: Sequence[str], closed: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    broken = {
        "stdout": {"stdout": writer},
        "stderr": {"stderr": writer},
        "both": {"stdout": writer, "stderr": writer},
    }
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | broken[closed]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments], **streams, cwd=ROOT, timeout=120
    )
    os.close(writer)
    assert done.returncode in ((0, 1) if arguments == ["--help"] else (1, 2))
    assert b"Traceback" not in (done.stderr or b"")
    assert b"BrokenPipe" not in (done.stderr or b"")


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_stream_that_was_closed_before(closing: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m jobs.cli --version {closing}', sys.executable],
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("wrong"), 2, "error: wrong"),
        (UnavailableError("not now"), 1, "error: not now"),
        (IncompleteError("half"), 1, "error: half"),
        (ValueError("a bug"), 1, "Traceback"),
        (KeyboardInterrupt(), 130, "interrupted; goes on"),
        (BrokenPipeError(), 1, ""),
        (SystemExit(2), 2, ""),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def action() -> int:
        raise error

    assert guard(action, "interrupted; goes on") == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "ending"),
    [(signal.SIGTERM, 1, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_is_answered_once_and_before_anything_is_closed(
    number: signal.Signals, code: int, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def action() -> int:
        try:
            os.kill(os.getpid(), number)
            return 0
        finally:
            print("closing", file=sys.stderr, flush=True)
            os.kill(os.getpid(), number)

    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    assert guard(action, "interrupted; goes on") == code
    assert capfd.readouterr().err == f"{ending}; goes on\nclosing\n"
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == before


def test_a_signal_is_answered_where_stderr_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert guard(action, "interrupted; goes on") == 1
    assert capsys.readouterr().err == "terminated; goes on\n"


@pytest.mark.parametrize(
    ("number", "code", "ending"),
    [(signal.SIGTERM, 1, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_whose_exception_a_library_drops(
    number: signal.Signals, code: int, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    num_dropped = 0

    def action() -> int:
        nonlocal num_dropped
        for _ in range(3):
            try:
                if not num_dropped:
                    os.kill(os.getpid(), number)
                for _ in range(600):
                    time.sleep(0.1)
            except BaseException:  # a library's
                num_dropped += 1
        for _ in range(600):
            time.sleep(0.1)
        return 0

    assert guard(action, "interrupted; goes on") == code
    assert num_dropped == 3
    assert capfd.readouterr().err == f"{ending}; goes on\n"


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 1, "terminated; goes on"), (signal.SIGINT, 130, "interrupted; goes on")],
)
def test_a_signal_while_c_code_returns(
    number: signal.Signals, code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Which goes on with the exception set, as `ray.wait` does."""

    def action() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        except BaseException as error:
            raise SystemError("returned a result with an exception set") from error
        return 0

    assert guard(action, "interrupted; goes on") == code
    assert capfd.readouterr().err == f"{said}\n"


def test_another_error_of_c_code_is_a_bug(capfd: pytest.CaptureFixture[str]) -> None:
    def action() -> int:
        raise SystemError("bad call")

    assert guard(action) == 1
    assert "SystemError: bad call" in capfd.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_a_signal_whose_exception_python_drops(
    number: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """As C code does that has nobody to raise it to: Python prints a traceback of its own."""

    class Dropping:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    class Broken:
        def __del__(self) -> None:
            raise ValueError("said as ever")

    hook = sys.unraisablehook
    heard: list[type[BaseException]] = []

    def action() -> int:
        del [Dropping()][0]
        del [Broken()][0]
        for _ in range(600):
            time.sleep(0.1)
        return 0

    sys.unraisablehook = lambda dropped: heard.append(type(dropped.exc_value))
    try:
        assert guard(action, "interrupted; goes on") == code
    finally:
        sys.unraisablehook = hook
    assert heard == [ValueError]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_print(number: signal.Signals) -> None:
    """The print waits for its reader, and holds the buffer of its stream."""
    action = "lambda: print('x' * 10**7, file=sys.stderr) or 0"
    program = f"import sys; from jobs.terminal.exit_codes import guard; sys.exit(guard({action}))"
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, cwd=ROOT, env=buffered
    ) as process:
        # A pipe holds fewer bytes than the print has: once the first are there, the print waits.
        assert process.stderr is not None
        assert select.select([process.stderr], [], [], 120)[0]
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else 1)
    assert said.count(b"interrupted" if number == signal.SIGINT else b"terminated") == 1
    assert b"Error" not in said


def test_ctrl_c_that_the_shell_has_turned_off_stays_off() -> None:
    def action() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 0

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert guard(action) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_option_that_is_wrong_is_returned_and_help_exits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["status"]) == 2
    with pytest.raises(SystemExit):
        cli.main(["status", "--help"])
    capsys.readouterr()
