"""Compare what a checkpoint's configuration asks for with what its weights hold.

That is before memory is taken for it: a `config.json` of a few bytes can ask for a billion tokens
or layers, and the header of a safetensors file is read in a moment. Sizes are compared twice: each
number on its own, then the shapes of a model on PyTorch's meta device, which computes shapes and
holds no numbers.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bertsum.checkpoints.config import WEIGHTS_FILE
from bertsum.errors import ModelError

Shapes = dict[str, tuple[int, ...]]
Module = TypeVar("Module", bound=nn.Module)

# Allowed of a setting that is no size of a weight, like the positions of an encoder that computes
# them.
_ANY_NUMBER = 2**20
_REPEATED = ("layer", "group", "block", "depth")  # parts of names of settings that count modules


def file_shapes(paths: Sequence[Path]) -> Shapes:
    """Read the shape of each weight of safetensors files, from their headers.

    Raises ModelError for a file that is none.
    """
    shapes: Shapes = {}
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                names = file.keys()
                for name in names:
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} is missing or not a safetensors file (pickles are never read): {error}"
            ) from error
    return shapes


def shapes_of(weights: Mapping[str, Tensor]) -> Shapes:
    """Shape of each weight, by its name."""
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def check_numbers(config_path: Path, values: Mapping[str, object], shapes: Shapes) -> None:
    """Raise ModelError that names a setting which is too large for the weights.

    `shapes`: empty where only a tokenizer is read.
    """
    largest = max(_sizes(shapes.values()), default=0)
    for key, value in _numbers(values):
        # Each layer has a weight at least, and no weight is larger than the setting it comes from.
        counts_modules = bool(shapes) and any(part in key for part in _REPEATED)
        allowed = len(shapes) if counts_modules else max(largest, _ANY_NUMBER)
        if value > allowed and "theta" not in key:  # a frequency, which is the size of nothing
            held = f"weights of at most {largest} rows"
            if counts_modules:
                held = f"{len(shapes)} weights"
            raise ModelError(
                f"{config_path}: {key}={value} is too much: its safetensors hold {held}; "
                f"allowed: {allowed}"
            )


def check_shapes(
    config_path: Path, values: Mapping[str, object], expected: Shapes, shapes: Shapes
) -> None:
    """Raise ModelError where a file and its configuration differ.

    The error names the weights that differ, and the settings that they come from.
    """
    details: list[str] = []
    wanted: list[tuple[int, ...]] = []  # shapes that no weight of the file has under its name
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            details.append(f"{name}: {shapes.get(name)}, expected {expected.get(name)}")
            if name in expected:
                wanted.append(expected[name])
    if not details:
        return
    blamed = _blamed(values, wanted, shapes)
    raise ModelError(
        f"{config_path.with_name(WEIGHTS_FILE)} does not fit its configuration in "
        f"{len(details)} weights: {'; '.join(details[:5])}"
        + (f" ({config_path}: {blamed})" if blamed else "")
    )


def check_amount(
    config_path: Path, values: Mapping[str, object], expected: Shapes, shapes: Shapes
) -> None:
    """Raise ModelError where a file holds less than half the numbers that are expected, or nearly.

    For weights that may have other names in the file.
    """
    num_expected = sum(map(prod, expected.values()))
    num_held = sum(map(prod, shapes.values()))
    if num_expected > 2 * num_held + _ANY_NUMBER:
        blamed = _blamed(values, expected.values(), shapes)
        raise ModelError(
            f"{config_path} asks for {num_expected} numbers, its safetensors hold {num_held} "
            f"({blamed})"
        )


def skeleton(build: Callable[[], nn.Module]) -> Shapes:
    """Shapes of the weights of the module that `build` makes, without memory for their numbers."""
    return shapes_of(without_numbers(build).state_dict())


def without_numbers(build: Callable[[], Module]) -> Module:
    """The module that `build` makes, on the meta device."""
    with torch.device("meta"), _WithoutRandomNumbers():
        return build()


class _WithoutRandomNumbers(TorchFunctionMode):
    """Leaves `normal_` out, which on the meta device does nothing but import torch._dynamo.

    That takes as long as importing torch itself.
    """

    def __torch_function__(  # its signature is torch's
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_):
            return args[0] if args else options["tensor"]
        return func(*args, **options)


def _blamed(
    values: Mapping[str, object], expected: Iterable[tuple[int, ...]], shapes: Shapes
) -> str:
    """List the settings that are a size of an expected weight and of none in the file."""
    # vocab_size=50000 in a file whose vectors are [30522, 384]: 50000 is in no shape there
    sizes = _sizes(expected) - _sizes(shapes.values())
    return ", ".join(f"{key}={value}" for key, value in _numbers(values) if value in sizes)


def _sizes(shapes: Iterable[tuple[int, ...]]) -> set[int]:
    return set(chain.from_iterable(shapes))


def _numbers(value: object, key: str = "") -> Iterator[tuple[str, int]]:
    """All whole numbers among settings, nested ones too, with their keys."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(part, str(name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, key)
    # True is an int in Python, and no size
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value
