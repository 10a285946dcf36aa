"""Huge documents of one thing through the whole Summarizer, in a process with limits on CPU time and memory.

What grew faster than linearly would need hours for a million of anything.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.faults]

CPU_SECONDS, MEMORY_BYTES = (
    100,
    6 * 2**30,
)  # of address space, of which torch and its threads take 3 GB

PROGRAM = """
import json, resource, sys
from bertsum import Summarizer
from bertsum.config import SummarizerConfig
summarizer = Summarizer(sys.argv[1], SummarizerConfig(dtype="float32", max_windows=16), device="cpu")
used = resource.getrusage(resource.RUSAGE_SELF)
limit = int(used.ru_utime + used.ru_stime) + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[4]),) * 2)
text = "".join(unit * count for unit, count in json.loads(sys.argv[2]))
prediction = summarizer(text)
assert all(part in text for part in (prediction.summary or "").split(" ")[:50])
print(prediction.status, prediction.num_sentences)
"""


MILLION = 1_000_000
TEXTS = {
    "50 MB of one letter": [("a", 50 * MILLION)],
    "full stops": [(".", MILLION)],
    "sentences": [("The cat. ", MILLION)],
    "line breaks": [("\n", MILLION)],
    "paragraphs": [("cat\n\n", MILLION)],
    "nested quotes": [('"(', MILLION // 2), ("cat.", 1), (')"', MILLION // 2)],
    "zero-width spaces": [("\u200b", MILLION), ("cat", 1)],
    "marks of direction": [("\u202ecat\u200f. ", MILLION // 2)],
    "Chinese sentences": [("猫。", MILLION)],
    "combining accents": [("e\u0301", MILLION)],
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_document_of_a_million_of_one_thing(
    text: list[tuple[str, int]], checkpoint: Path
) -> None:
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(checkpoint),
        json.dumps(text),
        str(CPU_SECONDS),
        str(MEMORY_BYTES),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=dict(os.environ), timeout=LIMIT_SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    status, num_sentences = done.stdout.split()
    assert status in ("ok", "empty", "not_text", "unknown_language")
    assert int(num_sentences) >= 0
