"""A run that stops anywhere goes on where it was, and keeps the checkpoints that it should."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from helpers.rows import summary_rows, training_config

from bertsum.errors import ConfigError, OutputError
from bertsum.storage.folder import Folder
from bertsum.training import loop as training
from bertsum.training.data import labelled_batch, read_examples
from bertsum.training.optimization import LossModule, train_step
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.state import RunState, StateStore, VectorStore
from bertsum.training.tracking import numbers
from bertsum.training.validation import LabelledSource, check_metric, read_metric, validate

SOURCE = {
    "name": "news",
    "summary_column": "summary",
    "num_summary_sentences": 1,
    "validation_uri": "x",
}
VALUES = {
    "sources": [SOURCE],
    "epochs": 6,
    "model": {"dropout": 0.2},
    "encoder_dropout": 0.1,
    "average_share": 0.5,
    "checkpoint_every_minutes": 0,
}


class StoppedError(Exception):
    """A kill, as the loop sees it: nothing after it happens."""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table(summary_rows()), path)
    source = SourceConfig.model_validate(SOURCE)
    return read_examples(
        str(path), source, tiny.document_encoder(), tiny.model_config(), max_windows=8
    )


def run(
    examples: list,
    directory: Path,
    stop_at: int | None = None,
    validation: list | None = None,
    **values: object,
) -> tuple[torch.nn.Module, list]:
    """The model and the log; `stop_at`: the step whose news is the last; `validation`: by default the same rows."""
    config = training_config(**(VALUES | values))
    torch.manual_seed(0)
    model = training.build_model(tiny.encoder(), config)
    log: list[dict] = []

    def listen(line: dict) -> None:
        log.append(line)
        if line["step"] == stop_at:
            raise StoppedError

    store = StateStore(Folder(str(directory)), config.kept_checkpoints)
    try:
        training.train(
            model,
            [LabelledSource(config.sources[0], examples, validation or examples)],
            config,
            listen,
            store,
        )
    except StoppedError:
        assert stop_at is not None
    return model, log


def losses(log: list) -> list[tuple[int, float, float]]:
    return [
        (line["step"], line["summary_loss"], line["gradient_norm"])
        for line in log
        if "summary_loss" in line
    ]


@pytest.mark.parametrize(
    "values", [{"optimizer": "adamw"}, {"optimizer": "adam"}, {"repeats": 3, "epochs": 2}], ids=str
)
def test_a_run_goes_on_as_if_it_had_not_stopped(
    values: dict, examples: list, tmp_path: Path
) -> None:
    model, log = run(examples, tmp_path / "a", **values)
    num_steps = log[-1]["num_steps"]
    first, second = (
        losses(run(examples, tmp_path / "b", stop_at=step, **values)[1]) for step in (3, 8)
    )
    last, rest = run(examples, tmp_path / "b", **values)
    assert first == losses(log)[:3]
    assert second == losses(log)[2:8]  # the third step was told, but not yet saved
    assert losses(rest) == losses(log)[7:num_steps]
    for name, weight in last.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_a_finished_run_does_no_step(examples: list, tmp_path: Path) -> None:
    model, _ = run(examples, tmp_path)
    again, log = run(examples, tmp_path)
    assert losses(log) == []
    assert all(
        torch.equal(weight, model.state_dict()[name]) for name, weight in again.state_dict().items()
    )


def test_a_checkpoint_is_data_and_nothing_else(examples: list, tmp_path: Path) -> None:
    run(examples, tmp_path, stop_at=4)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [
        "00000002.json",
        "00000002.safetensors",
        "00000003.json",
        "00000003.safetensors",
    ]
    state = json.loads((tmp_path / "checkpoints" / "00000003.json").read_text())
    assert (state["step"], state["averaged_steps"]) == (3, 0)


def test_the_best_checkpoint_and_the_newest_are_kept(tmp_path: Path) -> None:
    store = StateStore(Folder(str(tmp_path)), 3)
    for step, score in enumerate([0.5, 0.9, None, 0.9, 0.1, None, 0.2], 1):
        store.save(RunState(plan_digest="", step=step, score=score), {"weights/a": torch.zeros(1)})
    assert store._steps() == [2, 4, 7]
    latest = store.latest()
    assert latest is not None
    assert (latest.step, latest.score) == (7, 0.2)


def test_a_checkpoint_that_was_not_finished_is_none(tmp_path: Path) -> None:
    store = StateStore(Folder(str(tmp_path)), 2)
    assert store.latest() is None
    store.save(RunState(plan_digest="", step=1), {})
    (tmp_path / "checkpoints" / "00000002.safetensors").write_bytes(b"half")
    latest = store.latest()
    assert latest is not None
    assert latest.step == 1


def test_tensors_of_a_checkpoint_that_was_not_finished_go_with_the_next(tmp_path: Path) -> None:
    store, folder = StateStore(Folder(str(tmp_path)), 2), tmp_path / "checkpoints"
    store.save(RunState(plan_digest="", step=1), {})
    for step in (2, 3, 7):
        (folder / f"0000000{step}.safetensors").write_bytes(
            b"of a run that was killed before it wrote the record"
        )
    store.save(RunState(plan_digest="", step=4), {})
    assert sorted(path.stem for path in folder.iterdir()) == [
        "00000001",
        "00000001",
        "00000004",
        "00000004",
    ]


def test_damage_is_named(tmp_path: Path) -> None:
    store = StateStore(Folder(str(tmp_path)), 2)
    store.save(RunState(plan_digest="", step=1), {})
    (tmp_path / "checkpoints" / "00000001.safetensors").write_bytes(b"no")
    with pytest.raises(OutputError, match=r"00000001\.safetensors is damaged"):
        store.read_tensors(1)
    (tmp_path / "checkpoints" / "00000001.json").write_text("{}")
    with pytest.raises(
        OutputError, match=r"00000001\.safetensors is damaged, and no other one is left"
    ):
        store.latest()


def test_other_rows_and_other_models_are_refused(examples: list, tmp_path: Path) -> None:
    run(examples, tmp_path, stop_at=4)
    with pytest.raises(OutputError, match="other rows"):
        run(examples[1:], tmp_path)
    with pytest.raises(OutputError, match="another model; they differ in weights/summarization"):
        run(examples, tmp_path, model={"summarization_layers": "linear"})


@pytest.fixture
def opposite(examples: list) -> list:
    """The same rows, whose summaries are all the other sentences.

    Whoever learns these becomes worse on `examples`, in any arithmetic: for the right logit z of a sentence the loss
    is log(1 + exp(-z)) here and log(1 + exp(z)) there.
    """
    return [replace(example, sentence_labels=1 - example.sentence_labels) for example in examples]


def test_the_best_weights_are_the_result(examples: list, opposite: list, tmp_path: Path) -> None:
    """Each step makes the score worse, so that the first weights that are measured are the best."""
    values = {"best_metric": ["news.summary_loss"], "validate_every_steps": 2, "average_share": 0.0}
    model, log = run(opposite, tmp_path, validation=examples, **values)
    scores = {line["step"]: line["score"] for line in log if "score" in line}
    assert log[-1] == {"step": max(scores), "chosen_step": 2}
    source = LabelledSource(training_config(**(VALUES | values)).sources[0], [], examples)
    measured = training.validate(model, [source], None, "float32")
    assert -measured["news"]["summary_loss"] == pytest.approx(scores[2])
    assert scores[2] > max(score for step, score in scores.items() if step != 2)


def test_patience_ends_a_run(examples: list, opposite: list, tmp_path: Path) -> None:
    """The first measure is the best, and the two after it are worse."""
    values = {
        "best_metric": ["news.summary_loss"],
        "validate_every_steps": 1,
        "patience": 2,
        "average_share": 0.0,
    }
    _, log = run(opposite, tmp_path, validation=examples, **values)
    assert [line["step"] for line in log if "score" in line] == [1, 2, 3, 3]  # at the end again
    assert losses(log)[-1][0] == 3 < log[0]["num_steps"]
    assert log[-1] == {"step": 3, "chosen_step": 1}
    _, rest = run(opposite, tmp_path, validation=examples, **values)
    assert losses(rest) == []


@pytest.mark.parametrize(
    "values",
    [
        {"average_share": 0.0},
        {"patience": 1, "best_metric": ["news.summary_loss"]},
        {"adapter": "adalora", "lora_rank": 2},
    ],
    ids=str,
)
def test_repeats_that_cannot_be_averaged_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match="repeats"):
        training_config(**(VALUES | {"repeats": 2} | values))


def test_a_measure_that_is_none() -> None:
    results = {"news": {"rows": 3, "rouge": {"rouge_1": 30.0}, "summary_loss": 0.5}}
    assert read_metric(results, ["news.rouge.rouge_1", "news.summary_loss"]) == pytest.approx(14.75)
    with pytest.raises(
        ConfigError, match=r"news\.accuracy: .* there are news\.rouge\.rouge_1, news\.rows"
    ):
        read_metric(results, ["news.accuracy"])


def test_a_measure_that_is_none_is_found_before_the_first_step(
    examples: list, tmp_path: Path
) -> None:
    values = {"sources": [{**SOURCE, "sentiment": "neutral"}], "validate_every_steps": 1}
    with pytest.raises(
        ConfigError, match=r"news\.rouge\.rouge1: there is no such measure; .*news\.rouge\.rouge_1,"
    ):
        run(examples, tmp_path, **values, best_metric=["news.rouge.rouge1"])
    assert list(tmp_path.rglob("*")) == []


def test_each_kind_of_label_tells_which_measures_there_are(tmp_path: Path) -> None:
    """Only the third row has a summary, only the fourth a sentiment; the names are those of a whole validation."""
    rows = summary_rows(5)
    rows |= {
        "summary": [None, None, rows["summary"][2], None, None],
        "label": [None, None, None, "neutral", None],
    }
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    config = SourceConfig(name="news", summary_column="summary", sentiment_column="label")
    encoder, shape = tiny.document_encoder(), tiny.model_config()
    found = read_examples(str(tmp_path / "rows.parquet"), config, encoder, shape, max_windows=8)
    model, source = tiny.model(), LabelledSource(config, [], found)
    names = [name for name, _ in numbers(validate(model, [source], None, "float32"))]
    assert {"news.oracle.rouge_2", "news.spread.vector_cosine", "news.sentiment.f1.neutral"} < {
        *names
    }
    check_metric(model, [source], None, "float32", names)
    with pytest.raises(ConfigError) as error:
        check_metric(model, [source], None, "float32", ["news.accuracy"])
    assert str(error.value).endswith(", ".join(sorted(names)))


def test_an_infinite_gradient_changes_nothing(examples: list) -> None:
    """The loss is finite, but the gradient overflows: the last layer sees numbers of 1e38."""
    config = training_config()
    model = training.build_model(tiny.encoder(), config)
    model.summarization.scorer.weight.data.zero_()
    model.summarization.norm.weight.data.fill_(1e38)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = train_step(LossModule(model, config), [labelled_batch(examples)], optimizer, config)
    assert found["skipped"] is True
    assert math.isfinite(found["summary_loss"])
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_a_run_whose_gradients_are_all_infinite_ends(
    examples: list, tmp_path: Path, monkeypatch
) -> None:
    skipped = {"summary_loss": 1.0, "gradient_norm": float("inf"), "skipped": True}
    monkeypatch.setattr(training, "train_step", lambda *arguments: skipped)
    with pytest.raises(FloatingPointError, match="20 steps in a row"):
        run(examples, tmp_path, epochs=30)


def test_sentence_vectors_are_read_back_to_the_last_bit(tmp_path: Path) -> None:
    """Also after the writer is gone; what is no whole file of these documents counts as none."""
    vectors = [torch.randn(count, 6) / 3 for count in (2, 0, 5)]
    VectorStore(Folder(str(tmp_path))).write("abc", vectors)
    store = VectorStore(Folder(str(tmp_path)))
    found = store.read("abc", [2, 0, 5], 6)
    assert found is not None
    assert all(torch.equal(one, other) for one, other in zip(found, vectors, strict=True))
    table = pa.ipc.open_file(tmp_path / "abc.arrow").read_all()
    assert table["vectors"].to_pylist() == [rows.tolist() for rows in vectors]
    assert store.read("abd", [2, 0, 5], 6) is None
    assert store.read("abc", [2, 1, 4], 6) is None
    assert store.read("abc", [2, 0, 5], 7) is None
    whole = (tmp_path / "abc.arrow").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "abc.arrow").write_bytes(whole[:size])
        assert store.read("abc", [2, 0, 5], 6) is None
    (tmp_path / "other.txt").touch()
    store.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]
