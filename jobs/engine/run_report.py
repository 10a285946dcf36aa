"""What a person reads at the end of a run: totals, stages, and some rows."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from bertsum.runs.input import Input
from bertsum.runs.plan import Plan
from bertsum.runs.records import Counts
from bertsum.schema import PREDICTION_SCHEMA, Status
from bertsum.storage.folder import Folder, mask
from jobs.engine.reports import STAGES, UnitReport
from jobs.terminal.console import console, grid, sentiment_text
from jobs.terminal.progress import format_seconds

_LABEL_WIDTH, _SENTIMENT_WIDTH = 30, 14


def show_plan(plan: Plan, output: Folder) -> None:
    """The plan in a few lines, for `--dry-run`."""
    rows_left = plan.num_rows - plan.num_rows_done
    table = grid()
    table.add_row("input files", f"{plan.num_files:,}")
    if plan.problems:
        table.add_row("  not usable", f"{len(plan.problems):,}")
    table.add_row("rows", f"{plan.num_rows:,}" + (" (--limit)" if plan.limit is not None else ""))
    table.add_row("units (output files)", f"{len(plan.units):,}")
    table.add_row("  exist already", f"{len(plan.done):,} with {plan.num_rows_done:,} rows")
    table.add_row("  to do", f"{len(plan.missing):,} with {rows_left:,} rows")
    if plan.superseded:
        table.add_row("superseded files", f"{len(plan.superseded):,}: needs --on-existing replace")
    table.add_row("output", str(output))
    console.print(table)
    if plan.retained:
        console.print(say_retained(plan), soft_wrap=True)
    for path, reason in plan.problems.items():
        console.print(f"not usable: {mask(path)}: {reason}", soft_wrap=True)


def say_notes(source: Input) -> None:
    """How INPUT was read, where that is not obvious, and what of it was left out."""
    for note in source.notes:
        console.print(note, soft_wrap=True)


def say_retained(plan: Plan) -> str:
    """One line about results whose input is gone."""
    models = sorted({file.model_id for file in plan.retained.values()})
    rows = sum(file.unit.num_rows for file in plan.retained.values())
    return (
        f"kept: {len(plan.retained):,} file(s) with {rows:,} rows (model {', '.join(models)}) of input that is gone; "
        "--set output.vanished_input=drop would give them up"
    )


def show_result(
    output: Folder,
    plan: Plan,
    counts: Counts,
    reports: Sequence[UnitReport],
    seconds: float,
    table_format: str = "parquet",
) -> None:
    """Totals of OUTPUT, the rate of this run, and where its time went."""
    table = grid()
    for status, count in sorted(counts.statuses.items(), key=lambda entry: -entry[1]):
        table.add_row(f"rows {status}", f"{count:,}")
    table.add_row("rows in all", f"{counts.rows:,} in {len(plan.units):,} units")
    _add_rows_of_run(table, reports, seconds)
    table.add_row("output", str(output))
    console.print(table)
    if plan.limit is not None:
        console.print(f"a try-out (--limit {plan.limit}): no manifest, no _SUCCESS; run without --limit for the rest")
    if table_format == "parquet":  # a table's directory also holds what has left it
        console.print(
            f"look at it: {sys.executable} -c \"import pandas; print(pandas.read_parquet('{output}'))\"", soft_wrap=True
        )


def show_incomplete(plan: Plan, reports: Sequence[UnitReport], seconds: float) -> None:
    """What a run did that leaves something undone."""
    made = [report.record for report in reports if report.record is not None]
    table = grid()
    for status, count in sorted(sum((Counter(record.counts.statuses) for record in made), Counter()).items()):
        table.add_row(f"rows {status}, this run", f"{count:,}")
    rows = plan.num_rows_done + sum(record.counts.rows for record in made)
    table.add_row("rows done", f"{rows:,} of {plan.num_rows:,} in files that can be read")
    _add_rows_of_run(table, reports, seconds)
    console.print(table)


def _add_rows_of_run(table: Table, reports: Sequence[UnitReport], seconds: float) -> None:
    new = [(report.tokens, report.record) for report in reports if report.record is not None and report.created]
    if not new:
        return
    made = [record for _, record in new]
    rows, tokens = sum(record.counts.rows for record in made), sum(tokens for tokens, _ in new)
    table.add_row("this run", f"{rows:,} documents, {tokens:,} tokens in {format_seconds(seconds)}")
    busy = _busy_seconds(reports)
    table.add_row("  rate", f"{rows / busy:,.1f} documents/s, {tokens / busy:,.0f} tokens/s (start-up not counted)")
    table.add_row("  time in stages", _stages(reports))
    table.add_row("  written", f"{len(made):,} files, {sum(record.bytes for record in made) / 2**20:,.1f} MiB")


def show_rows(output: Folder, names: Iterable[str], num_rows: int) -> None:
    """The first rows of the result, one line of summary each, as wide as the terminal."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    label_width = min(_LABEL_WIDTH, console.width // 3)
    table.add_column("", overflow="ellipsis", no_wrap=True, width=label_width)
    table.add_column(
        "summary", overflow="ellipsis", no_wrap=True, width=console.width - label_width - _SENTIMENT_WIDTH - 6
    )
    table.add_column("sentiment", no_wrap=True, width=_SENTIMENT_WIDTH)
    for row in first_rows_of(output, names, num_rows):
        table.add_row(_label(row), _summary(row), _sentiment(row))
    console.print(table)


def first_rows_of(output: Folder, names: Iterable[str], num_rows: int) -> list[dict[str, Any]]:
    """Rows in the order of the plan, read piece by piece: a result may be bigger than memory."""
    rows: list[dict[str, Any]] = []
    for name in names:
        with output.open(name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(num_rows):
                rows += pa.Table.from_batches([batch]).slice(0, num_rows - len(rows)).to_pylist()
                if len(rows) >= num_rows:
                    return rows
    return rows


def _label(row: dict[str, Any]) -> str:
    own = [name for name in row if name not in PREDICTION_SCHEMA.names]
    key = next((name for name in ("title", "id") if name in own), own[0] if own else None)
    return "" if key is None or row[key] is None else " ".join(str(row[key]).split())


def _summary(row: dict[str, Any]) -> str:
    summary = " ".join((row["summary"] or "").split())
    if row["status"] == Status.OK:
        return summary
    return f"[{row['status']}] {row['error'] or summary}".rstrip()


def _sentiment(row: dict[str, Any]) -> str:
    return sentiment_text(row["sentiment"], row["sentiment_scores"])


def _busy_seconds(reports: Sequence[UnitReport]) -> float:
    """From the first unit's begin to the last one's end; loading the model is not part of the rate."""
    worked = [report for report in reports if report.wall_seconds]
    return max(report.begun + report.wall_seconds for report in worked) - min(report.begun for report in worked)


def _stages(reports: Sequence[UnitReport]) -> str:
    sums = {stage: sum(report.seconds.get(stage, 0.0) for report in reports) for stage in STAGES}
    return ", ".join(f"{stage} {seconds:,.1f} s" for stage, seconds in sums.items())
