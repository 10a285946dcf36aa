"""Labelled rows -> rows of training shards: split, tokenized and labelled.

Rows that train nothing are left out, and counted by the reason.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self, cast

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from bertsum.errors import BertsumError, InputError, RowError
from bertsum.inference.arrow import read_texts, unreadable
from bertsum.inference.stream import Progress
from bertsum.job_config import ResourcesConfig, RunConfig
from bertsum.labels.columns import label_columns, label_rows, labels_problem
from bertsum.labels.config import LabelsConfig
from bertsum.labels.labels import has_class_label, sentence_labels
from bertsum.labels.shards import (
    PREPARED_COLUMN,
    TOKENS_COLUMN,
    PreparedDocument,
    encode_prepared,
    prepared_array,
    shard_schema,
    split_tokenized,
)
from bertsum.model_config import ModelConfig
from bertsum.runs.columns import encryption_problem
from bertsum.runs.input import Shard
from bertsum.schema import Document, Status
from bertsum.storage.folder import mask
from bertsum.text.encoder import DocumentEncoder

NO_LABEL, NO_OVERLAP, TOO_SHORT, TOO_LONG = "no_label", "no_overlap", "too_short", "too_long"
LEFT_OUT: Mapping[str, str] = {
    Status.EMPTY: "no text",
    Status.NOT_TEXT: "binary data, or neither letter, emoji nor rating",
    Status.UNKNOWN_LANGUAGE: "the tokenizer does not know the language",
    Status.ERROR: "the tokenizer failed",
    NO_LABEL: "neither a summary nor another label",
    NO_OVERLAP: "the summary shares no word with the document",
    TOO_SHORT: "less than min_sentences",
    TOO_LONG: "more than max_sentences",
}
"""Statuses of rows that are in no shard, and what they mean."""


class DocumentsConfig(LabelsConfig):
    """Everything beside the tokenizer that changes what a row of a training shard holds."""

    keep_columns: tuple[str, ...] | None = Field(
        None, description="columns that shards keep; default: all"
    )
    language: str | None = Field(
        None, description="ISO 639-1 code of all documents; default: from the script of each"
    )
    language_column: str | None = Field(
        None, description="column with the ISO 639-1 code of each document"
    )
    oracle: Literal["greedy", "combination"] = Field(
        "greedy",
        description="how sentences are chosen for a summary: one after the other, or the best "
        "of all sets of sentences",
    )
    max_combinations: int = Field(
        20_000, ge=1, description="sets of sentences above which a document gets the greedy oracle"
    )
    min_sentences: int = Field(1, ge=1, description="shorter documents are left out, in sentences")
    max_sentences: int | None = Field(
        None, ge=1, description="longer documents are left out, in sentences"
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="keep only the first sentences of a document, up to this many tokens (at "
        "least one sentence)",
    )

    @model_validator(mode="after")
    def _some_length_is_left(self) -> Self:
        if self.max_sentences is not None and self.max_sentences < self.min_sentences:
            raise ValueError(
                f"max_sentences {self.max_sentences} is less than min_sentences "
                f"{self.min_sentences}"
            )
        return self


class PrepareConfig(RunConfig):
    """`bertsum prepare`: which columns hold what, and how the job runs.

    Only `documents` changes rows.
    """

    documents: DocumentsConfig = Field(cast(DocumentsConfig, {}), validate_default=True)
    resources: ResourcesConfig = ResourcesConfig(num_cpus=1, num_gpus=0)


class Preparer:
    """Tables of labelled rows in, tables of training rows out, one row a row.

    The column `status` says which rows are left out.
    """

    def __init__(self, tokenizer: Any, config: DocumentsConfig) -> None:
        """Raises ModelError for a tokenizer that does not fit a BERT-like encoder."""
        self.config = config
        self.encoder = make_encoder(tokenizer)
        self.stage_seconds: MutableMapping[str, float] = defaultdict(float)
        self.max_batch_tokens = 0

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        """Training rows of `tables`, in order.

        Raises InputError for a table that lacks a column, and RowError for labels that do not fit
        together.
        """
        for table in tables:
            result = self._prepare(table)
            if on_progress:
                on_progress(table.num_rows, sum(result[TOKENS_COLUMN].to_pylist()))
            yield result

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """Raises BertsumError: a labelled row is not left out because of its process."""
        raise BertsumError(reason)

    def on_batch(self, call: Callable[[], None]) -> None:
        """Nothing runs in batches here."""

    def _prepare(self, table: pa.Table) -> pa.Table:
        documents = self._documents(table)
        statuses: list[str] = []
        readable: list[int] = []
        for index, document in enumerate(documents):
            problem = unreadable(document)
            statuses.append(Status.OK if problem is None else problem.status)
            if problem is None:
                readable.append(index)
        rows = label_rows(table, label_columns(self.config), [self.config.summary_column])
        prepared: list[PreparedDocument | None] = [None] * len(documents)
        results = self._tokenize([documents[index] for index in readable])
        for index, result in zip(readable, results, strict=True):
            if isinstance(result, PreparedDocument):
                try:
                    result = self._label(result, documents[index].text or "", rows[index])
                except InputError as error:
                    raise RowError(str(error), index) from error
            # the document, or the status for which it is left out
            if isinstance(result, PreparedDocument):
                prepared[index] = result
            else:
                statuses[index] = result
        num_tokens = [0 if document is None else len(document.input_ids) for document in prepared]
        schema = shard_schema(kept_schema(table.schema, self.config), self.encoder.tokenizer_digest)
        # the last two columns of a shard are those that are made here
        columns = [table[name] for name in schema.names[:-2]]
        columns += [pa.array(num_tokens, pa.int32()), prepared_array(prepared)]
        result = pa.Table.from_arrays(columns, schema=schema)
        return result.append_column("status", pa.array(list(map(str, statuses)), pa.string()))

    def _documents(self, table: pa.Table) -> list[Document]:
        texts = read_texts(table, self.config.text_column)
        column = self.config.language_column
        languages = [self.config.language] * len(texts)
        if column:
            languages = [document.text for document in read_texts(table, column)]
        documents = []
        for document, language in zip(texts, languages, strict=True):
            documents.append(replace(document, language=language))
        return documents

    def _tokenize(self, documents: Sequence[Document]) -> "list[PreparedDocument | str]":
        """Documents without labels, or the status for which one is left out."""
        texts = [document.text or "" for document in documents]
        languages = [document.language for document in documents]
        try:
            tokenized = split_tokenized(self.encoder.tokenize(texts, languages))
            # encoded for the sake of `is_unknown_language`; one window is the least work
            encoded = encode_prepared(tokenized, texts, self.encoder, 1)
        except Exception:
            # whatever a hostile text makes a tokenizer raise: search that text, keep the others
            if len(documents) == 1:
                return [Status.ERROR]
            half = len(documents) // 2
            return self._tokenize(documents[:half]) + self._tokenize(documents[half:])
        results: list[PreparedDocument | str] = []
        for index, document in enumerate(tokenized):
            is_unknown = encoded[index].is_unknown_language
            results.append(Status.UNKNOWN_LANGUAGE if is_unknown else document)
        return results

    def _label(
        self, document: PreparedDocument, text: str, row: dict[str, Any]
    ) -> PreparedDocument | str:
        config = self.config
        if len(document.spans) < config.min_sentences:
            return TOO_SHORT
        if config.max_sentences is not None and len(document.spans) > config.max_sentences:
            return TOO_LONG
        document = _cut(document, config.max_tokens)
        # 0 tells `sentence_labels` to try no sets, but to choose greedily
        most = config.max_combinations if config.oracle == "combination" else 0
        labels = sentence_labels(text, document.spans, document.language, row, config, most)
        if labels is None and not has_class_label(text, row, config):
            # where labels of sentences come with the data, its summary is not read
            is_read = not config.sentence_labels_column
            summary = row[config.summary_column] if is_read and config.summary_column else None
            return NO_OVERLAP if summary else NO_LABEL
        return replace(document, sentence_labels=labels)


def make_encoder(tokenizer: Any) -> DocumentEncoder:
    """An encoder whose windows nobody looks at."""
    return DocumentEncoder(tokenizer, ModelConfig(), num_segments=1, max_positions=512)


def kept_schema(schema: pa.Schema, config: DocumentsConfig) -> pa.Schema:
    """Columns of the input that a shard keeps: what is asked for, the text and the labels."""
    kept = set(schema.names) if config.keep_columns is None else set(config.keep_columns)
    kept |= {
        config.text_column,
        *label_columns(config),
        *([config.language_column] if config.language_column else []),
    }
    return pa.schema([field for field in schema if field.name in kept])


def check_labelled(shard: Shard, config: DocumentsConfig) -> str | None:
    """Why a file cannot be prepared, or None. Raises InputError for a clash of names."""
    if problem := labels_problem(shard.schema, config, config.keep_columns or ()):
        return problem
    kept = kept_schema(shard.schema, config).names
    if problem := encryption_problem(shard, kept):
        return problem
    clashes = {PREPARED_COLUMN, TOKENS_COLUMN, "status"} & set(kept)
    if clashes:
        raise InputError(
            f"{mask(shard.file.path)}: the columns {sorted(clashes)} have the names of columns of "
            "a shard; leave them out with keep_columns, or rename them"
        )
    return None


def _cut(document: PreparedDocument, max_tokens: int | None) -> PreparedDocument:
    if max_tokens is None or len(document.input_ids) <= max_tokens:
        return document
    # Sentences of 5, 4 and 6 tokens end at 5, 9 and 15; of at most 10 tokens there are two.
    ends = np.cumsum(document.sentence_tokens)
    count = max(1, int(np.searchsorted(ends, max_tokens, "right")))
    return replace(
        document,
        spans=document.spans[:count],
        sentence_tokens=document.sentence_tokens[:count],
        input_ids=document.input_ids[: ends[count - 1]],
    )
