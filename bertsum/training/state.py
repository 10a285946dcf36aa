"""The state of a run on disk, from which it resumes: `checkpoints/STEP.safetensors` and `.json`.

Random numbers, the learning rates and the position in the data are functions of the step and the
configuration, so the step stands for them. The rest is tensors: the weights that learn, the
optimizer's moments, the average of weights. Beside them are vectors that a run computes once: of
sentences by an encoder that does not learn, and those to hold. Nothing is pickled.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from bertsum.errors import OutputError
from bertsum.storage.folder import Folder
from bertsum.text.encoder import EncodedDocument
from bertsum.training.optimization import WeightAverage

_DIRECTORY = "checkpoints"
# beginnings of the tensors' names
_WEIGHTS, _AVERAGE, _OPTIMIZER = "weights/", "average/", "optimizer/"


LogLine = dict[str, Any]  # losses and measures of a step, by name


class RunState(BaseModel):
    """Content of `checkpoints/STEP.json`, which is written last.

    Without it there is no checkpoint of that step.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    plan_digest: str = Field(description="of the rows that are trained on")
    step: int = Field(0, description="optimizer steps done")
    averaged_steps: int = 0
    score: float | None = Field(
        None, description="best_metric of these weights, where they were measured"
    )
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
        """Write a checkpoint, then remove older ones and what a killed run left of one."""
        # safetensors refuses tensors that are not contiguous
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._folder.write_replace(_name(state.step, "safetensors"), save(on_cpu))
        self._folder.write_replace(_name(state.step, "json"), state.model_dump_json().encode())
        # only now: a run that is killed between the writes has the checkpoints before it
        self._remove_old(state.step)
        # tensors without a JSON file: a run was killed before it wrote that file, or after it had
        # removed it
        names = self._folder.list_names(_DIRECTORY)
        for name in names:
            stem = name.removesuffix(".safetensors")
            if name != stem and f"{stem}.json" not in names:
                self._folder.remove(name)

    def latest(self, on_damage: Callable[[str], None] = lambda text: None) -> RunState | None:
        """The newest checkpoint that is whole; None where there is none.

        `on_damage` gets a sentence on each newer one, which is damaged. Raises OutputError where
        all of them are, and for one of another version of bertsum.
        """
        damaged: list[str] = []
        for step in reversed(self._steps()):
            state = self._read(step)
            if state is not None:
                for text in damaged:
                    on_damage(f"{text}; an older one is used")
                return state
            damaged.append(f"the checkpoint {self._folder}/{_name(step, 'safetensors')} is damaged")
        if damaged:
            raise OutputError(
                f"{damaged[0]}, and no other one is left; remove {_DIRECTORY}/ to begin again"
            )
        return None

    def read_tensors(self, step: int) -> dict[str, Tensor]:
        """Tensors of a checkpoint, on the CPU. Raises OutputError where they are damaged."""
        name = _name(step, "safetensors")
        try:
            return load(self._folder.read_bytes(name))
        except SafetensorError as error:
            raise OutputError(f"{self._folder}/{name} is damaged: {error}") from error

    def _steps(self) -> list[int]:
        """Steps with both files of a checkpoint, in order."""
        names = self._folder.list_names()
        steps = []
        for name in names:
            stem = name.removeprefix(f"{_DIRECTORY}/").removesuffix(".json")
            is_step = name.endswith(".json") and stem.isdigit()
            if is_step and _name(int(stem), "safetensors") in names:
                steps.append(int(stem))
        return sorted(steps)

    def _read(self, step: int) -> RunState | None:
        """None for a damaged checkpoint."""
        name = _name(step, "json")
        try:
            values = json.loads(self._folder.read_bytes(name))
        except ValueError:
            return None
        if not self._is_whole(_name(step, "safetensors")):
            return None
        try:
            return RunState.model_validate(values)
        except ValidationError as error:
            reason = error.errors()[0]
            raise OutputError(
                f"{self._folder}/{name} is of another version of bertsum "
                f"({'.'.join(map(str, reason['loc']))}: "
                f"{reason['msg']}); go on with that version, or train into an empty OUTPUT"
            ) from error

    def _is_whole(self, name: str) -> bool:
        """Whether a safetensors file is as long as it says itself.

        A full disk or a copy may have cut it off. It starts with the length of its header in 8
        bytes. The header is JSON and has the offsets of each tensor in the rest: with 100 bytes of
        header and a last tensor that ends at 40, the file has 148 bytes.
        """
        info = self._folder.info(name)
        size = info.size if info else 0
        with self._folder.open(name) as stream:
            length = int.from_bytes(stream.read(8), "little")
            try:
                header = json.loads(stream.read(min(length, size)))
            except ValueError:
                return False
        end = 0
        for key, tensor in header.items():
            if key != "__metadata__":
                end = max(end, tensor["data_offsets"][1])
        return bool(size == 8 + length + end)

    def _remove_old(self, newest: int) -> None:
        """Remove all but the newest checkpoint and the best (or next newest) ones.

        Damaged ones go, and those of later steps: the run resumed from an older one.
        """
        steps = set(self._steps()) - {newest}
        usable = []
        for step in steps:
            state = self._read(step)
            if state and step < newest:
                usable.append(state)
        # the newest is kept besides, so that one less is left to choose
        usable.sort(key=_rank, reverse=True)
        kept = {state.step for state in usable[: self._num_kept - 1]}
        for step in steps - kept:
            for suffix in ("json", "safetensors"):
                self._folder.remove(_name(step, suffix))


