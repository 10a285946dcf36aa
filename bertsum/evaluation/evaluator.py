"""Labelled rows -> a row of measures each.

These are the ROUGE of every system, and what each model says of sentiment, topic, words and
targets, and its embeddings.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from bertsum.config import SummarizerConfig
from bertsum.errors import BertsumError, InputError, RowError
from bertsum.evaluation.baselines import (
    BM25,
    choose,
    choose_by_words,
    with_query,
)
from bertsum.evaluation.bm25 import terms
from bertsum.evaluation.columns import RETRIEVAL_MEASURES, measures, result_schema
from bertsum.evaluation.config import EvaluationConfig
from bertsum.evaluation.rouge import rouge
from bertsum.inference.arrow import read_texts, unreadable
from bertsum.inference.device_batches import Scores
from bertsum.inference.routing import Router
from bertsum.inference.stream import Progress
from bertsum.inference.summarizer import Summarizer
from bertsum.labels.columns import label_columns, label_rows
from bertsum.labels.labels import class_name, name_labels, sentiment_of, topic_of, word_labels
from bertsum.schema import Document, Prediction
from bertsum.text.encoder import EncodedDocument
from bertsum.text.language_tags import base_language
from bertsum.text.phrases.tags import OUTSIDE, choose_tags
from bertsum.text.sentences import detect_language, split_sentences
from bertsum.text.words import words

_SAME = {"0": False, "false": False, "1": True, "true": True}

Row = Mapping[str, Any]  # a row of a table, as Arrow gives it: values of any type by column
MeasuredRow = dict[str, Any]  # values by name of a column of measures
ModelScores = dict[str, Mapping[str, float] | None]  # by model, then label; None: no such head


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a model says of a document; None for one that it could not read."""

    prediction: Prediction
    encoded: EncodedDocument | None
    scores: Scores | None


