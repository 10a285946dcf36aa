"""Runs with a decoder: rates of two optimizers, a whole run that learns rows by heart, resuming, refusals."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny, tiny_writer, workers
from helpers.rows import sentiment_rows, summary_rows
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import multiprocessing, nn

from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.errors import ConfigError, ModelError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.generator import Generator
from bertsum.generation.seq2seq import load_seq2seq
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.run import claim_output, run
from bertsum.training.summaries import schedule
from bertsum.training.summaries.config import DecoderConfig

PAPER = DecoderConfig()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """`news.parquet` of four rows, and an encoder."""
    pq.write_table(pa.table(summary_rows(4)), tmp_path / "news.parquet")
    tiny.save(tmp_path / "encoder", tiny.encoder(), tiny.wordpiece())
    return tmp_path


def config(data: Path, **values: Any) -> TrainingConfig:
    source = {"name": "news", "train_uri": "news.parquet", "validation_uri": "news.parquet"}
    defaults: dict[str, Any] = {
        "encoder": str(data / "encoder"),
        "data_root": str(data),
        "dtype": "float32",
        "encoder_dropout": 0.0,
        "max_steps": 5,
        "max_batch_tokens": 100,
        "decoder": tiny_writer.DECODER | tiny_writer.LEARNING,
        "sources": [source | {"summary_column": "summary"}],
    }
    return TrainingConfig.model_validate(defaults | values)


def train(settings: TrainingConfig, output: Path, report=lambda line: None) -> list[str]:
    """A run; the lines for people."""
    output.mkdir(exist_ok=True)
    assert claim_output(Folder(str(output)), settings)
    said: list[str] = []

    def show(line: dict) -> None:
        said.extend([line["message"]] if "message" in line else [])
        report(line)

    run(settings, Folder(str(output)), torch.device("cpu"), "bertsum train", show)
    return said


@pytest.mark.parametrize("step", [1, 10_000, 20_000, 30_000])
def test_rates_are_the_papers(step: int) -> None:
    weights = nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})
    optimizer = schedule.make_optimizer(weights)
    schedule.set_rates(optimizer, step - 1, PAPER)
    rates = {group["is_encoder"]: group["lr"] for group in optimizer.param_groups}
    expected = {  # 2e-3 and 0.1, with 20,000 and 10,000 steps of warm-up
        1: (2e-3 / 20_000**1.5, 0.1 / 10_000**1.5),
        10_000: (2e-3 * 10_000 / 20_000**1.5, 0.1 / 100),
        20_000: (2e-3 / 20_000**0.5, 0.1 / 20_000**0.5),
        30_000: (2e-3 / 30_000**0.5, 0.1 / 30_000**0.5),
    }[step]
    assert rates[True] == pytest.approx(expected[0], rel=1e-12)
    assert rates[False] == pytest.approx(expected[1], rel=1e-12)


def test_one_optimizer_with_two_groups_is_two_adams() -> None:
    """The same weights after some steps as two optimizers of torch with schedules of their own."""
    torch.manual_seed(1)
    ours, theirs = (
        nn.ModuleDict({"encoder": nn.Linear(3, 3), "decoder": nn.Linear(3, 1)}).double()
        for _ in range(2)
    )
    theirs.load_state_dict(ours.state_dict())
    optimizer = schedule.make_optimizer(ours)
    fast = DecoderConfig(encoder_warmup_steps=4, decoder_warmup_steps=2)
    adams, schedules = [], []
    for name, rate, warmup in (("encoder", 2e-3, 4), ("decoder", 0.1, 2)):
        adam = torch.optim.Adam(theirs[name].parameters(), lr=rate, betas=(0.9, 0.999), eps=1e-9)
        adams.append(adam)
        schedules.append(
            torch.optim.lr_scheduler.LambdaLR(
                adam, lambda done, warmup=warmup: min((done + 1) ** -0.5, (done + 1) * warmup**-1.5)
            )
        )
    inputs = torch.randn(7, 3, dtype=torch.float64)
    for step in range(9):
        for model in (ours, theirs):
            model.zero_grad()
            model["decoder"](model["encoder"](inputs).tanh()).square().sum().backward()
        schedule.set_rates(optimizer, step, fast)
        optimizer.step()
        for adam, rates in zip(adams, schedules, strict=True):
            adam.step()
            rates.step()
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight, dict(theirs.named_parameters())[name], rtol=0, atol=0)


def test_four_rows_are_learned_by_heart_and_written(data: Path) -> None:
    """What the checkpoint writes by `bertsum generate` are the references; so say the measures."""
    lines: list[dict] = []
    settings = config(data, max_steps=120, max_batch_tokens=4096, validate_every_steps=60)
    said = train(settings, data / "out", lines.append)
    assert said[1].startswith(
        "warning: news: 4 of 4 validation rows have the text of a training row"
    )
    assert "news: of 8 documents 0 are longer than 64 tokens" in said[2]
    (validation,) = [line["validation"] for line in lines if "validation" in line]
    assert validation["news"]["token_accuracy"] > 0.9
    measures = json.loads((data / "out" / "validation.json").read_text())["news"]
    assert measures["rouge"]["rouge_2"] == pytest.approx(100)
    assert measures["token_accuracy"] == 1.0
    # smoothing keeps the likeliest token below 1, and so the perplexity above
    assert 1.05 < measures["perplexity"] < 1.3
    directory = data / "out"
    seq2seq = load_seq2seq(directory, GenerateConfig(), torch.device("cpu"))
    generator = Generator(seq2seq, GenerateConfig(), lambda: pytest.fail("no text is long"))
    rows = summary_rows(4)
    table = pa.table({"document": rows["document"]})
    written = pa.concat_tables(generator.stream([table]))["abstract"].to_pylist()
    # the tokenizer has no capitals, and puts a space before a full stop
    found = [text.replace(" .", ".") for text in written]
    assert found == [summary.lower() for summary in rows["summary"]]
    card = (directory / "model_card.md").read_text()
    assert "| news | 4 | 1 | summaries, word for word |" in card
    report = json.loads((directory / "validation_report.json").read_text())["news"]
    assert list(report["rouge"]["systems"]) == ["model", "LEAD-3", "oracle"]


class KilledError(Exception):
    """A run that ends in the middle."""


def test_a_run_that_goes_on_ends_with_the_same_weights(data: Path) -> None:
    """To the last bit, with dropout on: random numbers and rates follow from the step."""
    decoder = tiny_writer.DECODER | tiny_writer.LEARNING | {"dropout": 0.2}
    settings = config(
        data, max_steps=9, decoder=decoder, encoder_dropout=0.1, checkpoint_every_minutes=0
    )
    train(settings, data / "whole")

    def end(line: dict) -> None:
        if line.get("step") == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(settings, data / "out", end)
    said = train(settings, data / "out")
    assert "going on from step 4" in said
    whole, resumed = (load_file(data / name / "model.safetensors") for name in ("whole", "out"))
    assert whole.keys() == resumed.keys()
    for name, weight in whole.items():
        assert weight.equal(resumed[name]), name
    assert not claim_output(Folder(str(data / "out")), settings)  # finished


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(data: Path) -> None:
    """Seven rows, one or two a step, so that a worker has none at times; in real processes."""
    pq.write_table(pa.table(summary_rows(7)), data / "news.parquet", row_group_size=2)
    settings = config(data, max_steps=8, max_batch_tokens=80, max_micro_batch_tokens=64)
    for size in (1, 2):
        (data / str(size)).mkdir()
    run(settings, Folder(str(data / "1")), torch.device("cpu"), "", lambda line: None)
    multiprocessing.start_processes(
        workers.run_main, (2, data, settings), nprocs=2, start_method="spawn"
    )
    alone, together = (
        [json.loads(line) for line in (data / size / "training_log.jsonl").read_text().splitlines()]
        for size in ("1", "2")
    )
    assert [line["abstract_loss"] for line in together] == pytest.approx(
        [line["abstract_loss"] for line in alone], rel=1e-4
    )
    weights, others = (load_file(data / size / "model.safetensors") for size in ("1", "2"))
    for name, weight in weights.items():
        if not name.endswith("key.bias"):  # softmax does not feel it: its gradient is noise
            torch.testing.assert_close(others[name], weight, rtol=1e-3, atol=1e-4, msg=name)
    measures, same = (json.loads((data / s / "validation.json").read_text()) for s in ("1", "2"))
    assert measures["news"]["rows"] == same["news"]["rows"] == 7
    assert same["news"]["rouge"] == pytest.approx(measures["news"]["rouge"])
    assert same["news"]["perplexity"] == pytest.approx(measures["news"]["perplexity"], rel=1e-3)


def test_extractive_first_then_abstractive_from_it(data: Path) -> None:
    """The encoder is the checkpoint's, and its sentences stand beside what is written."""
    extractive = tiny.model(segments=False, max_window_tokens=32)
    with torch.no_grad():
        extractive.encoder.embeddings.word_embeddings.weight.mul_(0.5)
    save_checkpoint(data / "start", extractive, tiny.wordpiece(), "", version="0.0.0")
    decoder = tiny_writer.DECODER | {"encoder_rate": 0.0}
    train(config(data, start_from=str(data / "start"), decoder=decoder), data / "out")
    weights = load_file(data / "out" / "model.safetensors")
    for name, weight in extractive.encoder.named_parameters():
        assert weights[f"encoder.{name}"].equal(weight), name
    values = json.loads((data / "out" / "config.json").read_text())
    # the format is the checkpoint's, the length the decoder's
    assert values["bertsum_input"] == {"segments": False, "max_tokens": 64}
    report = json.loads((data / "out" / "validation_report.json").read_text())["news"]
    systems = report["rouge"]["systems"]
    assert list(systems) == ["model", "extractive", "LEAD-3", "oracle"]
    assert systems["extractive"]["rouge_1"]["mean"] > systems["model"]["rouge_1"]["mean"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_rank": 4}, r"lora_rank=.* and decoder do not go together.*leave lora_rank out"),
        ({"trained": "heads"}, r"trained=.* and decoder do not go together.*leave trained out"),
        (
            {"encoder_learning_rate": 1e-3},
            r"encoder_learning_rate=.* and decoder do not go together.*leave encoder_learning_rate out",
        ),
        (
            {"label_smoothing": 0.1},
            r"label_smoothing=.* and decoder do not go together.*leave label_smoothing out",
        ),
        (
            {"sources": [{"name": "a", "sentiment": "positive", "summary_column": "s"}]},
            "source a has sentiment given; allowed labels: summary_column",
        ),
        (
            {"sources": [{"name": "a", "sentiment_column": "s"}]},
            "source a has sentiment_column given",
        ),
        (
            {"sources": [{"name": "a", "summary_column": "s", "hold_vectors": True}]},
            "source a has hold_vectors given",
        ),
        ({"decoder": {"num_layers": 0}}, "num_layers"),
    ],
)
def test_what_does_not_go_together_is_refused(data: Path, values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(data, **values)


def test_rows_without_a_summary_are_refused(data: Path) -> None:
    """And those beside others are left out, and counted."""
    table = pa.table(summary_rows(4))
    empty = pa.table({"document": table["document"], "summary": [None, "", " \n", None]})
    pq.write_table(empty, data / "news.parquet")
    with pytest.raises(ConfigError, match="no training row has a reference summary"):
        train(config(data), data / "out")
    pq.write_table(pa.concat_tables([empty, table]), data / "news.parquet")
    said = train(config(data, max_steps=1), data / "other")
    assert said[0].startswith("news: 4 rows to train on, 4 to measure on, 8 without a label left")


def test_a_metric_that_is_none_ends_the_run_before_its_first_step(data: Path) -> None:
    lines: list[dict] = []
    settings = config(data, best_metric=["news.rouge.rouge"])
    with pytest.raises(ConfigError, match=r"there are news.abstract_loss, news.lead.rouge_1"):
        train(settings, data / "out", lines.append)
    assert not [line for line in lines if "step" in line]


def test_a_checkpoint_with_a_prefix_is_refused(data: Path) -> None:
    save_checkpoint(
        data / "start", tiny.model(prefix_tokens=2), tiny.wordpiece(), "", version="0.0.0"
    )
    with pytest.raises(ConfigError, match=r"has a prefix \(model.prefix_tokens=2\)"):
        train(config(data, start_from=str(data / "start")), data / "out")


def test_a_model_that_writes_is_no_start(data: Path) -> None:
    train(config(data, max_steps=1), data / "out")
    with pytest.raises(ModelError, match="which writes summaries and chooses no sentences"):
        train(config(data, start_from=str(data / "out")), data / "other")


def test_an_output_from_before_decoders_goes_on(data: Path) -> None:
    """Its record has no such key, and a run without one is the same run."""
    pq.write_table(pa.table(sentiment_rows(8)), data / "news.parquet")
    sources = [{"name": "news", "train_uri": "news.parquet", "sentiment_column": "label"}]
    settings = config(data, decoder=None, sources=sources)
    output = Folder(str(data / "out"))
    (data / "out").mkdir()
    assert claim_output(output, settings)
    path = data / "out" / "training_config.json"
    record = json.loads(path.read_text())
    assert record.pop("decoder") is None
    path.write_text(json.dumps(record))
    (data / "out" / "encoder").mkdir()
    (data / "out" / "encoder" / "config.json").write_text("{}")  # something was made already
    assert claim_output(output, settings)
