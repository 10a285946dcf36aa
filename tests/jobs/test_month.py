"""A month of the sample corpus as a table: filled within a budget, then another model replaces it under a reader."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.job_helpers import make_checkpoint
from helpers.lake_harness import load_extension
from helpers.waiting import LIMIT_SECONDS

from bertsum.output_config import OutputConfig
from jobs import backfill

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

CORPUS = sorted((Path(__file__).parents[1] / "data" / "corpus").glob("dt=*"))
DAYS = [f"2026-10-{day:02d}" for day in range(1, 31)]
Rows = list[tuple[str, int, int]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Thirty days, each with the documents of one of the seven days of the corpus."""
    for number, day in enumerate(DAYS):
        shutil.copytree(CORPUS[number % len(CORPUS)], tmp_path / "in" / f"dt={day}")
    return tmp_path / "in"


def reader(output: Path, table: str) -> Callable[[], Rows]:
    """DuckDB: rows of each day, and how many of them the second model made, whose labels are other ones."""
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    for extension in ("avro", "iceberg") if table == "iceberg" else ("delta",):
        load_extension(connection, extension)

    def query() -> Rows:
        place = f"delta_scan('{output}')"
        if table == "iceberg":
            from bertsum.runs.tables.iceberg import IcebergBackend
            from bertsum.storage.folder import Folder

            found = IcebergBackend(OutputConfig(table="iceberg"), Folder(str(output)))._load()
            place = f"iceberg_scan('{found.metadata_location}')"
        return connection.execute(
            "SELECT CAST(dt AS VARCHAR), count(*), count(*) FILTER (sentiment IN ('bad', 'good')) "
            f"FROM {place} GROUP BY dt ORDER BY dt"
        ).fetchall()

    return query


class Watcher(threading.Thread):
    """Queries again and again until it is told to stop."""

    def __init__(self, query: Callable[[], Rows]) -> None:
        super().__init__(daemon=True)
        self._query, self._stopped = query, threading.Event()
        self.seen: list[Rows] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._stopped.wait(0.05):
                self.seen.append(self._query())
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        self._stopped.set()
        self.join(LIMIT_SECONDS)


@pytest.mark.parametrize("table", ["iceberg", "delta"])
def test_a_month(
    source: Path, checkpoint: Path, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip({"iceberg": "pyiceberg", "delta": "deltalake"}[table])
    output = tmp_path / "out"
    command = [
        str(source),
        str(output),
        "--from",
        DAYS[0],
        "--to",
        DAYS[-1],
        "--set",
        f"output.table={table}",
    ]
    command += ["--set", "summarizer.language_column=lang", "--set", "rows_per_unit=4"]

    def run(*more: object) -> tuple[int, str]:
        code = backfill.main([*command, *map(str, more)])
        return code, capsys.readouterr().out

    code, said = run("--model", checkpoint, "--max-documents", 150)
    assert code == 1
    assert "● done 15  ○ to do 15" in said or "# done 15  . to do 15" in said
    query = reader(output, table)
    assert [day for day, _, _ in query()] == DAYS[:15]
    assert run("--model", checkpoint)[0] == 0
    before = query()
    sizes = [
        (day, pq.read_metadata(next((source / f"dt={day}").iterdir())).num_rows) for day in DAYS
    ]
    assert [(day, rows) for day, rows, _ in before] == sizes
    assert len(list(output.glob("dt=*/*.parquet"))) == 30  # units were put together

    other = make_checkpoint(tmp_path / "other", sentiment_labels=("bad", "good"))
    watcher = Watcher(reader(output, table))
    watcher.start()
    try:
        code, said = run("--model", other, "--on-existing", "replace")
    finally:
        watcher.stop()
    assert (code, watcher.error) == (0, None), said
    after = query()
    new = {day: count for day, _, count in after}
    assert min(new.values()) > 0  # some rows have no sentiment, but each day has some that do
    states = {tuple(count > 0 for _, _, count in rows) for rows in watcher.seen}
    assert len(states) > 2, "the reader did not see the middle of it"
    for rows in [before, *watcher.seen, after]:
        assert [(day, number) for day, number, _ in rows] == sizes
        assert all(count in (0, new[day]) for day, _, count in rows), (
            "a day that is half old, half new"
        )
