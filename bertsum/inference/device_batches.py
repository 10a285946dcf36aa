"""Batches that a device has been given, and the scores that come of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.errors import DeviceError
from bertsum.model.batches import Batch, split_tokens
from bertsum.model.bert_sum import Logits, divide_logits
from bertsum.model.sums import document_lengths, pool_lengths, sentence_lengths
from bertsum.model.temperature import TemperatureByLength
from bertsum.text.encoder import EncodedDocument
from bertsum.text.ragged import split_runs

_CONTEXT_BYTES = 2**30  # more than CUDA takes of a GPU for a process, beside its tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the model says of one document: probabilities, or why there are none."""

    sentence_scores: npt.NDArray[np.float32] | None = None  # [S]
    sentiment_scores: npt.NDArray[np.float32] | None = None  # [C]
    error: str | None = None
    topic_scores: npt.NDArray[np.float32] | None = None  # [C]
    token_sentiments: npt.NDArray[np.float32] | None = None  # [T, C]
    sentence_sentiments: npt.NDArray[np.float32] | None = None  # [S, C] of each sentence alone
    document_vector: npt.NDArray[np.float32] | None = None  # [H] of length 1
    sentence_similarities: npt.NDArray[np.float32] | None = None  # [S] cosine to the document
    pool_sentiments: npt.NDArray[np.float32] | None = None  # [m, C] of the document's pools
    sentence_cosines: npt.NDArray[np.float32] | None = None  # [S, K] to the compared vectors
    query_cosines: npt.NDArray[np.float32] | None = None  # [S] to what the document is asked