class Evaluator:
    """Tables of labelled rows in, tables of measures out, one row a row."""

    def __init__(self, models: Mapping[str, Summarizer], config: EvaluationConfig) -> None:
        """Make the models give what is measured. Raises ConfigError for a topic without a word."""
        self.models = models
        self.config = config
        # The summarizer itself would refuse a group that a model lacks: its rows go without it here.
        values = config.summarizer.model_dump() | {"outputs": config.outputs}
        values["query_column"] = config.summary_query_column
        read_config = SummarizerConfig.model_validate(values | {"topics": config.topics})
        for model in models.values():
            for reader in model.readers.values():
                reader.use(read_config)
                if _label_words(config):
                    reader.wanted = replace(reader.wanted, token_sentiments=True)
        self.stage_seconds: MutableMapping[str, float] = defaultdict(float)

    @property
    def max_batch_tokens(self) -> int:
        """Most tokens of one batch, of each model."""
        return max((model.max_batch_tokens for model in self.models.values()), default=0)

    @max_batch_tokens.setter
    def max_batch_tokens(self, num_tokens: int) -> None:
        for model in self.models.values():
            model.max_batch_tokens = num_tokens

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        """Measure table after table.

        Raises InputError for a table that lacks a column, RowError for labels that do not fit
        together, and ConfigError for a missing package.
        """
        for table in tables:
            result = self._evaluate(table)
            if on_progress:
                on_progress(table.num_rows, sum(result["num_tokens"].to_pylist()))
            yield result

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """Raises BertsumError: a mean over the other rows would be another figure."""
        raise BertsumError(reason)

    def on_batch(self, call: Callable[[], None]) -> None:
        """Call `call` after each batch of each model, from now on."""
        for model in self.models.values():
            model.on_batch(call)

    def _evaluate(self, table: pa.Table) -> pa.Table:
        texts = read_texts(table, self.config.text_column)
        languages = [self.config.language] * len(texts)
        if self.config.language_column:
            cells = read_texts(table, self.config.language_column)
            languages = [cell.text for cell in cells]
        names = [*label_columns(self.config), *self.config.system_columns]
        summary_columns = [self.config.summary_column, *self.config.system_columns]
        rows = label_rows(table, names, summary_columns)
        documents = []
        for text, language, row in zip(texts, languages, rows, strict=True):
            entities = row[self.config.entities_column] if self.config.entities_column else None
            targets = tuple(filter(None, entities or ()))
            documents.append(replace(text, language=language, targets=targets))
        answers: list[dict[str, _Answer]] = [{} for _ in documents]  # of each document, by model
        for name, model in self.models.items():
            for by_model, answer in zip(answers, self._ask(model, documents), strict=True):
                by_model[name] = answer
        queries = self._queries(rows, answers)
        answering = self._answering(documents, rows)
        # The models have counted their own stages; what is left is labels and ROUGE.
        start = time.perf_counter()
        measured = []
        for index, (document, row) in enumerate(zip(documents, rows, strict=True)):
            try:
                row_measures = self._measure(document, row, answers[index])
                row_measures["rouge"] = self._rouge(
                    document, row, self._choices(answers[index], answering[index])
                )
                measured.append(row_measures | self._retrieval(document, row, queries[index]))
            except InputError as error:
                raise RowError(str(error), index) from error
        self.stage_seconds["finish"] += time.perf_counter() - start
        columns = [table[name] for name in self.config.keep_columns]
        for field in measures(self.config):
            columns.append(pa.array([row[field.name] for row in measured], field.type))
        return pa.Table.from_arrays(columns, schema=result_schema(table.schema, self.config))

    def _measure(self, document: Document, row: Row, answers: Mapping[str, _Answer]) -> MeasuredRow:
        predictions: dict[str, Prediction] = {}
        sentiments: ModelScores = {}
        topics: ModelScores = {}
        for name, answer in answers.items():
            predictions[name] = answer.prediction
            sentiments[name] = answer.prediction.sentiment_scores
            encoded, scores = answer.encoded, answer.scores
            if self.config.topics:
                topics[name] = answer.prediction.topic_scores
            elif encoded is not None and scores is not None and scores.topic_scores is not None:
                reader = self.models[name].router.reader_for(encoded.language)
                labels = reader.model.config.topic_labels
                values = scores.topic_scores.tolist()
                topics[name] = dict(zip(labels, values, strict=True))

        first = next(iter(predictions.values()))
        expected_words, words = self._words(document, row, answers)
        expected_targets, targets = self._targets(document, row, predictions)
        return {
            "status": first.status,
            "num_tokens": first.num_tokens,
            "num_sentences": first.num_sentences,
            "expected_sentiment": sentiment_of(row, self.config),
            "sentiment": _by_model(sentiments),
            "expected_topic": topic_of(row, self.config),
            "topic": _by_model(topics) if self.config.topic_column else None,
            "expected_words": expected_words,
            "words": words,
            "expected_targets": expected_targets,
            "targets": targets,
            "model_summaries": _summary_spans(predictions),
        }

    def _ask(self, model: Summarizer, documents: Sequence[Document]) -> list[_Answer]:
        """[N] answers of a model, whose stages are added to those of the evaluation."""
        answers = [_Answer(*prediction) for prediction in model.predict_all_heads(documents)]
        for stage, seconds in model.stage_seconds.items():
            self.stage_seconds[stage] += seconds
        model.stage_seconds.clear()  # they count once, however often this is called
        return answers

    def _queries(
        self, rows: Sequence[Row], answers: Sequence[Mapping[str, _Answer]]
    ) -> list[list[MeasuredRow]]:
        """[N] by each model that has read both: the embeddings of the query and the document."""
        entries: list[list[MeasuredRow]] = [[] for _ in rows]
        if not self.config.query_column:
            return entries
        for name, model in self.models.items():
            router, queries = model.router, []
            for row, by_model in zip(rows, answers, strict=True):
                encoded = by_model[name].encoded
                # Read in the document's language: vectors of two members cannot be compared.
                language = encoded.language if encoded else None
                queries.append(Document(row[self.config.query_column], language))
            for index, query in enumerate(self._ask(model, queries)):
                document = answers[index][name]
                if document.encoded is None or query.encoded is None:
                    continue
                reader = router.reader_of(document.encoded)
                vectors = {
                    "query": query.prediction.embedding,
                    "document": document.prediction.embedding,
                }
                if reader is router.reader_of(query.encoded) and all(vectors.values()):
                    member = next(key for key, value in model.readers.items() if value is reader)
                    entries[index].append({"model": name, "member": member, **vectors})
        return entries

    def _answering(
        self, documents: Sequence[Document], rows: Sequence[Row]
    ) -> list[dict[str, Prediction]]:
        """[N] by model: what it chooses for the query of the row's summary; none without one."""
        chosen: list[dict[str, Prediction]] = [{} for _ in documents]
        if not self.config.summary_query_column:
            return chosen
        asked = []
        for document, row in zip(documents, rows, strict=True):
            asked.append(replace(document, query=row[self.config.summary_query_column]))
        for name, model in self.models.items():
            for by_model, answer in zip(chosen, self._ask(model, asked), strict=True):
                by_model[name] = answer.prediction
        return chosen

    def _choices(
        self, answers: Mapping[str, _Answer], answering: Mapping[str, Prediction]
    ) -> dict[str, Sequence[int]]:
        """Sentences of the summaries of each model, without a query and with it."""
        choices = {}
        for name, answer in answers.items():
            choices[name] = answer.prediction.summary_sentences or ()
        for name, prediction in answering.items():
            choices[with_query(name)] = prediction.summary_sentences or ()
        return choices

    def _retrieval(
        self, document: Document, row: Row, entries: Sequence[MeasuredRow]
    ) -> MeasuredRow:
        """Values of RETRIEVAL_MEASURES; null for a row without a query or a text."""
        values: MeasuredRow = dict.fromkeys(field.name for field in RETRIEVAL_MEASURES)
        query = row[self.config.query_column] if self.config.query_column else None
        if not query or unreadable(document) is not None or document.text is None:
            return values
        values["document_digest"] = hashlib.sha256(document.text.encode()).hexdigest()
        values["retrieval"] = entries
        language = base_language(document.language) or detect_language(document.text)
        values["query_terms"] = terms(query, language)
        values["document_terms"] = terms(document.text, language)
        if self.config.same_column:
            values["is_same"] = _same(row[self.config.same_column])
        return values

    def _words(
        self, document: Document, row: Row, answers: Mapping[str, _Answer]
    ) -> tuple[list[str] | None, list[MeasuredRow] | None]:
        """Labels of a row's words, and those that each model with a head for words gives them."""
        if not _label_words(self.config) or unreadable(document) is not None:
            return None, None
        starts, tags = word_labels(document.text or "", row, self.config)
        known_starts, expected = [], []
        for start, tag in zip(starts, tags, strict=True):
            # A word that is not in the text, or that has no label, is not measured.
            if start is not None and tag is not None:
                known_starts.append(start)
                expected.append(tag)
        predicted = []
        for name, answer in answers.items():
            router = self.models[name].router
            if all(reader.model.token_sentiment is None for reader in router.readers.values()):
                continue
            tags = self._tags(router, answer, known_starts)
            predicted.append({"model": name, "tags": tags})
        return expected, predicted

    def _targets(
        self, document: Document, row: Row, predictions: Mapping[str, Prediction]
    ) -> tuple[list[str] | None, list[MeasuredRow] | None]:
        """Labels of a row's entities, and the scores that each model gives those it mentions."""
        names, labels = name_labels(row, self.config)
        expected = [label for label in labels if label is not None]
        if not expected or unreadable(document) is not None:
            return None, None
        entries = []
        for model, prediction in predictions.items():
            if prediction.targets is None:  # no head for sentiment, or a text that it cannot read
                continue
            by_name = {entry["target"]: entry["sentiment_scores"] for entry in prediction.targets}
            scores = []
            for name, label in zip(names, labels, strict=True):
                if label is not None:
                    by_label = by_name.get(name or "")
                    scores.append(None if by_label is None else list(by_label.items()))
            entries.append({"model": model, "scores": scores})
        return expected, entries

    def _tags(self, router: Router, answer: _Answer, starts: Sequence[int]) -> list[str]:
        """What a model says of the words that begin at these offsets; `O` where it says nothing."""
        tags = [OUTSIDE] * len(starts)
        encoded, scores = answer.encoded, answer.scores
        if encoded is None or scores is None or scores.token_sentiments is None:
            return tags
        reader = router.reader_of(encoded)
        # a word has the label of its first token, as in training
        # Tokens by word, of each sentence. Between labelled names stand other words, so that these
        # are no runs.
        tokens_of: dict[int, dict[int, int]] = defaultdict(dict)
        for word, token in enumerate(reader.encoder.first_tokens(encoded, starts)):
            if token is not None:
                sentence = int(encoded.token_sentences[token])
                tokens_of[sentence if self.config.tokens_column else token][word] = token
        for tokens in tokens_of.values():
            probabilities = scores.token_sentiments[list(tokens.values())]
            labels = choose_tags(probabilities, reader.model.config.token_sentiment_labels)
            for word, label in zip(tokens, labels, strict=True):
                tags[word] = label
        return tags

    def _rouge(
        self, document: Document, row: Row, choices: Mapping[str, Sequence[int]]
    ) -> list[MeasuredRow] | None:
        """ROUGE of each system. None for a row without text, or without a reference.

        `choices`: sentences of the models' summaries.
        """
        if not self.config.summary_column or unreadable(document) is not None:
            return None
        size = self.config.num_summary_sentences
        text = document.text or ""
        language = base_language(document.language) or detect_language(text)
        sentences = _sentences(text, language)  # as the models split them
        reference = one_sentence_a_line(row[self.config.summary_column] or "", language)
        if not sentences or not words(reference, language):
            return None
        chosen = dict(choices)
        # a document of two sentences has two in its lead, however many are asked for
        chosen[self.config.lead] = range(min(size, len(sentences)))
        # The text is in the seed, so that the choice does not depend on the rows beside it.
        seed = f"{self.config.seed} {document.text}"
        for baseline in self.config.baselines:
            chosen[baseline] = choose(
                baseline, sentences, summary=reference, language=language, size=size, seed=seed
            )
        if self.config.summary_query_column:
            query = row[self.config.summary_query_column] or ""
            chosen[BM25] = choose_by_words(sentences, query, language=language, size=size)
        texts = {}
        for system, indices in chosen.items():
            texts[system] = "\n".join(sentences[index] for index in indices)
        # summaries that other systems wrote, as texts in the rows
        for column in self.config.system_columns:
            texts[column] = one_sentence_a_line(row[column] or "", language)
        scores = rouge(list(texts.values()), [reference] * len(texts), language)
        entries = []
        for system, score in zip(texts, scores, strict=True):
            entries.append({"system": system, **asdict(score)})
        return entries


