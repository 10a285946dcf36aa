"""Documents -> predictions with trained models: prepare (CPU), forward (device), finish (CPU).

The three steps are separate, so that the host prepares the next documents while the device is
computing. Each document goes to the model for its language, where there are several.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self, overload

import pyarrow as pa
import torch

import bertsum
from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.checkpoints.family import save_family
from bertsum.checkpoints.locate import resolve
from bertsum.checkpoints.outputs import with_outputs
from bertsum.config import SummarizerConfig
from bertsum.errors import InputError
from bertsum.inference.arguments import (
    check_arguments,
    choose_batch_tokens,
    choose_device,
    choose_dtype,
)
from bertsum.inference.arrow import output_table, read_documents, read_sequence, unreadable
from bertsum.inference.columns.targets import with_targets
from bertsum.inference.device_batches import Running, Scores, one_line
from bertsum.inference.heap import HeapTrimmer
from bertsum.inference.reader import Reader
from bertsum.inference.routing import Router, names_language
from bertsum.inference.stream import Progress, map_behind, read_ahead
from bertsum.job_config import BatchTokens
from bertsum.model.bert_sum import BertSum
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
    languages: list[str | None]  # [N] None without letters, or where none is needed


@dataclass(frozen=True, slots=True)
class Finished:
    """Documents after the last step: what was prepared, the model's scores, and the predictions."""

    encoded: list[EncodedDocument | None]  # [N]
    scores: list[Scores | None]  # [N] None for a document that the model did not read
    predictions: list[Prediction]  # [N]


