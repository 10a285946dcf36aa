"""What public reports say of broken fine-tuning: labels, checkpoints, trackers, numbers that are none."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from helpers.job_helpers import make_training
from helpers.rows import sentiment_rows, summary_rows, training_config
from safetensors.torch import load_file, save_file

from bertsum.checkpoints.checkpoint import load_encoder, save_checkpoint
from bertsum.checkpoints.config import read_config
from bertsum.config_base import load_config
from bertsum.errors import ConfigError, InputError, ModelError, OutputError
from bertsum.evaluation.report import evaluation_report
from bertsum.labels.config import LabelsConfig
from bertsum.labels.labels import class_name, sentence_labels, sentiment_of, topic_of
from bertsum.model_config import ModelConfig
from bertsum.storage.folder import TEMPORARY_PREFIX, Folder
from bertsum.text.sentences import split_sentences
from bertsum.training.config import TrainingConfig
from bertsum.training.data import read_examples
from bertsum.training.results import checkpoint
from bertsum.training.results.log import Log
from bertsum.training.run import claim_output, run
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.state import RunState, StateStore, read_log
from bertsum.training.tracking import Tracking, mlflow_name
from bertsum.tuning.trials import Trial, TrialStore
from jobs.evaluate import missing_measures
from jobs.tune import _begin as begin_search

TEXT = "The cat sleeps. A dog runs. Market prices rise in the city."
SENTENCES = ["The cat sleeps.", "A dog runs.", "Market prices rise in the city."]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An encoder, and rows with summaries and with sentiments."""
    make_training(tmp_path)
    return tmp_path


def configured(data: Path, **values: object) -> TrainingConfig:
    """Three steps, with a checkpoint after each."""
    defaults = {"max_steps": 3, "validate_every_steps": 1}
    given = load_config(TrainingConfig, data / "training.yaml").model_dump(mode="json")
    return TrainingConfig.model_validate(given | defaults | values)


def train(data: Path, **values: object) -> list[str]:
    """A run into DATA/out; the lines for people."""
    config, output = configured(data, **values), Folder(str(data / "out"))
    claim_output(output, config)
    said: list[str] = []
    run(
        config,
        output,
        torch.device("cpu"),
        "train",
        lambda news: said.extend(filter(None, [news.get("message")])),
    )
    return said


def reopen(data: Path) -> Path:
    """Make the run unfinished again; its directory of checkpoints."""
    (data / "out" / "config.json").unlink()
    return data / "out" / "checkpoints"


# Labels


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1.0, "1"),
        (0, "0"),
        (2.5, "2.5"),
        (True, "True"),
        ("1.0", "1.0"),
        (" x", " x"),
        (None, None),
        (math.nan, None),
    ],
)
def test_the_class_that_a_value_names(value: object, name: str | None) -> None:
    """A column of integers with a gap is one of floats for pandas."""
    assert class_name(value) == name
    labels = LabelsConfig(sentiment_column="s", topic_column="t", topic_names={"1": "World"})
    row = {"s": value, "t": value}
    assert sentiment_of(row, labels) == name
    assert topic_of(row, labels) == ("World" if name == "1" else name)


@pytest.mark.parametrize("classes", [("0", "1"), ("0.0", "1.0")])
def test_a_column_of_floats_trains_the_classes(classes: tuple[str, ...], tmp_path: Path) -> None:
    """Also those of a configuration that calls them as the column's type does."""
    labels = pa.array([1.0, 0.0, math.nan, None])
    pq.write_table(pa.table({"document": [TEXT] * 4, "label": labels}), tmp_path / "rows.parquet")
    source = SourceConfig(name="news", sentiment_column="label")
    model = tiny.model_config(sentiment_labels=classes)
    examples = read_examples(str(tmp_path), source, tiny.document_encoder(), model, max_windows=8)
    assert [example.sentiment_label for example in examples] == [1, 0, -1, -1]


