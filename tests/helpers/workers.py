"""One worker of several, as a process: trains on its part of the rows and leaves what it saw in a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from bertsum.storage.folder import Folder
from bertsum.training import loop as training
from bertsum.training.config import TrainingConfig
from bertsum.training.data import read_examples
from bertsum.training.distributed import rank
from bertsum.training.examples import ExampleFile
from bertsum.training.heads.pair_vectors import embed_documents, with_held_vectors
from bertsum.training.run import run
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.validation import LabelledSource, answer, calibrate, validate
from helpers import tiny
from helpers.rows import training_config

_LOGGED = (
    "summary_loss",
    "sentiment_loss",
    "candidate_loss",
    "pair_loss",
    "held_loss",
    "gradient_norm",
)


def read_sources(directory: Path, config) -> list[LabelledSource]:
    """This worker's part of each source."""
    encoder = tiny.document_encoder()

    def read(name: str, source: SourceConfig) -> ExampleFile:
        return read_examples(str(directory / name), source, encoder, config.model, max_windows=8)

    return [
        LabelledSource(source, read(source.train_uri, source), read(source.validation_uri, source))
        for source in config.sources
    ]


def train_part(directory: Path, values: dict) -> dict:
    """Log, measures and final weights."""
    config = training_config(**values)
    torch.manual_seed(0)
    model = training.build_model(tiny.encoder(), config)
    sources = [
        replace(
            source,
            train=with_held_vectors(
                source.train,
                np.ones(len(source.train), np.bool_),
                partial(embed_documents, model, dtype="float32"),
            ),
        )
        for source in read_sources(directory, config)
    ]
    log: list[dict] = []
    training.train(model, sources, config, log.append)
    calibrate(model, answer(model, sources, None, "float32"), ["sentiment"])
    return {
        "temperature": model.temperatures["sentiment"].model_dump(),
        "rows": [len(source.train) for source in sources],
        "losses": [[line[key] for key in _LOGGED] for line in log],
        "measures": validate(model, sources, 3, "float32"),
        "weights": model.state_dict(),
    }


def main(number: int, size: int, directory: Path, values: dict) -> None:
    """A process of `torch.multiprocessing`."""
    with _joined(number, size, directory):
        result = train_part(directory, values) | {"rank": rank()}
        torch.save(result, directory / f"{size}-{number}.pt")


def run_main(number: int, size: int, directory: Path, config: TrainingConfig) -> None:
    """The same, of a whole run into DIRECTORY/SIZE."""
    with _joined(number, size, directory):
        output = Folder(str(directory / str(size)))
        run(config, output, torch.device("cpu"), "bertsum train", lambda line: None)


@contextmanager
def _joined(number: int, size: int, directory: Path) -> Iterator[None]:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/group-{size}", rank=number, world_size=size
    )
    yield
    distributed.barrier()  # gloo may abort a process that leaves while others still talk
    distributed.destroy_process_group()
