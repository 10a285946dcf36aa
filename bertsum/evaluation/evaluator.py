"""Labelled rows -> a row of measures each: ROUGE of every system; what models say of sentiment, topic and words."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, cast

import pyarrow as pa
from pydantic import Field

from bertsum.config import RunConfig, SelectionConfig, SummarizerConfig
from bertsum.errors import BertsumError, InputError, RowError
from bertsum.evaluation.baselines import Baseline, choose
from bertsum.evaluation.rouge import rouge
from bertsum.evaluation.word_spans import OUTSIDE
from bertsum.inference.arrow import read_texts, unreadable
from bertsum.inference.device_batches import Scores
from bertsum.inference.stream import Progress
from bertsum.inference.summarizer import Summarizer
from bertsum.labels.columns import label_columns, label_rows, labels_problem, summaries_problem
from bertsum.labels.config import LabelsConfig
from bertsum.labels.labels import sentiment_of, topic_of, word_labels
from bertsum.runs.columns import encryption_problem
from bertsum.runs.input import Shard
from bertsum.schema import Document, Prediction, same_names
from bertsum.storage.folder import mask
from bertsum.text.encoder import EncodedDocument, base_language
from bertsum.text.sentences import detect_language, split_sentences
from bertsum.text.words import words

_ROUGE = pa.struct(
    [pa.field("system", pa.string()), *(pa.field(name, pa.float64()) for name in ("rouge_1", "rouge_2", "rouge_lsum"))]
)
_SCORES = pa.list_(pa.struct([("model", pa.string()), ("scores", pa.map_(pa.string(), pa.float32()))]))
_TAGS = pa.list_(pa.struct([("model", pa.string()), ("tags", pa.list_(pa.string()))]))
MEASURES = pa.schema(
    [
        pa.field("status", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("num_sentences", pa.int32(), nullable=False),
        pa.field("rouge", pa.list_(_ROUGE)),
        pa.field("expected_sentiment", pa.string()),
        pa.field("sentiment", _SCORES),
        pa.field("expected_topic", pa.string()),
        pa.field("topic", _SCORES),
        pa.field("expected_words", pa.list_(pa.string())),
        pa.field("words", _TAGS),
    ]
)
"""Columns of the result beside those that are kept: status and sizes are those that the first model gives.

