"""Partitions that are held back: by runs without Ray, through the publisher and `bertsum publish`."""

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from helpers.output_harness import Killed, kill_at
from helpers.report_runs import JOB, Predict, predict, write_documents
from helpers.report_runs import Run as Harness

from bertsum.errors import HeldError
from bertsum.job_config import JobConfig
from bertsum.output_config import ChecksConfig, NamedOutputConfig
from bertsum.runs.checking import Checks
from bertsum.runs.commit import is_finished
from bertsum.runs.held import APPROVED, HELD, Held, read_held
from bertsum.runs.input import list_input
from bertsum.runs.partitions import Scope, partition_of
from bertsum.runs.records import MANIFEST, SUCCESS, Job, read_json
from bertsum.runs.tables.formats import open_table
from bertsum.schema import Prediction
from bertsum.storage.folder import Folder
from jobs import publish, status
from jobs.engine import publisher
from jobs.engine.run import Run
from jobs.engine.work import SummarizeWork

FIRST = date(2026, 3, 2)
RULES = ChecksConfig(action="hold", min_history=5, history_days=10)


def directory(number: int) -> str:
    return f"dt={FIRST + timedelta(days=number)}"


def all_negative(text: str, number: int) -> Prediction:
    scores = {"positive": 0.1, "negative": 0.8, "neutral": 0.1}
    return replace(predict(text, number), sentiment="negative", sentiment_scores=scores)


class Nights:
    """INPUT and OUTPUT by day; the rows of a bad night are all negative."""

    def __init__(self, root: Path) -> None:
        self.source, self.root = root / "in", root / "out"

    def write(self, number: int, count: int = 60, name: str = "documents") -> None:
        texts = [f"Night {number} row {i}. It has two. And three" for i in range(count)]
        write_documents(self.source.parent / "written", {directory(number): texts})
        path = self.source / directory(number) / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.source.parent / "written" / directory(number) / "documents.parquet").rename(path)

    def run(
        self,
        *patterns: str,
        bad: bool = False,
        predict: Predict = predict,
        checks: ChecksConfig | None = RULES,
        job: Job = JOB,
        on_existing: str = "resume",
        table: str = "parquet",
    ) -> publisher.Publisher:
        """What a command does with these partitions, or with all of INPUT; units are made here."""
        config = JobConfig(
            rows_per_unit=25,
            on_existing=on_existing,
            output=NamedOutputConfig(checks=checks or ChecksConfig(), table=table),
        )
        run = Run(
            input_uri=str(self.source),
            source=list_input(str(self.source), Scope(patterns)),
            output=self.harness().output,
            job=job,
            work=SummarizeWork(None, job, job.config, config.max_batch_tokens),
            config=config,
            address="local",
            lake=open_table(config.output, self.harness().output),
            checks=None if checks is None else checks_of(config),
        )
        plan = run.plan()
        publisher.prepare(run, plan)
        harness = self.harness(job)
        harness.predict = all_negative if bad else predict
        harness.make(plan)
        made = publisher.Publisher(run, run.plan())
        made.publish_ready()
        return made

    def harness(self, job: Job = JOB) -> Harness:
        return Harness(self.source, self.root, job=job)

    def nights(self, count: int) -> None:
        """Good nights, published one after the other."""
        for number in range(count):
            self.write(number)
            made = self.run(directory(number))
            assert list(made.published) == [directory(number)]

    def is_published(self, number: int) -> bool:
        return (self.root / directory(number) / SUCCESS).exists()

    def bytes_of(self, number: int) -> dict[str, bytes]:
        """All files of a partition but the plan, of which nothing is left to do."""
        root = self.root / directory(number)
        files = [path for path in root.rglob("*") if path.is_file() and path.name != "plan.json"]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def checks_of(config: JobConfig) -> Checks:
    return Checks(
        output=config.output,
        day_pattern=config.days.partition,
        names=config.named_summarizer.output,
        is_replacing=config.on_existing == "replace",
    )


