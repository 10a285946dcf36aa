"""A hostile checkpoint costs neither memory nor files: sizes are refused, and nothing outside its directory is touched.

Both are seen from outside, in processes of their own: by a limit on address space, and by Python's audit events.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny
from helpers.waiting import LIMIT_SECONDS

import bertsum

# Reads each directory of stdin, with 500 MB of address space more than it has once it has read a good one.
LOAD = """
import json, resource, sys, time
from pathlib import Path
from contextlib import suppress
from bertsum.checkpoints.checkpoint import load_checkpoint, load_encoder, load_tokenizer
from bertsum.errors import ModelError
good, *rest = map(Path, sys.stdin.read().splitlines())
load_checkpoint(good / "whole"), load_encoder(str(good / "bare"))
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 500 * 2**20,) * 2)
for path in rest:
    start = time.process_time()
    try:
        load_checkpoint(path) if path.name == "whole" else load_encoder(str(path))
        said = "loaded"
    except ModelError as error:
        said = str(error)
    with suppress(ModelError):
        load_tokenizer(str(path))  # which may do, since weights are not its business, but at no greater cost
    print(json.dumps([said, time.process_time() - start]))
"""
HUGE = [
    *(
        ("encoder", key, 10**9)
        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size")
    ),
    *(
        ("encoder", key, 10**9)
        for key in ("max_position_embeddings", "type_vocab_size", "num_labels")
    ),
    *(
        ("encoder", key, 10**6)
        for key in ("vocab_size", "intermediate_size", "max_position_embeddings")
    ),
    ("encoder", "num_hidden_layers", 1000),
    ("encoder", "hidden_size", 10**6),
    ("encoder", "hidden_size", 10**30),
    *(
        ("model", key, 10**9)
        for key in ("feed_forward_size", "num_summarization_layers", "prefix_tokens")
    ),
    *(("model", key, 10**6) for key in ("feed_forward_size", "prefix_tokens")),
]


# Reads the directories of stdin with everything that reads models; says what Python opened, and for what.
WATCH = """
import json, os, sys
from bertsum.checkpoints.checkpoint import load_checkpoint, load_encoder, load_tokenizer
from bertsum.errors import ModelError
from bertsum.inference.reader import document_encoder
def read(path):
    try:
        if path.endswith("whole"):
            document_encoder(*load_checkpoint(__import__("pathlib").Path(path))).encode(["The cat."], ["en"], 1)
        else:
            load_encoder(path)
        load_tokenizer(path)
        return "loaded"
    except ModelError as error:
        return str(error)
good, *rest = sys.stdin.read().splitlines()
read(f"{good}/whole"), read(f"{good}/bare")
opened = []
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove"):
        opened.append(str(arguments[0]))
    elif event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess", "os.exec", "os.system")):
        opened.append(event)
sys.addaudithook(note)
for path in rest:
    del opened[:]
    said = read(path)
    print(json.dumps([said, sorted(set(opened))]))
