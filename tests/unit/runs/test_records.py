"""Plans and commits over a real directory: what is kept, refused, replaced, and the order of the records."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from helpers.output_harness import (
    JOB,
    LIMITS,
    OTHER_JOB,
    Harness,
    Killed,
    check,
    kill_at,
    write_input,
)

from bertsum.config import SummarizerConfig
from bertsum.errors import IncompleteError, InputError, OutputError
from bertsum.output_config import OutputConfig
from bertsum.runs import commit
from bertsum.runs import records as output
from bertsum.runs.columns import needed_columns, output_schema
from bertsum.runs.input import list_input
from bertsum.runs.partitions import Scope
from bertsum.runs.plan import Plan, Terms, make_plan, refuse_superseded
from bertsum.runs.records import (
    FAILURES,
    MANIFEST,
    PLAN,
    SUCCESS,
    CountedColumns,
    FileRecord,
    Job,
    OutputFile,
    encode,
    read_json,
    read_record,
)
from bertsum.runs.units import Limits
from bertsum.schema import PREDICTION_SCHEMA, Status
from bertsum.storage.folder import Folder


def manifest_files(harness: Harness, plan: Plan) -> list[tuple[OutputFile, FileRecord]]:
    return list(
        zip(
            plan.files(JOB).values(),
            output.read_back(harness.output, list(plan.units)),
            strict=True,
        )
    )


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    write_input(tmp_path / "in", "dt=1/a.parquet", 25)
    write_input(tmp_path / "in", "dt=1/b.parquet", 3, first_id=25)
    write_input(tmp_path / "in", "dt=2/a b.parquet", 4, first_id=28)
    write_input(tmp_path / "in", "dt=2/empty.parquet", 0)
    return Harness(tmp_path)


def test_a_run_and_its_records(harness: Harness) -> None:
    plan = harness.run()
    assert harness.ids() == list(range(32))
    assert harness.files() == {*plan.units, *harness.records()}
    manifest = json.loads((harness.root / MANIFEST).read_text())
    assert (manifest["rows"], manifest["tokens"], manifest["statuses"]) == (32, 64, {"ok": 32})
    assert manifest["job"]["model"] == {"id": "model-a", "digest": "digest-a"}
    assert [entry["name"] for entry in manifest["files"]] == list(plan.units)
    for entry in manifest["files"]:
        assert entry["bytes"] == (harness.root / entry["name"]).stat().st_size
        assert entry["sha256"] == harness.output.sha256(entry["name"])
    # hive readers see the partitions
    assert (
        ds.dataset(harness.root, partitioning="hive").to_table(filter=ds.field("dt") == 2).num_rows
        == 4
    )


def test_a_file_says_what_it_is_and_equal_rows_give_equal_bytes(
    harness: Harness, tmp_path: Path
) -> None:
    plan = harness.run()
    name, unit = next(iter(plan.units.items()))
    found = read_record(harness.output, name)
    assert found is not None
    file, counts = found
    assert (file.name, file.unit, file.job, file.model_id) == (
        name,
        unit,
        JOB.fingerprint,
        "model-a",
    )
    assert (counts.rows, counts.statuses) == (unit.num_rows, {"ok": unit.num_rows})
    before = harness.output.read_bytes(name)
    harness.output.remove(name)
    harness.make([(name, unit)])
    assert harness.output.read_bytes(name) == before


def test_a_second_stage_names_another_job_and_counts_rows_that_the_first_made(
    harness: Harness,
) -> None:
    second = Job("writer", "digest", SummarizerConfig())
    both = replace(JOB, then=second)
    jobs = [JOB, both, replace(JOB, then=replace(second, model_digest="other"))]
    jobs += [replace(JOB, then=replace(second, config=SummarizerConfig(text_column="body")))]
    assert len({job.fingerprint for job in jobs}) == len(jobs)
    assert replace(both, then=replace(second, model_id="elsewhere")).fingerprint == both.fingerprint
    assert "then" not in JOB.to_json()
    assert both.to_json()["then"]["model"] == {"id": "writer", "digest": "digest"}
    assert both.to_json()["config"] == JOB.to_json()["config"]

    (unit, *_) = harness.plan().units.values()
    statuses = {
        "status": ["ok", "ok", "error", "empty"],
        "written": ["ok", "error", "empty", "empty"],
    }
    table = pa.table({**statuses, "read": [1, 2, 0, 0]})
    counted = CountedColumns(tokens="read", then_status="written")
    _, counts = encode([table], table.schema, unit, both, counted=counted)
    assert counts.statuses == {"ok": 1, "error": 2, "empty": 1}
    assert (counts.rows, counts.tokens) == (4, 3)


def test_a_finished_run_has_nothing_to_do(harness: Harness) -> None:
    harness.run()
    before = {name: (harness.root / name).stat().st_mtime_ns for name in harness.files()}
    plan = harness.plan()
    assert not plan.missing
    assert commit.is_finished(harness.output, plan)
    assert {name: (harness.root / name).stat().st_mtime_ns for name in harness.files()} == before


def test_a_finished_run_reads_no_footer_of_the_input(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.run()
    monkeypatch.setattr(
        "bertsum.runs.input._try_footer", lambda root, file: pytest.fail(f"read {file.path}")
    )
    assert commit.is_finished(harness.output, harness.plan())


@pytest.mark.parametrize("step", range(9))
def test_killed_after_any_step_the_next_run_completes_the_same(
    harness: Harness, step: int, tmp_path: Path
) -> None:
    plan = harness.plan()
    units = list(plan.units.items())
    steps = [
        lambda: harness.output.remove(SUCCESS),
        lambda: harness.begin(plan),
        *[lambda unit=unit: harness.make([unit]) for unit in units],
        lambda: harness.committer()._write_manifest("", manifest_files(harness, plan), {}),
        lambda: harness.output.write_replace(SUCCESS, b""),
    ]
    assert len(steps) == 9
    for action in steps[: step + 1]:
        action()
    done = set(harness.made)
    again = harness.plan()
    assert list(again.units) == list(plan.units)
    assert again.done == done
    assert not commit.is_finished(harness.output, again)
    harness.run()
    assert commit.is_finished(harness.output, harness.plan())
    assert harness.ids() == list(range(32))
    assert sorted(harness.made) == sorted(plan.units)
    assert harness.files() == {*plan.units, *harness.records()}


def test_a_growing_input_costs_only_what_is_new(harness: Harness) -> None:
    first = harness.run()
    made = list(harness.made)
    write_input(
        harness.input, "dt=1/aa.parquet", 2, first_id=32
    )  # in the middle, and it would have merged
    write_input(harness.input, "dt=3/a.parquet", 1, first_id=34)
    plan = harness.plan()
    assert plan.done == first.units.keys()
    assert [unit.slices[0].path for unit in plan.missing.values()] == [
        "dt=1/aa.parquet",
        "dt=3/a.parquet",
    ]
    harness.begin(plan)
    assert SUCCESS not in harness.files()
    harness.make(plan.missing.items())
    harness.finish(plan)
    assert harness.ids() == list(range(35))
    assert harness.made[: len(made)] == made
    assert len(set(harness.made)) == len(harness.made)


def test_results_are_kept_without_the_plan_and_with_other_limits(harness: Harness) -> None:
    plan = harness.plan()
    harness.begin(plan)
    harness.make(list(plan.units.items())[1:3])
    (harness.root / PLAN).unlink()
    again = harness.plan(limits=Limits(4, 2**20))
    assert again.done == set(harness.made)
    harness.begin(again, limits=Limits(4, 2**20))
    harness.make(again.missing.items())
    harness.finish(again)
    assert harness.ids() == list(range(32))


def test_another_model_is_refused_and_then_replaced(harness: Harness) -> None:
    old = harness.run()
    plan = harness.plan(OTHER_JOB)
    with pytest.raises(OutputError, match=r"5 file\(s\) of model model-a .*--on-existing replace"):
        refuse_superseded(plan.superseded, harness.output)
    harness.begin(plan, OTHER_JOB)
    harness.make(plan.missing.items(), OTHER_JOB)
    # until the end the old manifest and all its files are there for those who read by it
    listed = {entry["name"] for entry in read_json(harness.output, MANIFEST)["files"]}  # type: ignore[index]
    assert listed == old.units.keys() <= harness.files()
    harness.finish(plan, OTHER_JOB)
    assert harness.files() == {*plan.units, *harness.records()}
    assert harness.ids() == list(range(32))


def test_a_killed_replacement_goes_on_or_goes_back(harness: Harness) -> None:
    old = harness.run()
    plan = harness.plan(OTHER_JOB)
    harness.begin(plan, OTHER_JOB)
    harness.make(list(plan.missing.items())[:2], OTHER_JOB)
    forward = harness.plan(OTHER_JOB)
    assert (len(forward.done), len(forward.superseded)) == (2, len(old.units))
    back = harness.plan(JOB)
    assert (back.done, len(back.superseded)) == (old.units.keys(), 2)
    harness.begin(back)
    harness.finish(back)
    assert harness.files() == {*old.units, *harness.records()}


def test_another_configuration_is_refused(harness: Harness) -> None:
    harness.run()
    plan = harness.plan(Job("model-a", "digest-a", SummarizerConfig(max_windows=2)))
    with pytest.raises(OutputError, match="with other content or another configuration"):
        refuse_superseded(plan.superseded, harness.output)


@pytest.mark.parametrize(
    ("change", "reason"), [("touch", "input that has changed"), ("remove", "input that is gone")]
)
def test_changed_input_is_refused_and_only_it_is_replaced(
    harness: Harness, change: str, reason: str
) -> None:
    harness.run()
    path = harness.input / "dt=1" / "b.parquet"
    if change == "touch":
        os.utime(path, ns=(5, 5))
    else:
        path.unlink()
    plan = harness.plan()
    assert [entry.file.unit.slices[0].path for entry in plan.superseded] == ["dt=1/b.parquet"]
    with pytest.raises(OutputError, match=reason):
        refuse_superseded(plan.superseded, harness.output)
    harness.begin(plan)
    harness.make(plan.missing.items())
    harness.finish(plan)
    assert harness.ids() == [i for i in range(32) if change == "touch" or not 25 <= i < 28]


@pytest.mark.parametrize(
    "name", ["dt=1/theirs.parquet", "notes.txt", "a-000000000-0123456789abcdef.parquet"]
)
def test_foreign_files_are_refused_by_name(harness: Harness, name: str) -> None:
    write_input(harness.root, name, 1)
    with pytest.raises(OutputError, match=name):
        harness.plan()


def test_a_file_that_appears_during_the_run_is_an_error(harness: Harness) -> None:
    plan = harness.plan()
    harness.begin(plan)
    harness.make(plan.units.items())
    shutil.copy(harness.root / next(iter(plan.units)), harness.root / "zombie.parquet")
    with pytest.raises(OutputError, match=r"zombie\.parquet"):
        harness.finish(plan)
    assert not {MANIFEST, SUCCESS} & harness.files()


def test_a_file_that_vanishes_during_the_run_is_an_error(harness: Harness) -> None:
    plan = harness.plan()
    harness.begin(plan)
    harness.make(list(plan.units.items())[1:])
    with pytest.raises(OutputError, match="vanished"):
        harness.finish(plan)


def test_rows_that_two_runs_made_are_not_counted_twice(harness: Harness) -> None:
    """Two drivers that cut differently, or one that did not see the other's plan."""
    harness.run()
    terms = Terms(limits=Limits(5, 2**20), check=check(JOB))
    other = make_plan(
        list_input(str(harness.input)), Folder(str(harness.root / "_other")), JOB, terms
    )
    double = next(item for item in other.units.items() if item[0] not in harness.files())
    harness.make([double])
    plan = harness.plan()
    assert (plan.superseded, plan.repeated) == (
        [],
        {double[0]},
    )  # nobody needs to agree: no row goes
    harness.begin(plan)
    harness.make(plan.missing.items())
    harness.finish(plan)
    assert harness.ids() == list(range(32))


