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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What an example's document is the right answer to."""

    query: EncodedDocument
    negatives: tuple[EncodedDocument, ...] = ()  # wrong answers that look right
    weight: float = 1.0


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
    pair: Pair | None = None
    is_held: bool = False  # whether its vectors shall stay near those from before the run
    # [1, H] of the document, or [2, H] with the query, from before the run; None: not known yet
    held_vectors: npt.NDArray[np.float32] | None = None

    @property
    def texts(self) -> list[EncodedDocument]:
        """All that an encoder reads of it: the document, then the query, then the negatives."""
        if self.pair is None:
            return [self.document]
        return [self.document, self.pair.query, *self.pair.negatives]

    @property
    def num_tokens(self) -> int:
        """Tokens of all its texts."""
        return sum(len(text.input_ids) for text in self.texts)


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
        - `token_counts`: [N] tokens of all texts of each example.
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
            counts.append(example.num_tokens)
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
    """Count the tokens of all texts of each example: [N]."""
    if isinstance(examples, ExampleFile):
        return examples.token_counts  # known without reading the file
    return np.array([example.num_tokens for example in examples], np.int32)


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


def summarized(examples: Sequence[Example]) -> Sequence[Example]:
    """Return the examples with a reference summary."""
    kept = []
    for index, example in enumerate(examples):
        if example.summary and example.summary.strip():
            kept.append(index)
    return select(examples, kept)


def is_labelled(example: Example) -> bool:
    """Return whether any head learns from the example."""
    return (
        example.sentiment_label != IGNORE
        or example.topic_label != IGNORE
        or example.token_labels is not None
        or bool((example.sentence_labels != IGNORE).any())
        or example.pair is not None
        or example.is_held
    )


def _to_arrays(example: Example) -> dict[str, npt.NDArray[np.generic]]:
    """Turn an example into the named arrays of its record; what is None has no array."""
    # safetensors holds arrays only: text goes as its UTF-8 bytes, single numbers as one array.
    numbers = [
        example.sentiment_label,
        example.topic_label,
        example.summary_size,
        int(example.is_held),
    ]
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "labels": np.array(numbers, np.int64),
        "sentence_labels": example.sentence_labels,
    }
    # "0/text" is of the document; with a pair, "1/text" of the query and "2/text" of a negative
    for number, document in enumerate(example.texts):
        for name, values in _document_to_arrays(document).items():
            arrays[f"{number}/{name}"] = values
    if example.pair is not None:
        arrays["pair_weight"] = np.array([example.pair.weight])
    if example.summary is not None:
        arrays["summary"] = _encode_text(example.summary)
    if example.token_labels is not None:
        arrays["token_labels"] = example.token_labels
    if example.vectors is not None:
        arrays["vectors"] = example.vectors.numpy()
    if example.held_vectors is not None:
        arrays["held_vectors"] = example.held_vectors
    return arrays


def _document_to_arrays(document: EncodedDocument) -> dict[str, npt.NDArray[np.generic]]:
    numbers = [
        document.num_read_sentences,
        document.num_tokens,
        int(document.is_unknown_language),
    ]
    return {
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
    }


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Example:
    """Turn the arrays of a record back into its example."""
    sentiment_label, topic_label, summary_size, is_held = arrays["labels"].tolist()
    pair = None
    if "pair_weight" in arrays:
        negatives: list[EncodedDocument] = []
        while f"{len(negatives) + 2}/text" in arrays:
            negatives.append(_document_from_arrays(arrays, f"{len(negatives) + 2}/"))
        pair = Pair(
            query=_document_from_arrays(arrays, "1/"),
            negatives=tuple(negatives),
            weight=float(arrays["pair_weight"][0]),
        )
    return Example(
        document=_document_from_arrays(arrays, "0/"),
        sentence_labels=arrays["sentence_labels"],
        sentiment_label=sentiment_label,
        summary=_decode_text(arrays["summary"]) if "summary" in arrays else None,
        topic_label=topic_label,
        token_labels=arrays.get("token_labels"),
        vectors=torch.from_numpy(arrays["vectors"]) if "vectors" in arrays else None,
        summary_size=summary_size,
        pair=pair,
        is_held=bool(is_held),
        held_vectors=arrays.get("held_vectors"),
    )


def _document_from_arrays(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> EncodedDocument:
    num_read_sentences, num_tokens, is_unknown = arrays[prefix + "numbers"].tolist()
    return EncodedDocument(
        text=_decode_text(arrays[prefix + "text"]),
        language=_decode_text(arrays[prefix + "language"]),
        spans=[(start, stop) for start, stop in arrays[prefix + "spans"].tolist()],  # tuples again
        sentence_tokens=arrays[prefix + "sentence_tokens"],
        input_ids=arrays[prefix + "input_ids"],
        token_type_ids=arrays[prefix + "token_type_ids"],
        token_sentences=arrays[prefix + "token_sentences"],
        cls_positions=arrays[prefix + "cls_positions"],
        window_lengths=arrays[prefix + "window_lengths"],
        surface=arrays[prefix + "surface"],
        num_read_sentences=num_read_sentences,
        num_tokens=num_tokens,
        is_unknown_language=bool(is_unknown),
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