def weights_digest(settings: str, weights: Mapping[str, Tensor]) -> bytes:
    """Digest of weights, and of the settings with which they are used."""
    digest = hashlib.sha256(settings.encode())
    for name, weight in weights.items():
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().flatten().numpy().data)
    return digest.digest()


def documents_digest(weights: bytes, documents: Sequence[EncodedDocument]) -> str:
    """Hex digest of a `weights_digest` and of what the weights read of documents."""
    digest = hashlib.sha256(weights)
    for document in documents:
        for values in (
            document.input_ids,
            document.token_type_ids,
            document.token_sentences,
            document.cls_positions,
            document.window_lengths,
        ):
            # with their number: [1, 2] and [3] are not [1] and [2, 3]
            digest.update(len(values).to_bytes(8, "big") + values.tobytes())
    return digest.hexdigest()


class VectorStore:
    """Sentence vectors by the digest of what they were computed from.

    Each `DIGEST.arrow` is an Arrow IPC file with a list of float32 vectors for each document, to the
    last bit what the heads have learned from. Runs may read and write at the same time: of one
    digest there is one content.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.num_read = self.num_written = 0  # files, by this store

    def read(self, digest: str, counts: Sequence[int], hidden_size: int) -> list[Tensor] | None:
        """[S, H] vectors of each document; None where there is no whole file of them.

        `counts`: sentences of each document.
        """
        name = f"{digest}.arrow"
        if self.folder.info(name) is None:
            return None
        try:
            with pa.ipc.open_file(self.folder.read_bytes(name)) as file:
                documents = file.read_all()["vectors"].combine_chunks()
            documents.validate(full=True)
        except (pa.ArrowException, OSError, KeyError):  # cut off, or of something else
            return None
        has_type = documents.type == _vectors_type(hidden_size)
        if not has_type or documents.value_lengths().to_pylist() != list(counts):
            return None
        self.num_read += 1
        values = documents.flatten().flatten().to_numpy().reshape(-1, hidden_size)
        # copied: PyTorch wants memory that may be written to
        return list(torch.split(torch.tensor(values), list(counts)))

    def write(self, digest: str, vectors: Sequence[Tensor]) -> None:
        """Write the [S, H] float32 vectors of documents, at least one."""
        hidden_size = vectors[0].shape[1]
        values = torch.cat(list(vectors)).flatten().numpy()
        # documents of 2 and 3 sentences: [0, 2, 5]
        stops = torch.tensor([0, *map(len, vectors)]).cumsum(0).to(torch.int32).numpy()
        kind = _vectors_type(hidden_size)
        sentences = pa.FixedSizeListArray.from_arrays(values, type=kind.value_type)
        documents = pa.ListArray.from_arrays(stops, sentences, type=kind)
        batch = pa.RecordBatch.from_arrays([documents], ["vectors"])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as file:
            file.write_batch(batch)
        self.folder.write_replace(f"{digest}.arrow", memoryview(sink.getvalue()))
        self.num_written += 1

    def clear(self) -> None:
        """Remove all vectors."""
        for name in self.folder.list_names():
            if name.endswith(".arrow"):
                self.folder.remove(name)


def _vectors_type(hidden_size: int) -> pa.DataType:
    return pa.list_(pa.list_(pa.float32(), hidden_size))


def _rank(state: RunState) -> tuple[bool, float, int]:
    """Sorts the better ones higher: what was measured by its score, above the rest by step."""
    if state.score is None:
        return False, 0.0, state.step
    return True, state.score, -state.step  # of equally good ones the earlier


def collect(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage
) -> dict[str, Tensor]:
    """Everything that a step changes, by names that say what it is."""
    trained = trained_weights(model)
    tensors: dict[str, Tensor] = {}
    for name, weight in trained.items():
        tensors[_WEIGHTS + name] = weight
    for name, mean in zip(trained, average.means, strict=False):  # there may be no means yet
        tensors[_AVERAGE + name] = mean
    for name, weight in trained.items():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{_OPTIMIZER}{key}/{name}"] = value
    return tensors


def restore(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage,
) -> None:
    """The inverse of `collect`, in place.

    Raises OutputError where the checkpoint is of another model; then average and optimizer are as
    they were.
    """
    restore_weights(tensors, model)
    trained = trained_weights(model)
    for key, value in tensors.items():
        if key.startswith(_AVERAGE):
            name = key.removeprefix(_AVERAGE)
        elif key.startswith(_OPTIMIZER):
            name = key.split("/", 2)[2]
        else:
            continue
        if name not in trained:
            raise OutputError(
                f"the checkpoint is of another model: it has {key}, and no such weight learns"
            )
        # Adam's count of steps is a number
        if value.shape not in (trained[name].shape, torch.Size()):
            raise _other_shape(key, value, trained[name])
    average.means = []
    for name, weight in trained.items():
        if _AVERAGE + name in tensors:
            average.means.append(tensors[_AVERAGE + name].to(weight))
    for key, value in tensors.items():
        if key.startswith(_OPTIMIZER):
            # `optimizer/exp_avg/encoder.layer.0.weight`
            moment, _, name = key.removeprefix(_OPTIMIZER).partition("/")
            weight = trained[name]
            # Adam counts its steps on the CPU
            optimizer.state[weight][moment] = value if moment == "step" else value.to(weight)


@torch.no_grad()
def restore_weights(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Restore only the weights that learn, in place.

    Raises OutputError where the checkpoint is of another model; then no weight has changed.
    """
    trained = {_WEIGHTS + name: weight for name, weight in trained_weights(model).items()}
    stored = {name for name in tensors if name.startswith(_WEIGHTS)}
    if stored != trained.keys():
        wrong = sorted(stored ^ trained.keys())
        differences = ", ".join(wrong[:3])
        raise OutputError(f"the checkpoint is of another model; they differ in {differences}")
    for name, weight in trained.items():
        if tensors[name].shape != weight.shape:
            raise _other_shape(name, tensors[name], weight)
    for name, weight in trained.items():
        weight.copy_(tensors[name])


def _other_shape(name: str, tensor: Tensor, weight: Tensor) -> OutputError:
    shapes = f"{tuple(tensor.shape)}, and not {tuple(weight.shape)}"
    return OutputError(f"the checkpoint is of another model: its {name} is of shape {shapes}")


def trained_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that learn, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def read_log(folder: Folder, name: str, last_step: int) -> list[LogLine]:
    """Lines of a run's log up to a step. Raises OutputError where it is damaged."""
    if folder.info(name) is None:
        return []
    try:
        lines = [json.loads(line) for line in folder.read_bytes(name).splitlines()]
    except ValueError as error:
        raise OutputError(
            f"{folder}/{name} is damaged: {error}; remove it, and the run goes on without the "
            "lines until here"
        ) from error
    return [line for line in lines if line["step"] <= last_step]


def _name(step: int, suffix: str) -> str:
    return f"{_DIRECTORY}/{step:08d}.{suffix}"