"""


@pytest.fixture
def good(checkpoint, tmp_path):
    """A directory with a whole checkpoint and a bare encoder."""
    shutil.copytree(checkpoint, tmp_path / "good" / "whole")
    tiny.save(tmp_path / "good" / "bare", tiny.encoder(), tiny.wordpiece())
    return tmp_path / "good"


def edit(path, changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_encoder(directory, changes):
    """In the whole checkpoint's configuration and in the bare encoder's."""
    whole = directory / "whole" / "config.json"
    edit(whole, {"encoder": json.loads(whole.read_text())["encoder"] | changes})
    edit(directory / "bare" / "config.json", changes)


def run(script, paths):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    given = "\n".join(map(str, paths))
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, env=environment, timeout=LIMIT_SECONDS
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on address space, read from /proc")
def test_a_configuration_that_asks_for_too_much_is_refused_before_memory_is_taken(good, tmp_path):
    cases = []
    for number, (part, key, value) in enumerate(HUGE):
        directory = shutil.copytree(good, tmp_path / str(number))
        if part == "encoder":
            edit_encoder(directory, {key: value})
            cases.append((key, directory / "bare"))
        else:
            model = json.loads((directory / "whole" / "config.json").read_text())["model"]
            edit(directory / "whole" / "config.json", {"model": model | {key: value}})
        cases.append((key, directory / "whole"))
    said = run(LOAD, [good, *(path for _, path in cases)])
    for (key, path), (message, seconds) in zip(cases, said, strict=True):
        assert f"{path}/config.json" in message, message
        assert f"{key}=" in message
        assert seconds < 20, path


class Watch:
    """What any process and any language opens, makes or changes in a directory, by inotify."""

    def __init__(self, directory):
        self._libc = ctypes.CDLL(None)
        self._queue = self._libc.inotify_init1(os.O_NONBLOCK)
        changes = (
            0x2 | 0x20 | 0x40 | 0x100 | 0x200
        )  # IN_MODIFY, IN_OPEN, IN_MOVED_FROM, IN_CREATE, IN_DELETE
        assert self._libc.inotify_add_watch(self._queue, os.fsencode(directory), changes) > 0

    def seen(self):
        try:
            return os.read(self._queue, 100_000)
        except BlockingIOError:
            return b""


def hostile_tokenizer(outside):
    """Settings that name places, for tokenizer_config.json."""
    for place in (f"../../{outside.name}", str(outside)):
        names = (
            "vocab_file",
            "merges_file",
            "tokenizer_file",
            "special_tokens_map_file",
            "added_tokens_file",
        )
        yield {
            name: f"{place}/{file}"
            for name, file in zip(names, ["vocab.txt", "vocab.txt", *FILES], strict=True)
        }
        yield {
            "name_or_path": place,
            "_name_or_path": place,
            "pretrained_model_name_or_path": place,
        }
        yield {
            "tokenizer_class": "BertTokenizer",
            "vocab_file": f"{place}/vocab.txt",
            "tokenizer_file": None,
        }
        yield {
            "fast_tokenizer_files": [f"tokenizer.1.0/../{place}/tokenizer.json"],
            "gguf_file": f"{place}/x.gguf",
        }
        yield {
            "chat_template": "{% include '" + place + "/vocab.txt' %}",
            "auto_map": {"AutoTokenizer": [place, place]},
        }


def hostile_encoder(outside):
    for place in (f"../../{outside.name}", str(outside)):
        yield {
            "_name_or_path": place,
            "name_or_path": place,
            "tokenizer_class": f"{place}/x",
            "gguf_file": f"{place}/x",
        }
        yield {
            "auto_map": dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), f"{place}--x.C")
        }
        yield {"configuration_files": [f"config.1.0/../{place}/config.json"], "adapter_path": place}


FILES = ("tokenizer.json", "tokenizer_config.json", "config.json")


@pytest.mark.skipif(sys.platform != "linux", reason="inotify")
def test_a_model_reads_and_writes_nothing_outside_its_directory(good, tmp_path):
    outside = tmp_path / "outside"
    tiny.save(outside, tiny.encoder(), tiny.wordpiece())
    (outside / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\ncat\n")
    cases = []

    def case():
        cases.append(shutil.copytree(good, tmp_path / f"case{len(cases)}"))
        return cases[-1]

    for changes in hostile_tokenizer(outside):
        for without_vocabulary in (False, True):
            directory = case()
            for path in directory.iterdir():
                edit(path / "tokenizer_config.json", changes)
                if without_vocabulary:
                    (path / "tokenizer.json").unlink()
    for changes in hostile_encoder(outside):
        edit_encoder(case(), changes)
    for place in (f"../../{outside.name}", str(outside)):
        adapted, in_parts, named = case(), case(), case()
        for path in adapted.iterdir():
            (path / "adapter_config.json").write_text(
                json.dumps(
                    {
                        "base_model_name_or_path": place,
                        "peft_type": "LORA",
                        "task_type": "FEATURE_EXTRACTION",
                    }
                )
            )
        for path in in_parts.iterdir():
            weights = dict.fromkeys(tiny.encoder().state_dict(), f"{place}/model.safetensors")
            index = {"metadata": {"total_size": 1}, "weight_map": weights}
            (path / "model.safetensors.index.json").write_text(json.dumps(index))
            (path / "model.safetensors").rename(path / "other.safetensors")
        for path in named.iterdir():
            vocabulary = json.loads((path / "tokenizer.json").read_text())
            vocabulary["model"]["vocab"] = f"{place}/vocab.txt"
            (path / "tokenizer.json").write_text(json.dumps(vocabulary))
    paths = [directory / name for directory in cases for name in ("whole", "bare")]
    watch = Watch(outside)
    (outside / "vocab.txt").read_text()
    assert watch.seen(), "the watch sees nothing"
    said = run(WATCH, [good, *paths])
    touched = watch.seen()
    allowed = (
        sys.prefix,
        sys.base_prefix,
        "/proc/",
        "/dev/",
        "/sys/",
        str(Path(bertsum.__file__).parent),
    )
    elsewhere = {
        str(path): (
            message,
            [name for name in opened if not name.startswith((str(path), *allowed))],
        )
        for path, (message, opened) in zip(paths, said, strict=True)
    }
    assert {path: found for path, found in elsewhere.items() if found[1]} == {}
    assert touched == b"", "files outside were opened, though not by Python"
    assert "loaded" in {message for message, _ in said}
