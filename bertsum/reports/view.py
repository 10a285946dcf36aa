"""One document with what a run says of it, as HTML for a notebook and as text for a terminal.

All texts are escaped, and the HTML has no script, so that a document cannot do anything in the
notebook that shows it.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from bertsum.config import SummarizerConfig
from bertsum.reports.documents import ReportDocument
from bertsum.reports.readings import Reading, make_reading
from bertsum.schema import Prediction
from bertsum.text.sentences import Span

_MAPS = ("sentiment_scores", "topic_scores")
# characters that are invisible or turn the direction of writing
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff]"
)
# Amber on whatever the notebook has behind it, light or dark; the text keeps its colour.
_STYLE = (
    ".bertsum-view{max-width:60em;line-height:1.6}"
    ".bertsum-view .text{white-space:pre-wrap;border-left:3px solid rgba(128,128,128,.5);"
    "padding-left:1em;margin:.5em 0}"
    ".bertsum-view mark{color:inherit;text-decoration:underline;text-underline-offset:.2em}"
    ".bertsum-view dl{display:grid;grid-template-columns:max-content 1fr;gap:.1em 1em;margin:.5em 0}"
    ".bertsum-view dd{margin:0}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentView:
    """A document to look at: the last value of a notebook's cell is shown as HTML.

    - `title`: which document it is.
    - `facts`: names and values.
    - `text`: None where it is not known; then `problem` says why.
    - `marks`: start, end and probability of the chosen sentences, in UTF-16 code units, ascending;
      with a query, how far they answer it.
    - `words`: where words of the query stand in them.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    text: str | None
    problem: str | None
    marks: Sequence[tuple[int, int, float | None]]
    words: Sequence[Span] = ()

    def _repr_html_(self) -> str:
        facts = "".join(f"<dt>{_escape(name)}</dt><dd>{_escape(v)}</dd>" for name, v in self.facts)
        body = f"<p><em>{_escape(self.problem or 'no text')}</em></p>"
        if self.text is not None:
            body = f'<div class="text" dir="auto">{self._marked()}</div>'
        title = f"<strong>{_escape(self.title)}</strong>"
        return (
            f'<div class="bertsum-view"><style>{_STYLE}</style>{title}<dl>{facts}</dl>{body}</div>'
        )

    def __repr__(self) -> str:
        lines = [self.title, *(f"{name}: {value}" for name, value in self.facts)]
        return "\n".join(_visible(line) for line in lines)

    def _marked(self) -> str:
        """The text with its chosen sentences marked, the more the higher their probability."""
        units = (self.text or "").encode("utf-16-le", "surrogatepass")
        parts: list[str] = []
        position = 0
        for start, end, score in self.marks:
            if start < position:  # sentences do not overlap; of a damaged row they might
                continue
            share = 0.3 if score is None else 0.12 + 0.4 * score
            title = "" if score is None else f' title="{score:.2f}"'
            parts.append(_escape(_decode(units[2 * position : 2 * start])))
            style = f"background:rgba(255,179,0,{share:.2f})"
            sentence = self._with_words(units, start, end)
            parts.append(f'<mark style="{style}"{title}>{sentence}</mark>')
            position = end
        return "".join([*parts, _escape(_decode(units[2 * position :]))])

    def _with_words(self, units: bytes, start: int, end: int) -> str:
        """A sentence with the words of the query that stand in it in bold."""
        parts: list[str] = []
        for first, last in self.words:
            if start <= first and last <= end:
                before = _escape(_decode(units[2 * start : 2 * first]))
                parts.append(f"{before}<b>{_escape(_decode(units[2 * first : 2 * last]))}</b>")
                start = last
        return "".join([*parts, _escape(_decode(units[2 * start : 2 * end]))])


