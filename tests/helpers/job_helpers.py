"""Input, checkpoints and processes for the tests of the job."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from bertsum.checkpoints.checkpoint import save_checkpoint
from helpers import rows, tiny
from helpers.waiting import LIMIT_SECONDS


def make_checkpoint(directory: Path, **changes: object) -> Path:
    """A whole checkpoint with random weights that loads in milliseconds."""
    save_checkpoint(directory, tiny.model(**changes), tiny.wordpiece(), "tiny", version="0.0.0")
    return directory


def documents(num_rows: int, first_id: int = 0) -> pa.Table:
    """Rows whose text has 2 to 11 sentences and differs from row to row."""
    ids = range(first_id, first_id + num_rows)
    texts = [tiny.text(2 + i % 10, first=i) for i in ids]
    return pa.table({"id": pa.array(ids, pa.int64()), "document": pa.array(texts, pa.string())})


def write(table: pa.Table, path: Path, **options: object) -> Path:
    """A Parquet file, its directory made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def result_files(output: Path) -> list[str]:
    """Names of the result files, as a reader of the directory sees them."""
    found = (path.relative_to(output) for path in output.rglob("*.parquet"))
    return sorted(path.as_posix() for path in found if not path.name.startswith("."))


def read_result(output: Path) -> pa.Table:
    """All rows, file after file in the order of names, which is the order of rows."""
    return pa.concat_tables(
        pq.read_table(output / name, partitioning=None) for name in result_files(output)
    )


def start_summarize(
    *arguments: object, variables: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """The job as a process of its own, with a Ray of its own; `variables` go over those of the environment."""
    return start_job("summarize", *arguments, variables=variables)


def start_job(
    name: str, *arguments: object, variables: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """The same for any job."""
    command = [sys.executable, "-m", f"jobs.{name}", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | dict(
        variables or {}
    )
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
        # a shell in the background has Ctrl-C ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def kill_all(job: "subprocess.Popen[str]") -> None:
    """SIGKILL a process and all below it."""
    for pid in [*(pid for pid, _ in descendants(job.pid)), job.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    job.wait(LIMIT_SECONDS)


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Pid and command line of every process below `pid`, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    waiting = list(children.get(pid, []))
    while waiting:
        child = waiting.pop()
        waiting += children.get(child, [])
        try:
            yield child, Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            continue


def make_training(root: Path, **values: object) -> Path:
    """A training configuration with its rows, 24 of summaries and 13 of sentiments, and a tiny encoder."""
    tiny.save(root / "encoder", tiny.encoder(), tiny.wordpiece())
    write(pa.table(rows.summary_rows(24)), root / "news.parquet", row_group_size=5)
    write(pa.table(rows.sentiment_rows(13)), root / "reviews.parquet")
    news = {
        "name": "news",
        "train_uri": "news.parquet",
        "validation_uri": "news.parquet",
        "summary_column": "summary",
    }
    reviews = {"name": "reviews", "train_uri": "reviews.parquet", "sentiment_column": "label"}
    config = rows.training_config(
        encoder=str(root / "encoder"), data_root=str(root), sources=[news, reviews]
    )
    path = root / "training.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json") | values))
    return path


def make_search(root: Path, **values: object) -> Path:
    """A good rate of the heads and useless ones; with this seed the good one comes first, and ASHA stops the others."""
    training = make_training(
        root,
        max_steps=12,
        encoder_learning_rate=0.0,
        best_metric=["news.summary_loss"],
        validate_every_steps=3,
        resources={"replicas": 1, "num_cpus": 1},
    )
    search = {
        "training": str(training),
        "num_trials": 3,
        "space": {"head_learning_rate": [1.0e-2, 1.0e-8, 1.0e-9]},
        "max_concurrent_trials": 1,
        "seed": 1,
    }
    path = root / "search.yaml"
    path.write_text(yaml.safe_dump(search | values))
    return path


def losses(output: Path) -> dict[int, tuple[float, float]]:
    """Of a training run, by step."""
    lines = map(json.loads, (output / "training_log.jsonl").read_text().splitlines())
    return {
        line["step"]: (line["summary_loss"], line["sentiment_loss"])
        for line in lines
        if "summary_loss" in line
    }


def winners(create: Callable[[bytes], bool], size: int) -> bytes:
    """Eight writers at once, each with `size` bytes of its own number; the numbers of those that `create` let win."""
    barrier, won = threading.Barrier(8), []

    def write_own(number: int) -> None:
        barrier.wait(LIMIT_SECONDS)
        if create(bytes([number]) * size):
            won.append(number)

    threads = [threading.Thread(target=write_own, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return bytes(won)
