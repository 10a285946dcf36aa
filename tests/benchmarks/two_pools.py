"""What do two pools at once gain: `summarize --then`, beside `summarize` and `generate` one after the other?

    python tests/benchmarks/two_pools.py --data ../shared/data

Both ways run as commands of their own, in turn, on all cores of the machine: two pools share them, a command alone has
them all. The model that writes is BART with random weights (there is no hub here), and writes as many tokens as it may.
Seconds of work go from the first unit's begin to the last one's end, without the start of Ray and of models; whole
seconds are those of the commands.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq
from generating import make_model

from bertsum.runs.times import UnitTime, read_times
from bertsum.storage.folder import Folder


def run(command: str, *arguments: object) -> float:
    """Seconds of a command, which must succeed."""
    start = time.monotonic()
    line = [sys.executable, "-m", f"jobs.{command}", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")
    return time.monotonic() - start


def work_seconds(output: Path) -> float:
    """From the begin of the first unit, in whichever pool, to the end of the last one."""
    made: list[UnitTime] = list(read_times(Folder(str(output)), [""]).values())
    begun = min((unit.first or unit).begun for unit in made)
    return max(unit.begun + unit.seconds for unit in made) - begun


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--documents", type=int, default=160)
    options.add_argument("--tokens", type=int, default=16)
    options.add_argument("--layers", type=int, default=1)
    options.add_argument("--unit", type=int, default=10)
    options.add_argument("--rounds", type=int, default=2)
    arguments = options.parse_args()
    lengths = {"min_tokens": arguments.tokens, "max_tokens": arguments.tokens}
    decoding = {"decoding": {"num_beams": 2} | lengths}
    work: dict[str, list[float]] = {"two commands": [], "--then": []}
    whole: dict[str, list[float]] = {"two commands": [], "--then": []}
    with tempfile.TemporaryDirectory(prefix="bertsum-pools-") as name:
        root = Path(name)
        model = make_model(root / "bart", arguments.layers, 256)
        table = pq.read_table(arguments.data / "documents/news_2000.parquet", columns=["document"])
        pq.write_table(table.slice(0, arguments.documents), root / "news.parquet")
        then, config = root / "then.yaml", root / "generate.yaml"  # JSON is YAML
        then.write_text(json.dumps({"model": str(model), "generate": decoding}))
        config.write_text(json.dumps({"generate": decoding}))
        units = ["--set", f"rows_per_unit={arguments.unit}"]
        for number in range(arguments.rounds):
            first, second = root / f"summaries{number}", root / f"abstracts{number}"
            seconds = run("summarize", root / "news.parquet", first, *units)
            seconds += run("generate", first, second, "--model", model, "--summaries",
                           "--config", config, *units)  # fmt: skip
            whole["two commands"].append(seconds)
            work["two commands"].append(work_seconds(first) + work_seconds(second))
            both = root / f"both{number}"
            whole["--then"].append(
                run("summarize", root / "news.parquet", both, "--then", then, *units)
            )
            work["--then"].append(work_seconds(both))
    for way in work:
        print(f"{way:<14} work {median(work[way]):7.1f} s   whole {median(whole[way]):7.1f} s")
    for what, seconds_of in (("work", work), ("whole", whole)):
        ratio = median(seconds_of["two commands"]) / median(seconds_of["--then"])
        print(f"--then is {ratio:.2f} times as fast ({what})")


if __name__ == "__main__":
    main()
