"""What a person reads of a run: its plan, and at its end totals, stages and some rows."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table

from bertsum.config import NamesConfig
from bertsum.errors import HeldError
from bertsum.runs.input import Input
from bertsum.runs.plan import Plan
from bertsum.runs.records import Counts, Job
from bertsum.schema import OutputGroup, Status, prediction_schema
from bertsum.storage.folder import Folder, mask
from jobs.engine.reports import STAGES, UnitReport
from jobs.terminal.console import console, grid, sentiment_text
from jobs.terminal.progress import format_seconds

if TYPE_CHECKING:
    from bertsum.generation.config import GenerateConfig

_Row: TypeAlias = dict[str, Any]  # a row of a result, by column

_LABEL_WIDTH, _SENTIMENT_WIDTH = 30, 14
_MOST_HELD = 10  # that are shown
_THREADS = 16  # two columns of a file are a small read, so it is latency that threads hide


def show_plan(plan: Plan, output: Folder, job: Job | None = None) -> None:
    """Print the plan in a few lines, for `--dry-run`. `job`: whose models are told, if given."""
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
    if job is not None:
        table.add_row("model", mask(job.model_id))
        if job.then is not None:
            table.add_row("  then", mask(job.then.model_id))
    table.add_row("output", str(output))
    console.print(table)
    if plan.retained:
        console.print(say_retained(plan), soft_wrap=True)
    for path, reason in plan.problems.items():
        console.print(f"not usable: {mask(path)}: {reason}", soft_wrap=True)


def say_notes(source: Input) -> None:
    """Print how INPUT was read, where that is not obvious, and what of it was left out."""
    for note in source.notes:
        console.print(note, soft_wrap=True)


def say_retained(plan: Plan) -> str:
    """Return one line about results whose input is gone."""
    models = sorted({file.model_id for file in plan.retained.values()})
    rows = sum(file.unit.num_rows for file in plan.retained.values())
    return (
        f"kept: {len(plan.retained):,} file(s) with {rows:,} rows (model {', '.join(models)}) of "
        "input that is gone; --set output.vanished_input=drop would give them up"
    )


def say_held(held: Mapping[str, HeldError], output: Folder) -> str:
    """Return why groups are held back from readers, and what somebody can do."""
    # the first line tells the reason of a single one: `nightly` prints no other
    errors = list(held.values())[:_MOST_HELD]
    lines = [f"complete, and held back from readers: {errors[0]}"]
    lines += [f"  {error}" for error in errors[1:]]
    if (others := len(held) - _MOST_HELD) > 0:
        lines.append(f"  ... and {others:,} more")
    names = " ".join(f"'{name}'" for name in list(held)[:_MOST_HELD] if name)
    lines.append(
        f"look at the rows; `bertsum publish {output} {names}".rstrip()
        + "` lets them through. Once INPUT or the model is put right, the same command with "
        "--on-existing replace makes them anew"
    )
    return "\n".join(lines)


def show_result(
    output: Folder,
    plan: Plan,
    counts: Counts,
    reports: Sequence[UnitReport],
    seconds: float,
    *,
    table_format: str = "parquet",
) -> None:
    """Print totals of OUTPUT, the rate of this run, and where its time went.

    - `counts`: of all rows in OUTPUT.
    - `reports`, `seconds`: of this run.
    - `table_format`: of OUTPUT; parquet, iceberg or delta.
    """
    table = grid()
    # the most frequent one first, which is nearly always `ok`
    for status, count in sorted(counts.statuses.items(), key=lambda entry: -entry[1]):
        table.add_row(f"rows {status}", f"{count:,}")
    table.add_row("rows in all", f"{counts.rows:,} in {len(plan.units):,} units")
    _add_rows_of_run(table, reports, seconds)
    table.add_row("output", str(output))
    console.print(table)
    if plan.limit is not None:
        console.print(
            f"a try-out (--limit {plan.limit}): no manifest, no _SUCCESS; run without --limit for "
            "the rest"
        )
    if table_format == "parquet":  # a table's directory also holds files that have left the table
        code = f"import pandas; print(pandas.read_parquet('{output}'))"
        console.print(f'look at it: {sys.executable} -c "{code}"', soft_wrap=True)


def show_incomplete(plan: Plan, reports: Sequence[UnitReport], seconds: float) -> None:
    """Print what a run did that leaves something undone."""
    statuses: Counter[str] = Counter()
    rows = plan.num_rows_done
    for report in reports:
        if report.record is not None:
            statuses.update(report.record.counts.statuses)
            rows += report.record.counts.rows
    table = grid()
    for status, count in sorted(statuses.items()):
        table.add_row(f"rows {status}, this run", f"{count:,}")
    table.add_row("rows done", f"{rows:,} of {plan.num_rows:,} in files that can be read")
    _add_rows_of_run(table, reports, seconds)
    console.print(table)


def _add_rows_of_run(table: Table, reports: Sequence[UnitReport], seconds: float) -> None:
    """Add size, rate and stages of a run that made files."""
    num_files = rows = tokens = num_bytes = 0
    for report in reports:
        if report.record is not None and report.created:
            num_files += 1
            rows += report.record.counts.rows
            tokens += report.tokens
            num_bytes += report.record.bytes
    if not num_files:
        return
    table.add_row("this run", f"{rows:,} documents, {tokens:,} tokens in {format_seconds(seconds)}")
    # From the first unit's begin to the last one's end: loading the model is no part of the rate.
    # A report without seconds is of a unit that was there, or that never began.
    worked = [report for report in reports if report.wall_seconds]
    end = max(report.begun + report.wall_seconds for report in worked)
    busy = end - min((report.first or report).begun for report in worked)
    table.add_row(
        "  rate",
        f"{rows / busy:,.1f} documents/s, {tokens / busy:,.0f} tokens/s (start-up not counted)",
    )
    stages = []
    for stage in STAGES:
        total = sum(report.seconds.get(stage, 0.0) for report in reports)
        stages.append(f"{stage} {total:,.1f} s")
    firsts = [report.first for report in worked if report.first is not None]
    if firsts:  # side by side: which of the two pools others wait for
        summarizing = sum(first.seconds for first in firsts)
        writing = sum(report.wall_seconds for report in worked)
        pools = f"summarize {summarizing:,.1f} s, generate {writing:,.1f} s, of which:"
        table.add_row("  time in pools", pools)
    table.add_row("  time in stages", ", ".join(stages))
    table.add_row("  written", f"{num_files:,} files, {num_bytes / 2**20:,.1f} MiB")


def show_saved(output: Folder, plan: Plan, config: "GenerateConfig") -> None:
    """Print how many tokens the model has read, of how many of the documents, if these differ."""
    from bertsum.generation.columns import name_of

    names = [name_of(name, config) for name in ("num_tokens", "document_tokens")]

    def count(file: str) -> tuple[int, int]:
        with output.open(file) as stream:
            table = pq.read_table(stream, columns=names)
        # a document whose tokens nobody has counted is in neither sum
        counted = table.filter(pc.is_valid(table[names[1]]))
        read, whole = (pc.sum(counted[name]).as_py() or 0 for name in names)
        return read, whole

    files = [name for name in plan.units if name in plan.done]
    with ThreadPoolExecutor(_THREADS) as pool:
        counts = list(pool.map(count, files))
    read = sum(count[0] for count in counts)
    whole = sum(count[1] for count in counts)
    if whole > read:
        console.print(
            f"tokens read: {read:,} instead of {whole:,} of the whole documents "
            f"({1 - read / whole:.0%} saved)",
            soft_wrap=True,
        )


def show_rows(output: Folder, files: Iterable[str], num_rows: int, names: NamesConfig) -> None:
    """Print the first rows of `files`, each on one line as wide as the terminal.

    `names`: of their columns.
    """
    table = Table(box=None, padding=(0, 1), header_style="bold")
    # fixed widths: else a long title would squeeze the summary
    label_width = min(_LABEL_WIDTH, console.width // 3)
    summary_width = console.width - label_width - _SENTIMENT_WIDTH - 6  # 6: the padding of all
    table.add_column("", overflow="ellipsis", no_wrap=True, width=label_width)
    table.add_column("summary", overflow="ellipsis", no_wrap=True, width=summary_width)
    table.add_column("sentiment", no_wrap=True, width=_SENTIMENT_WIDTH)
    shown = ("summary", "status", "error", "sentiment", "sentiment_scores")
    for row in _first_rows(output, files, num_rows):
        values = {column: row[names.name_of(column)] for column in shown}
        # all on one line, whatever white space the texts have
        summary = " ".join((values["summary"] or "").split())
        if values["status"] != Status.OK:
            summary = f"[{values['status']}] {values['error'] or summary}".rstrip()
        sentiment = sentiment_text(values["sentiment"], values["sentiment_scores"])
        table.add_row(_label(row, names), summary, sentiment)
    console.print(table)


def _first_rows(output: Folder, files: Iterable[str], num_rows: int) -> list[_Row]:
    """Return rows in the order of the plan, read batch by batch: a result may exceed memory."""
    rows: list[_Row] = []
    # a batch has at most `num_rows`, so at most twice as many are in memory
    for name in files:
        with output.open(name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(num_rows):
                rows += batch.slice(0, num_rows - len(rows)).to_pylist()
                if len(rows) >= num_rows:
                    return rows
    return rows


def _label(row: _Row, names: NamesConfig) -> str:
    """Return the title or id of the document, or else the first column of INPUT, on one line."""
    predicted = {names.name_of(column) for column in prediction_schema(tuple(OutputGroup)).names}
    of_input = [name for name in row if name not in predicted]
    for name in ("title", "id", *of_input):
        if name in of_input:
            return "" if row[name] is None else " ".join(str(row[name]).split())
    return ""