@pytest.fixture(scope="module")
def six_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INPUT and OUTPUT of six published nights; not to be written to."""
    root = tmp_path_factory.mktemp("nights")
    Nights(root).nights(6)
    return root


@pytest.fixture
def nights(six_nights: Path, tmp_path: Path) -> Nights:
    # times are kept: they tell one content of a file from another
    shutil.copytree(six_nights, tmp_path, dirs_exist_ok=True)
    return Nights(tmp_path)


def let_through(nights: Nights, *names: str) -> int:
    return publish.main([str(nights.root), *names])


def hold(nights: Nights, number: int = 6) -> publisher.Publisher:
    nights.write(number)
    made = nights.run(directory(number), bad=True)
    assert list(made.held) == [directory(number)]
    return made


def test_a_bad_night_is_held_and_is_no_dead_end(nights: Nights) -> None:
    for number in (6, 7, 8):
        nights.write(number)
    nights.run(directory(6), directory(8))
    assert nights.is_published(6)
    made = nights.run(directory(7), bad=True)
    assert not made.published
    assert not made.failures
    assert "mean probability of the sentiment: 0.80" in str(made.held[directory(7)])
    with pytest.raises(HeldError, match=f"bertsum publish .* '{directory(7)}'"):
        made.refuse_failures()
    assert not nights.is_published(7)
    assert not (nights.root / directory(7) / MANIFEST).exists()
    nights.write(9)
    assert list(nights.run(directory(9)).published) == [directory(9)]


def test_the_same_command_again_does_nothing_new(nights: Nights) -> None:
    hold(nights)
    before = nights.bytes_of(6)
    times = {p: p.stat().st_mtime_ns for p in nights.root.rglob("*") if p.name == "held.json"}
    assert list(nights.run(directory(6)).held) == [directory(6)]
    assert nights.bytes_of(6) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_it_is_published_by_hand_or_by_other_rules(nights: Nights) -> None:
    for number in (6, 7, 8):
        hold(nights, number)
    loose = ChecksConfig(action="warn", min_history=5)
    made = nights.run(directory(7), checks=loose)
    assert list(made.published) == list(made.warnings) == [directory(7)]
    assert not (nights.root / directory(7) / HELD).exists()
    assert list(nights.run(directory(8), checks=None).published) == [directory(8)]
    assert let_through(nights, directory(6)) == 0
    assert nights.is_published(6)
    assert not (nights.root / directory(6) / HELD).exists()
    manifest = read_json(nights.harness().output, f"{directory(6)}/{MANIFEST}")
    assert manifest is not None
    assert manifest["checks"]["approved"]
    assert manifest["checks"]["findings"]
    assert manifest["rows"] == 60
    assert let_through(nights, directory(6)) == 0  # again: it is published


def test_nothing_of_that_name_is_held(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    hold(nights)
    assert let_through(nights, "dt=2020-01-01") == 2
    assert f"held are {directory(6)}" in capsys.readouterr().err
    assert let_through(nights) == 2
    assert let_through(nights, "dt=*") == 0
    assert nights.is_published(6)


def test_status_says_why(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    hold(nights)
    assert status.main([str(nights.root)]) == 1
    said = capsys.readouterr().out
    assert f"held: {directory(6)}: mean probability of the sentiment: 0.80; 0.60 is usual" in said
    assert f"bertsum publish {nights.root} '{directory(6)}'" in said
    assert status.main([str(nights.root), "--json"]) == 1
    state = json.loads(capsys.readouterr().out)
    assert list(state["held"]) == [directory(6)]
    assert not state["incomplete"]
    assert status.main([f"{nights.root}/{directory(6)}"]) == 1
    assert "held back from readers" in capsys.readouterr().out
    # late rows make another result of it, which nobody has looked at
    nights.write(6, count=10, name="late")
    harness = nights.harness()
    harness.committer.begin(nights_plan(nights, 6))
    assert status.main([str(nights.root), "--json"]) == 1
    state = json.loads(capsys.readouterr().out)
    assert not state["held"]
    assert list(state["incomplete"]) == [directory(6)]


def nights_plan(nights: Nights, number: int):
    harness = nights.harness()
    harness.input = list_input(str(nights.source), Scope((directory(number),)))
    return harness.plan()


def test_an_approval_is_of_these_rows_alone(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(nights)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 1)
        let_through(nights, directory(6))
    held = read_held(nights.harness().output, directory(6))
    assert held is not None
    assert held.is_approved
    nights.write(6, count=30, name="late")
    made = nights.run(directory(6), bad=True)
    assert list(made.held) == [directory(6)]
    held = read_held(nights.harness().output, directory(6))
    assert held is not None
    assert not held.is_approved
    assert sum(record.counts.rows for record in held.records.values()) == 90


OTHER_RULES = ChecksConfig(action="hold", limits={"sentiment.negative": (None, 0.2)})


def test_what_is_held_anew_meanwhile_is_not_published(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run finds something else in the same rows, between the approval and the commit."""
    hold(nights)
    approve = publish.approve

    def approve_late(output: Folder, held: Held) -> None:
        assert nights.run(directory(6), checks=OTHER_RULES).held
        approve(output, held)

    with monkeypatch.context() as patch:
        patch.setattr(publish, "approve", approve_late)
        assert let_through(nights, directory(6)) == 1
    assert "held anew with other rows or other findings" in capsys.readouterr().err
    assert not nights.is_published(6)
    held = read_held(nights.harness().output, directory(6))
    assert held is not None and not held.is_approved
    # nor does a run take the approval for one of the new findings
    assert nights.run(directory(6), checks=OTHER_RULES).held
    assert let_through(nights, directory(6)) == 0
    said = capsys.readouterr().out
    assert (
        "in spite of\n  dt=2026-03-08: rows with sentiment negative: 100%; the most is 20%" in said
    )
    assert nights.is_published(6)
    assert not (nights.root / directory(6) / APPROVED).exists()


