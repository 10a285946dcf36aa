"""Labelled Parquet -> examples with encoded documents and labels, and batches of them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor

from bertsum.batching import Batch, make_batch
from bertsum.encoding import DocumentEncoder, EncodedDocument
from bertsum.errors import InputError
from bertsum.labels import sentence_labels, sentiment_of
from bertsum.loss import IGNORE
from bertsum.training_config import SourceConfig


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded document and its labels; IGNORE where it has none."""

    document: EncodedDocument
    sentence_labels: npt.NDArray[np.float32]  # [S]
    sentiment_label: int
    summary: str | None  # the reference, for measuring
    vectors: Tensor | None = None  # [S, H] where the encoder does not learn


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """A batch with [S] sentence labels and [B] class indices, IGNORE where there are none."""

    batch: Batch
    sentence_labels: Tensor
    sentiment_labels: Tensor
    vectors: Tensor | None = None  # [S, H]


def read_examples(
    uri: str,
    source: SourceConfig,
    encoder: DocumentEncoder,
    labels: Sequence[str],
    *,
    seed: int = 0,
    max_rows: int | None = None,
    max_windows: int,
) -> list[Example]:
    """Examples of one file or directory, in its order; rows without text are left out.

    Raises InputError for a missing column or a label that the model does not have.
    """
    rows = _read_rows(uri, source)
    if max_rows is not None and len(rows) > max_rows:
        kept = sorted(random.Random(seed).sample(range(len(rows)), max_rows))
        rows = [rows[index] for index in kept]
    rows = [row for row in rows if (row[source.text_column] or "").strip()]
    texts = [row[source.text_column] for row in rows]
    documents = encoder.encode(texts, [None] * len(texts), max_windows)
    if source.excerpt_sentences:
        documents = _excerpts(documents, source.excerpt_sentences, encoder, seed, max_windows)
    return [
        Example(
            document=document,
            sentence_labels=_sentence_labels(document, row, source),
            sentiment_label=_sentiment_label(row, source, labels, uri),
            summary=row[source.summary_column] if source.summary_column else None,
        )
        for document, row in zip(documents, rows, strict=True)
        if document.num_read_sentences
    ]


def is_labelled(example: Example) -> bool:
    """Whether any head learns from the example."""
    return example.sentiment_label != IGNORE or bool((example.sentence_labels != IGNORE).any())


def labelled_batch(examples: Sequence[Example]) -> LabelledBatch:
    """Pack examples with their labels."""
    batch = make_batch([example.document for example in examples], range(len(examples)))
    chosen = [examples[place] for place in batch.documents]
    vectors = [example.vectors for example in chosen if example.vectors is not None]
    return LabelledBatch(
        batch,
        torch.from_numpy(np.concatenate([example.sentence_labels for example in chosen])),
        torch.tensor([example.sentiment_label for example in chosen]),
        torch.cat(vectors) if len(vectors) == len(chosen) else None,
    )


def epoch_batches(
    sources: Sequence[tuple[float, Sequence[Example]]], max_batch_tokens: int, seed: int
) -> Iterator[LabelledBatch]:
    """Batches of one epoch in random order; a source of weight w is gone through w times, fractions drawn at random."""
    generator = random.Random(seed)
    examples = [example for _, part in sources for example in part]
    order: list[int] = []
    first = 0
    for weight, part in sources:
        places = list(range(first, first + len(part)))
        order += places * int(weight) + generator.sample(places, round((weight % 1) * len(part)))
        first += len(part)
    generator.shuffle(order)
    group: list[Example] = []
    room = max_batch_tokens
    for place in order:
        num_tokens = len(examples[place].document.input_ids)
        if group and num_tokens > room:
            yield labelled_batch(group)
            group, room = [], max_batch_tokens
        group.append(examples[place])
        room -= num_tokens
    if group:
        yield labelled_batch(group)


def _read_rows(uri: str, source: SourceConfig) -> list[dict[str, Any]]:
    names = [source.text_column, source.summary_column, source.sentiment_column]
    names += [source.sentences_column, source.sentence_labels_column, source.aspect_sentiments_column]
    columns = [name for name in names if name]
    try:
        table = pq.read_table(Path(uri) if "://" not in uri else uri)
    except (OSError, ValueError) as error:
        raise InputError(f"source {source.name}: cannot read {uri}: {error}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InputError(f"source {source.name}: {uri} has no columns {missing}; it has {table.column_names}")
    rows: list[dict[str, Any]] = table.select(columns).to_pylist()
    return rows


def _sentiment_label(row: dict[str, Any], source: SourceConfig, labels: Sequence[str], uri: str) -> int:
    label = sentiment_of(row, source)
    if label is None:
        return IGNORE
    if label not in labels:
        raise InputError(f"source {source.name}: {uri} has the label {label!r}; the model knows {list(labels)}")
    return list(labels).index(label)


def _sentence_labels(document: EncodedDocument, row: dict[str, Any], source: SourceConfig) -> npt.NDArray[np.float32]:
    spans = document.spans[: document.num_read_sentences]
    try:
        labels = sentence_labels(document.text, spans, document.language, row, source)
    except InputError as error:
        raise InputError(f"source {source.name}: {error}") from error
    return np.full(len(spans), IGNORE, np.float32) if labels is None else labels


def _excerpts(
    documents: Sequence[EncodedDocument], max_sentences: int, encoder: DocumentEncoder, seed: int, max_windows: int
) -> list[EncodedDocument]:
    generator = random.Random(seed)
    texts = []
    for document in documents:
        count = min(generator.randint(1, max_sentences), len(document.spans))
        first = generator.randint(0, len(document.spans) - count)
        texts.append(document.text[document.spans[first][0] : document.spans[first + count - 1][1]])
    return encoder.encode(texts, [document.language for document in documents], max_windows)