`words` has one label for each of `expected_words`, which are those that stand in the text; `O` where a model has not
read a word, or its tokenizer begins no token there.
"""

Found = tuple[Prediction, EncodedDocument | None, Scores | None]


class EvaluationConfig(LabelsConfig):
    """Everything beside the models that changes a measured row."""

    keep_columns: tuple[str, ...] = Field((), description="columns that pass through, such as an id")
    system_columns: tuple[str, ...] = Field(
        (), description="columns with summaries by other systems, as summary_column"
    )
    baselines: tuple[Baseline, ...] = Field(
        ("random", "textrank", "lexrank", "oracle"), description="what to measure beside the lead"
    )
    language: str | None = Field(None, description="ISO 639-1 code of all documents; default: from the script of each")
    language_column: str | None = Field(None, description="column with the ISO 639-1 code of each document")
    trigram_blocking: bool | None = Field(None, description="of the models' summaries, see summarizer.selection")
    max_windows: int = Field(256, ge=1, description="windows read of one document")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="number format of the encoders")
    seed: int = Field(0, description="of the random choice")

    @property
    def summarizer(self) -> SummarizerConfig:
        """How the models are run."""
        selection = SelectionConfig(size=self.num_summary_sentences, trigram_blocking=self.trigram_blocking)
        return SummarizerConfig(selection=selection, max_windows=self.max_windows, dtype=self.dtype)

    @property
    def lead(self) -> str:
        """Name of the first sentences as a system."""
        return f"LEAD-{self.num_summary_sentences}"


class EvaluateConfig(RunConfig):
    """`bertsum evaluate`: which columns hold what, and how the job runs. Only `evaluation` changes rows."""

    evaluation: EvaluationConfig = Field(cast(EvaluationConfig, {}), validate_default=True)
    max_batch_tokens: int = Field(16384, ge=1, description="tokens of one batch on the device")


class Evaluator:
    """Tables of labelled rows in, tables of measures out, one row a row."""

    def __init__(self, models: Mapping[str, Summarizer], config: EvaluationConfig) -> None:
        self.models = models
        self.config = config
        self.stage_seconds: MutableMapping[str, float] = defaultdict(float)

    @property
    def max_batch_tokens(self) -> int:
        """Most tokens of one batch, of each model."""
        return max((model.max_batch_tokens for model in self.models.values()), default=0)

    @max_batch_tokens.setter
    def max_batch_tokens(self, num_tokens: int) -> None:
        for model in self.models.values():
            model.max_batch_tokens = num_tokens

    def stream(self, tables: Iterable[pa.Table], on_progress: Progress | None = None) -> Iterator[pa.Table]:
        """Raises InputError for a table that lacks a column, RowError for labels that do not fit together, and
        ConfigError for a missing package.
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
        documents = self._documents(table)
        predictions = {name: model.predict_all_heads(documents) for name, model in self.models.items()}
        for model in self.models.values():
            for stage, seconds in model.stage_seconds.items():
                self.stage_seconds[stage] += seconds
            model.stage_seconds.clear()
        names = [*label_columns(self.config), *self.config.system_columns]
        rows = label_rows(table, names, [self.config.summary_column, *self.config.system_columns])
        start = time.perf_counter()
        measured = []
        for place, (document, row) in enumerate(zip(documents, rows, strict=True)):
            own = {name: found[place] for name, found in predictions.items()}
            try:
                measured.append(self._measure(document, row, own))
            except InputError as error:
                raise RowError(str(error), place) from error
        self.stage_seconds["finish"] += time.perf_counter() - start
        columns = [table[name] for name in self.config.keep_columns]
        columns += [pa.array([row[field.name] for row in measured], field.type) for field in MEASURES]
        return pa.Table.from_arrays(columns, schema=result_schema(table.schema, self.config))

    def _measure(self, document: Document, row: Mapping[str, Any], own: Mapping[str, Found]) -> dict[str, Any]:
        predictions = {name: prediction for name, (prediction, _, _) in own.items()}
        first = next(iter(predictions.values()))
        topics = {name: self._topic_scores(name, scores) for name, (_, _, scores) in own.items()}
        wanted, words = self._words(document, row, own)
        return {
            "status": first.status,
            "num_tokens": first.num_tokens,
            "num_sentences": first.num_sentences,
            "rouge": self._rouge(document, row, predictions) if self.config.summary_column else None,
            "expected_sentiment": sentiment_of(row, self.config),
            "sentiment": _by_model({name: found.sentiment_scores for name, found in predictions.items()}),
            "expected_topic": topic_of(row, self.config),
            "topic": _by_model(topics) if self.config.topic_column else None,
            "expected_words": wanted,
            "words": words,
        }

    def _topic_scores(self, model: str, scores: Scores | None) -> dict[str, float] | None:
        if scores is None or scores.topic_scores is None:
            return None
        labels = self.models[model].model.config.topic_labels
        return dict(zip(labels, scores.topic_scores.tolist(), strict=True))

    def _words(
        self, document: Document, row: Mapping[str, Any], own: Mapping[str, Found]
    ) -> tuple[list[str] | None, list[dict[str, Any]] | None]:
        """Labels of the words of a row, and those that each model with a head for them gives them."""
        if not self.config.tokens_column or unreadable(document) is not None:
            return None, None
        starts, tags = word_labels(document.text or "", row, self.config)
        known = [(start, tag) for start, tag in zip(starts, tags, strict=True) if start is not None and tag is not None]
        found = [
            {"model": name, "tags": self._tags(name, encoded, scores, [start for start, _ in known])}
            for name, (_, encoded, scores) in own.items()
            if self.models[name].model.token_sentiment is not None
        ]
        return [tag for _, tag in known], found

    def _tags(
        self, model: str, document: EncodedDocument | None, scores: Scores | None, starts: Sequence[int]
    ) -> list[str]:
        if document is None or scores is None or scores.token_labels is None:
            return [OUTSIDE] * len(starts)
        labels = self.models[model].model.config.token_sentiment_labels
        places = self.models[model].encoder.first_tokens(document, starts)
        return [OUTSIDE if place is None else labels[scores.token_labels[place]] for place in places]

    def _rouge(
        self, document: Document, row: Mapping[str, Any], own: Mapping[str, Prediction]
    ) -> list[dict[str, Any]] | None:
        """None for a row that has no text, or nothing to compare a summary with."""
        size = self.config.num_summary_sentences
        language, sentences = _split(document)
        reference = one_sentence_a_line(row[self.config.summary_column or ""] or "", language)
        if not sentences or not words(reference, language):
            return None
        chosen = {name: list(found.summary_sentences or ()) for name, found in own.items()}
        chosen[self.config.lead] = list(range(min(size, len(sentences))))
        for baseline in self.config.baselines:
            seed = f"{self.config.seed} {document.text}"  # so that the choice does not depend on the rows beside it
            chosen[baseline] = choose(baseline, sentences, reference, language, size, seed)
        texts = {name: "\n".join(sentences[place] for place in places) for name, places in chosen.items()}
        for column in self.config.system_columns:
            texts[column] = one_sentence_a_line(row[column] or "", language)
        scores = rouge(list(texts.values()), [reference] * len(texts), language)
        return [{"system": name, **asdict(score)} for name, score in zip(texts, scores, strict=True)]

    def _documents(self, table: pa.Table) -> list[Document]:
        texts = read_texts(table, self.config.text_column)
        column = self.config.language_column
        languages = [one.text for one in read_texts(table, column)] if column else [self.config.language] * len(texts)
        return [replace(text, language=language) for text, language in zip(texts, languages, strict=True)]


