"""The rows on which a model is furthest from right, with their texts, for people to look at."""

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bertsum.errors import BertsumError
from bertsum.inference.arrow import read_texts
from bertsum.labels.columns import label_rows
from bertsum.labels.labels import known_class
from bertsum.masking import mask
from bertsum.runs.input import stream_rows
from bertsum.runs.units import Unit
from bertsum.storage.folder import Folder
from bertsum.text.sentences import Span

if TYPE_CHECKING:  # it imports torch, which a page of these examples does not need
    from bertsum.evaluation.config import EvaluationConfig

WORST_FILE = "worst_examples.json"
ORACLE = "oracle"
_MOST_CHARACTERS = 6000  # of a text: most news; a page of some dozen examples stays small
_CLASS_HEADS = ("sentiment", "topic")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstExample:
    """A row on which a model is far off. Rows are compared by `distance`.

    - `source`: the labelled set, where there are several.
    - `head`: `summary`, or that of a label.
    - `distance`: of a summary, its ROUGE-1 below that of the best system beside it; of a label, the
      probability of the wrong answer.
    - `where`: file and row, where they are known.
    - `reference`, `summary`, `rouge_1`: of a summary; the ROUGE-1 by system in percent.
    - `spans`: where the summary's sentences stand in the text, in code points.
    - `expected`, `predicted`, `scores`: of a label; probabilities by label.
    - `problem`: why there is no text.
    """

    source: str = ""
    model: str
    head: str
    distance: float
    where: str = ""
    text: str | None = None
    problem: str | None = None
    reference: str | None = None
    summary: str | None = None
    spans: Sequence[Span] | None = None
    rouge_1: Mapping[str, float] | None = None
    expected: str | None = None
    predicted: str | None = None
    scores: Mapping[str, float] | None = None

    def cut(self) -> "WorstExample":
        """The example with texts of bounded length, and the sentences that are left in the text."""
        spans = self.spans
        if spans is not None:
            spans = [(start, stop) for start, stop in spans if stop <= _MOST_CHARACTERS]
        return replace(
            self,
            text=_cut(self.text),
            reference=_cut(self.reference),
            summary=_cut(self.summary),
            spans=spans,
        )


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:_MOST_CHARACTERS]}…"


def worst_first(examples: Iterable[WorstExample], most: int) -> list[WorstExample]:
    """The `most` furthest examples of each source, model and head."""
    groups: dict[tuple[str, str, str], list[WorstExample]] = {}
    for example in examples:
        groups.setdefault((example.source, example.model, example.head), []).append(example)
    worst: list[WorstExample] = []
    for group in groups.values():
        # of equally far ones the first rows stay
        worst += heapq.nlargest(most, group, key=lambda example: example.distance)
    return worst


def dump_worst(examples: Iterable[WorstExample]) -> bytes:
    """The examples as JSON; half surrogate pairs and other odd text are escaped."""
    records = []
    for example in examples:
        values = asdict(example.cut())
        records.append({name: value for name, value in values.items() if value is not None})
    return (json.dumps(records, indent=1) + "\n").encode("ascii")


def find_worst(
    table: pa.Table, models: Sequence[str], lead: str, most: int
) -> list[tuple[int, WorstExample]]:
    """The worst rows of a table of measures, with their numbers, without texts.

    A model's summary is compared with the oracle's where that was measured, else with the lead.
    """
    found: list[tuple[int, WorstExample]] = []
    for model in models:
        for head in _CLASS_HEADS:
            found += _furthest(_wrong_rows(table, model, head), most)
        found += _furthest(_low_rows(table, model, lead), most)
    return found


def add_texts(
    found: Iterable[tuple[int, WorstExample]],
    units: Sequence[Unit],
    source: Folder,
    config: "EvaluationConfig",
) -> list[WorstExample]:
    """The examples with their texts of INPUT, and where they stand there.

    `units`: of the table's rows, in their order. An INPUT that cannot be read is told in the
    example.
    """
    completed: list[WorstExample] = []
    texts: dict[int, dict[str, str | None]] = {}  # by row, which may be bad in several respects
    for row, example in found:
        if row not in texts:
            texts[row] = _read_row(row, units, source, config)
        text = texts[row].get("text")
        completed.append(
            replace(
                example,
                where=texts[row]["where"] or "",
                text=text,
                problem=texts[row].get("problem"),
                reference=texts[row].get("reference") if example.head == "summary" else None,
                summary=summary_of(text, example.spans),
            )
        )
    return completed


def summary_of(text: str | None, spans: Sequence[Span] | None) -> str | None:
    """The sentences at these spans, a line each; None where the text or the spans are not known."""
    if text is None or spans is None:
        return None
    return "\n".join(text[start:stop] for start, stop in spans)


def _furthest(
    rows: Iterable[tuple[int, WorstExample]], most: int
) -> list[tuple[int, WorstExample]]:
    return heapq.nlargest(most, rows, key=lambda entry: entry[1].distance)


def _wrong_rows(table: pa.Table, model: str, head: str) -> Iterator[tuple[int, WorstExample]]:
    """Rows with a label of which the model's likeliest one is another."""
    expected = table[f"expected_{head}"].to_pylist()
    for row, (label, answers) in enumerate(zip(expected, table[head].to_pylist(), strict=True)):
        by_model = {answer["model"]: dict(answer["scores"]) for answer in answers or ()}
        scores = by_model.get(model)
        if label is None or scores is None:
            continue
        predicted = max(scores, key=scores.__getitem__)
        if predicted != (known_class(label, list(scores)) or label):
            yield (
                row,
                WorstExample(
                    model=model,
                    head=head,
                    distance=scores[predicted],
                    expected=label,
                    predicted=predicted,
                    scores=scores,
                ),
            )


def _low_rows(table: pa.Table, model: str, lead: str) -> Iterator[tuple[int, WorstExample]]:
    """Rows whose summary by the model is worse than that of the oracle, or of the lead."""
    chosen: list[Any] = [None] * table.num_rows  # as in files of an earlier version
    if "model_summaries" in table.column_names:
        chosen = table["model_summaries"].to_pylist()
    for row, systems in enumerate(table["rouge"].to_pylist()):
        by_system = {entry["system"]: entry["rouge_1"] for entry in systems or ()}
        distance = by_system.get(ORACLE, by_system.get(lead, 0.0)) - by_system.get(model, 0.0)
        if distance > 0:
            by_model = {entry["model"]: entry["spans"] for entry in chosen[row] or ()}
            spans: list[Span] | None = None
            if model in by_model:
                spans = [(s["start"], s["start"] + s["length"]) for s in by_model[model]]
            example = WorstExample(
                model=model, head="summary", distance=distance, rouge_1=by_system, spans=spans
            )
            yield row, example


def _read_row(
    row: int, units: Sequence[Unit], source: Folder, config: "EvaluationConfig"
) -> dict[str, str | None]:
    """Text and reference of a row of the table, or why they cannot be read."""
    for unit in units:
        if row < unit.num_rows:
            break
        row -= unit.num_rows
    path, number = unit.locate(row)
    part = next(part for part in unit.slices if part.path == path)
    values: dict[str, str | None] = {"where": f"{mask(path)}, row {number:,}"}
    columns = [config.text_column]
    if config.summary_column:
        columns.append(config.summary_column)
    try:
        (table,) = stream_rows(source, part.file, number, number + 1, columns)
        values["text"] = read_texts(table, config.text_column)[0].text
        if name := config.summary_column:
            values["reference"] = label_rows(table, [name], [name])[0][name]
    except BertsumError as error:
        values["problem"] = mask(str(error))
    return values
