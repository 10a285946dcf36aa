"""Documents of a report: rows of OUTPUT as the page shows them, with their texts of INPUT.

Offsets count UTF-16 code units, as JavaScript does; those of OUTPUT count code points.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.config import SummarizerConfig
from bertsum.reports.result import Result
from bertsum.reports.source import Row, read_texts
from bertsum.runs.input import reading
from bertsum.runs.partitions import partition_of
from bertsum.text.language_tags import base_language
from bertsum.text.sentences import Span, detect_language, split_sentences

SEED = 20261129
MOST_CHARACTERS = 20_000  # of a text in the page
_MOST_VALUE = 300  # characters of a kept column's value
_MOST_COLUMNS = 30  # kept columns that are shown
_THREADS = 8
_DIGITS = 3  # of probabilities

Scores = Mapping[str, float]
SentenceRow = tuple[int, int, float, str | None]
"""Start, end, score for the summary, and sentiment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a run says of one document.

    - `chosen`, `chosen_scores`: the summary's sentences, and their probabilities.
    - `spans`: where they stand; None where the text or the sentences are not known.
    - `sentences`: all that were read, if OUTPUT has them.
    - `aspects`: start, end, sentiment, score.
    """

    status: str
    error: str | None
    summary: str | None
    chosen: Sequence[int]
    chosen_scores: Sequence[float]
    spans: Sequence[Span] | None
    sentiment: str | None
    sentiment_scores: Scores | None
    num_sentences: int
    num_tokens: int
    truncated: bool
    language: str | None = None
    topic: str | None = None
    topic_scores: Scores | None = None
    sentences: Sequence[SentenceRow] | None = None
    keywords: Sequence[tuple[str, float]] | None = None
    aspects: Sequence[tuple[int, int, str, float]] | None = None
    targets: Sequence[tuple[str, str, Scores, Sequence[Span]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument:
    """A document with what one or two runs say of it.

    - `row`: its number in `file` of INPUT, from 0.
    - `columns`: kept columns of INPUT as text.
    - `problem`: why there is no text.
    - `cut`: characters of the text that the page leaves out.
    - `full_text`: with them.
    - `readings`: of this run, and of the other one where it has the row.
    """

    file: str
    row: int
    partition: str
    columns: Sequence[tuple[str, str]]
    text: str | None
    problem: str | None
    cut: int
    full_text: str | None
    readings: Sequence[Reading]


def sample_rows(num_rows: int, most: int) -> list[int]:
    """Numbers of `most` rows at random, in ascending order; equal arguments give equal rows."""
    return sorted(random.Random(SEED).sample(range(num_rows), min(most, num_rows)))


def read_documents(
    result: Result, rows: Sequence[int], input_uri: str | None
) -> list[ReportDocument]:
    """Documents of these rows of a result, which ascend, with what this run says of each."""
    read = _read_rows(result, rows)
    sources: list[Row] = []  # where the rows stand in INPUT
    for row in rows:
        index = bisect_right(result.first_rows, row) - 1
        unit = result.files[index].file.unit
        path, number = unit.locate(row - result.first_rows[index])
        # a file is in a unit once
        sources.append(Row(next(part for part in unit.slices if part.path == path), number))
    texts = read_texts(result, sources, input_uri)
    predicted = set(result.config.predicted.names)
    documents: list[ReportDocument] = []
    for values, source, text in zip(read, sources, texts, strict=True):
        kept = [(name, shown(values[name])) for name in values if name not in predicted]
        problem = text.problem
        if text.text is None and problem is None:
            problem = "the row has no text"
        documents.append(
            ReportDocument(
                file=source.part.path,
                row=source.number,
                partition=partition_of(source.part.path),
                columns=kept[:_MOST_COLUMNS],
                text=None if text.text is None else text.text[:MOST_CHARACTERS],
                problem=problem,
                cut=max(len(text.text or "") - MOST_CHARACTERS, 0),
                full_text=text.text,
                readings=[make_reading(values, text.text, result.config)],
            )
        )
    return documents


def read_others(
    result: Result, rows: Mapping[int, int], texts: Mapping[int, str | None]
) -> dict[int, Reading]:
    """What another run says. `rows`: by the index of the document, the row; `texts`: its text."""
    ordered = sorted(rows, key=rows.__getitem__)
    read = _read_rows(result, [rows[index] for index in ordered])
    readings: dict[int, Reading] = {}
    for index, values in zip(ordered, read, strict=True):
        readings[index] = make_reading(values, texts[index], result.config)
    return readings


def make_reading(values: Mapping[str, Any], text: str | None, config: SummarizerConfig) -> Reading:
    """A reading of a row's values by column of OUTPUT."""

    def value(column: str) -> Any:
        return values.get(config.output.name_of(column))

    language = value("language")
    if language is None and config.language_column:
        language = values.get(config.language_column)
    convert = to_utf16(text)
    chosen = value("summary_sentences") or []
    spans = value("summary_spans")
    sentences = value("sentences")
    aspects, targets, keywords = value("aspects"), value("targets"), value("keywords")
    chosen_spans: list[Span] | None
    if spans is not None:
        chosen_spans = _spans(spans)
    elif sentences is not None and max(chosen, default=-1) < len(sentences):
        chosen_spans = _spans([sentences[index] for index in chosen])
    else:
        chosen_spans = _split_again(text, language or config.language, chosen, value)
    sentence_rows: list[SentenceRow] | None = None
    if sentences is not None:
        located = _located(sentences, convert)
        sentence_rows = [(a, b, _round(s["score"]), s["sentiment"]) for a, b, s in located]
    aspect_rows: list[tuple[int, int, str, float]] | None = None
    if aspects is not None:
        located = _located(aspects, convert)
        aspect_rows = [
            (a, b, aspect["sentiment"], _round(aspect["score"])) for a, b, aspect in located
        ]
    return Reading(
        status=value("status"),
        error=value("error"),
        summary=value("summary"),
        chosen=chosen,
        chosen_scores=[_round(score) for score in value("summary_scores") or []],
        spans=None if text is None or chosen_spans is None else convert(chosen_spans),
        sentiment=value("sentiment"),
        sentiment_scores=_scores(value("sentiment_scores")),
        num_sentences=value("num_sentences"),
        num_tokens=value("num_tokens"),
        truncated=value("truncated"),
        language=language if isinstance(language, str) else None,
        topic=value("topic"),
        topic_scores=_scores(value("topic_scores")),
        sentences=sentence_rows,
        keywords=None if keywords is None else [(k["text"], _round(k["score"])) for k in keywords],
        aspects=aspect_rows,
        targets=None if targets is None else _target_rows(targets, convert),
    )


