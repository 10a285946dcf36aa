"""Documents -> predictions with a trained model: prepare (CPU), forward (device), finish (CPU).

The three steps are separate, so that the host prepares the next documents while the device is
computing.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

import bertsum
from bertsum.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bertsum.checkpoints.locate import resolve
from bertsum.config import SummarizerConfig
from bertsum.errors import InputError
from bertsum.inference.arguments import check_arguments, choose_device, choose_dtype
from bertsum.inference.arrow import output_table, read_documents, read_sequence, unreadable
from bertsum.inference.device_batches import Running, Scores, one_line, refuse_lost_device
from bertsum.inference.heap import HeapTrimmer
from bertsum.inference.stream import Progress, read_ahead
from bertsum.model.batches import group_documents, make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.model.cpu_linear import reorder_weights
from bertsum.model.ranking import choose_sentences
from bertsum.model.selection import join_sentences
from bertsum.schema import Document, Prediction, Status
from bertsum.text.encoder import DocumentEncoder, EncodedDocument

# The threads of OpenMP do not live on in a child made by fork, and the first product of two threads
# would wait for them for ever. With one it needs none; PyTorch does the same in the workers of its
# DataLoader.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

_POOL_DOCUMENTS = 512  # prepared at once: enough to sort by length, few enough to stay small
_POOL_CHARACTERS = 4_000_000  # so that the tokens of long documents fit into memory


@dataclass(frozen=True, slots=True)
class Prepared:
    """Documents after the first step; each has either an encoding or already its prediction."""

    encoded: list[EncodedDocument | None]  # [N]
    predictions: list[Prediction | None]  # [N]


@dataclass(frozen=True, slots=True)
class Finished:
    """Documents after the last step: what was prepared, the model's scores, and the predictions."""

    encoded: list[EncodedDocument | None]  # [N]
    scores: list[Scores | None]  # [N] None for a document that the model did not read
    predictions: list[Prediction]  # [N]


