"""Documents -> predictions with a trained model: prepare (CPU), forward (device), finish (CPU).

The three steps are separate, so that the host prepares the next documents while the device computes.
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
from bertsum.errors import ConfigError, InputError, ModelError
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

# The threads of OpenMP do not live on in a child made by fork, and the first product of two threads would wait for them
# for ever. With one it needs none; PyTorch does the same in the workers of its DataLoader.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

_POOL_DOCUMENTS = 512  # prepared at once: enough to sort by length, few enough to stay small
_POOL_CHARACTERS = 4_000_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """Some documents after the first step. Each has either an encoding or, without one, its prediction already."""

    encoded: list[EncodedDocument | None]
    predictions: list[Prediction | None]


class Summarizer:
    """A model with its tokenizer and configuration; on text, on lists of text, and on Arrow tables."""

    def __init__(
        self,
        model: str | Path | None = None,
        config: SummarizerConfig | None = None,
        *,
        device: str | torch.device | None = None,
        max_batch_tokens: int = 16384,
    ):
        """Load a checkpoint: a directory, a URI, a hub name, or None for the model that ships with bertsum.

        `device`: as torch names it; by default the first GPU, else the CPU. A class, so that Ray Data can build one on
        each actor: `ds.map_batches(Summarizer, batch_format="pyarrow", compute=ActorPoolStrategy(size=2))`.
        `max_batch_tokens`: of one batch on the device. Raises ModelError for a model or device that cannot be used,
        and ConfigError for another argument that is not as described.
        """
        _check_arguments(model, config, max_batch_tokens)
        self.config = config or SummarizerConfig()
        self.max_batch_tokens = max_batch_tokens
        self.device = _choose_device(device)
        source = None if model is None else str(model)
        directory = resolve(source)
        self.model, self.tokenizer = load_checkpoint(directory)
        if source is not None and Path(source).expanduser().is_dir():
            source = str(directory.absolute())  # another process may have another working directory
        self._source, self._given_device = source, device
        self.encoder = document_encoder(self.model, self.tokenizer)
        self.dtype = _choose_dtype(self.config.dtype, self.device)
        self.model.to(self.device).encoder.to(self.dtype)
        if self.model.candidates is not None:
            self.model.candidates.cpu()  # it reads what the host has counted, while the device computes
        if self.device.type == "cpu" and self.model.is_packed:
            reorder_weights(self.model.encoder)
        self.stage_seconds: MutableMapping[str, float] = defaultdict(float)
        self._trim_heap = HeapTrimmer()
        self._preparing = (
            Lock()
        )  # two streams may be at work, and the encoder's memory of words is one
        # A GPU has the batches of the next pool before the scores of the last one are waited for.
        self._pools_ahead = 1 if self.device.type == "cuda" else 0

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        """Travel as the arguments that it was made of: whoever unpickles or copies it loads the model again.

        So a pickle is small, and the device, the number format and the order of weights are those that fit there. What
        was done to the weights since they were loaded stays behind: save them first.
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
        save_checkpoint(Path(directory), self.model, self.tokenizer, card, bertsum.__version__)

    @overload
    def __call__(self, documents: str) -> Prediction: ...
    @overload
    def __call__(
        self, documents: list[str] | list[str | None] | tuple[str | None, ...]
    ) -> list[Prediction]: ...
    @overload
    def __call__(self, documents: pa.Table) -> pa.Table: ...

    def __call__(self, documents: Any) -> Any:
        """One text -> Prediction; a sequence -> list of its length and order; an Arrow table -> table, a row a row.

        A sequence is a list of str or None, or a numpy array, a pandas Series or an Arrow array of strings; NaN counts
        as None. Raises InputError for anything else, and for a table without the columns that the configuration names.
        """
        if isinstance(documents, str):
            return self.predict([Document(documents)])[0]
        if isinstance(documents, pa.Table):
            return pa.concat_tables(self.stream([documents]))
        return self.predict(read_sequence(documents))

    def predict(self, documents: Sequence[Document]) -> list[Prediction]:
        """One prediction a document, in order."""
        pools = _pools(documents)
        return [
            prediction for _, _, predictions in self._run(pools, None) for prediction in predictions
        ]

    def predict_all_heads(
        self, documents: Sequence[Document]
    ) -> list[tuple[Prediction, EncodedDocument | None, Scores | None]]:
        """The same, and what the heads say whose results are in no output row."""
        parts = self._run(_pools(documents), None)
        return [
            one
            for prepared, scores, found in parts
            for one in zip(found, prepared.encoded, scores, strict=True)
        ]

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        """Tables with the text column in; the same rows, kept columns and predictions out, in order, in smaller tables.

        The first documents are read and prepared before this returns, the following ones in a thread, ahead of the
        device. Raises InputError for a table without the text column.
        """
        waiting: list[pa.Table] = []

        def pools() -> Iterator[Sequence[Document]]:
            for table in tables:
                if not isinstance(table, pa.Table):
                    raise InputError(
                        f"stream takes several pyarrow.Table, of which one is a {type(table).__name__}"
                    )
                start = 0
                for pool in _pools(read_documents(table, self.config)) or [[]]:
                    waiting.append(table.slice(start, len(pool)))
                    start += len(pool)
                    yield pool

        parts = self._run(pools(), on_progress)
        return (
            output_table(waiting.pop(0), predictions, self.config) for _, _, predictions in parts
        )

    def prepare(self, documents: Sequence[Document]) -> Prepared:
        """Split, tokenize and window; a document that is not text gets its prediction here."""
        predictions = [unreadable(document) for document in documents]
        readable = [place for place, prediction in enumerate(predictions) if prediction is None]
        encoded: list[EncodedDocument | None] = [None] * len(documents)
        for place, result in zip(
            readable, self._encode([documents[place] for place in readable]), strict=True
        ):
            if isinstance(result, EncodedDocument) and not result.is_unknown_language:
                encoded[place] = result
            elif isinstance(result, EncodedDocument):
                predictions[place] = self._by_position(result)
            else:
                predictions[place] = result
        return Prepared(encoded, predictions)

    def forward(
        self, prepared: Prepared, on_progress: Progress | None = None
    ) -> list[Scores | None]:
        """Scores of each document that has an encoding. A batch that fails is halved until the document is found."""
        return self._collect(prepared, self._start(prepared), on_progress)

    def finish(self, prepared: Prepared, scores: Sequence[Scores | None]) -> list[Prediction]:
        """Select sentences and name the sentiment: one prediction a document, in the order of `prepared`."""
        predictions = list(prepared.predictions)
        usable = []
        for place, (document, score) in enumerate(zip(prepared.encoded, scores, strict=True)):
            if document is None or predictions[place] is not None:
                continue
            sentences = score.sentence_scores if score else None
            if score is not None and sentences is not None and np.isfinite(sentences).all():
                usable.append((place, document, score, sentences))
            else:
                reason = score.error if score else "the model gave no scores"
                reason = reason or "the model gave scores that are not numbers"
                predictions[place] = _counted(Status.ERROR, document, error=reason)
        documents, own = [one[1] for one in usable], [one[3] for one in usable]
        summaries = choose_sentences(documents, own, self.config.selection, self.model.candidates)
        for (place, document, score, sentences), chosen in zip(usable, summaries, strict=True):
            predictions[place] = self._predict_one(document, score, sentences, chosen)
        return [prediction for prediction in predictions if prediction is not None]

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """A row of status `error` for each row of the table, without computing anything."""
        return output_table(
            table, [Prediction(Status.ERROR, error=reason)] * table.num_rows, self.config
        )

    def on_batch(self, call: Callable[[], None]) -> None:
        """Call `call` after each batch, from now on: documents are counted pool by pool, which may take minutes."""
        self.model.register_forward_hook(lambda *_: call())

    def _run(
        self, pools: Iterable[Sequence[Document]], on_progress: Progress | None
    ) -> Iterator[tuple[Prepared, list[Scores | None], list[Prediction]]]:
        """The three steps over pools of documents; the next pool is prepared while this one is computed.

        The first pool is prepared before this returns, perhaps while another stream is computed.
        """
        return self._compute(read_ahead(self._prepare_all(pools)), on_progress)

    def _prepare_all(self, pools: Iterable[Sequence[Document]]) -> Iterator[Prepared]:
        for pool in pools:
            with self._preparing, self._timed("prepare"):
                prepared = self.prepare(pool)
            yield prepared

    def _compute(
        self, pools: Iterable[Prepared], on_progress: Progress | None
    ) -> Iterator[tuple[Prepared, list[Scores | None], list[Prediction]]]:
        waiting: list[tuple[Prepared, Iterable[Running]]] = []
        for prepared in pools:
            with self._timed("forward"):
                waiting.append((prepared, self._start(prepared)))
            if len(waiting) > self._pools_ahead:
                yield self._end(*waiting.pop(0), on_progress)
        for pool in waiting:
            yield self._end(*pool, on_progress)

    def _end(
        self, prepared: Prepared, batches: Iterable[Running], on_progress: Progress | None
    ) -> tuple[Prepared, list[Scores | None], list[Prediction]]:
        """What is left to do of a pool whose batches were started."""
        known = [prediction for prediction in prepared.predictions if prediction is not None]
        if on_progress and known:
            on_progress(len(known), 0)  # the model reads none of them
        with self._timed("forward"):
            scores = self._collect(prepared, batches, on_progress)
        self._trim_heap()
        with self._timed("finish"):
            predictions = self.finish(prepared, scores)
        return prepared, scores, predictions

    def _start(self, prepared: Prepared) -> Iterable[Running]:
        """Batches that a GPU has been given; on a CPU each is computed when the iteration comes to it."""
        places = [place for place, document in enumerate(prepared.encoded) if document is not None]
        documents = [document for document in prepared.encoded if document is not None]

        def batches() -> Iterator[Running]:
            for group in group_documents(documents, self.max_batch_tokens):
                for running in self._start_group(documents, group):
                    yield replace(running, places=[places[place] for place in running.places])

        return list(batches()) if self._pools_ahead else batches()

    def _collect(
        self, prepared: Prepared, batches: Iterable[Running], on_progress: Progress | None
    ) -> list[Scores | None]:
        scores: list[Scores | None] = [None] * len(prepared.encoded)
        for running in batches:
            results = running.results()
            for place, result in results.items():
                scores[place] = result
            if on_progress:
                documents = [prepared.encoded[place] for place in results]
                on_progress(
                    len(documents),
                    sum(document.num_read_tokens for document in documents if document),
                )
        return scores

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[stage] += time.perf_counter() - start

    def _encode(self, documents: Sequence[Document]) -> list[EncodedDocument | Prediction]:
        try:
            return list(self._encode_together(documents))
        except Exception as error:  # whatever a hostile text makes a tokenizer raise: find that text, keep the others
            if len(documents) == 1:
                return [Prediction(Status.ERROR, error=f"preparing failed: {one_line(error)}")]
            half = len(documents) // 2
            return self._encode(documents[:half]) + self._encode(documents[half:])

    def _encode_together(self, documents: Sequence[Document]) -> list[EncodedDocument]:
        texts = [document.text or "" for document in documents]
        languages = [document.language or self.config.language for document in documents]
        return self.encoder.encode(texts, languages, self.config.max_windows)

    def _start_group(
        self, documents: Sequence[EncodedDocument], group: Sequence[int]
    ) -> list[Running]:
        try:
            return [self._start_batch(documents, group)]
        except Exception as error:  # a device out of memory or a kernel that fails: find the document, keep the others
            refuse_lost_device(error)
            reason = one_line(error)
        # outside of the handler: the error's traceback holds the tensors of the batch that found no memory
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(group) == 1:
            return [Running(list(group), error=f"the model failed: {reason}")]
        half = len(group) // 2
        return self._start_group(documents, group[:half]) + self._start_group(
            documents, group[half:]
        )

    @torch.inference_mode()
    def _start_batch(self, documents: Sequence[EncodedDocument], group: Sequence[int]) -> Running:
        batch = make_batch(documents, group)
        logits = self.model(batch.to(self.device))
        return Running.of(batch, logits, [documents[place] for place in batch.documents])

    def _predict_one(
        self,
        document: EncodedDocument,
        scores: Scores,
        sentences: npt.NDArray[np.float32],
        chosen: list[int],
    ) -> Prediction:
        sentiment: dict[str, float] | None = None
        if scores.sentiment_scores is not None:
            labels = self.model.config.sentiment_labels
            sentiment = dict(zip(labels, scores.sentiment_scores.tolist(), strict=True))
        return _counted(
            Status.OK,
            document,
            summary=join_sentences(document.text, document.spans, chosen, document.language),
            summary_sentences=chosen,
            summary_scores=[float(sentences[index]) for index in chosen],
            sentiment=max(sentiment, key=sentiment.__getitem__) if sentiment else None,
            sentiment_scores=sentiment,
        )

    def _by_position(self, document: EncodedDocument) -> Prediction:
        """The lead of a document that the tokenizer cannot read, and no guess at its sentiment."""
        by_place = -np.arange(len(document.spans), dtype=np.float32)
        (chosen,) = choose_sentences([document], [by_place], self.config.selection, None)
        return _counted(
            Status.UNKNOWN_LANGUAGE,
            document,
            summary=join_sentences(document.text, document.spans, chosen, document.language),
            summary_sentences=chosen,
        )