def test_a_try_out_is_no_result_and_a_full_run_keeps_its_rows(harness: Harness) -> None:
    plan = harness.run(limit=13)
    assert plan.limit == 13
    assert harness.ids() == list(range(13))
    assert not {MANIFEST, SUCCESS} & harness.files()
    assert commit.is_finished(harness.output, harness.plan(limit=13))
    more = harness.plan(limit=15)
    assert [unit.num_rows for unit in more.missing.values()] == [2]
    full = harness.run()
    assert plan.units.keys() <= full.units.keys()
    assert harness.ids() == list(range(32))
    assert SUCCESS in harness.files()


def test_a_try_out_on_a_finished_output_changes_nothing(harness: Harness) -> None:
    harness.run()
    plan = harness.plan(limit=1)
    assert plan.limit is None
    assert commit.is_finished(harness.output, plan)


def test_too_many_errors_fail_the_job(harness: Harness) -> None:
    plan = harness.plan()
    harness.begin(plan)
    harness.make(plan.units.items(), status=Status.ERROR)
    with pytest.raises(IncompleteError, match="32 of 32 rows have status `error`"):
        harness.finish(plan)
    assert not {MANIFEST, SUCCESS} & harness.files()


def test_failures_are_recorded_and_go_with_success(harness: Harness) -> None:
    plan = harness.plan()
    commit.record_failures(harness.output, [commit.Failure(["dt=1/a.parquet"], "broken", 3)])
    assert read_json(harness.output, FAILURES) == {
        "failures": [{"files": ["dt=1/a.parquet"], "reason": "broken", "attempts": 3, "unit": None}]
    }
    harness.begin(plan)
    harness.make(plan.units.items())
    harness.finish(plan)
    assert FAILURES not in harness.files()


