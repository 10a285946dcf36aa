"""`bertsum report OUTPUT`: what a run made or measured, as one HTML page that works offline."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bertsum.errors import ConfigError
from bertsum.storage.folder import Folder
from jobs.options import count, parse, refuse_inside, target_file
from jobs.terminal.exit_codes import guard

_MOST_DOCUMENTS = 2000
_DEFAULT_PAGE = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """The options of the command.

    - `html`: the page; None: `report.html`, beside a checkpoint or among an evaluation's results,
      else in the working directory.
    - `input`: where INPUT is now; None: where the records say.
    - `views`, `dbt`: a file and a directory for SQL, in place of the page.
    """

    output: str
    compare: str | None = None
    html: str | None = None
    documents: int = _MOST_DOCUMENTS
    input: str | None = None
    views: str | None = None
    dbt: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 the page is written, also of an incomplete run; 2 there is no run."""
    return guard(lambda: report(parse(ReportOptions, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum report", description="What a run made, as one HTML page."
    )
    add = options.add_argument
    add(
        "output",
        metavar="OUTPUT",
        help="directory that summarize, nightly, backfill, generate, match, train or evaluate wrote "
        "to, local or remote",
    )
    add(
        "--compare",
        metavar="OTHER",
        help="OUTPUT of another run over the same INPUT, such as that of another model",
    )
    add(
        "--html",
        metavar="FILE",
        help=f"the page, local or remote (default: {_DEFAULT_PAGE}; of train and evaluate, the one "
        "that they wrote into OUTPUT)",
    )
    add(
        "--documents",
        metavar="N",
        type=count("--documents", 0),
        default=_MOST_DOCUMENTS,
        help=f"most documents in the page, drawn at random (default: {_MOST_DOCUMENTS})",
    )
    add(
        "--input",
        metavar="INPUT",
        help="where INPUT is now, if it was moved, or is recorded without its credentials",
    )
    add(
        "--views",
        metavar="FILE",
        help="in place of the page: SQL views of a finished run with flat columns, for DuckDB",
    )
    add(
        "--dbt",
        metavar="DIR",
        help="in place of the page: sources.yml of a finished run for dbt, with descriptions and "
        "tests, and the views as models",
    )
    return options


def report(options: ReportOptions) -> int:
    """Write the page and say where it is."""
    # they import pyarrow.compute and the rules for sentences, which `--help` does not need
    from bertsum.reports.measures import kind_of

    if options.views is not None or options.dbt is not None:
        return write_catalog(options)
    kind = kind_of(Folder(options.output))
    if kind is None:
        return report_run(options)
    if options.compare is not None or options.input is not None:
        raise ConfigError(
            f"{options.output} is of {kind}, whose page takes neither --compare nor --input"
        )
    if options.html is None:
        print(write_measures(Folder(options.output)))
    else:
        print(write_measures(Folder(options.output), *target_file("--html", options.html)))
    return 0


def write_measures(output: Folder, folder: Folder | None = None, name: str = "") -> str:
    """Write the page of a training run or an evaluation; returns a line that says where it is.

    `folder`, `name`: the page; None: beside the checkpoint, or among the results of the evaluation.
    """
    from bertsum.reports.measures import METRICS_DIRECTORY, kind_of, read_measures
    from bertsum.reports.page import render_measures

    page = render_measures(read_measures(output)).encode("utf-8")
    if folder is None:
        is_training = kind_of(output) == "training"
        folder, name = output, _DEFAULT_PAGE
        if not is_training:
            name = f"{METRICS_DIRECTORY}/{_DEFAULT_PAGE}"
    folder.write_replace(name, page)
    return f"report: {folder}/{name} ({len(page) / 1e6:.1f} MB)"


def write_catalog(options: ReportOptions) -> int:
    """Write the views and what dbt needs, and say where they are."""
    from bertsum.reports.catalog import dbt_files, read_catalog, views_sql
    from bertsum.reports.results import read_results

    catalog = read_catalog(read_results(options.output))
    output = Folder(options.output)
    if options.views is not None:
        folder, name = target_file("--views", options.views, [output])
        folder.write_replace(name, views_sql(catalog).encode())
        print(f"views: {folder}/{name}")
    if options.dbt is not None:
        folder = Folder(options.dbt)
        refuse_inside("--dbt", options.dbt, folder, [output])
        files = dbt_files(catalog)
        for name, text in files.items():
            folder.write_replace(name, text.encode())
        print(f"dbt: {', '.join(files)} in {folder}")
    return 0


def report_run(options: ReportOptions) -> int:
    """Write the page of one run or two and say where it is."""
    from bertsum.reports.page import render
    from bertsum.reports.report import make_report
    from bertsum.reports.result import read_result

    output = Folder(options.output)
    results = [output, *([] if options.compare is None else [Folder(options.compare)])]
    folder, name = target_file("--html", options.html or _DEFAULT_PAGE, results)
    other = None if options.compare is None else read_result(Folder(options.compare))
    made = make_report(
        read_result(output), other, most_documents=options.documents, input_uri=options.input
    )
    page = render(made).encode("utf-8")
    folder.write_replace(name, page)
    print(
        f"{folder}/{name}: {len(page) / 1e6:.1f} MB, {made.run.result.num_rows:,} rows, "
        f"{len(made.documents):,} documents"
    )
    if not made.run.result.is_complete:
        print("the run is incomplete; the page shows what is there", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