def document_encoder(model: BertSum, tokenizer: Any) -> DocumentEncoder:
    """The DocumentEncoder that fits a model: as many positions and segments as its encoder has embeddings for."""
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


def _choose_dtype(name: str, device: torch.device) -> torch.dtype:
    if name != "auto":
        return torch.float32 if name == "float32" else torch.bfloat16
    if device.type == "cuda":
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float32
        )
    return torch.bfloat16 if device.type == "cpu" and _has_native_bfloat16() else torch.float32


def _has_native_bfloat16() -> bool:
    """Whether the CPU has instructions for products in bfloat16, and oneDNN, which computes them, may use them.

    ONEDNN_MAX_CPU_ISA forbids them, for instance to compute as a CPU does that has none.
    """
    is_built_in = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return is_built_in and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pools(documents: Sequence[Document]) -> list[Sequence[Document]]:
    """Runs of documents that are prepared together, bounded in number and in characters."""
    pools: list[Sequence[Document]] = []
    start = characters = 0
    for place, document in enumerate(documents):
        if not isinstance(document, Document):
            raise InputError(
                f"document {place} is a {type(document).__name__}; a bertsum.Document is expected"
            )
        length = len(document.text or "")
        if place > start and (
            place - start == _POOL_DOCUMENTS or characters + length > _POOL_CHARACTERS
        ):
            pools.append(documents[start:place])
            start, characters = place, 0
        characters += length
    if start < len(documents):
        pools.append(documents[start:])
    return pools


def _check_arguments(model: object, config: object, max_batch_tokens: object) -> None:
    if not isinstance(model, str | os.PathLike | None):
        raise ModelError(f"model must be a str, a Path or None, not a {type(model).__name__}")
    if not isinstance(config, SummarizerConfig | None):
        raise ConfigError(
            f"config must be a bertsum.config.SummarizerConfig or None, not a {type(config).__name__}"
        )
    if (
        not isinstance(max_batch_tokens, int)
        or isinstance(max_batch_tokens, bool)
        or max_batch_tokens < 1
    ):
        raise ConfigError(
            f"max_batch_tokens must be a whole number of at least 1, not {max_batch_tokens!r}"
        )


def _choose_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(
            1, device=chosen
        ).tolist()  # fails where there is no such device, and on one without memory
    except Exception as error:  # each kind of device has its own
        here = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
        raise ModelError(
            f"device {device!r} cannot be used ({one_line(error)}); there is: {here}"
        ) from error
    return chosen


def _counted(status: Status, document: EncodedDocument, **values: Any) -> Prediction:
    return Prediction(
        status,
        num_sentences=len(document.spans),
        num_tokens=document.num_tokens,
        truncated=document.truncated,
        **values,
    )
