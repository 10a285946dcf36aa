"""Labelled Parquet -> this worker's examples, and batches of them."""

import random
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.errors import InputError
from bertsum.evaluation.rouge import rouge_of_groups
from bertsum.labels.columns import label_columns, label_rows, labels_problem, python_values
from bertsum.labels.labels import known_class, sentence_labels, sentiment_of, topic_of, word_labels
from bertsum.labels.shards import (
    PREPARED_COLUMN,
    PreparedDocument,
    check_tokenizer,
    encode_prepared,
    is_prepared,
)
from bertsum.model.batches import Batch, make_batch, packed_order
from bertsum.model.candidates import make_candidates
from bertsum.model.losses import IGNORE
from bertsum.model.ranking import CandidateRanker
from bertsum.model.transfer import to_device
from bertsum.model_config import ModelConfig
from bertsum.runs.columns import encryption_problem
from bertsum.runs.input import Shard, list_input, read_footers, stream_rows
from bertsum.storage.folder import Folder, mask
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.ragged import split_runs
from bertsum.training.distributed import part
from bertsum.training.examples import Example, ExampleFile, Pair
from bertsum.training.heads.pair_rows import pair_texts, pair_weight, pairs_problem
from bertsum.training.heads.pair_texts import PairTexts, with_pair_texts
from bertsum.training.start.source_config import SourceConfig

