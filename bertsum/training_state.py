"""The state of a run on disk, from which it goes on: `checkpoints/STEP.safetensors` and `.json`, nothing pickled.

Random numbers, the learning rates and the position in the data are functions of the step and the configuration, so the
step stands for them. The rest is tensors: the weights that learn, the optimizer's moments, the average of weights.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from bertsum.errors import OutputError
from bertsum.optimization import WeightAverage
from bertsum.storage import Folder

_DIRECTORY = "checkpoints"
_WEIGHTS, _AVERAGE, _OPTIMIZER = "weights/", "average/", "optimizer/"


class RunState(BaseModel):
    """Content of `checkpoints/STEP.json`, which is written last: a checkpoint without it is none."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    plan_digest: str = Field(description="of the rows that are trained on")
    step: int = Field(0, description="optimizer steps done")
    averaged_steps: int = 0
    score: float | None = Field(None, description="best_metric of these weights, where they were measured")
    best_step: int | None = Field(None, description="the checkpoint with the best score until now")
    best_score: float | None = None
    validations_without_gain: int = 0
    skipped_steps: int = Field(0, description="in a row, for a gradient that was not finite")


class StateStore:
    """The checkpoints of one run in its OUTPUT."""

    def __init__(self, folder: Folder, num_kept: int) -> None:
        self._folder = folder
        self._num_kept = num_kept

    def save(self, state: RunState, tensors: Mapping[str, Tensor]) -> None:
        """Write a checkpoint, then remove those that are no longer wanted, and what a killed run left of one."""
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._folder.write_replace(_name(state.step, "safetensors"), save(on_cpu))
        self._folder.write_replace(_name(state.step, "json"), state.model_dump_json().encode())
        self._remove_old(state.step)
        self._remove_halves()

    def latest(self) -> RunState | None:
        """The newest complete checkpoint; None where there is none. Raises OutputError where it is damaged."""
        steps = self._steps()
        return self._read(steps[-1]) if steps else None

    def read_tensors(self, step: int) -> dict[str, Tensor]:
        """Tensors of a checkpoint, on the CPU. Raises OutputError where they are damaged."""
        name = _name(step, "safetensors")
        try:
            return load(self._folder.read_bytes(name))
        except SafetensorError as error:
            raise OutputError(f"{self._folder}/{name} is damaged: {error}; remove its .json to go on") from error

    def _steps(self) -> list[int]:
        names = self._folder.list_names()
        stems = [name.removesuffix(".json").removeprefix(f"{_DIRECTORY}/") for name in names if name.endswith(".json")]
        return sorted(int(stem) for stem in stems if stem.isdigit() and _name(int(stem), "safetensors") in names)

    def _read(self, step: int) -> RunState:
        name = _name(step, "json")
        try:
            return RunState.model_validate_json(self._folder.read_bytes(name))
        except ValidationError as error:
            raise OutputError(f"{self._folder}/{name} is damaged; remove it to go on from an older one") from error

    def _remove_old(self, newest: int) -> None:
        states = [self._read(step) for step in self._steps() if step != newest]
        worst_first = sorted(
            states, key=lambda s: (False, 0.0, s.step) if s.score is None else (True, s.score, -s.step)
        )
        for state in worst_first[: max(0, len(states) - self._num_kept + 1)]:
            for suffix in ("json", "safetensors"):
                self._folder.remove(_name(state.step, suffix))

    def _remove_halves(self) -> None:
        """Tensors without a record: a run was killed before it wrote it, or when it had removed it."""
        names = self._folder.list_names(_DIRECTORY)
        for name in names:
            stem = name.removesuffix(".safetensors")
            if name != stem and f"{stem}.json" not in names:
                self._folder.remove(name)


def collect(model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage) -> dict[str, Tensor]:
    """Everything that a step changes, by names that say what it is."""
    trained = trained_weights(model)
    tensors: dict[str, Tensor] = {_WEIGHTS + name: weight for name, weight in trained.items()}
    tensors |= {_AVERAGE + name: mean for name, mean in zip(trained, average.means, strict=False)}
    for name, weight in trained.items():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{_OPTIMIZER}{key}/{name}"] = value
    return tensors


def restore(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage
) -> None:
    """The inverse of `collect`, in place. Raises OutputError where the checkpoint is of another model."""
    restore_weights(tensors, model)
    trained = trained_weights(model)
    average.means = [
        tensors[_AVERAGE + name].to(weight) for name, weight in trained.items() if _AVERAGE + name in tensors
    ]
    for key, value in tensors.items():
        if key.startswith(_OPTIMIZER):
            state, _, name = key.removeprefix(_OPTIMIZER).partition("/")
            weight = trained[name]
            optimizer.state[weight][state] = value if state == "step" else value.to(weight)  # Adam counts on the CPU


@torch.no_grad()
def restore_weights(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Only the weights that learn, in place. Raises OutputError where the checkpoint is of another model."""
    expected = {_WEIGHTS + name: weight for name, weight in trained_weights(model).items()}
    found = {name for name in tensors if name.startswith(_WEIGHTS)}
    if found != expected.keys():
        wrong = sorted(found ^ expected.keys())
        raise OutputError(f"the checkpoint is of another model; they differ in {', '.join(wrong[:3])}")
    for name, weight in expected.items():
        weight.copy_(tensors[name])


def trained_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that learn, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def read_log(folder: Folder, name: str, last_step: int) -> list[dict[str, Any]]:
    """Lines of a run's log up to a step."""
    if folder.info(name) is None:
        return []
    lines = [json.loads(line) for line in folder.read_bytes(name).splitlines()]
    return [line for line in lines if line["step"] <= last_step]


def _name(step: int, suffix: str) -> str:
    return f"{_DIRECTORY}/{step:08d}.{suffix}"
