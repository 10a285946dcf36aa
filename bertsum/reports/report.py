"""A report: what one or two runs made, as plain values for the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bertsum.config import SummarizerConfig
from bertsum.config_base import Config
from bertsum.errors import ConfigError
from bertsum.generation.config import GenerateConfig
from bertsum.masking import mask, mask_values
from bertsum.matching.config import MatchConfig
from bertsum.reports.comparison import Comparison, RowFinder, compare_runs
from bertsum.reports.documents import (
    ReportDocument,
    read_documents,
    read_others,
    sample_rows,
)
from bertsum.reports.result import Result
from bertsum.reports.statistics import LENGTH_EDGES, Statistics, count_rows
from bertsum.reports.timeline import Timeline, make_timeline
from bertsum.runs.partitions import partition_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """One run: what its records say, counts over all its rows, and when its files were written."""

    result: Result
    statistics: Statistics
    timeline: Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run, maybe beside another one, and a sample of documents.

    `num_random`: how many of the documents were drawn at random; the others are rows in which the
    runs differ.
    """

    run: RunReport
    other: RunReport | None
    comparison: Comparison | None
    documents: Sequence[ReportDocument]
    num_random: int


def make_report(
    result: Result,
    other: Result | None = None,
    *,
    most_documents: int,
    input_uri: str | None = None,
) -> Report:
    """Read what a report needs; memory does not grow with the number of rows.

    `input_uri`: where INPUT is now; None: where the records say. Raises InputError for a file of
    results that cannot be read, and ConfigError for two runs that hold no summaries; an INPUT that
    cannot be read is told in the documents.
    """
    for compared in (result, other):
        if other is not None and compared is not None and compared.rows.kind != "summaries":
            raise ConfigError(
                f"{compared.output} holds {compared.rows.kind}; --compare takes two runs of "
                "summaries"
            )
    run = _run_report(result)
    if other is None:
        rows = sample_rows(result.num_rows, most_documents)
        documents = read_documents(result, rows, input_uri)
        return Report(
            run=run, other=None, comparison=None, documents=documents, num_random=len(rows)
        )
    comparison = compare_runs(result, other, most_documents // 2)
    differing = list(comparison.differing)
    random_rows = sample_rows(result.num_rows, most_documents - len(differing))
    rows = sorted({*random_rows, *differing})
    documents = read_documents(result, rows, input_uri)
    return Report(
        run=run,
        other=_run_report(other),
        comparison=comparison,
        documents=_beside(documents, result, other),
        num_random=len(random_rows),
    )


def _run_report(result: Result) -> RunReport:
    return RunReport(result=result, statistics=count_rows(result), timeline=make_timeline(result))


def _beside(
    documents: Sequence[ReportDocument], result: Result, other: Result
) -> list[ReportDocument]:
    """The documents with the reading of the other run, too, where it has the row."""
    finder = RowFinder(other)
    sizes = {part.path: part.size for entry in result.files for part in entry.file.unit.slices}
    other_rows: dict[int, int] = {}
    for index, document in enumerate(documents):
        row = finder.find(document.file, sizes[document.file], document.row)
        if row is not None:
            other_rows[index] = row
    texts = {index: documents[index].full_text for index in other_rows}
    readings = read_others(other, other_rows, texts)
    beside = list(documents)
    for index, reading in readings.items():
        document = documents[index]
        beside[index] = replace(document, readings=[*document.readings, reading])
    return beside


def report_values(report: Report) -> dict[str, Any]:
    """The report as values that JSON has, with all credentials masked."""
    comparison: dict[str, Any] | None = None
    if report.comparison is not None:
        comparison = asdict(report.comparison)
        del comparison["differing"]  # numbers of rows, which say nothing to readers
    return {
        "run": _run_values(report.run),
        "other": None if report.other is None else _run_values(report.other),
        "comparison": comparison,
        "length_edges": LENGTH_EDGES,
        "num_random": report.num_random,
        "documents": [asdict(d, dict_factory=_without_missing) for d in report.documents],
    }


def _without_missing(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Most columns are missing in most runs, so that the page is a third smaller without them."""
    return {name: value for name, value in pairs if value is not None and name != "full_text"}


def _run_values(run: RunReport) -> dict[str, Any]:
    result = run.result
    models = Counter[tuple[str, str]]()
    for entry in result.files:
        models[(entry.file.model_id, entry.file.job)] += entry.counts.rows
    defaults = dict(flat(_defaults(result).model_dump(mode="json")))
    config: list[tuple[str, Any, bool]] = []  # keys, values, and whether that is the default
    values = result.job["config"]
    if then := result.job.get("then"):  # what a model wrote from the summaries
        values = values | {"then": {"model": then["model"]["id"], **then["config"]}}
    for key, value in flat(values):
        name = key.removeprefix("generate.").removeprefix("match.")
        config.append((key, mask_values(value), value == defaults.get(name)))
    return {
        "kind": result.rows.kind,
        "output": str(result.output),
        "input": mask(result.input_uri),
        "is_complete": result.is_complete,
        "limit": result.limit,
        "missing_units": result.missing_units,
        "missing_rows": result.missing_rows,
        "num_partitions": len({partition_of(entry.name) for entry in result.files}),
        "num_files": len(result.files),
        "rows": result.num_rows,
        "tokens": sum(entry.counts.tokens for entry in result.files),
        "model": mask_values(result.job["model"]),
        "fingerprint": result.job["fingerprint"],
        "version": result.job["version"],
        "models": [[mask(model), job, rows] for (model, job), rows in models.most_common()],
        "config": config,
        "failures": [asdict(failure) for failure in result.failures],
        "statistics": asdict(run.statistics),
        "timeline": asdict(run.timeline),
    }


def _defaults(result: Result) -> Config:
    kinds: dict[str, type[Config]] = {"generate": GenerateConfig, "match": MatchConfig}
    kind = next((kinds[key] for key in kinds if key in result.job["config"]), SummarizerConfig)
    return kind()


def flat(section: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """{"a": {"b": 1}} -> [("a.b", 1)]; topics stay together, since their names may have dots."""
    values: list[tuple[str, Any]] = []
    for key, value in section.items():
        if isinstance(value, Mapping) and key != "topics":
            values += flat(value, f"{prefix}{key}.")
        else:
            values.append((prefix + key, value))
    return values