def test_a_broken_file_is_a_problem_and_the_others_are_planned(harness: Harness) -> None:
    (harness.input / "dt=1" / "b.parquet").write_bytes(b"PAR1 no")
    plan = harness.plan()
    assert list(plan.problems) == ["dt=1/b.parquet"]
    assert plan.num_rows == 29
    assert not commit.is_finished(harness.output, plan)


def test_one_file_without_text_is_a_problem_all_are_an_error(harness: Harness) -> None:
    pq.write_table(pa.table({"id": [1], "text": ["x"]}), harness.input / "dt=1" / "b.parquet")
    assert "'document'" in harness.plan().problems["dt=1/b.parquet"]
    with pytest.raises(InputError, match=r"no column 'body'.*id: int64"):
        harness.plan(Job("m", "d", SummarizerConfig(text_column="body")))


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", None]),
        pa.array(["a", None], pa.large_string()),
        pa.array(["a", None], pa.string_view()),
        pa.array(["a", None]).dictionary_encode(),
        pa.array([None, None]),
    ],
)
def test_text_types_that_are_accepted(tmp_path: Path, values: pa.Array) -> None:
    harness = Harness(tmp_path)
    harness.input.mkdir()
    pq.write_table(pa.table({"id": [1, 2], "document": values}), harness.input / "a.parquet")
    plan = harness.plan()
    assert (plan.problems, plan.num_rows) == ({}, 2)