def shown(value: object) -> str:
    """A value of a kept column, as text of bounded length."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
    elif isinstance(value, datetime | date):
        text = value.isoformat()
    else:
        text = str(value)
    return text if len(text) <= _MOST_VALUE else f"{text[:_MOST_VALUE]}…"


def _read_rows(result: Result, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Values of these rows, which ascend, by column; embeddings are left out."""
    by_file: dict[int, list[int]] = {}
    for row in rows:
        index = bisect_right(result.first_rows, row) - 1
        by_file.setdefault(index, []).append(row - result.first_rows[index])

    def read(index: int) -> list[dict[str, Any]]:
        return _read_file(result, result.files[index].name, by_file[index])

    with ThreadPoolExecutor(_THREADS) as pool:
        return [values for part in pool.map(read, by_file) for values in part]


def _read_file(result: Result, name: str, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Values by column; strings of INPUT that are not UTF-8 have replacement characters."""
    embedding = result.config.output.name_of("embedding")
    values: list[dict[str, Any]] = []
    with reading(result.output, name), result.output.open(name) as stream:
        parquet = pq.ParquetFile(stream, pre_buffer=False)
        columns = [column for column in parquet.schema_arrow.names if column != embedding]
        first = 0
        for group in range(parquet.metadata.num_row_groups):
            num_rows = parquet.metadata.row_group(group).num_rows
            wanted = [row - first for row in rows if first <= row < first + num_rows]
            first += num_rows
            if not wanted:
                continue
            table = parquet.read_row_group(group, columns=columns, use_threads=False).take(wanted)
            lists: list[list[Any]] = []
            for column in table.columns:
                try:
                    lists.append(column.to_pylist())
                except UnicodeDecodeError:
                    lists.append([_decoded(value) for value in column])
            for row in zip(*lists, strict=True):
                values.append(dict(zip(table.column_names, row, strict=True)))
    return values


def _decoded(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        is_text = pa.types.is_string(value.type) or pa.types.is_large_string(value.type)
        return value.as_buffer().to_pybytes() if is_text else "(not UTF-8)"


def _split_again(
    text: str | None, language: str | None, chosen: Sequence[int], value: Callable[[str], Any]
) -> list[Span] | None:
    """Spans of the chosen sentences, found as the run found them; None where they disagree."""
    if not text or not chosen:
        return None if chosen else []
    spans = split_sentences(text, base_language(language) or detect_language(text))
    if len(spans) != value("num_sentences"):
        return None  # another version of the rules, or a language that is not recorded
    return [spans[index] for index in chosen]


def _spans(records: Iterable[Mapping[str, int]]) -> list[Span]:
    return [(record["start"], record["start"] + record["length"]) for record in records]


def to_utf16(text: str | None) -> Callable[[Iterable[Span]], list[Span]]:
    """Spans in code points -> spans in UTF-16 code units, without those that the page cuts off.

    Of "a😀b" the span (2, 3) of "b" becomes (3, 4), since the emoji is two units.
    """
    if text is None:
        return lambda spans: list(spans)
    limit = min(len(text), MOST_CHARACTERS)
    offsets: Sequence[int] = range(limit + 1)
    if text and max(text[:limit], default="") > "\uffff":
        offsets = list(accumulate((1 + (c > "\uffff") for c in text[:limit]), initial=0))

    def convert(spans: Iterable[Span]) -> list[Span]:
        return [(offsets[a], offsets[b]) for a, b in spans if 0 <= a <= b <= limit]

    return convert


def _located(
    records: Iterable[Mapping[str, Any]], convert: Callable[[Iterable[Span]], list[Span]]
) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Start and end of each record, and the record, without those that the page cuts off."""
    for record in records:
        for start, stop in convert(_spans([record])):
            yield start, stop, record


def _target_rows(
    targets: Sequence[Mapping[str, Any]], convert: Callable[[Iterable[Span]], list[Span]]
) -> list[tuple[str, str, Scores, Sequence[Span]]]:
    rows: list[tuple[str, str, Scores, Sequence[Span]]] = []
    for target in targets:
        scores = _scores(target["sentiment_scores"]) or {}
        mentions = convert(_spans(target["mentions"]))
        rows.append((target["target"], target["sentiment"], scores, mentions))
    return rows


def _scores(pairs: Sequence[tuple[str, float]] | None) -> Scores | None:
    """A map of Arrow, which gives its pairs."""
    return None if pairs is None else {label: _round(score) for label, score in pairs}


def _round(value: float) -> float:
    return round(float(np.float32(value)), _DIGITS)