def test_a_report_knows_classes_that_an_older_model_calls_with_a_point() -> None:
    scores = [{"model": "m", "scores": [("0.0", 0.9), ("1.0", 0.1)]}]
    type_of_scores = pa.list_(
        pa.struct([("model", pa.string()), ("scores", pa.map_(pa.string(), pa.float32()))])
    )
    columns = {
        "status": pa.array(["ok"] * 2),
        "rouge": pa.nulls(2, pa.list_(pa.struct([]))),
        "expected_sentiment": pa.array(["0", "1"]),
        "sentiment": pa.array([scores] * 2, type_of_scores),
        "expected_topic": pa.nulls(2, pa.string()),
        "topic": pa.nulls(2, type_of_scores),
        "expected_words": pa.nulls(2, pa.list_(pa.string())),
        "words": pa.nulls(
            2, pa.list_(pa.struct([("model", pa.string()), ("tags", pa.list_(pa.string()))]))
        ),
    }
    report = evaluation_report(pa.table(columns), ["m"], "LEAD-3")["sentiment"]["m"]
    assert (report["accuracy"], report["unknown_labels"]) == (0.5, {})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, math.nan, 0], [1, -1, 0]),
        ([1, -100, 0], [1, -1, 0]),
        ([-1, -1, 1], [-1, -1, 1]),
        ([True, None, False], [1, -1, 0]),
        ([math.nan] * 3, None),
        ([-100] * 3, None),
    ],
)
def test_a_sentence_without_a_label_is_not_one_of_the_summary(
    labels: list, expected: list | None
) -> None:
    config = LabelsConfig(sentences_column="s", sentence_labels_column="l")
    found = sentence_labels(
        TEXT, split_sentences(TEXT, "en"), "en", {"s": SENTENCES, "l": labels}, config
    )
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize("label", [2, 0.7, math.inf])
def test_a_sentence_label_that_is_a_score_is_refused(label: float) -> None:
    config = LabelsConfig(sentences_column="s", sentence_labels_column="l")
    with pytest.raises(
        InputError, match=r"a sentence has the label .*; allowed are 0 and 1, and null, NaN"
    ):
        sentence_labels(
            TEXT, split_sentences(TEXT, "en"), "en", {"s": SENTENCES, "l": [1, label, 0]}, config
        )


