"""Labelled Parquet -> this worker's examples, with encoded documents and labels, and batches of them."""

import random
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.config import ModelConfig
from bertsum.errors import InputError
from bertsum.labels.columns import label_columns, label_rows, labels_problem, python_values
from bertsum.labels.labels import known_class, sentence_labels, sentiment_of, topic_of, word_labels
from bertsum.labels.oracle import rouge_of_sets
from bertsum.labels.shards import PREPARED_COLUMN, PreparedDocument, check_tokenizer, encode_prepared, is_prepared
from bertsum.model.batches import Batch, make_batch, packed_order
from bertsum.model.losses import IGNORE
from bertsum.model.ranking import make_candidates
from bertsum.runs.columns import encryption_problem
from bertsum.runs.input import Shard, list_input, read_footers, stream_rows
from bertsum.storage.folder import Folder, mask
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.ragged import split_runs
from bertsum.training.config import SourceConfig
from bertsum.training.distributed import part
from bertsum.training.examples import Example, ExampleFile


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """A batch with [S] sentence labels, and class indices of sentiment [B], topic [B] and token_sentiment [T].

    IGNORE where there are none.
    """

    batch: Batch
    sentence_labels: Tensor
    class_labels: dict[str, Tensor]
    vectors: Tensor | None = None  # [S, H]
    examples: Sequence[Example] = ()  # [B]

    def to(self, device: torch.device) -> "LabelledBatch":
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            batch=self.batch.to(device),
            sentence_labels=self.sentence_labels.to(device, non_blocking=True),
            class_labels={name: labels.to(device, non_blocking=True) for name, labels in self.class_labels.items()},
            vectors=None if self.vectors is None else self.vectors.to(device, non_blocking=True),
        )


