"""Seconds from the start of a process to its first result, for one or more checkouts of bertsum.

python tests/benchmarks/startup.py CHECKOUT [CHECKOUT ...] [--rounds N] [--only NAME,NAME]

Rounds are interleaved: each checkout once, then each again, after a round that does not count. What is printed are
medians: seconds on the wall, seconds of the processor, and the ratio of each to the first checkout in the same round.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_OUTPUT = Path(__file__).parents[1] / "data" / "version_0_1_0" / "finished"
_ENGLISH = "The council voted on Monday to close the old bridge. Residents were angry about it."
_CHINESE = "市议会周一投票决定关闭旧桥。居民对这一决定感到愤怒。"
# What a worker of Ray does with its first unit, without Ray's own start.
_REPLICA = f"""
import os
import pyarrow as pa
import jobs.engine.replica
from bertsum.checkpoints.config import model_digest
from bertsum.checkpoints.locate import resolve
from bertsum.config import SummarizerConfig
from bertsum.runs.records import Job
from jobs.engine.work import SummarizeWork
config = SummarizerConfig()
job = Job("shipped", model_digest(resolve(None)), config)
stream = SummarizeWork(None, job, config, 16384).load(os.cpu_count())
table, = stream.stream([pa.table({{"document": [{_ENGLISH!r}]}})])
"""
_SUMMARIZER = f"from bertsum import Summarizer; Summarizer()({_ENGLISH!r})"
_COMMAND = ("-m", "jobs.cli")


@dataclass(frozen=True, slots=True)
class Case:
    """A process: the arguments of Python, and what is on its standard input."""

    arguments: Sequence[str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of one process, from its start to its end."""

    wall: float
    processor: float


_CASES = {
    "import": Case(("-c", "import bertsum")),
    "help": Case((*_COMMAND, "--help")),
    "status": Case((*_COMMAND, "status", str(_OUTPUT))),
    "english": Case((*_COMMAND, "text", "-"), _ENGLISH),
    "chinese": Case((*_COMMAND, "text", "-"), _CHINESE),
    "summarizer": Case(("-c", _SUMMARIZER)),
    "replica": Case(("-c", _REPLICA)),
}


def run(case: Case, checkout: Path, directory: str) -> Seconds:
    """Run the case to its end, in a directory from which Python imports nothing."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "PYTHONUTF8": "1"}
    with tempfile.TemporaryFile() as text:
        text.write(case.text.encode())
        text.seek(0)
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *case.arguments],
            stdin=text,
            stdout=subprocess.DEVNULL,
            cwd=directory,
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    if status:
        raise SystemExit(
            f"{checkout}: {case.arguments} ended with {os.waitstatus_to_exitcode(status)}"
        )
    return Seconds(wall, usage.ru_utime + usage.ru_stime)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(_CASES), metavar="NAME,NAME")
    options = parser.parse_args()
    print(f"{'':<12}{'checkout':<24}{'wall s':>8}{'ratio':>7}{'CPU s':>8}{'ratio':>7}")
    for name in options.only.split(","):
        seconds: dict[Path, list[Seconds]] = {checkout: [] for checkout in options.checkouts}
        with tempfile.TemporaryDirectory() as directory:
            for _ in range(options.rounds + 1):
                for checkout, rounds in seconds.items():
                    rounds.append(run(_CASES[name], checkout, directory))
        first = seconds[options.checkouts[0]][1:]
        for checkout, rounds in seconds.items():
            pairs = list(zip(rounds[1:], first, strict=True))
            wall, processor = (
                median(getattr(s, kind) for s, _ in pairs) for kind in ("wall", "processor")
            )
            wall_ratio = median(one.wall / other.wall for one, other in pairs)
            processor_ratio = median(one.processor / other.processor for one, other in pairs)
            print(
                f"{name:<12}{checkout.name:<24}{wall:>8.2f}{wall_ratio:>7.2f}{processor:>8.2f}"
                f"{processor_ratio:>7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
