"""Labelled, encoded documents, and a file of them.

What a worker trains on need not fit into its memory.
"""

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """An encoded document and its labels; IGNORE where it has none.

    S sentences in T tokens are read of the document. A sentence vector has H features.
    """

    document: EncodedDocument
    sentence_labels: npt.NDArray[np.float32]  # [S] 1 for a sentence of the summary, else 0
    sentiment_label: int
    summary: str | None  # the reference, for measuring
    topic_label: int = IGNORE
    # [T] the label of a word on its first token, else IGNORE; None if no word has a label
    token_labels: npt.NDArray[np.int64] | None = None
    vectors: Tensor | None = None  # [S, H] where the encoder does not learn
    summary_size: int = 0  # sentences that a summary should have, where there is one


class ExampleFile(Sequence[Example]):
    """Examples in a temporary file, each a safetensors record that is read when it is asked for.

    Memory holds 20 bytes an example. The file lies where Python's `tempfile` puts it (TMPDIR).
    """

    def __init__(
        self,
        file: "_NamelessFile",
        bounds: npt.NDArray[np.int64],
        token_counts: npt.NDArray[np.int32],
        num_skipped: int = 0,
    ) -> None:
        """Show the records of `file` as examples.

        - `bounds`: [N, 2] where each record starts and stops, in bytes.
        - `token_counts`: [N] tokens of all windows of each example.
        - `num_skipped`: rows that gave no example.
        """
        self._file, self._bounds, self.token_counts = file, bounds, token_counts
        self.num_skipped = num_skipped

    @classmethod
    def write(cls, examples: Iterable[Example | None]) -> "ExampleFile":
        """Write examples to a new file, holding one at a time; None counts as skipped.

        Raises OutputError if there is no room for them.
        """
        file = _NamelessFile()
        # Typed arrays, since a list would hold an object of 32 bytes for each number.
        offsets, counts, num_skipped = array("q", [0]), array("i"), 0
        for example in examples:
            if example is None:
                num_skipped += 1
                continue
            record = save(_to_arrays(example))
            file.append(record)
            offsets.append(offsets[-1] + len(record))
            counts.append(len(example.document.input_ids))
        # Records follow each other: offsets 0, 90, 250 are the bounds [[0, 90], [90, 250]].
        # Each has both of its ends, so that `select` can leave out and reorder records.
        edges = np.array(offsets, np.int64)
        bounds = np.stack([edges[:-1], edges[1:]], axis=1)
        return cls(file, bounds, np.array(counts, np.int32), num_skipped)

    def select(self, indices: slice | npt.NDArray[np.int64]) -> "ExampleFile":
        """Return the examples at `indices`, in that order; they stay in the same file."""
        return ExampleFile(self._file, self._bounds[indices], self.token_counts[indices])

    def __len__(self) -> int:
        return len(self._bounds)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> "ExampleFile": ...

    def __getitem__(self, index: int | slice) -> "Example | ExampleFile":
        if isinstance(index, slice):
            return self.select(index)
        start, stop = self._bounds[index].tolist()
        return _from_arrays(load(self._file.read(start, stop)))


def token_counts(examples: Sequence[Example]) -> npt.NDArray[np.int32]:
    """Count the tokens of all windows of each example: [N]."""
    if isinstance(examples, ExampleFile):
        return examples.token_counts  # known without reading the file
    return np.array([len(example.document.input_ids) for example in examples], np.int32)


def select(examples: Sequence[Example], indices: Sequence[int]) -> Sequence[Example]:
    """Return the examples at `indices`, in that order; those of a file stay in it."""
    if isinstance(examples, ExampleFile):
        return examples.select(np.array(indices, np.int64))
    return [examples[index] for index in indices]


def labelled(examples: Sequence[Example]) -> Sequence[Example]:
    """Return the examples from which any head learns."""
    kept = [index for index, example in enumerate(examples) if is_labelled(example)]
    return select(examples, kept)


def measurable(examples: Sequence[Example]) -> Sequence[Example]:
    """Return the examples that have something to measure by.

    A summary that shares no word with its document teaches nothing, but it is measured by:
    without such rows ROUGE would look better than it is.
    """
    kept = []
    for index, example in enumerate(examples):
        if example.summary or is_labelled(example):
            kept.append(index)
    return select(examples, kept)