def read_examples(
    uri: str,
    source: SourceConfig,
    encoder: DocumentEncoder,
    model: ModelConfig,
    *,
    seed: int = 0,
    max_rows: int | None = None,
    max_windows: int,
) -> ExampleFile:
    """This worker's examples of one file, directory or glob, in its order.

    Rows without text are left out and counted. Examples go from file to file, some rows at a time.
    Raises InputError for a missing column or a label that the model does not have, and OutputError
    where the temporary directory is full.
    """
    tables = _read_rows(uri, source, encoder, seed, max_rows)
    return ExampleFile.write(
        example
        for rows in tables
        for example in _label(rows, source, encoder, model, seed=seed, max_windows=max_windows)
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows of one file, by their number in the source. `file`: for messages; `first`: number of its first row."""

    file: str
    first: int
    rows: Mapping[int, dict[str, Any]]


def _label(
    table: _Rows,
    source: SourceConfig,
    encoder: DocumentEncoder,
    model: ModelConfig,
    *,
    seed: int,
    max_windows: int,
) -> Iterator[Example | None]:
    """None for a row without text."""
    rows = table.rows
    if source.removed_pattern:
        rows = {number: _without(row, source.removed_pattern, source.text_column) for number, row in rows.items()}
    num_rows = len(rows)
    rows = {number: row for number, row in rows.items() if (row[source.text_column] or "").strip()}
    yield from [None] * (num_rows - len(rows))
    documents, labels = _encode(rows, source, encoder, seed, max_windows)
    for document, given, (number, row) in zip(documents, labels, rows.items(), strict=True):
        if not document.num_read_sentences:
            yield None
        else:
            try:
                yield _example(document, given, row, source, encoder, model)
            except InputError as error:
                place = f"{table.file}, row {number - table.first} (from 0)"
                raise InputError(f"source {source.name}: {place}: {error}") from error


def _example(
    document: EncodedDocument,
    given: npt.NDArray[np.float32] | None,
    row: Mapping[str, Any],
    source: SourceConfig,
    encoder: DocumentEncoder,
    model: ModelConfig,
) -> Example:
    return Example(
        document=document,
        sentence_labels=_sentence_labels(document, row, source) if given is None else given,
        sentiment_label=_index(sentiment_of(row, source), model.sentiment_labels),
        summary=row[source.summary_column] if source.summary_column else None,
        summary_size=source.num_summary_sentences,
        topic_label=_index(topic_of(row, source), model.topic_labels),
        token_labels=_word_labels(document, row, source, encoder, model.token_sentiment_labels),
    )


def _without(row: dict[str, Any], pattern: str, text_column: str) -> dict[str, Any]:
    """The row with another text, so that what a training shard says of its text goes, too."""
    kept = {key: value for key, value in row.items() if key != PREPARED_COLUMN}
    return kept | {text_column: re.sub(pattern, "", row[text_column] or "")}


def read_texts(uri: str, source: SourceConfig) -> Iterator[str]:
    """All texts of one file, directory or glob."""
    root, shards = _find_shards(uri, source)
    for shard in shards:
        for table in stream_rows(root, shard.file, 0, shard.num_rows, [source.text_column]):
            yield from (text for text in python_values(table[source.text_column]) if text)


def labelled_batch(examples: Sequence[Example]) -> LabelledBatch:
    """Pack examples with their labels."""
    batch = make_batch([example.document for example in examples], range(len(examples)))
    chosen = [examples[place] for place in batch.documents]
    vectors = [example.vectors for example in chosen if example.vectors is not None]
    return LabelledBatch(
        batch,
        torch.from_numpy(np.concatenate([example.sentence_labels for example in chosen])),
        {
            "sentiment": torch.tensor([example.sentiment_label for example in chosen]),
            "topic": torch.tensor([example.topic_label for example in chosen]),
            "token_sentiment": _token_labels(chosen),
        },
        torch.cat(vectors) if len(vectors) == len(chosen) else None,
        chosen,
    )


def labelled_candidates(
    batch: LabelledBatch, scores: npt.NDArray[np.float32], vocabulary_size: int
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Of each document with a summary: [N, F] features of the candidates, and [N] their ROUGE-1 + ROUGE-2 F.

    `scores`: [S] probabilities of all sentences.
    """
    found = []
    parts = split_runs(scores, batch.batch.num_sentences)
    for example, own in zip(batch.examples, parts, strict=True):
        if example.summary:
            document = example.document
            candidates = make_candidates(document, own, example.summary_size, vocabulary_size)
            ranked = {place: index for index, place in enumerate([*candidates.sure, *candidates.others])}
            sentences = [document.text[slice(*document.spans[place])] for place in ranked]
            sets = [candidates.sentences(index) for index in range(len(candidates.swapped))]
            groups = [[ranked[place] for place in places] for places in sets]
            rouge = rouge_of_sets(sentences, example.summary, document.language, groups)
            found.append((candidates.features, np.array(rouge, np.float32)))
    return found


def _token_labels(examples: Sequence[Example]) -> Tensor:
    """[T] labels of all tokens, in the order in which `make_batch` packs them."""
    labels = [
        np.full(len(example.document.input_ids), IGNORE) if example.token_labels is None else example.token_labels
        for example in examples
    ]
    lengths = np.concatenate([example.document.window_lengths for example in examples])
    return torch.from_numpy(np.concatenate(labels)[packed_order(lengths)])


def _read_rows(
    uri: str, source: SourceConfig, encoder: DocumentEncoder, seed: int, max_rows: int | None
) -> Iterator[_Rows]:
    """This worker's rows, some at a time; only row groups that hold them are read."""
    columns = [source.text_column, *label_columns(source)]
    root, shards = _find_shards(uri, source)
    for shard in shards:
        if is_prepared(shard.schema):
            check_tokenizer(shard.schema, encoder, mask(f"{root.uri}/{shard.file.path}"))
    if all(is_prepared(shard.schema) for shard in shards):
        columns.append(PREPARED_COLUMN)
    num_rows = sum(shard.num_rows for shard in shards)
    kept: Sequence[int] = range(num_rows)
    if max_rows is not None and num_rows > max_rows:
        kept = sorted(random.Random(seed).sample(kept, max_rows))
    kept = kept[slice(*part(len(kept)))]
    first = 0
    for shard in shards:
        wanted = kept[bisect_left(kept, first) : bisect_left(kept, first + shard.num_rows)]
        if wanted:
            number = wanted[0]
            for table in stream_rows(root, shard.file, wanted[0] - first, wanted[-1] + 1 - first, columns):
                rows = dict(enumerate(label_rows(table, columns, [source.summary_column]), number))
                here = slice(bisect_left(wanted, number), bisect_left(wanted, number + len(rows)))
                number += len(rows)
                yield _Rows(mask(f"{root.uri}/{shard.file.path}"), first, {key: rows[key] for key in wanted[here]})
        first += shard.num_rows


def _find_shards(uri: str, source: SourceConfig) -> tuple[Folder, list[Shard]]:
    try:
        found = list_input(uri)
        shards, problems = read_footers(found, found.files)
    except InputError as error:
        raise InputError(f"source {source.name}: cannot read {mask(uri)}: {error}") from error
    for path, reason in problems.items():
        raise InputError(f"source {source.name}: cannot read {mask(uri)}: {mask(path)}: {reason}")
    for shard in shards:
        problem = labels_problem(shard.schema, source)
        if problem := problem or encryption_problem(shard, [source.text_column, *label_columns(source)]):
            raise InputError(f"source {source.name}: {mask(f'{found.root.uri}/{shard.file.path}')}: {problem}")
    return found.root, shards


def _encode(
    rows: dict[int, dict[str, Any]], source: SourceConfig, encoder: DocumentEncoder, seed: int, max_windows: int
) -> tuple[list[EncodedDocument], Sequence[npt.NDArray[np.float32] | None]]:
    """The documents, and the sentence labels of a training shard, or None where they are to be made."""
    texts = [row[source.text_column] for row in rows.values()]
    if rows and all(PREPARED_COLUMN in row for row in rows.values()):
        prepared = [PreparedDocument.from_row(row[PREPARED_COLUMN]) for row in rows.values()]
        documents = encode_prepared(prepared, texts, encoder, max_windows)
        if not source.excerpt_sentences:
            return documents, [_shard_labels(*pair) for pair in zip(documents, prepared, strict=True)]
    else:
        documents = encoder.encode(texts, [None] * len(texts), max_windows)
    if source.excerpt_sentences:
        generators = [random.Random(f"{seed} {number}") for number in rows]  # the same for any number of workers
        documents = _excerpts(documents, source.excerpt_sentences, encoder, generators, max_windows)
    return documents, [None] * len(documents)


def _shard_labels(document: EncodedDocument, prepared: PreparedDocument) -> npt.NDArray[np.float32] | None:
    """Labels of a training shard; None, so that they are made of what is read, where that is not the whole document.

    The sentences of the summary may all lie behind it.
    """
    if document.num_read_sentences < len(document.spans):
        return None
    labels = prepared.sentence_labels  # None: the shard's makers found nothing to learn
    return np.full(document.num_read_sentences, IGNORE, np.float32) if labels is None else labels


def _word_labels(
    document: EncodedDocument,
    row: Mapping[str, Any],
    source: SourceConfig,
    encoder: DocumentEncoder,
    labels: Sequence[str],
) -> npt.NDArray[np.int64] | None:
    """[T] the label of each word on its first token, IGNORE on all others; None where no word is found."""
    starts, tags = word_labels(document.text, row, source)
    if not starts:
        return None
    found = np.full(len(document.input_ids), IGNORE)
    for token, tag in zip(encoder.first_tokens(document, starts), tags, strict=True):
        if token is not None:
            found[token] = _index(tag, labels)
    return found if (found != IGNORE).any() else None


def _index(label: str | None, labels: Sequence[str]) -> int:
    if label is None:
        return IGNORE
    known = known_class(label, labels)
    if known is None:
        similar = [name for name in labels if name.strip().casefold() == label.strip().casefold()]
        hint = f", of which {similar[0]!r} differs in case or blanks only" if similar else ""
        raise InputError(f"it has the label {label!r}; the model knows {list(labels)}{hint}")
    return list(labels).index(known)


def _sentence_labels(
    document: EncodedDocument, row: Mapping[str, Any], source: SourceConfig
) -> npt.NDArray[np.float32]:
    spans = document.spans[: document.num_read_sentences]
    labels = sentence_labels(document.text, spans, document.language, row, source)
    return np.full(len(spans), IGNORE, np.float32) if labels is None else labels


def _excerpts(
    documents: Sequence[EncodedDocument],
    max_sentences: int,
    encoder: DocumentEncoder,
    generators: Sequence[random.Random],
    max_windows: int,
) -> list[EncodedDocument]:
    texts = []
    for document, generator in zip(documents, generators, strict=True):
        count = min(generator.randint(1, max_sentences), len(document.spans))
        first = generator.randint(0, len(document.spans) - count)
        texts.append(document.text[document.spans[first][0] : document.spans[first + count - 1][1]])
    return encoder.encode(texts, [document.language for document in documents], max_windows)
