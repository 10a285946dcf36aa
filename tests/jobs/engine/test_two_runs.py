"""Two runs at the end of the same work, without Ray: each puts a table's files together under the other's hands."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.lake_harness import (
    BIG,
    DAYS,
    FORMATS,
    READERS,
    LakeHarness,
    expected,
    ids_in_order,
    make,
    results,
    table_files,
)
from helpers.output_harness import JOB, write_input

from bertsum.errors import OutputError
from bertsum.job_config import JobConfig
from bertsum.runs.commit import is_finished
from bertsum.runs.input import list_input
from bertsum.runs.partitions import Scope, inside
from bertsum.runs.plan import Plan
from bertsum.runs.records import MANIFEST, SUCCESS, read_json
from bertsum.runs.tables.formats import open_table
from bertsum.storage.folder import Folder
from jobs.engine.publisher import Publisher
from jobs.engine.run import Run
from jobs.engine.work import SummarizeWork

PLACES = ["dt=2026-11-20", "dt=2026-11-21"]


@pytest.fixture(params=FORMATS)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> LakeHarness:
    pytest.importorskip({"iceberg": "pyiceberg", "delta": "deltalake"}[request.param])
    return make(tmp_path, request.param, file_bytes=BIG)


def run_of(harness: LakeHarness, *patterns: str, file_bytes: int = BIG) -> Run:
    """What a command makes of its options."""
    rules = {"table": harness.table, "file_bytes": file_bytes}
    config = JobConfig.model_validate(
        {"rows_per_unit": 10, "max_unit_bytes": 2**20, "output": rules}
    )
    source = list_input(str(harness.input), Scope(patterns))
    work = SummarizeWork(None, JOB, JOB.config, config.max_batch_tokens)
    output = Folder(str(harness.root))
    lake = open_table(config.output, output)
    return Run(
        input_uri=str(harness.input),
        source=source,
        output=output,
        job=JOB,
        work=work,
        config=config,
        address="local",
        lake=lake,
    )


def finish(run: Run, plan: Plan) -> int:
    """As the command does: all at once, or partition after partition. Rows of the result."""
    publisher = Publisher(run, plan)
    return sum(publisher.commit(group).rows for group in plan.groups)


def begin_both(harness: LakeHarness, *runs: Run) -> list[Plan]:
    """Every unit is there, made by whoever was faster."""
    plans = [run.plan() for run in runs]
    harness.lake.prepare(harness.schemas(), PLACES)
    for plan in plans:
        harness.begin(plan)
    harness.make(plans[0].missing.items())
    return plans


def size_of(harness: LakeHarness, units: int) -> int:
    """So many bytes that not more than this number of units are put together."""
    return units * max((harness.root / name).stat().st_size for name in results(harness))


def refuse_repeated(harness: LakeHarness) -> None:
    """Whoever waits for a day's _SUCCESS and then reads its directory gets each row once."""
    for place in PLACES:
        if (harness.root / place / SUCCESS).exists():
            files = (harness.root / place).glob("*.parquet")
            ids = [
                i
                for file in files
                for i in pq.read_table(file, partitioning=None)["id"].to_pylist()
            ]
            assert len(ids) == len(set(ids))


def at_change(
    patch: pytest.MonkeyPatch, step: int, action: Callable[[], object], check: Callable[[], None]
) -> None:
    """Before the change of files with this number something else happens; `check` is called before each change."""
    changes: list[str] = []

    def watched(kind: str) -> Callable[..., object]:
        original = getattr(Folder, kind)

        def change(folder: Folder, *arguments: object) -> object:
            check()
            changes.append(kind)
            if len(changes) == step + 1:
                action()
            return original(folder, *arguments)

        return change

    for kind in ("remove", "write_replace", "create_exclusive"):
        patch.setattr(Folder, kind, watched(kind))


@pytest.mark.slow
@pytest.mark.parametrize("patterns", [(), ("dt=*",)])
@pytest.mark.parametrize("units", [100, 5, 0])
def test_another_run_ends_at_any_change_of_files(
    harness: LakeHarness,
    tmp_path: Path,
    patterns: tuple[str, ...],
    units: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both end well, with each row once; the other one puts together at most `units` of eight."""
    step, has_ended = 0, True
    while has_ended:
        own = make(tmp_path / str(step), harness.table, file_bytes=BIG)
        write_input(own.input, "dt=2026-11-21/z.parquet", 65, first_id=29)
        mine = run_of(own, *patterns)
        plan, others = begin_both(own, mine, run_of(own))
        other = run_of(own, file_bytes=size_of(own, units))
        ended: list[int] = []
        check = (lambda own=own: refuse_repeated(own)) if units == 100 else (lambda: None)
        with monkeypatch.context() as patch:
            at_change(patch, step, lambda: ended.append(finish(other, others)), check)  # noqa: B023
            assert finish(mine, plan) == 94
        has_ended = ended == [94]
        assert sorted(ids_in_order(own)) == list(range(94))
        listed = {
            inside(p, e["name"])
            for p in PLACES
            for e in (read_json(own.output, inside(p, MANIFEST)) or {})["files"]
        }
        assert table_files(own) == listed
        resting = run_of(own).plan().resting.keys()
        assert results(own) == listed | resting
        assert not resting or units < 100
        assert is_finished(own.output, run_of(own, "dt=*").plan())
        step += (
            1 if harness.table == "delta" else 7
        )  # each step of Iceberg takes as long as three of Delta
    assert step >= 12
    assert own.read() == dict.fromkeys(READERS, expected(DAYS | {"2026-11-21": range(25, 94)}))


def test_another_run_ended_first(harness: LakeHarness) -> None:
    """Each of its units is in a bigger file by now: exit 0, and nothing is written but the records."""
    mine, other = run_of(harness, "dt=*"), run_of(harness)
    plan, others = begin_both(harness, mine, other)
    finish(other, others)
    before = results(harness)
    assert len(plan.units.keys() - before) == 3
    assert finish(mine, plan) == 29
    assert results(harness) == before == table_files(harness)
    assert is_finished(harness.output, run_of(harness).plan())


def test_what_vanished_for_no_good_reason_is_an_error(harness: LakeHarness) -> None:
    mine = run_of(harness)
    (plan,) = begin_both(harness, mine)
    harness.output.remove(next(iter(plan.units)))
    with pytest.raises(OutputError, match=r"1 file\(s\) vanished"):
        finish(mine, plan)
    assert table_files(harness) == set()
