"""One model with its tokenizer on a device: documents -> batches in computation -> predictions.

A Reader knows neither tables nor streams, and no other model. `Summarizer` gives it the documents
that it is to read.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bertsum.checkpoints.checkpoint import load_for_inference
from bertsum.config import SummarizerConfig
from bertsum.errors import DeviceError, ModelError
from bertsum.inference.columns.makers import all_wanted, make_column_makers
from bertsum.inference.device_batches import (
    Running,
    Scores,
    is_crowded,
    one_line,
    refuse_lost_device,
)
from bertsum.inference.query import QueryScorer
from bertsum.model.attention.packed import compile_layers, fuse_products
from bertsum.model.batches import group_documents, make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.model.cpu_linear import reorder_weights
from bertsum.model.cut import ELLIPSIS, kept_around, kept_by_tokens, kept_characters
from bertsum.model.ranking import choose_sentences
from bertsum.model.selection import join_sentences, must_cut
from bertsum.schema import Prediction, Status
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.plain_tokenizer import PlainTokenizer
from bertsum.text.sentences import Span

_MEMORY_PAUSE_SECONDS = 1.0  # in which another process may end the batch that took the memory
_LOG = logging.getLogger(__name__)


class Reader:
    """A model on its device, and what it makes of documents."""

    def __init__(
        self,
        directory: Path,
        config: SummarizerConfig,
        device: torch.device,
        dtype: torch.dtype,
    ):
        """Load a checkpoint. `dtype`: number format of its encoder. Raises ModelError."""
        self.device = device
        self.model, self._tokenizer = load_for_inference(directory)
        self.encoder = document_encoder(self.model, self._tokenizer)
        self.model.to(device).encoder.to(dtype)
        self._may_overflow = dtype == torch.float16  # bfloat16 has float32's range
        if self.model.candidates is not None:
            # it reads what the host has counted, while the device computes
            self.model.candidates.cpu()
        if self.model.is_packed:
            arrange = reorder_weights if device.type == "cpu" else fuse_products
            arrange(self.model.encoder)
        if config.compile and not self.model.is_packed:
            kind = self.model.encoder.config.model_type
            raise ModelError(f"compile needs an encoder of BERT's family, not {kind}")
        if config.compile:
            compile_layers(self.model.encoder, device)
        self.use(config)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, of Transformers, which are imported for it."""
        if isinstance(self._tokenizer, PlainTokenizer):
            return self._tokenizer.to_transformers()
        return self._tokenizer

    def use(self, config: SummarizerConfig) -> None:
        """Make predictions as `config` says, from now on. Raises ModelError."""
        self.config = config
        self._makers = make_column_makers(config, self.model, self.encoder)
        self.wanted = all_wanted(self._makers)
        self.queries: QueryScorer | None = None
        if config.query is not None or config.query_column is not None:
            self.queries = QueryScorer(config, self.model, self.encoder)
            self.wanted = replace(
                self.wanted,
                document_vectors=True,
                query_cosines=True,
                common_query=self.queries.common_query,
            )

    def encode(
        self, texts: Sequence[str], languages: Sequence[str | None]
    ) -> list[EncodedDocument | Prediction]:
        """Split, tokenize and window texts, in order.

        A text that the tokenizer fails at or does not know gets its prediction here.
        """
        try:
            encoded = self.encoder.encode(texts, languages, self.config.max_windows)
        except Exception as error:
            # whatever a hostile text makes a tokenizer raise: search that text, keep the others
            if len(texts) == 1:
                return [Prediction(Status.ERROR, error=f"preparing failed: {one_line(error)}")]
            half = len(texts) // 2
            first = self.encode(texts[:half], languages[:half])
            return first + self.encode(texts[half:], languages[half:])
        results: list[EncodedDocument | Prediction] = []
        for document in encoded:
            if not document.is_unknown_language:
                results.append(document)
                continue
            # the lead, and no guess at its sentiment; the earlier a sentence, the higher its score:
            # [0, -1, -2, ...]
            by_index = -np.arange(len(document.spans), dtype=np.float32)
            (chosen,) = choose_sentences([document], [by_index], self.config.selection, None)
            results.append(self._summarize(Status.UNKNOWN_LANGUAGE, document, chosen))
        return results

    def start(
        self, documents: Sequence[EncodedDocument], max_batch_tokens: int
    ) -> Iterator[Running]:
        """Give batches to the device, each when it is asked for; `indices` are in `documents`."""
        for group in group_documents(documents, max_batch_tokens):
            yield from self._start_group(documents, group)

    def finish(
        self,
        documents: Sequence[EncodedDocument],
        scores: Sequence[Scores | None],
        languages: Sequence[str | None],
    ) -> list[Prediction]:
        """Select sentences and name the sentiment: a prediction for each document, in order.

        `languages`: what a prediction names as the document's.
        """
        selection = self.config.selection
        predictions: list[Prediction | None] = [None] * len(documents)
        indices: list[int] = []
        sentence_scores: dict[int, npt.NDArray[np.float32]] = {}  # [S] a document
        answers: dict[int, npt.NDArray[np.float64]] = {}  # the same, where a query counts
        for index, (document, score) in enumerate(zip(documents, scores, strict=True)):
            sentences = score.sentence_scores if score else None
            answer = self.queries.answers(document, score) if self.queries and score else None
            # damaged weights, or numbers out of their format's range, give NaN or infinity
            numbers = [values for values in (sentences, answer) if values is not None]
            if sentences is not None and all(np.isfinite(values).all() for values in numbers):
                indices.append(index)
                sentence_scores[index] = sentences
                if answer is not None:
                    answers[index] = answer
            else:
                reason = score.error if score else "the model gave no scores"
                reason = reason or "the model gave scores that are not numbers"
                predictions[index] = _failed(document, reason)
        # Of all documents at once, since the ranker compares their candidates in one batch; those
        # with a query apart.
        generic = [index for index in indices if index not in answers]
        for part in (generic, list(answers)):
            importance = [sentence_scores[index] for index in part]
            query = None
            if self.queries and part is not generic:
                query = self.queries.join(importance, list(answers.values()))
            summaries = choose_sentences(
                [documents[index] for index in part],
                importance,
                selection,
                self.model.candidates,
                query,
            )
            for place, (index, chosen) in enumerate(zip(part, summaries, strict=True)):
                predictions[index] = self._summarize(
                    Status.OK,
                    documents[index],
                    chosen,
                    scores[index],
                    languages[index],
                    query.scores[place] if query else None,
                )
        self._add_columns(documents, scores, indices, predictions)
        return [prediction for prediction in predictions if prediction is not None]

    def _add_columns(
        self,
        documents: Sequence[EncodedDocument],
        scores: Sequence[Scores | None],
        indices: Sequence[int],
        predictions: list[Prediction | None],
    ) -> None:
        """Add the columns of the makers to the predictions at `indices`.

        Where that fails, each document is tried alone; one that fails alone becomes an error row.
        """
        if not self._makers or not indices:
            return
        chosen = [documents[index] for index in indices]
        chosen_scores = [score for index in indices if (score := scores[index])]
        try:
            rows: list[dict[str, Any]] = [{} for _ in chosen]
            for maker in self._makers:
                columns = maker.columns(chosen, chosen_scores)
                for row, values in zip(rows, columns, strict=True):
                    row.update(values)
        except Exception as error:
            if len(indices) == 1:
                reason = f"finishing failed: {one_line(error)}"
                predictions[indices[0]] = _failed(chosen[0], reason)
                return
            for index in indices:
                self._add_columns(documents, scores, [index], predictions)
            return
        for index, row in zip(indices, rows, strict=True):
            prediction = predictions[index]
            predictions[index] = prediction and replace(prediction, **row)

    def _summarize(
        self,
        status: Status,
        document: EncodedDocument,
        chosen: Sequence[int],
        scores: Scores | None = None,
        language: str | None = None,
        query_scores: npt.NDArray[np.float32] | None = None,
    ) -> Prediction:
        """A prediction with the summary of the chosen sentences, of which a single one may be cut.

        A sentence of which nothing is left is none of the summary's.
        """
        selection = self.config.selection
        spans = [document.spans[index] for index in chosen]
        before = after = ""
        if len(chosen) == 1:
            num_tokens = int(document.sentence_tokens[chosen[0]])
            if must_cut(spans[0], num_tokens, selection):
                (whole,) = spans
                spans = self._cut(document, whole)
                before = ELLIPSIS if spans and spans[0][0] > whole[0] else ""
                after = ELLIPSIS if spans and spans[0][1] < whole[1] else ""
        summary = join_sentences(document.text, spans, range(len(spans)), document.language)
        chosen = chosen[: len(spans)]
        sentence_scores = scores.sentence_scores if scores else None
        sentiments = None
        if scores is not None and scores.sentiment_scores is not None:
            labels = self.model.config.sentiment_labels
            sentiments = dict(zip(labels, scores.sentiment_scores.tolist(), strict=True))
        prediction = Prediction(
            status,
            summary=before + summary + after,
            summary_sentences=chosen,
            summary_scores=None if sentence_scores is None else sentence_scores[chosen].tolist(),
            sentiment=max(sentiments, key=sentiments.__getitem__) if sentiments else None,
            sentiment_scores=sentiments,
            language=language,
            summary_spans=[{"start": start, "length": stop - start} for start, stop in spans],
            num_sentences=len(document.spans),
            num_tokens=document.num_tokens,
            truncated=document.truncated,
        )
        if self.queries is None or status != Status.OK:
            return prediction
        return replace(prediction, **self.queries.columns(document, prediction, query_scores))

    def _cut(self, document: EncodedDocument, span: Span) -> list[Span]:
        """The span of what is kept of a sentence, if anything is."""
        selection = self.config.selection
        start, stop = span
        sentence, size = document.text[start:stop], int(selection.size)
        by_clause = selection.cut == "clause"
        words = self.queries.word_spans(document, span) if self.queries else []
        if words and selection.unit == "characters":
            first, last = kept_around(sentence, size, words, document.language)
            return [(start + first, start + last)] if first < last else []
        if selection.unit == "tokens":
            length = kept_by_tokens(
                sentence,
                size,
                language=document.language,
                by_clause=by_clause,
                token_spans=self.encoder.token_spans,
            )
        else:
            most = size - len(ELLIPSIS)
            length = kept_characters(sentence, most, document.language, by_clause=by_clause)
        return [(start, start + length)] if length else []

    def _start_group(
        self,
        documents: Sequence[EncodedDocument],
        group: Sequence[int],
        *,
        in_float32: bool = False,
        is_last_try: bool = False,
    ) -> list[Running]:
        """Start a batch. Where the device fails at it, halve it, so that other documents stay.

        A document alone for which there is no memory is tried once more. Raises DeviceError where
        other processes then have the memory: it is not the document's fault.
        """
        try:
            return [self.start_batch(documents, group, in_float32=in_float32)]
        except Exception as error:  # a device out of memory, or a kernel that fails
            refuse_lost_device(error)
            lacks_memory, reason = isinstance(error, torch.OutOfMemoryError), one_line(error)
        # outside of the handler: the error's traceback holds the tensors of the failed batch
        if self.device.type != "cpu":
            torch.get_device_module(self.device).empty_cache()
        if len(group) == 1:
            if lacks_memory and not is_last_try:
                time.sleep(_MEMORY_PAUSE_SECONDS if is_crowded(self.device) else 0)
                return self._start_group(documents, group, in_float32=in_float32, is_last_try=True)
            if lacks_memory and is_crowded(self.device):
                raise DeviceError(
                    f"other processes have taken memory of {self.device}, and what they left is "
                    f"too little for one document: {reason}"
                )
            return [Running(indices=list(group), error=f"the model failed: {reason}")]
        half = len(group) // 2
        first = self._start_group(documents, group[:half], in_float32=in_float32)
        return first + self._start_group(documents, group[half:], in_float32=in_float32)

    # A function of its own, so that its tensors are gone when `_start_group` halves the batch.
    @torch.inference_mode()
    def start_batch(
        self,
        documents: Sequence[EncodedDocument],
        group: Sequence[int],
        *,
        in_float32: bool = False,
    ) -> Running:
        """Give one batch to the device: the documents with the indices in `group`.

        `in_float32`: by a copy of the model, as where numbers leave the range of float16.
        """
        batch = make_batch(documents, group)
        ordered = [documents[index] for index in batch.documents]
        if self.wanted.pools is not None:
            batch = replace(batch, pools=self.wanted.pools(ordered))
        model = self._float32_model if in_float32 else self.model
        logits = model(
            batch.to(self.device),
            sentence_sentiments=self.wanted.sentence_sentiments,
            document_vectors=self.wanted.document_vectors,
            token_sentiments=self.wanted.token_sentiments,
            compared=self.wanted.compared,
            query_cosines=self.wanted.query_cosines,
            common_query=self.wanted.common_query,
        )
        repeat = None
        if self._may_overflow and not in_float32:
            repeat = partial(self._repeat, ordered)
        return Running.of(batch, logits, ordered, repeat)

    def _repeat(self, documents: Sequence[EncodedDocument]) -> list[Running]:
        """Give a batch to the device again, in float32."""
        if "_float32_model" not in self.__dict__:  # said once, though it may be each batch
            _LOG.warning(
                "a batch leaves the range of float16 and is computed again in float32, as each one "
                "that does; dtype=float32 saves the first try"
            )
        return self._start_group(documents, range(len(documents)), in_float32=True)

    @cached_property
    def _float32_model(self) -> BertSum:
        return deepcopy(self.model).float()


def document_encoder(model: BertSum, tokenizer: Any) -> DocumentEncoder:
    """The DocumentEncoder with as many positions and segments as the model has embeddings for."""
    return DocumentEncoder(
        tokenizer,
        model.config,
        num_segments=num_segments(model.encoder),
        max_positions=num_positions(model.encoder),
    )


def num_positions(encoder: Any) -> int:
    """Tokens for which an encoder of Transformers has positions."""
    count = int(getattr(encoder.config, "max_position_embeddings", 512))
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from the padding id + 1.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            count = module.num_embeddings - unused
    return count


def num_segments(encoder: Any) -> int:
    """Segments for which an encoder has embeddings: 2 of BERT, 0 of DistilBERT."""
    return int(getattr(encoder.config, "type_vocab_size", 0))


def _failed(document: EncodedDocument, reason: str) -> Prediction:
    """An error row: of what failed nothing is told but what was counted before."""
    return Prediction(
        Status.ERROR,
        error=reason,
        num_sentences=len(document.spans),
        num_tokens=document.num_tokens,
        truncated=document.truncated,
    )