@pytest.mark.parametrize(
    ("path", "columns", "config", "message"),
    [
        ("a.parquet", {"document": [1]}, {}, "'document' is int64"),
        ("a.parquet", {"document": [["a"]]}, {}, "'document' is list"),
        (
            "a.parquet",
            {"document": ["a"], "summary": ["b"]},
            {},
            r"\['summary'\] have the names of output columns",
        ),
        ("a.parquet", {"document": ["a"]}, {"keep_columns": ["nope"]}, "nope"),
        ("a.parquet", {"document": ["a"]}, {"language_column": "lang"}, "no column 'lang'"),
        ("status=1/a.parquet", {"document": ["a"]}, {}, "partition key 'status'"),
        (
            "dt=1/a.parquet",
            {"document": ["a"], "dt": ["x"]},
            {},
            "partition key 'dt' is also a column",
        ),
        # names as readers compare them
        (
            "a.parquet",
            {"document": ["a"], "Status": ["b"], "SUMMARY": ["c"]},
            {},
            r"\['Status', 'SUMMARY'\].*keep_col",
        ),
        (
            "a.parquet",
            {"document": ["a"], "num_to\u212aens": [1]},
            {},
            "have the names of output columns",
        ),
        (
            "a.parquet",
            {"document": ["a"], "Status": ["b"]},
            {"keep_columns": ["Status"]},
            r"\['Status'\] have",
        ),
        (
            "Status=1/a.parquet",
            {"document": ["a"]},
            {},
            "partition key 'Status' has the name of an output column",
        ),
        (
            "dt=1/a.parquet",
            {"document": ["a"], "DT": ["x"]},
            {},
            "key 'dt' is also a column of the file, 'DT'",
        ),
        ("dt=1/Dt=2/a.parquet", {"document": ["a"]}, {}, "keys 'dt' and 'Dt' have the same name"),
    ],
)
def test_columns_that_do_not_fit_stop_before_any_work(
    tmp_path: Path,
    path: str,
    columns: dict[str, list[object]],
    config: dict[str, object],
    message: str,
) -> None:
    harness = Harness(tmp_path)
    (harness.input / path).parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), harness.input / path)
    with pytest.raises(InputError, match=message):
        harness.plan(Job("m", "d", SummarizerConfig.model_validate(config)))
    assert not harness.root.exists()