def show(
    row: Prediction | Mapping[str, Any], text: str | None = None, query: str | None = None
) -> DocumentView:
    """A document with what the model says of it.

    - `row`: a prediction, or a row of results by column: of Arrow, pandas or polars.
    - `text`: of the document; None: the row's column `document`, if it has one.
    - `query`: what it was asked, which no row of results says.

    Of a row of a finished run, `read_results(OUTPUT).show(number)` finds the text itself.
    """
    if isinstance(row, Prediction):
        values = {field.name: getattr(row, field.name) for field in fields(row)}
    else:
        values = dict(row)
    values = {name: _plain(value) for name, value in values.items()}
    config = SummarizerConfig()
    if text is None and isinstance(values.get(config.text_column), str):
        text = values[config.text_column]
    for name in _MAPS:
        values[name] = _pairs(values.get(name))
    reading = make_reading(values, text, config, query)
    names = [values[name] for name in ("id", "title") if values.get(name) not in (None, "")]
    title = str(names[0]) if names else "document"
    return _view(title, reading, text, None if text else "show(row, text) shows the text, too", 0)


def view_document(document: ReportDocument) -> DocumentView:
    """A row of a run, with its text of INPUT."""
    named = dict(document.columns)
    name = named.get("id") or named.get("title") or ""
    title = f"{name} ({document.file}, row {document.row:,})".lstrip()
    return _view(title, document.readings[0], document.text, document.problem, document.cut)


def _view(
    title: str, reading: Reading, text: str | None, problem: str | None, cut: int
) -> DocumentView:
    entries: list[tuple[str, str | None]] = [
        ("status", reading.status),
        ("error", reading.error),
        ("query", reading.query),
        ("query was", reading.query_status),
        ("snippet" if reading.is_snippet else "summary", reading.summary),
        ("not in the document", _new_facts(reading)),
        ("nearest", ", ".join(f"{id} {score:.3f}" for _, id, score, _ in reading.matches or ())),
        ("sentiment", _label(reading.sentiment, reading.sentiment_scores)),
        ("topic", _label(reading.topic, reading.topic_scores)),
        ("language", reading.language),
        ("keywords", ", ".join(word for word, _ in reading.keywords or ())),
        ("targets", ", ".join(f"{name}: {label}" for name, label, *_ in reading.targets or ())),
        ("length", _length(reading)),
        ("left out here", f"{cut:,} characters" if cut else None),
    ]
    marks: list[tuple[int, int, float | None]] = []
    scores = reading.query_scores or reading.chosen_scores
    for index, (start, end) in enumerate(reading.spans or ()):
        marks.append((start, end, scores[index] if index < len(scores) else None))
    return DocumentView(
        title=title,
        facts=[(name, value) for name, value in entries if value],
        text=text,
        problem=problem,
        marks=sorted(marks, key=lambda mark: mark[0]),
        words=sorted(reading.query_spans or ()),
    )


def _new_facts(reading: Reading) -> str | None:
    """Numbers and names of a written text that the document lacks."""
    if reading.written is None or reading.summary is None:
        return None
    return ", ".join(reading.written.new_facts) or "no number or name"


def _length(reading: Reading) -> str:
    tokens = f"{reading.num_tokens:,} tokens"
    if reading.num_sentences is None:
        return tokens
    return f"{reading.num_sentences:,} sentences, {tokens}"


def _label(label: str | None, scores: Mapping[str, float] | None) -> str | None:
    if label is None:
        return None
    ranked = sorted((scores or {}).items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {score:.2f}" for name, score in ranked)
    return f"{label} ({shown})" if shown else label


def _plain(value: Any) -> Any:
    """Python's own values: arrays of pandas as lists, its missing values as None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and value != value:  # NaN, of a null in pandas
        return None
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value


def _pairs(scores: Any) -> list[tuple[str, float]] | None:
    """A map as its pairs: of dicts, of Arrow's pairs, or of polars' structs."""
    if scores is None:
        return None
    if isinstance(scores, Mapping):
        return [(label, score) for label, score in scores.items() if score is not None]
    entries: Iterable[Any] = scores
    return [tuple(e.values()) if isinstance(e, Mapping) else tuple(e) for e in entries]


def _escape(text: str) -> str:
    return html.escape(_visible(text))


def _visible(text: str) -> str:
    return _INVISIBLE.sub(lambda match: f"\u27e8U+{ord(match[0]):04X}\u27e9", text)


def _decode(units: bytes) -> str:
    return units.decode("utf-16-le", "surrogatepass")