class Summarizer:
    """A model with its tokenizer and configuration, for texts, lists of texts and Arrow tables."""

    def __init__(
        self,
        model: str | Path | None = None,
        config: SummarizerConfig | None = None,
        *,
        device: str | torch.device | None = None,
        max_batch_tokens: int = 16384,
    ):
        """Load a checkpoint.

        - `model`: a directory, a URI, a hub name, or None for the model that ships with bertsum
        - `config`: what a prediction holds; by default three sentences and the sentiment
        - `device`: as torch names it; by default the first GPU, else the CPU
        - `max_batch_tokens`: most tokens of one batch on the device

        A class, so that Ray Data can build one on each actor:
        `ds.map_batches(Summarizer, batch_format="pyarrow", compute=ActorPoolStrategy(size=2))`.

        Raises ModelError for a model or device that cannot be used, and ConfigError for another
        argument that is not as described.
        """
        check_arguments(model, config, max_batch_tokens)
        self.config = config or SummarizerConfig()
        self.max_batch_tokens = max_batch_tokens
        self.device = choose_device(device)
        source = None if model is None else str(model)
        directory = resolve(source)
        self.model, self.tokenizer = load_checkpoint(directory)
        if source is not None and Path(source).expanduser().is_dir():
            source = str(directory.absolute())  # another process may have another working directory
        self._source, self._given_device = source, device
        self.encoder = document_encoder(self.model, self.tokenizer)
        self.dtype = choose_dtype(self.config.dtype, self.device)
        self.model.to(self.device).encoder.to(self.dtype)
        if self.model.candidates is not None:
            # it reads what the host has counted, while the device computes
            self.model.candidates.cpu()
        if self.device.type == "cpu" and self.model.is_packed:
            reorder_weights(self.model.encoder)
        self.stage_seconds: MutableMapping[str, float] = defaultdict(float)
        self._trim_heap = HeapTrimmer()
        # two streams may be at work, and the encoder's memory of words is one
        self._preparing = Lock()
        # A GPU has the batches of the next pool before the scores of the last one are waited for.
        self._pools_ahead = 1 if self.device.type == "cuda" else 0

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        """Pickle the arguments of the constructor; unpickling and copying load the model again.

        So a pickle is small, and the device, the number format and the order of weights are those
        that fit there. What was done to the weights since they were loaded stays behind: save them
        first.
        """
        make = partial(
            type(self),
            self._source,
            self.config,
            device=self._given_device,
            max_batch_tokens=self.max_batch_tokens,
        )
        return make, ()

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, config: SummarizerConfig | None = None
    ) -> Self:
        """The same as the constructor, under the name that Transformers users expect."""
        return cls(model, config)

    def save_pretrained(self, directory: str | Path, card: str = "") -> None:
        """Write the model as a whole checkpoint, in the precision that it runs in."""
        save_checkpoint(
            Path(directory), self.model, self.tokenizer, card, version=bertsum.__version__
        )

    @overload
    def __call__(self, documents: str) -> Prediction: ...
    @overload
    def __call__(
        self, documents: list[str] | list[str | None] | tuple[str | None, ...]
    ) -> list[Prediction]: ...
    @overload
    def __call__(self, documents: pa.Table) -> pa.Table: ...

    def __call__(self, documents: object) -> Prediction | list[Prediction] | pa.Table:
        """Summarize one text, a sequence of texts, or a table.

        - a str -> Prediction
        - a sequence -> a list of Predictions, in its order. It is a list of str or None, or a numpy
          array, a pandas Series or an Arrow array of strings; NaN counts as None
        - a pyarrow.Table -> a table with a row for each row

        Raises InputError for anything else, and for a table without the columns that the
        configuration names.
        """
        if isinstance(documents, str):
            return self.predict([Document(documents)])[0]
        if isinstance(documents, pa.Table):
            return pa.concat_tables(self.stream([documents]))
        return self.predict(read_sequence(documents))

    def predict(self, documents: Sequence[Document]) -> list[Prediction]:
        """One prediction a document, in order."""
        predictions: list[Prediction] = []
        for part in self._run(_pools(documents), None):
            predictions += part.predictions
        return predictions

    def predict_all_heads(
        self, documents: Sequence[Document]
    ) -> list[tuple[Prediction, EncodedDocument | None, Scores | None]]:
        """The same, and what the heads say whose results are in no output row."""
        results: list[tuple[Prediction, EncodedDocument | None, Scores | None]] = []
        for part in self._run(_pools(documents), None):
            results += zip(part.predictions, part.encoded, part.scores, strict=True)
        return results

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        """Tables in; their rows out, with the kept columns and the predictions, in smaller tables.

        Rows stay in order. The first documents are read and prepared before this returns, the
        following ones in a thread, ahead of the device. Raises InputError for a table without the
        text column.
        """
        waiting: list[pa.Table] = []

        def pools() -> Iterator[Sequence[Document]]:
            for table in tables:
                if not isinstance(table, pa.Table):
                    kind = type(table).__name__
                    raise InputError(
                        f"stream takes several pyarrow.Table, of which one is a {kind}"
                    )
                start = 0
                # a table without rows makes one table without rows, too
                for pool in _pools(read_documents(table, self.config)) or [[]]:
                    waiting.append(table.slice(start, len(pool)))
                    start += len(pool)
                    yield pool

        # The thread that reads ahead appends rows; they are taken in the same order.
        return (
            output_table(waiting.pop(0), part.predictions, self.config)
            for part in self._run(pools(), on_progress)
        )

    def prepare(self, documents: Sequence[Document]) -> Prepared:
        """Split, tokenize and window; a document that is not text gets its prediction here."""
        predictions = [unreadable(document) for document in documents]
        readable: list[int] = []
        for index, prediction in enumerate(predictions):
            if prediction is None:
                readable.append(index)
        results = self._encode([documents[index] for index in readable])
        encoded: list[EncodedDocument | None] = [None] * len(documents)
        for index, result in zip(readable, results, strict=True):
            if isinstance(result, Prediction):
                predictions[index] = result
            elif result.is_unknown_language:
                predictions[index] = self._predict_lead(result)
            else:
                encoded[index] = result
        return Prepared(encoded, predictions)

    def forward(
        self, prepared: Prepared, on_progress: Progress | None = None
    ) -> list[Scores | None]:
        """[N] scores of each document that has an encoding.

        A batch that fails is halved until it is known which document makes it fail.
        """
        return self._collect(prepared, self._start(prepared), on_progress)

    def finish(self, prepared: Prepared, scores: Sequence[Scores | None]) -> list[Prediction]:
        """Select sentences and name the sentiment: [N] predictions, in the order of `prepared`."""
        predictions = list(prepared.predictions)
        indices: list[int] = []
        documents: list[EncodedDocument] = []
        document_scores: list[Scores] = []
        sentence_scores: list[npt.NDArray[np.float32]] = []  # [S] a document
        for index, (document, score) in enumerate(zip(prepared.encoded, scores, strict=True)):
            if document is None or predictions[index] is not None:
                continue
            sentences = score.sentence_scores if score else None
            # damaged weights, or numbers out of their format's range, give NaN or infinity
            if score is not None and sentences is not None and np.isfinite(sentences).all():
                indices.append(index)
                documents.append(document)
                document_scores.append(score)
                sentence_scores.append(sentences)
            else:
                reason = score.error if score else "the model gave no scores"
                predictions[index] = Prediction(
                    Status.ERROR,
                    error=reason or "the model gave scores that are not numbers",
                    num_sentences=len(document.spans),
                    num_tokens=document.num_tokens,
                    truncated=document.truncated,
                )
        # of all documents at once, since the ranker compares their candidates in one batch
        summaries = choose_sentences(
            documents, sentence_scores, self.config.selection, self.model.candidates
        )
        for row, chosen in enumerate(summaries):
            predictions[indices[row]] = self._predict_one(
                documents[row], document_scores[row], sentence_scores[row], chosen
            )
        return [prediction for prediction in predictions if prediction is not None]

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """A row of status `error` for each row of the table, without computing anything."""
        predictions = [Prediction(Status.ERROR, error=reason)] * table.num_rows
        return output_table(table, predictions, self.config)

    def on_batch(self, call: Callable[[], None]) -> None:
        """Call `call` after each batch, from now on.

        Progress is told pool by pool, and a pool may take minutes.
        """
        self.model.register_forward_hook(lambda *_: call())

    def _run(
        self, pools: Iterable[Sequence[Document]], on_progress: Progress | None
    ) -> Iterator[Finished]:
        """The three steps over pools of documents; the next one is prepared while one is computed.

        The first pool is prepared before this returns, perhaps while another stream is computed.
        """

        def prepare_all() -> Iterator[Prepared]:
            for pool in pools:
                with self._preparing, self._timed("prepare"):
                    prepared = self.prepare(pool)
                yield prepared

        return self._compute(read_ahead(prepare_all()), on_progress)

    def _compute(
        self, pools: Iterable[Prepared], on_progress: Progress | None
    ) -> Iterator[Finished]:
        """Start each pool on the device, and finish it when as many as may be ahead are started.

        With one ahead, as on a GPU: start 0, start 1, end 0, start 2, end 1, ..., so the device has
        work while the host finishes.
        """
        waiting: list[tuple[Prepared, Iterable[Running]]] = []
        for prepared in pools:
            with self._timed("forward"):
                waiting.append((prepared, self._start(prepared)))
            if len(waiting) > self._pools_ahead:
                yield self._end(*waiting.pop(0), on_progress)
        for prepared, batches in waiting:
            yield self._end(prepared, batches, on_progress)

    def _end(
        self, prepared: Prepared, batches: Iterable[Running], on_progress: Progress | None
    ) -> Finished:
        """What is left to do of a pool whose batches were started."""
        num_unread = len(prepared.predictions) - prepared.predictions.count(None)
        if on_progress and num_unread:
            on_progress(num_unread, 0)  # the model reads none of them
        with self._timed("forward"):
            scores = self._collect(prepared, batches, on_progress)
        self._trim_heap()
        with self._timed("finish"):
            predictions = self.finish(prepared, scores)
        return Finished(prepared.encoded, scores, predictions)

    def _start(self, prepared: Prepared) -> Iterable[Running]:
        """Batches that a GPU has been given; on a CPU each is computed when it is asked for."""
        indices: list[int] = []  # in `prepared` of each document that the model reads
        documents: list[EncodedDocument] = []
        for index, document in enumerate(prepared.encoded):
            if document is not None:
                indices.append(index)
                documents.append(document)

        def batches() -> Iterator[Running]:
            for group in group_documents(documents, self.max_batch_tokens):
                for running in self._start_group(documents, group):
                    # from indices among the documents that are read to those among all
                    yield replace(running, indices=[indices[index] for index in running.indices])

        return list(batches()) if self._pools_ahead else batches()

    def _collect(
        self, prepared: Prepared, batches: Iterable[Running], on_progress: Progress | None
    ) -> list[Scores | None]:
        """Wait for the batches in turn, and tell of each."""
        scores: list[Scores | None] = [None] * len(prepared.encoded)
        for running in batches:
            results = running.results()
            num_tokens = 0
            for index, result in results.items():
                scores[index] = result
                document = prepared.encoded[index]
                num_tokens += document.num_read_tokens if document else 0
            if on_progress:
                on_progress(len(results), num_tokens)
        return scores

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[stage] += time.perf_counter() - start

    def _encode(self, documents: Sequence[Document]) -> list[EncodedDocument | Prediction]:
        """Encodings; for a text that the tokenizer fails at, a prediction that says so."""
        texts = [document.text or "" for document in documents]
        languages = [document.language or self.config.language for document in documents]
        try:
            return list(self.encoder.encode(texts, languages, self.config.max_windows))
        except Exception as error:
            # whatever a hostile text makes a tokenizer raise: search that text, keep the others
            if len(documents) == 1:
                return [Prediction(Status.ERROR, error=f"preparing failed: {one_line(error)}")]
            half = len(documents) // 2
            return self._encode(documents[:half]) + self._encode(documents[half:])

    def _start_group(
        self, documents: Sequence[EncodedDocument], group: Sequence[int]
    ) -> list[Running]:
        """Start a batch. Where the device fails at it, halve it, so that other documents stay."""
        try:
            return [self._start_batch(documents, group)]
        except Exception as error:  # a device out of memory, or a kernel that fails
            refuse_lost_device(error)
            reason = one_line(error)
        # outside of the handler: the error's traceback holds the tensors of the failed batch
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(group) == 1:
            return [Running(indices=list(group), error=f"the model failed: {reason}")]
        half = len(group) // 2
        first = self._start_group(documents, group[:half])
        return first + self._start_group(documents, group[half:])

    # A function of its own, so that its tensors are gone when `_start_group` halves the batch.
    @torch.inference_mode()
    def _start_batch(self, documents: Sequence[EncodedDocument], group: Sequence[int]) -> Running:
        batch = make_batch(documents, group)
        logits = self.model(batch.to(self.device))
        return Running.of(batch, logits, [documents[index] for index in batch.documents])

    def _predict_one(
        self,
        document: EncodedDocument,
        scores: Scores,
        sentences: npt.NDArray[np.float32],
        chosen: list[int],
    ) -> Prediction:
        """The prediction of a document with scores. `sentences`: [S] their probabilities."""
        sentiment: str | None = None
        sentiment_scores: dict[str, float] | None = None
        if scores.sentiment_scores is not None:
            labels = self.model.config.sentiment_labels
            sentiment_scores = dict(zip(labels, scores.sentiment_scores.tolist(), strict=True))
            sentiment = max(sentiment_scores, key=sentiment_scores.__getitem__)
        return Prediction(
            Status.OK,
            summary=join_sentences(document.text, document.spans, chosen, document.language),
            summary_sentences=chosen,
            summary_scores=sentences[chosen].tolist(),
            sentiment=sentiment,
            sentiment_scores=sentiment_scores,
            num_sentences=len(document.spans),
            num_tokens=document.num_tokens,
            truncated=document.truncated,
        )

    def _predict_lead(self, document: EncodedDocument) -> Prediction:
        """The lead of a document that the tokenizer cannot read, and no guess at its sentiment."""
        # the earlier a sentence, the higher its score: [0, -1, -2, ...]
        by_index = -np.arange(len(document.spans), dtype=np.float32)
        (chosen,) = choose_sentences([document], [by_index], self.config.selection, None)
        return Prediction(
            Status.UNKNOWN_LANGUAGE,
            summary=join_sentences(document.text, document.spans, chosen, document.language),
            summary_sentences=chosen,
            num_sentences=len(document.spans),
            num_tokens=document.num_tokens,
            truncated=document.truncated,
        )