Row = Mapping[str, Any]  # values of a Parquet row by column, as Arrow gives them to Python


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBatch:
    """B documents with S sentences in T tokens, and their labels; IGNORE where there are none.

    The queries and negatives of pairs are further documents, without labels.
    """

    batch: Batch
    sentence_labels: Tensor  # [S]
    class_labels: dict[str, Tensor]  # indices of sentiment [B], topic [B] and token_sentiment [T]
    vectors: Tensor | None = None  # [S, H]
    examples: Sequence[Example] = ()  # [B]
    pairs: PairTexts | None = None  # of the B documents
    held_vectors: Tensor | None = None  # [B, H] of length 1, zeros for what is not held
    # [B, H] of the loss of pairs by the documents' vectors, where other batches have parts of it
    vector_gradients: Tensor | None = None

    def to(self, device: torch.device) -> "LabelledBatch":
        """Return the same batch with its tensors on `device`."""
        return replace(
            self,
            batch=self.batch.to(device),
            sentence_labels=to_device(self.sentence_labels, device),
            class_labels={
                name: to_device(labels, device) for name, labels in self.class_labels.items()
            },
            vectors=None if self.vectors is None else to_device(self.vectors, device),
            held_vectors=(
                None if self.held_vectors is None else to_device(self.held_vectors, device)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How rows and excerpts of a source are drawn; all rows if no more than `max_rows`."""

    seed: int = 0
    max_rows: int | None = None


_ALL_ROWS = Sampling()


def read_examples(
    uri: str,
    source: SourceConfig,
    encoder: DocumentEncoder,
    model: ModelConfig,
    *,
    max_windows: int,
    sampling: Sampling = _ALL_ROWS,
    has_sentence_labels: bool = True,
) -> ExampleFile:
    """Read this worker's examples of a file, directory or glob, in its order.

    Rows without text are left out and counted. Few rows at a time are in memory.

    - `has_sentence_labels`: whether sentences are labelled, which takes longer than all else.

    Raises InputError for a missing column or a label that the model does not have, and OutputError
    if the temporary directory is full.
    """
    rows = _RowEncoder(
        source=source,
        encoder=encoder,
        model=model,
        max_windows=max_windows,
        seed=sampling.seed,
        has_sentence_labels=has_sentence_labels,
    )
    tables = _read_rows(uri, source, encoder, sampling)
    return ExampleFile.write(chain.from_iterable(map(rows.examples, tables)))


def read_texts(uri: str, source: SourceConfig) -> Iterator[str]:
    """Read all texts of a file, directory or glob."""
    root, shards = _find_shards(uri, source)
    for shard in shards:
        for table in stream_rows(root, shard.file, 0, shard.num_rows, [source.text_column]):
            yield from filter(None, python_values(table[source.text_column]))


def labelled_batch(examples: Sequence[Example]) -> LabelledBatch:
    """Pack examples with their labels, and what their pairs need beside their documents."""
    texts, pairs = with_pair_texts(examples)
    batch = make_batch([text.document for text in texts], range(len(texts)))
    # A batch has its documents in an order of its own, which the labels follow.
    chosen = [texts[index] for index in batch.documents]
    vectors = [example.vectors for example in chosen if example.vectors is not None]
    return LabelledBatch(
        batch=batch,
        sentence_labels=torch.from_numpy(
            np.concatenate([example.sentence_labels for example in chosen])
        ),
        class_labels={
            "sentiment": torch.tensor([example.sentiment_label for example in chosen]),
            "topic": torch.tensor([example.topic_label for example in chosen]),
            "token_sentiment": _token_labels(chosen),
        },
        vectors=torch.cat(vectors) if len(vectors) == len(chosen) else None,
        examples=chosen,
        pairs=pairs.sorted_as(batch.documents) if pairs else None,
        held_vectors=_held_vectors(chosen),
    )


def labelled_candidates(
    batch: LabelledBatch, scores: npt.NDArray[np.float32], ranker: CandidateRanker
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Make the candidates of each document that has a reference summary, for `ranker` to learn.

    `scores`: [S] probabilities of all sentences. Returns for each of these documents the features
    of its N candidates, [N, F], and their ROUGE-1 + ROUGE-2 F, [N], as summaries are measured.
    """
    documents = []
    scores_of = []
    sizes = []
    summaries = []
    scores_by_document = split_runs(scores, batch.batch.num_sentences)
    for example, document_scores in zip(batch.examples, scores_by_document, strict=True):
        if example.summary:
            documents.append(example.document)
            scores_of.append(document_scores)
            sizes.append(example.summary_size)
            summaries.append(example.summary)
    sets = make_candidates(
        documents,
        scores_of,
        sizes,
        ranker.vocabulary_size,
        fewer_sentences=ranker.fewer_sentences,
        reads_text=ranker.reads_text,
    )
    labelled = []
    for document, summary, candidates in zip(documents, summaries, sets, strict=True):
        # ROUGE is computed among the few sentences that any candidate has: the sure ones, which all
        # have, and the others.
        sentences = []
        for sentence in [*candidates.sure.tolist(), *candidates.others.tolist()]:
            start, stop = document.spans[sentence]
            sentences.append(document.text[start:stop])
        num_candidates, num_sure = len(candidates.swapped), len(candidates.sure)
        sure = np.ones((num_candidates, num_sure), np.float32)
        members = np.concatenate([sure, candidates.swapped], axis=1)
        rouge = rouge_of_groups(sentences, summary, document.language, members)
        labelled.append((candidates.features, rouge))
    return labelled


def _held_vectors(examples: Sequence[Example]) -> Tensor | None:
    """[B, H] the vectors to hold, zeros where there are none; None where no example has any."""
    held = [example.held_vectors for example in examples]
    known = [vectors for vectors in held if vectors is not None]
    if not known:
        return None
    nothing = np.zeros_like(known[0][0])
    rows = [nothing if vectors is None else vectors[0] for vectors in held]
    return torch.from_numpy(np.stack(rows))


def _token_labels(examples: Sequence[Example]) -> Tensor:
    """Join the labels of all tokens, in the order in which `make_batch` packs them: [T]."""
    labels = []
    for example in examples:
        if example.token_labels is None:
            labels.append(np.full(len(example.document.input_ids), IGNORE))
        else:
            labels.append(example.token_labels)
    lengths = np.concatenate([example.document.window_lengths for example in examples])
    return torch.from_numpy(np.concatenate(labels)[packed_order(lengths)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows of one file by their number in the source."""

    file: str  # as messages name it
    first_number: int  # of the file's first row
    rows: Mapping[int, Row]


def _read_rows(
    uri: str, source: SourceConfig, encoder: DocumentEncoder, sampling: Sampling
) -> Iterator[_Rows]:
    """Read this worker's rows, some at a time; only the row groups that hold them are read."""
    columns = [source.text_column, *label_columns(source)]
    root, shards = _find_shards(uri, source)
    for shard in shards:
        if is_prepared(shard.schema):
            check_tokenizer(shard.schema, encoder, mask(f"{root.uri}/{shard.file.path}"))
    # One list of columns for all files, so the column is read only if each file has it.
    if all(is_prepared(shard.schema) for shard in shards):
        columns.append(PREPARED_COLUMN)
    numbers: Sequence[int] = range(sum(shard.num_rows for shard in shards))
    if sampling.max_rows is not None and len(numbers) > sampling.max_rows:
        # Drawn before the rows are shared out: the same rows for any number of workers.
        numbers = sorted(random.Random(sampling.seed).sample(numbers, sampling.max_rows))
    numbers = numbers[slice(*part(len(numbers)))]  # this worker's, ascending
    stop = 0
    for shard in shards:
        first, stop = stop, stop + shard.num_rows  # rows of all shards are numbered in one sequence
        wanted = _between(numbers, first, stop)
        if not wanted:
            continue
        number = wanted[0]  # of the first row of the next table
        last = wanted[-1]
        for table in stream_rows(root, shard.file, number - first, last + 1 - first, columns):
            rows = label_rows(table, columns, [source.summary_column])
            in_table = _between(wanted, number, number + len(rows))
            chosen = [rows[wanted_number - number] for wanted_number in in_table]
            yield _Rows(
                file=mask(f"{root.uri}/{shard.file.path}"),
                first_number=first,
                rows=dict(zip(in_table, chosen, strict=True)),
            )
            number += len(rows)


def _between(numbers: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """Return those of ascending numbers that lie in [start, stop)."""
    return numbers[bisect_left(numbers, start) : bisect_left(numbers, stop)]


def _find_shards(uri: str, source: SourceConfig) -> tuple[Folder, list[Shard]]:
    """List the Parquet files of a source.

    Raises InputError if a file cannot be read or lacks a column.
    """
    try:
        listed = list_input(uri)
        shards, problems = read_footers(listed, listed.files)
    except InputError as error:
        raise InputError(f"source {source.name}: cannot read {mask(uri)}: {error}") from error
    for path, reason in problems.items():
        raise InputError(f"source {source.name}: cannot read {mask(uri)}: {mask(path)}: {reason}")
    for shard in shards:
        problem = labels_problem(shard.schema, source) or pairs_problem(shard.schema, source)
        problem = problem or encryption_problem(shard, [source.text_column, *label_columns(source)])
        if problem:
            path = mask(f"{listed.root.uri}/{shard.file.path}")
            raise InputError(f"source {source.name}: {path}: {problem}")
    return listed.root, shards


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowEncoder:
    """Turns rows of a source into examples."""

    source: SourceConfig
    encoder: DocumentEncoder
    model: ModelConfig
    max_windows: int
    seed: int
    has_sentence_labels: bool

    def examples(self, table: _Rows) -> Iterator[Example | None]:
        """Yield an example for each row, None for a row without text.

        Raises InputError for a label that cannot be used; it names the file and the row.
        """
        rows: dict[int, Row] = {}
        for number, row in table.rows.items():
            text = row[self.source.text_column] or ""
            if self.source.removed_pattern:
                text = re.sub(self.source.removed_pattern, "", text)
                row = {**row, self.source.text_column: text}
                row.pop(PREPARED_COLUMN, None)  # what a training shard says of the text as it was
            if text.strip():
                rows[number] = row
            else:
                yield None
        documents, labels = self._encode(rows)
        encoded = self._pair_documents(rows.values())
        for document, known_labels, (number, row) in zip(
            documents, labels, rows.items(), strict=True
        ):
            if not document.num_read_sentences:
                yield None
                continue
            try:
                example = self._example(document, known_labels, row)
                yield replace(example, pair=self._pair(row, encoded))
            except InputError as error:
                where = f"{table.file}, row {number - table.first_number} (from 0)"
                raise InputError(f"source {self.source.name}: {where}: {error}") from error

    def _encode(
        self, rows: Mapping[int, Row]
    ) -> tuple[list[EncodedDocument], Sequence[npt.NDArray[np.float32] | None]]:
        """Return the documents, and the sentence labels of a training shard, else None."""
        texts = [row[self.source.text_column] for row in rows.values()]
        if rows and all(PREPARED_COLUMN in row for row in rows.values()):
            prepared = [PreparedDocument.from_row(row[PREPARED_COLUMN]) for row in rows.values()]
            documents = encode_prepared(prepared, texts, self.encoder, self.max_windows)
            if not self.source.excerpt_sentences:
                labels: list[npt.NDArray[np.float32] | None] = []  # [S] of each document
                for document, shard_row in zip(documents, prepared, strict=True):
                    if document.num_read_sentences < len(document.spans):
                        # The summary's sentences may all lie beyond what is read, so that labels
                        # must be made of what is read.
                        labels.append(None)
                    elif shard_row.sentence_labels is None:
                        # `bertsum prepare` saw nothing to learn in the row
                        labels.append(np.full(document.num_read_sentences, IGNORE, np.float32))
                    else:
                        labels.append(shard_row.sentence_labels)
                return documents, labels
        else:
            documents = self.encoder.encode(texts, [None] * len(texts), self.max_windows)
        if self.source.excerpt_sentences:
            documents = self._excerpts(documents, rows.keys(), self.source.excerpt_sentences)
        return documents, [None] * len(documents)

    def _excerpts(
        self, documents: Sequence[EncodedDocument], numbers: Collection[int], max_sentences: int
    ) -> list[EncodedDocument]:
        """Draw up to `max_sentences` consecutive sentences of each document, and encode them."""
        texts = []
        for document, number in zip(documents, numbers, strict=True):
            # One generator for each row: the same excerpt for any number of workers.
            generator = random.Random(f"{self.seed} {number}")
            count = min(generator.randint(1, max_sentences), len(document.spans))
            first = generator.randint(0, len(document.spans) - count)
            start, stop = document.spans[first][0], document.spans[first + count - 1][1]
            texts.append(document.text[start:stop])
        languages = [document.language for document in documents]
        return self.encoder.encode(texts, languages, self.max_windows)

    def _example(
        self, document: EncodedDocument, known_labels: npt.NDArray[np.float32] | None, row: Row
    ) -> Example:
        source, model = self.source, self.model
        spans = document.spans[: document.num_read_sentences]
        labels = known_labels  # [S]
        if labels is None and self.has_sentence_labels:
            labels = sentence_labels(document.text, spans, document.language, row, source)
        if labels is None:  # the source has none, or the row nothing to make them of
            labels = np.full(len(spans), IGNORE, np.float32)
        return Example(
            document=document,
            sentence_labels=labels,
            sentiment_label=_class_index(sentiment_of(row, source), model.sentiment_labels),
            summary=row[source.summary_column] if source.summary_column else None,
            topic_label=_class_index(topic_of(row, source), model.topic_labels),
            token_labels=self._token_labels(document, row),
            summary_size=source.num_summary_sentences,
            is_held=source.hold_vectors,
        )

    def _pair_documents(self, rows: Iterable[Row]) -> dict[str, EncodedDocument]:
        """The queries and negatives of all rows by text, those left out that hold none."""
        texts: dict[str, None] = {}
        for row in rows:
            texts |= dict.fromkeys(pair_texts(row, self.source))
        documents = self.encoder.encode(list(texts), [None] * len(texts), self.max_windows)
        encoded = {}
        for text, document in zip(texts, documents, strict=True):
            if document.num_read_sentences:
                encoded[text] = document
        return encoded

    def _pair(self, row: Row, encoded: Mapping[str, EncodedDocument]) -> Pair | None:
        """The pair of a row; None without a query, or without a weight."""
        weight = pair_weight(row, self.source)
        texts = [encoded.get(text) for text in pair_texts(row, self.source)]
        if not weight or not texts or texts[0] is None:
            return None
        negatives = tuple(text for text in texts[1:] if text is not None)
        return Pair(query=texts[0], negatives=negatives, weight=weight)

    def _token_labels(self, document: EncodedDocument, row: Row) -> npt.NDArray[np.int64] | None:
        """Put the label of each word on its first token, IGNORE on all others: [T].

        None if no word has a label. Of "unhappy end", tokens "un ##happy end" with [CLS] and [SEP],
        the labels 0 and 2 become [IGNORE, 0, IGNORE, 2, IGNORE].
        """
        starts, words = word_labels(document.text, row, self.source)
        if not starts:
            return None
        labels = np.full(len(document.input_ids), IGNORE)
        first_tokens = self.encoder.first_tokens(document, starts)
        for token, word_label in zip(first_tokens, words, strict=True):
            if token is not None:  # None: the word is not in the text, or lies beyond the windows
                labels[token] = _class_index(word_label, self.model.token_sentiment_labels)
        return labels if (labels != IGNORE).any() else None


def _class_index(label: str | None, labels: Sequence[str]) -> int:
    """Return the index of a label among those of the model, IGNORE for None.

    Raises InputError for a label that the model does not have.
    """
    if label is None:
        return IGNORE
    known = known_class(label, labels)
    if known is None:
        folded = label.strip().casefold()
        similar = [name for name in labels if name.strip().casefold() == folded]
        hint = f", of which {similar[0]!r} differs in case or blanks only" if similar else ""
        raise InputError(f"it has the label {label!r}; the model knows {list(labels)}{hint}")
    return list(labels).index(known)
