"""What OUTPUT records of its run, and the number format that follows from it."""

import json
from typing import Any

import torch

from bertsum.config_base import with_defaults
from bertsum.errors import OutputError
from bertsum.inference.arguments import choose_dtype
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.distributed import gather
from bertsum.training.results.files import RUN_FILE
from bertsum.training.results.log import Report


def read_record(output: Folder) -> dict[str, Any]:
    """The configuration of the run in OUTPUT, with the defaults of keys that came later than it."""
    try:
        return with_defaults(TrainingConfig, json.loads(output.read_bytes(RUN_FILE)))
    except ValueError as error:
        raise OutputError(
            f"{output}/{RUN_FILE} is damaged: {error}. It says of which configuration the "
            "checkpoints are; put it back, or give another directory"
        ) from error


def choose_format(
    config: TrainingConfig, output: Folder, device: torch.device, say: Report
) -> TrainingConfig:
    """Put the number format that `dtype: auto` stands for into the configuration.

    A run that OUTPUT records with a format keeps it: before `auto` there was always one.
    """
    name = config.dtype
    if name == "auto" and output.info(RUN_FILE) is not None:
        name = read_record(output).get("dtype", name)
    if name == "auto":
        # One format for all workers, since they share each batch. Gradients would leave the range
        # of float16, which `auto` is for inference on some GPUs.
        formats = gather(choose_dtype(name, device))
        name = "bfloat16" if set(formats) == {torch.bfloat16} else "float32"
    if name != config.dtype:
        say({"message": f"dtype: {config.dtype} is {name} here"})
    return config.model_copy(update={"dtype": name})