def test_an_approval_of_an_earlier_version_counts(nights: Nights) -> None:
    hold(nights)
    path = nights.root / directory(6) / HELD
    path.write_text(json.dumps({**json.loads(path.read_text()), "approved": True}))
    assert list(nights.run(directory(6)).published) == [directory(6)]


@pytest.mark.parametrize("is_approved", [True, False])
def test_a_partition_that_was_let_through_counts_in_a_run_over_everything(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, is_approved: bool
) -> None:
    hold(nights)
    if is_approved:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, 1)
            let_through(nights, directory(6))
        assert not nights.is_published(6)
    made = nights.run()
    assert list(made.held) == ([] if is_approved else [""])
    assert nights.is_published(6) == is_approved
    if is_approved:
        manifest = read_json(nights.harness().output, f"{directory(6)}/{MANIFEST}")
        assert manifest is not None and manifest["checks"]["approved"]
        assert not (nights.root / directory(6) / APPROVED).exists()


def test_an_approval_by_itself_is_of_its_rows_in_a_run_over_everything(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(nights)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 1)
        let_through(nights, directory(6))
    nights.write(6, count=30, name="late")
    assert list(nights.run(bad=True).held) == [""]


def test_a_publication_is_told_to_openlineage(nights: Nights, tmp_path: Path) -> None:
    pytest.importorskip("openlineage.client")
    hold(nights)
    events_path = tmp_path / "events.jsonl"
    options = ["--set", f"openlineage={events_path}"]
    assert publish.main([str(nights.root), directory(6), *options]) == 0
    events = [json.loads(line) for line in events_path.read_text().splitlines()]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    (output,) = events[1]["outputs"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 60
    assert events[1]["job"]["name"].startswith("summarize.")
    assert events[1]["inputs"][0]["name"] == str(nights.source)
    columns = output["facets"]["columnLineage"]["fields"]
    assert [field["field"] for field in columns["id"]["inputFields"]] == ["id"]
    assert [field["field"] for field in columns["summary"]["inputFields"]] == ["document"]
    # nothing is left to do: no event
    assert publish.main([str(nights.root), directory(6), *options]) == 0
    assert len(events_path.read_text().splitlines()) == 2


def test_a_publication_that_fails_is_told_so(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openlineage.client")
    hold(nights)
    for path in (nights.root / directory(6)).glob("*.parquet"):
        path.unlink()
    events_path = tmp_path / "events.jsonl"
    command = [str(nights.root), directory(6), "--set", f"openlineage={events_path}"]
    assert publish.main(command) == 1
    states = [json.loads(line)["eventType"] for line in events_path.read_text().splitlines()]
    assert states == ["START", "FAIL"]


@pytest.mark.parametrize("who_goes_on", ["publish", "nightly"])
def test_killed_at_any_step_of_publish(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, who_goes_on: str
) -> None:
    nights.write(6)
    # results of an earlier model are replaced
    other = replace(JOB, model_id="model-b", model_digest="digest-b")
    nights.run(directory(6), checks=None, job=other)
    step, is_killed = 0, True
    while is_killed:
        assert nights.run(directory(6), bad=True, on_existing="replace").held
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            try:
                let_through(nights, directory(6))
                is_killed = False
            except Killed:
                pass
        if is_killed and step == 0:
            assert not nights.is_published(6)  # nobody knows yet that it was let through
        elif is_killed:
            if who_goes_on == "publish":
                assert let_through(nights, directory(6)) == 0
            else:
                made = nights.run(directory(6), on_existing="replace")
                assert not made.held
        if is_killed and step == 0:
            step += 1
            continue
        assert nights.is_published(6)
        result = {name for name in nights.bytes_of(6) if name.endswith(".parquet")}
        assert len(result) == 3
        manifest = read_json(nights.harness().output, f"{directory(6)}/{MANIFEST}")
        assert manifest is not None
        assert manifest["job"]["model"]["digest"] == JOB.model_digest
        assert manifest["checks"]["approved"]
        if is_killed:
            # as before it was let through
            for path in sorted((nights.root / directory(6)).rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            nights.run(directory(6), checks=None, job=other)
        step += 1
    assert step > 6


def test_a_run_over_everything_is_one_group(nights: Nights) -> None:
    """Its partitions are looked at day by day; one that is held holds all of it."""
    nights.write(6)
    nights.write(7)
    made = nights.run(bad=True)
    assert list(made.held) == [""]
    said = str(made.held[""])
    assert directory(6) in said
    assert directory(7) in said
    assert not (nights.root / SUCCESS).exists()
    assert nights.is_published(5)
    assert status.main([str(nights.root)]) == 1
    assert let_through(nights) == 0
    assert (nights.root / SUCCESS).exists()
    assert nights.is_published(6)
    harness = nights.harness()
    assert is_finished(harness.output, harness.plan())


def test_days_of_one_run_are_history_for_later_ones(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    for number in range(8):
        nights.write(number)
    made = nights.run(predict=lambda t, n: (all_negative if "Night 7" in t else predict)(t, n))
    assert list(made.held) == [""]
    assert directory(7) in str(made.held[""])
    assert directory(6) not in str(made.held[""])


def test_history_of_a_version_without_checks_is_read_from_its_files(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    for number in range(6):
        nights.write(number)
        nights.run(directory(number), checks=None)
    hold(nights)


def test_an_earlier_night_whose_files_were_removed_by_hand_holds_up_none(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    for number in range(2):
        nights.write(number)
        nights.run(directory(number), checks=None)
    for path in (nights.root / directory(0)).glob("*.parquet"):
        path.unlink()
    nights.write(2)
    assert list(nights.run(directory(2)).published) == [directory(2)]


def test_a_partition_with_the_characters_of_patterns_is_published(nights: Nights) -> None:
    name = "dt=[1]"
    write_documents(nights.source, {name: [""] * 3})
    loose = ChecksConfig(action="hold", limits={"rows": (10, None)})
    made = nights.run("dt=?1?", checks=loose)
    assert list(made.held) == [name]
    assert let_through(nights, name) == 0
    assert (nights.root / name / SUCCESS).exists()


def test_another_model_is_held_and_a_replacement_is_not(nights: Nights) -> None:
    other = replace(JOB, model_id="model-b", model_digest="digest-b")
    nights.write(6)
    made = nights.run(directory(6), job=other)
    assert "the last published day before, is of model model-a" in str(made.held[directory(6)])
    made = nights.run(*map(directory, range(7)), job=other, on_existing="replace")
    assert not made.held
    assert len(made.published) == 7


def test_what_was_published_stays_readable_while_its_replacement_is_held(nights: Nights) -> None:
    before = read_json(nights.harness().output, f"{directory(5)}/{MANIFEST}")
    other = replace(JOB, model_id="model-b", model_digest="digest-b")
    rules = ChecksConfig(action="hold", limits={"sentiment.negative": (None, 0.9)})
    made = nights.run(directory(5), bad=True, job=other, on_existing="replace", checks=rules)
    assert list(made.held) == [directory(5)]
    assert read_json(nights.harness().output, f"{directory(5)}/{MANIFEST}") == before
    assert before is not None
    for entry in before["files"]:
        assert (nights.root / directory(5) / entry["name"]).exists()
    assert let_through(nights, directory(5)) == 0
    for entry in before["files"]:
        assert not (nights.root / directory(5) / entry["name"]).exists()


@pytest.mark.parametrize("table", ["iceberg", "delta"])
def test_a_held_night_is_not_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    nights = Nights(tmp_path)
    for number in range(7):
        nights.write(number)
    nights.run(*map(directory, range(6)), table=table)

    def in_table() -> set[str]:
        lake = open_table(NamedOutputConfig(table=table), nights.harness().output)
        assert lake is not None
        names = [
            path.relative_to(nights.root).as_posix() for path in nights.root.rglob("*.parquet")
        ]
        return {partition_of(name) for name in lake.holds(names)}

    made = nights.run(directory(6), bad=True, table=table)
    assert list(made.held) == [directory(6)]
    assert in_table() == set(map(directory, range(6)))
    # killed once its small files are put together: the run knows the rows in their new files
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 3)
        let_through(nights, directory(6))
    assert not nights.is_published(6)
    assert not nights.run(directory(6), table=table).held
    assert in_table() == set(map(directory, range(7)))
    manifest = read_json(nights.harness().output, f"{directory(6)}/{MANIFEST}")
    assert manifest is not None
    assert (manifest["rows"], len(manifest["files"])) == (60, 1)
    assert let_through(nights, directory(6)) == 0


def test_checks_change_neither_names_nor_bytes_of_results(tmp_path: Path) -> None:
    files: list[dict[str, bytes]] = []
    for name, rules in (("with", RULES), ("without", None)):
        nights = Nights(tmp_path / name)
        nights.source = tmp_path / "in"
        if not nights.source.exists():
            nights.write(0)
        nights.run(directory(0), checks=rules)
        of_night = nights.bytes_of(0)
        files.append({path: of_night[path] for path in of_night if path.endswith(".parquet")})
        manifest = json.loads(of_night[MANIFEST])
        assert ("checks" in manifest) == (rules is not None)
    assert files[0] == files[1]
