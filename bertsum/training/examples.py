"""Labelled, encoded documents, and a file of them: what a worker trains on need not fit into its memory."""

import os
import tempfile
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load, save
from torch import Tensor

from bertsum.errors import OutputError
from bertsum.masking import describe
from bertsum.model.losses import IGNORE
from bertsum.text.encoder import EncodedDocument


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded document and its labels; IGNORE where it has none."""

    document: EncodedDocument
    sentence_labels: npt.NDArray[np.float32]  # [S]
    sentiment_label: int
    summary: str | None  # the reference, for measuring
    topic_label: int = IGNORE
    token_labels: npt.NDArray[np.int64] | None = None  # [T] on the first token of each word; None: no word is labelled
    vectors: Tensor | None = None  # [S, H] where the encoder does not learn
    summary_size: int = 0  # sentences that a summary should have, where there is one


class ExampleFile(Sequence[Example]):
    """Examples in a temporary file, each a safetensors record that is read anew whenever it is asked for.

    In memory there are 20 bytes an example. The file lies where Python's `tempfile` puts it (TMPDIR) and has no name,
    so that it is gone with the last that holds it, also after a kill.
    """

    def __init__(
        self,
        file: FileIO,
        bounds: npt.NDArray[np.int64],
        token_counts: npt.NDArray[np.int32],
        num_skipped: int = 0,
    ) -> None:
        """`bounds`: [N, 2] where each record starts and stops, in bytes.

        `token_counts`: [N] tokens of its windows. `num_skipped`: rows that gave no example.
        """
        self._file, self._bounds, self.token_counts = file, bounds, token_counts
        self.num_skipped = num_skipped

    @classmethod
    def write(cls, examples: Iterable[Example | None]) -> "ExampleFile":
        """A file with these examples, of which only one at a time is held; None counts as skipped.

        Raises OutputError for want of space.
        """
        file = _open_nameless()
        stops, counts, num_skipped = array("q", [0]), array("i"), 0
        for example in examples:
            if example is None:
                num_skipped += 1
                continue
            record = save(_arrays(example))
            _append(file, record)
            stops.append(stops[-1] + len(record))
            counts.append(len(example.document.input_ids))
        places = np.array(stops, np.int64)
        bounds = np.stack([places[:-1], places[1:]], axis=1)
        return cls(file, bounds, np.array(counts, np.int32), num_skipped)

    def select(self, places: slice | npt.NDArray[np.int64]) -> "ExampleFile":
        """Some of the examples, in another order if that is asked for, in the same file."""
        return ExampleFile(self._file, self._bounds[places], self.token_counts[places])

    def __len__(self) -> int:
        return len(self._bounds)

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> "ExampleFile": ...

    def __getitem__(self, place: int | slice) -> "Example | ExampleFile":
        if isinstance(place, slice):
            return self.select(place)
        start, stop = self._bounds[place].tolist()
        return _example(load(os.pread(self._file.fileno(), stop - start, start)))


def token_counts(examples: Sequence[Example]) -> npt.NDArray[np.int32]:
    """[N] tokens of the windows of each example."""
    if isinstance(examples, ExampleFile):
        return examples.token_counts
    return np.array([len(example.document.input_ids) for example in examples], np.int32)


def select(examples: Sequence[Example], places: Sequence[int]) -> Sequence[Example]:
    """Some of the examples, in the order of `places`; those of a file stay in it."""
    if isinstance(examples, ExampleFile):
        return examples.select(np.array(places, np.int64))
    return [examples[place] for place in places]


def labelled(examples: Sequence[Example]) -> Sequence[Example]:
    """Those from which any head learns."""
    return select(examples, [place for place, example in enumerate(examples) if is_labelled(example)])


def measurable(examples: Sequence[Example]) -> Sequence[Example]:
    """Those with something to measure by, also a summary that shares no word with the document and teaches nothing.

    Without such rows ROUGE would look better than it is.
    """
    kept = [place for place, example in enumerate(examples) if example.summary or is_labelled(example)]
    return select(examples, kept)


def is_labelled(example: Example) -> bool:
    """Whether any head learns from the example."""
    has_class = example.sentiment_label != IGNORE or example.topic_label != IGNORE or example.token_labels is not None
    return has_class or bool((example.sentence_labels != IGNORE).any())


_ARRAYS = (
    "sentence_tokens",
    "input_ids",
    "token_type_ids",
    "token_sentences",
    "cls_positions",
    "window_lengths",
    "surface",
)


def _arrays(example: Example) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `_example`."""
    document = example.document
    numbers = [document.num_read_sentences, document.num_tokens, int(document.is_unknown_language)]
    numbers += [example.sentiment_label, example.topic_label, example.summary_size]
    found = {name: getattr(document, name) for name in _ARRAYS}
    found |= {
        "text": _bytes(document.text),
        "language": _bytes(document.language),
        "spans": np.array(document.spans, np.int32),
        "numbers": np.array(numbers, np.int64),
        "sentence_labels": example.sentence_labels,
    }
    if example.summary is not None:
        found["summary"] = _bytes(example.summary)
    if example.token_labels is not None:
        found["token_labels"] = example.token_labels
    if example.vectors is not None:
        found["vectors"] = example.vectors.numpy()
    return found


def _example(arrays: Mapping[str, npt.NDArray[Any]]) -> Example:
    num_read_sentences, num_tokens, is_unknown, *labels = arrays["numbers"].tolist()
    sentiment_label, topic_label, summary_size = labels
    return Example(
        document=EncodedDocument(
            text=arrays["text"].tobytes().decode(),
            language=arrays["language"].tobytes().decode(),
            spans=[(start, stop) for start, stop in arrays["spans"].tolist()],
            num_read_sentences=num_read_sentences,
            num_tokens=num_tokens,
            is_unknown_language=bool(is_unknown),
            **{name: arrays[name] for name in _ARRAYS},
        ),
        sentence_labels=arrays["sentence_labels"],
        sentiment_label=sentiment_label,
        summary=arrays["summary"].tobytes().decode() if "summary" in arrays else None,
        topic_label=topic_label,
        token_labels=arrays.get("token_labels"),
        vectors=torch.from_numpy(arrays["vectors"]) if "vectors" in arrays else None,
        summary_size=summary_size,
    )


def _bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


class _Nameless(FileIO):
    def __del__(self) -> None:
        self.close()  # before Python complains that nobody did


def _open_nameless() -> FileIO:
    try:
        descriptor, name = tempfile.mkstemp(prefix="bertsum-examples-")
        Path(name).unlink()
    except OSError as error:
        raise _no_room(error) from error
    return _Nameless(descriptor, "r+")


def _append(file: FileIO, data: bytes) -> None:
    try:
        while data:
            data = data[file.write(data) :]
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> OutputError:
    return OutputError(
        f"cannot keep the rows in a temporary file in {tempfile.tempdir or 'TMPDIR'}: {describe(error)}. Make room "
        "there, or set TMPDIR to a directory that has it"
    )