def document_encoder(model: BertSum, tokenizer: Any) -> DocumentEncoder:
    """The DocumentEncoder with as many positions and segments as the model has embeddings for."""
    num_positions = int(getattr(model.encoder.config, "max_position_embeddings", 512))
    for name, module in model.encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from the padding id + 1.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            num_positions = module.num_embeddings - unused
    num_segments = int(getattr(model.encoder.config, "type_vocab_size", 0))
    return DocumentEncoder(
        tokenizer, model.config, num_segments=num_segments, max_positions=num_positions
    )


def _pools(documents: Sequence[Document]) -> list[Sequence[Document]]:
    """Runs of documents that are prepared together, bounded in number and in characters."""
    pools: list[Sequence[Document]] = []
    start = num_characters = 0
    for index, document in enumerate(documents):
        if not isinstance(document, Document):
            kind = type(document).__name__
            raise InputError(f"document {index} is a {kind}; a bertsum.Document is expected")
        length = len(document.text or "")
        is_full = index - start == _POOL_DOCUMENTS or num_characters + length > _POOL_CHARACTERS
        if (
            index > start and is_full
        ):  # one long document alone may be more than a pool's characters
            pools.append(documents[start:index])
            start, num_characters = index, 0
        num_characters += length
    if start < len(documents):
        pools.append(documents[start:])
    return pools
