"""What a run says of one document, as the page and notebooks show it: of a row of OUTPUT.

Offsets count UTF-16 code units, as JavaScript does; those of OUTPUT count code points.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate
from typing import Any

import numpy as np

from bertsum.config import SummarizerConfig
from bertsum.text.language_tags import base_language
from bertsum.text.sentences import Span, detect_language, split_sentences

MOST_CHARACTERS = 20_000  # of a text in the page
_MOST_QUERY = 1000  # characters of a query: as many as a model reads
_MOST_VALUE = 300  # characters of a column's value
_DIGITS = 3  # of probabilities

Scores = Mapping[str, float]
SentenceRow = tuple[int, int, float, str | None]
"""Start, end, score for the summary, and sentiment."""
MatchRow = tuple[int, str, float, Sequence[tuple[str, str]]]
"""Rank, id, score, and the candidate's other columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenText:
    """What is known of a text that `generate` has written.

    - `source`: what the model has read; `ending`: whether the text has an end.
    - `shares`: of its words, numbers and names that are in the document.
    - `new_facts`: numbers and names that are not; `fact_spans`: where they stand in the text.
    """

    source: str | None
    ending: str | None
    shares: Scores
    new_facts: Sequence[str]
    fact_spans: Sequence[Span]
    new_tokens: int
    document_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a run says of one document: `summarize`, unless said otherwise.

    - `chosen`, `chosen_scores`: the summary's sentences, and their probabilities.
    - `spans`: where they stand; None where the text or the sentences are not known.
    - `sentences`: all that were read, if OUTPUT has them.
    - `aspects`: start, end, sentiment, score.
    - `query`: what the document was asked, where that is known; `query_scores` are of the chosen
      sentences, by importance and query together; `query_spans`: the query's words in them.
    - `written`: what `generate` says of the text that it has written, which is the `summary`.
    - `matches`: the nearest candidates, of `match`.
    - `is_snippet`: the summary has a budget of characters, and parts of sentences may be cut off.
    """

    status: str
    error: str | None
    summary: str | None = None
    chosen: Sequence[int] = ()
    chosen_scores: Sequence[float] = ()
    spans: Sequence[Span] | None = None
    sentiment: str | None = None
    sentiment_scores: Scores | None = None
    num_sentences: int | None = None
    num_tokens: int
    truncated: bool | None = None
    language: str | None = None
    topic: str | None = None
    topic_scores: Scores | None = None
    sentences: Sequence[SentenceRow] | None = None
    keywords: Sequence[tuple[str, float]] | None = None
    aspects: Sequence[tuple[int, int, str, float]] | None = None
    targets: Sequence[tuple[str, str, Scores, Sequence[Span]]] | None = None
    query: str | None = None
    query_status: str | None = None
    query_scores: Sequence[float] | None = None
    query_spans: Sequence[Span] | None = None
    is_snippet: bool | None = None
    written: WrittenText | None = None
    matches: Sequence[MatchRow] | None = None


def make_reading(
    values: Mapping[str, Any],
    text: str | None,
    config: SummarizerConfig,
    query: str | None = None,
) -> Reading:
    """A reading of a row's values by column of OUTPUT; `query`: the row's own, where it has one."""

    def value(column: str) -> Any:
        return values.get(config.output.name_of(column))

    language = value("language")
    if language is None and config.language_column:
        language = values.get(config.language_column)
    convert = to_utf16(text)
    chosen = value("summary_sentences") or []
    sentences = value("sentences")
    aspects, targets, keywords = value("aspects"), value("targets"), value("keywords")
    query_scores, query_spans = value("query_scores"), value("query_spans")
    chosen_spans = _chosen_spans(text, language or config.language, chosen, value)
    sentence_rows: list[SentenceRow] | None = None
    if sentences is not None:
        located = _located(sentences, convert)
        sentence_rows = [(a, b, rounded(s["score"]), s["sentiment"]) for a, b, s in located]
    aspect_rows: list[tuple[int, int, str, float]] | None = None
    if aspects is not None:
        located = _located(aspects, convert)
        aspect_rows = [
            (a, b, aspect["sentiment"], rounded(aspect["score"])) for a, b, aspect in located
        ]
    return Reading(
        status=value("status"),
        error=value("error"),
        summary=value("summary"),
        chosen=chosen,
        chosen_scores=[rounded(score) for score in value("summary_scores") or []],
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
        keywords=None if keywords is None else [(k["text"], rounded(k["score"])) for k in keywords],
        aspects=aspect_rows,
        targets=None if targets is None else _target_rows(targets, convert),
        query=_cut(config.query or query),
        query_status=value("query_status"),
        query_scores=None if query_scores is None else [rounded(score) for score in query_scores],
        query_spans=None if query_spans is None else convert(_spans(query_spans)),
        is_snippet=True if config.selection.unit == "characters" else None,
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


def _cut(query: str | None) -> str | None:
    if query is None or len(query) <= _MOST_QUERY:
        return query
    return f"{query[:_MOST_QUERY]}…"


def _chosen_spans(
    text: str | None, language: str | None, chosen: Sequence[int], value: Callable[[str], Any]
) -> list[Span] | None:
    """Where the chosen sentences stand: as OUTPUT says, else by splitting the text again."""
    spans, sentences = value("summary_spans"), value("sentences")
    if spans is not None:
        return _spans(spans)
    if sentences is not None and max(chosen, default=-1) < len(sentences):
        return _spans([sentences[index] for index in chosen])
    return _split_again(text, language, chosen, value)


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
    return None if pairs is None else {label: rounded(score) for label, score in pairs}


def rounded(value: float) -> float:
    """A probability, a share or a score with as many digits as a page shows."""
    return round(float(np.float32(value)), _DIGITS)
