"""What a checkpoint's configuration asks for, held against what its weights hold, before memory is taken for it.

A `config.json` of a few bytes can ask for a billion tokens or layers; the header of a safetensors file is read in a
moment. So sizes are compared twice: each number on its own, then the shapes of a model on PyTorch's meta device, which
computes shapes and holds no numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from bertsum.checkpoints.config import WEIGHTS_FILE
from bertsum.errors import ModelError

Shapes = dict[str, tuple[int, ...]]

_ANY_NUMBER = 2**20  # of a setting that is no size of a weight, like the positions of an encoder that computes them
_REPEATED = ("layer", "group", "block", "depth")  # parts of names of settings that count modules


def file_shapes(paths: Sequence[Path]) -> Shapes:
    """Shape of each weight of safetensors files, from their headers. Raises ModelError for a file that is none."""
    shapes: Shapes = {}
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} is missing or not a safetensors file (pickles are never read): {error}"
            ) from error
    return shapes


def check_numbers(config_path: Path, values: Mapping[str, Any], shapes: Shapes) -> None:
    """Raises ModelError that names a setting which is larger than anything that the weights could be for."""
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    for key, value in _numbers(values):
        repeated = bool(shapes) and any(part in key for part in _REPEATED)  # without weights only a tokenizer is read
        allowed = len(shapes) if repeated else max(largest, _ANY_NUMBER)
        if value > allowed and "theta" not in key:
            held = f"{len(shapes)} weights" if repeated else f"weights of at most {largest} rows"
            raise ModelError(
                f"{config_path}: {key}={value} is too much: its safetensors hold {held}; allowed: {allowed}"
            )


def check_shapes(config_path: Path, values: Mapping[str, Any], expected: Shapes, shapes: Shapes) -> None:
    """Raises ModelError that names the weights in which a file and its configuration differ, and the settings."""
    wrong = sorted(name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
    if not wrong:
        return
    details = "; ".join(f"{name}: {shapes.get(name)}, expected {expected.get(name)}" for name in wrong[:5])
    blamed = _blamed(values, [expected[name] for name in wrong if name in expected], shapes)
    raise ModelError(
        f"{config_path.with_name(WEIGHTS_FILE)} does not fit its configuration in {len(wrong)} weights: {details}"
        + (f" ({config_path}: {blamed})" if blamed else "")
    )


def check_amount(config_path: Path, values: Mapping[str, Any], expected: Shapes, shapes: Shapes) -> None:
    """The same for weights that may have other names in the file: it must hold half the numbers, or nearly."""
    asked, held = (sum(map(prod, found.values())) for found in (expected, shapes))
    if asked > 2 * held + _ANY_NUMBER:
        blamed = _blamed(values, list(expected.values()), shapes)
        raise ModelError(f"{config_path} asks for {asked} numbers, its safetensors hold {held} ({blamed})")


def skeleton(build: Callable[[], nn.Module]) -> Shapes:
    """Shapes of the weights of the module that `build` makes, without memory for their numbers."""
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in build().state_dict().items()}


def _blamed(values: Mapping[str, Any], expected: Sequence[tuple[int, ...]], shapes: Shapes) -> str:
    """The settings that are a size of an expected weight and of none that is there."""
    sizes = {size for shape in expected for size in shape} - {size for shape in shapes.values() for size in shape}
    return ", ".join(f"{key}={value}" for key, value in _numbers(values) if value in sizes)


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(part, str(name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value