def _by_model(scores: Mapping[str, Mapping[str, float] | None]) -> list[dict[str, Any]]:
    """Of the models that have any, as Arrow takes it."""
    return [{"model": name, "scores": list(values.items())} for name, values in scores.items() if values]


def _split(document: Document) -> tuple[str, list[str]]:
    """Language of a document and its sentences on one line each, as the models split them; none for what is no text."""
    text = document.text or ""
    if unreadable(document) is not None:
        return "en", []
    language = base_language(document.language) if document.language else detect_language(text)
    return language, [" ".join(text[start:stop].split()) for start, stop in split_sentences(text, language)]


def one_sentence_a_line(text: str, language: str) -> str:
    """The text as it is where it has several lines; else split into sentences, on which ROUGE-Lsum depends."""
    text = text.strip()
    if "\n" in text:
        return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
    return "\n".join(" ".join(text[start:stop].split()) for start, stop in split_sentences(text, language))


def result_schema(schema: pa.Schema, config: EvaluationConfig) -> pa.Schema:
    """Columns of a result whose input has `schema`."""
    return pa.schema([*(schema.field(name) for name in config.keep_columns), *MEASURES])


def needed_columns(config: EvaluationConfig) -> list[str]:
    """Columns to read."""
    names = [config.text_column, *label_columns(config), *config.system_columns, *config.keep_columns]
    return list(dict.fromkeys([*names, *([config.language_column] if config.language_column else [])]))


def check_measurable(shard: Shard, config: EvaluationConfig) -> str | None:
    """Why a file cannot be measured, or None. Raises InputError for a clash of names."""
    problem = labels_problem(shard.schema, config, config.keep_columns)
    if problem := problem or summaries_problem(shard.schema, "system_columns", config.system_columns):
        return problem
    if problem := encryption_problem(shard, needed_columns(config)):
        return problem
    if clashes := same_names(config.keep_columns, MEASURES.names):
        raise InputError(
            f"{mask(shard.file.path)}: keep_columns {clashes} have the names of result columns (most readers ignore "
            "case); leave them out"
        )
    return None