def _same(value: object) -> bool | None:
    """Whether a pair is labelled as same; None without a label. Raises InputError for others."""
    label = class_name(value)
    if label is None:
        return None
    if label.lower() not in _SAME:
        raise InputError(f"a pair has the label {label!r}; allowed are 0 and 1, or true and false")
    return _SAME[label.lower()]


def _label_words(config: EvaluationConfig) -> bool:
    return bool(config.tokens_column or config.entities_column)


def _summary_spans(predictions: Mapping[str, Prediction]) -> list[MeasuredRow]:
    """Where the sentences stand that each model chooses; none of a text that it cannot read."""
    entries = []
    for name, prediction in predictions.items():
        if prediction.summary_spans:
            entries.append({"model": name, "spans": prediction.summary_spans})
    return entries


def _by_model(scores: ModelScores) -> list[MeasuredRow]:
    """Scores of the models that have any, in the form of an Arrow list."""
    entries = []
    for name, values in scores.items():
        if values:
            entries.append({"model": name, "scores": list(values.items())})
    return entries


def _sentences(text: str, language: str) -> list[str]:
    """Sentences of a text, each with its white space as single blanks."""
    return [" ".join(text[start:stop].split()) for start, stop in split_sentences(text, language)]


def one_sentence_a_line(text: str, language: str) -> str:
    """Give each sentence a line, on which ROUGE-Lsum depends.

    A text of several lines keeps them: whoever wrote it knew its sentences.
    """
    text = text.strip()
    if "\n" not in text:
        return "\n".join(_sentences(text, language))
    lines = filter(str.strip, text.splitlines())
    return "\n".join(" ".join(line.split()) for line in lines)