def is_labelled(example: Example) -> bool:
    """Return whether any head learns from the example."""
    return (
        example.sentiment_label != IGNORE
        or example.topic_label != IGNORE
        or example.token_labels is not None
        or bool((example.sentence_labels != IGNORE).any())
    )


def _to_arrays(example: Example) -> dict[str, npt.NDArray[np.generic]]:
    """Turn an example into the named arrays of its record; what is None has no array."""
    document = example.document
    # safetensors holds arrays only: text goes as its UTF-8 bytes, single numbers as one array.
    numbers = [
        document.num_read_sentences,
        document.num_tokens,
        int(document.is_unknown_language),
        example.sentiment_label,
        example.topic_label,
        example.summary_size,
    ]
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "text": _encode_text(document.text),
        "language": _encode_text(document.language),
        "spans": np.array(document.spans, np.int32),
        "sentence_tokens": document.sentence_tokens,
        "input_ids": document.input_ids,
        "token_type_ids": document.token_type_ids,
        "token_sentences": document.token_sentences,
        "cls_positions": document.cls_positions,
        "window_lengths": document.window_lengths,
        "surface": document.surface,
        "numbers": np.array(numbers, np.int64),
        "sentence_labels": example.sentence_labels,
    }
    if example.summary is not None:
        arrays["summary"] = _encode_text(example.summary)
    if example.token_labels is not None:
        arrays["token_labels"] = example.token_labels
    if example.vectors is not None:
        arrays["vectors"] = example.vectors.numpy()
    return arrays


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Example:
    """Turn the arrays of a record back into its example."""
    num_read_sentences, num_tokens, is_unknown, *labels = arrays["numbers"].tolist()
    sentiment_label, topic_label, summary_size = labels
    document = EncodedDocument(
        text=_decode_text(arrays["text"]),
        language=_decode_text(arrays["language"]),
        spans=[(start, stop) for start, stop in arrays["spans"].tolist()],  # tuples again
        sentence_tokens=arrays["sentence_tokens"],
        input_ids=arrays["input_ids"],
        token_type_ids=arrays["token_type_ids"],
        token_sentences=arrays["token_sentences"],
        cls_positions=arrays["cls_positions"],
        window_lengths=arrays["window_lengths"],
        surface=arrays["surface"],
        num_read_sentences=num_read_sentences,
        num_tokens=num_tokens,
        is_unknown_language=bool(is_unknown),
    )
    return Example(
        document=document,
        sentence_labels=arrays["sentence_labels"],
        sentiment_label=sentiment_label,
        summary=_decode_text(arrays["summary"]) if "summary" in arrays else None,
        topic_label=topic_label,
        token_labels=arrays.get("token_labels"),
        vectors=torch.from_numpy(arrays["vectors"]) if "vectors" in arrays else None,
        summary_size=summary_size,
    )


def _encode_text(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _decode_text(data: npt.NDArray[np.uint8]) -> str:
    return data.tobytes().decode()


class _NamelessFile:
    """A temporary file that is gone with the last object that holds it, also after a kill."""

    def __init__(self) -> None:
        try:
            self.descriptor, path = tempfile.mkstemp(prefix="bertsum-examples-")
            # From now on the operating system frees the file's space when its descriptor is closed.
            weakref.finalize(self, os.close, self.descriptor)
            Path(path).unlink()
        except OSError as error:
            raise _no_room(error) from error

    def append(self, data: bytes) -> None:
        """Write all of `data` at the end. Raises OutputError if there is no room."""
        try:
            while data:  # a write may take a part of it only
                data = data[os.write(self.descriptor, data) :]
        except OSError as error:
            raise _no_room(error) from error

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`; threads may read at the same time."""
        return os.pread(self.descriptor, stop - start, start)


def _no_room(error: OSError) -> OutputError:
    return OutputError(
        f"cannot keep the rows in a temporary file in {tempfile.tempdir or 'TMPDIR'}: "
        f"{describe(error)}. Make room there, or set TMPDIR to a directory that has it"
    )
