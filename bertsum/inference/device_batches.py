"""Batches that a device has been given, and the scores that come of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.errors import DeviceError
from bertsum.model.batches import Batch, split_tokens
from bertsum.model.bert_sum import Logits
from bertsum.text.encoder import EncodedDocument


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model says of one document: probabilities, or why there are none."""

    sentence_scores: npt.NDArray[np.float32] | None = None  # [S]
    sentiment_scores: npt.NDArray[np.float32] | None = None  # [C]
    error: str | None = None
    topic_scores: npt.NDArray[np.float32] | None = None  # [C]
    token_labels: npt.NDArray[np.int64] | None = None  # [T] the most likely class of each token


class Event(Protocol):
    """A mark in the device's queue, like `torch.cuda.Event`."""

    def synchronize(self) -> None:
        """Wait until the device comes to the mark."""


@dataclass(slots=True, kw_only=True)
class Running:
    """A batch that was given to the device.

    Its tensors lie in the host's memory. They hold scores once the device has come to `done`.
    """

    indices: list[int]  # [B] of its documents, in the caller's list
    num_sentences: list[int] = field(default_factory=list)  # [B]
    sentence_scores: Tensor | None = None  # [S]
    sentiment_scores: Tensor | None = None  # [B, C]
    topic_scores: Tensor | None = None  # [B, C]
    token_labels: Tensor | None = None  # [T] in the order of the batch
    documents: Sequence[EncodedDocument] = ()  # [B]
    error: str | None = None
    done: Event | None = None

    @classmethod
    def of(cls, batch: Batch, logits: Logits, documents: Sequence[EncodedDocument]) -> Self:
        """Ask for the probabilities of a batch whose logits are being computed.

        `documents`: [B] those of the batch, in its order.
        """
        # Each sentence is a yes or no of its own, so sigmoid; the classes of a document exclude
        # each other, so softmax. In float32, since bfloat16 has 3 digits. [S] and [B, C]
        running = cls(
            indices=batch.documents,
            num_sentences=batch.num_sentences,
            sentence_scores=to_host(logits.sentence_logits.sigmoid().float()),
            documents=documents,
        )
        if logits.sentiment_logits is not None:
            running.sentiment_scores = to_host(logits.sentiment_logits.float().softmax(1))
        if logits.topic_logits is not None:
            running.topic_scores = to_host(logits.topic_logits.float().softmax(1))
        if logits.token_sentiment_logits is not None:
            # the class alone travels: 8 bytes a token, however many classes there are
            running.token_labels = to_host(logits.token_sentiment_logits.argmax(1))
        if logits.sentence_logits.is_cuda:
            # after all copies in the queue, so that whoever waits for it has them whole
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch gives it no types
            event.record()
            running.done = event
        return running

    def results(self) -> dict[int, Scores]:
        """Scores by the document's index; waits for the device.

        Raises DeviceError when the device was lost.
        """
        if self.sentence_scores is None:
            return {index: Scores(error=self.error) for index in self.indices}
        try:
            if self.done is not None:
                self.done.synchronize()
        except Exception as error:
            refuse_lost_device(error)
            raise
        sentences = torch.split(self.sentence_scores, self.num_sentences)
        labels: Sequence[npt.NDArray[np.int64] | None] = [None] * len(self.indices)
        if self.token_labels is not None:
            labels = split_tokens(self.token_labels.numpy(), self.documents)
        # views, not copies: a row of [B, C] for each document
        sentiments = None if self.sentiment_scores is None else self.sentiment_scores.numpy()
        topics = None if self.topic_scores is None else self.topic_scores.numpy()
        results = {}
        for row, index in enumerate(self.indices):
            results[index] = Scores(
                sentence_scores=sentences[row].numpy(),
                sentiment_scores=None if sentiments is None else sentiments[row],
                topic_scores=None if topics is None else topics[row],
                token_labels=labels[row],
            )
        return results


def to_host(values: Tensor) -> Tensor:
    """Copy to the host; the copy is complete when the device's queue comes to it.

    On a CPU it is the tensor itself.
    """
    if not values.is_cuda:
        return values
    # Only into pinned memory does a GPU copy while the host goes on.
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return pinned.copy_(values, non_blocking=True)


def refuse_lost_device(error: Exception) -> None:
    """Raise DeviceError for an error after which the device is unusable until the process ends.

    Out of memory is none: it is a RuntimeError of its own.
    """
    if isinstance(error, torch.AcceleratorError):
        raise DeviceError(f"the device failed: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """The error's type and the beginning of its message, for a column or a message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