def test_a_name_that_clashes_may_be_left_out_and_others_differ_in_case_as_in_the_input() -> None:
    schema = pa.schema(
        [
            ("Document", pa.string()),
            ("document", pa.string()),
            ("Id", pa.int64()),
            ("id", pa.int64()),
        ]
    )
    assert output_schema(schema, SummarizerConfig()).names == [
        "Document",
        "Id",
        "id",
        *PREDICTION_SCHEMA.names,
    ]
    with_status = schema.append(pa.field("Status", pa.string()))
    config = SummarizerConfig(keep_columns=("id",))
    assert output_schema(with_status, config).names == ["id", *PREDICTION_SCHEMA.names]


def test_only_needed_columns_are_read() -> None:
    schema = pa.schema(
        [("a", pa.int64()), ("document", pa.string()), ("b", pa.int64()), ("lang", pa.string())]
    )
    assert needed_columns(schema, SummarizerConfig()) == ["a", "document", "b", "lang"]
    config = SummarizerConfig(keep_columns=("b",), language_column="lang")
    assert needed_columns(schema, config) == ["document", "b", "lang"]


def narrow(
    harness: Harness, *patterns: str, job: Job = JOB, rules: OutputConfig | None = None
) -> Plan:
    source = list_input(str(harness.input), Scope(patterns))
    terms = Terms(limits=LIMITS, check=check(job), rules=rules or OutputConfig())
    return make_plan(source, harness.output, job, terms)


def publish(harness: Harness, plan: Plan, job: Job = JOB) -> None:
    harness.begin(plan, job)
    harness.make(plan.missing.items(), job)
    for place in plan.open_partitions:
        harness.finish(plan.only({place}), job)


def listed(harness: Harness, place: str) -> set[str]:
    """Names that the manifest of a directory promises, all of which must exist."""
    manifest = read_json(harness.output, f"{place}/{MANIFEST}" if place else MANIFEST)
    assert manifest is not None
    names = {f"{place}/{entry['name']}".lstrip("/") for entry in manifest["files"]}
    assert names <= harness.files()
    return names


def test_a_narrow_run_makes_and_publishes_only_its_partition(harness: Harness) -> None:
    plan = narrow(harness, "dt=2")
    assert {unit.partition for unit in plan.units.values()} == {"dt=2"}
    publish(harness, plan)
    assert harness.files() == {*plan.units, *(f"dt=2/{name}" for name in (PLAN, MANIFEST, SUCCESS))}
    assert listed(harness, "dt=2") == plan.units.keys()
    assert commit.is_finished(harness.output, narrow(harness, "dt=2"))
    # then everything: what is published stays as it is, the rest and the records at the top are made
    before = {name: (harness.root / name).stat().st_mtime_ns for name in harness.files()}
    whole = harness.run()
    assert harness.files() == {*whole.units, *harness.records(), f"dt=2/{PLAN}"}
    assert {name: (harness.root / name).stat().st_mtime_ns for name in before} == before
    assert commit.is_finished(harness.output, harness.plan())
    assert commit.is_finished(harness.output, narrow(harness, "dt=*"))


def test_a_narrow_run_replaces_one_partition_and_leaves_the_others(harness: Harness) -> None:
    old = harness.run()
    plan = narrow(harness, "dt=2", job=OTHER_JOB)
    assert {entry.file.name for entry in plan.superseded} == {
        n for n in old.units if n.startswith("dt=2/")
    }
    harness.begin(plan, OTHER_JOB)
    assert f"dt=2/{SUCCESS}" not in harness.files()
    assert {f"dt=1/{SUCCESS}", MANIFEST} <= harness.files()
    harness.make(plan.missing.items(), OTHER_JOB)
    assert listed(harness, "dt=2") <= old.units.keys()
    harness.finish(plan.only({"dt=2"}), OTHER_JOB)
    assert listed(harness, "dt=2") == plan.units.keys()
    assert listed(harness, "dt=1") <= old.units.keys()
    assert not {MANIFEST, SUCCESS} & harness.files()  # they would list what is gone
    assert harness.ids() == list(range(32))


