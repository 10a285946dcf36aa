"""What each group of `summarizer.outputs` costs: time, memory and bytes of a row.

    python tests/benchmarks/groups.py ../shared/data/documents/news_2000.parquet --rows 200

One model reads the same rows for each group, alone and all together, in turn, after one round that
is not counted. Time is that of all threads on their cores, so that what else runs on the machine
hardly counts; the median of the repetitions is shown, and the least and the largest. Memory is the
most that a fresh process has over a unit of 1,000 rows. Of that unit are a row's bytes, too: of
Parquet with zstd.
"""

import argparse
import datetime
import io
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum import Summarizer
from bertsum.checkpoints.locate import resolve
from bertsum.checkpoints.outputs import with_outputs
from bertsum.config import SummarizerConfig
from bertsum.schema import PREDICTION_SCHEMA, prediction_schema

TOPICS = ["economy", "politics", "sport", "technology", "entertainment"]
TARGETS = ["Cameron", "Obama", "London", "police", "price", "company", "school", "government"]
QUERY = "what does the government want to change?"
MIXED = 0.25
GROUPS = (
    *("language", "spans", "sentences", "embedding", "topic", "keywords", "aspects", "targets"),
    *("query", "mixed"),  # chosen by keys of their own
)
NONE, ALL = "none", "all"


@dataclass(frozen=True, slots=True)
class Unit:
    """What a process needed: memory at most, and the bytes of a row by column."""

    gigabytes: float
    sizes: Mapping[str, float]


def configs(model: str | None, dtype: str) -> dict[str, SummarizerConfig]:
    """Of no group, of each, and of all of them."""
    outputs: Mapping[str, tuple[str, ...]] = {
        NONE: (),
        **{group: (group,) for group in GROUPS},
        ALL: GROUPS,
    }
    result = {}
    for name, groups in outputs.items():
        values = {
            "dtype": dtype,
            "language": "en",
            "outputs": [group for group in groups if group not in ("query", "mixed")],
            "query": QUERY if "query" in groups else None,
            "mixed": MIXED if "mixed" in groups else None,
            "topics": TOPICS if "topic" in groups else [],
            "targets": TARGETS if "targets" in groups else [],
        }
        result[name] = with_outputs(SummarizerConfig.model_validate(values), resolve(model))
    return result


def switch(summarizer: Summarizer, config: SummarizerConfig) -> None:
    """Let the same weights write other groups, so that models do not fill the memory."""
    summarizer.config = config
    for reader in summarizer.readers.values():
        reader.use(config)


def row_bytes(table: pa.Table) -> float:
    """Bytes of a row on a disk."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.tell() / table.num_rows


def processor() -> str:
    """The processor as Linux names it."""
    names = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return names[0] if names else platform.processor()


def columns_of(config: SummarizerConfig) -> set[str]:
    """The columns that a configuration adds to those that are always written."""
    return {*prediction_schema(config.outputs).names} - {*PREDICTION_SCHEMA.names}


def read_unit(options: argparse.Namespace, name: str) -> Unit:
    """Read the rows of a unit in a fresh process with one of the configurations."""
    command = [sys.executable, __file__, str(options.documents), "--unit-of", name]
    command += ["--rows", str(options.unit_rows), "--dtype", options.dtype]
    command += ["--model", options.model] if options.model else []
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Unit(**json.loads(printed))


def print_unit(summarizer: Summarizer, table: pa.Table) -> None:
    """Print what `read_unit` reads."""
    result = summarizer(table)
    sizes = {name: row_bytes(result.select([name])) for name in result.column_names}
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # from KiB
    print(json.dumps({"gigabytes": gigabytes, "sizes": sizes}))


def main() -> None:
    """Print a line for each group."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("documents", type=Path, help="Parquet file of English documents")
    parser.add_argument("--model", help="default: the English member of the shipped family")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--unit-rows", type=int, default=1000, help="as many as a unit has")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--dtype", default="auto", choices=["float32", "bfloat16", "auto"])
    parser.add_argument("--unit-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    model = options.model or "bertsum-default/english"
    table = pq.read_table(options.documents, columns=["document"]).slice(0, options.rows)
    chosen = configs(model, options.dtype)
    if options.unit_of:
        print_unit(Summarizer(model, chosen[options.unit_of], device="cpu"), table)
        return
    summarizer = Summarizer(model, chosen[NONE], device="cpu")
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for repetition in range(options.repetitions + 1):
        # in turn first and last, so that what else runs on the machine weighs on all
        for name in sorted(chosen, reverse=bool(repetition % 2)):
            switch(summarizer, chosen[name])
            start = time.process_time()
            summarizer(table)
            seconds[name].append(time.process_time() - start)
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores of {processor()}: {table.num_rows} rows, "
        f"{summarizer.dtype}, {options.repetitions} repetitions"
    )
    before, after = read_unit(options, NONE), read_unit(options, ALL)
    sizes = {NONE: sum(before.sizes.values())}
    for name, config in chosen.items():
        sizes.setdefault(name, sum(after.sizes[column] for column in columns_of(config)))
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times[1:], seconds[NONE][1:], strict=True)]
        print(
            f"{name:10} {table.num_rows / median(times[1:]):8.2f} documents a core second, "
            f"time {median(ratios) - 1:+7.1%} ({min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%}), "
            f"{sizes[name]:8.0f} bytes a row"
        )
    print(
        f"memory over {options.unit_rows} rows: {before.gigabytes:.2f} GB, all groups "
        f"{after.gigabytes:.2f} GB: {after.gigabytes / before.gigabytes - 1:+.1%}"
    )


if __name__ == "__main__":
    main()