class _Event(Protocol):
    """A torch.cuda.Event."""

    def record(self, stream: torch.cuda.Stream) -> None: ...
    def synchronize(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Running:
    """A batch that was given to the device, or the error that kept it from that.

    Its tensors are in the host's memory and hold scores once `done`.
    """

    indices: list[int]  # [B] of its documents
    num_sentences: list[int] = field(default_factory=list)  # [B]
    sentence_scores: Tensor | None = None  # [S]
    sentiment_scores: Tensor | None = None  # [B, C]
    topic_scores: Tensor | None = None  # [B, C]
    token_sentiments: Tensor | None = None  # [T, C] in the order of the batch
    sentence_sentiments: Tensor | None = None  # [S, C]
    document_vectors: Tensor | None = None  # [B, H]
    sentence_similarities: Tensor | None = None  # [S]
    sentence_cosines: Tensor | None = None  # [S, K]
    query_cosines: Tensor | None = None  # [S]
    pool_sentiments: Tensor | None = None  # [M, C]
    pool_counts: list[int] = field(default_factory=list)  # [B] pools of each document
    documents: Sequence[EncodedDocument] = ()  # [B]
    error: str | None = None
    done: _Event | None = None  # None on a CPU, where nothing runs beside the host
    # Where numbers may leave the range of their format: whether they did not, and what gives the
    # batch to the device again in another format. The indices that it returns count in the batch.
    is_finite: Tensor | None = None  # [] bool
    repeat: "Callable[[], Sequence[Running]] | None" = None

    @classmethod
    def of(
        cls,
        batch: Batch,
        logits: Logits,
        documents: Sequence[EncodedDocument],
        repeat: "Callable[[], Sequence[Running]] | None" = None,
    ) -> Self:
        """Ask for the probabilities of a batch whose logits are being computed.

        - `documents`: the batch's, in its order.
        - `repeat`: what computes it again where the logits are not finite, if they are to be asked.
        """
        temperatures = logits.temperatures
        temperature = temperatures.get("sentiment", 1.0)
        lengths = partial(document_lengths, batch)
        running = cls(
            indices=batch.documents,
            num_sentences=batch.num_sentences,
            sentence_scores=to_host(logits.sentence_logits.sigmoid().float()),
            sentiment_scores=_probabilities(logits.sentiment_logits, temperature, lengths),
            # a sentence is as long as a document that has no other
            sentence_sentiments=_probabilities(
                logits.sentence_sentiment_logits, temperature, partial(sentence_lengths, batch)
            ),
            topic_scores=_probabilities(
                logits.topic_logits, temperatures.get("topic", 1.0), lengths
            ),
            token_sentiments=_probabilities(
                logits.token_sentiment_logits, temperatures.get("token_sentiment", 1.0), lengths
            ),
            documents=documents,
        )
        if batch.pools is not None:
            running.pool_counts = batch.pools.counts
            running.pool_sentiments = _probabilities(
                logits.pool_sentiment_logits, temperature, partial(pool_lengths, batch.pools)
            )
        if logits.document_vectors is not None and logits.sentence_similarities is not None:
            running.document_vectors = to_host(logits.document_vectors)
            running.sentence_similarities = to_host(logits.sentence_similarities)
        if logits.sentence_cosines is not None:
            running.sentence_cosines = to_host(logits.sentence_cosines)
        if logits.query_cosines is not None:
            running.query_cosines = to_host(logits.query_cosines)
        if repeat is not None:
            running.is_finite, running.repeat = to_host(logits.are_finite()), repeat
        if logits.sentence_logits.is_cuda:
            new_event: Callable[[], _Event] = torch.cuda.Event  # which has no types itself
            running.done = new_event()
            # behind the copies above: the current device, whose stream would be the default, may be
            # another one
            running.done.record(torch.cuda.current_stream(logits.sentence_logits.device))
        return running

    def results(self) -> dict[int, Scores]:
        """Scores by index of the document; waits for the device.

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
        if self.repeat is not None and self.is_finite is not None and not self.is_finite.item():
            repeated = {}
            for running in self.repeat():
                for row, scores in running.results().items():
                    repeated[self.indices[row]] = scores
            return repeated
        sentences = self._by_document(self.sentence_scores, self.num_sentences)
        sentence_sentiments = self._by_document(self.sentence_sentiments, self.num_sentences)
        similarities = self._by_document(self.sentence_similarities, self.num_sentences)
        cosines = self._by_document(self.sentence_cosines, self.num_sentences)
        query_cosines = self._by_document(self.query_cosines, self.num_sentences)
        pool_sentiments = self._by_document(self.pool_sentiments, self.pool_counts)
        tokens = None
        if self.token_sentiments is not None:
            tokens = split_tokens(self.token_sentiments.numpy(), self.documents)
        results = {}
        for row, index in enumerate(self.indices):
            results[index] = Scores(
                sentence_scores=sentences[row],
                sentiment_scores=_row(self.sentiment_scores, row),
                topic_scores=_row(self.topic_scores, row),
                token_sentiments=None if tokens is None else tokens[row],
                sentence_sentiments=sentence_sentiments[row],
                document_vector=_row(self.document_vectors, row),
                sentence_similarities=similarities[row],
                pool_sentiments=pool_sentiments[row],
                sentence_cosines=cosines[row],
                query_cosines=query_cosines[row],
            )
        return results

    def _by_document(
        self, values: Tensor | None, counts: Sequence[int]
    ) -> Sequence[npt.NDArray[np.float32] | None]:
        """[n, ...] values of sentences or pools -> [B] those of each document.

        `counts`: [B] how many each document has.
        """
        if values is None:
            return [None] * len(self.indices)
        return split_runs(values.numpy(), counts)


def _probabilities(
    logits: Tensor | None,
    temperature: float | TemperatureByLength,
    lengths: Callable[[], Tensor],
) -> Tensor | None:
    """[n, C] -> [n, C] on the host. `lengths`: see `divide_logits`."""
    if logits is None:
        return None
    return to_host(divide_logits(logits.float(), temperature, lengths).softmax(1))


def _row(scores: Tensor | None, row: int) -> npt.NDArray[np.float32] | None:
    return None if scores is None else scores.numpy()[row]


def to_host(values: Tensor) -> Tensor:
    """Copy to pinned memory; the copy is complete when the device's stream comes to it.

    On a CPU, the tensor itself; from a GPU without CUDA a copy that is waited for.
    """
    if not values.is_cuda:
        return values.cpu()
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return copy.copy_(values, non_blocking=True)


def refuse_lost_device(error: Exception) -> None:
    """Raise DeviceError for an error after which the device is of no more use to this process.

    Out of memory is a RuntimeError of its own; other errors of CUDA stay until the process ends.
    """
    if isinstance(error, torch.AcceleratorError):
        raise DeviceError(f"the device failed: {one_line(error)}") from error


def is_crowded(device: torch.device) -> bool:
    """Whether other processes hold memory of a GPU that this one may use."""
    if device.type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(device) * total
    missing = share - torch.cuda.memory_reserved(device) - free
    return missing > _CONTEXT_BYTES


def one_line(error: Exception) -> str:
    """The error's type and text, of at most 300 characters, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