def test_numbers_in_yaml_are_names_of_classes(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("sentiment_labels: [0, 1]\ntopic_labels: [1.5, two]")
    config = load_config(ModelConfig, tmp_path / "model.yaml")
    assert (config.sentiment_labels, config.topic_labels) == (("0", "1"), ("1.5", "two"))
    (tmp_path / "labels.yaml").write_text("topic_column: t\ntopic_names: {1: World, 2: Sports}")
    assert load_config(LabelsConfig, tmp_path / "labels.yaml").topic_names == {
        "1": "World",
        "2": "Sports",
    }


@pytest.mark.parametrize("labels", ["[no, yes]", "[positive, null]", "[true, false]"])
def test_what_yaml_does_not_read_as_text_has_to_be_quoted(labels: str) -> None:
    with pytest.raises(
        ConfigError, match=r"sentiment_labels: .* a class is named .* put the name in quotes"
    ):
        load_config(ModelConfig, None, [f"sentiment_labels={labels}"])


def test_a_label_in_another_case_is_named_with_the_one_that_is_meant(data: Path) -> None:
    labels = pa.table(
        {"document": sentiment_rows(2)["document"], "label": ["Negative ", "positive"]}
    )
    pq.write_table(labels, data / "reviews.parquet")
    with pytest.raises(
        InputError,
        match=r"row 0 .*'Negative '.* of which 'negative' differs in case or blanks only",
    ):
        train(data)


def test_a_class_without_a_training_row_is_told(data: Path) -> None:
    """In the card, too. The head of a checkpoint may have learned it before."""
    warning = "No training row has the sentiment 'neutral'"
    assert any(line.startswith(f"warning: {warning}") for line in train(data))
    assert warning in (data / "out" / "model_card.md").read_text()
    (data / "out").rename(data / "start")
    again = train(data, start_from=str(data / "start"))
    assert not any("No training row" in line for line in again)


def test_classes_that_the_checkpoint_does_not_have_are_refused(data: Path) -> None:
    save_checkpoint(data / "start", tiny.model(), tiny.wordpiece(), "", version="0.0.0")
    model = tiny.model_config(sentiment_labels=("bad", "good")).model_dump()
    with pytest.raises(
        ConfigError,
        match=r"\['bad', 'good'\], and start_from has \['negative', .*new_heads: \[sentim",
    ):
        train(data, start_from=str(data / "start"), model=model)


def test_rows_without_text_are_counted(data: Path) -> None:
    texts, summaries = summary_rows(3).values()
    odd = ["", "  ", None, "\u200b", "😀"]
    table = pa.table({"document": [*texts, *odd], "summary": [*summaries, *["A cat."] * 5]})
    pq.write_table(table, data / "news.parquet")
    sources = [{"name": "news", "train_uri": "news.parquet", "summary_column": "summary"}]
    model = tiny.model_config(sentiment_labels=()).model_dump()
    said = train(data, sources=sources, model=model)
    assert said[0].startswith(
        "news: 3 rows to train on, 0 to measure on, 2 without a label left out, 3 without text l"
    )


def test_a_source_may_have_a_dot_in_its_name() -> None:
    source = {"name": "v1.2", "summary_column": "summary", "validation_uri": "x"}
    assert training_config(sources=[source], best_metric=["v1.2.summary_loss"]).best_metric
    with pytest.raises(ValueError, match="it starts with a source"):
        training_config(sources=[source], best_metric=["v1.summary_loss"])


def test_a_measure_of_rows_without_labels_is_refused_in_words(data: Path) -> None:
    empty = pa.table({"document": summary_rows(2)["document"], "summary": pa.nulls(2, pa.string())})
    pq.write_table(empty, data / "validation.parquet")
    sources = [s.model_dump() for s in configured(data).sources]
    sources[0]["validation_uri"] = "validation.parquet"
    with pytest.raises(
        ConfigError, match="no such measure; the validation rows have no label at all"
    ):
        train(data, sources=sources, best_metric=["news.summary_loss"])


# Numbers that are none


def test_a_model_that_answers_with_no_numbers_is_not_saved(data: Path) -> None:
    rates = {"encoder_learning_rate": 1e18, "head_learning_rate": 1e18, "warmup_share": 0.0}
    with pytest.raises(
        FloatingPointError,
        match=r"not a number; the same steps would .* lower encoder_learning_rate",
    ):
        train(data, max_steps=1, **rates)
    assert not (data / "out" / "config.json").exists()


def test_weights_that_are_no_numbers_are_never_the_best(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score is none after the first and the last step; those of the second step are kept."""
    scores = iter([math.nan, -2.0, math.nan])
    monkeypatch.setattr("bertsum.training.loop.read_metric", lambda results, names: next(scores))
    train(data, best_metric=["news.summary_loss"])
    log = [
        json.loads(line) for line in (data / "out" / "training_log.jsonl").read_text().splitlines()
    ]
    assert [line["score"] for line in log if "score" in line] == [-2.0]
    assert log[-1]["chosen_step"] == 2
    states = [
        json.loads(path.read_text())
        for path in sorted((data / "out" / "checkpoints").glob("*.json"))
    ]
    assert states[0]["best_score"] == -2.0


def test_a_log_has_numbers_that_every_reader_knows(data: Path) -> None:
    """Python writes Infinity, which is not JSON."""
    config, output = configured(data), Folder(str(data / "log"))
    log = Log(output, StateStore(output, 2), config, lambda news: None)
    log.add({"step": 1, "gradient_norm": math.inf, "summary_loss": 0.5, "skipped": True})
    log.flush()
    assert (data / "log" / "training_log.jsonl").read_text().count("Infinity") == 0
    line = {"step": 1, "gradient_norm": None, "summary_loss": 0.5, "skipped": True}
    assert read_log(output, "training_log.jsonl", 1) == [line]


# Checkpoints


@pytest.mark.parametrize(
    ("name", "size"),
    [("00000003.safetensors", 1000), ("00000003.safetensors", 0), ("00000003.json", 9)],
)
def test_a_run_goes_on_from_an_older_checkpoint_where_the_newest_is_cut_off(
    data: Path, name: str, size: int
) -> None:
    train(data)
    whole = load_file(data / "out" / "model.safetensors")
    checkpoints = reopen(data)
    os.truncate(checkpoints / name, size)
    said = train(data)
    assert any("00000003.safetensors is damaged; an older one is used" in line for line in said)
    assert "going on from step 2" in said
    again = load_file(data / "out" / "model.safetensors")
    torch.testing.assert_close(again, whole)
    assert sorted(path.name for path in checkpoints.glob("*.json")) == [
        "00000002.json",
        "00000003.json",
    ]


def test_one_byte_less_is_a_damaged_checkpoint(tmp_path: Path) -> None:
    store = StateStore(Folder(str(tmp_path)), 2)
    store.save(RunState(plan_digest="", step=4), {"weights/a": torch.ones(3)})
    assert store.latest() is not None
    path = tmp_path / "checkpoints" / "00000004.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(
        OutputError, match=r"00000004\.safetensors is damaged, and no other one is left"
    ):
        store.latest()


def test_damaged_and_later_checkpoints_go_with_the_next(tmp_path: Path) -> None:
    """The run went on from step 1, so that 3, 5 and 7 are of no use, also where they are whole."""
    store = StateStore(Folder(str(tmp_path)), 2)
    for step in (1, 3, 5, 7):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        StateStore(Folder(str(tmp_path)), 9).save(
            RunState(plan_digest="", step=step), {"weights/a": torch.ones(3)}
        )
    os.truncate(tmp_path / "checkpoints" / "00000005.safetensors", 30)
    (tmp_path / "checkpoints" / "00000003.json").write_text("{")
    store.save(RunState(plan_digest="", step=2), {"weights/a": torch.ones(3)})
    assert {path.stem for path in (tmp_path / "checkpoints").iterdir()} == {"00000001", "00000002"}


def test_a_checkpoint_of_another_version_is_not_called_damaged(tmp_path: Path) -> None:
    store = StateStore(Folder(str(tmp_path)), 2)
    store.save(RunState(plan_digest="", step=1), {})
    path = tmp_path / "checkpoints" / "00000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ema_decay": 0.9}))
    with pytest.raises(
        OutputError, match=r"of another version of bertsum \(ema_decay: .*; go on with that version"
    ):
        store.latest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t | {"weights/sentiment.query": torch.ones(5)},
            r"weights/sentiment\.query.*is of shape \(5,\), and no",
        ),
        (
            lambda t: t | {"optimizer/exp_avg/nowhere": torch.ones(1)},
            "optimizer/exp_avg/nowhere, and no such weight",
        ),
        (
            lambda t: t | {"average/sentiment.query": torch.ones(5)},
            r"average/sentiment\.query is of shape \(5,\)",
        ),
    ],
)
def test_a_state_of_another_model_is_named(data: Path, change, message: str) -> None:
    train(data)
    path = reopen(data) / "00000003.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(OutputError, match=f"of another model.*{message}"):
        train(data)


def test_a_run_of_an_older_version_goes_on(data: Path) -> None:
    """Its record lacks keys that came later, which had what is now their default."""
    train(data)
    reopen(data)
    path = data / "out" / "training_config.json"
    record = json.loads(path.read_text())
    del record["clip_norm"], record["model"]["rank_candidates"], record["sources"][0]["max_windows"]
    path.write_text(json.dumps(record))
    assert claim_output(Folder(str(data / "out")), configured(data))
    with pytest.raises(OutputError, match="these differ: clip_norm\\."):
        claim_output(Folder(str(data / "out")), configured(data, clip_norm=2.0))


@pytest.mark.parametrize("name", ["training_config.json", "training_log.jsonl"])
def test_a_damaged_record_is_named(data: Path, name: str) -> None:
    train(data)
    reopen(data)
    os.truncate(data / "out" / name, 100)
    with pytest.raises(OutputError, match=f"{name} is damaged: "):
        train(data)


def test_what_killed_runs_left_half_written_goes(data: Path) -> None:
    """After an hour: a file that is younger may be of a writer at work."""
    (data / "out" / "checkpoints").mkdir(parents=True)
    old, young = (
        data / "out" / "checkpoints" / f"{TEMPORARY_PREFIX}{name}.tmp" for name in ("old", "young")
    )
    for path in (old, young):
        path.write_bytes(b"half a checkpoint")
    os.utime(old, (0, 0))
    claim_output(Folder(str(data / "out")), configured(data))
    assert (old.exists(), young.exists()) == (False, True)


def test_no_room_for_the_model_at_the_end(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_checkpoint", fail)
    with pytest.raises(
        OutputError,
        match=r"cannot write the model to a temporary directory in .*No space left.*TMPDIR",
    ):
        train(data)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    tiny.save(tmp_path, tiny.encoder(vocab_size=100), tiny.wordpiece())
    with pytest.raises(
        ModelError, match=r"its tokenizer has 211 tokens, and its encoder vectors for 100 of them"
    ):
        load_encoder(str(tmp_path))


def test_a_model_of_another_version_says_which(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tiny.model(), tiny.wordpiece(), "", version="9.9.0")
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["rotary"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError,
        match=r"bertsum 9\.9\.0 wrote, does not fit bertsum .*: model\.rotary: Extra inputs",
    ):
        read_config(tmp_path)


# Searches


def test_a_search_of_an_older_version_goes_on(tmp_path: Path) -> None:
    from bertsum.tuning.config import TuningConfig

    base = training_config(
        best_metric=["news.summary_loss"],
        sources=[{"name": "news", "summary_column": "summary", "validation_uri": "x"}],
        dtype="auto",
    )
    search = TuningConfig.model_validate(
        {"training": "t.yaml", "space": {"head_learning_rate": [1e-3, 1e-4]}}
    )
    output = Folder(str(tmp_path))
    begin_search(output, search, base)
    path = tmp_path / "tuning_config.json"
    record = json.loads(path.read_text())
    del record["grace_share"], record["training"]["clip_norm"]
    record["training"]["dtype"] = "bfloat16"  # the default before `auto` was
    path.write_text(json.dumps(record))
    TrialStore(output).write(Trial(number=1, values={}, outcome="finished"))
    begin_search(output, search, base)
    with pytest.raises(ConfigError, match="these differ: training"):
        begin_search(
            output, search, TrainingConfig.model_validate(base.model_dump() | {"clip_norm": 2.0})
        )
    path.write_text("{")
    with pytest.raises(
        OutputError, match=r"tuning_config\.json is damaged: .*give another directory"
    ):
        begin_search(output, search, base)


def test_a_damaged_trial_is_named(tmp_path: Path) -> None:
    store = TrialStore(Folder(str(tmp_path)))
    store.write(Trial(number=3, values={}))
    os.truncate(tmp_path / "trials" / "0003" / "trial.json", 9)
    with pytest.raises(
        OutputError, match=r"trials/0003/trial\.json is damaged .*remove its directory"
    ):
        store.read()


# Trackers


class _Writer:
    """A tracker whose server goes away after some lines."""

    def __init__(self, num_lines: int) -> None:
        self.lines, self.num_lines = [], num_lines

    def write(self, values: dict, step: int) -> None:
        if len(self.lines) == self.num_lines:
            raise ConnectionError("503 the server is away")
        self.lines.append((step, dict(values)))

    def close(self) -> None:
        raise ConnectionError("504 it does not come back")


def test_a_tracker_that_fails_does_not_end_the_run(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    writer = _Writer(1)
    monkeypatch.setattr("bertsum.training.tracking._TensorBoard", lambda *arguments: writer)
    said = train(data, tracking=["tensorboard"])
    assert len(writer.lines) == 1
    assert (
        sum("tensorboard is left out from here on: 503 the server is away" in line for line in said)
        == 1
    )
    assert (data / "out" / "config.json").exists()


def test_a_tracker_that_cannot_close_does_not_lose_the_model(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("bertsum.training.tracking._TensorBoard", lambda *arguments: _Writer(99))
    assert any(
        "504 it does not come back" in line for line in train(data, tracking=["tensorboard"])
    )
    assert (data / "out" / "config.json").exists()


def test_a_tracker_that_cannot_begin_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")

    def fail(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bertsum.training.tracking._TensorBoard", fail)
    with pytest.raises(
        OutputError, match=r"tensorboard cannot begin: Permission denied; .*tracking=\[\]"
    ):
        Tracking(["tensorboard"], Folder(str(tmp_path)), {}, 0, say=pytest.fail)


def test_trackers_get_numbers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    writer = _Writer(9)
    monkeypatch.setattr("bertsum.training.tracking._TensorBoard", lambda *arguments: writer)
    tracking = Tracking(["tensorboard"], Folder(str(tmp_path)), {}, 0, say=pytest.fail)
    tracking.add(
        {
            "step": 1,
            "gradient_norm": math.inf,
            "summary_loss": 0.5,
            "validation": {"a": {"x_loss": math.nan}},
        }
    )
    assert writer.lines == [(1, {"summary_loss": 0.5})]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("news.f1.a,b", "news.f1.a_2c_b"),
        ("news.f1.N/A", "news.f1.N/A"),
        ("news.f1.好", "news.f1.好"),
        ("news.f1.☃:", "news.f1._2603__3a_"),
        ("news.f1.a//b", "news.f1.a_2f__2f_b"),
        ("news.f1.x/", "news.f1.x_2f_"),
    ],
)
def test_names_that_mlflow_takes(name: str, expected: str) -> None:
    assert mlflow_name(name) == expected


MLFLOW = """
import sys, mlflow
from bertsum.storage.folder import Folder
from bertsum.training.tracking import Tracking

mlflow.set_tracking_uri(f"sqlite:///{sys.argv[1]}/mlflow.db")
with mlflow.start_run():  # of the program that trains
    tracking = Tracking(["mlflow"], Folder(sys.argv[1]), {}, 0, say=sys.exit)
    classes = {"a,b": 0.5, "☃": 0.25, "N/A": 1, "a//b": 0, "..": 0, "x" * 300: 0}
    tracking.add({"step": 1, "validation": {"v1, new": {"sentiment": {"f1": classes}}}})
    tracking.close()
"""


def test_mlflow_takes_all_names_of_classes_inside_another_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    done = subprocess.run(
        [sys.executable, "-c", MLFLOW, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


# Measures


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (
            {"labelled_rows": {"sentiment": 0, "topic": 4}, "sentiment": {}},
            "sentiment: no row has a label, so there is nothing to compare with",
        ),
        (
            {"labelled_rows": {"sentiment": 5, "topic": 0}, "sentiment": {}},
            "sentiment: m gives none for 5 of 5 labelled rows; it has no such head, or they have no text",
        ),
        (
            {"labelled_rows": {"sentiment": 5, "topic": 0}, "sentiment": {"m": {"rows": 3}}},
            "sentiment: m gives none for 2 of 5 labelled rows; they have no text that it reads",
        ),
    ],
)
def test_measures_that_cannot_be_had_are_told(report: dict, expected: str) -> None:
    from bertsum.evaluation.config import EvaluationConfig

    rows = report["labelled_rows"]["sentiment"] or 6
    values = {"rows": rows, "rouge": {"rows": rows - 4}, "topic": {}} | report
    config = EvaluationConfig(sentiment_column="s", summary_column="y")
    rouge = f"ROUGE leaves out 4 of {rows} rows, which lack a text or a reference"
    assert missing_measures(values, ["m"], config) == [rouge, expected]


def test_rows_without_a_label_are_counted() -> None:
    from bertsum.evaluation.config import EvaluationConfig

    report = {
        "rows": 1900,
        "rouge": None,
        "labelled_rows": {"sentiment": 1808, "topic": 0},
        "sentiment": {"m": {"rows": 1808}},
    }
    assert missing_measures(report, ["m"], EvaluationConfig(sentiment_column="s")) == [
        "sentiment: 92 of 1,900 rows have no label and are left out"
    ]