class Summarizer:
    """A checkpoint or a family of them, for texts, lists of texts and Arrow tables.

    - `config`: as given, with the groups of columns that the model writes
    - `router`: the models, and which of them reads which language
    - `device`, `dtype`: where they compute, and the number format of their encoders
    - `stage_seconds`: seconds spent on preparing, forward and finishing
    """

    def __init__(
        self,
        model: str | Path | None = None,
        config: SummarizerConfig | None = None,
        *,
        device: str | torch.device | None = None,
        max_batch_tokens: BatchTokens = "auto",
    ):
        """Load a checkpoint, or all members of a family.

        - `model`: a directory, a URI, a hub name, or None for the model that ships with bertsum
        - `config`: what a prediction holds; by default three sentences and the sentiment
        - `device`: as torch names it; by default the first GPU, else the CPU
        - `max_batch_tokens`: most tokens of one batch on the device; by default as many as fit it

        A class, so that Ray Data can build one on each actor:
        `ds.map_batches(Summarizer, batch_format="pyarrow", compute=ActorPoolStrategy(size=2))`.

        Raises ModelError for a model or device that cannot be used, and ConfigError for another
        argument that is not as described.
        """
        check_arguments(model, config, max_batch_tokens)
        self.device = choose_device(device)
        source = None if model is None else str(model)
        directory = resolve(source)
        self.config = with_outputs(config or SummarizerConfig(), directory)
        self.dtype = choose_dtype(self.config.dtype, self.device)
        self.router = Router(directory, self.config, self.device, self.dtype)
        if max_batch_tokens == "auto":
            models = [reader.model for reader in self.readers.values()]
            hidden_size = max(model.encoder.config.hidden_size for model in models)
            max_batch_tokens = choose_batch_tokens(self.device, self.dtype, hidden_size)
        self.max_batch_tokens = max_batch_tokens
        if source is not None and Path(source).expanduser().is_dir():
            source = str(directory.absolute())  # another process may have another working directory
        self._source, self._given_device = source, device
        if self.router.needs_language(self.config):
            self.router.detect_language(" ")  # loads it: an error here is no document's fault
        self.stage_seconds: MutableMapping[str, float] = defaultdict(float)
        self._trim_heap = HeapTrimmer()
        # two streams may be at work, and the encoder's memory of words is one
        self._preparing = Lock()
        # A GPU has the batches of the next pool before the scores of the last one are waited for.
        self._pools_ahead = 1 if self.device.type == "cuda" else 0

    @property
    def model(self) -> BertSum:
        """The model. Raises ModelError for a family, which has several: see `readers`."""
        return self.router.only_reader.model

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, of Transformers. Raises ModelError for a family."""
        return self.router.only_reader.tokenizer

    @property
    def encoder(self) -> DocumentEncoder:
        """What encodes documents for the model. Raises ModelError for a family."""
        return self.router.only_reader.encoder

    @property
    def readers(self) -> Mapping[str, Reader]:
        """The models by the name of the member; a checkpoint has one, of the name ""."""
        return self.router.readers

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
        """Write each model as a whole checkpoint, in the precision that it runs in."""
        for name, reader in self.readers.items():
            save_checkpoint(
                Path(directory, name),
                reader.model,
                reader.tokenizer,
                card,
                version=bertsum.__version__,
            )
        if self.router.family is not None:
            save_family(Path(directory), self.router.family)

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
        languages: list[str | None] = [None] * len(documents)
        readable: list[int] = []
        for index, prediction in enumerate(predictions):
            if prediction is not None:
                continue
            try:
                languages[index] = self.router.language_of(documents[index], self.config)
                readable.append(index)
            except Exception as error:  # whatever a hostile text makes the detector raise
                reason = f"preparing failed: {one_line(error)}"
                predictions[index] = Prediction(Status.ERROR, error=reason)
        encoded: list[EncodedDocument | None] = [None] * len(documents)
        for reader, indices in self.router.split(readable, languages):
            texts = [documents[index].text or "" for index in indices]
            rules = [
                self.router.rules_language(documents[index], languages[index], self.config)
                for index in indices
            ]
            results = reader.encode(texts, rules)
            for index, result in zip(indices, results, strict=True):
                if isinstance(result, Prediction):
                    predictions[index] = result
                else:
                    names = (*self.config.targets, *documents[index].targets)
                    targets = tuple(dict.fromkeys(names))
                    encoded[index] = with_targets(result, targets) if targets else result
            _add_queries(reader, documents, encoded, indices)
        return Prepared(encoded, predictions, languages)

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
        is_asked = names_language(self.config)
        languages = prepared.languages if is_asked else [None] * len(predictions)
        for reader, indices, encoded in self.documents_by_reader(prepared):
            read_scores = [scores[index] for index in indices]
            results = reader.finish(encoded, read_scores, [languages[index] for index in indices])
            for index, result in zip(indices, results, strict=True):
                predictions[index] = result
        finished: list[Prediction] = []
        for prediction, language in zip(predictions, languages, strict=True):
            if prediction is not None:
                is_named = prediction.language == language
                finished.append(prediction if is_named else replace(prediction, language=language))
        return finished

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """A row of status `error` for each row of the table, without computing anything."""
        predictions = [Prediction(Status.ERROR, error=reason)] * table.num_rows
        return output_table(table, predictions, self.config)

    def on_batch(self, call: Callable[[], None]) -> None:
        """Call `call` after each batch, from now on.

        Progress is told pool by pool, and a pool may take minutes.
        """
        for reader in self.readers.values():
            reader.model.register_forward_hook(lambda *_: call())

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

        scored = self._score(read_ahead(prepare_all()), on_progress)
        # on a GPU they are finished in a thread, since that needs no device: the thread that
        # launches goes on with the next pool. A CPU has nothing to launch
        return map_behind(self._finish, scored) if self._pools_ahead else map(self._finish, scored)

    def _score(
        self, pools: Iterable[Prepared], on_progress: Progress | None
    ) -> Iterator[tuple[Prepared, list[Scores | None]]]:
        """Start each pool on the device, and wait for it when as many as may be ahead are started.

        With one ahead, as on a GPU: start 0, start 1, end 0, start 2, end 1, ..., so the device has
        work while the host is busy.
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
    ) -> tuple[Prepared, list[Scores | None]]:
        """Wait for the scores of a pool whose batches were started."""
        num_unread = len(prepared.predictions) - prepared.predictions.count(None)
        if on_progress and num_unread:
            on_progress(num_unread, 0)  # the model reads none of them
        with self._timed("forward"):
            scores = self._collect(prepared, batches, on_progress)
        self._trim_heap()
        return prepared, scores

    def _finish(self, scored: tuple[Prepared, list[Scores | None]]) -> Finished:
        prepared, scores = scored
        with self._timed("finish"):
            predictions = self.finish(prepared, scores)
        return Finished(prepared.encoded, scores, predictions)

    def _start(self, prepared: Prepared) -> Iterable[Running]:
        """Batches that a GPU has been given; on a CPU each is computed when it is asked for.

        The documents of each reader are batched apart. So a pool has at most one batch a reader
        that is not full.
        """

        def batches() -> Iterator[Running]:
            for reader, indices, encoded in self.documents_by_reader(prepared):
                for running in reader.start(encoded, self.max_batch_tokens):
                    # from indices among the reader's documents to those among all
                    yield replace(running, indices=[indices[index] for index in running.indices])

        return list(batches()) if self._pools_ahead else batches()

    def documents_by_reader(
        self, prepared: Prepared
    ) -> Iterator[tuple[Reader, list[int], list[EncodedDocument]]]:
        """What each reader is to read: indices in `prepared`, and the documents there."""
        documents = {
            index: document
            for index, document in enumerate(prepared.encoded)
            if document is not None
        }
        for reader, indices in self.router.split(documents, prepared.languages):
            yield reader, indices, [documents[index] for index in indices]

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


def _add_queries(
    reader: Reader,
    documents: Sequence[Document],
    encoded: list[EncodedDocument | None],
    indices: Sequence[int],
) -> None:
    """Encode the queries of the documents at `indices`, in the languages of these."""
    asked: dict[int, EncodedDocument] = {}
    for index in indices:
        document = encoded[index]
        if document is not None and documents[index].query:
            asked[index] = document
    if reader.queries is None or not asked:
        return
    texts = [documents[index].query or "" for index in asked]
    languages = [document.language for document in asked.values()]
    queries = reader.queries.encode(texts, languages)
    for (index, document), query in zip(asked.items(), queries, strict=True):
        encoded[index] = replace(document, query=query)


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
