"""The checkpoint that a run leaves: whole, or as a difference to an encoder that users have."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import bertsum
from bertsum.checkpoints.checkpoint import make_delta, read_base, save_checkpoint, save_delta
from bertsum.checkpoints.config import CONFIG_FILE, PACKAGE_PREFIX, BaseEncoder, package_encoder
from bertsum.checkpoints.encoder_delta import Delta
from bertsum.checkpoints.locate import resolve_checkpoint
from bertsum.errors import OutputError
from bertsum.masking import describe
from bertsum.model.bert_sum import BertSum
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.results.log import Report

_MUCH_LOST = 0.01  # of a weight's difference to the encoder: people are told

Tokenizer = Any  # of Transformers, which carries no types


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedDelta:
    """What the checkpoint is saved as a difference to."""

    base: BaseEncoder
    rank: int
    # the delta checkpoint whose encoder the model has, where the encoder does not learn
    unchanged: Path | None = None


def saved_delta(config: TrainingConfig) -> SavedDelta | None:
    """How the checkpoint is saved; None: whole."""
    base, first_rank, start = None, 0, None
    if config.start_from is not None:
        start = resolve_checkpoint(config.start_from)
        base, first_rank = read_base(start)
    elif config.encoder.startswith(PACKAGE_PREFIX):
        base = package_encoder(config.encoder)
    if config.saved_rank:
        return SavedDelta(base=base or package_encoder(config.encoder), rank=config.saved_rank)
    if base is None or config.learned_rank is None:
        return None
    unchanged = None if config.learned_rank else start
    # a sum of matrices has at most the sum of their ranks
    rank = max(1, first_rank + config.learned_rank)
    return SavedDelta(base=base, rank=rank, unchanged=unchanged)


def round_weights(model: BertSum, saved: SavedDelta, say: Report) -> Delta:
    """Give the model the weights that a user of the saved delta will load."""
    delta = make_delta(model, saved.base, saved.rank, saved.unchanged)
    if delta.lost > _MUCH_LOST:
        lost = f"{delta.lost:.0%} of a weight's difference to the encoder in {saved.base.path}"
        say({"message": f"rank {saved.rank} loses up to {lost}"})
    model.load_state_dict(delta.merged)
    return delta


def save(
    output: Folder, model: BertSum, delta: Delta | None, tokenizer: Tokenizer, card: str
) -> str:
    """Write the checkpoint to OUTPUT, and return a message for people.

    `config.json` is written last: from then on the run is finished.
    """

    def write(directory: Path) -> None:
        if delta:
            save_delta(directory, model, delta, card, version=bertsum.__version__)
        else:
            save_checkpoint(directory, model, tokenizer, card, version=bertsum.__version__)

    write_files(output, write)
    if delta:
        return f"saved the delta in {output}; its rank loses up to {delta.lost:.1%} of a weight"
    return f"saved the checkpoint in {output}"


def write_files(output: Folder, write: Callable[[Path], None]) -> None:
    """Copy what `write` writes into a directory to OUTPUT. Raises OutputError where it cannot."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        try:
            write(directory)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"cannot write the model to a temporary directory in {tempfile.gettempdir()}: "
                f"{describe(error)}. Make room there, or set TMPDIR to a directory that has it"
            ) from error
        copy_files(directory, output)


def copy_files(directory: Path, output: Folder, prefix: str = "") -> None:
    """Copy all files, `config.json` last: without it a directory holds no model."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == CONFIG_FILE):
        output.write_replace(f"{prefix}{path.name}", path.read_bytes())
