"""SIGKILL in a run of two pools: of a replica of each, and of the driver; the bytes of an undisturbed run."""

import subprocess
from pathlib import Path

import pytest
import yaml
from helpers import tiny_seq2seq
from helpers.job_helpers import (
    documents,
    make_checkpoint,
    start_summarize,
    write,
)

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ROWS, UNIT_ROWS = 600, 10


class Bench:
    """The corpus, the models, and the command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        make_checkpoint(root / "model")
        write(documents(ROWS), root / "in" / "documents.parquet", row_group_size=100)
        then = {
            "model": str(tiny_seq2seq.save(root / "bart")),
            "generate": {"decoding": {"max_tokens": 24}},
            "sentences_model": str(root / "model"),
            "resources": {"num_cpus": 1},
        }
        (root / "generate.yaml").write_text(yaml.safe_dump(then))

    def start(self, output: Path) -> "subprocess.Popen[str]":
        arguments = [self.root / "in", output, "--model", self.root / "model"]
        settings = ["--set", f"rows_per_unit={UNIT_ROWS}", "--set", "resources.num_cpus=1"]
        return start_summarize(*arguments, *settings, "--then", self.root / "generate.yaml")
