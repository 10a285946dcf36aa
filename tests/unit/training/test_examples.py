"""Examples in a file: as they were, in memory that does not grow with their number, and gone when nobody holds them."""

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from helpers import tiny
from helpers.rows import sentiment_rows, summary_rows, training_config
from helpers.waiting import LIMIT_SECONDS

from bertsum.errors import OutputError
from bertsum.model.losses import IGNORE
from bertsum.storage.folder import Folder
from bertsum.training import loop as training
from bertsum.training.data import read_examples
from bertsum.training.examples import Example, ExampleFile, token_counts
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.state import VectorStore
from bertsum.training.validation import LabelledSource, validate

NUM_ROWS = 4000


def encoded() -> list[Example]:
    """Long and short, in two scripts, with and without each kind of label."""
    documents = tiny.encode(
        tiny.text(30, 8),
        "A cat.",
        "猫狗坐在垫子上。Кот спит.",
        max_windows=2,
        surface_features=True,
    )
    generator = np.random.default_rng(0)
    labels = [generator.random(document.num_read_sentences, np.float32) for document in documents]
    return [
        Example(documents[0], labels[0], IGNORE, None, 3, np.arange(len(documents[0].input_ids))),
        Example(documents[1], labels[1], 2, "", vectors=torch.randn(len(labels[1]), 32)),
        Example(documents[2], labels[2], 0, "狗在城市\nA dog."),
    ]


def same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray | torch.Tensor):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in names
        )
    return type(one) is type(other) and one == other


def test_a_file_gives_back_what_it_was_given() -> None:
    examples = encoded()
    file = ExampleFile.write(iter(examples))
    assert len(file) == 3
    assert all(same(found, example) for found, example in zip(file, examples, strict=True))
    assert file.token_counts.tolist() == token_counts(examples).tolist()
    assert same(file[-1], examples[2])
    assert [len(part) for part in (file[:2], file[3:], file[::2])] == [2, 0, 2]
    assert same(file[1:][1], examples[2])
    order = np.array([2, 0, 1])
    turned = file.select(order)
    assert all(same(turned[place], examples[wanted]) for place, wanted in enumerate(order))
    assert turned.token_counts.tolist() == file.token_counts[order].tolist()
    with pytest.raises(IndexError):
        file[3]


def test_a_file_of_nothing() -> None:
    file = ExampleFile.write([])
    assert (list(file), token_counts(file).tolist(), token_counts([]).tolist()) == ([], [], [])


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = ExampleFile.write(encoded())
    part = file[1:]
    assert list(tmp_path.iterdir()) == []
    descriptor = file._file.descriptor
    assert os.fstat(descriptor).st_nlink == 0
    del file
    assert part[0].document.text == "A cat."
    del part
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_no_room_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a process on the size of its files: what does not fit is not written, as on a full disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
    try:
        with pytest.raises(
            OutputError, match=rf"temporary file in {tmp_path}: File too large.*set TMPDIR"
        ):
            ExampleFile.write(encoded() * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("trained", ["all", "heads"])
def test_the_weights_are_those_of_examples_in_memory(trained: str, tmp_path: Path) -> None:
    """To the last bit, and so are losses and measures."""
    pq.write_table(pa.table(summary_rows()), tmp_path / "news.parquet", row_group_size=3)
    pq.write_table(pa.table(sentiment_rows()), tmp_path / "reviews.parquet")
    sources = [
        {"name": "news", "summary_column": "summary"},
        {"name": "reviews", "sentiment_column": "label"},
    ]
    config = training_config(
        sources=sources, epochs=4, encoder_dropout=0.1, model={"dropout": 0.2}, trained=trained
    )
    found = []
    for keep in (list, lambda file: file):
        torch.manual_seed(0)
        model = training.build_model(tiny.encoder(), config)
        training.freeze(model, trained) if trained != "all" else None
        read = [
            read_examples(str(tmp_path / f"{source.name}.parquet"), source, tiny.document_encoder(), config.model,
                          max_windows=8)
            for source in config.sources
        ]  # fmt: skip
        if trained != "all":
            store = VectorStore(Folder(str(tmp_path / keep.__name__)))
            read = [
                training.compute_vectors(model, keep(examples), "float32", store)
                for examples in read
            ]
        parts = [
            LabelledSource(s, keep(rows), keep(rows))
            for s, rows in zip(config.sources, read, strict=True)
        ]
        log: list[dict] = []
        training.train(model, parts, config, log.append)
        for line in log:
            line.pop("tokens_per_second", None)
        found.append((log, validate(model, parts, None, "float32"), model.state_dict()))
    (log, measures, weights), (again, measured, trained_weights) = found
    assert log == again
    assert measures == measured
    assert all(torch.equal(weight, trained_weights[name]) for name, weight in weights.items())


CHILD = """
import sys
from pathlib import Path
from jobs import train
code = train.main(sys.argv[1:])
(peak,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(code, peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """4,000 rows of some 10 kB, and three times as many; as lists of examples they were 137 MB apart."""
    tiny.save(tmp_path / "encoder", tiny.encoder(), tiny.wordpiece())
    text, labels = tiny.text(60, 8), ["negative", "positive"]
    peaks = []
    for number in (NUM_ROWS, 3 * NUM_ROWS):
        rows = {
            "document": [f"{tiny.WORDS[i % 30]} {text}" for i in range(number)],
            "label": labels * (number // 2),
        }
        pq.write_table(pa.table(rows), tmp_path / f"{number}.parquet", row_group_size=1000)
        source = SourceConfig(name="a", train_uri=f"{number}.parquet", sentiment_column="label")
        config = training_config(
            encoder=str(tmp_path / "encoder"),
            data_root=str(tmp_path),
            sources=[source],
            max_steps=3,
        )
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
        command = [
            sys.executable,
            "-c",
            CHILD,
            str(tmp_path / "config.yaml"),
            str(tmp_path / f"out-{number}"),
        ]
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=LIMIT_SECONDS
        )
        code, peak = done.stdout.split()[-2:]
        assert code == "0", done.stderr
        peaks.append(int(peak) / 1024)
    assert peaks[1] - peaks[0] < 40, f"MB: {peaks}"