@pytest.mark.parametrize("patterns", [(), ("dt=*",)])
def test_killed_at_any_change_of_a_replacement_manifests_stay_true_and_the_next_run_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patterns: tuple[str, ...]
) -> None:
    step, killed = 0, True
    while killed:
        harness = Harness(tmp_path / str(step))
        write_input(harness.input, "dt=1/a.parquet", 12)
        write_input(harness.input, "dt=2/a.parquet", 4, first_id=12)
        harness.run()
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            killed = False
            try:
                replace_all(harness, patterns)
            except Killed:
                killed = True
        for place in ("dt=1", "dt=2"):
            assert listed(harness, place)
            if f"{place}/{SUCCESS}" in harness.files():
                assert listed(harness, place) == {
                    n for n in harness.files() if n.startswith(f"{place}/") and "-0" in n
                }
        if MANIFEST in harness.files():
            listed(harness, "")
        replace_all(harness, patterns)
        assert commit.is_finished(harness.output, narrow(harness, *patterns, job=OTHER_JOB))
        assert harness.ids() == list(range(16))
        step += 1
    assert step > 12


def replace_all(harness: Harness, patterns: tuple[str, ...]) -> None:
    plan = narrow(harness, *patterns, job=OTHER_JOB)
    if commit.is_finished(harness.output, plan):
        return
    if patterns:
        publish(harness, plan, OTHER_JOB)
    else:
        harness.begin(plan, OTHER_JOB)
        harness.make(plan.missing.items(), OTHER_JOB)
        harness.finish(plan, OTHER_JOB)


@pytest.mark.parametrize("job", [JOB, OTHER_JOB])
def test_results_of_deleted_partitions_are_kept(harness: Harness, job: Job) -> None:
    old = harness.run()
    shutil.rmtree(harness.input / "dt=1")
    plan = harness.plan(job)
    assert plan.retained.keys() == {name for name in old.units if name.startswith("dt=1/")}
    assert not [entry for entry in plan.superseded if entry.file.name in plan.retained]
    harness.begin(plan, job)
    harness.make(plan.missing.items(), job)
    harness.finish(plan, job)
    assert harness.ids() == list(range(32))
    again = harness.plan(job)
    assert commit.is_finished(harness.output, again)
    assert again.retained == plan.retained
    manifest = read_json(harness.output, MANIFEST)
    assert manifest is not None
    assert manifest["rows"] == 32
    models = {
        entry["name"]: entry.get("job", manifest["job"])["model"]["id"]
        for entry in manifest["files"]
    }
    assert {models[name] for name in plan.retained} == {"model-a"}
    assert {models[name] for name in plan.units} == {job.model_id}


def test_a_file_that_is_gone_from_a_living_partition(harness: Harness) -> None:
    """Its partition was rewritten, unless the user says that files are what is deleted."""
    harness.run()
    (harness.input / "dt=1" / "b.parquet").unlink()
    assert len(harness.plan().superseded) == 1
    kept = narrow(harness, rules=OutputConfig(vanished_input="keep_files"))
    assert (len(kept.superseded), len(kept.retained)) == (0, 1)
    shutil.rmtree(harness.input / "dt=1")
    dropped = narrow(harness, rules=OutputConfig(vanished_input="drop"))
    assert (len(dropped.superseded), len(dropped.retained)) == (4, 0)
    harness.begin(dropped)
    harness.finish(dropped)
    assert harness.ids() == list(range(28, 32))
    assert not (harness.root / "dt=1" / SUCCESS).exists()
    assert commit.is_finished(harness.output, harness.plan())


def test_a_partition_with_nothing_but_a_broken_file_is_not_passed_over(harness: Harness) -> None:
    (harness.input / "dt=3").mkdir()
    (harness.input / "dt=3" / "a.parquet").write_bytes(b"PAR1 no")
    plan = narrow(harness, "dt=*")
    assert plan.open_partitions == ["dt=1", "dt=2", "dt=3"]
    assert list(plan.only({"dt=3"}).problems) == ["dt=3/a.parquet"]
