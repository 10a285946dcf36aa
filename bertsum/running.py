"""Batches that a device has been given, and the scores that come of them."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.batching import Batch
from bertsum.errors import DeviceError
from bertsum.model import Logits


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model says of one document: probabilities, or why there are none."""

    sentence_scores: npt.NDArray[np.float32] | None = None  # [S]
    sentiment_scores: npt.NDArray[np.float32] | None = None  # [C]
    error: str | None = None


@dataclass(slots=True)
class Running:
    """A batch that was given to the device. Its tensors lie in the host's memory and hold scores once `done`."""

    places: list[int]  # [B] of its documents
    num_sentences: list[int] = field(default_factory=list)  # [B]
    sentence_scores: Tensor | None = None  # [S]
    sentiment_scores: Tensor | None = None  # [B, C]
    error: str | None = None
    done: Any = None  # a torch.cuda.Event

    @classmethod
    def of(cls, batch: Batch, logits: Logits) -> Self:
        """Ask for the probabilities of a batch whose logits are being computed."""
        sentences = to_host(logits.sentence_logits.sigmoid().float())
        sentiments = logits.sentiment_logits
        if sentiments is not None:
            sentiments = to_host(sentiments.float().softmax(1))
        running = cls(batch.documents, batch.num_sentences, sentences, sentiments)
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
        sentiments: Any = [None] * len(self.places)
        if self.sentiment_scores is not None:
            sentiments = list(self.sentiment_scores.numpy())
        return {
            place: Scores(scores.numpy(), sentiment)
            for place, scores, sentiment in zip(self.places, sentences, sentiments, strict=True)
        }


def to_host(values: Tensor) -> Tensor:
    """A copy in pinned memory, which is complete when the device's stream comes to it; on a CPU the tensor itself."""
    if not values.is_cuda:
        return values
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)


def refuse_lost_device(error: Exception) -> None:
    """Out of memory is a RuntimeError of its own; other errors of CUDA stay until the process ends."""
    if isinstance(error, torch.AcceleratorError):
        raise DeviceError(f"the device failed: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
