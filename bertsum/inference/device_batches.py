"""Batches that a device has been given, and the scores that come of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

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


@dataclass(slots=True)
class Running:
    """A batch that was given to the device. Its tensors lie in the host's memory and hold scores once `done`."""

    places: list[int]  # [B] of its documents
    num_sentences: list[int] = field(default_factory=list)  # [B]
    sentence_scores: Tensor | None = None  # [S]
    sentiment_scores: Tensor | None = None  # [B, C]
    topic_scores: Tensor | None = None  # [B, C]
    token_labels: Tensor | None = None  # [T] in the order of the batch
    documents: Sequence[EncodedDocument] = ()  # [B]
    error: str | None = None
    done: Any = None  # a torch.cuda.Event

    @classmethod
    def of(cls, batch: Batch, logits: Logits, documents: Sequence[EncodedDocument]) -> Self:
        """Ask for the probabilities of a batch whose logits are being computed. `documents`: its own, in its order."""
        sentences = to_host(logits.sentence_logits.sigmoid().float())
        sentiments, topics = (
            None if values is None else to_host(values.float().softmax(1))
            for values in (logits.sentiment_logits, logits.topic_logits)
        )
        tokens = (
            None
            if logits.token_sentiment_logits is None
            else to_host(logits.token_sentiment_logits.argmax(1))
        )
        running = cls(
            batch.documents, batch.num_sentences, sentences, sentiments, topics, tokens, documents
        )
        if logits.sentence_logits.is_cuda:
            event: Any = torch.cuda.Event  # carries no types
            running.done = event()
            running.done.record()
        return running

    def results(self) -> dict[int, Scores]:
        """Scores by place; waits for the device. Raises DeviceError when it was lost."""
        if self.sentence_scores is None:
            return {place: Scores(error=self.error) for place in self.places}
        try:
            if self.done is not None:
                self.done.synchronize()
        except Exception as error:
            refuse_lost_device(error)
            raise
        sentences = torch.split(self.sentence_scores, self.num_sentences)
        nothing: list[Any] = [None] * len(self.places)
        sentiments, topics = (
            nothing if values is None else list(values.numpy())
            for values in (self.sentiment_scores, self.topic_scores)
        )
        tokens = (
            nothing
            if self.token_labels is None
            else split_tokens(self.token_labels.numpy(), self.documents)
        )
        return {
            place: Scores(scores.numpy(), sentiment, topic_scores=topic, token_labels=labels)
            for place, scores, sentiment, topic, labels in zip(
                self.places, sentences, sentiments, topics, tokens, strict=True
            )
        }


def to_host(values: Tensor) -> Tensor:
    """A copy in pinned memory, which is complete when the device's stream comes to it; on a CPU the tensor itself."""
    if not values.is_cuda:
        return values
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(
        values, non_blocking=True
    )


def refuse_lost_device(error: Exception) -> None:
    """Out of memory is a RuntimeError of its own; other errors of CUDA stay until the process ends."""
    if isinstance(error, torch.AcceleratorError):
        raise DeviceError(f"the device failed: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
